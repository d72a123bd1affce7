package sts

import (
	"bytes"
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

var update = flag.Bool("update", false, "write the pages in testdata anew")

// TestPagesGolden holds the pages as they are, with hostile values in every place that shows one.
func TestPagesGolden(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	for name, v := range map[string]pageView{
		"code":     {Title: "Enter code", Step: 1, Code: evil, Error: evil},
		"signin":   {Title: "Sign in", Step: 2, Device: true, App: evil, Tenant: evil, Name: evil, Error: evil},
		"password": {Title: "Update your password", Step: 2, Account: evil, Error: evil},
		"confirm":  {Title: "Confirm sign-in", Step: 3, App: evil, AppID: evil, Account: evil, Tenant: evil, Resource: evil, Address: evil, Asked: evil},
		"done":     {Title: "Signed in", Heading: evil, Text: evil, Good: true},
		"pick":     {Title: "Pick an account", App: evil, Accounts: []accountView{{ID: evil, Name: evil, UPN: evil}}},
		"consent":  {Title: "Permissions requested", App: evil, AppID: evil, Account: evil, Tenant: evil, Address: evil, Everyone: true, ForAll: true, Scopes: []scopeView{{Text: evil, Value: evil, Of: evil}}},
		"approval": {Title: "Need admin approval", App: evil, AppID: evil, Account: evil, Tenant: evil, Scopes: []scopeView{{Text: evil, Value: evil, Of: evil}}},
		"review":   {Title: "Review permissions", Tenant: evil, Domain: evil, Account: evil, Home: evil},
		"formpost": {Title: "Signing in", App: evil, Fields: []field{{Name: "state", Value: evil}}},
		"signout":  {Title: "Sign out", Accounts: []accountView{{Name: evil, UPN: evil}}},
		"resume":   {Title: "Continuing"},
		"message":  {Title: evil, Heading: evil, Text: evil, Detail: evil},
		"second":   {Title: "Verify your identity", Account: evil, Error: evil, Passkey: evil, HasTOTP: true},
		"enrol":    {Title: "Set up a second factor", Account: evil, Error: evil, Passkey: evil, QR: &qrView{Size: 29, Path: "M4 4h7v1h-7z"}, Secret: evil},
		"codes":    {Title: "Your recovery codes", Account: evil, Codes: []string{evil, evil}},
		"account": {Title: "Your account", Error: evil, Notice: evil, Person: &accountPageView{
			Name: evil, UPN: evil, Tenant: evil, CanPasskey: true, Recovery: 3, More: 4,
			Methods:  []methodView{{ID: evil, Name: evil, Added: evil}},
			Sessions: []sessionView{{ID: evil, App: evil, Began: evil, How: evil, Browser: true, Here: true}, {ID: evil, App: evil, Began: evil, How: evil}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			v.Page, v.Action, v.State = name, "/devicelogin", "STATE"
			v.Origin = slices.Contains([]string{"pick", "consent", "signout", "second", "enrol", "codes", "account", "resume"}, name)
			must(t, pages[name].Execute(&out, v))
			got := regexp.MustCompile(`\?v=[0-9a-f]{12}`).ReplaceAllString(out.String(), "?v=HASH")
			file := filepath.Join("testdata", "pages", name+".html")
			if *update {
				must(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			must(t, err)
			if got != string(want) {
				t.Errorf("the page differs from %s; look at it and run the test with -update\n%s", file, got)
			}
			if script := map[string]string{"formpost": "submit.js", "second": "passkey.js", "enrol": "passkey.js"}[name]; script != "" {
				got = strings.Replace(got, `<script src="/devicelogin/`+script+`?v=HASH"></script>`, "", 1)
			}
			if v.Origin {
				got = strings.Replace(got, `<script src="/devicelogin/origin.js?v=HASH"></script>`, "", 1)
			}
			for _, never := range []string{`(?i)<script`, `(?i)\sstyle=`, `(?i)<style`, `(?i)\son[a-z]+=`, `(?i)javascript:`, `http:`, `https:`} {
				if m := regexp.MustCompile(never).FindString(got); m != "" {
					t.Errorf("the page holds %q", m)
				}
			}
			for _, m := range regexp.MustCompile(`<input [^>]*\bid="([^"]+)"`).FindAllStringSubmatch(got, -1) {
				if !strings.Contains(got, `<label for="`+m[1]+`">`) {
					t.Errorf("the field %s has no label", m[1])
				}
			}
			if strings.Count(got, "<h1") != 1 || strings.Count(got, "<main") != 1 || !strings.Contains(got, `<html lang="en">`) {
				t.Error("the page has no single heading, main part or language")
			}
		})
	}
}

func TestPageHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/devicelogin", "/common/oauth2/deviceauth", "/error?code=50126", "/error?code=x"} {
		p := w.visit(w.browser(), "GET", path, nil)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cache-Control": "no-store, no-cache", "Content-Type": "text/html; charset=utf-8", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := p.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?:href|src)="(/devicelogin/[^"]+)"`).FindAllStringSubmatch(w.visit(w.browser(), "GET", "/devicelogin", nil).body, -1) {
		a := w.get(m[1])
		if a.status != 200 || !strings.Contains(a.header.Get("Cache-Control"), "immutable") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", m[1], a.status, a.header)
		}
	}
	if a := w.get("/devicelogin/style.css?v=old"); a.status != 200 || a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("an old address: %d %v", a.status, a.header)
	}
	for _, path := range []string{"/devicelogin/layout.html", "/devicelogin/..%2fpage.go", "/devicelogin/x"} {
		if a := w.get(path); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

func TestPageCookie(t *testing.T) {
	w := newWorld(t)
	p := w.visit(w.browser(), "GET", "/devicelogin", nil)
	c, err := http.ParseSetCookie(p.header.Get("Set-Cookie"))
	must(t, err)
	if c.Name != "__Host-gatehouse-device" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
		t.Errorf("cookie %+v", c)
	}
}

// TestPageUnderCloudHost: a browser that came to the cloud's name is sent to the public URL, and nowhere else.
func TestPageUnderCloudHost(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	for path, want := range map[string]string{
		"/common/oauth2/deviceauth":                               w.http.URL + "/devicelogin",
		"/devicelogin?otc=ABC&next=https://evil.test":             w.http.URL + "/devicelogin?otc=ABC",
		"/devicelogin?otc=" + url.QueryEscape("x\r\nLocation: y"): w.http.URL + "/devicelogin?otc=x%0D%0ALocation%3A+y",
		"/error?code=50126":                                       w.http.URL + "/error?code=50126",
	} {
		p := w.visit(b, "GET", path, nil, "Host", "login.microsoftonline.com")
		if p.status != 302 || p.header.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", path, p.status, p.header.Get("Location"), want)
		}
	}
}

// TestPageForgery: forms that this browser was not given, or not by us.
func TestPageForgery(t *testing.T) {
	w := newWorld(t)
	started := w.startDevice(t, aksScope)
	b := w.browser()
	first := w.visit(b, "GET", "/devicelogin", nil)
	signin := w.next(b, first, "otc", started.text("user_code"))
	w.onPage(signin, "signin")
	refused := func(what string, p sheet) {
		t.Helper()
		if p.page == "signin" || p.page == "confirm" || p.page == "done" || p.status < 400 {
			t.Errorf("%s: HTTP %d, page %q", what, p.status, p.page)
		}
	}
	code := values("otc", started.text("user_code"), "state", first.state)
	for _, site := range []string{"cross-site", "same-site"} {
		refused(site, w.visit(b, "POST", "/devicelogin", code, "Sec-Fetch-Site", site))
	}
	refused("another origin, of a browser without Sec-Fetch-Site", w.visit(b, "POST", "/devicelogin", code, "Sec-Fetch-Site", "", "Origin", "https://evil.test"))
	refused("no origin", w.visit(b, "POST", "/devicelogin", code, "Sec-Fetch-Site", "", "Origin", "null"))
	refused("no cookie", w.visit(w.browser(), "POST", "/devicelogin", code))
	refused("no state", w.visit(b, "POST", "/devicelogin", values("otc", started.text("user_code"))))
	other := w.browser()
	w.visit(other, "GET", "/devicelogin", nil)
	refused("another browser's state", w.visit(other, "POST", "/devicelogin", code))
	refused("a refresh token for a state", w.visit(b, "POST", "/devicelogin", values("otc", started.text("user_code"),
		"state", w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token"))))
	refused("a parameter twice", w.visit(b, "POST", "/devicelogin", url.Values{"otc": {"a", "b"}, "state": {first.state}}))

	// The browser that signed in gets a new cookie, so the one before, which somebody may have planted, is worth nothing.
	at, err := url.Parse(w.http.URL)
	must(t, err)
	before := b.Jar.Cookies(at)
	confirm := w.next(b, signin, "loginfmt", aliceName, "passwd", alicePassword)
	w.onPage(confirm, "confirm")
	if after := b.Jar.Cookies(at); len(before) != 1 || len(after) != 1 || before[0].Value == after[0].Value {
		t.Errorf("cookies %v and %v", before, after)
	}
	planted := w.browser()
	planted.Jar.SetCookies(at, before)
	refused("the cookie from before the sign-in", w.next(planted, confirm, "action", "continue"))
	refused("a step back with the old state", w.next(b, signin, "loginfmt", aliceName, "passwd", alicePassword))
	refused("no decision", w.next(b, confirm, "action", ""))
	refused("another decision", w.next(b, confirm, "action", "maybe"))
	w.fails(w.poll(started), 70016)
	w.pass(deviceLife)
	refused("an expired code", w.next(b, confirm, "action", "continue"))
}

// TestPageStateExpires: a page that was left open does nothing later, even when its code still would.
func TestPageStateExpires(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	first := w.visit(b, "GET", "/devicelogin", nil)
	w.pass(pageLife)
	started := w.startDevice(t, aksScope)
	if p := w.next(b, first, "otc", started.text("user_code")); p.page != "code" || p.status != 400 || !strings.Contains(p.alert, "open for too long") {
		t.Errorf("HTTP %d %q %q", p.status, p.page, p.alert)
	}
}

// TestCodeInAddress: a code in a link is filled in and nothing more.
func TestCodeInAddress(t *testing.T) {
	w := newWorld(t)
	started := w.startDevice(t, aksScope)
	p := w.visit(w.browser(), "GET", "/devicelogin?otc="+started.text("user_code"), nil)
	if p.page != "code" || !strings.Contains(p.body, `value="`+started.text("user_code")+`"`) {
		t.Errorf("page %s", p.body)
	}
	p = w.visit(w.browser(), "GET", "/devicelogin?otc=%22%3E%3Cscript%3E", nil)
	if strings.Contains(p.body, "<script") {
		t.Error("the address gets into the page")
	}
}

// TestPageSaysTheSame: whoever guesses learns nothing about which accounts exist.
func TestPageSaysTheSame(t *testing.T) {
	w := newWorld(t)
	off := w.user("off@"+domain, alicePassword)
	w.setUser(off.ID, func(u *directory.User) { u.Enabled = false })
	b := w.browser()
	signin := func() sheet {
		return w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", w.startDevice(t, aksScope).text("user_code"))
	}
	alert := ""
	for i, c := range [][2]string{{aliceName, "x"}, {"nobody@" + domain, "x"}, {"nobody", "x"}, {off.UPN, "x"}} {
		p := w.next(b, signin(), "loginfmt", c[0], "passwd", c[1])
		if i == 0 {
			alert = p.alert
		}
		if p.page != "signin" || p.status != 400 || p.alert != alert || alert == "" {
			t.Errorf("%s: HTTP %d, %q", c[0], p.status, p.alert)
		}
	}
	if p := w.next(b, signin(), "loginfmt", off.UPN, "passwd", alicePassword); p.page != "signin" || !strings.Contains(p.alert, "disabled") {
		t.Errorf("a disabled account with its password: %q", p.alert)
	}
	for range 2 * passwordGuesses.Wrong {
		w.next(b, signin(), "loginfmt", aliceName, "passwd", "x")
	}
	if p := w.next(b, signin(), "loginfmt", aliceName, "passwd", alicePassword); p.status != 429 {
		t.Errorf("after many guesses: HTTP %d", p.status)
	}
	w.fails(w.ropc(aliceName, alicePassword, aksScope), 50053) // one count for both ways in
}

// TestUserCodeGuesses: wrong codes are counted, and right ones, which anybody can ask for, do not wipe the count out.
func TestUserCodeGuesses(t *testing.T) {
	w := newWorld(t)
	started := w.startDevice(t, aksScope)
	b := w.browser()
	enter := func(code string) sheet { return w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", code) }
	for i := range codeLimit {
		if p := enter("CCCCCCCC" + string(userCodeAlphabet[i])); p.page != "code" || p.status != 400 {
			t.Fatalf("HTTP %d %q", p.status, p.page)
		}
		if i < codeLimit-1 {
			w.onPage(enter(started.text("user_code")), "signin")
		}
	}
	if p := enter(started.text("user_code")); p.page != "code" || p.status != 429 {
		t.Errorf("HTTP %d %q after %d wrong codes", p.status, p.page, codeLimit)
	}
	w.pass(time.Minute)
	w.onPage(enter(started.text("user_code")), "signin")
}

// TestPasswordPage: an account whose password must be changed gets in by the page, after it has changed it.
func TestPasswordPage(t *testing.T) {
	w := newWorld(t)
	w.setUser(w.alice.ID, func(u *directory.User) { u.MustChange = true })
	a := w.fails(w.ropc(aliceName, alicePassword, aksScope), 50055)
	if a.text("suberror") != "user_password_expired" || !strings.Contains(a.text("error_description"), w.http.URL+"/devicelogin") {
		t.Errorf("answer %s", a.raw)
	}
	started := w.startDevice(t, aksScope)
	b := w.browser()
	p := w.next(b, w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", started.text("user_code")), "loginfmt", aliceName, "passwd", alicePassword)
	w.onPage(p, "password")
	if c := w.next(b, p, "action", "continue"); c.page != "password" {
		t.Errorf("the change can be skipped: %q", c.page)
	}
	const fresh = "Fresh-Paint-11"
	for name, c := range map[string][3]string{
		"nothing": {}, "a wrong current one": {"x", fresh, fresh}, "two different ones": {alicePassword, fresh, fresh + "x"},
		"the same": {alicePassword, alicePassword, alicePassword}, "a weak one": {alicePassword, "short", "short"},
	} {
		q := w.next(b, p, "currentPassword", c[0], "newPassword", c[1], "confirmNewPassword", c[2])
		if q.page != "password" || q.alert == "" || q.status != 400 {
			t.Errorf("%s: HTTP %d %q %q", name, q.status, q.page, q.alert)
		}
	}
	w.pass(time.Second)
	p = w.next(b, p, "currentPassword", alicePassword, "newPassword", fresh, "confirmNewPassword", fresh)
	w.onPage(p, "confirm")
	w.onPage(w.next(b, p, "action", "continue"), "done")
	must(t, w.verify(w.ok(w.poll(started)).text("access_token")))
	w.ok(w.ropc(aliceName, fresh, aksScope))
	w.fails(w.ropc(aliceName, alicePassword, aksScope), 50126)
}

func TestErrorPage(t *testing.T) {
	w := newWorld(t)
	for number := range catalogue {
		p := w.visit(w.browser(), "GET", "/error?code="+strconv.Itoa(number), nil)
		if p.status != 200 || !strings.Contains(p.body, "AADSTS"+strconv.Itoa(number)) {
			t.Errorf("%d: HTTP %d", number, p.status)
		}
	}
	for _, code := range []string{"", "1", "-50126", "%3Cscript%3E", strings.Repeat("9", 500)} {
		if p := w.visit(w.browser(), "GET", "/error?code="+code, nil); p.status != 404 || strings.Contains(p.body, "<script") {
			t.Errorf("%q: HTTP %d", code, p.status)
		}
	}
}
