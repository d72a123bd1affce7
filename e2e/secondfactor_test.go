package e2e

import (
	"bufio"
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestSecondFactor: an administrator asks for a second factor with az; a password alone is then refused to az in the cloud's words; on
// the page that a device's message names, kubelogin's user enrols an authenticator app and later shows its code.
func TestSecondFactor(t *testing.T) {
	d := up(t)
	d.loginAdmin()
	id := d.user("alice", alicePassword)
	at := "https://graph.microsoft.com/beta/users/" + id + "/authentication/requirements"
	d.run("az", "rest", "--method", "patch", "--url", at, "--body", `{"perUserMfaState": "enforced"}`)
	if state := d.run("az", "rest", "--url", at, "--query", "perUserMfaState", "-o", "tsv"); state != "enforced" {
		t.Errorf("state %q", state)
	}
	azLogin := []string{"az", "login", "-u", d.upn("alice"), "-p", alicePassword, "--allow-no-subscriptions"}
	d.refuses(azLogin, "AADSTS50079")

	browser := d.browser()
	submit := chromedp.Click(`#idSIButton9`)
	on := func(page string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(`[data-page=` + page + `]`)
	}
	var seed []byte
	used := "" // the code of a step works once
	code := func() chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			for directory.TOTPCode(seed, time.Now()) == used {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Until(time.Now().Truncate(30 * time.Second).Add(30 * time.Second))):
				}
			}
			used = directory.TOTPCode(seed, time.Now())
			return chromedp.Do(ctx, chromedp.SendKeys(`input[name=code]`, used))
		})
	}
	claims := d.kubeloginDevice(t, browser, d.upn("alice"), alicePassword,
		on("enrol"), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			text, err := chromedp.Run(ctx, chromedp.Text(`#secret`))
			if err == nil {
				seed, err = base32.StdEncoding.DecodeString(strings.ReplaceAll(text, " ", ""))
			}
			return err
		}), code(), submit, on("codes"), submit)
	if got, _ := json.Marshal(claims["amr"]); string(got) != `["pwd","mfa"]` {
		t.Errorf("amr of kubelogin's token: %s", got)
	}
	d.forgetRefusals()
	d.refuses(azLogin, "AADSTS50076")
	claims = d.kubeloginDevice(t, browser, d.upn("alice"), alicePassword, on("second"), code(), submit)
	if got, _ := json.Marshal(claims["amr"]); string(got) != `["pwd","mfa"]` {
		t.Errorf("amr of the second token: %s", got)
	}

	var list struct {
		Value []struct {
			Type string `json:"@odata.type"`
			ID   string
		}
	}
	methods := "https://graph.microsoft.com/v1.0/users/" + id + "/authentication/"
	if err := json.Unmarshal([]byte(d.run("az", "rest", "--url", methods+"methods")), &list); err != nil || len(list.Value) != 2 {
		t.Fatalf("methods: %v %+v", err, list)
	}
	d.loginAdmin()
	d.run("az", "rest", "--method", "delete", "--url", methods+"softwareOathMethods/"+list.Value[1].ID)
	d.run("az", "rest", "--method", "patch", "--url", at, "--body", `{"perUserMfaState": "disabled"}`)
	if a := d.token(d.upn("alice"), alicePassword, azureCLI, "https://management.azure.com/.default"); a.Access == "" {
		t.Errorf("nothing is asked for any more: %s", a.Text) // not with az: it repeats a refusal for a minute without asking
	}
}

// forgetRefusals lets az ask again: it repeats a refusal for a minute by itself.
func (d *deployment) forgetRefusals() {
	d.t.Helper()
	for _, dir := range []string{d.env["AZURE_CONFIG_DIR"], filepath.Join(d.dir, "..", "home", ".azure")} {
		if err := os.Remove(filepath.Join(dir, "msal_http_cache.bin")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.t.Fatal(err)
		}
	}
}

// kubeloginDevice signs in by device code, does in the browser what the page asks for after the password, and returns the claims of
// the token that kubelogin prints.
func (d *deployment) kubeloginDevice(t *testing.T, browser context.Context, user, password string, asked ...chromedp.Action[chromedp.Void]) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := d.command(ctx, "kubelogin", "get-token", "-l", "devicecode", "--server-id", aksServer, "--client-id", aksClient,
		"--tenant-id", d.env["GATEHOUSE_TENANT_ID"], "--cache-dir", t.TempDir())
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
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
	submit := chromedp.Click(`#idSIButton9`)
	steps := []chromedp.Action[chromedp.Void]{
		chromedp.Navigate(m[1]), chromedp.SendKeys(`input[name=otc]`, m[2]), submit,
		chromedp.WaitVisible(`[data-page=signin]`), chromedp.SendKeys(`input[name=loginfmt]`, user), chromedp.SendKeys(`input[name=passwd]`, password), submit,
	}
	steps = append(append(steps, asked...), chromedp.WaitVisible(`[data-page=confirm]`), submit, chromedp.WaitVisible(`[data-page=done]`))
	if err := chromedp.Do(browser, steps...); err != nil {
		t.Fatalf("device page: %v\nserver:\n%s", err, d.log)
	}
	out, _ := io.ReadAll(stdout)
	rest, _ := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("kubelogin: %v\n%s", err, rest)
	}
	var credential struct{ Status struct{ Token string } }
	if err := json.Unmarshal(out, &credential); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, claims, _ := parts(t, credential.Status.Token)
	return claims
}
