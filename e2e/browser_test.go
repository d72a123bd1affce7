package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"
)

// browser is a real headless Chromium with an empty profile that trusts the server's certificate and no other.
func (d *deployment) browser() context.Context {
	d.t.Helper()
	path := tool(d.t, "chromium", "the Debian package chromium")
	at, err := url.Parse(d.env["GATEHOUSE_URL"])
	if err != nil {
		d.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", at.Host, &tls.Config{InsecureSkipVerify: true}) // only to read the key that Chromium shall pin
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	spki := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(d.t.TempDir()),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(spki[:])),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true), chromedp.Flag("no-proxy-server", true),
	)
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	d.t.Cleanup(cancelAlloc)
	ctx, cancel := chromedp.NewContext(alloc)
	d.t.Cleanup(cancel)
	ctx, cancelTime := context.WithTimeout(ctx, 2*time.Minute)
	d.t.Cleanup(cancelTime)
	return ctx
}

// enterDeviceCode does in the browser what a device's message asks for.
func (d *deployment) enterDeviceCode(page, code, user, password string) {
	d.t.Helper()
	ctx := d.browser()
	submit := chromedp.Click(`#idSIButton9`)
	err := chromedp.Do(ctx,
		chromedp.Navigate(page),
		chromedp.SendKeys(`input[name=otc]`, code), submit,
		chromedp.WaitVisible(`input[name=loginfmt]`),
		chromedp.SendKeys(`input[name=loginfmt]`, user),
		chromedp.SendKeys(`input[name=passwd]`, password), submit,
		chromedp.WaitVisible(`[data-page=confirm]`), submit,
		chromedp.WaitVisible(`[data-page=done]`),
	)
	if err != nil {
		shot, _ := chromedp.Run(ctx, chromedp.FullScreenshot(90))
		file := filepath.Join(os.TempDir(), "gatehouse-device-page.png")
		os.WriteFile(file, shot, 0o600)
		d.t.Fatalf("device page: %v (screenshot in %s)\nserver:\n%s", err, file, d.log)
	}
}
