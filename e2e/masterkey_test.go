package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/kms/kmstest"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

const (
	keyOne = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
	keyTwo = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
)

// memory is what a restart with the right key must not change.
type memory struct {
	kids    []string
	refresh string
}

func (d *deployment) remember() memory {
	d.t.Helper()
	got := d.token(d.env["GATEHOUSE_ADMIN"], d.adminPassword(), azureCLI, "https://graph.microsoft.com/.default")
	if got.Refresh == "" {
		d.t.Fatalf("signing in: %s", got.Text)
	}
	return memory{d.kids(), got.Refresh}
}

// still demands that nothing was lost or made anew.
func (d *deployment) still(m memory) {
	d.t.Helper()
	if kids := d.kids(); !slices.Equal(kids, m.kids) {
		d.t.Errorf("the signing keys are %v, were %v", kids, m.kids)
	}
	if got := d.grant(url.Values{"grant_type": {"refresh_token"}, "client_id": {azureCLI}, "refresh_token": {m.refresh}, "scope": {"https://graph.microsoft.com/.default"}}); got.Access == "" {
		d.t.Errorf("refreshing: %s", got.Text)
	}
	d.remember()
}

// kids are the published signing keys.
func (d *deployment) kids() (ids []string) {
	d.t.Helper()
	res, err := d.http().Get("https://login.microsoftonline.com/common/discovery/v2.0/keys")
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct {
		Keys []struct {
			Kid string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		d.t.Fatal(err)
	}
	for _, k := range set.Keys {
		ids = append(ids, k.Kid)
	}
	return ids
}

// refusesToStart demands exit code 1 and one line that holds the texts, and that the data directory stays as it is.
func (d *deployment) refusesToStart(args []string, texts ...string) {
	d.t.Helper()
	before := d.content()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(d.t, "gatehouse", "it with `make build`"),
		append([]string{"up", "--data-dir", d.dir, "--listen", freePort(d.t), "--proxy-listen", freePort(d.t)}, args...)...)
	out, _ := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	last := text[strings.LastIndexByte(text, '\n')+1:] // a warning that it waits may stand before it
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasPrefix(last, "gatehouse up: ") {
		d.t.Errorf("exit code %d, want 1 and a sentence: %s", code, text)
	}
	for _, want := range texts {
		if !strings.Contains(last, want) {
			d.t.Errorf("want %q in: %s", want, last)
		}
	}
	if after := d.content(); !slices.Equal(after, before) {
		d.t.Errorf("the data directory holds %v, held %v", after, before)
	}
}

// content is the data directory, file by file, but for those that every start touches.
func (d *deployment) content() (list []string) {
	d.t.Helper()
	err := filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "lock" || e.Name() == "audit.log" || strings.HasPrefix(e.Name(), "gatehouse.db-") {
			return err
		}
		content, err := os.ReadFile(path)
		list = append(list, path+" "+string(content))
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	return list
}

// TestMasterKey takes the key away, brings another, and puts it back.
func TestMasterKey(t *testing.T) {
	d := up(t)
	m := d.remember()
	d.stop()
	key := filepath.Join(d.dir, "master-key")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content string, mode os.FileMode) {
		t.Helper()
		os.Remove(key)
		if err := os.WriteFile(key, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	d.refusesToStart(nil, key+" is missing", "gatehouse.db are sealed under the master key", "put that one back")
	write(keyOne, 0o600)
	d.refusesToStart(nil, key, "is not the master key of", "--old-master-key")
	write(string(right[:20]), 0o600)
	d.refusesToStart(nil, key, "not 32")
	write(string(right), 0o644)
	d.refusesToStart(nil, "others may read", "chmod 0600 "+key)
	write(string(right), 0o600)
	d.start()
	d.still(m)

	// The database alone is of no use to anybody.
	var all []byte
	for _, name := range []string{"gatehouse.db", "gatehouse.db-wal"} {
		content, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	for _, secret := range []string{`"publicURL"`, "argon2id", strings.TrimSpace(string(right)), d.adminPassword(), m.refresh} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("the database shows %s", secret)
		}
	}

	if out := d.run("gatehouse", "master-key", "--data-dir", d.dir, "--roll"); !strings.Contains(out, "file:"+key) {
		t.Errorf("gatehouse master-key: %s", out)
	}
	d.still(m)
	d.kill()
	d.start()
	d.still(m)
}

// TestMasterKeyFromElsewhere moves a database from the environment to a KMS plugin, and back to a file.
func TestMasterKeyFromElsewhere(t *testing.T) {
	t.Setenv("GATEHOUSE_E2E_KEY", keyOne)
	d := up(t, "--master-key", "env:GATEHOUSE_E2E_KEY")
	ports := d.args[2:]
	m := d.remember()
	again := func(args ...string) {
		t.Helper()
		d.stop()
		d.args = append(args, ports...)
		d.start()
		d.still(m)
	}
	again("--master-key", "env:GATEHOUSE_E2E_KEY")
	d.stop()
	if _, err := os.Stat(filepath.Join(d.dir, "master-key")); !os.IsNotExist(err) {
		t.Errorf("a key was made that nobody asked for: %v", err)
	}
	d.refusesToStart(nil, "master-key is missing")
	d.refusesToStart([]string{"--master-key", "env:GATEHOUSE_E2E_NONE"}, "GATEHOUSE_E2E_NONE is not set")
	d.start()

	plugin := kmstest.Start(t)
	kms := "kms:unix://" + plugin.Socket
	again("--master-key", kms, "--old-master-key", "env:GATEHOUSE_E2E_KEY")
	again("--master-key", kms)
	plugin.Stop()
	d.remember() // the plugin is asked at the start only
	d.stop()
	d.refusesToStart([]string{"--master-key", kms}, "the KMS plugin at "+plugin.Socket+" does not answer", "start it")
	plugin.Listen(t)
	plugin.Set(func(b *kmstest.Behaviour) { b.Plain = []byte("garbage") })
	d.refusesToStart([]string{"--master-key", kms}, "gave 7 bytes for the data key")
	plugin.Set(func(b *kmstest.Behaviour) { b.Plain = nil })
	d.refusesToStart([]string{"--master-key", "env:GATEHOUSE_E2E_KEY"}, `sealed under the key "key-1" of a KMS plugin`)
	d.start()
	d.still(m)

	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(keyTwo+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again("--master-key", "file:"+file, "--old-master-key", kms)
	d.stop()
	d.refusesToStart([]string{"--master-key", kms}, "is not the master key of")
	d.start()
}

// TestReplicasShareTheirKeys runs two servers on one PostgreSQL database: a token of either is good at the other, whatever becomes of
// the keys, and without the master key there is no second one.
func TestReplicasShareTheirKeys(t *testing.T) {
	t.Setenv("GATEHOUSE_DATABASE", storetest.Postgres(t))
	t.Setenv("GATEHOUSE_E2E_KEY", keyOne)
	key := []string{"--master-key", "env:GATEHOUSE_E2E_KEY", "--public-url", "https://localhost:18443"}
	a := up(t, key...)
	stranger := &deployment{t: t, dir: filepath.Join(t.TempDir(), "data")}
	stranger.refusesToStart(nil, "master-key is missing", "sealed under the master key")
	if _, err := os.Stat(filepath.Join(stranger.dir, "master-key")); !os.IsNotExist(err) {
		t.Errorf("the refused server made a key: %v", err)
	}
	b := up(t, key...)

	const admin, graph = "admin@gatehouse.internal", "https://graph.microsoft.com/"
	password := a.adminPassword()
	check := func(when string) (kid string) {
		t.Helper()
		for _, pair := range [][2]*deployment{{a, b}, {b, a}} {
			got := pair[0].token(admin, password, azureCLI, graph+".default")
			header, _, _ := parts(t, got.Access)
			kid = header["kid"].(string)
			eventually(t, 5*time.Second, when+": the other replica takes the token", func() (bool, string) {
				status, body := pair[1].call("GET", graph+"v1.0/me", got.Access, nil)
				return status == 200 && slices.Contains(pair[1].kids(), kid), body
			})
		}
		return kid
	}
	first := check("at first")
	a.run("gatehouse", "keys", "--data-dir", a.dir, "--roll")
	eventually(t, 5*time.Second, "the other replica publishes the next key", func() (bool, string) {
		kids := b.kids()
		return len(kids) == 2, strings.Join(kids, " ")
	})
	if kid := check("after a roll"); kid != first {
		t.Errorf("the new key %s signs at once", kid)
	}
	b.run("gatehouse", "master-key", "--data-dir", b.dir, "--roll")
	check("after everything was encrypted anew")
	b.run("gatehouse", "keys", "--data-dir", b.dir, "--withdraw", first)
	eventually(t, 5*time.Second, "the withdrawn key is gone everywhere", func() (bool, string) {
		kids := a.kids()
		return !slices.Contains(kids, first), strings.Join(kids, " ")
	})
	if kid := check("after a withdrawal"); kid == first {
		t.Error("a withdrawn key signs")
	}
	if n := len(a.kids()); n != 1 {
		t.Errorf("%d keys are published, want the one that was published before", n)
	}
	b.stop()
	events, err := os.ReadFile(filepath.Join(b.dir, "audit.log"))
	if err != nil || !bytes.Contains(events, []byte(`"keys/withdraw","target":"`+first)) || !bytes.Contains(events, []byte(`"master-key/roll"`)) {
		t.Errorf("the audit log does not say what was done: %s (%v)", events, err)
	}
}
