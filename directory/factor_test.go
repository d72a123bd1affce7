package directory

import (
	"bytes"
	"encoding/base32"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// TestTOTPVectors are those of RFC 6238 appendix B, cut to six digits.
func TestTOTPVectors(t *testing.T) {
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got := TOTPCode([]byte("12345678901234567890"), time.Unix(at, 0)); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func TestTOTPURI(t *testing.T) {
	key := bytes.Repeat([]byte{0xff}, TOTPSeedSize)
	u, err := url.Parse(TOTPURI(key, "A & B?", "al ice+1@x.test"))
	must(t, err)
	back, err := base32.StdEncoding.DecodeString(u.Query().Get("secret"))
	must(t, err)
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/A & B?:al ice+1@x.test" || u.Query().Get("issuer") != "A & B?" || !bytes.Equal(back, key) {
		t.Errorf("%s", u)
	}
}

// enrolled is a user with an authenticator app.
func (w *world) enrolled(name string) (u *User, key []byte, recovery []string) {
	w.t.Helper()
	u = w.user(name)
	key = bytes.Repeat([]byte(name[:1]), TOTPSeedSize)
	id, err := NewID(w.random())
	must(w.t, err)
	recovery, err = w.AddTOTP(w.ctx, u.ID, id, key, TOTPCode(key, w.clock()), true)
	must(w.t, err)
	return w.State().User(u.ID), key, recovery
}

// TestTOTPOnce: a code is good for one step either way, and once.
func TestTOTPOnce(t *testing.T) {
	w := newWorld(t)
	u, key, _ := w.enrolled("alice")
	use := func(what string, steps int, want error) {
		t.Helper()
		if _, err := w.UseCode(w.ctx, u.ID, TOTPCode(key, w.clock().Add(time.Duration(steps)*30*time.Second))); !errors.Is(err, want) || (want == nil && err != nil) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	use("the one that enrolled", 0, ErrUsedCode)
	use("one before that", -1, ErrUsedCode)
	use("too early", 2, ErrWrongCode)
	use("a clock that is ahead", 1, nil)
	use("the same again", 1, ErrUsedCode)
	w.advance(90 * time.Second)
	use("too late", -2, ErrWrongCode)
	use("a clock that is behind", -1, nil)
	use("an older one after it", -1, ErrUsedCode)
	use("the present one", 0, nil)
	w.advance(30 * time.Second)
	code := TOTPCode(key, w.clock())
	if _, err := w.UseCode(w.ctx, u.ID, " "+code[:3]+" "+code[3:]+" "); err != nil {
		t.Errorf("with spaces: %v", err)
	}
}

// TestTOTPOnceAtOnce: of many that bring the same code at the same time, one gets in.
func TestTOTPOnceAtOnce(t *testing.T) {
	w := newWorld(t)
	u, key, _ := w.enrolled("alice")
	w.advance(time.Minute)
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { _, results[i] = w.UseCode(w.ctx, u.ID, TOTPCode(key, w.clock())) })
	}
	wg.Wait()
	in := 0
	for _, err := range results {
		if err == nil {
			in++
		} else if !errors.Is(err, ErrUsedCode) {
			t.Error(err)
		}
	}
	if in != 1 {
		t.Errorf("%d got in", in)
	}
}

// TestCodeLock: guesses lock the account's codes, wherever they come from, ever longer; a recovery code still works, and only a right
// code starts anew.
func TestCodeLock(t *testing.T) {
	w := newWorld(t)
	u, key, recovery := w.enrolled("alice")
	w.advance(time.Hour)
	wrong := func() error {
		_, err := w.UseCode(w.ctx, u.ID, TOTPCode([]byte("another seed"), w.clock()))
		return err
	}
	for i := range codeLimit {
		if err := wrong(); !errors.Is(err, ErrWrongCode) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if _, err := w.UseCode(w.ctx, u.ID, TOTPCode(key, w.clock())); !errors.Is(err, ErrCodeLocked) {
		t.Errorf("the right one while locked: %v", err)
	}
	day, tries := w.clock(), 0
	for w.clock().Sub(day) < 24*time.Hour {
		if err := wrong(); err == nil || errors.Is(err, ErrWrongCode) {
			tries++
		}
		w.advance(5 * time.Minute)
	}
	if tries < 10 || tries > 16 {
		t.Errorf("%d guesses in a day", tries)
	}
	_, err := w.UseCode(w.ctx, u.ID, recovery[0])
	must(t, err)
	_, err = w.UseCode(w.ctx, u.ID, TOTPCode(key, w.clock()))
	must(t, err)
}

func TestRecoveryCodes(t *testing.T) {
	w := newWorld(t)
	u, _, codes := w.enrolled("alice")
	if len(codes) != recoveryCodes || !regexp.MustCompile(`^([A-Z2-7]{4}-){3}[A-Z2-7]{4}$`).MatchString(codes[3]) || codes[0] == codes[1] {
		t.Fatalf("codes %q", codes)
	}
	kept, err := w.Feed.Secret(w.ctx, KindFactors, u.ID.String())
	must(t, err)
	if strings.Contains(string(kept.Body), strings.ReplaceAll(codes[3], "-", "")) {
		t.Error("a code is kept as it is")
	}
	if kind, err := w.UseCode(w.ctx, u.ID, strings.ToLower(codes[3])); err != nil || kind != "recovery" {
		t.Errorf("in small letters: %q, %v", kind, err)
	}
	for _, c := range []string{codes[3], "", "AAAA-AAAA-AAAA-AAAA", strings.Repeat("A", 1000)} {
		if _, err := w.UseCode(w.ctx, u.ID, c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %v", c, err)
		}
	}
	left, err := w.RecoveryLeft(w.ctx, u.ID)
	must(t, err)
	if left != recoveryCodes-1 {
		t.Errorf("%d left", left)
	}
	fresh, err := w.RenewRecovery(w.ctx, u.ID)
	must(t, err)
	if _, err := w.UseCode(w.ctx, u.ID, codes[4]); err == nil {
		t.Error("a code from before works")
	}
	_, err = w.UseCode(w.ctx, u.ID, fresh[4])
	must(t, err)
	_, err = w.RenewRecovery(w.ctx, w.user("bob").ID)
	wantKind(t, "codes for nothing", err, fault.Invalid)
}

// TestMFAState: enabled becomes enforced as soon as there is a second factor, whichever comes first.
func TestMFAState(t *testing.T) {
	w := newWorld(t)
	u, _, _ := w.enrolled("alice")
	state := func(u *User) string { return w.State().User(u.ID).PerUserMFA() }
	if state(u) != MFADisabled {
		t.Errorf("voluntary: %s", state(u))
	}
	must(t, w.SetMFA(w.ctx, as(w.admin.ID), u.ID, MFAEnabled))
	if state(u) != MFAEnforced {
		t.Errorf("enabled with a factor: %s", state(u))
	}
	bob := w.user("bob")
	must(t, w.SetMFA(w.ctx, as(w.admin.ID), bob.ID, MFAEnabled))
	if state(bob) != MFAEnabled {
		t.Errorf("enabled: %s", state(bob))
	}
	key := bytes.Repeat([]byte("b"), TOTPSeedSize)
	_, err := w.AddTOTP(w.ctx, bob.ID, bob.ID, key, TOTPCode(key, w.clock()), true)
	must(t, err)
	if state(bob) != MFAEnforced {
		t.Errorf("enrolled: %s", state(bob))
	}
	must(t, w.UpdateUser(w.ctx, as(w.admin.ID), bob.ID, func(u *User) { u.MFA, u.Methods = "", nil }))
	if state(bob) != MFAEnforced || !w.State().User(bob.ID).HasSecondFactor() {
		t.Error("an update of the user took the requirement or the factors away")
	}
	wantKind(t, "a state of no kind", w.SetMFA(w.ctx, as(w.admin.ID), bob.ID, "on"), fault.Invalid)
	wantKind(t, "by oneself", w.SetMFA(w.ctx, as(bob.ID), bob.ID, MFADisabled), fault.Denied)
	wantKind(t, "of another", w.RemoveMethod(w.ctx, as(bob.ID), u.ID, w.State().User(u.ID).Methods[0].ID), fault.Denied)
	must(t, w.RemoveMethod(w.ctx, as(w.admin.ID), bob.ID, bob.ID))
	if left, _ := w.RecoveryLeft(w.ctx, bob.ID); left != 0 || w.State().User(bob.ID).HasSecondFactor() || state(bob) != MFAEnforced {
		t.Error("the last method left something behind, or took the requirement along")
	}
	wantKind(t, "again", w.RemoveMethod(w.ctx, as(w.admin.ID), bob.ID, bob.ID), fault.NotFound)
}

func TestEnrolLimits(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice")
	key := bytes.Repeat([]byte("k"), TOTPSeedSize)
	add := func(n int, code string) error {
		_, err := w.AddTOTP(w.ctx, u.ID, MustParseID("00000000-0000-4000-8000-00000000000"+strconv.Itoa(n)), key, code, true)
		return err
	}
	code := TOTPCode(key, w.clock())
	if err := add(1, "000000"); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a wrong code: %v", err)
	}
	must(t, add(1, code))
	wantKind(t, "the same form again", add(1, code), fault.Conflict)
	for n := 2; n <= maxTOTP; n++ {
		must(t, add(n, code))
	}
	wantKind(t, "one too many", add(9, code), fault.Invalid)
	if _, err := w.AddPasskey(w.ctx, u.ID, Method{ID: u.ID, Name: "key"}, Passkey{Credential: []byte("c"), Record: []byte("{}")}, true); err != nil {
		t.Error(err)
	}
	_, err := w.AddPasskey(w.ctx, u.ID, Method{ID: w.admin.ID, Name: "key"}, Passkey{Credential: []byte("c"), Record: []byte("{}")}, true)
	wantKind(t, "the same passkey again", err, fault.Conflict)
	must(t, w.UpdateUser(w.ctx, System, u.ID, func(u *User) { u.Enabled = false }))
	_, err = w.UseCode(w.ctx, u.ID, code)
	wantKind(t, "a disabled account", err, fault.Denied)
	must(t, w.DeleteUser(w.ctx, System, u.ID))
	if keys, err := w.Passkeys(w.ctx, u.ID); err != nil || len(keys) > 0 {
		t.Errorf("after the user: %v, %v", keys, err)
	}
}

// TestPasskeyOnce: a challenge is answered once, and the count of signatures goes up only.
func TestPasskeyOnce(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice")
	_, err := w.AddPasskey(w.ctx, u.ID, Method{ID: u.ID, Name: "key"}, Passkey{Credential: []byte("c"), Count: 4, Record: []byte("{}")}, true)
	must(t, err)
	use := func(count uint32, challenge string) error {
		return w.UsePasskey(w.ctx, u.ID, Passkey{Credential: []byte("c"), Count: count, Record: []byte("{}")}, challenge, w.clock().Add(time.Minute))
	}
	must(t, use(5, "one"))
	for what, err := range map[string]error{"the same answer": use(5, "one"), "the same challenge": use(6, "one"), "the same count": use(5, "two"), "a lower count": use(3, "three"), "no count": use(0, "four")} {
		if !errors.Is(err, ErrPasskeyUsed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, use(6, "five"))
	w.advance(time.Hour)
	must(t, use(7, "six"))
	f, err := readFactors(w.ctx, w.Feed, u.ID)
	must(t, err)
	if len(f.Spent) != 1 {
		t.Errorf("%d challenges are remembered", len(f.Spent))
	}
	if err := w.UsePasskey(w.ctx, u.ID, Passkey{Credential: []byte("d"), Count: 9, Record: []byte("{}")}, "x", w.clock()); !fault.Is(err, fault.Denied) {
		t.Errorf("an unknown one: %v", err)
	}
	synced := w.user("synced")
	_, err = w.AddPasskey(w.ctx, synced.ID, Method{ID: synced.ID, Name: "key"}, Passkey{Credential: []byte("s"), Record: []byte("{}")}, true)
	must(t, err)
	for _, challenge := range []string{"a", "b"} {
		must(t, w.UsePasskey(w.ctx, synced.ID, Passkey{Credential: []byte("s"), Record: []byte("{}")}, challenge, w.clock().Add(time.Minute)))
	}
}

// TestSessionsEndInOrder: of two that end a user's sessions in the same instant, the second ends what began with the first.
func TestSessionsEndInOrder(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice")
	validFrom, err := w.ChangePassword(w.ctx, as(u.ID), password, "Fresh-Paint-11")
	must(t, err)
	if validFrom != w.State().User(u.ID).SessionsValidFrom {
		t.Error("not what was written")
	}
	must(t, w.ResetPassword(w.ctx, as(w.admin.ID), u.ID, "Other-Paint-12", false))
	if validFrom >= w.State().User(u.ID).SessionsValidFrom {
		t.Error("a session that began with the change outlives the reset")
	}
}

// FuzzSqueeze: whatever is typed is read without spaces, and never as a code of another length.
func FuzzSqueeze(f *testing.F) {
	for _, s := range []string{"123 456", "abcd-efgh", "", "１２３４５６", "\x00\xff", strings.Repeat("9", 70)} {
		f.Add(s)
	}
	fs := &factors{Salt: make([]byte, 32), Seeds: []seed{{Seed: make([]byte, TOTPSeedSize)}}, Recovery: [][]byte{make([]byte, 32)}}
	f.Fuzz(func(t *testing.T, typed string) {
		code := squeeze(typed)
		if len(code) > 3*64 || strings.ContainsAny(code, " -\t") {
			t.Errorf("%q is read as %q", typed, code)
		}
		state := *fs
		state.Recovery = slices.Clone(fs.Recovery)
		at := time.Unix(1111111111, 0)
		if kind, err := state.use(code, at); err == nil {
			if _, ok := totpMatch(fs.Seeds[0].Seed, code, at); !ok {
				t.Errorf("%q got in as %q", typed, kind)
			}
		}
	})
}
