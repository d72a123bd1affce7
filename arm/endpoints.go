package arm

import (
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// addresses are the services as one client reaches them.
type addresses struct{ name, login, manager, graph, portal string }

// addressesFor follows the name that the client asked by: the public cloud's own names where it came through the
// proxy, the faces under this installation's domain, or one origin for all.
func addressesFor(r *http.Request) addresses {
	host := strings.ToLower(r.Host)
	if host == "management.azure.com" || host == "management.core.windows.net" {
		return addresses{"AzureCloud", "https://login.microsoftonline.com", "https://management.azure.com", "https://graph.microsoft.com", "https://portal.azure.com"}
	}
	at := origin(r)
	if domain, ok := strings.CutPrefix(host, "management."); ok {
		scheme, _, _ := strings.Cut(at, "://")
		return addresses{"Gatehouse", scheme + "://login." + domain, at, scheme + "://graph." + domain, scheme + "://" + domain}
	}
	return addresses{"Gatehouse", at, at, at, at}
}

// endpoints tells clients where the services are. Nobody has signed in yet when they ask. az asks with 2015-01-01 for
// a cloud it knows only in part, with 2019-05-01 for ARM_CLOUD_METADATA_URL; Terraform asks with 2022-09-01. Services
// that are not here have the address of those that are, because az wants every key.
func (s *Server) endpoints(w http.ResponseWriter, r *http.Request) error {
	if err := checkVersion(r); err != nil {
		return err
	}
	a := addressesFor(r)
	login := map[string]any{"loginEndpoint": a.login, "audiences": audiences[:2], "tenant": "common", "identityProvider": "AAD"}
	if r.URL.Query().Get("api-version") == "2015-01-01" {
		return web.WriteJSON(w, http.StatusOK, map[string]any{
			"galleryEndpoint": a.manager, "graphEndpoint": a.graph, "portalEndpoint": a.portal, "authentication": login,
		})
	}
	_, host, _ := strings.Cut(a.manager, "://")
	return web.WriteJSON(w, http.StatusOK, []any{map[string]any{
		"name": a.name, "authentication": login, "resourceManager": a.manager, "portal": a.portal,
		"graph": a.graph, "graphAudience": a.graph, "microsoftGraphResourceId": "https://graph.microsoft.com/",
		"gallery": a.manager, "batch": a.manager, "sqlManagement": a.manager, "vmImageAliasDoc": a.manager, "media": a.manager,
		"activeDirectoryDataLake": a.manager, "appInsightsResourceId": a.manager, "attestationResourceId": a.manager,
		"synapseAnalyticsResourceId": a.manager, "logAnalyticsResourceId": a.manager, "ossrDbmsResourceId": a.manager,
		"suffixes": map[string]string{
			"storage": "core." + host, "keyVaultDns": "vault." + host, "sqlServerHostname": "database." + host, "acrLoginServer": "acr." + host,
			"azureDataLakeStoreFileSystem": "datalake." + host, "azureDataLakeAnalyticsCatalogAndJob": "analytics." + host,
			"mhsmDns": "managedhsm." + host, "mysqlServerEndpoint": "mysql." + host, "postgresqlServerEndpoint": "postgres." + host,
			"mariadbServerEndpoint": "mariadb." + host, "synapseAnalytics": "synapse." + host, "attestationEndpoint": "attest." + host,
		},
	}})
}
