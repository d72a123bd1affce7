package graph

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// filterCase is one case of testdata/filter: a line "# name", the filter, then the names that match ("= a b"), a part of
// the refusal ("! ..." for a mistake, "? ..." for something not supported), and "advanced" if it needs that.
type filterCase struct {
	name, filter string
	names        []string
	refusal      string
	code         string
	advanced     bool
}

func filterCases(t testing.TB, file string) []filterCase {
	t.Helper()
	raw, err := os.ReadFile("testdata/filter/" + file)
	must(t, err)
	var all []filterCase
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		lines := strings.Split(strings.Trim(block, "\n"), "\n")
		if !strings.HasPrefix(lines[0], "# ") {
			continue // prose
		}
		if len(lines) < 3 {
			t.Fatalf("%s: %q is not a case", file, block)
		}
		c := filterCase{name: lines[0][2:], filter: lines[1], advanced: slices.Contains(lines[3:], "advanced")}
		if c.filter == "!" {
			c.filter = ""
		}
		switch rest := strings.TrimSpace(lines[2][1:]); lines[2][0] {
		case '=':
			c.names = strings.Fields(rest)
		case '!':
			c.refusal, c.code = rest, codeBadRequest
		case '?':
			c.refusal, c.code = rest, codeUnsupported
		default:
			t.Fatalf("%s: %q has no expectation", file, block)
		}
		all = append(all, c)
	}
	return all
}

func filterObjects() map[string][]object {
	day := func(text string) time.Time {
		d, err := time.Parse(time.RFC3339, text)
		if err != nil {
			panic(err)
		}
		return d
	}
	id := func(n byte) directory.ID { return directory.ID{6: 0x40, 8: 0x80, 15: n} }
	users := []*directory.User{
		{ID: id(0x0a), DisplayName: "alice", UPN: "alice@gatehouse.internal", Type: directory.Member, Enabled: true, Mail: "a@x.example", Department: "Engineering", Created: day("2026-01-01T00:00:00Z")},
		{ID: id(0x0b), DisplayName: "bob", UPN: "Bob@gatehouse.internal", Type: directory.Member, Created: day("2026-02-01T00:00:00Z")},
		{ID: id(0x0c), DisplayName: "o'hara", UPN: "o'hara@gatehouse.internal", Type: directory.Guest, Enabled: true, Created: day("2026-03-01T12:00:00Z")},
	}
	apps := []*directory.Application{
		{ID: id(0xa1), AppID: id(0xb1), DisplayName: "server", IdentifierURIs: []string{"api://server", "https://server.example/"}},
		{ID: id(0xa2), AppID: id(0xb2), DisplayName: "client"},
	}
	out := map[string][]object{}
	for _, u := range users {
		out["users.txt"] = append(out["users.txt"], object{userKind, u.ID, u})
	}
	for _, a := range apps {
		out["applications.txt"] = append(out["applications.txt"], object{applicationKind, a.ID, a})
	}
	return out
}

func TestFilter(t *testing.T) {
	dir := new(directory.State)
	for file, objects := range filterObjects() {
		for _, c := range filterCases(t, file) {
			t.Run(file+"/"+c.name, func(t *testing.T) {
				f, err := parseFilter(c.filter, schemaOf(objects[0].kind))
				if c.refusal != "" {
					if err == nil || !strings.Contains(err.Error(), c.refusal) {
						t.Fatalf("%s: %v, want a refusal with %q", c.filter, err, c.refusal)
					}
					if got := errorCode(err); got != c.code {
						t.Errorf("%s: code %s, want %s", c.filter, got, c.code)
					}
					return
				}
				if err != nil {
					t.Fatalf("%s: %v", c.filter, err)
				}
				var got []string
				for _, o := range objects {
					if f.matches(dir, o) {
						got = append(got, o.kind.property("displayName").get(dir, o.entity).(string))
					}
				}
				if !slices.Equal(got, c.names) {
					t.Errorf("%s: %v, want %v", c.filter, got, c.names)
				}
				if f.advanced != c.advanced {
					t.Errorf("%s: advanced is %t", c.filter, f.advanced)
				}
			})
		}
	}
}

func errorCode(err error) string { return codeOf(fault.From(err)) }

// TestFilterLimits: what is too long, too deep or too broad is refused and not evaluated.
func TestFilterLimits(t *testing.T) {
	for name, text := range map[string]string{
		"long":  "displayName eq '" + strings.Repeat("a", maxFilter) + "'",
		"deep":  strings.Repeat("(", maxFilterDepth+1) + "accountEnabled" + strings.Repeat(")", maxFilterDepth+1),
		"not":   strings.Repeat("not ", maxFilterDepth+1) + "accountEnabled",
		"broad": strings.TrimPrefix(strings.Repeat(" or accountEnabled", maxFilterTests+1), " or "),
		"in":    "id in (" + strings.TrimPrefix(strings.Repeat(",'a'", maxFilterTests+1), ",") + ")",
	} {
		if _, err := parseFilter(text, schemaOf(userKind)); err == nil || errorCode(err) != codeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFilter: any text is refused or compiled to something that can be evaluated on every kind of object, and a text is
// never taken for a shorter one.
func FuzzFilter(f *testing.F) {
	all := filterObjects()
	for file := range all {
		for _, c := range filterCases(f, file) {
			f.Add(c.filter)
		}
	}
	dir := new(directory.State)
	f.Fuzz(func(t *testing.T, text string) {
		for _, objects := range all {
			for _, s := range []schema{schemaOf(objects[0].kind), mixed} {
				compiled, err := parseFilter(text, s)
				if err != nil {
					continue
				}
				for _, o := range objects {
					compiled.matches(dir, o)
				}
				if _, err := parseFilter(text+" )", s); err == nil {
					t.Errorf("%q and a parenthesis too many is accepted", text)
				}
				both, err := parseFilter("not("+text+")", s)
				if err != nil {
					continue // one level too deep
				}
				for _, o := range objects {
					if compiled.matches(dir, o) == both.matches(dir, o) {
						t.Errorf("%q and its negation agree on %v", text, o.id)
					}
				}
			}
		}
	})
}

func TestFilterMessagesAreShort(t *testing.T) {
	_, err := parseFilter(strings.Repeat("x", 5000)+" eq 'a'", schemaOf(userKind))
	if err == nil || len(err.Error()) > 600 {
		t.Errorf("a message of %d bytes", len(fmt.Sprint(err)))
	}
}
