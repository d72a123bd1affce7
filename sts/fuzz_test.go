package sts

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
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

// FuzzAssertion: whatever parses is signed by nobody, has three parts, and reads as the strict decoder of RFC 7515 does.
func FuzzAssertion(f *testing.F) {
	head, body := b64(map[string]any{"alg": "RS256", "kid": "k", "x5t": "t"}), b64(map[string]any{"iss": "i", "sub": "s", "aud": []string{"a"}, "exp": 1.5})
	for _, s := range []string{head + "." + body + ".AAAA", "..", head + ".e30.", b64(map[string]any{"alg": "none"}) + "." + body + ".", head + "." + b64([]byte(`{"aud":[1]}`)) + ".",
		head + "." + b64([]byte(`{"exp":1e99}`)) + ".", head + "." + b64([]byte("null")) + ".", head + "." + b64([]byte(`{"sub":"a","SUB":"b"}`)) + "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		j, err := parseJWS(token)
		if err != nil {
			return
		}
		if strings.Count(token, ".") != 2 || !strings.HasPrefix(token, string(j.signed)+".") || j.claims.Expires < 0 || j.claims.NotBefore < 0 {
			t.Errorf("%q is read as %+v", token, j)
		}
		if j.verify(&testKey().PublicKey) == nil {
			t.Errorf("%q is signed", token)
		}
		var exact map[string]json.RawMessage
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err != nil || json.Unmarshal(payload, &exact) != nil {
			t.Fatalf("%q has no claims", token)
		}
		if _, ok := exact["sub"]; !ok && j.claims.Subject != "" {
			t.Errorf("%q has no sub, but one is read: %q", payload, j.claims.Subject)
		}
	})
}

// FuzzThumbprint: no other text than those of the certificate's hash is its thumbprint.
func FuzzThumbprint(f *testing.F) {
	want := []byte("01234567890123456789")
	for _, s := range []string{"MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "MDEyMzQ1Njc4OTAxMjM0NTY3ODk", "MDEyMzQ1Njc4OTAxMjM0NTY3ODl=", "", "====", "MDEy\nMzQ1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !sameThumbprint(text, want) {
			return
		}
		if raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))); err != nil || string(raw) != string(want) {
			t.Errorf("%q is taken for the thumbprint", text)
		}
	})
}

// FuzzFetch: what may be fetched is https to a host, and no address of this machine, its network or the cloud's metadata is public.
func FuzzFetch(f *testing.F) {
	for _, s := range []string{"https://a.test/x", "http://a.test", "https://127.0.0.1/", "https://2130706433/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/",
		"https://10.0.0.1/", "https://[fd00::1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://a@b/", "https:opaque", "file:///etc/passwd", "https://0/",
		"https://100.64.0.1", "https://[fe80::1%25eth0]/", "https://8.8.8.8/", "HTTPS://A.test", "https://a.test:0/", "https://[::127.0.0.1]/", "https://[fec0::1]/"} {
		f.Add(s)
	}
	inside := []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("224.0.0.0/3"),
	}
	f.Fuzz(func(t *testing.T, at string) {
		if checkFetch(at) != nil {
			return
		}
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			t.Fatalf("%q may be fetched", at)
		}
		a, err := netip.ParseAddr(u.Hostname())
		if err != nil || !isPublic(a) {
			return
		}
		b := a.As16()
		candidates := []netip.Addr{a.Unmap(), netip.AddrFrom4([4]byte(b[12:]))} // the address itself, and what its end hides in the forms that translate
		if a.Is6() && !a.Is4In6() && !strings.HasPrefix(a.String(), "64:ff9b:") && !netip.MustParsePrefix("::/96").Contains(a) {
			candidates = candidates[:1]
		}
		for _, c := range candidates {
			for _, p := range inside {
				if p.Contains(c) {
					t.Errorf("%q leads to %s", at, c)
				}
			}
		}
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsPrivate() || a.IsMulticast() || a.IsUnspecified() || netip.MustParsePrefix("2002::/16").Contains(a) {
			t.Errorf("%q is taken for public", at)
		}
	})
}

// FuzzConfirmation: what is read as a request to bind a token names one key, by a thumbprint of the right length in its only spelling.
func FuzzConfirmation(f *testing.F) {
	tp := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	for _, s := range []string{b64(map[string]string{"kid": tp, "xms_ksl": "sw"}), b64(map[string]string{"KID": tp}), b64([]byte("null")), "", "e30", "e30=",
		b64([]byte(`{"kid":"` + tp + `","kid":5}`)), b64(map[string]string{"kid": tp + "="}), "e\n30"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfirmation(text)
		if err != nil {
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(c.KeyID)
		if err != nil || len(raw) != 32 || base64.RawURLEncoding.EncodeToString(raw) != c.KeyID || c.Storage != "" && c.Storage != "sw" {
			t.Errorf("%q is read as %+v", text, c)
		}
		claim, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseConfirmation(b64(claim)); err != nil || *back != *c {
			t.Errorf("%q is read as %s, and that as %+v %v", text, claim, back, err)
		}
	})
}

// FuzzProof: no text is a proof that nobody made, whatever token and key are inside.
func FuzzProof(f *testing.F) {
	w := newWorld(f)
	h := &keyHolder{testKey()}
	token := w.bound(h, aksScope)
	good := h.prove(f, token, w.clock())
	head, rest, _ := strings.Cut(good, ".")
	body, sig, _ := strings.Cut(rest, ".")
	for _, s := range []string{good, head + "." + body + ".", head + ".e30.AAAA", "..", head + "..", b64(map[string]any{"typ": "pop"}) + "." + body + "." + sig,
		head + "." + b64(map[string]any{"at": token, "ts": 1e9, "cnf": nil}) + "." + sig, head + "." + b64(map[string]any{"cnf": map[string]any{"jwk": 5}}) + ".", "\n" + good} {
		f.Add(s)
	}
	confirmation := &Confirmation{KeyID: h.thumbprint()}
	f.Fuzz(func(t *testing.T, text string) {
		if text == good {
			return
		}
		if isProof([]byte(text)) && strings.Count(text, ".") == 0 {
			t.Errorf("%q is taken for a proof", text)
		}
		if p, err := parseProof([]byte(text)); err == nil {
			if p.made <= 0 || !strings.HasPrefix(text, string(p.signed)+".") {
				t.Errorf("%q is read as %+v", text, p)
			}
			if p.binds(confirmation) == nil {
				t.Errorf("%q is signed", text)
			}
			if public, err := p.key.public(); err == nil && (public.N.BitLen() < minKey || public.N.BitLen() > maxKey) {
				t.Errorf("a key of %d bits", public.N.BitLen())
			}
		}
		if raw := []byte(text); w.present(text) == nil {
			t.Errorf("%q is accepted", raw)
		}
	})
}
