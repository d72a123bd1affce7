package directory

import (
	"context"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// States of an invitation (Microsoft Graph externalUserState).
const (
	PendingAcceptance = "PendingAcceptance"
	Accepted          = "Accepted"
)

// External links a guest to the account that signs in for it, which belongs to another tenant: its home.
type External struct {
	Address  string    `json:"address"`       // that was invited, in lower case
	Home     ID        `json:"home,omitzero"` // the account's object id at home; zero while no account of the address has been seen
	State    string    `json:"state"`
	Changed  time.Time `json:"changed"`            // of the state
	Redirect string    `json:"redirect,omitempty"` // where the person goes after accepting; http or https
}

// guestKey finds a guest of a tenant: by the account at home, or, while there is none, by the address that was invited.
type guestKey struct {
	tenant, home ID
	address      string
}

func (u *User) guestKey() guestKey {
	if u.External.Home.IsZero() {
		return guestKey{tenant: u.Tenant, address: u.External.Address}
	}
	return guestKey{tenant: u.Tenant, home: u.External.Home}
}

// Home returns the account that signs in for u: u itself, but for a guest who has accepted the account at home. It is nil when that
// is gone, and for a guest who has not accepted yet.
func (s *State) Home(u *User) *User {
	switch {
	case u == nil || u.External == nil:
		return u
	case u.External.State != Accepted:
		return nil
	}
	return s.User(u.External.Home)
}

// GuestOf returns the guest of a tenant for whom an account of another tenant signs in, accepted or still pending; nil when it was not
// invited. The link is the object id: whoever is given the name of an account that was invited is not that account.
func (s *State) GuestOf(tenant ID, home *User) *User {
	if home.External != nil || home.Tenant == tenant {
		return nil
	}
	for _, key := range []guestKey{{tenant: tenant, home: home.ID}, {tenant: tenant, address: strings.ToLower(home.UPN)}} {
		if id, ok := s.guests.Get(key); ok {
			return s.User(id)
		}
	}
	return nil
}

// Invitation is what Invite takes.
type Invitation struct {
	Tenant      ID
	Address     string // the user principal name at home
	DisplayName string // empty: the part of the address before the @
	Type        string // Guest or Member; empty: Guest
	Redirect    string // where the person goes after accepting
}

// Invite adds a guest to a tenant, whom an account of another tenant signs in for once the person accepts. If the account exists already it
// is noted by its object id, silently: nobody learns from an invitation who exists elsewhere. Somebody who was invited before stays the same guest.
func (d *Directory) Invite(ctx context.Context, by Actor, n Invitation) (*User, error) {
	address := strings.ToLower(n.Address)
	if err := checkAddress(address); err != nil {
		return nil, err
	}
	var guest *User
	err := d.update(ctx, by, func(p *plan) error {
		if err := p.mayWrite(by, n.Tenant); err != nil {
			return err
		}
		_, domain, _ := strings.Cut(address, "@")
		if t := p.TenantByDomain(domain); t != nil && t.ID == n.Tenant {
			return fault.New(fault.Invalid, "The address %s is of this organization, whose accounts need no invitation.", n.Address).
				At("invitedUserEmailAddress").WithCode("Request_BadRequest")
		}
		link := &External{Address: address, State: PendingAcceptance, Changed: p.now, Redirect: n.Redirect}
		home := p.UserByUPN(address)
		if home != nil {
			if guest = p.GuestOf(n.Tenant, home); guest != nil {
				return nil
			}
			link.Home = home.ID
		} else if id, ok := p.guests.Get(guestKey{tenant: n.Tenant, address: address}); ok {
			guest = p.User(id)
			return nil
		}
		id, err := p.newID()
		if err != nil {
			return err
		}
		guest = &User{
			ID: id, Tenant: n.Tenant, DisplayName: n.DisplayName, Mail: n.Address, Type: n.Type, Enabled: true, Created: p.now, External: link,
		}
		guest.UPN = p.guestName(p.Tenant(n.Tenant), guest)
		if guest.Type == "" {
			guest.Type = Guest
		}
		if guest.DisplayName == "" {
			guest.DisplayName, _, _ = strings.Cut(n.Address, "@")
		}
		if err := p.checkUser(guest); err != nil {
			return err
		}
		p.put(KindUser, id.String(), n.Tenant, guest)
		return nil
	})
	return guest, err
}

// Accept links a pending guest to the account of the person who accepts the invitation.
func (d *Directory) Accept(ctx context.Context, home *User, guest ID) error {
	return d.update(ctx, Actor{ID: home.ID, Tenant: home.Tenant}, func(p *plan) error {
		u, person := p.User(guest), p.User(home.ID)
		if u == nil || person == nil || p.GuestOf(u.Tenant, person) != u {
			return ErrNoObject(guest.String())
		}
		if u.External.State == Accepted {
			return nil
		}
		accepted := *u
		accepted.External = &External{Address: u.External.Address, Home: person.ID, State: Accepted, Changed: p.now}
		p.put(KindUser, guest.String(), u.Tenant, &accepted)
		return nil
	})
}

// external marks the user principal names of guests.
const external = "#EXT#"

// guestName makes the user principal name of a guest: the address with '_' for '@' (Microsoft Entra B2B, "Properties of a B2B
// collaboration user"). Where that is taken, or too long, the guest's id is in it.
func (p *plan) guestName(t *Tenant, guest *User) string {
	local := strings.Map(func(r rune) rune {
		if isNameRune(r) {
			return r
		}
		return '_'
	}, guest.External.Address)
	local = strings.TrimLeft(local, ".")
	name := local + external + "@" + t.DefaultDomain()
	if len(local)+len(external) > maxLocal || len(name) > maxUPN || p.UserByUPN(name) != nil {
		room := min(maxLocal, maxUPN-len("@"+t.DefaultDomain())) - len(external) - 9
		name = local[:max(0, min(len(local), room))] + "_" + guest.ID.String()[:8] + external + "@" + t.DefaultDomain()
	}
	return name
}

// checkAddress accepts addresses of the form of a user principal name.
func checkAddress(address string) error {
	local, domain, _ := strings.Cut(address, "@")
	if local == "" || len(address) > maxUPN || checkDomain(domain) != nil ||
		strings.ContainsFunc(local, func(r rune) bool { return r != '+' && !isNameRune(r) }) {
		return fault.New(fault.Invalid, "The invited user's address %q is not of the form name@domain.", address).
			At("invitedUserEmailAddress").WithCode("Request_BadRequest")
	}
	return nil
}
