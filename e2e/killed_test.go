package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestKilledBetweenSteps kills the server between any two steps of a sign-in and starts it again. Whoever was in the middle of one goes on where
// they were: what a page or an answer confirmed still holds.
func TestKilledBetweenSteps(t *testing.T) {
	d := up(t, "--listen", freePort(t), "--proxy-listen", freePort(t))
	again := func() {
		d.kill()
		d.start()
	}
	p := newPerson(d)
	base := d.env["GATEHOUSE_URL"]
	token := "https://login.microsoftonline.com/" + d.env["GATEHOUSE_TENANT_ID"] + "/oauth2/v2.0/token"

	device := p.post("https://login.microsoftonline.com/organizations/oauth2/v2.0/devicecode", url.Values{"client_id": {aksClient}, "scope": {aksServer + "/.default offline_access"}})
	var started struct {
		User   string `json:"user_code"`
		Device string `json:"device_code"`
	}
	if err := json.Unmarshal([]byte(device.body), &started); err != nil || started.User == "" {
		t.Fatalf("device code: %s", device.body)
	}
	again()
	page := p.get(base + "/devicelogin")
	again()
	page = p.submit(page, "code", url.Values{"otc": {started.User}})
	again()
	page = p.submit(page, "signin", url.Values{"loginfmt": {d.env["GATEHOUSE_ADMIN"]}, "passwd": {d.adminPassword()}})
	again()
	p.submit(page, "confirm", url.Values{"action": {"continue"}})
	again()
	poll := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {aksClient}, "device_code": {started.Device}}
	bought := p.tokens(p.post(token, poll))
	again()
	if r := p.post(token, poll); !strings.Contains(r.body, "AADSTS") || r.status == http.StatusOK {
		t.Errorf("a device code that was redeemed: %d %s", r.status, r.body)
	}
	p.tokens(p.post(token, url.Values{"grant_type": {"refresh_token"}, "client_id": {aksClient}, "refresh_token": {bought.Refresh}, "scope": {aksServer + "/.default"}}))

	verifier := strings.Repeat("v", 64)
	sum := sha256.Sum256([]byte(verifier))
	ask := url.Values{
		"client_id": {azureCLI}, "response_type": {"code"}, "redirect_uri": {"http://localhost:1"}, "scope": {"https://graph.microsoft.com/.default openid offline_access"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	authorize := base + "/organizations/oauth2/v2.0/authorize?" + ask.Encode()
	page = p.get(authorize)
	again()
	redeem := url.Values{"grant_type": {"authorization_code"}, "client_id": {azureCLI}, "redirect_uri": {"http://localhost:1"}, "code_verifier": {verifier}}
	redeem.Set("code", p.code(p.submit(page, "signin", url.Values{"loginfmt": {d.env["GATEHOUSE_ADMIN"]}, "passwd": {d.adminPassword()}})))
	again()
	mine := p.tokens(p.post(token, redeem))
	again()
	if status, body := d.call("GET", "https://graph.microsoft.com/v1.0/me", mine.Access, nil); status != http.StatusOK {
		t.Errorf("a token that was handed out: %d %s", status, body)
	}
	page = p.get(authorize) // the browser's session is still there
	account := pickAccount.FindStringSubmatch(page.body)
	if account == nil {
		t.Fatalf("want an account to go on with, got %d %s", page.status, page.body)
	}
	again()
	p.code(p.submit(page, "pick", url.Values{"account": {account[1]}}))
	again()
	if r := p.post(token, redeem); !strings.Contains(r.body, "AADSTS54005") {
		t.Errorf("a code that was redeemed: %d %s", r.status, r.body)
	}
}

// TestKilledWhileProving does the same to somebody who has to set up a second factor, then to use a recovery code, and to consent.
func TestKilledWhileProving(t *testing.T) {
	d := up(t, "--listen", freePort(t), "--proxy-listen", freePort(t))
	d.loginAdmin()
	alice := d.user("alice", alicePassword)
	d.run("az", "rest", "--method", "patch", "--url", "https://graph.microsoft.com/beta/users/"+alice+"/authentication/requirements", "--body", `{"perUserMfaState": "enforced"}`)
	app := d.run("az", "ad", "app", "create", "--display-name", "till", "--public-client-redirect-uris", "http://localhost", "--query", "appId", "-o", "tsv")
	d.run("az", "ad", "sp", "create", "--id", app, "-o", "none")
	again := func() {
		d.kill()
		d.start()
	}
	verifier := strings.Repeat("v", 64)
	sum := sha256.Sum256([]byte(verifier))
	authorize := d.env["GATEHOUSE_URL"] + "/" + d.env["GATEHOUSE_TENANT_ID"] + "/oauth2/v2.0/authorize?" + url.Values{
		"client_id": {app}, "response_type": {"code"}, "redirect_uri": {"http://localhost:1"}, "scope": {"https://graph.microsoft.com/User.Read openid offline_access"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
	redeem := func(code string) tokens {
		return d.grant(url.Values{"grant_type": {"authorization_code"}, "client_id": {app}, "redirect_uri": {"http://localhost:1"}, "code_verifier": {verifier}, "code": {code}})
	}

	p := newPerson(d)
	page := p.get(authorize)
	again()
	page = p.submit(page, "signin", url.Values{"loginfmt": {d.upn("alice")}, "passwd": {alicePassword}})
	again()
	secret := regexp.MustCompile(`id="secret">([A-Z2-7 ]+)<`).FindStringSubmatch(page.body)
	if secret == nil {
		t.Fatalf("no secret on %s", page.body)
	}
	seed, err := base32.StdEncoding.DecodeString(strings.ReplaceAll(secret[1], " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	page = p.submit(page, "enrol", url.Values{"code": {directory.TOTPCode(seed, time.Now())}})
	again()
	codes := regexp.MustCompile(`<li>([^<]+)</li>`).FindAllStringSubmatch(page.body, -1)
	if len(codes) != 10 {
		t.Fatalf("recovery codes on %s", page.body)
	}
	page = p.submit(page, "codes", url.Values{})
	again()
	code := p.code(p.submit(page, "consent", url.Values{"action": {"accept"}}))
	again()
	first := redeem(code)
	if _, claims, _ := parts(t, first.Access); claims["scp"] != "openid User.Read" {
		t.Errorf("claims %v", claims)
	}
	again()
	if text := redeem(code).Text; !strings.HasPrefix(text, "AADSTS54005") {
		t.Errorf("the code again: %s", text)
	}

	p = newPerson(d) // another browser
	page = p.submit(p.get(authorize), "signin", url.Values{"loginfmt": {d.upn("alice")}, "passwd": {alicePassword}})
	again()
	page = p.submit(page, "second", url.Values{"code": {codes[3][1]}})
	again()
	if redeem(p.code(page)).Access == "" {
		t.Error("a recovery code does not lead to a token; consent is asked for again, or the second factor")
	}
	p = newPerson(d)
	page = p.submit(p.get(authorize), "signin", url.Values{"loginfmt": {d.upn("alice")}, "passwd": {alicePassword}})
	again()
	if page = p.submit(page, "second", url.Values{"code": {codes[3][1]}}); !strings.Contains(page.body, `role="alert"`) {
		t.Errorf("a recovery code works twice: %s", page.body)
	}
}

// newPerson opens a browser with nothing in it.
func newPerson(d *deployment) *person {
	p := &person{deployment: d, http: d.http()}
	p.http.Jar, _ = cookiejar.New(nil)
	p.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return p
}

// person is somebody at a browser, which does what the script of the pages does.
type person struct {
	*deployment
	http *http.Client
}

// page is what the browser shows.
type page struct {
	at     *url.URL
	status int
	body   string
	header http.Header
}

func (p *person) get(at string) page {
	p.t.Helper()
	res, err := p.http.Get(at)
	got := p.read(res, err)
	if strings.Contains(got.body, `data-page="resume"`) {
		return p.submit(got, "resume", url.Values{})
	}
	return got
}

func (p *person) post(at string, form url.Values) page {
	p.t.Helper()
	res, err := p.http.PostForm(at, form)
	return p.read(res, err)
}

func (p *person) read(res *http.Response, err error) page {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := io.Copy(&body, res.Body); err != nil {
		p.t.Fatal(err)
	}
	return page{res.Request.URL, res.StatusCode, body.String(), res.Header}
}

var (
	pickAccount = regexp.MustCompile(`name="account" value="([0-9a-f-]{36})"`)
	formAction  = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	formState   = regexp.MustCompile(`name="state" value="([^"]*)"`)
)

// submit fills in the form of a page that must be the named one.
func (p *person) submit(at page, name string, fields url.Values) page {
	p.t.Helper()
	action, state := formAction.FindStringSubmatch(at.body), formState.FindStringSubmatch(at.body)
	if !strings.Contains(at.body, `data-page="`+name+`"`) || action == nil || state == nil {
		p.t.Fatalf("want the page %q, got %d %s", name, at.status, at.body)
	}
	to, err := at.at.Parse(html.UnescapeString(action[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	fields.Set("state", html.UnescapeString(state[1]))
	if strings.Contains(at.body, `name="origin"`) {
		fields.Set("origin", strings.Repeat("h", 43))
	}
	return p.post(to.String(), fields)
}

// code is what a page sends the browser to the application with.
func (p *person) code(at page) string {
	p.t.Helper()
	to, err := url.Parse(at.header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		p.t.Fatalf("want a code for the application, got %d %s %s", at.status, at.header.Get("Location"), at.body)
	}
	return to.Query().Get("code")
}

func (p *person) tokens(at page) (out tokens) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(at.body), &out); err != nil || at.status != http.StatusOK || out.Access == "" || out.Refresh == "" {
		p.t.Fatalf("want tokens, got %d %s", at.status, at.body)
	}
	return out
}
