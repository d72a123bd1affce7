package sts

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

const (
	accessLife  = 60 * time.Minute // and a random part of accessRange, so that clients do not come back all at once
	accessRange = 30 * time.Minute
	idLife      = time.Hour
	backdate    = 5 * time.Minute // for verifiers whose clock is a little behind ours
	groupLimit  = 200             // object ids that an access token holds; of more it tells where to find them
)

// accessClaims are the claims of access tokens (Microsoft identity platform, "Access token claims reference").
type accessClaims struct {
	Audience  string   `json:"aud"`
	Issuer    string   `json:"iss"`
	IssuedAt  int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	Expires   int64    `json:"exp"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`

	AppID    string `json:"appid,omitempty"` // version 1
	AppIDACR string `json:"appidacr,omitempty"`
	AZP      string `json:"azp,omitempty"` // version 2
	AZPACR   string `json:"azpacr,omitempty"`

	person
	IDP          string   `json:"idp,omitempty"` // where a guest signs in; version 1: of everybody
	IDType       string   `json:"idtyp"`
	Capabilities []string `json:"xms_cc,omitempty"`

	Confirmation *Confirmation `json:"cnf,omitempty"`

	Object  string `json:"oid"`
	Scopes  string `json:"scp,omitempty"`
	Session string `json:"sid,omitempty"`
	Subject string `json:"sub"`
	Tenant  string `json:"tid"`
	UTI     string `json:"uti"`
	Version string `json:"ver"`

	IdentityResource string `json:"xms_mirid,omitempty"` // the ARM id of a managed identity's resource
}

// source is where a claim that did not fit can be read (OpenID Connect Core 1.0 section 5.6.2).
type source struct {
	Endpoint string `json:"endpoint"`
}

// idClaims are the claims of ID tokens. They never hold appid, azp or scp: by those an access token is known.
type idClaims struct {
	person
	Audience  string   `json:"aud"`
	Issuer    string   `json:"iss"`
	IssuedAt  int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	Expires   int64    `json:"exp"`
	AMR       []string `json:"amr,omitempty"`    // version 1
	CodeHash  string   `json:"c_hash,omitempty"` // of the code that comes with it (OpenID Connect Core 1.0 section 3.3.2.11)
	IDP       string   `json:"idp,omitempty"`    // of guests
	Nonce     string   `json:"nonce,omitempty"`
	Object    string   `json:"oid"`
	Session   string   `json:"sid"`
	Subject   string   `json:"sub"`
	Tenant    string   `json:"tid"`
	UTI       string   `json:"uti"`
	Version   string   `json:"ver"`
}

// answerV2 is the answer of version 2 token endpoints.
type answerV2 struct {
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope,omitempty"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	FOCI         string `json:"foci,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	ClientInfo   string `json:"client_info,omitempty"`
}

// answerV1 is the answer of version 1 token endpoints: its numbers are strings.
type answerV1 struct {
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope,omitempty"`
	ExpiresIn    string `json:"expires_in"`
	ExtExpiresIn string `json:"ext_expires_in"`
	ExpiresOn    string `json:"expires_on"`
	NotBefore    string `json:"not_before"`
	Resource     string `json:"resource"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	FOCI         string `json:"foci,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	ClientInfo   string `json:"client_info,omitempty"`
}

// mint signs the tokens of an exchange and puts the answer together.
func (s *Server) mint(ctx context.Context, x *exchange) (any, error) {
	life, err := s.accessLife(x)
	if err != nil {
		return nil, err
	}
	claims, err := s.accessClaims(x, life)
	if err != nil {
		return nil, err
	}
	a := answerV2{TokenType: x.tokenType(), ExpiresIn: int64(life.Seconds()), ExtExpiresIn: int64(life.Seconds())}
	if a.AccessToken, err = s.Keys.Sign(ctx, claims, x.target.version == 1); err != nil {
		return nil, err
	}
	if x.subject.user != nil {
		if err := s.forUser(ctx, x, &a); err != nil {
			return nil, err
		}
	}
	if x.version == 2 {
		return a, nil
	}
	seconds := strconv.FormatInt(a.ExpiresIn, 10)
	return answerV1{
		TokenType: a.TokenType, Scope: a.Scope, ExpiresIn: seconds, ExtExpiresIn: seconds,
		ExpiresOn: epoch(x.now.Add(life)), NotBefore: epoch(x.now.Add(-backdate)), Resource: x.ask.resource,
		AccessToken: a.AccessToken, RefreshToken: a.RefreshToken, FOCI: a.FOCI, IDToken: a.IDToken, ClientInfo: a.ClientInfo,
	}, nil
}

// tokenType is the member of the answer by which clients keep bound and bearer tokens apart.
func (x *exchange) tokenType() string {
	if x.bound != nil {
		return "pop"
	}
	return "Bearer"
}

// forUser adds what only users get: refresh token, ID token, and the account's identity for the client's cache.
func (s *Server) forUser(ctx context.Context, x *exchange, a *answerV2) (err error) {
	a.Scope = x.target.echo
	if x.ask.offline || x.form["grant_type"] == "refresh_token" {
		if a.RefreshToken, err = s.sealRefresh(ctx, x); err != nil {
			return err
		}
		if directory.InFamily(x.client.app.AppID) {
			a.FOCI = "1"
		}
	}
	if x.ask.wants("openid") {
		claims, err := s.idClaims(x)
		if err != nil {
			return err
		}
		if a.IDToken, err = s.Keys.Sign(ctx, claims, x.version == 1); err != nil {
			return err
		}
	}
	if x.form["client_info"] == "1" {
		a.ClientInfo = clientInfo(x.subject.home)
	}
	return nil
}

// clientInfo is the account's identity for the client's cache: that at home, in every tenant.
func clientInfo(u *directory.User) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"uid":"` + u.ID.String() + `","utid":"` + u.Tenant.String() + `"}`))
}

// accessClaims fills in the claims of the version that the resource wants.
func (s *Server) accessClaims(x *exchange, life time.Duration) (*accessClaims, error) {
	uti, err := s.uti()
	if err != nil {
		return nil, err
	}
	tenant, id := x.subject.tenant.ID.String(), x.client.app.AppID.String()
	c := &accessClaims{
		Audience: x.target.audience, Issuer: x.authority.Issuer(tenant, x.target.version),
		IssuedAt: x.now.Unix(), NotBefore: x.now.Add(-backdate).Unix(), Expires: x.now.Add(life).Unix(),
		Tenant: tenant, UTI: uti, Version: "1.0", Confirmation: x.bound,
	}
	if x.target.version == 2 {
		c.Version, c.AZP, c.AZPACR = "2.0", id, x.client.acr()
	} else {
		c.AppID, c.AppIDACR, c.IDP = id, x.client.acr(), c.Issuer
	}
	principal := x.client.principal.ID
	if u := x.subject.user; u != nil {
		principal = u.ID
		c.IDType, c.Scopes, c.Session = "user", strings.Join(x.target.scopes, " "), x.subject.session.ID.String()
		c.Subject, c.Name = pairwise(u.ID, x.target.resource.AppID), u.DisplayName
		if x.target.version == 2 {
			c.PreferredUsername = x.subject.home.UPN
		} else {
			c.ACR, c.AMR = "1", x.subject.session.AMR
			c.FamilyName, c.GivenName, c.Address = u.Surname, u.GivenName, address(x)
			c.UPN, c.UniqueName = names(u, x.subject.home)
		}
		if idp := x.idp(); idp != "" {
			c.IDP = idp
		}
	} else {
		c.IDType, c.Subject = "app", principal.String()
		if sp := x.identity(); sp != nil {
			c.IdentityResource = sp.Resource
		}
	}
	c.Object = principal.String()
	x.addRights(&c.person, x.target.resource, x.target.principal, principal)
	if x.subject.user != nil {
		x.addOptional(&c.person, x.target.resource.Optional.Access)
	}
	c.Capabilities = x.capabilities()
	return c, nil
}

// idClaims fills in the claims of the version of the endpoint.
func (s *Server) idClaims(x *exchange) (*idClaims, error) {
	uti, err := s.uti()
	if err != nil {
		return nil, err
	}
	u, tenant, id := x.subject.user, x.subject.tenant.ID.String(), x.client.app.AppID
	c := &idClaims{
		Audience: id.String(), Issuer: x.authority.Issuer(tenant, x.version),
		IssuedAt: x.now.Unix(), NotBefore: x.now.Add(-backdate).Unix(), Expires: x.now.Add(idLife).Unix(),
		Object: u.ID.String(), Session: x.subject.session.ID.String(), Subject: pairwise(u.ID, id), Tenant: tenant, UTI: uti, Version: "1.0",
		Nonce: x.subject.nonce, IDP: x.idp(),
	}
	c.AuthTime = x.subject.authTime
	x.addRights(&c.person, x.client.app, x.client.principal, u.ID)
	defer x.addOptional(&c.person, x.client.app.Optional.ID)
	if x.version == 1 {
		c.AMR, c.FamilyName, c.GivenName, c.Name, c.Address = x.subject.session.AMR, u.Surname, u.GivenName, u.DisplayName, address(x)
		c.UPN, c.UniqueName = names(u, x.subject.home)
		return c, nil
	}
	c.Version = "2.0"
	if x.ask.wants("profile") {
		c.Name, c.PreferredUsername = u.DisplayName, x.subject.home.UPN
	}
	if x.ask.wants("email") {
		c.Email = u.Mail
	}
	return c, nil
}

// idp is the issuer of a guest's home; "" of others.
func (x *exchange) idp() string {
	if x.subject.user == x.subject.home {
		return ""
	}
	return x.authority.Issuer(x.subject.home.Tenant.String(), 1)
}

// names are the upn and unique_name of a user. A guest has no upn: its name belongs to another directory.
func names(u, home *directory.User) (upn, unique string) {
	if u != home {
		return "", home.UPN
	}
	if u.Type != directory.Guest {
		return u.UPN, u.UPN
	}
	if u.Mail != "" {
		return "", u.Mail
	}
	return "", u.UPN
}

func address(x *exchange) string {
	if !x.address.IsValid() {
		return ""
	}
	return x.address.String()
}

// pairwise is the subject of a user towards an application: two applications cannot join their users by it (OpenID Connect Core 1.0
// section 8.1).
func pairwise(user, app directory.ID) string {
	sum := sha256.Sum256(append(append([]byte("sub\x00"), user[:]...), app[:]...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// uti makes the unique id of a token.
func (s *Server) uti() (string, error) {
	return s.randomText(16, "a token id")
}

// accessLife is the life of an exchange's access token. Those of managed identities live a day.
func (s *Server) accessLife(x *exchange) (time.Duration, error) {
	if x.identity() != nil {
		return identityLife, nil
	}
	return s.Lifetimes.access(s.random())
}
