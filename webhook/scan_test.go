package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

var scanSeeds = []string{
	`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":null},"spec":{"token":"aaa.bbb.ccc","audiences":["https://x"]},"status":{"user":{}}}`,
	` { "spec" : { "token" : "" } , "kind" : null } ` + "\r\n\t",
	`{"spec":null,"apiVersion":"v1"}`,
	`{"spec":{"token":null}}`,
	`{"spec":{"token":"\u0061\n\"\\\/\ud83d\ude00\ud83d"}}`,
	`{"\u0073pec":{"\u0074oken":"x"}}`,
	`{"Spec":{"Token":"x"},"ſpec":{"toKen":"y"}}`,
	`{"spec":{"Token":"x","token":"y"}}`,
	`{"spec":{"token":"x"},"spec":{"token":"y"}}`,
	`{"spec":{"token":"x","token":"x"}}`,
	`{"spec":{"token":"x","to\u006ben":null}}`,
	`{"kind":"a","kind":"b"}`,
	`{"spec":5}`, `{"spec":[]}`, `{"spec":{"token":5}}`, `{"spec":{"token":{}}}`, `{"kind":true}`, `{"apiVersion":[]}`,
	`{"x":[1,-0,0.5,1e9,1E+2,-1.25e-3,true,false,null,{"a":{}},[]]}`,
	`{"x":01}`, `{"x":-}`, `{"x":1.}`, `{"x":.5}`, `{"x":1e}`, `{"x":+1}`, `{"x":NaN}`, `{"x":tru}`, `{"x":nulll}`,
	`{"x":1,}`, `{,}`, `{"x"}`, `{"x":}`, `{x:1}`, `{"x":1 "y":2}`, `{"x":[1,]}`, `{"x":[,1]}`, `{"x":[1 2]}`, `{"x":[}`, `{"x":{]}`,
	"{\"x\":\"a\nb\"}", "{\"x\":\"a\x00b\"}", "{\"x\":\"\xff\xfe\"}", "{\"spec\":{\"token\":\"\xff\"}}", "{\"\xff\":1}", "{\"x\":\"\x7f\u2028\"}",
	`{"x":"\x"}`, `{"x":"\u12"}`, `{"x":"\`, `{"x":"\"`, `{"x":"`, `{"x`, `{`, ``, `null`, `"x"`, `[]`, `{}x`, `{}{}`, "\ufeff{}", "{}\x00", "\v{}",
}

// FuzzScanTokenReview holds the scanner to encoding/json: it accepts the same texts, except those in which a member that
// is read comes twice, and finds the same values.
func FuzzScanTokenReview(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		agree(t, body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
	})
}

func agree(t *testing.T, body []byte) {
	got, err := scanTokenReview(body)
	want, wantErr := referenceScan(body)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("scan: %v; encoding/json: %v\n%.200q", err, wantErr, body)
	}
	if err == nil && (string(got.apiVersion) != want.APIVersion || string(got.kind) != want.Kind || string(got.token) != want.Token) {
		t.Fatalf("scan: %.200q; encoding/json: %+v\n%.200q", got, want, body)
	}
}

// TestScanDepth is apart from the fuzzing, which such texts would slow down.
func TestScanDepth(t *testing.T) {
	for depth, good := range map[int]bool{9999: true, 10000: false, 100_000: false} {
		text := `{"x":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
		agree(t, []byte(text))
		if _, err := scanTokenReview([]byte(text)); (err == nil) != good {
			t.Errorf("%d deep: %v", depth, err)
		}
	}
	agree(t, []byte(strings.Repeat(`{"spec":`, 9999)+`1`+strings.Repeat("}", 9999)))
	agree(t, []byte(`{"x":`+strings.Repeat(`{"y":`, 10000)+`1`+strings.Repeat("}", 10000)+`}`))
	agree(t, bytes.Repeat([]byte("["), 4<<20))
}

type reference struct{ APIVersion, Kind, Token string }

// referenceScan reads a TokenReview with encoding/json alone.
func referenceScan(body []byte) (r reference, err error) {
	top, err := membersOf(body, "apiVersion", "kind", "spec")
	if err != nil {
		return r, err
	}
	for name, to := range map[string]*string{"apiVersion": &r.APIVersion, "kind": &r.Kind} {
		if raw, ok := top[name]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return r, err
			}
		}
	}
	if raw, ok := top["spec"]; ok && string(raw) != "null" {
		spec, err := membersOf(raw, "token")
		if err != nil {
			return r, err
		}
		if raw, ok := spec["token"]; ok {
			return r, json.Unmarshal(raw, &r.Token)
		}
	}
	return r, nil
}

// membersOf returns the members of an object, of which some may come once only.
func membersOf(text []byte, once ...string) (map[string]json.RawMessage, error) {
	if !json.Valid(text) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		key := name.(string)
		if _, again := members[key]; again {
			for _, o := range once {
				if key == o {
					return nil, errors.New("twice " + key)
				}
			}
		}
		members[key] = value
	}
	if _, err := d.Token(); err != nil && err != io.EOF {
		return nil, err
	}
	return members, nil
}

// TestScanAllocatesNothing guards the hot path.
func TestScanAllocatesNothing(t *testing.T) {
	body := []byte(scanSeeds[0])
	if n := testing.AllocsPerRun(100, func() {
		if q, err := scanTokenReview(body); err != nil || len(q.token) == 0 {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
