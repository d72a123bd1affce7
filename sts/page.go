package sts

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

//go:embed pages
var pageFiles embed.FS

// assets are the files that pages load. Their address holds a hash of the content, so they may be cached.
var assets = map[string]string{"style.css": "text/css; charset=utf-8", "mark.svg": "image/svg+xml", "submit.js": "text/javascript; charset=utf-8", "passkey.js": "text/javascript; charset=utf-8", "origin.js": "text/javascript; charset=utf-8"}

var pages = parsePages("code", "signin", "password", "confirm", "done", "message", "pick", "consent", "approval", "formpost", "signout", "second", "enrol", "codes", "account", "review", "resume")

// pageView is what the templates show. html/template escapes every value for its place.
type pageView struct {
	Page   string // its template's name, for who drives the page by program
	Title  string
	Action string // where the form goes
	State  string // sealed
	Origin bool   // its forms bring the origin's half
	Error  string // what was wrong with the last input
	Name   string // loginfmt
	Code   string
	Step   int // of the three; zero: none

	App, AppID, Tenant, Account, Resource, Address, Asked string
	SameMachine, SameAddress                              bool
	Domain, Home                                          string // of the organization that invites, and the name of the account's own

	Heading, Text, Detail string // of a message
	Good                  bool

	Device   bool // on the device page
	Keep     bool // stay signed in
	Accounts []accountView
	Confirm  bool // the one account is not used without a click
	Scopes   []scopeView
	Fields   []field // of a form that goes to the application
	ForAll   bool    // an administrator is asked to consent for everybody
	Everyone bool    // an administrator may do so

	Passkey string   // what the script needs to ask for one, JSON; empty: it does not ask
	HasTOTP bool     // codes of an authenticator app are accepted
	QR      *qrView  // of a new authenticator app, with its
	Secret  string   // key as text
	Codes   []string // recovery codes
	Own     bool     // the person chose this on the account page
	Notice  string   // what was done
	Person  *accountPageView
}

// accountView is a row of the account picker.
type accountView struct{ ID, Name, UPN string }

// scopeView is what an application wants to be allowed.
type scopeView struct{ Text, Value, Of string }

type field struct{ Name, Value string }

func parsePages(names ...string) map[string]*template.Template {
	funcs := template.FuncMap{"asset": assetURL}
	layout := template.Must(template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "pages/layout.html"))
	out := map[string]*template.Template{}
	for _, n := range names {
		out[n] = template.Must(template.Must(layout.Clone()).ParseFS(pageFiles, "pages/"+n+".html"))
	}
	return out
}

func assetURL(name string) (string, error) {
	content, err := pageFiles.ReadFile("pages/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return "/devicelogin/" + name + "?v=" + hex.EncodeToString(sum[:6]), nil
}

// asset serves a file that pages load.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) error {
	name := path.Base(r.URL.Path)
	kind, ok := assets[name]
	if !ok {
		return fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path)
	}
	content, err := pageFiles.ReadFile("pages/" + name)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
	if at, err := assetURL(name); err == nil && strings.HasSuffix(at, "?v="+r.URL.Query().Get("v")) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, err = w.Write(content)
	return err
}

// page makes a handler of a page: with headers that let the page do nothing but show itself and post its form, and
// with errors as a page. Pages live under the public URL: asked for through one of the cloud's names, they lead there.
func (s *Server) page(h web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodGet && s.Authorities.Of(r) != s.Authorities.Own() {
			to := s.Authorities.Public + "/devicelogin"
			switch {
			case strings.EqualFold(r.URL.Path, "/error"):
				to = s.Authorities.Public + "/error"
			case strings.EqualFold(r.URL.Path, accountPage.path):
				to = s.Authorities.Public + accountPage.path
			case strings.HasSuffix(strings.ToLower(r.URL.Path), "/adminconsent"), strings.HasSuffix(strings.ToLower(r.URL.Path), "/authorize"), strings.HasSuffix(strings.ToLower(r.URL.Path), "/logout"):
				pageHeaders(w)
				w.Header().Set("Location", s.Authorities.Public+r.URL.EscapedPath()+"?"+r.URL.RawQuery)
				w.WriteHeader(http.StatusFound)
				return nil
			}
			q := url.Values{}
			for _, name := range []string{"otc", "code"} {
				if v := r.URL.Query().Get(name); v != "" {
					q.Set(name, clip(v, 64))
				}
			}
			if len(q) > 0 {
				to += "?" + q.Encode()
			}
			http.Redirect(w, r, to, http.StatusFound)
			return nil
		}
		pageHeaders(w)
		err := h(w, r)
		if err == nil {
			return nil
		}
		f := asRefusal(err, r)
		status := catalogue[f.number].status
		if status >= http.StatusInternalServerError && r.Context().Err() == nil {
			s.log().Error("page failed", "request", traceID(r), "path", r.URL.Path, "err", err)
		}
		return s.show(w, status, "message", pageView{
			Title: "Sign-in failed", Heading: "That did not work", Text: f.fault.Message,
			Detail: "AADSTS" + strconv.Itoa(f.number) + ", trace id " + traceID(r),
		})
	}
}

// pageHeaders allow a page its own style sheet and image, and its form to go home. Nothing runs on it, nothing frames it,
// nothing is kept and nobody is told where it was left for.
func pageHeaders(w http.ResponseWriter) {
	noStore(w)
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Type", "text/html; charset=utf-8")
}

func (s *Server) show(w http.ResponseWriter, status int, name string, v pageView) error {
	var out bytes.Buffer
	if v.Page = name; v.Action == "" {
		v.Action = devicePage.path
	}
	if err := pages[name].Execute(&out, v); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	w.WriteHeader(status)
	w.Write(out.Bytes())
	return nil
}

// home is what a person finds who opens the public URL.
func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	return s.show(w, http.StatusOK, "message", pageView{
		Title: "Gatehouse", Heading: "Gatehouse is running", Good: true,
		Text:   "It signs people and programs in for Kubernetes. Has a terminal or device shown you a code? Do you want to see how, and where, you are signed in?",
		Detail: `For az, kubelogin and kubectl on this machine: eval "$(gatehouse env --data-dir DIR)", with the directory that the server runs on.`,
	})
}

// errorPage explains an error by its number: where error_uri of an answer leads.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request) error {
	asked := r.URL.Query().Get("code")
	number, err := strconv.Atoi(asked)
	e, ok := catalogue[number]
	if err != nil || !ok {
		return s.show(w, http.StatusNotFound, "message", pageView{
			Title: "Unknown error", Heading: "There is no such error",
			Text: "This server has no error with the number “" + clip(asked, 20) + "”. Numbers look like 50126.",
		})
	}
	return s.show(w, http.StatusOK, "message", pageView{
		Title: "AADSTS" + asked, Heading: "AADSTS" + strconv.Itoa(number), Text: e.help,
		Detail: "OAuth error " + e.error + ". The client that showed you this number has the details.",
	})
}

// crossOrigin refuses forms that another site posted (Fetch metadata, else Origin).
var crossOrigin = http.NewCrossOriginProtection()
