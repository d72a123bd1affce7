package webhook

import (
	"encoding/json"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// tokenReview is what is read of a TokenReview. The slices may point into the body.
type tokenReview struct {
	apiVersion, kind, token []byte
}

// scanTokenReview reads a TokenReview in one pass. It accepts JSON as encoding/json does, and is stricter where that
// would give a document two meanings: names must match in letter case, as Kubernetes has it, and none of those that are
// read may come twice. An absent member and null are the same.
func scanTokenReview(body []byte) (tokenReview, error) {
	var q tokenReview
	s := scanner{text: body}
	s.space()
	err := s.object(func(name []byte) error {
		switch string(name) {
		case "apiVersion":
			return s.member(name, &q.apiVersion)
		case "kind":
			return s.member(name, &q.kind)
		case "spec":
			return s.spec(name, &q)
		}
		return s.skip()
	})
	if err != nil {
		return tokenReview{}, err
	}
	if s.space(); s.at < len(s.text) {
		return tokenReview{}, s.unexpected("the end")
	}
	return q, nil
}

// maxDepth is encoding/json's limit of nesting, in which the stack stays small.
const maxDepth = 10000

// scanner reads JSON (RFC 8259). Each method starts at the first byte of what it reads and ends behind its last.
type scanner struct {
	text  []byte
	at    int
	depth int
	seen  struct{ apiVersion, kind, spec, token bool }
}

func (s *scanner) spec(name []byte, q *tokenReview) error {
	if err := s.first(name); err != nil {
		return err
	}
	if s.peek() == 'n' {
		return s.word("null")
	}
	return s.object(func(name []byte) error {
		if string(name) == "token" {
			return s.member(name, &q.token)
		}
		return s.skip()
	})
}

// member reads a string, or null, that may come once.
func (s *scanner) member(name []byte, to *[]byte) (err error) {
	if err := s.first(name); err != nil {
		return err
	}
	if s.peek() == 'n' {
		return s.word("null")
	}
	*to, err = s.string()
	return err
}

// first refuses a member that was there before.
func (s *scanner) first(name []byte) error {
	var seen *bool
	switch string(name) {
	case "apiVersion":
		seen = &s.seen.apiVersion
	case "kind":
		seen = &s.seen.kind
	case "spec":
		seen = &s.seen.spec
	default:
		seen = &s.seen.token
	}
	if *seen {
		return fault.New(fault.Invalid, "the request body has the member %q twice", name)
	}
	*seen = true
	return nil
}

// object reads an object. member is called with each name, in front of its value, and reads that.
func (s *scanner) object(member func(name []byte) error) error {
	if s.peek() != '{' {
		return s.unexpected("an object")
	}
	return s.list('}', func() error {
		name, err := s.string()
		if err != nil {
			return err
		}
		if s.space(); s.peek() != ':' {
			return s.unexpected("a colon")
		}
		s.at++
		s.space()
		return member(name)
	})
}

// list reads from an opening bracket to the closing one; item reads what is between two commas.
func (s *scanner) list(closing byte, item func() error) error {
	if s.depth++; s.depth > maxDepth {
		return fault.New(fault.Invalid, "the request body is nested more than %d deep", maxDepth)
	}
	defer func() { s.depth-- }()
	s.at++
	if s.space(); s.peek() == closing {
		s.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case closing:
			s.at++
			return nil
		case ',':
			s.at++
			s.space()
		default:
			return s.unexpected("a comma or the end of a list")
		}
	}
}

// skip reads any value.
func (s *scanner) skip() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(func([]byte) error { return s.skip() })
	case c == '[':
		return s.list(']', s.skip)
	case c == '"':
		_, err := s.string()
		return err
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	case c == '-' || isDigit(c):
		return s.number()
	}
	return s.unexpected("a value")
}

// string reads a string and returns what it means. Without escapes and beyond ASCII that is the body's own bytes; what
// escapes and invalid UTF-8 mean is left to encoding/json.
func (s *scanner) string() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected("a string")
	}
	start, plain := s.at, true
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			if plain {
				return s.text[start+1 : s.at-1], nil
			}
			var meaning string
			if err := json.Unmarshal(s.text[start:s.at], &meaning); err != nil {
				return nil, fault.New(fault.Invalid, "the request body is not JSON: a string at byte %d: %s", start, err)
			}
			return []byte(meaning), nil
		case c == '\\':
			plain = false
			s.at++
		case c < ' ':
			return nil, s.unexpected("an escape instead of a control character")
		case c >= 0x80:
			plain = false
		}
	}
	s.at = len(s.text)
	return nil, s.unexpected("the end of a string")
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.peek() == '.' {
		s.at++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() error {
	if !isDigit(s.peek()) {
		return s.unexpected("a digit")
	}
	for isDigit(s.peek()) {
		s.at++
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (s *scanner) word(w string) error {
	for i := range len(w) {
		if s.peek() != w[i] {
			return s.unexpected(w)
		}
		s.at++
	}
	return nil
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0, which no JSON begins with, at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// unexpected never shows what is there: it may be a piece of a token.
func (s *scanner) unexpected(wanted string) error {
	return fault.New(fault.Invalid, "the request body is not a review in JSON: at byte %d %s is missing", s.at, wanted)
}
