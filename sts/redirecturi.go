package sts

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// matchRedirect reports whether an application may be answered at a redirect URI, and whether as a public client. URIs are compared
// as text, so that no two parsers can disagree about one (RFC 9700 section 4.1). Only the port of a public client's loopback address
// is free, because programs take the port that they get (RFC 8252 section 7.3).
func matchRedirect(app *directory.Application, asked string) (registered, public bool) {
	for _, uri := range app.RedirectURIs {
		if uri == asked || matchLoopback(uri, asked) {
			return true, true
		}
	}
	return slices.Contains(app.WebRedirectURIs, asked), false
}

// checkRedirect demands that an application may be answered at a redirect URI, and reports whether as a public client.
func checkRedirect(app *directory.Application, asked string) (public bool, err error) {
	registered, public := matchRedirect(app, asked)
	if !registered {
		return false, fail(50011, clip(asked, 200), app.AppID)
	}
	return public, nil
}

// matchLoopback reports whether asked is a registered loopback URI without a port, with a port. An empty path is "/".
func matchLoopback(registered, asked string) bool {
	for _, host := range []string{"http://localhost", "http://127.0.0.1", "http://[::1]"} {
		path, ok := strings.CutPrefix(registered, host)
		if !ok || (path != "" && path[0] != '/') { // it has a port, or is another host
			continue
		}
		rest, ok := strings.CutPrefix(asked, host)
		if !ok {
			return false
		}
		if port, ok := strings.CutPrefix(rest, ":"); ok {
			end := strings.IndexByte(port, '/')
			if end < 0 {
				end = len(port)
			}
			if !isPort(port[:end]) {
				return false
			}
			rest = port[end:]
		}
		return rest == path || (rest == "" && path == "/") || (rest == "/" && path == "")
	}
	return false
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

func isHTTP(uri string) bool {
	return strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")
}

// respond sends the answer of the authorize endpoint to the application.
func (s *Server) respond(v *visit, q *authRequest, answer url.Values) error {
	if q.State != "" {
		answer.Set("state", q.State)
	}
	if q.Mode == modeFormPost {
		view := pageView{Title: "Signing in", Action: q.Redirect, App: s.appName(q.Client)}
		for name := range answer {
			view.Fields = append(view.Fields, field{name, answer.Get(name)})
		}
		slices.SortFunc(view.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
		allowForm(v.w, q.Redirect)
		allowScript(v.w)
		return s.show(v.w, http.StatusOK, "formpost", view)
	}
	separator := "#"
	if q.Mode == modeQuery {
		if separator = "?"; strings.Contains(q.Redirect, "?") {
			separator = "&"
		}
	}
	redirect(v.w, v.r, q.Redirect+separator+answer.Encode())
	return nil
}

// redirect leads the browser to another address with a GET.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Location", to)
	if r.Method == http.MethodGet {
		w.WriteHeader(http.StatusFound)
	} else {
		w.WriteHeader(http.StatusSeeOther)
	}
}

// allowScript lets the page run this server's own script files.
func allowScript(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+"; script-src 'self'")
}

// allowForm lets the page's form end at an application's redirect URI, and where that leads on to: browsers hold all redirects after a form to
// the policy of its page, and the callback of a broker such as Dex redirects to the application behind it.
func allowForm(w http.ResponseWriter, redirect string) {
	sources := "https:"
	switch u, err := url.Parse(redirect); {
	case err != nil || u.Scheme == "https":
	case u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1":
		sources += " http://localhost:* http://127.0.0.1:*"
	default: // a policy cannot name IPv6 addresses
		sources += " " + u.Scheme + ":"
	}
	h := w.Header()
	h.Set("Content-Security-Policy", strings.Replace(h.Get("Content-Security-Policy"), "form-action 'self'", "form-action 'self' "+sources, 1))
}
