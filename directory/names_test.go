package directory

import (
	"strings"
	"testing"
)

var upnTenant = &Tenant{Domains: []string{domain, "contoso.example"}}

func TestUserPrincipalNames(t *testing.T) {
	s := new(State)
	for _, c := range []struct {
		name, upn string
		guest     bool
		refused   string // part of the message; empty: allowed
	}{
		{"plain", "alice@" + domain, false, ""},
		{"every character that Entra allows", "a.B-c_d!e^f~g'h1@" + domain, false, ""},
		{"the domain in another letter case", "alice@Contoso.EXAMPLE", false, ""},
		{"a guest from outside", "a_b.example#EXT#@" + domain, true, ""},
		{"the longest local part", strings.Repeat("a", 64) + "@" + domain, false, ""},
		{"a member with a hash", "a#b@" + domain, false, "the character #"},
		{"a name of the system", "system:admin@" + domain, false, "the character :"},
		{"a space", "a b@" + domain, false, "the character  "},
		{"a slash", "a/b@" + domain, false, "the character /"},
		{"a letter of another script", "аlice@" + domain, false, "the character а"},
		{"a line break", "a\n@" + domain, false, "the character"},
		{"no domain", "alice", false, "not of the form name@domain"},
		{"nothing before the @", "@" + domain, false, "not of the form"},
		{"nothing after the @", "alice@", false, "not of the form"},
		{"two @", "a@b@" + domain, false, "verified domain"},
		{"a dot at the beginning", ".a@" + domain, false, "begins or ends with a dot"},
		{"a dot at the end", "a.@" + domain, false, "begins or ends with a dot"},
		{"too long", strings.Repeat("a", 65) + "@" + domain, false, "too long"},
		{"another domain", "a@evil.example", false, "verified domain"},
		{"a domain that ends like ours", "a@x." + domain, false, "verified domain"},
	} {
		err := s.checkUPN(upnTenant, c.upn, c.guest)
		if (err == nil) != (c.refused == "") || (err != nil && !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %q: %v, want %q", c.name, c.upn, err, c.refused)
		}
	}
}

// FuzzUPN: what is accepted can stand in a kubeconfig, a log line and a certificate as it is, and belongs to the tenant.
func FuzzUPN(f *testing.F) {
	for _, s := range []string{"alice@" + domain, "a#EXT#@" + domain, "system:x@" + domain, "@", "a@b@c", ""} {
		f.Add(s, false)
		f.Add(s, true)
	}
	s := new(State)
	f.Fuzz(func(t *testing.T, upn string, guest bool) {
		if s.checkUPN(upnTenant, upn, guest) != nil {
			return
		}
		local, at, _ := strings.Cut(upn, "@")
		if !strings.EqualFold(at, domain) && !strings.EqualFold(at, "contoso.example") {
			t.Errorf("%q is of a foreign domain", upn)
		}
		if strings.ContainsAny(upn, ":/\\\" ,;\t\r\n%") || local == "" || len(upn) > 113 || (!guest && strings.Contains(upn, "#")) {
			t.Errorf("%q is accepted", upn)
		}
		for i := range len(upn) {
			if upn[i] <= ' ' || upn[i] > '~' {
				t.Errorf("%q holds byte %#x", upn, upn[i])
			}
		}
	})
}

func TestDomains(t *testing.T) {
	for name, ok := range map[string]bool{
		"gatehouse.internal": true, "a-b.c1.example": true,
		"": false, "localhost": false, "Upper.example": false, "a..b": false, "-a.example": false, "a-.example": false, "a_b.example": false,
		"a.b:80": false, strings.Repeat("a", 64) + ".example": false, strings.Repeat("a.", 130) + "example": false, "ä.example": false,
	} {
		if err := checkDomain(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"62e90394-69f5-4237-9190-012177145e10", "62E90394-69F5-4237-9190-012177145E10", "62e9039469f542379190012177145e10",
		"{62e90394-69f5-4237-9190-012177145e10}", "62e90394-69f5-4237-9190-012177145e1g", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if !id.IsZero() {
				t.Errorf("%q is refused but gives %s", s, id)
			}
			return
		}
		if id.String() != strings.ToLower(s) {
			t.Errorf("%q reads as %s", s, id)
		}
		again, err := ParseID(id.String())
		if err != nil || again != id || id.Compare(again) != 0 {
			t.Errorf("%s does not read back: %s %v", id, again, err)
		}
	})
}

func TestIDText(t *testing.T) {
	var id ID
	must(t, id.UnmarshalText(nil))
	if !id.IsZero() {
		t.Errorf("empty text is %s", id)
	}
	if err := id.UnmarshalText([]byte("x")); err == nil {
		t.Error("'x' is an id")
	}
	a, b := MustParseID("00000000-0000-0000-0000-0000000000ff"), MustParseID("01000000-0000-0000-0000-000000000000")
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 || strings.Compare(a.String(), b.String()) >= 0 {
		t.Error("ids are not in the order of their text")
	}
	fresh, err := NewID(strings.NewReader(strings.Repeat("\xff", 16)))
	must(t, err)
	if fresh.String() != "ffffffff-ffff-4fff-bfff-ffffffffffff" {
		t.Errorf("version and variant: %s", fresh)
	}
	if _, err := NewID(strings.NewReader("short")); err == nil {
		t.Error("an id was made of too little randomness")
	}
}
