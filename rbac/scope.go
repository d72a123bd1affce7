package rbac

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// maxScope bounds a scope's length in bytes. The longest real ones, of nested resources, stay below 1,000.
const maxScope = 2048

// Scope is a place in the tree of resources: "/", a subscription, a resource group, a resource, a piece of a resource.
// It keeps the spelling it was given and compares without regard to letter case. The zero Scope contains nothing and is
// in nothing.
type Scope struct{ text, key string }

// Root contains every scope.
var Root = Scope{text: "/", key: "/"}

// ParseScope reads a scope: "/" or segments that each begin with a slash. Printable ASCII only, without what a URL
// or a wildcard would give a meaning, so that equal keys mean equal places.
func ParseScope(s string) (Scope, error) {
	bad := func(why string) (Scope, error) {
		return Scope{}, fault.New(fault.Invalid, "the scope %.200q %s; give one like /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/name", s, why).
			At("scope").WithCode("InvalidScope")
	}
	switch {
	case s == "/":
		return Root, nil
	case !strings.HasPrefix(s, "/"):
		return bad("does not begin with a slash")
	case len(s) > maxScope:
		return bad("is too long")
	}
	s = strings.TrimSuffix(s, "/")
	for segment := range strings.SplitSeq(s[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return bad("has an empty segment")
		}
		if strings.ContainsFunc(segment, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`%?#*\"<>`, r) }) {
			return bad("holds a character that no resource id has")
		}
	}
	return Scope{text: s, key: strings.ToLower(s)}, nil
}

// Contains reports whether t is this scope or below it, segment by segment: ".../rg1" does not contain ".../rg10".
func (s Scope) Contains(t Scope) bool {
	switch {
	case s.key == "" || t.key == "":
		return false
	case s.key == "/" || s.key == t.key:
		return true
	}
	return strings.HasPrefix(t.key, s.key) && t.key[len(s.key)] == '/'
}

// Key is the scope in the form that is compared.
func (s Scope) Key() string { return s.key }

// String is the scope as it was written.
func (s Scope) String() string { return s.text }

// MarshalText makes the form that ParseScope reads.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// UnmarshalText reads what ParseScope reads.
func (s *Scope) UnmarshalText(text []byte) error {
	parsed, err := ParseScope(string(text))
	*s = parsed
	return err
}

// above visits the keys of this scope and of all that contain it, from the innermost outwards.
func (s Scope) above(visit func(key string)) {
	if s.key == "" {
		return
	}
	for key := s.key; key != "" && key != "/"; key = key[:strings.LastIndexByte(key, '/')] {
		visit(key)
	}
	visit("/")
}
