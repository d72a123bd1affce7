package aks

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// issuerProfile is the property that makes the cluster a public issuer of tokens (AKS REST reference, "managedClusters").
const issuerProfile = "oidcIssuerProfile"

// desiredIssuer applies AKS's rules to the cluster as an issuer: once it is one it stays one, because others trust it; its URL is the
// server's to say; workload identity rests on it.
func (at situation) desiredIssuer(next, old *Cluster, all map[string]any) error {
	if key := sameKey(all, issuerProfile); key != issuerProfile { // in one spelling: IssuesTokens looks there
		all[issuerProfile] = all[key]
		delete(all, key)
	}
	enabled := isTrue(lookup(all, issuerProfile, "enabled"))
	if old != nil && old.IssuesTokens() && !enabled {
		return invalid("properties.oidcIssuerProfile.enabled", "The OIDC issuer of the cluster '%s' is enabled and can't be disabled, because others may trust its tokens; leave it enabled.", old.Name).
			WithCode("OIDCIssuerFeatureCannotBeDisabled")
	}
	if isTrue(lookup(all, "securityProfile", "workloadIdentity", "enabled")) && !enabled {
		return invalid("properties.securityProfile.workloadIdentity", "Workload identity needs the OIDC issuer: enable 'properties.oidcIssuerProfile', too (--enable-oidc-issuer).").
			WithCode("BadRequest")
	}
	profile, ok := lookup(all, issuerProfile).(map[string]any)
	if !ok {
		return nil
	}
	delete(profile, sameKey(profile, "issuerURL"))
	if enabled && at.issuer != nil {
		profile["issuerURL"] = at.issuer(next.Tenant, next.GUID)
	}
	return nil
}

// IssuesTokens reports whether the cluster's issuer documents are public.
func (c *Cluster) IssuesTokens() bool {
	var profile any
	if json.Unmarshal(c.Rest[issuerProfile], &profile) != nil {
		return false
	}
	return isTrue(lookup(profile, "enabled"))
}

// Issuers publishes what others need to verify the clusters' service account tokens (OpenID Connect Discovery 1.0, as Kubernetes'
// "Service Account Issuer Discovery" has it). The API servers themselves need not be reachable for it.
//
//	GET /oidc/{tenant}/{cluster}/.well-known/openid-configuration
//	GET /oidc/{tenant}/{cluster}/openid/v1/jwks
type Issuers struct {
	Feed          *feed.Follower
	ControlPlanes ControlPlanes
	Public        string       // the public URL, without a slash at the end
	Log           *slog.Logger // nil: slog.Default
}

// URL is the issuer of a cluster's service account tokens.
func (i *Issuers) URL(tenant, guid directory.ID) string {
	return i.Public + "/oidc/" + tenant.String() + "/" + guid.String() + "/"
}

// KeySet returns the key set of an issuer that is one of the clusters. known is false for any other issuer.
func (i *Issuers) KeySet(_ context.Context, issuer string) (jwks []byte, known bool, err error) {
	rest, ok := strings.CutPrefix(issuer, i.Public+"/oidc/")
	if !ok {
		return nil, false, nil
	}
	tenant, guid, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	c := i.find(tenant, guid)
	if c == nil || i.URL(c.Tenant, c.GUID) != issuer {
		return nil, true, errors.New("no cluster has this issuer, or it is not enabled")
	}
	set, err := i.keySet(c)
	if err != nil {
		return nil, true, err
	}
	jwks, err = json.Marshal(set)
	return jwks, true, err
}

// Handler returns the documents' face.
func (i *Issuers) Handler() http.Handler {
	m := web.NewMux(i.render)
	m.Handle("GET /oidc/{tenant}/{cluster}/.well-known/openid-configuration", i.configuration)
	m.Handle("GET /oidc/{tenant}/{cluster}/openid/v1/jwks", i.jwks)
	return m
}

// find returns a cluster whose issuer is enabled, or nil.
func (i *Issuers) find(tenant, guid string) *Cluster {
	t, err1 := directory.ParseID(tenant)
	g, err2 := directory.ParseID(guid)
	if err1 != nil || err2 != nil {
		return nil
	}
	c := In(i.Feed.View()).Cluster(g)
	if c == nil || c.Tenant != t || !c.IssuesTokens() {
		return nil
	}
	return c
}

func (i *Issuers) asked(r *http.Request) (*Cluster, error) {
	c := i.find(r.PathValue("tenant"), r.PathValue("cluster"))
	if c == nil {
		return nil, fault.New(fault.NotFound, "no cluster has this issuer; the issuer of one is its oidcIssuerProfile.issuerURL, once it was enabled with --enable-oidc-issuer")
	}
	return c, nil
}

func (i *Issuers) configuration(w http.ResponseWriter, r *http.Request) error {
	c, err := i.asked(r)
	if err != nil {
		return err
	}
	issuer := i.URL(c.Tenant, c.GUID)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	return web.WriteJSON(w, http.StatusOK, struct {
		Issuer        string   `json:"issuer"`
		JWKS          string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algs          []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, issuer + "openid/v1/jwks", []string{"id_token"}, []string{"public"}, []string{"RS256"}})
}

func (i *Issuers) jwks(w http.ResponseWriter, r *http.Request) error {
	c, err := i.asked(r)
	if err != nil {
		return err
	}
	set, err := i.keySet(c)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	return web.WriteJSON(w, http.StatusOK, set)
}

type keySet struct {
	Keys []jwk `json:"keys"`
}

type jwk struct {
	Use string `json:"use"`
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	N   string `json:"n"`
	E   string `json:"e"`
}

func (i *Issuers) keySet(c *Cluster) (keySet, error) {
	keys, err := i.ControlPlanes.ServiceAccountKeys(c.GUID)
	if err != nil {
		return keySet{}, err
	}
	set := keySet{Keys: []jwk{}}
	for _, k := range keys {
		id, err := keyID(k)
		if err != nil {
			return keySet{}, err
		}
		b64 := base64.RawURLEncoding
		set.Keys = append(set.Keys, jwk{"sig", "RSA", id, "RS256", b64.EncodeToString(k.N.Bytes()), b64.EncodeToString(big.NewInt(int64(k.E)).Bytes())})
	}
	return set, nil
}

// keyID is the kid that kube-apiserver gives a key: the SHA-256 of its SubjectPublicKeyInfo.
func keyID(k *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func (i *Issuers) render(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		log := i.Log
		if log == nil {
			log = slog.Default()
		}
		log.Error("an issuer's document could not be served", "request", web.RequestID(r.Context()), "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, f.Message, web.Status(f.Kind))
}
