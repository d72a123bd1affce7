package sts

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// startDevice asks for a code as MSAL does.
func (w *world) startDevice(t testing.TB, scope string) answer {
	t.Helper()
	return w.ok(w.post("/"+w.tenant.ID.String()+"/oauth2/v2.0/devicecode", values("client_id", directory.AKSClient.String(), "scope", scope)))
}

// poll asks for the tokens of a code as MSAL does.
func (w *world) poll(started answer) answer {
	w.t.Helper()
	return w.post(w.v2(), values("grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", directory.AKSClient.String(),
		"client_info", "1", "device_code", started.text("device_code")))
}

// sheet is a page as a browser sees it.
type sheet struct {
	status int
	header http.Header
	body   string
	page   string
	state  string
	alert  string
}

var (
	pageMark   = regexp.MustCompile(`data-page="([a-z]+)"`)
	actionMark = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	stateMark  = regexp.MustCompile(`name="state" value="([^"]*)"`)
	alertMark  = regexp.MustCompile(`(?s)role="alert"[^>]*><p>(.*?)</p>`)
)

func first(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// visit does what a browser does, with what the pages' script does.
func (w *world) visit(b *http.Client, method, path string, form url.Values, headers ...string) sheet {
	w.t.Helper()
	if method == "POST" && w.half != "" && !form.Has("origin") && slices.ContainsFunc([]*surface{signInPage, signOutPage, accountPage}, func(at *surface) bool { return at.path == path }) {
		form = maps.Clone(form)
		form.Set("origin", w.half)
	}
	s := w.load(b, method, path, form, headers...)
	if s.page == "resume" && w.half != "" {
		return w.resume(b, s)
	}
	return s
}

// resume goes on from the page that brings the origin's half.
func (w *world) resume(b *http.Client, from sheet) sheet {
	w.t.Helper()
	return w.visit(b, "POST", first(actionMark, from.body), values("state", from.state))
}

// load sends one request.
func (w *world) load(b *http.Client, method, path string, form url.Values, headers ...string) sheet {
	w.t.Helper()
	r, err := http.NewRequest(method, w.http.URL+path, strings.NewReader(form.Encode()))
	must(w.t, err)
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := b.Do(r)
	must(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	s := sheet{status: resp.StatusCode, header: resp.Header, body: string(raw)}
	s.page, s.state, s.alert = first(pageMark, s.body), first(stateMark, s.body), first(alertMark, s.body)
	return s
}

// next posts a page's form.
func (w *world) next(b *http.Client, from sheet, pairs ...string) sheet {
	w.t.Helper()
	return w.visit(b, "POST", "/devicelogin", values(append(pairs, "state", from.state)...))
}

// confirming walks a browser to the last form.
func (w *world) confirming(b *http.Client, started answer, name, password string) sheet {
	w.t.Helper()
	p := w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", started.text("user_code"))
	w.onPage(p, "signin")
	p = w.next(b, p, "loginfmt", name, "passwd", password)
	w.onPage(p, "confirm")
	return p
}

func (w *world) onPage(p sheet, page string) {
	w.t.Helper()
	if p.page != page {
		w.t.Fatalf("on page %q (HTTP %d, %q), want %q", p.page, p.status, p.alert, page)
	}
}

func TestDeviceCode(t *testing.T) {
	w := newWorld(t)
	started := w.startDevice(t, aksScope)
	if regexp.MustCompile(`^[A-Z0-9]{9}$`).FindString(started.text("user_code")) == "" || len(started.text("device_code")) < 40 {
		t.Errorf("codes %s", started.raw)
	}
	if started.text("verification_uri") != w.http.URL+"/devicelogin" || started.body["expires_in"] != 900.0 || started.body["interval"] != 5.0 ||
		!strings.Contains(started.text("message"), started.text("user_code")) || !strings.Contains(started.text("message"), w.http.URL+"/devicelogin") {
		t.Errorf("answer %s", started.raw)
	}
	for range 5 { // MSAL Go polls five times in the first second
		if a := w.fails(w.poll(started), 70016); a.status != 400 || a.text("error") != "authorization_pending" {
			t.Errorf("pending: %s", a.raw)
		}
	}
	b := w.browser()
	p := w.confirming(b, started, strings.ToUpper(aliceName), alicePassword)
	for _, want := range []string{"Azure Kubernetes Service AAD Client", directory.AKSClient.String(), aliceName, "Test Directory", "Azure Kubernetes Service AAD Server", "127.0.0.1", "this computer"} {
		if !strings.Contains(p.body, want) {
			t.Errorf("the confirmation does not show %q", want)
		}
	}
	w.fails(w.poll(started), 70016)
	w.onPage(w.next(b, p, "action", "continue"), "done")

	a := w.ok(w.poll(started))
	if err := w.verify(a.text("access_token")); err != nil {
		t.Error(err)
	}
	c := claims(t, a.text("access_token"))
	if c["oid"] != w.alice.ID.String() || c["appid"] != directory.AKSClient.String() || c["aud"] != directory.AKSServer.String() || c["upn"] != aliceName {
		t.Errorf("claims %v", c)
	}
	if a.text("refresh_token") == "" || a.text("id_token") == "" || a.text("foci") != "" || !strings.Contains(a.text("scope"), directory.AKSServer.String()+"/.default") {
		t.Errorf("answer %s", a.raw)
	}
	w.fails(w.poll(started), 54005)
	if p = w.next(b, p, "action", "continue"); p.page != "code" || p.alert == "" {
		t.Errorf("a decision was taken twice: %s", p.body)
	}
	if strings.Contains(w.log.String(), started.text("user_code")) || strings.Contains(w.log.String(), started.text("device_code")) || strings.Contains(w.log.String(), alicePassword) {
		t.Error("a code or password is in the log")
	}
}

// TestDeviceCodeV1 is ADAL: numbers in strings, verification_url, the device code in "code".
func TestDeviceCodeV1(t *testing.T) {
	w := newWorld(t)
	started := w.ok(w.post("/"+w.tenant.ID.String()+"/oauth2/devicecode?api-version=1.0",
		values("client_id", directory.AKSClient.String(), "resource", directory.AKSServer.String())))
	if started.text("verification_url") != w.http.URL+"/devicelogin" || started.text("expires_in") != "900" || started.text("interval") != "5" || started.text("message") == "" {
		t.Errorf("answer %s", started.raw)
	}
	poll := func() answer {
		return w.post(w.v1()+"?api-version=1.0", values("grant_type", "device_code", "code", started.text("device_code"),
			"client_id", directory.AKSClient.String(), "resource", directory.AKSServer.String()))
	}
	w.fails(poll(), 70016)
	b := w.browser()
	w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "continue")
	a := w.ok(poll())
	c := claims(t, a.text("access_token"))
	if c["aud"] != "spn:"+directory.AKSServer.String() {
		t.Errorf("aud %v", c["aud"])
	}
	if n, err := strconv.Atoi(a.text("expires_on")); err != nil || float64(n) != c["exp"] {
		t.Errorf("expires_on %v", a.body["expires_on"])
	}

	late := w.ok(w.post("/"+w.tenant.ID.String()+"/oauth2/devicecode", values("client_id", directory.AKSClient.String(), "resource", directory.AKSServer.String())))
	w.pass(deviceLife)
	a = w.fails(w.post(w.v1(), values("grant_type", "device_code", "code", late.text("device_code"), "client_id", directory.AKSClient.String())), 70020)
	if a.text("error") != "code_expired" {
		t.Errorf("error %q", a.text("error"))
	}
}

func TestDeviceCodeRefusals(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	start := func() answer { return w.startDevice(t, aksScope) }
	w.run("an unknown device code", func(t *testing.T) {
		a := w.fails(w.post(w.v2(), values("grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", directory.AKSClient.String(), "device_code", "x")), 70018)
		if a.text("error") != "bad_verification_code" {
			t.Error(a.raw)
		}
	})
	w.run("no device code", func(t *testing.T) {
		w.fails(w.post(w.v2(), values("grant_type", "device_code", "client_id", directory.AKSClient.String())), 900144)
	})
	w.run("another client's device code", func(t *testing.T) {
		started := start()
		w.fails(w.post(w.v2(), values("grant_type", "device_code", "client_id", directory.AzureCLI.String(), "device_code", started.text("device_code"))), 70018)
	})
	w.run("an expired code", func(t *testing.T) {
		started := start()
		p := w.confirming(b, started, aliceName, alicePassword)
		w.pass(deviceLife)
		a := w.fails(w.poll(started), 70020)
		if a.text("error") != "expired_token" {
			t.Error(a.raw)
		}
		if p = w.next(b, p, "action", "continue"); p.page != "code" || p.alert == "" {
			t.Errorf("page %q, %q", p.page, p.alert)
		}
		w.pass(deviceGrace)
		w.fails(w.poll(started), 70018)
	})
	w.run("the user says no", func(t *testing.T) {
		started := start()
		w.onPage(w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "cancel"), "done")
		if a := w.fails(w.poll(started), 70028); a.text("error") != "authorization_declined" {
			t.Error(a.raw)
		}
	})
	w.run("an account disabled before the decision", func(t *testing.T) {
		started := start()
		p := w.confirming(b, started, aliceName, alicePassword)
		w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
		if p = w.next(b, p, "action", "continue"); p.page != "message" || !strings.Contains(p.body, "AADSTS50057") {
			t.Errorf("page %s", p.body)
		}
		w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = true })
	})
	w.run("an account disabled between the decision and the poll", func(t *testing.T) {
		started := start()
		w.onPage(w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "continue"), "done")
		w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
		w.fails(w.poll(started), 50057)
		w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = true })
		w.ok(w.poll(started))
	})
	w.run("a password reset between the decision and the poll", func(t *testing.T) {
		started := start()
		w.onPage(w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "continue"), "done")
		w.pass(time.Second)
		must(t, w.dir.ResetPassword(t.Context(), directory.System, w.alice.ID, alicePassword, false))
		w.fails(w.poll(started), 50173)
	})
	w.run("a resource that does not exist", func(t *testing.T) {
		w.fails(w.post("/"+w.tenant.ID.String()+"/oauth2/v2.0/devicecode", values("client_id", directory.AKSClient.String(), "scope", "api://nobody/.default")), 500011)
	})
	w.run("consumers", func(t *testing.T) {
		w.fails(w.post("/consumers/oauth2/v2.0/devicecode", values("client_id", directory.AKSClient.String(), "scope", aksScope)), 9002346)
	})
	w.run("too many codes", func(t *testing.T) {
		for range startLimit {
			w.post("/common/oauth2/v2.0/devicecode", nil)
		}
		a := w.fails(w.post("/common/oauth2/v2.0/devicecode", nil), 90055)
		if a.status != 429 || a.header.Get("Retry-After") == "" {
			t.Errorf("HTTP %d %s", a.status, a.header)
		}
		w.pass(time.Minute)
		start()
	})
}

// TestDeviceCodeOnce redeems one code in many requests at once.
func TestDeviceCodeOnce(t *testing.T) {
	w := newWorld(t)
	started := w.startDevice(t, aksScope)
	b := w.browser()
	w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "continue")
	var wg sync.WaitGroup
	codes := make([]int, 12)
	for i := range codes {
		wg.Go(func() { codes[i] = w.poll(started).code() })
	}
	wg.Wait()
	got := map[int]int{}
	for _, c := range codes {
		got[c]++
	}
	if got[0] != 1 || got[54005] != len(codes)-1 {
		t.Errorf("outcomes %v", got)
	}
	if n := len(In(w.srv.Feed.View()).SessionsOf(w.alice.ID)); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// TestDevicePageKnowsItsSteps: a form of another surface's step decides nothing, even one that this server has sealed for the device page.
func TestDevicePageKnowsItsSteps(t *testing.T) {
	w := newWorld(t)
	started := w.startDevice(t, aksScope)
	b := w.browser()
	p := w.confirming(b, started, aliceName, alicePassword)
	w.onPage(p, "confirm")
	text, err := w.srv.vault.open(t.Context(), devicePage.purpose, p.state)
	must(t, err)
	for _, step := range []string{stepPick, stepSignOut, stepResume, ""} {
		var state pageState
		must(t, json.Unmarshal(text, &state))
		state.Step = step
		changed, err := json.Marshal(state)
		must(t, err)
		other := p
		other.state, err = w.srv.vault.seal(t.Context(), devicePage.purpose, changed)
		must(t, err)
		if got := w.next(b, other, "action", "continue"); got.status != 400 || !strings.Contains(got.body, "AADSTS90013") {
			t.Errorf("step %q: HTTP %d, page %s", step, got.status, got.page)
		}
	}
	w.fails(w.poll(started), 70016)
	w.onPage(w.next(b, p, "action", "continue"), "done")
	w.ok(w.poll(started))
}

func TestDeviceCodeAtOrganizations(t *testing.T) {
	w := newWorld(t)
	for _, word := range []string{"common", "organizations"} {
		started := w.ok(w.post("/"+word+"/oauth2/v2.0/devicecode", values("client_id", directory.AzureCLI.String(), "scope", armScope)))
		b := w.browser()
		w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "continue")
		a := w.ok(w.post("/"+word+"/oauth2/v2.0/token", values("grant_type", "device_code", "client_id", directory.AzureCLI.String(),
			"device_code", started.text("device_code"), "code", started.text("device_code"))))
		c := claims(t, a.text("access_token"))
		if c["tid"] != w.tenant.ID.String() || c["aud"] != "https://management.core.windows.net/" || a.text("foci") != "1" {
			t.Errorf("%s: claims %v", word, c)
		}
	}
}

func TestUserCode(t *testing.T) {
	for typed, want := range map[string]string{
		"CDFGHJKLM": "CDFGHJKLM", "cdf-ghj klm": "CDFGHJKLM", " 34679CDFG\t": "34679CDFG",
		"": "", "CDFGHJKL": "", "CDFGHJKLMN": "", "CDFGHJKLA": "", "CDFGHJKL0": "", "ＣDFGHJKLM": "", "CDFGHJKL\x00": "",
	} {
		if got := parseUserCode(typed); got != want {
			t.Errorf("%q is read as %q, want %q", typed, got, want)
		}
	}
	// Bytes at and above the largest multiple of the alphabet's size are drawn again.
	code, err := newUserCode(bytes.NewReader([]byte{255, 253, 252, 0, 1, 2, 3, 4, 5, 6, 7, 22}))
	if err != nil || parseUserCode(code) != code || code != "9CDFGHJKL" {
		t.Errorf("code %q, %v", code, err)
	}
	if _, err := newUserCode(bytes.NewReader(nil)); err == nil {
		t.Error("a code without randomness")
	}
}
