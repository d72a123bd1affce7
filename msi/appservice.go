package msi

import (
	"net/http"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// appService is the form of App Service ("How to use managed identities for App Service"), in both versions that clients use: azidentity the
// newer, az the older.
func (p *endpoint) appService(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	header := map[string]string{"2017-09-01": "secret", "2019-08-01": "X-Identity-Header"}[q["api-version"]]
	if header == "" {
		return badVersion(q["api-version"], "2019-08-01 or 2017-09-01")
	}
	if given := r.Header.Values(header); len(given) != 1 || !p.matches(given[0]) {
		return p.refuse(r, fault.Unauthenticated, "the secret in the header "+header+" is missing or wrong; use the one that gatehouse env prints")
	}
	return p.token(w, r, q)
}
