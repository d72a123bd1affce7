package arm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// lines returns the lines of a table that hold cases.
func lines(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

func TestQuestion(t *testing.T) {
	for _, line := range lines(t, "actions.txt") {
		f := strings.Fields(line)
		action, scope := question(f[0], strings.Split(f[1][1:], "/"))
		if action != f[2] || scope != f[3] {
			t.Errorf("%s %s is %s at %s, want %s at %s", f[0], f[1], action, scope, f[2], f[3])
		}
	}
}

func TestFilter(t *testing.T) {
	for _, line := range lines(t, "filters.txt") {
		text, want, _ := strings.Cut(line, " | ")
		f, err := parseFilter(text, "tagName", "tagValue", "resourceType", "name")
		got := "no"
		if err == nil {
			var all []string
			for _, k := range slices.Sorted(maps.Keys(f)) {
				all = append(all, k+"="+f[k])
			}
			got = strings.Join(all, " ")
		}
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("name eq 'a' and tagName eq 'b''c'")
	f.Add("name eq '''")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFilter(text, "name", "tagName")
		if err != nil {
			return
		}
		var parts []string
		for k, v := range got {
			parts = append(parts, fmt.Sprintf("%s eq '%s'", k, strings.ReplaceAll(v, "'", "''")))
		}
		again, err := parseFilter(strings.Join(parts, " and "), "name", "tagName")
		if err != nil || !maps.Equal(got, again) {
			t.Fatalf("%q means %v, and written again %v (%v)", text, got, again, err)
		}
	})
}

const aCluster = "/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/RG/providers/Microsoft.ContainerService/managedClusters/c1"

func TestResourceID(t *testing.T) {
	id, err := ParseResourceID(aCluster + "/agentPools/np1")
	if err != nil {
		t.Fatal(err)
	}
	if id.Type() != "Microsoft.ContainerService/managedClusters/agentPools" || id.Name() != "np1" || id.Group != "RG" || id.Names[0] != "c1" {
		t.Errorf("%+v", id)
	}
	same, err := ParseResourceID(strings.ToUpper(aCluster + "/agentPools/np1"))
	if err != nil || same.Key() != id.Key() || same.String() == id.String() {
		t.Errorf("in capitals it is %v (%v)", same, err)
	}
	for _, bad := range []string{"", "/", "/subscriptions/x/resourceGroups/rg", "/subscriptions/00000000-0000-0000-0000-00000000000a",
		aCluster + "/agentPools", strings.TrimSuffix(aCluster, "/c1"), aCluster + "/a/..", "x" + aCluster, strings.Replace(aCluster, "resourceGroups", "groups", 1), aCluster + "/a/b%2fc"} {
		if id, err := ParseResourceID(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, id)
		}
	}
}

func FuzzResourceID(f *testing.F) {
	f.Add(aCluster)
	f.Add("/subscriptions/00000000-0000-0000-0000-00000000000A/resourcegroups/rg")
	f.Add("/subscriptions//resourceGroups/rg/providers/a/b/c")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseResourceID(s)
		if err != nil {
			return
		}
		text := "/subscriptions/" + id.Subscription.String() + "/resourceGroups/" + id.Group
		if id.Namespace != "" {
			text += "/providers/" + id.Namespace
			for i := range id.Types {
				text += "/" + id.Types[i] + "/" + id.Names[i]
			}
		}
		again, err := ParseResourceID(text)
		if err != nil || again.Key() != id.Key() || again.Type() != id.Type() {
			t.Fatalf("%q is %q by its parts (%v)", s, text, err)
		}
	})
}

// FuzzQuestion demands that no path makes a scope that is not its beginning: a right at one resource must never be
// asked for at another.
func FuzzQuestion(f *testing.F) {
	f.Add("POST", strings.TrimPrefix(aCluster, "/")+"/listKeys")
	f.Add("GET", "subscriptions/providers/providers/providers")
	f.Fuzz(func(t *testing.T, method, path string) {
		segments := strings.Split(path, "/")
		_, scope := question(method, segments)
		if !strings.HasPrefix("/"+path, scope) {
			t.Fatalf("%s /%s asks at %s", method, path, scope)
		}
	})
}
