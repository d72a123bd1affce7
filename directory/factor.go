package directory

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// KindFactors is a secret: the second factors of a user, under the user's id.
const KindFactors feed.Kind = "directory/factors"

// States of User.MFA (Microsoft Graph strongAuthenticationRequirements).
const (
	MFADisabled = "disabled" // a second factor is asked for only when an application wants one
	MFAEnabled  = "enabled"  // the next sign-in on a page leads through enrolment, which makes it enforced
	MFAEnforced = "enforced" // a second factor is always asked for
)

// Kinds of Method.
const (
	MethodTOTP    = "totp"
	MethodPasskey = "passkey"
)

// Limits of what one user may enrol. Recovery codes carry 80 bits, so they need no lock.
const (
	maxTOTP       = 5
	maxPasskeys   = 10
	recoveryCodes = 10
	recoveryBytes = 10
)

// Wrong codes: after codeLimit of them in a row each further one locks for twice as long as the one before. Only a right code
// starts anew, so that patience buys nothing: three codes in a million are right at a time, and about six a day can be tried.
const (
	codeLimit     = 10
	codeLock      = time.Minute
	codeDoublings = 8
)

// Method is a second factor as everybody may know of it.
type Method struct {
	ID      ID        `json:"id"`
	Kind    string    `json:"kind"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"`
	AAGUID  string    `json:"aaguid,omitempty"` // the model of a passkey's authenticator, if it said so
}

// Passkey is a WebAuthn credential.
type Passkey struct {
	Method     ID              `json:"method"`
	Credential []byte          `json:"credential"` // its id
	Count      uint32          `json:"count"`      // of signatures, as far as it counts them
	Record     json.RawMessage `json:"record"`     // the whole of it, as whoever checks signatures keeps it
}

// factors is the body of the secret.
type factors struct {
	Salt     []byte    `json:"salt"` // of the hashes below
	Seeds    []seed    `json:"seeds,omitempty"`
	Passkeys []Passkey `json:"passkeys,omitempty"`
	Recovery [][]byte  `json:"recovery,omitempty"` // hashes of the codes that are left
	Wrong    int       `json:"wrong,omitempty"`    // codes in a row
	Until    int64     `json:"until,omitempty"`    // no code is looked at before, Unix nanoseconds
	Spent    []spent   `json:"spent,omitempty"`    // challenges that were answered and are not too old yet
}

type seed struct {
	Method ID     `json:"method"`
	Seed   []byte `json:"seed"`
	Step   int64  `json:"step"` // of the last code that was used: it and those before are worth nothing (RFC 6238 section 5.2)
}

type spent struct {
	Sum   []byte `json:"sum"`
	Until int64  `json:"until"` // Unix seconds
}

// Errors of second factors.
var (
	ErrWrongCode   = fault.New(fault.Invalid, "That code is not right. Wait for the next one that the app shows and try again.")
	ErrUsedCode    = fault.New(fault.Invalid, "That code has been used already. Wait for the next one that the app shows.")
	ErrCodeLocked  = fault.New(fault.Throttled, "There were too many wrong codes for this account. Wait a while, or use a passkey or a recovery code.")
	ErrPasskeyUsed = fault.New(fault.Denied, "The passkey was not accepted: its answer has been used before, or there are two copies of it. Ask an administrator to remove it.")
	errNoFactor    = fault.New(fault.Denied, "The account is disabled, or this sign-in method was removed.")
)

// HasSecondFactor reports whether a user has enrolled one.
func (u *User) HasSecondFactor() bool { return len(u.Methods) > 0 }

// PerUserMFA is the state of per-user multi-factor authentication: disabled unless it was set.
func (u *User) PerUserMFA() string { return cmp.Or(u.MFA, MFADisabled) }

// SetMFA sets whether a user must use a second factor, as an administrator does.
func (d *Directory) SetMFA(ctx context.Context, by Actor, id ID, state string) error {
	if !slices.Contains([]string{MFADisabled, MFAEnabled, MFAEnforced}, state) {
		return fault.New(fault.Invalid, "perUserMfaState is %.40q; it may be disabled, enabled or enforced.", state).At("perUserMfaState").WithCode("Request_BadRequest")
	}
	return d.update(ctx, by, func(p *plan) error {
		old, err := p.passwordFor(by, id)
		if err != nil {
			return err
		}
		user := *old
		user.MFA = state
		user.enforceEnrolled()
		p.put(KindUser, id.String(), user.Tenant, &user)
		return nil
	})
}

// enforceEnrolled makes enabled enforced once there is something to enforce.
func (u *User) enforceEnrolled() {
	if u.MFA == MFAEnabled && u.HasSecondFactor() {
		u.MFA = MFAEnforced
	}
}

// AddTOTP enrols an authenticator app with a seed that the server made, given a code that the app shows. The id makes a second
// enrolment of the same form one. It returns recovery codes when these are the user's first second factor.
func (d *Directory) AddTOTP(ctx context.Context, user, id ID, key []byte, code string, shown bool) (recovery []string, err error) {
	return d.enrol(ctx, user, Method{ID: id, Kind: MethodTOTP, Name: "Authenticator app"}, shown, func(p *plan, f *factors) error {
		step, ok := totpMatch(key, squeeze(code), p.now)
		if !ok || len(key) != TOTPSeedSize {
			return ErrWrongCode
		}
		f.Seeds = append(f.Seeds, seed{Method: id, Seed: key, Step: step})
		return nil
	})
}

// AddPasskey enrols a passkey whose registration has been checked.
func (d *Directory) AddPasskey(ctx context.Context, user ID, m Method, k Passkey, shown bool) (recovery []string, err error) {
	m.Kind, k.Method = MethodPasskey, m.ID
	return d.enrol(ctx, user, m, shown, func(_ *plan, f *factors) error {
		if slices.ContainsFunc(f.Passkeys, func(o Passkey) bool { return bytes.Equal(o.Credential, k.Credential) }) {
			return fault.New(fault.Conflict, "This passkey has been added already.")
		}
		f.Passkeys = append(f.Passkeys, k)
		return nil
	})
}

// enrol adds a method in one write: to the secret, and to the list that everybody sees. Who has a second factor must have shown it, also if the
// first one was added just now: else a password would do to add another.
func (d *Directory) enrol(ctx context.Context, id ID, m Method, shown bool, add func(*plan, *factors) error) (recovery []string, err error) {
	if err := checkText("name", m.Name, true, 64); err != nil {
		return nil, err
	}
	err = d.update(ctx, System, func(p *plan) error {
		user, f, err := p.factorsOf(ctx, id)
		if err != nil {
			return err
		}
		if user.HasSecondFactor() && !shown {
			return fault.New(fault.Denied, "This account has a second factor; show it before adding another.")
		}
		limit := map[string]int{MethodTOTP: maxTOTP, MethodPasskey: maxPasskeys}[m.Kind]
		same := 0
		for _, o := range user.Methods {
			if o.ID == m.ID {
				return fault.New(fault.Conflict, "This sign-in method has been added already.")
			}
			if o.Kind == m.Kind {
				same++
			}
		}
		if same >= limit {
			return fault.New(fault.Invalid, "There are %d of these already, which is as many as an account can have. Remove one first.", same)
		}
		if err := add(p, f); err != nil {
			return err
		}
		recovery = nil
		if !user.HasSecondFactor() {
			if recovery, err = f.newRecovery(p.rand); err != nil {
				return err
			}
		}
		m.Created = p.now
		user.Methods = append(slices.Clone(user.Methods), m)
		user.enforceEnrolled()
		p.put(KindUser, id.String(), user.Tenant, user)
		return p.putFactors(user, f)
	})
	return recovery, err
}

// RenewRecovery replaces a user's recovery codes and returns the new ones.
func (d *Directory) RenewRecovery(ctx context.Context, id ID) (codes []string, err error) {
	err = d.update(ctx, System, func(p *plan) error {
		user, f, err := p.factorsOf(ctx, id)
		if err != nil {
			return err
		}
		if !user.HasSecondFactor() {
			return fault.New(fault.Invalid, "Recovery codes stand in for an authenticator app or a passkey; add one of these first.")
		}
		if codes, err = f.newRecovery(p.rand); err != nil {
			return err
		}
		return p.putFactors(user, f)
	})
	return codes, err
}

// RemoveMethod removes a second factor: one's own, or as an administrator. Recovery codes go with the last one.
func (d *Directory) RemoveMethod(ctx context.Context, by Actor, id, method ID) error {
	return d.update(ctx, by, func(p *plan) error {
		if by.ID != id {
			if _, err := p.passwordFor(by, id); err != nil {
				return err
			}
		}
		user, f, err := p.factorsFor(ctx, id)
		if err != nil {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(user.Methods), func(m Method) bool { return m.ID == method })
		if len(rest) == len(user.Methods) {
			return ErrNoObject(method.String())
		}
		f.Seeds = slices.DeleteFunc(f.Seeds, func(s seed) bool { return s.Method == method })
		f.Passkeys = slices.DeleteFunc(f.Passkeys, func(k Passkey) bool { return k.Method == method })
		user.Methods = rest
		p.put(KindUser, id.String(), user.Tenant, user)
		if len(rest) == 0 {
			p.putSecret(KindFactors, id.String(), user.Tenant, nil, noExpiry)
			return nil
		}
		return p.putFactors(user, f)
	})
}

// UseCode uses a code of an authenticator app or a recovery code up. A wrong code counts, and is an error.
func (d *Directory) UseCode(ctx context.Context, id ID, typed string) (kind string, err error) {
	var refused error
	code := squeeze(typed)
	err = d.update(ctx, System, func(p *plan) error {
		user, f, err := p.factorsOf(ctx, id)
		if err != nil {
			return err
		}
		kind, refused = f.use(code, p.now)
		if refused != nil && refused != ErrWrongCode {
			return nil
		}
		return p.putFactors(user, f)
	})
	return kind, cmp.Or(err, refused)
}

// use takes a code if it is right.
func (f *factors) use(code string, now time.Time) (kind string, refused error) {
	if len(code) != totpDigits { // a recovery code, or nothing
		sum := f.hash(code)
		for i, kept := range f.Recovery {
			if subtle.ConstantTimeCompare(kept, sum) == 1 {
				f.Recovery = slices.Delete(f.Recovery, i, i+1)
				f.Wrong, f.Until = 0, 0
				return "recovery", nil
			}
		}
		return "", fault.New(fault.Invalid, "That is not one of your recovery codes, or it has been used.")
	}
	if now.UnixNano() < f.Until {
		return "", ErrCodeLocked
	}
	for i := range f.Seeds {
		s := &f.Seeds[i]
		if step, ok := totpMatch(s.Seed, code, now); ok {
			if step <= s.Step {
				return "", ErrUsedCode
			}
			s.Step, f.Wrong, f.Until = step, 0, 0
			return MethodTOTP, nil
		}
	}
	if f.Wrong++; f.Wrong >= codeLimit {
		f.Until = now.Add(codeLock << min(f.Wrong-codeLimit, codeDoublings)).UnixNano()
	}
	return "", ErrWrongCode
}

// Passkeys returns a user's passkeys.
func (d *Directory) Passkeys(ctx context.Context, id ID) ([]Passkey, error) {
	f, err := readFactors(ctx, d.Feed, id)
	if err != nil {
		return nil, err
	}
	return f.Passkeys, nil
}

// RecoveryLeft returns how many recovery codes a user has left.
func (d *Directory) RecoveryLeft(ctx context.Context, id ID) (int, error) {
	f, err := readFactors(ctx, d.Feed, id)
	if err != nil {
		return 0, err
	}
	return len(f.Recovery), nil
}

// UsePasskey takes the answer of a passkey, whose signature has been checked, once: not when the challenge has been answered before,
// and not when the count of signatures does not go up (WebAuthn section 7.2, step 22). Until is when the challenge ends by itself.
func (d *Directory) UsePasskey(ctx context.Context, id ID, k Passkey, challenge string, until time.Time) error {
	sum := sha256.Sum256([]byte(challenge))
	return d.update(ctx, System, func(p *plan) error {
		user, f, err := p.factorsOf(ctx, id)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(f.Passkeys, func(o Passkey) bool { return bytes.Equal(o.Credential, k.Credential) })
		switch {
		case at < 0:
			return errNoFactor
		case slices.ContainsFunc(f.Spent, func(s spent) bool { return bytes.Equal(s.Sum, sum[:]) }):
			return ErrPasskeyUsed
		case (k.Count > 0 || f.Passkeys[at].Count > 0) && k.Count <= f.Passkeys[at].Count:
			return ErrPasskeyUsed
		}
		f.Passkeys[at].Count, f.Passkeys[at].Record = k.Count, k.Record
		f.Spent = slices.DeleteFunc(f.Spent, func(s spent) bool { return s.Until <= p.now.Unix() })
		f.Spent = append(f.Spent, spent{sum[:], until.Unix()})
		return p.putFactors(user, f)
	})
}

// factorsOf returns a copy of an enabled user, and the user's second factors.
func (p *plan) factorsOf(ctx context.Context, id ID) (*User, *factors, error) {
	if u := p.User(id); u == nil || !u.Enabled {
		return nil, nil, errNoFactor
	}
	return p.factorsFor(ctx, id)
}

func (p *plan) factorsFor(ctx context.Context, id ID) (*User, *factors, error) {
	old := p.User(id)
	if old == nil {
		return nil, nil, ErrNoObject(id.String())
	}
	user := *old
	f, err := readFactors(ctx, p.secrets, id)
	return &user, f, err
}

func readFactors(ctx context.Context, secrets feed.Secrets, id ID) (*factors, error) {
	f := new(factors)
	kept, err := secrets.Secret(ctx, KindFactors, id.String())
	switch {
	case errors.Is(err, feed.ErrNoSecret):
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("read the second factors of %s: %w", id, err)
	}
	if err := json.Unmarshal(kept.Body, f); err != nil {
		return nil, fmt.Errorf("the second factors of %s: %w", id, err)
	}
	return f, nil
}

func (p *plan) putFactors(u *User, f *factors) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	p.putSecret(KindFactors, u.ID.String(), u.Tenant, body, noExpiry)
	return nil
}

var recoveryText = base32.StdEncoding.WithPadding(base32.NoPadding)

// newRecovery makes recovery codes, of which only hashes stay.
func (f *factors) newRecovery(random io.Reader) ([]string, error) {
	if f.Salt == nil {
		f.Salt = make([]byte, sha256.Size)
		if _, err := io.ReadFull(random, f.Salt); err != nil {
			return nil, fmt.Errorf("make a salt: %w", err)
		}
	}
	var codes []string
	f.Recovery = nil
	for range recoveryCodes {
		raw := make([]byte, recoveryBytes)
		if _, err := io.ReadFull(random, raw); err != nil {
			return nil, fmt.Errorf("make a recovery code: %w", err)
		}
		text := recoveryText.EncodeToString(raw)
		f.Recovery = append(f.Recovery, f.hash(text))
		codes = append(codes, text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:])
	}
	return codes, nil
}

func (f *factors) hash(code string) []byte { return HashSecret(f.Salt, "recovery code", code) }

// squeeze reads a code as people type it: in any letter case, with spaces or dashes. What is longer than any code is none.
func squeeze(typed string) string {
	if len(typed) > 64 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t', '\u00a0':
			return -1
		}
		return r
	}, strings.ToUpper(typed))
}
