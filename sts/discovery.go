package sts

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// cloudHosts are the names of one authority, under any of which a client may have cached its tokens.
var cloudHosts = []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}

type network struct {
	Network string   `json:"preferred_network"`
	Cache   string   `json:"preferred_cache"`
	Aliases []string `json:"aliases"`
}

// instance says whether an authority is one of ours, and which names it has.
func (s *Server) instance(w http.ResponseWriter, r *http.Request) error {
	asked := r.URL.Query().Get("authorization_endpoint")
	if asked == "" {
		return fail(900144, "authorization_endpoint")
	}
	public, err := url.Parse(s.Authorities.Public)
	if err != nil {
		return err
	}
	u, err := url.Parse(asked)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return fail(50049, asked)
	}
	host := strings.ToLower(u.Host)
	base := s.Authorities.Public
	if slices.Contains(cloudHosts, host) {
		base = "https://" + host
	} else if host != strings.ToLower(public.Host) {
		return fail(50049, asked)
	}
	segment, rest, _ := strings.Cut(strings.TrimLeft(u.Path, "/"), "/")
	if _, err := tenancyOf(directory.In(s.Feed.View()), segment); err != nil {
		return err
	}
	document := base + "/" + segment + "/.well-known/openid-configuration"
	if strings.Contains(strings.ToLower(rest), "v2.0") {
		document = base + "/" + segment + "/v2.0/.well-known/openid-configuration"
	}
	own := []string{public.Host}
	if name := public.Hostname(); name != public.Host {
		own = append(own, name) // clients that leave the port out of a cache key
	}
	noStore(w)
	return web.WriteJSON(w, http.StatusOK, struct {
		Document string    `json:"tenant_discovery_endpoint"`
		Version  string    `json:"api-version"`
		Metadata []network `json:"metadata"`
	}{document, "1.1", []network{
		{cloudHosts[0], "login.windows.net", cloudHosts},
		{public.Host, public.Host, own},
	}})
}

// configuration is the OpenID provider's document (OpenID Connect Discovery 1.0 section 3) with Entra's additions.
type configuration struct {
	TokenEndpoint       string   `json:"token_endpoint"`
	AuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	JWKS                string   `json:"jwks_uri"`
	ResponseModes       []string `json:"response_modes_supported"`
	SubjectTypes        []string `json:"subject_types_supported"`
	SigningAlgs         []string `json:"id_token_signing_alg_values_supported"`
	ResponseTypes       []string `json:"response_types_supported"`
	Scopes              []string `json:"scopes_supported"`
	Issuer              string   `json:"issuer"`
	RequestURISupported bool     `json:"request_uri_parameter_supported"`
	UserInfo            string   `json:"userinfo_endpoint"`
	Authorization       string   `json:"authorization_endpoint"`
	DeviceAuthorization string   `json:"device_authorization_endpoint"`
	HTTPLogout          bool     `json:"http_logout_supported"`
	FrontChannelLogout  bool     `json:"frontchannel_logout_supported"`
	EndSession          string   `json:"end_session_endpoint"`
	Claims              []string `json:"claims_supported"`
	Region              string   `json:"tenant_region_scope,omitempty"`
	CloudInstance       string   `json:"cloud_instance_name"`
	CloudGraphHost      string   `json:"cloud_graph_host_name"`
	GraphHost           string   `json:"msgraph_host"`
}

// documentKey is all that a public document depends on.
type documentKey struct {
	authority Authority
	tenancy   string // as URLs name it
	version   int
	keys      string // the ids of the keys in it; empty: it is the provider's configuration
}

// maxDocuments is how many encoded documents are kept, at least.
const maxDocuments = 1024

// document serves a public document as it was encoded once. Who asks for them asks often.
func (s *Server) document(w http.ResponseWriter, key documentKey, v func() any) error {
	body, ok := s.documents.Get(key)
	if !ok {
		var err error
		if body, err = json.Marshal(v()); err != nil {
			return err
		}
		s.documents.Put(key, body)
	}
	noStore(w)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(body) // a client that has gone away needs no answer
	return nil
}

// configuration serves the document. It answers in the names that it was asked through: Microsoft's or ours.
func (s *Server) configuration(version int) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		place, err := tenancyOf(directory.In(s.Feed.View()), r.PathValue("tenant"))
		if err != nil {
			return err
		}
		a := s.Authorities.Of(r)
		return s.document(w, documentKey{a, place.segment(), version, ""}, func() any { return s.configurationOf(a, place, version) })
	}
}

func (s *Server) configurationOf(a Authority, place tenancy, version int) configuration {
	base := a.Login + "/" + place.segment()
	oauth := base + "/oauth2/"
	c := configuration{
		JWKS:          base + "/discovery/keys",
		UserInfo:      base + "/openid/userinfo",
		AuthMethods:   []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		ResponseModes: []string{"query", "fragment", "form_post"},
		ResponseTypes: []string{"code", "id_token", "code id_token"},
		SubjectTypes:  []string{"pairwise"},
		SigningAlgs:   []string{"RS256"},
		Scopes:        []string{"openid", "profile", "email", "offline_access"},
		Issuer:        a.Issuer(place.issuerTenant(), version),
		HTTPLogout:    true, FrontChannelLogout: true,
		Claims: []string{"sub", "iss", "aud", "exp", "iat", "nbf", "name", "preferred_username", "upn", "oid", "tid", "ver",
			"amr", "nonce", "c_hash", "email", "groups", "roles", "wids"},
		CloudInstance: "microsoftonline.com", CloudGraphHost: "graph.windows.net",
		GraphHost: strings.TrimPrefix(a.Graph, "https://"),
	}
	if place.tenant != nil {
		c.Region = "NA"
	}
	if version == 2 {
		oauth += "v2.0/"
		c.JWKS = base + "/discovery/v2.0/keys"
		c.UserInfo = a.Graph + "/oidc/userinfo"
	}
	c.TokenEndpoint, c.DeviceAuthorization = oauth+"token", oauth+"devicecode"
	// A person's browser opens these two, and it does not come through the proxy.
	page := s.Authorities.Public + strings.TrimPrefix(oauth, a.Login)
	c.Authorization, c.EndSession = page+"authorize", page+"logout"
	return c
}

// jwks serves the public keys. It must never be cacheable: go-oidc asks again for an unknown key only when the
// last answer has expired, and a new key shall be found at once.
func (s *Server) jwks(version int) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		view := s.Feed.View()
		place, err := tenancyOf(directory.In(view), r.PathValue("tenant"))
		if err != nil {
			return err
		}
		a, published, ids := s.Authorities.Of(r), In(view).Published(s.now()), "keys"
		for _, k := range published {
			ids += " " + k.ID
		}
		return s.document(w, documentKey{a, place.segment(), version, ids}, func() any {
			issuer := ""
			if version == 2 {
				issuer = a.Issuer(place.issuerTenant(), 2)
			}
			keys := []JWK{}
			for _, k := range published {
				keys = append(keys, k.JWK(issuer))
			}
			return map[string]any{"keys": keys}
		})
	}
}

// userRealm says how an account signs in. It looks at the domain alone, so it tells nobody who exists.
func (s *Server) userRealm(w http.ResponseWriter, r *http.Request) error {
	user := r.PathValue("user")
	_, domain, _ := strings.Cut(user, "@")
	realm := map[string]string{"ver": "1.0", "account_type": "Unknown", "login": user}
	if t := directory.In(s.Feed.View()).TenantByDomain(domain); t != nil {
		realm["account_type"] = "Managed"
		realm["domain_name"] = strings.ToLower(domain)
		realm["cloud_instance_name"] = "microsoftonline.com"
		realm["cloud_audience_urn"] = "urn:federation:MicrosoftOnline"
	}
	noStore(w)
	return web.WriteJSON(w, http.StatusOK, realm)
}

func noStore(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
}
