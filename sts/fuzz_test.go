package sts

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// FuzzForm: what is read is what net/url reads, never a value of two.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"", "a=b", "a=b&a=c", "a", "=b", "a=%zz", "a=%ff", "a=b;c=d", "a=+%2B&&b=", "grant_type=password&username=a%40b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := parseForm(body)
		if err != nil {
			return
		}
		want, err := url.ParseQuery(body)
		if err != nil && !strings.Contains(body, ";") { // which net/url refuses as a separator and here is a character
			t.Fatalf("%q is read as %v, net/url says %v", body, got, err)
		}
		for k, v := range got {
			if v == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
				t.Errorf("%q: %q=%q", body, k, v)
			}
			if list := want[k]; err == nil && (len(list) != 1 || list[0] != v) {
				t.Errorf("%q: %q is %q, net/url says %q", body, k, v, list)
			}
		}
	})
}

// FuzzScope: a scope is read to the end or refused; what is kept of it reads the same again.
func FuzzScope(f *testing.F) {
	for _, s := range []string{aksScope, armScope, "openid", "/.default", "//.default", "a/b c/d", "User.Read", "spn:x/.default", "a/.default a/b", "https://x//", "\x00/.default", "a/ b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, scope string) {
		a, err := parseScope(scope)
		if err != nil {
			return
		}
		if a.resource == "" && len(a.oidc) == 0 || len(a.echo) > 0 && a.resource == "" {
			t.Errorf("%q is read as %+v", scope, a)
		}
		if strings.ContainsFunc(a.resource, func(r rune) bool { return r <= 0x20 }) {
			t.Errorf("%q names the resource %q", scope, a.resource)
		}
		kept, err := json.Marshal(a)
		if err != nil || !utf8.ValidString(scope) {
			return
		}
		var back ask
		if err := json.Unmarshal(kept, &back); err != nil {
			t.Fatal(err)
		}
		again, err := back.parse()
		if err != nil || again.resource != a.resource || again.offline != a.offline {
			t.Errorf("%q is read as %+v, and later as %+v (%v)", scope, a, again, err)
		}
	})
}

// FuzzVerify: nothing but what was signed here verifies.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	good := a.text("access_token")
	f.Add(good)
	f.Add(a.text("id_token"))
	f.Add("..")
	f.Add("e30.e30.e30")
	f.Add(strings.Replace(good, ".", "..", 1))
	state := In(w.srv.Feed.View())
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := verify(state, []byte(token), func(string) bool { return true }); err == nil && token != good && token != a.text("id_token") {
			t.Errorf("%q verifies", token)
		}
	})
}

// FuzzSealed: nothing but what was sealed here opens.
func FuzzSealed(f *testing.F) {
	w := newWorld(f)
	sealed, err := w.srv.vault.seal(f.Context(), refreshPurpose, []byte("x"))
	must(f, err)
	f.Add(sealed)
	f.Add("")
	f.Add("AQAAAAEAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := w.srv.vault.open(t.Context(), refreshPurpose, s); err == nil && s != sealed {
			t.Errorf("%q opens", s)
		}
	})
}

// FuzzTenancy: whatever stands in the path resolves to a tenant, a word or one of two errors.
func FuzzTenancy(f *testing.F) {
	w := newWorld(f)
	for _, s := range []string{"common", "ORGANIZATIONS", domain, w.tenant.ID.String(), "", "..", "a.b", "ａ.test"} {
		f.Add(s)
	}
	dir := directory.In(w.srv.Feed.View())
	f.Fuzz(func(t *testing.T, s string) {
		place, err := tenancyOf(dir, s)
		if err == nil && (place.tenant == nil) == (place.word == "") {
			t.Errorf("%q is %+v", s, place)
		}
	})
}

// FuzzUserCode: what is read as a code is one.
func FuzzUserCode(f *testing.F) {
	for _, s := range []string{"CDFGHJKLM", "cdf-ghj-klm", "", "ſ", "ıııııııııı"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		if code := parseUserCode(typed); code != "" && (len(code) != userCodeLength || strings.Trim(code, userCodeAlphabet) != "" || parseUserCode(code) != code) {
			t.Errorf("%q is read as %q", typed, code)
		}
	})
}
