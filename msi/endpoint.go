package msi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// endpoint is an open listener.
type endpoint struct {
	Endpoint
	identity   directory.ID
	secret     string
	challenges *challenges // Arc only
	refusals   refusals
	endpoints  *Endpoints
	server     *http.Server
}

// called reports whether a name is one of the identity's. A zero tenant is any.
func (p *endpoint) called(name string, tenant directory.ID) bool {
	return (tenant.IsZero() || tenant == p.Tenant) &&
		(strings.EqualFold(name, p.Resource) || strings.EqualFold(name, p.Name) || strings.EqualFold(name, p.Client.String()))
}

func (p *endpoint) stop() {
	p.server.Close() // whoever waits for a token asks again elsewhere
	if p.challenges != nil {
		p.challenges.end()
	}
}

func (p *endpoint) handler() http.Handler {
	m := web.NewMux(p.render)
	here := web.Requests(m, p.endpoints.log())
	switch p.Form {
	case AppService:
		for _, path := range []string{"/msi/token", "/msi/token/{$}"} { // az puts a slash at its end
			m.Handle("GET "+path, p.checked(p.appService))
		}
	case IMDS:
		m.Handle("GET /metadata/identity/oauth2/token", p.checked(p.imds))
		return p.asProxy(here)
	case Arc:
		m.Handle("GET /metadata/identity/oauth2/token", p.checked(p.arc))
	}
	return here
}

// checked demands what every form demands: the name that the client was given, a client on this machine, and none of the headers by which
// a browser or a proxy is known. So neither a page with a name that was pointed here, nor a request that somebody was made to send,
// gets a token.
func (p *endpoint) checked(h web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		peer := web.ClientIP(r)
		switch {
		case !peer.IsLoopback():
			return p.refuse(r, fault.Denied, "the request comes from another machine")
		case p.Form != IMDS && r.Host != p.Address:
			return p.refuse(r, fault.Denied, "the Host header is not "+p.Address)
		case p.Form != IMDS && r.URL.IsAbs():
			return p.refuse(r, fault.Denied, "the request is one for a proxy")
		}
		for name := range r.Header {
			lower := strings.ToLower(name)
			for _, prefix := range []string{"x-forwarded-", "sec-fetch-"} {
				if strings.HasPrefix(lower, prefix) {
					lower = prefix + "*" // the rest is the sender's choice
				}
			}
			switch lower {
			case "x-forwarded-*", "forwarded", "via", "x-real-ip":
				return p.refuse(r, fault.Denied, "the header "+lower+" shows that the request was forwarded")
			case "origin", "referer", "sec-fetch-*":
				return p.refuse(r, fault.Denied, "the header "+lower+" shows that the request was sent by a browser")
			}
		}
		return h(w, r)
	}
}

// matches compares a secret in constant time, whatever its length.
func (p *endpoint) matches(given string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(p.secret))
	return p.secret != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// metadata demands the header that no page can set elsewhere, and reads the query.
func (p *endpoint) metadata(r *http.Request) (query, error) {
	if given := r.Header.Values("Metadata"); len(given) != 1 || !strings.EqualFold(given[0], "true") {
		return nil, fault.New(fault.Invalid, "Required metadata header not specified: send Metadata: true").WithCode("invalid_request")
	}
	q, err := parseQuery(r.URL.RawQuery)
	if err == nil && q["api-version"] == "" {
		err = badVersion("", "2018-02-01")
	}
	return q, err
}

func badVersion(given, known string) error {
	return fault.New(fault.Invalid, "api-version %.40q is not supported; use %s", given, known).WithCode("bad_request_102")
}

// query is a query string: every parameter once.
type query map[string]string

func parseQuery(raw string) (query, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query string is malformed").WithCode("invalid_request").Wrap(err)
	}
	q := query{}
	for name, list := range values {
		if len(list) > 1 {
			return nil, fault.New(fault.Invalid, "the parameter %.80q is given twice", name).WithCode("invalid_request")
		}
		q[strings.ToLower(name)] = list[0]
	}
	if len(q) != len(values) {
		return nil, fault.New(fault.Invalid, "a parameter is given twice, in different spellings").WithCode("invalid_request")
	}
	return q, nil
}

// selects reports whether the identity that the query names, if it names one, is the one of this endpoint.
func (p *endpoint) selects(q query, sp *directory.ServicePrincipal) error {
	for name, own := range map[string]string{
		"client_id": sp.AppID.String(), "clientid": sp.AppID.String(), "object_id": sp.ID.String(), "principal_id": sp.ID.String(),
		"mi_res_id": sp.Resource, "msi_res_id": sp.Resource,
	} {
		if given := q[name]; given != "" && !strings.EqualFold(given, own) {
			// 400 and never 404: clients take that for a service that is coming up, and try again for minutes.
			return fault.New(fault.Invalid, "Identity not found: this endpoint is for %s only", sp.Resource).WithCode("invalid_request")
		}
	}
	return nil
}

// token answers with a token. All values are strings, as in every form.
func (p *endpoint) token(w http.ResponseWriter, r *http.Request, q query) error {
	sp := directory.In(p.endpoints.Feed.View()).ServicePrincipal(p.identity)
	if sp == nil {
		return errGone
	}
	if err := p.selects(q, sp); err != nil {
		return err
	}
	t, err := p.endpoints.Tokens.IdentityToken(r, p.identity, q["resource"])
	if fault.Is(err, fault.NotFound) {
		return errGone
	}
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, answerOf(t))
}

var errGone = fault.New(fault.Invalid, "Identity not found: it has been deleted").WithCode("invalid_request")

// answer is the answer of every form.
type answer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"` // always empty
	ClientID     string `json:"client_id"`
	ExpiresIn    string `json:"expires_in"`
	ExpiresOn    string `json:"expires_on"` // Unix seconds
	ExtExpiresIn string `json:"ext_expires_in"`
	NotBefore    string `json:"not_before"`
	Resource     string `json:"resource"`
	TokenType    string `json:"token_type"`
}

func answerOf(t *sts.IdentityToken) answer {
	life := strconv.Itoa(int(t.Life.Seconds()))
	return answer{
		AccessToken: t.Access, ClientID: t.ClientID.String(), ExpiresIn: life, ExtExpiresIn: life,
		ExpiresOn: strconv.FormatInt(t.Expires.Unix(), 10), NotBefore: strconv.FormatInt(t.From.Unix(), 10), Resource: t.Resource, TokenType: t.Type,
	}
}

// render writes an error in the envelope of the form.
func (p *endpoint) render(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.From(err)
	if e.Kind == fault.Internal {
		p.endpoints.log().Error("request failed", "request", web.RequestID(r.Context()), "path", r.URL.Path, "err", err)
	}
	status := web.Status(e.Kind)
	if e.Code == "MethodNotAllowed" {
		status = http.StatusMethodNotAllowed
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	message := e.Message
	if strings.HasPrefix(e.Code, "AADSTS") {
		message = e.Code + ": " + message
	}
	if p.Form == AppService {
		web.WriteJSON(w, status, map[string]any{"statusCode": status, "message": message, "correlationId": web.RequestID(r.Context())})
		return
	}
	web.WriteJSON(w, status, map[string]string{"error": oauthError(e), "error_description": message})
}

// oauthError is the word for an error (RFC 6749 section 5.2).
func oauthError(e *fault.Error) string {
	switch {
	case e.Code == "AADSTS500011" || e.Code == "AADSTS500014":
		return "invalid_resource"
	case e.Kind == fault.Unauthenticated:
		return "unauthorized_client"
	case e.Kind == fault.Denied:
		return "access_denied"
	case e.Kind == fault.Internal || e.Kind == fault.Unavailable:
		return "server_error"
	case e.Code != "" && !strings.HasPrefix(e.Code, "AADSTS") && e.Code != "MethodNotAllowed":
		return e.Code
	}
	return "invalid_request"
}
