package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// byDeviceCode runs a client, reads the code that it prints and enters it in a browser. It returns the client's standard output.
func (d *deployment) byDeviceCode(user, password string, args ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := d.command(ctx, args[0], args[1:]...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	message, err := lines.ReadString('\n')
	if err != nil {
		d.t.Fatalf("no message: %v %s", err, message)
	}
	m := regexp.MustCompile(`page (https://\S+) and enter the code ([A-Z0-9]+) to`).FindStringSubmatch(message)
	if m == nil {
		d.t.Fatalf("the message has no page and code: %s", message)
	}
	d.enterDeviceCode(m[1], m[2], user, password)
	rest, _ := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil {
		d.t.Fatalf("%s: %v\n%s%s\nserver:\n%s", strings.Join(args, " "), err, &out, rest, d.log)
	}
	return out.String()
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
