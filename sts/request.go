package sts

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxForm is the largest form that is read, in bytes.
const maxForm = 64 << 10

// form is what a client posted: every parameter once, none empty.
type form map[string]string

// readForm reads the body of a request. Parameters of the query are not looked at: secrets do not belong there.
func readForm(w http.ResponseWriter, r *http.Request) (form, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, fail(9002313, "the body must be application/x-www-form-urlencoded, not '"+clip(r.Header.Get("Content-Type"), 80)+"'")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, err
	}
	return parseForm(string(body))
}

// parseForm parses a form. A parameter that comes twice is an error, one without a value counts as not sent
// (RFC 6749 section 3.2).
func parseForm(body string) (form, error) {
	f := form{}
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, fail(9002313, "the body is not properly form-encoded")
		}
		if _, twice := f[key]; twice {
			return nil, fail(9000411, clip(key, 80))
		}
		f[key] = value
	}
	for k, v := range f {
		if v == "" {
			delete(f, k)
		}
	}
	return f, nil
}

// need returns a parameter that must be there.
func (f form) need(name string) (string, error) {
	v := f[name]
	if v == "" {
		return "", fail(900144, name)
	}
	return v, nil
}

// clip shortens what a client sent to what an error message can repeat.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
