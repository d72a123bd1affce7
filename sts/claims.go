package sts

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// person are the claims about a principal that tokens of both kinds can hold.
type person struct {
	Account           *int              `json:"acct,omitempty"`      // 0: a member, 1: a guest
	AuthTime          int64             `json:"auth_time,omitempty"` // asked for by max_age
	Email             string            `json:"email,omitempty"`
	FamilyName        string            `json:"family_name,omitempty"`
	GivenName         string            `json:"given_name,omitempty"`
	Groups            []string          `json:"groups,omitempty"`
	ClaimNames        map[string]string `json:"_claim_names,omitempty"`
	ClaimSources      map[string]source `json:"_claim_sources,omitempty"`
	Address           string            `json:"ipaddr,omitempty"`
	LoginHint         string            `json:"login_hint,omitempty"`
	Name              string            `json:"name,omitempty"`
	PreferredUsername string            `json:"preferred_username,omitempty"`
	Roles             []string          `json:"roles,omitempty"`
	UniqueName        string            `json:"unique_name,omitempty"`
	UPN               string            `json:"upn,omitempty"`
	WIDs              []string          `json:"wids,omitempty"` // template ids of directory roles
}

// addRights puts in which rights a principal has at the application that reads the token: app roles, groups, directory roles, as
// its registration wants them. sp is the application's account in the tenant.
func (x *exchange) addRights(p *person, app *directory.Application, sp *directory.ServicePrincipal, principal directory.ID) {
	dir := x.dir()
	var direct []directory.ID
	if x.subject.user != nil {
		direct = dir.MemberOf(principal, x.now)
	}
	p.Roles = directory.RoleValues(app, dir.Assigned(principal, sp.ID, direct))
	wants := app.GroupClaims.Has
	if wants(directory.ClaimDirectoryRole) || wants(directory.ClaimAll) {
		for _, role := range dir.RolesOf(principal) {
			p.WIDs = append(p.WIDs, role.String())
		}
	}
	switch {
	case wants(directory.ClaimAll), wants(directory.ClaimSecurityGroup):
		ids, _ := dir.GroupsOf(principal, x.now)
		for _, id := range ids {
			if g := dir.Group(id); g != nil && (g.SecurityEnabled || wants(directory.ClaimAll)) {
				p.Groups = append(p.Groups, id.String())
			}
		}
	case wants(directory.ClaimApplicationGroup):
		for _, id := range dir.MemberOf(principal, x.now) {
			if len(dir.Assigned(id, sp.ID, nil)) > 0 {
				p.Groups = append(p.Groups, id.String())
			}
		}
	}
	x.limitGroups(p, principal)
}

// limitGroups takes the groups out when there are too many: the token then tells where they can be read.
func (x *exchange) limitGroups(p *person, principal directory.ID) {
	if len(p.Groups) <= groupLimit {
		return
	}
	kind := "users"
	if x.subject.user == nil {
		kind = "servicePrincipals"
	}
	endpoint := x.authority.Graph + "/v1.0/" + kind + "/" + principal.String() + "/getMemberObjects"
	if x.authority.Login == cloudLogin {
		endpoint = "https://graph.windows.net/" + x.subject.tenant.ID.String() + "/" + kind + "/" + principal.String() + "/getMemberObjects" // as the cloud still has it
	}
	p.Groups = nil
	p.ClaimNames = map[string]string{"groups": "src1"}
	p.ClaimSources = map[string]source{"src1": {endpoint}}
}

// addOptional puts in the claims about a user that an application asks for (Microsoft identity platform, "Optional claims reference"). idtyp
// and sid are in every token here.
func (x *exchange) addOptional(p *person, list []directory.OptionalClaim) {
	u := x.subject.user
	for _, c := range list {
		switch c.Name {
		case "acct":
			guest := 0
			if u.Type == directory.Guest {
				guest = 1
			}
			p.Account = &guest
		case "auth_time":
			p.AuthTime = time.Unix(0, x.subject.session.Began).Unix()
		case "email":
			p.Email = u.Mail
		case "family_name":
			p.FamilyName = u.Surname
		case "given_name":
			p.GivenName = u.GivenName
		case "ipaddr":
			p.Address = address(x)
		case "login_hint":
			p.LoginHint = x.subject.home.UPN
		case "preferred_username":
			p.PreferredUsername = x.subject.home.UPN
		case "upn":
			p.UPN, _ = names(u, x.subject.home)
		}
	}
}

// wantsClaim reports whether a claim is among those that an application asks for, with a property if one is named.
func wantsClaim(list []directory.OptionalClaim, name, property string) bool {
	return slices.ContainsFunc(list, func(c directory.OptionalClaim) bool {
		return c.Name == name && (property == "" || slices.Contains(c.Properties, property))
	})
}

// capabilities are what the client says of itself that the resource wants to know (xms_cc): CP1 alone, that it understands claims
// challenges.
func (x *exchange) capabilities() []string {
	if !wantsClaim(x.target.resource.Optional.Access, "xms_cc", "") {
		return nil
	}
	var asked struct {
		Access struct {
			Capabilities struct {
				Values []string `json:"values"`
			} `json:"xms_cc"`
		} `json:"access_token"`
	}
	if json.Unmarshal([]byte(x.form["claims"]), &asked) != nil {
		return nil
	}
	if slices.ContainsFunc(asked.Access.Capabilities.Values, func(v string) bool { return strings.EqualFold(v, "CP1") }) {
		return []string{"CP1"}
	}
	return nil
}
