package sts

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// relyingParty is this server towards passkeys: the host of the public URL, whose pages alone may ask for them. It is nil where
// passkeys cannot be had: an address is no relying party id (WebAuthn section 4, "RP ID").
func (s *Server) relyingParty() (*webauthn.WebAuthn, error) {
	at, err := url.Parse(s.Authorities.Public)
	if err != nil {
		return nil, fmt.Errorf("the public URL: %w", err)
	}
	if _, err := netip.ParseAddr(at.Hostname()); err == nil || at.Hostname() == "" {
		return nil, nil
	}
	discoverable := true
	return webauthn.New(&webauthn.Config{
		RPID: at.Hostname(), RPDisplayName: "Gatehouse", RPOrigins: []string{at.Scheme + "://" + at.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: &discoverable, ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
	})
}

// holder is a user as WebAuthn knows them: by the object id, which says nothing of a person.
type holder struct {
	user *directory.User
	keys []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte                         { return h.user.ID[:] }
func (h *holder) WebAuthnName() string                       { return h.user.UPN }
func (h *holder) WebAuthnDisplayName() string                { return h.user.DisplayName }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

// holderOf reads a user's passkeys.
func (s *Server) holderOf(ctx context.Context, user *directory.User) (*holder, error) {
	kept, err := s.Directory.Passkeys(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	h := &holder{user: user}
	for _, k := range kept {
		var c webauthn.Credential
		if err := json.Unmarshal(k.Record, &c); err != nil {
			return nil, fmt.Errorf("a passkey of %s: %w", user.ID, err)
		}
		c.Authenticator.SignCount = k.Count
		h.keys = append(h.keys, c)
	}
	return h, nil
}

// askPasskey begins a sign-in with a passkey: of a user, or of whoever the passkey says, when user is nil. It returns what the page's
// script needs; "" when no passkey can be used.
func (s *Server) askPasskey(ctx context.Context, v *visit, user *directory.User) (string, error) {
	v.state.Ceremony = nil
	rp, err := s.relyingParty()
	if rp == nil || err != nil {
		return "", err
	}
	var options *protocol.CredentialAssertion
	if user == nil {
		options, v.state.Ceremony, err = rp.BeginDiscoverableLogin()
	} else {
		h, err2 := s.holderOf(ctx, user)
		if err2 != nil || len(h.keys) == 0 {
			return "", err2
		}
		options, v.state.Ceremony, err = rp.BeginLogin(h)
	}
	if err != nil {
		return "", fmt.Errorf("begin a sign-in with a passkey: %w", err)
	}
	return scriptJSON(options.Response)
}

// takePasskey checks the answer to askPasskey, and returns whose it is: of's, or anybody's when of is nil. What was asked of one is no answer to
// what is asked of the other.
func (s *Server) takePasskey(ctx context.Context, v *visit, of *directory.User) (*directory.User, error) {
	rp, err := s.relyingParty()
	if err != nil {
		return nil, err
	}
	if rp == nil || v.state.Ceremony == nil || (of == nil) != (len(v.state.Ceremony.UserID) == 0) {
		return nil, fail(500121, "no passkey was asked for")
	}
	answer, err := protocol.ParseCredentialRequestResponseBytes([]byte(v.form["credential"]))
	if err != nil {
		return nil, refusedPasskey(err)
	}
	dir := directory.In(s.Feed.View())
	var h *holder
	var key *webauthn.Credential
	if ceremony := *v.state.Ceremony; of != nil {
		if h, err = s.holderOf(ctx, of); err != nil {
			return nil, err
		}
		key, err = rp.ValidateLogin(h, ceremony, answer)
	} else {
		_, key, err = rp.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
			var id directory.ID
			if len(handle) != len(id) {
				return nil, fail(50126)
			}
			copy(id[:], handle)
			user := dir.User(id)
			if user == nil {
				return nil, fail(50126)
			}
			h, err = s.holderOf(ctx, user)
			return h, err
		}, ceremony, answer)
	}
	if err != nil {
		return nil, refusedPasskey(err)
	}
	record, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	// What was signed, and not what the library makes of it: an answer whose count does not go up must not pass.
	used := directory.Passkey{Credential: key.ID, Count: answer.Response.AuthenticatorData.Counter, Record: record}
	if err := s.Directory.UsePasskey(ctx, h.user.ID, used, v.state.Ceremony.Challenge, time.Unix(v.state.Until, 0)); err != nil {
		if fault.Is(err, fault.Denied) {
			return h.user, fail(500121, strings.TrimSuffix(fault.From(err).Message, "."))
		}
		return nil, err
	}
	return h.user, nil
}

// newPasskey begins the registration of a passkey; "" when there can be none.
func (s *Server) newPasskey(ctx context.Context, v *visit, user *directory.User) (string, error) {
	v.state.Ceremony = nil
	rp, err := s.relyingParty()
	if rp == nil || err != nil {
		return "", err
	}
	h, err := s.holderOf(ctx, user)
	if err != nil {
		return "", err
	}
	options, ceremony, err := rp.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.keys).CredentialDescriptors()))
	if err != nil {
		return "", fmt.Errorf("begin the registration of a passkey: %w", err)
	}
	v.state.Ceremony = ceremony
	return scriptJSON(options.Response)
}

// addPasskey checks the answer to newPasskey and keeps the passkey.
func (s *Server) addPasskey(ctx context.Context, v *visit, user *directory.User) (recovery []string, err error) {
	rp, err := s.relyingParty()
	if err != nil {
		return nil, err
	}
	if rp == nil || v.state.Ceremony == nil {
		return nil, fail(500121, "no passkey was asked for")
	}
	answer, err := protocol.ParseCredentialCreationResponseBytes([]byte(v.form["credential"]))
	if err != nil {
		return nil, refusedPasskey(err)
	}
	key, err := rp.CreateCredential(&holder{user: user}, *v.state.Ceremony, answer)
	if err != nil {
		return nil, refusedPasskey(err)
	}
	record, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	m := directory.Method{ID: v.state.Method, Name: passkeyName(key), AAGUID: aaguid(key.Authenticator.AAGUID)}
	return s.Directory.AddPasskey(ctx, user.ID, m, directory.Passkey{Credential: key.ID, Count: key.Authenticator.SignCount, Record: record}, slices.Contains(v.state.AMR, amrMFA))
}

// passkeyName tells a key to carry along from a passkey of a device or an account.
func passkeyName(key *webauthn.Credential) string {
	for _, t := range key.Transport {
		if t == protocol.USB || t == protocol.NFC {
			return "Security key"
		}
	}
	return "Passkey"
}

// aaguid writes the model of an authenticator as a GUID; "" when it does not say.
func aaguid(raw []byte) string {
	h := hex.EncodeToString(raw)
	if len(h) != 32 || strings.Trim(h, "0") == "" {
		return ""
	}
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// refusedPasskey says no. Why exactly is for the log alone.
func refusedPasskey(err error) error {
	f := fail(500121, "the passkey was not accepted")
	f.fault = f.fault.Wrap(err)
	return f
}

func scriptJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
