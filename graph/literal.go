package graph

import (
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// literalKind is the type of a literal of $filter, as messages name it.
type literalKind string

const (
	literalText literalKind = "a string"
	literalBool literalKind = "true or false"
	literalNull literalKind = "null"
	literalGUID literalKind = "a GUID"
	literalTime literalKind = "a date"

	literalNumber literalKind = "a number"
)

type literal struct {
	kind literalKind
	text string // of a string or GUID
	yes  bool
	time time.Time

	number int
}

// literal reads 'a string' with doubled quotes, true, false, null, a GUID, a date or a date with time.
func (p *parser) literal() literal {
	if p.err != nil {
		return literal{}
	}
	p.space()
	if p.at < len(p.text) && p.text[p.at] == '\'' {
		return p.quoted()
	}
	start := p.at
	for p.at < len(p.text) && (isWord(p.text[p.at]) || strings.IndexByte("+-:", p.text[p.at]) >= 0) {
		p.at++
	}
	word := p.text[start:p.at]
	switch strings.ToLower(word) {
	case "true", "false":
		return literal{kind: literalBool, yes: strings.EqualFold(word, "true")}
	case "null":
		return literal{kind: literalNull}
	}
	if id, err := directory.ParseID(word); err == nil {
		return literal{kind: literalGUID, text: id.String()}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(layout, strings.ToUpper(word)); err == nil {
			return literal{kind: literalTime, time: t}
		}
	}
	if n, err := strconv.Atoi(word); err == nil {
		return literal{kind: literalNumber, number: n}
	}
	p.at = start
	p.fail("expected a value ('text', true, false, null, a GUID or a date such as 2026-01-31T00:00:00Z) and not '%s'", clip(word, 40))
	return literal{}
}

func (p *parser) quoted() literal {
	start := p.at
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		if p.text[p.at] != '\'' {
			b.WriteByte(p.text[p.at])
			continue
		}
		if p.at+1 == len(p.text) || p.text[p.at+1] != '\'' {
			p.at++
			return literal{kind: literalText, text: b.String()}
		}
		b.WriteByte('\'')
		p.at++
	}
	p.at = start
	p.fail("a string has no closing quote; write a quote within a string twice")
	return literal{}
}

func (p *parser) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

// word reads a name; "" when there is none.
func (p *parser) word() string {
	p.space()
	start := p.at
	for p.at < len(p.text) && isWord(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

// keyword reads a word if it is this one.
func (p *parser) keyword(want string) bool {
	if p.err != nil {
		return false
	}
	before := p.at
	if strings.EqualFold(p.word(), want) {
		return true
	}
	p.at = before
	return false
}

// sign reads a character if it is this one.
func (p *parser) sign(want byte) bool {
	p.space()
	if p.err == nil && p.at < len(p.text) && p.text[p.at] == want {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(want byte) {
	if !p.sign(want) {
		p.fail("expected '%c'", want)
	}
}

func isWord(b byte) bool {
	return b == '_' || b == '.' || b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}
