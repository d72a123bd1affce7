package arm

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// filter is what a list's $filter demands, by field in lower case. Only equality joined by "and" is known, which is what
// az sends.
type filter map[string]string

// parseFilter reads conditions such as: tagName eq 'env' and tagValue eq 'test'. A quote within a value is doubled
// (OData 4.01 URL Conventions section 5.1.1.14.1).
func parseFilter(text string, fields ...string) (filter, error) {
	f := filter{}
	rest := strings.TrimSpace(text)
	for rest != "" {
		field, after, ok := strings.Cut(rest, " ")
		op, after, ok2 := strings.Cut(strings.TrimSpace(after), " ")
		value, after, ok3 := quoted(strings.TrimSpace(after))
		if !ok || !ok2 || !ok3 || !strings.EqualFold(op, "eq") || !known(field, fields) {
			return nil, errFilter(text, fields)
		}
		f[strings.ToLower(field)] = value
		if rest = strings.TrimSpace(after); rest == "" {
			break
		}
		and, next, ok := strings.Cut(rest, " ")
		if !ok || !strings.EqualFold(and, "and") || strings.TrimSpace(next) == "" {
			return nil, errFilter(text, fields)
		}
		rest = strings.TrimSpace(next)
	}
	return f, nil
}

func known(field string, fields []string) bool {
	for _, f := range fields {
		if strings.EqualFold(f, field) {
			return true
		}
	}
	return false
}

// quoted cuts a string in single quotes off the front.
func quoted(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, "'") {
		return "", "", false
	}
	var b strings.Builder
	for s = s[1:]; ; {
		piece, after, found := strings.Cut(s, "'")
		if !found {
			return "", "", false
		}
		b.WriteString(piece)
		if !strings.HasPrefix(after, "'") {
			return b.String(), after, true
		}
		b.WriteByte('\'')
		s = after[1:]
	}
}

func errFilter(text string, fields []string) error {
	return fault.New(fault.Invalid, "The filter %.200q is not understood; write conditions like %s eq 'value', joined by and, on: %s.", text, fields[0], strings.Join(fields, ", ")).
		At("$filter").WithCode("InvalidFilterInQueryString")
}

// fits reports whether a value meets the condition on a field, in any letter case, or there is none.
func (f filter) fits(field, value string) bool {
	want, ok := f[strings.ToLower(field)]
	return !ok || strings.EqualFold(want, value)
}

// tags reports whether tags meet the conditions on them. Names match in any letter case, values exactly.
func (f filter) tags(tags map[string]string) bool {
	name, named := f["tagname"]
	want, valued := f["tagvalue"]
	if !named && !valued {
		return true
	}
	for k, v := range tags {
		if (!named || strings.EqualFold(k, name)) && (!valued || v == want) {
			return true
		}
	}
	return false
}
