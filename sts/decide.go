package sts

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Values of amr (RFC 8176, and what Entra says of passkeys).
const (
	amrPassword = "pwd"
	amrPasskey  = "fido"
	amrMFA      = "mfa" // two factors were shown, in whatever way
)

// perUserMFA stands where the id of a policy does in a claims challenge: the policy is the setting of the user.
const perUserMFA = "0b6b7e0e-9f0d-4f6c-9d51-1a5ae8f6c2d4"

// circumstances are what a sign-in is decided by.
type circumstances struct {
	user   *directory.User // who signs in, and has the factors; nil: the client speaks for itself
	as     *directory.User // of a guest the account in the tenant, which may demand one of its own; nil: user
	amr    []string        // how the user proved who they are
	target target          // what the token will be for; zero: not known yet
	wanted bool            // the application itself asks for a second factor
	page   bool            // a person is there who can be asked
}

// decide says whether a sign-in suffices for a token, or what is missing. Every grant and every page asks it, after the user and the
// resource are known and before anything is written: whatever else is to be demanded of sign-ins joins here.
func decide(c circumstances) error {
	if c.user == nil || slices.Contains(c.amr, amrMFA) {
		return nil
	}
	states := []string{c.user.PerUserMFA()}
	if c.as != nil {
		states = append(states, c.as.PerUserMFA())
	}
	switch {
	case c.wanted, slices.Contains(states, directory.MFAEnforced):
	case slices.Contains(states, directory.MFAEnabled) && (c.page || c.user.HasSecondFactor()): // elsewhere there is nobody to enrol yet
	default:
		return nil
	}
	resource := "this application"
	if c.target.resource != nil {
		resource = c.target.resource.AppID.String()
	}
	refused := fail(50079, resource)
	if c.user.HasSecondFactor() {
		refused = fail(50076, resource)
	}
	refused.claims = `{"access_token":{"capolids":{"essential":true,"values":["` + perUserMFA + `"]}}}`
	return refused
}

// decide holds a request at the token endpoint against the rules.
func (x *exchange) decide() error {
	if x.subject.user == nil {
		return nil
	}
	wanted, err := wantsMFA(x.form)
	if err != nil {
		return err
	}
	return decide(circumstances{user: x.subject.home, as: x.subject.user, amr: x.subject.session.AMR, target: x.target, wanted: wanted})
}

// decide holds a sign-in on a page against the rules.
func (s *Server) decide(v *visit, user *directory.User, amr []string, t target) error {
	c := circumstances{user: user, amr: amr, target: t, page: true}
	dir := directory.In(s.Feed.View())
	if tenant := v.tenant(dir); tenant != nil {
		c.as = dir.GuestOf(tenant.ID, user)
	}
	switch v.on {
	case devicePage:
		c.wanted = v.flow.MFA
	case signInPage:
		c.wanted = v.state.Request.MFA
	}
	return decide(c)
}

// claimRequest is how one claim is asked for (OpenID Connect Core 1.0 section 5.5.1).
type claimRequest struct {
	Essential bool              `json:"essential"`
	Value     json.RawMessage   `json:"value"`
	Values    []json.RawMessage `json:"values"`
}

// texts are the values that are asked for, those that are texts.
func (c *claimRequest) texts() (out []string) {
	for _, raw := range append(c.Values, c.Value) {
		var text string
		if json.Unmarshal(raw, &text) == nil && text != "" {
			out = append(out, text)
		}
	}
	return out
}

// wantsMFA reports whether a request asks for a second factor: in the claims parameter by amr, acrs or what our own claims challenge
// says; or by acr_values or amr_values. An essential acr that this server cannot give is refused (OpenID Connect Core 1.0 section 5.5.1.1).
func wantsMFA(f form) (bool, error) {
	wanted := slices.ContainsFunc(strings.Fields(f["acr_values"]+" "+f["amr_values"]), meansMFA)
	text := f["claims"]
	if text == "" {
		return wanted, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil || object == nil {
		return false, fail(90013, "claims is not a JSON object")
	}
	for _, where := range []string{"access_token", "id_token", "userinfo"} {
		var claims map[string]json.RawMessage
		if raw := object[where]; raw != nil && json.Unmarshal(raw, &claims) != nil {
			return false, fail(90013, "claims."+where+" is not an object")
		}
		for _, name := range []string{"acr", "acrs", "amr", "capolids"} {
			var c *claimRequest
			if raw := claims[name]; raw == nil {
				continue
			} else if json.Unmarshal(raw, &c) != nil {
				return false, fail(90013, "claims."+where+"."+name+" is neither null nor an object with essential, value or values")
			}
			switch values := c.orEmpty().texts(); {
			case name == "acrs", name == "capolids", slices.ContainsFunc(values, meansMFA):
				wanted = true
			case name == "acr" && c.orEmpty().Essential && len(values) > 0 && !slices.Contains(values, "1"):
				return false, fail(90013, "claims."+where+".acr asks for '"+clip(strings.Join(values, " "), 80)+"', which this server has not")
			}
		}
	}
	return wanted, nil
}

func (c *claimRequest) orEmpty() *claimRequest {
	if c == nil {
		return new(claimRequest)
	}
	return c
}

// meansMFA reports whether a value of acr or amr asks for a second factor: mfa, ngcmfa (a fresh one), possessionorinherence, or an
// authentication context (c1 to c99).
func meansMFA(value string) bool {
	switch value {
	case amrMFA, "ngcmfa", "possessionorinherence":
		return true
	}
	digits, ok := strings.CutPrefix(value, "c")
	return ok && len(digits) > 0 && len(digits) <= 2 && strings.Trim(digits, "0123456789") == ""
}
