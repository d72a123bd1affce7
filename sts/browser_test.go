package sts

import (
	"context"
	"encoding/base32"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestDevicePageInChromium walks through the device page in a real browser, which enforces the content security policy, the
// cookie's prefix and the form's origin.
func TestDevicePageInChromium(t *testing.T) {
	w := newWorld(t)
	carol := w.user("carol@"+domain, alicePassword)
	w.setUser(carol.ID, func(u *directory.User) { u.MustChange = true })

	do, shoot := w.chromium(t)
	submit := chromedp.Click(`#idSIButton9`)
	started := w.startDevice(t, aksScope)

	do(chromedp.Navigate(w.http.URL+"/devicelogin"), chromedp.WaitVisible(`[data-page=code]`))
	shoot("1-code")
	do(chromedp.SendKeys(`input[name=otc]`, "CCCCCCCCC"), submit, chromedp.WaitVisible(`[role=alert]`))
	shoot("2-code-wrong")
	do(chromedp.SetValue(`input[name=otc]`, started.text("user_code")), submit, chromedp.WaitVisible(`[data-page=signin]`))
	shoot("3-signin")
	do(chromedp.SendKeys(`input[name=loginfmt]`, aliceName), chromedp.SendKeys(`input[name=passwd]`, "wrong"), submit, chromedp.WaitVisible(`[role=alert]`))
	shoot("4-signin-wrong")
	do(chromedp.SendKeys(`input[name=passwd]`, alicePassword), submit, chromedp.WaitVisible(`[data-page=confirm]`))
	shoot("5-confirm")
	do(submit, chromedp.WaitVisible(`[data-page=done]`))
	shoot("6-done")
	w.ok(w.poll(started))

	again := w.startDevice(t, aksScope)
	do(chromedp.Navigate(w.http.URL+"/devicelogin?otc="+again.text("user_code")), submit, chromedp.WaitVisible(`[data-page=signin]`),
		chromedp.SendKeys(`input[name=loginfmt]`, carol.UPN), chromedp.SendKeys(`input[name=passwd]`, alicePassword), submit,
		chromedp.WaitVisible(`[data-page=password]`))
	shoot("7-password")
	do(chromedp.SendKeys(`input[name=currentPassword]`, alicePassword), chromedp.SendKeys(`input[name=newPassword]`, "Fresh-Paint-11"),
		chromedp.SendKeys(`input[name=confirmNewPassword]`, "Fresh-Paint-11"), submit,
		chromedp.WaitVisible(`[data-page=confirm]`), chromedp.Click(`#idBtn_Back`), chromedp.WaitVisible(`[data-page=done]`))
	shoot("8-cancelled")
	w.fails(w.poll(again), 70028)
	w.ok(w.ropc(carol.UPN, "Fresh-Paint-11", aksScope))

	do(chromedp.Navigate(w.http.URL+"/error?code=50126"), chromedp.WaitVisible(`[data-page=message]`))
	shoot("9-error")
}

// TestSignInPagesInChromium walks through the sign-in pages in a real browser: above all, its policy must let the answers through to
// the application, by each response mode and for forms and links alike.
func TestSignInPagesInChromium(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob@"+domain, alicePassword)
	w.setUser(bob.ID, func(u *directory.User) { u.DisplayName = "Bob Brown" })
	carol := w.user("carol@"+domain, alicePassword)
	w.setUser(carol.ID, func(u *directory.User) { u.MustChange = true })
	do, shoot := w.chromium(t)
	behind := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprint(rw, `<p id="behind">signed in</p>`)
	}))
	t.Cleanup(behind.Close)
	client := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.FormValue("state") == "broker" { // as Dex does: the application is another one
			http.Redirect(rw, r, behind.URL, http.StatusSeeOther)
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		how := r.Method + "-" + map[bool]string{true: "code", false: r.FormValue("error")}[r.FormValue("code") != ""]
		fmt.Fprintf(rw, `<p id="%s">%s</p><script>if (location.hash.includes("code=")) document.body.id = "fragment"</script>`, how, how)
	}))
	t.Cleanup(client.Close)
	at := func(pairs ...string) chromedp.Action[chromedp.Void] {
		here := strings.Replace(client.URL, "127.0.0.1", "localhost", 1)
		return chromedp.Navigate(w.http.URL + w.authorizeURL(append([]string{"redirect_uri", here}, pairs...)...))
	}
	submit := chromedp.Click(`#idSIButton9`)
	signIn := func(name string) []chromedp.Action[chromedp.Void] {
		return []chromedp.Action[chromedp.Void]{chromedp.WaitVisible(`[data-page=signin]`), chromedp.SendKeys(`input[name=loginfmt]`, name), chromedp.SendKeys(`input[name=passwd]`, alicePassword)}
	}
	do(at())
	do(signIn(aliceName)...)
	do(chromedp.Click(`#KmsiCheckboxField`))
	shoot("a-signin")
	do(submit, chromedp.WaitVisible(`#GET-code`))
	do(at("prompt", "login", "response_mode", "form_post"))
	do(signIn(bob.UPN)...)
	do(submit, chromedp.WaitVisible(`#POST-code`))
	do(at("prompt", "select_account", "response_mode", "fragment"), chromedp.WaitVisible(`[data-page=pick]`))
	shoot("b-pick")
	do(chromedp.Click(`button[data-test-id="`+aliceName+`"]`), chromedp.WaitVisible(`body#fragment`))
	do(at("prompt", "consent", "login_hint", aliceName), chromedp.WaitVisible(`[data-page=consent]`))
	shoot("c-consent")
	do(chromedp.Click(`#idBtn_Back`), chromedp.WaitVisible(`#GET-access_denied`))
	do(at("prompt", "none", "response_mode", "form_post"), chromedp.WaitVisible(`#POST-interaction_required`))
	do(at("prompt", "login"))
	do(signIn(carol.UPN)...)
	do(submit, chromedp.WaitVisible(`[data-page=password]`), chromedp.SendKeys(`input[name=currentPassword]`, alicePassword), chromedp.SendKeys(`input[name=newPassword]`, "Fresh-Paint-11"),
		chromedp.SendKeys(`input[name=confirmNewPassword]`, "Fresh-Paint-11"), submit, chromedp.WaitVisible(`#GET-code`))
	do(at("redirect_uri", "https://evil.test"), chromedp.WaitVisible(`[data-page=message]`))
	shoot("d-redirect-refused")
	do(chromedp.Navigate(w.http.URL+"/common/oauth2/v2.0/logout"), chromedp.WaitVisible(`[data-page=signout]`))
	shoot("e-signout")
	do(submit, chromedp.WaitVisible(`[data-page=done]`))
	shoot("f-signed-out")
	do(at("state", "broker"), chromedp.WaitVisible(`[data-page=signin]`))
	do(signIn(aliceName)...)
	do(submit, chromedp.WaitVisible(`#behind`))
}

// TestSecondFactorInChromium enrols an authenticator app and a passkey and signs in with both, with the keyboard alone where people type.
func TestSecondFactorInChromium(t *testing.T) {
	w := newWorld(t)
	w.srv.Authorities.Public = strings.Replace(w.http.URL, "127.0.0.1", "localhost", 1)
	public := w.srv.Authorities.Public
	w.setMFA(w.alice, directory.MFAEnforced)
	do, shoot := w.chromium(t)
	do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: "ctap2", Ctap2version: "ctap2_1", Transport: "internal", HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		return err
	}))
	var seed []byte
	keys := chromedp.KeyEvent
	at := func(page string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(`[data-page=` + page + `]`)
	}
	// tabTo moves the focus forward to an element, as a person without a mouse does.
	tabTo := func(id string) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			for range 30 {
				if err := chromedp.Do(ctx, keys("\t")); err != nil {
					return err
				}
				focus, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.activeElement.id`))
				if err != nil || focus == id {
					return err
				}
			}
			return fmt.Errorf("the focus never comes to %s", id)
		})
	}
	signIn := func() {
		do(at("signin"), keys(aliceName+"\t"+alicePassword+"\r"))
	}
	do(chromedp.Navigate(public + "/myaccount"))
	do(at("signin"))
	shoot("k-signin-passkey")
	signIn()
	do(at("enrol"), chromedp.WaitVisible(`#passkey`), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		text, err := chromedp.Run(ctx, chromedp.Text(`#secret`))
		if err == nil {
			seed, err = base32.StdEncoding.DecodeString(strings.ReplaceAll(text, " ", ""))
		}
		return err
	}))
	shoot("l-enrol")
	do(keys("000000\r"), chromedp.WaitVisible(`[role=alert]`))
	shoot("m-enrol-wrong")
	do(keys(w.totp(seed)+"\r"), at("codes"))
	shoot("n-codes")
	do(tabTo("idSIButton9"), keys("\r"), at("account"))
	shoot("o-account")
	do(tabTo("addpasskey"), keys("\r"), chromedp.WaitVisible(`#passkey`))
	shoot("p-passkey")
	do(tabTo("passkey"), keys("\r"), at("account"))
	shoot("q-account-passkey")
	if got := w.named("Alice.A").Methods; len(got) != 2 || got[1].Kind != directory.MethodPasskey {
		t.Fatalf("methods %+v", got)
	}
	do(tabTo("everywhere"), keys("\r"), at("done"))
	shoot("r-everywhere")
	w.pass(time.Second)

	client := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<p id="came">%t</p>`, r.FormValue("code") != "")
	}))
	t.Cleanup(client.Close)
	authorize := func(pairs ...string) chromedp.Action[chromedp.Void] {
		here := strings.Replace(client.URL, "127.0.0.1", "localhost", 1)
		return chromedp.Navigate(public + w.authorizeURL(append([]string{"redirect_uri", here}, pairs...)...))
	}
	do(authorize(), at("signin"), chromedp.WaitVisible(`#passkey`), chromedp.Click(`#passkey`), chromedp.WaitVisible(`#came`))
	do(authorize("prompt", "login"))
	signIn()
	do(at("second"), chromedp.WaitVisible(`#passkey`))
	shoot("s-second")
	do(chromedp.Click(`summary`), chromedp.WaitVisible(`#recovery`))
	shoot("t-second-recovery")
	do(chromedp.Click(`#passkey`), chromedp.WaitVisible(`#came`))
	do(authorize("prompt", "login"))
	signIn()
	do(at("second"), keys("000000\r"), chromedp.WaitVisible(`[role=alert]`))
	shoot("u-second-wrong")
	do(keys(w.totp(seed)+"\r"), chromedp.WaitVisible(`#came`))
	do(chromedp.Navigate(public+"/myaccount"), at("account"), tabTo("password"), keys("\r"), at("password"))
	shoot("v-password")
}

// TestSignInByKeyboard signs in, picks an account, consents and signs out without a pointer: every control can be reached in the order of
// reading, the focus can be seen, and Enter or Space does what a click does.
func TestSignInByKeyboard(t *testing.T) {
	w := newWorld(t)
	do, _ := w.chromium(t)
	client := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<p id="%s-%s">done</p>`, r.FormValue("state"), map[bool]string{true: "code", false: r.FormValue("error")}[r.FormValue("code") != ""])
	}))
	t.Cleanup(client.Close)
	at := func(pairs ...string) chromedp.Action[chromedp.Void] {
		here := strings.Replace(client.URL, "127.0.0.1", "localhost", 1)
		return chromedp.Navigate(w.http.URL + w.authorizeURL(append([]string{"redirect_uri", here}, pairs...)...))
	}
	press := func(keys string) chromedp.Action[chromedp.Void] { return chromedp.KeyEvent(keys) }
	focused := func(selector string) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			at, err := chromedp.Evaluate[string]("(e => [e.matches(`"+selector+"`), getComputedStyle(e).outlineStyle, e.outerHTML].join(' '))(document.activeElement)")(ctx, target)
			if err == nil && !strings.HasPrefix(at, "true solid ") {
				err = fmt.Errorf("the focus is not visibly on %s: %s", selector, at)
			}
			return err
		})
	}
	do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	do(at("state", "first"), chromedp.WaitVisible(`[data-page=signin]`), focused(`#i0116`), press(aliceName+kb.Tab), focused(`#i0118`),
		press(alicePassword+kb.Tab), focused(`#KmsiCheckboxField`), press(" "), press(kb.Tab), focused(`#idSIButton9`), press(" "), chromedp.WaitVisible(`#first-code`))
	do(at("state", "second", "prompt", "select_account"), chromedp.WaitVisible(`[data-page=pick]`), press(kb.Tab),
		focused(`button[data-test-id="`+aliceName+`"]`), press(kb.Tab), focused(`#otherTile`), press(kb.Enter),
		chromedp.WaitVisible(`[data-page=signin]`), focused(`#i0116`), press(aliceName+kb.Tab+alicePassword+kb.Enter), chromedp.WaitVisible(`#second-code`))
	do(at("state", "third", "prompt", "consent"), chromedp.WaitVisible(`[data-page=consent]`), press(kb.Tab), focused(`#idSIButton9`), press(kb.Tab),
		focused(`#idBtn_Back`), press(kb.Enter), chromedp.WaitVisible(`#third-access_denied`))
	do(chromedp.Navigate(w.http.URL+"/common/oauth2/v2.0/logout"), chromedp.WaitVisible(`[data-page=signout]`), press(kb.Tab), focused(`#idSIButton9`),
		press(kb.Enter), chromedp.WaitVisible(`[data-page=done]`))
}

// chromium starts a browser and returns how to act in it, and how to look at its page: in light and dark, wide and narrow, with axe-core, and
// for whoever asks for pictures with GATEHOUSE_SCREENSHOTS=DIR.
func (w *world) chromium(t *testing.T) (do func(...chromedp.Action[chromedp.Void]), shoot func(string)) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("chromium is missing; install the Debian package to run this test")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-proxy-server", true),
	)
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)

	shoot = func(name string) {
		t.Helper()
		dir := os.Getenv("GATEHOUSE_SCREENSHOTS")
		for _, scheme := range []string{"light", "dark"} {
			for size, width := range map[string]int64{"wide": 1180, "narrow": 390} {
				show(t, ctx, scheme, width)
				checkAccessible(t, ctx, name+", "+scheme+", "+size)
				if dir != "" {
					shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
					must(t, err)
					must(t, os.WriteFile(filepath.Join(dir, name+"-"+scheme+"-"+size+".png"), shot, 0o644))
				}
			}
		}
	}
	do = func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%v\n%s", err, w.log)
		}
	}
	return do, shoot
}

// show turns the page to a person with this preference and window.
func show(t *testing.T, ctx context.Context, scheme string, width int64) {
	t.Helper()
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, 780), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})))
}
