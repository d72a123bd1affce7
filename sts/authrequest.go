package sts

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Ways in which the answer of the authorize endpoint reaches the application (OAuth 2.0 Multiple Response Type Encoding Practices
// section 2.1, OAuth 2.0 Form Post Response Mode).
const (
	modeQuery    = "query"
	modeFragment = "fragment"
	modeFormPost = "form_post"
)

// Values of prompt (OpenID Connect Core 1.0 section 3.1.2.1).
const (
	promptNone    = "none"
	promptLogin   = "login"
	promptSelect  = "select_account"
	promptConsent = "consent"
)

// authParameters are those that are read. id_token_hint does not go into an address.
var authParameters = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "scope", "resource", "state", "nonce", "code_challenge", "code_challenge_method",
	"prompt", "login_hint", "domain_hint", "max_age", "claims", "acr_values", "amr_values", "client_info", "request", "request_uri", "registration",
}

// authRequest is what an application sent a browser here for, checked.
type authRequest struct {
	Version   int          `json:"v"`
	Tenant    string       `json:"t"` // a GUID, or a word
	Client    directory.ID `json:"c"`
	Redirect  string       `json:"r"`
	Public    bool         `json:"p,omitempty"` // Redirect is one of the application's as a public client
	Mode      string       `json:"m"`
	State     string       `json:"s,omitempty"`
	Nonce     string       `json:"n,omitempty"`
	Challenge string       `json:"h,omitempty"`
	Plain     bool         `json:"l,omitempty"` // the challenge is the verifier itself
	Ask       ask          `json:"a"`           // Text is empty at version 1 endpoints when the client names the resource later
	Prompt    []string     `json:"o,omitempty"`
	Hint      string       `json:"i,omitempty"` // login_hint
	Subject   directory.ID `json:"u,omitzero"`  // of id_token_hint
	Domain    string       `json:"d,omitempty"` // domain_hint
	MaxAge    *int64       `json:"x,omitempty"` // seconds
	Info      bool         `json:"f,omitempty"` // client_info is wanted
	IDToken   bool         `json:"e,omitempty"` // with the answer itself
	NoCode    bool         `json:"b,omitempty"` // and nothing else
	Admin     bool         `json:"g,omitempty"` // an administrator's consent is what it is about
	MFA       bool         `json:"w,omitempty"` // a second factor is wanted
	Redeem    directory.ID `json:"z,omitzero"`  // no application asks: this guest's invitation was opened
}

// place is the request's tenancy.
func (q *authRequest) place(dir *directory.State) tenancy {
	place, err := tenancyOf(dir, q.Tenant)
	if err != nil {
		return tenancy{tenant: new(directory.Tenant)} // it is gone: nobody is of it
	}
	return place
}

func (q *authRequest) prompts(value string) bool { return slices.Contains(q.Prompt, value) }

// readAuthRequest reads the parameters of the authorize endpoint. While the request is nil an error must be shown on a page: client or
// redirect URI are not right, so nothing may be sent there (RFC 6749 section 4.1.2.1). With a request it goes to the application.
func readAuthRequest(dir *directory.State, segment string, version int, f form) (*authRequest, error) {
	place, err := tenancyOf(dir, segment)
	if err != nil {
		return nil, err
	}
	c, err := findClient(dir, place, f["client_id"])
	if err != nil {
		return nil, err
	}
	if place.word == consumers {
		return nil, fail(9002346, c.app.AppID)
	}
	redirect, err := f.need("redirect_uri")
	if err != nil {
		return nil, err
	}
	public, err := checkRedirect(c.app, redirect)
	if err != nil {
		return nil, err
	}
	q := &authRequest{
		Version: version, Tenant: place.segment(), Client: c.app.AppID, Redirect: redirect, Public: public, Mode: modeQuery,
		State: f["state"], Nonce: f["nonce"], Info: f["client_info"] == "1", Hint: clip(f["login_hint"], maxName), Domain: clip(f["domain_hint"], maxName),
	}
	return q, q.read(c.app, f)
}

// read reads the parameters that are not about where the answer goes.
func (q *authRequest) read(app *directory.Application, f form) error {
	typeErr := q.readType(app, f)
	switch mode := f["response_mode"]; mode {
	case "":
	case modeQuery:
		if q.Mode = mode; q.IDToken {
			q.Mode = modeFragment // also for this error
			return fail(70007, "query with an ID token, which does not belong into addresses that servers log")
		}
	case modeFragment:
		q.Mode = mode
	case modeFormPost:
		if !isHTTP(q.Redirect) {
			return fail(70007, "form_post to a redirect URI that is not http")
		}
		q.Mode = mode
	default:
		return fail(70007, clip(mode, 40))
	}
	if typeErr != nil {
		return typeErr
	}
	for _, name := range []string{"request", "request_uri", "registration"} {
		if f[name] != "" {
			return fail(90013, "the parameter "+name+" is not supported; send its contents as parameters")
		}
	}
	var err error
	if q.MFA, err = wantsMFA(f); err != nil {
		return err
	}
	if err := q.readPrompt(f); err != nil {
		return err
	}
	if err := q.readChallenge(f); err != nil {
		return err
	}
	if q.Version == 1 && f["resource"] == "" {
		q.Ask = ask{V1: true}
		return nil
	}
	if q.Ask, err = askOf(f, q.Version); err == nil && q.IDToken && !q.Ask.wants("openid") {
		err = fail(70011, clip(f["scope"], 120), "an ID token is asked for, but not the scope openid")
	}
	return err
}

// readType reads which answer is wanted (OAuth 2.0 Multiple Response Type Encoding Practices). An ID token comes as a fragment if the
// request does not say how, and only to applications that are registered for it.
func (q *authRequest) readType(app *directory.Application, f form) error {
	kind, err := f.need("response_type")
	if err != nil {
		return err
	}
	words := strings.Fields(kind)
	slices.Sort(words)
	switch strings.Join(words, " ") {
	case "code":
		return nil
	case "id_token":
		q.NoCode = true
	case "code id_token":
	case "token", "id_token token", "code token", "code id_token token":
		q.Mode = modeFragment
		return fail(700051, app.AppID)
	default:
		return fail(70005, clip(kind, 80))
	}
	q.IDToken, q.Mode = true, modeFragment
	if !app.IssueIDToken {
		return fail(700054, app.AppID)
	}
	if q.Nonce == "" {
		return fail(900144, "nonce")
	}
	return nil
}

func (q *authRequest) readPrompt(f form) error {
	q.Prompt = strings.Fields(f["prompt"])
	for i, p := range q.Prompt {
		switch p {
		case promptNone, promptLogin, promptSelect, promptConsent:
		case "admin_consent": // of version 1
			q.Prompt[i] = promptConsent
		default:
			return fail(90013, "prompt '"+clip(p, 40)+"' is not one of none, login, select_account, consent")
		}
	}
	if q.prompts(promptNone) && len(q.Prompt) > 1 {
		return fail(90013, "prompt none cannot be combined with another one")
	}
	if text := f["max_age"]; text != "" {
		age, err := strconv.ParseInt(text, 10, 32)
		if err != nil || age < 0 {
			return fail(90013, "max_age '"+clip(text, 40)+"' is not a number of seconds")
		}
		q.MaxAge = &age
	}
	return nil
}

// readChallenge reads the code challenge (RFC 7636 section 4.3). A public client has no other proof that a code is its own, so it must
// send one.
func (q *authRequest) readChallenge(f form) error {
	q.Challenge = f["code_challenge"]
	switch method := f["code_challenge_method"]; {
	case q.Challenge == "" && (q.Public && !q.NoCode || method != ""):
		return fail(50147)
	case q.Challenge == "":
		return nil
	case method == "S256":
		if len(q.Challenge) != 43 || !isVerifier(q.Challenge) {
			return fail(501491)
		}
	case method == "" || method == "plain":
		q.Plain = true
		if !isVerifier(q.Challenge) {
			return fail(501491)
		}
	default:
		return fail(90013, "code_challenge_method '"+clip(method, 40)+"' is not S256 or plain")
	}
	return nil
}

// isVerifier reports whether a text has the form of a code verifier: 43 to 128 unreserved characters (RFC 7636 section 4.1).
func isVerifier(s string) bool {
	return len(s) >= 43 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	})
}
