package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestBrowserSignIn: unmodified az and kubelogin sign in in a browser that has no proxy.
func TestBrowserSignIn(t *testing.T) {
	d := up(t)
	d.loginAdmin()
	d.user("alice", alicePassword)
	d.run("az", "logout")
	ctx := d.browser()

	t.Run("az login", func(t *testing.T) {
		d.t = t
		out := d.inBrowser(ctx, []string{"az", "login"},
			chromedp.WaitVisible(`[data-page=signin]`),
			chromedp.SendKeys(`input[name=loginfmt]`, d.env["GATEHOUSE_ADMIN"]), chromedp.SendKeys(`input[name=passwd]`, d.adminPassword()),
			chromedp.Click(`#idSIButton9`), atClient)
		if !strings.Contains(out, d.env["GATEHOUSE_SUBSCRIPTION_ID"]) {
			t.Errorf("az login: %s", out)
		}
		if got := d.run("az", "account", "show", "--query", "user.name", "-o", "tsv"); got != d.env["GATEHOUSE_ADMIN"] {
			t.Errorf("az account show: %q", got)
		}
		d.run("az", "group", "list", "-o", "none")
	})
	t.Run("az login with the account of the browser", func(t *testing.T) {
		d.t = t
		d.run("az", "logout")
		d.inBrowser(ctx, []string{"az", "login", "--tenant", d.env["GATEHOUSE_TENANT_ID"]},
			chromedp.WaitVisible(`[data-page=pick]`), chromedp.Click(`button[data-test-id="`+d.env["GATEHOUSE_ADMIN"]+`"]`), atClient)
	})
	t.Run("az login with a device code", func(t *testing.T) {
		d.t = t
		d.run("az", "logout")
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := d.command(ctx, "az", "login", "--use-device-code")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stderr)
		message, _ := lines.ReadString('\n')
		m := regexp.MustCompile(`page (https://\S+) and enter the code ([A-Z0-9]+) to`).FindStringSubmatch(message)
		if m == nil {
			t.Fatalf("the message has no page and code: %s", message)
		}
		d.enterDeviceCode(m[1], m[2], d.env["GATEHOUSE_ADMIN"], d.adminPassword())
		rest, _ := io.ReadAll(lines)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("az login: %v\n%s", err, rest)
		}
		d.run("az", "group", "list", "-o", "none")
	})
	t.Run("kubelogin, another account", func(t *testing.T) {
		d.t = t
		out := d.inBrowser(ctx, []string{"kubelogin", "get-token", "-l", "interactive", "--server-id", aksServer, "--client-id", aksClient,
			"--tenant-id", d.env["GATEHOUSE_TENANT_ID"]},
			chromedp.WaitVisible(`[data-page=pick]`), chromedp.Click(`#otherTile`), chromedp.WaitVisible(`[data-page=signin]`),
			chromedp.SendKeys(`input[name=loginfmt]`, d.upn("alice")), chromedp.SendKeys(`input[name=passwd]`, alicePassword),
			chromedp.Click(`#idSIButton9`), atClient)
		var credential struct{ Status struct{ Token string } }
		if err := json.Unmarshal([]byte(out), &credential); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, rest, _ := strings.Cut(credential.Status.Token, ".")
		payload, _, _ := strings.Cut(rest, ".")
		claims, err := base64.RawURLEncoding.DecodeString(payload)
		if err != nil || !bytes.Contains(claims, []byte(`"upn":"`+d.upn("alice")+`"`)) || !bytes.Contains(claims, []byte(`"aud":"`+aksServer+`"`)) {
			t.Errorf("claims %s %v", claims, err)
		}
	})
	d.t = t
}

// interactive is the sign-in in a browser on the way of the README.
func (s *story) interactive(t *testing.T) {
	s.run("kubelogin", "convert-kubeconfig", "-l", "interactive", "--cache-dir", t.TempDir())
	out := s.inBrowser(s.browser(), []string{"kubectl", "get", "nodes"},
		chromedp.WaitVisible(`[data-page=signin]`),
		chromedp.SendKeys(`input[name=loginfmt]`, s.upn("alice")), chromedp.SendKeys(`input[name=passwd]`, alicePassword),
		chromedp.Click(`#idSIButton9`), atClient)
	if strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
}

// atClient waits until the browser shows the page of the client's own listener.
var atClient = chromedp.WaitVisible(`body:not(:has(.card))`)

// inBrowser runs a client, does in the browser what it opens there, and returns its standard output.
func (d *deployment) inBrowser(browser context.Context, args []string, actions ...chromedp.Action[chromedp.Void]) string {
	d.t.Helper()
	dir := d.t.TempDir()
	opened := filepath.Join(dir, "opened")
	opener := filepath.Join(dir, "xdg-open") // kubelogin looks for this name, az for BROWSER
	if err := os.WriteFile(opener, []byte("#!/bin/sh\nprintf %s \"$1\" > '"+opened+".part' && mv '"+opened+".part' '"+opened+"'\n"), 0o700); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := d.command(ctx, args[0], args[1:]...)
	for i, v := range cmd.Env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			cmd.Env[i] = "PATH=" + dir + ":" + path
		}
	}
	cmd.Env = append(cmd.Env, "BROWSER="+opener+" %s")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	var address []byte
	eventually(d.t, time.Minute, args[0]+" opens a browser", func() (bool, string) {
		var err error
		address, err = os.ReadFile(opened)
		return err == nil, "nothing"
	})
	if !strings.HasPrefix(string(address), d.env["GATEHOUSE_URL"]+"/") {
		d.t.Errorf("%s opens %s, which a browser without the proxy does not reach", args[0], address)
	}
	if err := chromedp.Do(browser, append([]chromedp.Action[chromedp.Void]{chromedp.Navigate(string(address))}, actions...)...); err != nil {
		shot, _ := chromedp.Run(browser, chromedp.FullScreenshot(90))
		file := filepath.Join(os.TempDir(), "gatehouse-sign-in-page.png")
		os.WriteFile(file, shot, 0o600)
		cmd.Process.Kill()
		cmd.Wait()
		d.t.Fatalf("sign-in page: %v (screenshot in %s)\n%s\nserver:\n%s", err, file, &errs, d.log)
	}
	if err := cmd.Wait(); err != nil {
		d.t.Fatalf("%s: %v\n%s%s\nserver:\n%s", strings.Join(args, " "), err, &out, &errs, d.log)
	}
	return out.String()
}
