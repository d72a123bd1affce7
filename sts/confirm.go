package sts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Confirmation is the claim cnf of a token that is bound to a key (RFC 7800): who presents the token must prove, each time, that they
// have the key's private half.
type Confirmation struct {
	KeyID   string `json:"kid"`               // thumbprint of the key: RFC 7638 with SHA-256, base64url
	Storage string `json:"xms_ksl,omitempty"` // where the client says that it keeps the key: "sw", in software
}

// maxConfirmation is the longest req_cnf that is read, in bytes. Clients send 96.
const maxConfirmation = 512

// confirmationOf reads what a request says about the key that its token shall be bound to; nil: about none. token_type=pop and req_cnf
// come together, as MSAL sends them. One without the other is refused: a bearer token in the place of a bound one would be a downgrade.
func confirmationOf(f form) (*Confirmation, error) {
	kind := f["token_type"]
	switch {
	case strings.EqualFold(kind, "pop"):
		text, err := f.need("req_cnf")
		if err != nil {
			return nil, err
		}
		c, err := parseConfirmation(text)
		if err != nil {
			return nil, fail(90013, "req_cnf "+err.Error())
		}
		return c, nil
	case kind != "" && !strings.EqualFold(kind, "Bearer"):
		return nil, fail(90013, "token_type '"+clip(kind, 40)+"' is not supported; use pop or Bearer")
	case f["req_cnf"] != "":
		return nil, fail(90013, "req_cnf needs token_type=pop")
	}
	return nil, nil
}

// parseConfirmation reads a req_cnf: the base64url text of a JSON object whose kid is the thumbprint of the key.
func parseConfirmation(text string) (*Confirmation, error) {
	if len(text) > maxConfirmation {
		return nil, fmt.Errorf("has %d bytes, and at most %d are read", len(text), maxConfirmation)
	}
	raw, err := decodeSegment(text)
	if err != nil {
		return nil, errors.New("is not base64url without padding")
	}
	c := new(Confirmation)
	if err := readMembers(raw, map[string]any{"kid": &c.KeyID, "xms_ksl": &c.Storage}); err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if thumb, err := decodeSegment(c.KeyID); err != nil || len(thumb) != thumbprintSize {
		return nil, errors.New(`must name the key by its SHA-256 thumbprint (RFC 7638): {"kid": "43 characters of base64url"}`)
	}
	if c.Storage != "" && c.Storage != "sw" {
		return nil, fmt.Errorf("has xms_ksl '%s'; only sw is known", clip(c.Storage, 20))
	}
	return c, nil
}

// decodeSegment decodes base64url as JOSE has it: no padding, no line breaks, no second spelling (RFC 7515 section 2).
func decodeSegment(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which Go's decoder would pass over
		return nil, base64.CorruptInputError(0)
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}
