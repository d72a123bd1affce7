package graph

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// follow reads all pages from a path on, as az does: the links verbatim.
func (w *world) follow(path string, between func(page int), header ...string) (ids []string, pages int) {
	w.t.Helper()
	for path != "" {
		got := w.asAdmin("GET", path, "", header...).want(200, "")
		ids = append(ids, got.values("id")...)
		pages++
		next, ok := strings.CutPrefix(got.text("@odata.nextLink"), "https://graph.microsoft.com/v1.0")
		if !ok && got.text("@odata.nextLink") != "" {
			w.t.Fatalf("nextLink %s", got.text("@odata.nextLink"))
		}
		if path = next; between != nil {
			between(pages)
		}
	}
	return ids, pages
}

// TestPagingUnderChange: an object that stays is listed exactly once, whatever comes and goes meanwhile.
func TestPagingUnderChange(t *testing.T) {
	w := newWorld(t)
	var stay, go_ []string
	for i := range 20 {
		g := w.group(fmt.Sprintf("g%02d", i), directory.NewGroup{})
		if i%4 == 0 {
			go_ = append(go_, g.ID.String())
		} else {
			stay = append(stay, g.ID.String())
		}
	}
	for _, path := range []string{"/groups?$top=3", "/groups?$top=3&$orderby=displayName%20desc", "/groups?%24top=3&$filter=startswith(displayName%2C'g')"} {
		n := 0
		ids, pages := w.follow(path, func(int) {
			w.group(fmt.Sprintf("g%02d new", n), directory.NewGroup{})
			if n++; n < 5 {
				_ = w.dir.DeleteGroup(t.Context(), directory.System, directory.MustParseID(go_[n]))
			}
		})
		if pages < 6 {
			t.Errorf("%s: %d pages", path, pages)
		}
		for _, id := range stay {
			if n := len(slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return s != id })); n != 1 {
				t.Errorf("%s: %s is listed %d times", path, id, n)
			}
		}
	}
	members, _ := w.follow("/groups/"+w.owned.ID.String()+"/members", nil)
	if len(members) != 0 {
		t.Errorf("members of an empty group: %v", members)
	}
}

func TestOrderAndCount(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"delta", "Alpha", "charlie", "Bravo", "alpha"} {
		w.group(name, directory.NewGroup{})
	}
	got := w.asAdmin("GET", "/groups?$orderby=displayName&$select=displayName", "").want(200, "")
	if names := strings.ToLower(strings.Join(got.values("displayName"), " ")); names != "alpha alpha bravo charlie delta owned" {
		t.Errorf("sorted: %s", names)
	}
	if want := "https://graph.microsoft.com/v1.0/$metadata#groups(displayName)"; got.text("@odata.context") != want {
		t.Errorf("context %s, want %s", got.text("@odata.context"), want)
	}
	got = w.asAdmin("GET", "/groups?$orderby=displayname+desc&$filter=displayName+ne+'owned'&$count=true&$top=2", "", "ConsistencyLevel", "eventual").want(200, "")
	if names := strings.Join(got.values("displayName"), " "); names != "delta charlie" || got.at("@odata.count") != 5.0 {
		t.Errorf("%s of %v", names, got.at("@odata.count"))
	}
	if n := w.asAdmin("GET", "/groups/$count?$filter=startswith(displayName,'a')", "", "ConsistencyLevel", "eventual"); n.status != 200 || n.body != "2" {
		t.Errorf("$count: %d %s", n.status, n.body)
	}
}

// TestOptions: what is not understood is refused with a message that names it.
func TestOptions(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		path, code, message string
		header              []string
	}{
		{path: "/users?$top=0", message: "Invalid page size specified: '0'"},
		{path: "/users?$top=1000", message: "Invalid page size specified: '1000'"},
		{path: "/users?$top=many", message: "'many'"},
		{path: "/users?$select=nickname", message: "'nickname' on type 'microsoft.graph.user'"},
		{path: "/users?$expand=manager", message: "'manager' of type 'microsoft.graph.user' cannot be expanded"},
		{path: "/groups?$expand=members,owners", code: "Request_UnsupportedQuery", message: "one relation at a time"},
		{path: "/groups?$expand=members(", message: "no closing parenthesis"},
		{path: "/groups?$expand=members($top=1)", message: "takes $select alone"},
		{path: "/users?$skip=3", message: "'$skip' is not supported here"},
		{path: "/users?$search=%22displayName:a%22", code: "Request_UnsupportedQuery", message: "$search is not supported"},
		{path: "/users?$skiptoken=abc", message: "$skiptoken is not one that this server made"},
		{path: "/users?$orderby=mail", code: "Request_UnsupportedQuery", message: "$orderby=mail"},
		{path: "/groups?$orderby=userPrincipalName", code: "Request_UnsupportedQuery", message: "$orderby=userPrincipalName"},
		{path: "/users?$count=yes", message: "$count is 'yes'"},
		{path: "/users?$count=true", code: "Request_UnsupportedQuery", message: "ConsistencyLevel: eventual"},
		{path: "/users/$count", code: "Request_UnsupportedQuery", message: "ConsistencyLevel: eventual"},
		{path: "/users?$filter=displayName%20ne%20'a'", code: "Request_UnsupportedQuery", message: "ConsistencyLevel: eventual"},
		{path: "/users?$filter=displayName%20ne%20'a'", code: "Request_UnsupportedQuery", message: "$count=true", header: []string{"ConsistencyLevel", "eventual"}},
		{path: "/users?$filter=accountEnabled&$orderby=displayName", code: "Request_UnsupportedQuery", message: "$orderby together with $filter"},
		{path: "/users?$filter=a&$filter=b", message: "more than once"},
		{path: "/users?$filter=%zz", message: "not percent-encoded correctly"},
		{path: "/me?$filter=accountEnabled", message: "'$filter' is not supported here"},
		{path: "/me/memberOf/microsoft.graph.drive", message: "'microsoft.graph.drive'"},
		{path: "/organization?$filter=id%20eq%20null", message: "'$filter' is not supported here"},
	} {
		code := c.code
		if code == "" {
			code = "Request_BadRequest"
		}
		got := w.asAdmin("GET", c.path, "", c.header...).want(400, code)
		if !strings.Contains(got.text("error/message"), c.message) {
			t.Errorf("GET %s: message %q, want one with %q", c.path, got.text("error/message"), c.message)
		}
	}
	w.asAdmin("GET", "/users?api-version=1.6&TOP=1&$Select=ID", "").want(200, "")
	w.asAdmin("PUT", "/users", "").want(405, "MethodNotAllowed")
	w.asAdmin("GET", "/drives", "").want(404, "Request_ResourceNotFound")
}

func TestSelectAndExpand(t *testing.T) {
	w := newWorld(t)
	user := w.asAdmin("GET", "/users/"+w.bob.ID.String()+"?$select=accountEnabled,ID", "").want(200, "")
	if len(user.json) != 3 || user.at("accountEnabled") != true || user.text("id") != w.bob.ID.String() {
		t.Errorf("$select: %s", user.body)
	}
	group := w.asAdmin("GET", "/groups/"+w.owned.ID.String()+"?$expand=owners($select=id)", "").want(200, "")
	if group.text("owners/0/id") != w.alice.ID.String() || group.at("owners/0/displayName") != nil || group.text("displayName") != "owned" {
		t.Errorf("$expand: %s", group.body)
	}
	plain := w.asAdmin("GET", "/users/"+w.bob.ID.String(), "").want(200, "")
	names := []string{}
	for name := range plain.json {
		names = append(names, name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "@odata.context businessPhones displayName givenName id jobTitle mail mobilePhone officeLocation preferredLanguage surname userPrincipalName" {
		t.Errorf("the default answer for a user has %s", got)
	}
}

// TestLinks: links stay on the host that the client came to.
func TestLinks(t *testing.T) {
	w := newWorld(t)
	for _, host := range []string{"graph.microsoft.com", "localhost:8443"} {
		got := w.callHost(host, w.admin.UPN, "GET", "/users?$top=1&$filter=startswith(userPrincipalName,'a')", "").want(200, "")
		if want := "https://" + host + "/v1.0/$metadata#users"; got.text("@odata.context") != want {
			t.Errorf("context %s, want %s", got.text("@odata.context"), want)
		}
		next, err := url.Parse(got.text("@odata.nextLink"))
		if err != nil || next.Host != host || next.Query().Get("$filter") == "" || next.Query().Get("$top") != "1" {
			t.Errorf("nextLink %s", got.text("@odata.nextLink"))
		}
	}
}

func TestOrganization(t *testing.T) {
	w := newWorld(t)
	org := w.asAdmin("GET", "/organization", "").want(200, "")
	if org.text("value/0/id") != w.tenant.ID.String() || org.text("value/0/verifiedDomains/0/name") != domain {
		t.Errorf("organization: %s", org.body)
	}
	w.asAdmin("GET", "/organization/"+strings.ToUpper(w.tenant.ID.String()), "").want(200, "")
	if got := w.asAdmin("GET", "/domains?$select=id,isDefault", "").want(200, ""); got.text("value/0/id") != domain || got.at("value/0/isDefault") != true {
		t.Errorf("domains: %s", got.body)
	}
	w.asAdmin("GET", "/domains/"+domain, "").want(200, "")
}

// BenchmarkList asks for a page of a directory of 100,000 users.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	var records []feed.Record
	for i := range 100_000 {
		id := directory.ID{0: byte(i * 37), 1: byte(i >> 8), 2: byte(i), 3: byte(i >> 16), 6: 0x40, 8: 0x80}
		records = append(records, feed.Record{Kind: directory.KindUser, Key: id.String(), Tenant: w.tenant.ID.String(), Body: fmt.Appendf(nil,
			`{"id":%q,"tenant":%q,"userPrincipalName":"user%06d@%s","displayName":"User %06d","userType":"Member","accountEnabled":true}`, id, w.tenant.ID, i, domain, i)})
	}
	must(b, w.feed.Update(b.Context(), func(*feed.View, feed.Secrets) (feed.Change, error) { return feed.Change{Records: records}, nil }))
	token := w.token(w.admin.UPN)
	for name, query := range map[string]string{
		"page":    "?$top=100",
		"ordered": "?$top=100&$orderby=displayName",
		"filter":  "?$filter=" + url.QueryEscape("userPrincipalName eq 'user099999@"+domain+"'"),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := httptest.NewRequest("GET", "https://graph.microsoft.com/v1.0/users"+query, nil)
				r.Header.Set("Authorization", "Bearer "+token)
				rec := httptest.NewRecorder()
				w.graph.ServeHTTP(rec, r)
				if rec.Code != 200 {
					b.Fatal(rec.Body)
				}
			}
		})
	}
}
