package sts

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// userInfo is the claims about the user of an access token for Microsoft Graph (OpenID Connect Core 1.0 section 5.3).
func (s *Server) userInfo(w http.ResponseWriter, r *http.Request) error {
	view := s.Feed.View()
	t, err := s.tokens.Bearer(view, r.Header.Get("Authorization"), graphResource, directory.Graph.String())
	switch {
	case fault.Is(err, fault.Unauthenticated) || err == nil && t.AppOnly():
		noStore(w)
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="an access token of a user for Microsoft Graph is needed"`) // RFC 6750 section 3
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	case err != nil:
		return err
	}
	u := directory.In(view).User(t.Object)
	client, err := directory.ParseID(t.Client())
	if err != nil || u == nil {
		return fail(50173)
	}
	scopes := strings.Fields(t.Scopes)
	// A token of a sign-in alone has its OpenID scopes; one for Graph itself may read all of this there, too.
	may := func(scope string) bool {
		return slices.Contains(scopes, scope) || slices.Contains(scopes, "User.Read")
	}
	info := struct {
		Subject    string `json:"sub"` // as in the ID token
		Name       string `json:"name,omitempty"`
		FamilyName string `json:"family_name,omitempty"`
		GivenName  string `json:"given_name,omitempty"`
		Email      string `json:"email,omitempty"`
	}{Subject: pairwise(u.ID, client)}
	if may("profile") {
		info.Name, info.FamilyName, info.GivenName = u.DisplayName, u.Surname, u.GivenName
	}
	if may("email") {
		info.Email = u.Mail
	}
	noStore(w)
	return web.WriteJSON(w, http.StatusOK, info)
}
