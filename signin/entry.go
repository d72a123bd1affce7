// Package signin is the sign-in log: one entry for every attempt to sign in or to get a token (Microsoft Graph signIn).
//
//	Record ▶ quota ▶ queue ── one writer, in batches ──▶ Store
//	Find ▶ first writes what is queued ────────────────▶ Store
//
// Who records an attempt never waits for the database. Entries reach it within a fraction of a second, and at Close; whoever
// asks sees every attempt that ended before the question, of this process. An entry's id holds its time, so that the order of
// the ids is that of the log, a page begins at an id, and what is too old is a range of ids.
package signin

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Kind says who signed in, and whether they did something for it (Microsoft Graph signInEventTypes).
type Kind string

// Kinds of entries.
const (
	InteractiveUser    Kind = "interactiveUser" // a person showed a password, a second factor or a browser's session
	NonInteractiveUser Kind = "nonInteractiveUser"
	ServicePrincipal   Kind = "servicePrincipal"
	ManagedIdentity    Kind = "managedIdentity"
)

// ID names an entry. Its first bytes are the time, so that ids are in the order of the log (RFC 9562 section 5.7).
type ID [16]byte

// Compare orders ids.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// IsZero reports whether the id is unset.
func (id ID) IsZero() bool { return id == ID{} }

// Entry is one attempt. Whatever is not known is empty; ids of others are GUIDs in their usual form. It never holds a secret, a token or
// a password.
type Entry struct {
	ID     ID     `json:"-"` // made by Record
	Tenant string `json:"-"` // whose log holds it
	Kind   Kind   `json:"kind"`

	User          string `json:"user,omitempty"`
	UserName      string `json:"userName,omitempty"`
	UPN           string `json:"upn,omitempty"` // as it was given when it names nobody
	Principal     string `json:"principal,omitempty"`
	PrincipalName string `json:"principalName,omitempty"`
	Proved        bool   `json:"proved,omitempty"` // who it is was proved; else anybody can have tried in this name

	App          string `json:"app,omitempty"` // application id of the client
	AppName      string `json:"appName,omitempty"`
	Resource     string `json:"resource,omitempty"` // application id
	ResourceName string `json:"resourceName,omitempty"`

	Code   int    `json:"code,omitempty"`   // AADSTS number; zero: success
	Reason string `json:"reason,omitempty"` // of a failure
	Note   string `json:"note,omitempty"`   // what else there is to say

	Method     string `json:"method,omitempty"`     // e.g. "Password"
	Protocol   string `json:"protocol,omitempty"`   // Microsoft Graph protocolType
	Incoming   string `json:"incoming,omitempty"`   // Microsoft Graph incomingTokenType
	Credential string `json:"credential,omitempty"` // of the client: Microsoft Graph clientCredentialType
	KeyID      string `json:"keyId,omitempty"`      // which one it was
	Session    string `json:"session,omitempty"`

	Address     string `json:"address,omitempty"`
	ClientApp   string `json:"clientApp,omitempty"` // Microsoft Graph clientAppUsed
	UserAgent   string `json:"userAgent,omitempty"`
	Browser     string `json:"browser,omitempty"`
	System      string `json:"system,omitempty"`
	Correlation string `json:"correlation,omitempty"` // the client's id of the request
	Request     string `json:"request,omitempty"`     // ours, as in the log, the audit and the answer
}

// Time is when the attempt was made, in UTC and milliseconds.
func (e *Entry) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(e.ID[:8]) >> 16)).UTC()
}

// ticks are the units that ids count time in: a millisecond has 4096, the 12 bits that follow it in the id.
const ticks = 1 << 12

// tickOf converts a time.
func tickOf(t time.Time) int64 {
	ms := t.UnixMilli()
	return ms*ticks + (t.UnixNano()-ms*1e6)*ticks/1e6
}

// idAt makes the lowest id of a tick (RFC 9562 sections 5.7 and 6.2, method 3).
func idAt(tick int64) (id ID) {
	tick = min(max(tick, 0), 1<<60-1)
	binary.BigEndian.PutUint64(id[:8], uint64(tick/ticks)<<16|0x7000|uint64(tick%ticks))
	id[8] = 0x80
	return id
}

// FirstID is the lowest id that an entry of the millisecond of t, or later, can have.
func FirstID(t time.Time) ID { return idAt(t.UnixMilli() * ticks) }

// Field is what entries can be looked up by.
type Field string

// The fields, those that fewer entries share first.
const (
	ByCorrelation Field = "correlation"
	ByUser        Field = "account"
	ByUPN         Field = "upn"
	ByAddress     Field = "address"
	ByApp         Field = "app"
	ByCode        Field = "code"
	ByKind        Field = "kind"
)

// Fields are all of them, in that order.
var Fields = []Field{ByCorrelation, ByUser, ByUPN, ByAddress, ByApp, ByCode, ByKind}

// Key is an entry's value of a field, as KeyOf makes it; nil when it has none.
func (e *Entry) Key(f Field) []byte {
	switch f {
	case ByCorrelation:
		return idKey(e.Correlation)
	case ByUser:
		return idKey(e.User)
	case ByUPN:
		return textKey(e.UPN)
	case ByAddress:
		return textKey(e.Address)
	case ByApp:
		return idKey(e.App)
	case ByCode:
		return textKey(strconv.Itoa(e.Code))
	}
	return textKey(string(e.Kind))
}

// KeyOf makes the key that an entry with this value of a field has; nil when no entry can have it.
func KeyOf(f Field, value string) []byte {
	switch f {
	case ByCorrelation, ByUser, ByApp:
		return idKey(value)
	}
	return textKey(value)
}

// idKey is a GUID in 16 bytes; nil when it is none.
func idKey(guid string) []byte {
	key, err := hex.DecodeString(strings.ReplaceAll(guid, "-", ""))
	if err != nil || len(guid) != 36 || len(key) != 16 {
		return nil
	}
	return key
}

// TenantKey is the key of a tenant.
func TenantKey(tenant string) []byte { return idKey(tenant) }

// textKey ignores letter case, as the filters do that look by it.
func textKey(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(strings.ToLower(s))
}

// maxText is how much of any text of an entry is kept, in bytes.
const maxText = 512

// cut shortens what strangers can make long.
func (e *Entry) cut() {
	for _, text := range []*string{
		&e.UserName, &e.UPN, &e.PrincipalName, &e.AppName, &e.ResourceName, &e.Reason, &e.Note, &e.Method, &e.Protocol, &e.Incoming,
		&e.Credential, &e.KeyID, &e.Address, &e.ClientApp, &e.UserAgent, &e.Browser, &e.System, &e.Request,
	} {
		*text = strings.ToValidUTF8(*text, "")
		if len(*text) > maxText {
			*text = strings.ToValidUTF8((*text)[:maxText], "") + "..."
		}
	}
}
