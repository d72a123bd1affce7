package graph

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/signin"
)

const signInsPath = "/auditLogs/signIns"

// attempt adds an entry of a second after the clock.
func (w *world) attempt(second int, e signin.Entry) {
	e.Tenant = w.tenant.ID.String()
	w.signIns.Record(w.now.Add(time.Duration(second)*time.Second), e)
}

// codes are the error codes of a list, which the tests number entries by.
func codes(a answer) (out []int) {
	list, _ := a.json["value"].([]any)
	for _, v := range list {
		n, _ := v.(map[string]any)["status"].(map[string]any)["errorCode"].(float64)
		out = append(out, int(n))
	}
	return out
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	w.asAdmin("GET", "/me", "").want(200, "") // a token by password
	list := w.asAdmin("GET", signInsPath, "").want(200, "")
	if len(list.values("id")) != 1 {
		t.Fatalf("list %s", list.body)
	}
	a := w.asAdmin("GET", signInsPath+"/"+list.text("value/0/id"), "").want(200, "")
	for path, want := range map[string]any{
		"@odata.context":           "https://graph.microsoft.com/v1.0/$metadata#auditLogs/signIns/$entity",
		"createdDateTime":          "2026-11-21T12:00:00Z",
		"userPrincipalName":        w.admin.UPN,
		"userId":                   w.admin.ID.String(),
		"userDisplayName":          "Administrator",
		"appId":                    directory.AzureCLI.String(),
		"appDisplayName":           "Microsoft Azure CLI",
		"resourceDisplayName":      "Microsoft Graph",
		"resourceId":               directory.Graph.String(),
		"clientAppUsed":            "Mobile Apps and Desktop clients",
		"ipAddress":                "192.0.2.1",
		"isInteractive":            true,
		"signInEventTypes/0":       "interactiveUser",
		"conditionalAccessStatus":  "notApplied",
		"status/errorCode":         float64(0),
		"status/failureReason":     nil,
		"servicePrincipalId":       nil,
		"riskState":                nil,
		"authenticationProtocol":   "ropc",
		"deviceDetail/isCompliant": nil,
		"authenticationDetails/0/authenticationMethod": "Password",
		"authenticationDetails/0/succeeded":            true,
	} {
		if got := a.at(path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	w.asAdmin("GET", signInsPath+"/"+w.admin.ID.String(), "").want(404, "Request_ResourceNotFound")
	w.asAdmin("GET", signInsPath+"/x", "").want(404, "Request_ResourceNotFound")
	if one := w.asAdmin("GET", signInsPath+"/"+list.text("value/0/id")+"?$select=status", "").want(200, ""); len(one.json) != 2 {
		t.Errorf("selected: %s", one.body)
	}
}

// TestSignInFilter is the table of filters. Entries are numbered by their error codes and by the second.
func TestSignInFilter(t *testing.T) {
	w := newWorld(t)
	token := w.freshToken(url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {w.admin.UPN}, "password": {password}, "scope": {"https://graph.microsoft.com/.default"}})
	alice, robot := w.alice.ID.String(), w.owned.ID.String()
	w.attempt(1, signin.Entry{Code: 1, Kind: signin.InteractiveUser, User: alice, UPN: w.alice.UPN, App: directory.AzureCLI.String(), AppName: "Microsoft Azure CLI", Address: "192.0.2.7"})
	w.attempt(2, signin.Entry{Code: 2, Kind: signin.NonInteractiveUser, User: alice, UPN: w.alice.UPN, App: directory.AKSClient.String(), Correlation: robot, Address: "2001:db8::1"})
	w.attempt(3, signin.Entry{Code: 3, Kind: signin.ServicePrincipal, Principal: robot, App: robot, Browser: "kubelogin 0.2"})
	w.attempt(4, signin.Entry{Code: 4, Kind: signin.InteractiveUser, UPN: "nobody@" + domain})
	at := func(second int) string { return w.now.Add(time.Duration(second) * time.Second).Format(time.RFC3339) }
	for _, c := range []struct {
		filter string
		want   []int
	}{
		{"createdDateTime ge " + at(3), []int{4, 3}},
		{"createdDateTime gt " + at(3), []int{4}},
		{"createdDateTime le " + at(2) + " and status/errorCode ne 0", []int{2, 1}},
		{"createdDateTime lt " + at(2) + " and createdDateTime ge " + at(1), []int{1}},
		{"createdDateTime eq " + at(2), []int{2}},
		{"createdDateTime ge " + at(9), nil},
		{"createdDateTime ge " + at(3) + " or status/errorCode eq 1", []int{4, 3, 1}},
		{"(createdDateTime ge " + at(3) + ") and status/errorCode ge 4", []int{4}},
		{"not (createdDateTime ge " + at(3) + ") and status/errorCode ge 2", []int{2}},
		{"status/errorCode eq 3", []int{3}},
		{"STATUS/errorcode EQ 3", []int{3}},
		{"status/errorCode gt 1 and status/errorCode lt 4", []int{3, 2}},
		{"status/errorCode in (1, 3)", []int{3, 1}},
		{"userId eq '" + alice + "'", []int{2, 1}},
		{"userId eq '" + alice + "' and isInteractive eq true", []int{1}},
		{"userId eq '" + alice + "' and isInteractive eq false", []int{2}},
		{"userId eq 'x'", nil},
		{"userId eq null and status/errorCode ne 0", []int{4, 3}},
		{"userPrincipalName eq '" + strings.ToUpper(w.alice.UPN) + "'", []int{2, 1}},
		{"startswith(userPrincipalName,'nobody')", []int{4}},
		{"appId eq '" + directory.AKSClient.String() + "'", []int{2}},
		{"appDisplayName eq 'Microsoft Azure CLI' and status/errorCode ne 0", []int{1}},
		{"ipAddress eq '192.0.2.7'", []int{1}},
		{"ipAddress eq '2001:DB8::1'", []int{2}},
		{"correlationId eq '" + robot + "'", []int{2}},
		{"correlationId eq " + robot, []int{2}},
		{"servicePrincipalId eq '" + robot + "'", []int{3}},
		{"deviceDetail/browser eq 'kubelogin 0.2'", []int{3}},
		{"isInteractive eq true and status/errorCode ne 0", []int{4, 1}},
		{"signInEventTypes/any(t: t eq 'servicePrincipal')", []int{3}},
		{"signInEventTypes/any(t: t eq 'servicePrincipal' or t eq 'nonInteractiveUser')", []int{3, 2}},
		{"signInEventTypes/any(t: t ne 'interactiveUser')", []int{3, 2}},
		{"not signInEventTypes/any(t: t eq 'interactiveUser')", []int{3, 2}},
		{"signInEventTypes/any(t: t eq 'servicePrincipal') or status/errorCode eq 1", []int{3, 1}},
		{"userId eq '" + alice + "' or userPrincipalName eq 'nobody@" + domain + "'", []int{4, 2, 1}},
	} {
		a := w.call(token, "GET", signInsPath+filterQuery(c.filter), "").want(200, "")
		if got := codes(a); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.filter, got, c.want)
		}
	}
	for _, query := range []string{
		"$filter=status/errorCode eq 'x'", "$filter=status/nothing eq 1", "$filter=status eq 1", "$filter=createdDateTime gt 5", "$filter=userId gt 'a'", "$filter=errorCode eq 1",
		"$top=0", "$top=1001", "$orderby=userId", "$orderby=createdDateTime sideways", "$skiptoken=x", "$expand=x", "$count=true", "$select=nothing",
	} {
		name, value, _ := strings.Cut(query, "=")
		if a := w.call(token, "GET", signInsPath+"?"+name+"="+url.QueryEscape(value), ""); a.status != 400 || a.text("error/message") == "" {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	w.call(token, "GET", "/users"+filterQuery("createdDateTime gt "+at(1)), "").want(400, "Request_UnsupportedQuery") // as before: there Graph has no gt
}

// TestSignInPages: pages neither repeat nor skip an entry, in either order, while attempts go on.
func TestSignInPages(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.attempt(i+1, signin.Entry{Code: 100 + i, User: fmt.Sprintf("%08d-0000-0000-0000-000000000000", i)})
	}
	token := w.token(w.admin.UPN)
	for _, order := range []string{"desc", "asc"} {
		var got []int
		path := signInsPath + "?$filter=" + url.QueryEscape("status/errorCode ge 100 and status/errorCode le 124") + "&$top=7&$orderby=" + url.QueryEscape("createdDateTime "+order)
		pages := 0
		for ; path != ""; pages++ {
			a := w.call(token, "GET", path, "").want(200, "")
			got = append(got, codes(a)...)
			w.attempt(100+pages, signin.Entry{Code: 999})
			_, path, _ = strings.Cut(a.text("@odata.nextLink"), "/v1.0")
		}
		if order == "desc" {
			slices.Reverse(got)
		}
		if len(got) != 25 || got[0] != 100 || got[24] != 124 || !slices.IsSorted(got) || pages != 4 {
			t.Errorf("%s: %v on %d pages", order, got, pages)
		}
	}
}

// TestSignInPageIsBounded: a page looks at so many entries and no more; what fits is found by following the links.
func TestSignInPageIsBounded(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.admin.UPN)
	w.face.reads = 500
	for i := range 700 {
		name := "common"
		if i == 10 {
			name = "rare"
		}
		w.attempt(1, signin.Entry{Code: 7, PrincipalName: name, Principal: fmt.Sprintf("%08d-0000-0000-0000-000000000000", i), Proved: true})
	}
	path, pages := signInsPath+filterQuery("servicePrincipalName eq 'rare'"), 0
	var found int
	for ; path != ""; pages++ {
		a := w.call(token, "GET", path, "").want(200, "")
		found += len(codes(a))
		_, path, _ = strings.Cut(a.text("@odata.nextLink"), "/v1.0")
	}
	if found != 1 || pages != 2 {
		t.Errorf("found %d entries on %d pages", found, pages)
	}
}

// TestWhoReadsSignIns is the table of who may.
func TestWhoReadsSignIns(t *testing.T) {
	w := newWorld(t)
	theirs, other := w.newTenant("Fabrikam", "fabrikam.internal")
	ask := func(upn, scope string) string {
		return w.freshToken(url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {upn}, "password": {password}, "scope": {scope}})
	}
	for _, c := range []struct {
		name, token string
		status      int
	}{
		{"an administrator", ask(w.admin.UPN, "https://graph.microsoft.com/.default"), 200},
		{"an administrator with that scope alone", ask(w.admin.UPN, "https://graph.microsoft.com/AuditLog.Read.All"), 200},
		{"an administrator without the scope", ask(w.admin.UPN, "https://graph.microsoft.com/Directory.Read.All"), 403},
		{"a member", ask(w.alice.UPN, "https://graph.microsoft.com/.default"), 403},
		{"a guest", ask(w.gina.UPN, "https://graph.microsoft.com/.default"), 403},
		{"nobody", "", 401},
	} {
		for _, path := range []string{signInsPath, signInsPath + "/" + w.admin.ID.String()} {
			want := c.status
			if want == 200 && path != signInsPath {
				want = 404
			}
			if got := w.call(c.token, "GET", path, ""); got.status != want {
				t.Errorf("%s, %s: %d %s", c.name, path, got.status, got.body)
			}
		}
	}
	seen := w.asAdmin("GET", signInsPath, "").want(200, "")
	id := seen.text("value/0/id")
	w.tenant = theirs
	w.tokens[other.UPN] = ask(other.UPN, "https://graph.microsoft.com/.default")
	if list := w.call(other.UPN, "GET", signInsPath, "").want(200, ""); strings.Contains(list.body, domain) || len(list.values("id")) != 1 {
		t.Errorf("another tenant's administrator sees %s", list.body)
	}
	w.call(other.UPN, "GET", signInsPath+"/"+id, "").want(404, "Request_ResourceNotFound")
}
