package sts

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestConsentPagesInChromium walks through the consent pages in a real browser: as a user, as an administrator, and where one is needed.
func TestConsentPagesInChromium(t *testing.T) {
	s := newShop(t)
	must(t, s.dir.UpdateApplication(t.Context(), directory.System, s.client.ID, func(a *directory.Application) error {
		a.IssueIDToken = true
		return nil
	}))
	do, shoot := s.chromium(t)
	client := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		how := "code"
		switch {
		case r.FormValue("error") != "":
			how = r.FormValue("error")
		case r.FormValue("admin_consent") != "":
			how = "admin"
		case r.FormValue("id_token") != "":
			how = "both"
		}
		fmt.Fprintf(rw, `<p id="%s-%s">done</p>`, r.Method, how)
	}))
	t.Cleanup(client.Close)
	here := strings.Replace(client.URL, "127.0.0.1", "localhost", 1)
	at := func(scope string, pairs ...string) chromedp.Action[chromedp.Void] {
		return chromedp.Navigate(s.http.URL + s.at(scope, append([]string{"redirect_uri", here}, pairs...)...))
	}
	submit := chromedp.Click(`#idSIButton9`)
	signIn := func(name, password string) {
		do(chromedp.WaitVisible(`[data-page=signin]`), chromedp.SendKeys(`input[name=loginfmt]`, name), chromedp.SendKeys(`input[name=passwd]`, password), submit)
	}
	const orders = "api://shop/Orders.Read api://shop/Orders.Write openid profile offline_access"
	do(at(orders))
	signIn(aliceName, alicePassword)
	do(chromedp.WaitVisible(`[data-page=consent]`))
	shoot("g-consent-user")
	do(submit, chromedp.WaitVisible(`#GET-code`))
	do(at("api://shop/Orders.Delete"), chromedp.WaitVisible(`[data-page=approval]`))
	shoot("h-approval")
	do(chromedp.Click(`#idBtn_Back`), chromedp.WaitVisible(`#GET-access_denied`))
	do(at("api://shop/Orders.Delete"), chromedp.WaitVisible(`[data-page=approval]`), chromedp.Click(`#otherTile`))
	signIn(adminName, adminPassword)
	do(chromedp.WaitVisible(`[data-page=consent]`))
	shoot("i-consent-admin")
	do(chromedp.Click(`#everyone`), submit, chromedp.WaitVisible(`#GET-code`))
	do(chromedp.Navigate(s.http.URL+s.adminAt(2, "redirect_uri", here, "scope", "api://shop/Orders.Write")), chromedp.WaitVisible(`[data-page=pick]`),
		chromedp.Click(`button[data-test-id="`+adminName+`"]`), chromedp.WaitVisible(`[data-page=consent]`))
	shoot("j-consent-everybody")
	do(submit, chromedp.WaitVisible(`#GET-admin`))
	do(at("openid api://shop/Orders.Write", "response_type", "code id_token", "response_mode", "form_post", "login_hint", adminName),
		chromedp.WaitVisible(`[data-page=pick]`), chromedp.Click(`button[data-test-id="`+adminName+`"]`), chromedp.WaitVisible(`#POST-both`))
}
