package graph

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// certificates makes the property of a list of certificates (Microsoft Graph keyCredential). A list that is set takes the place of the
// one before; an entry of it may name a certificate that is there by its keyId alone, as az sends back what it has read.
func certificates[T any](name string, field func(*T) *[]directory.KeyCredential) property {
	p := computed(name, complexValue, func(_ *directory.State, e *T) any { return keyCredentials(*field(e)) })
	p.set = func(entity any, raw json.RawMessage) error {
		var given []body
		if err := decode(raw, &given, name, "a list of keyCredential objects"); err != nil {
			return err
		}
		at := field(entity.(*T))
		wanted := []directory.KeyCredential{}
		for _, b := range given {
			k, err := b.keyCredential(*at)
			if err != nil {
				return err
			}
			wanted = append(wanted, k)
		}
		*at = wanted
		return nil
	}
	return p
}

// keyCredential reads one certificate of a list. there are those that the object has.
func (b body) keyCredential(there []directory.KeyCredential) (k directory.KeyCredential, err error) {
	if raw := b.take("keyId"); raw != nil && !isNull(raw) {
		if err := decode(raw, &k.KeyID, "keyCredentials.keyId", "a GUID"); err != nil {
			return k, err
		}
	}
	if i := slices.IndexFunc(there, func(o directory.KeyCredential) bool { return o.KeyID == k.KeyID }); i >= 0 {
		k = there[i]
	}
	for name, raw := range b {
		at := "keyCredentials." + clip(name, 40)
		switch strings.ToLower(name) {
		case "key":
			err = readCertificate(raw, &k)
		case "displayname":
			err = decode(raw, &k.DisplayName, at, "a string or null")
		case "startdatetime":
			err = decode(raw, &k.Start, at, "a time such as 2026-01-31T00:00:00Z")
		case "enddatetime":
			err = decode(raw, &k.End, at, "a time such as 2026-01-31T00:00:00Z")
		case "type":
			err = only(raw, at, "AsymmetricX509Cert", "a certificate is all that a key can be")
		case "usage":
			err = only(raw, at, "Verify", "this server never holds an application's private key")
		case "@odata.type", "customkeyidentifier": // the thumbprint, which the server computes
		default:
			if !isNull(raw) {
				err = errBadRequest("%s cannot be set; it is not a property of keyCredential.", at).At("keyCredentials")
			}
		}
		if err != nil {
			return k, err
		}
	}
	return k, nil
}

// readCertificate reads base64 of DER. null keeps the certificate: answers show none.
func readCertificate(raw json.RawMessage, k *directory.KeyCredential) error {
	if isNull(raw) {
		return nil
	}
	var text string
	if err := decode(raw, &text, "keyCredentials.key", "a string"); err != nil {
		return err
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)) // line breaks are passed over
	if err != nil {
		return errBadRequest("keyCredentials.key is not base64 (%s); give the public certificate, DER in base64.", err).At("keyCredentials")
	}
	k.Certificate = der
	return nil
}

// only accepts one value, in any letter case.
func only(raw json.RawMessage, name, value, why string) error {
	var v string
	if err := decode(raw, &v, name, "a string"); err != nil {
		return err
	}
	if !strings.EqualFold(v, value) {
		return errBadRequest("%s is '%s'; only '%s' is supported: %s.", name, clip(v, 80), value, why).At("keyCredentials")
	}
	return nil
}

func keyCredentials(list []directory.KeyCredential) []members {
	out := []members{}
	for i := range list {
		k := &list[i]
		var name any
		if k.DisplayName != "" {
			name = k.DisplayName
		}
		out = append(out, members{
			{"customKeyIdentifier", fmt.Sprintf("%X", k.SHA1())}, {"displayName", name}, {"endDateTime", k.End.UTC().Truncate(time.Second)},
			{"key", nil}, {"keyId", k.KeyID}, {"startDateTime", k.Start.UTC().Truncate(time.Second)}, {"type", "AsymmetricX509Cert"}, {"usage", "Verify"},
		})
	}
	return out
}
