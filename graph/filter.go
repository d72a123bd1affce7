package graph

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// Limits of $filter: a longer or deeper one is a mistake or an attack.
const (
	maxFilter      = 8 << 10 // bytes
	maxFilterDepth = 40      // parentheses, not and any() within each other
	maxFilterTests = 100     // comparisons, each made for every object
)

// filter is a compiled $filter.
type filter struct {
	match    predicate
	must     []condition // some of what every match fulfils, for who looks by an index
	advanced bool        // uses ne, not or endsWith, which Graph answers with ConsistencyLevel: eventual only
}

// condition is a comparison that is not within or, not or any(). any(x:x eq 'a') with nothing else in it counts, by the collection's name.
type condition struct {
	name     string
	operator string // eq ge gt le lt
	value    literal
}

// scope is what a predicate looks at.
type scope struct {
	dir     *directory.State
	object  object
	element string // of the collection, inside any()
}

type predicate func(*scope) bool

// Matches reports whether an object is in the filter's set.
func (f *filter) matches(dir *directory.State, o object) bool {
	return f == nil || f.match(&scope{dir: dir, object: o})
}

// operand is the left side of a comparison.
type operand struct {
	name  string
	value valueType
	get   func(*scope) any
}

// parseFilter compiles a $filter (OData 4.01 URL conventions, section 5.1.1) for a schema:
//
//	or      = and *( "or" and )
//	and     = unary *( "and" unary )
//	unary   = "not" unary | "(" or ")" | test
//	test    = function "(" path "," literal ")" [ "eq" bool ]
//	        | path "/any(" [ variable ":" or ] ")"
//	        | path operator literal | path "in" "(" literal *( "," literal ) ")" | path
//
// Keywords and property names match in any letter case, and so do strings.
func parseFilter(text string, s schema) (*filter, error) {
	if len(text) > maxFilter {
		return nil, errBadRequest("$filter has %d bytes; at most %d are read. Ask in several requests, or use directoryObjects/getByIds.", len(text), maxFilter)
	}
	p := &parser{text: text, schema: s}
	match := p.or()
	p.space()
	if p.err == nil && p.at < len(p.text) {
		p.fail("expected 'and', 'or' or the end")
	}
	if p.err != nil {
		return nil, p.err
	}
	return &filter{match, p.must, p.advanced}, nil
}

// parser is a recursive descent over the text. After the first error every method returns at once.
type parser struct {
	text     string
	at       int
	schema   schema
	depth    int
	tests    int
	variable string // of the any() around; "" outside
	advanced bool
	must     []condition
	some     bool       // there is an or at the top
	within   *condition // the last comparison in an any()
	err      *fault.Error
}

func (p *parser) fail(format string, args ...any) predicate {
	if p.err == nil {
		p.err = errBadRequest("Invalid filter clause: "+format+" at position %d of '%s'.", append(args, p.at, clip(p.text, 200))...).At("$filter")
	}
	return never
}

func (p *parser) unsupported(format string, args ...any) predicate {
	if p.err == nil {
		p.err = errUnsupported("Unsupported or invalid query filter clause: "+format+" in '%s'.", append(args, clip(p.text, 200))...).At("$filter")
	}
	return never
}

func never(*scope) bool { return false }

func (p *parser) or() predicate {
	if p.depth++; p.depth > maxFilterDepth {
		return p.fail("more than %d levels of nesting", maxFilterDepth)
	}
	defer func() { p.depth-- }()
	left := p.and()
	for p.err == nil && p.keyword("or") {
		if p.depth == 1 {
			p.must, p.some = nil, true
		}
		a, b := left, p.and()
		left = func(s *scope) bool { return a(s) || b(s) }
	}
	return left
}

func (p *parser) and() predicate {
	left := p.unary()
	for p.err == nil && p.keyword("and") {
		a, b := left, p.unary()
		left = func(s *scope) bool { return a(s) && b(s) }
	}
	return left
}

func (p *parser) unary() predicate {
	if p.keyword("not") {
		if p.depth++; p.depth > maxFilterDepth {
			return p.fail("more than %d levels of nesting", maxFilterDepth)
		}
		defer func() { p.depth-- }()
		p.advanced = true
		inner := p.unary()
		return func(s *scope) bool { return !inner(s) }
	}
	if p.sign('(') {
		inner := p.or()
		p.expect(')')
		return inner
	}
	return p.test()
}

func (p *parser) test() predicate {
	p.space()
	start := p.at
	name := p.word()
	if name == "" {
		return p.fail("expected a property name")
	}
	if p.err == nil && p.sign('(') {
		return p.function(name)
	}
	path := []string{name}
	for p.sign('/') {
		path = append(path, p.word())
	}
	if n := len(path) - 1; n > 0 && strings.EqualFold(path[n], "any") && p.sign('(') {
		return p.any(path[:n], start)
	}
	left, ok := p.operand(path, start)
	if !ok {
		return never
	}
	return p.comparison(left)
}

// operand binds a path to a range variable or a property.
func (p *parser) operand(path []string, start int) (operand, bool) {
	if p.tests++; p.tests > maxFilterTests {
		p.fail("more than %d comparisons", maxFilterTests)
		return operand{}, false
	}
	if len(path) == 1 || p.schema.path(strings.Join(path, "/")) != nil {
		if p.variable != "" && p.variable == path[0] {
			return operand{path[0], textValue, func(s *scope) any { return s.element }}, true
		}
		if prop := p.schema.path(strings.Join(path, "/")); prop != nil {
			name := prop.name
			if len(p.schema.kinds) == 1 {
				return operand{name, prop.value, func(s *scope) any { return prop.get(s.dir, s.object.entity) }}, true
			}
			return operand{name, prop.value, func(s *scope) any {
				if own := s.object.kind.property(name); own != nil {
					return own.get(s.dir, s.object.entity)
				}
				return nil
			}}, true
		}
	}
	p.at = start
	p.fail("Could not find a property named '%s' on type 'microsoft.graph.%s'", clip(strings.Join(path, "/"), 80), p.schema.name)
	return operand{}, false
}

func (p *parser) function(name string) predicate {
	var test func(s, lower string) bool
	switch strings.ToLower(name) {
	case "startswith":
		test = strings.HasPrefix
	case "endswith":
		test, p.advanced = strings.HasSuffix, true
	default:
		return p.unsupported("the function '%s' is not supported; use startswith or endswith", clip(name, 40))
	}
	p.space()
	start := p.at
	left, ok := p.operand([]string{p.word()}, start)
	if !ok {
		return never
	}
	if left.value != textValue {
		return p.fail("%s needs a string property, which '%s' is not,", strings.ToLower(name), left.name)
	}
	p.expect(',')
	right := p.literal()
	p.expect(')')
	if p.err == nil && right.kind != literalText {
		return p.fail("%s needs a string in quotes", strings.ToLower(name))
	}
	want := strings.ToLower(right.text)
	match := func(s *scope) bool {
		v, ok := left.get(s).(string)
		return ok && test(strings.ToLower(v), want)
	}
	if p.keyword("eq") { // startswith(a,'b') eq true
		wanted := p.literal()
		if p.err == nil && wanted.kind != literalBool {
			return p.fail("expected true or false")
		}
		if !wanted.yes {
			p.advanced = true
			return func(s *scope) bool { return !match(s) }
		}
	}
	return match
}

// any compiles path/any(x:...), with the opening parenthesis read.
func (p *parser) any(path []string, start int) predicate {
	list, ok := p.operand(path, start)
	if !ok {
		return never
	}
	if list.value != textsValue {
		return p.fail("any() needs a collection, which '%s' is not,", list.name)
	}
	elements := func(s *scope) []string {
		v, _ := list.get(s).([]string)
		return v
	}
	if p.sign(')') {
		return func(s *scope) bool { return len(elements(s)) > 0 }
	}
	if p.variable != "" { // n elements within n elements within ...
		return p.unsupported("any() within any() is not supported")
	}
	if p.variable = p.word(); p.variable == "" {
		return p.fail("any() needs a name for the element, as in any(x:x eq 'a'),")
	}
	p.expect(':')
	tests := p.tests
	body := p.or()
	p.variable = ""
	p.expect(')')
	if p.depth == 1 && p.tests == tests+1 && p.within != nil {
		p.require(condition{list.name, p.within.operator, p.within.value})
	}
	p.within = nil
	return func(s *scope) bool {
		return slices.ContainsFunc(elements(s), func(element string) bool {
			s.element = element
			return body(s)
		})
	}
}

func (p *parser) comparison(left operand) predicate {
	p.space()
	before := p.at
	operator := strings.ToLower(p.word())
	switch operator {
	case "eq", "ne", "ge", "le", "gt", "lt":
		if (operator == "gt" || operator == "lt") && !p.schema.ordered() {
			break
		}
		right := p.literal()
		switch c := (condition{left.name, operator, right}); {
		case operator == "ne":
		case p.variable != "" && p.depth == 2 && operator == "eq":
			p.within = &c
		case p.variable == "" && p.depth == 1:
			p.require(c)
		}
		return p.compare(left, operator, right)
	case "in":
		return p.in(left)
	case "has":
		return p.unsupported("the operator '%s' is not supported for '%s'", operator, left.name)
	case "", "and", "or": // a bool by itself
		if left.value == boolValue {
			p.at = before
			return func(s *scope) bool { return left.get(s) == true }
		}
	}
	if operator == "gt" || operator == "lt" {
		return p.unsupported("the operator '%s' is not supported for '%s'", operator, left.name)
	}
	p.at = before
	return p.fail("expected an operator (eq, ne, ge, le, in) after '%s'", left.name)
}

// require notes a condition that every match fulfils.
func (p *parser) require(c condition) {
	if !p.some {
		p.must = append(p.must, c)
	}
}

func (p *parser) in(left operand) predicate {
	p.expect('(')
	var tests []predicate
	for p.err == nil {
		if p.tests++; p.tests > maxFilterTests {
			return p.fail("more than %d values to compare with", maxFilterTests)
		}
		tests = append(tests, p.compare(left, "eq", p.literal()))
		if !p.sign(',') {
			break
		}
	}
	p.expect(')')
	return func(s *scope) bool {
		return slices.ContainsFunc(tests, func(t predicate) bool { return t(s) })
	}
}

// compare compiles left operator right. Null equals null only.
func (p *parser) compare(left operand, operator string, right literal) predicate {
	if p.err != nil {
		return never
	}
	if operator == "ne" {
		equal := p.compare(left, "eq", right)
		p.advanced = true
		return func(s *scope) bool { return !equal(s) }
	}
	incompatible := func() predicate {
		return p.fail("'%s' cannot be compared with %s", left.name, right.kind)
	}
	switch left.value {
	case complexValue, textsValue:
		return p.unsupported("'%s' cannot be compared; collections are filtered with %s/any(x:x eq 'value')", left.name, left.name)
	}
	if operator != "eq" && left.value != timeValue && left.value != numberValue {
		return p.unsupported("the operator '%s' is supported for dates only, not for '%s'", operator, left.name)
	}
	if right.kind == literalNull {
		if operator != "eq" {
			return incompatible()
		}
		return func(s *scope) bool { return left.get(s) == nil }
	}
	switch left.value {
	case textValue:
		if right.kind != literalText && right.kind != literalGUID {
			return incompatible()
		}
		return func(s *scope) bool {
			v, ok := left.get(s).(string)
			return ok && strings.EqualFold(v, right.text)
		}
	case boolValue:
		if right.kind != literalBool {
			return incompatible()
		}
		return func(s *scope) bool { return left.get(s) == right.yes }
	case numberValue:
		if right.kind != literalNumber {
			return incompatible()
		}
		return func(s *scope) bool {
			v, ok := left.get(s).(int)
			return ok && holds(operator, cmp.Compare(v, right.number))
		}
	}
	if right.kind != literalTime {
		return incompatible()
	}
	return func(s *scope) bool {
		v, ok := left.get(s).(time.Time)
		if !ok {
			return false
		}
		return holds(operator, v.Compare(right.time))
	}
}

// holds reports whether an operator allows an order of its sides.
func holds(operator string, order int) bool {
	switch operator {
	case "ge":
		return order >= 0
	case "gt":
		return order > 0
	case "le":
		return order <= 0
	case "lt":
		return order < 0
	}
	return order == 0
}
