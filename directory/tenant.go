package directory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

var noExpiry time.Time

// NewTenant is what CreateTenant takes.
type NewTenant struct {
	DisplayName string
	Domain      string // the default domain, in lower case
	AdminName   string // the part before the @ of the first Global Administrator
	Password    string // of that administrator
}

// CreateTenant makes a tenant with its first Global Administrator and the first-party service principals, in one write.
// extra may add to the same write (a subscription, say); it may be nil.
func (d *Directory) CreateTenant(ctx context.Context, n NewTenant, extra func(*Tenant, *User) (feed.Change, error)) (*Tenant, *User, error) {
	if err := checkDomain(n.Domain); err != nil {
		return nil, nil, err
	}
	if err := checkText("displayName", n.DisplayName, true, 256); err != nil {
		return nil, nil, err
	}
	admin := User{UPN: n.AdminName + "@" + n.Domain, DisplayName: "Administrator", Type: Member, Enabled: true}
	if err := CheckPassword(n.Password, admin.UPN); err != nil {
		return nil, nil, err
	}
	hash, err := d.Hasher.Hash(ctx, n.Password)
	if err != nil {
		return nil, nil, err
	}
	tenant := Tenant{DisplayName: n.DisplayName, Domains: []string{n.Domain}}
	err = d.update(ctx, System, func(p *plan) error {
		if p.TenantByDomain(n.Domain) != nil {
			return fault.New(fault.Conflict, "the domain %s belongs to another tenant of this server; choose another name", n.Domain)
		}
		if tenant.ID, err = p.newID(); err != nil {
			return err
		}
		if admin.ID, err = p.newID(); err != nil {
			return err
		}
		tenant.Created, admin.Created, admin.Tenant = p.now, p.now, tenant.ID
		admin.MailNickname = n.AdminName
		if err := p.checkUPN(&tenant, admin.UPN, false); err != nil {
			return err
		}
		p.put(KindTenant, tenant.ID.String(), tenant.ID, &tenant)
		p.put(KindUser, admin.ID.String(), tenant.ID, &admin)
		p.put(KindRoleAssignment, pair(GlobalAdministrator, admin.ID), tenant.ID, struct{}{})
		p.putSecret(KindPassword, admin.ID.String(), tenant.ID, hash, noExpiry)
		if err := p.addFirstParty(tenant.ID); err != nil {
			return err
		}
		if extra != nil {
			more, err := extra(&tenant, &admin)
			if err != nil {
				return err
			}
			p.change.Records = append(p.change.Records, more.Records...)
			p.change.Secrets = append(p.change.Secrets, more.Secrets...)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return &tenant, &admin, nil
}

// AddFirstParty gives every tenant the first-party service principals that it lacks: a tenant that an earlier version made has only those
// of its time. It writes nothing if none is missing, and says how many were.
func (d *Directory) AddFirstParty(ctx context.Context) (added int, err error) {
	err = d.update(ctx, System, func(p *plan) error {
		for _, t := range p.Tenants() {
			if err := p.addFirstParty(t.ID); err != nil {
				return err
			}
		}
		added = len(p.change.Records)
		return nil
	})
	return added, err
}

func (p *plan) addFirstParty(tenant ID) error {
	for _, app := range FirstParty {
		if p.ServicePrincipalByName(tenant, app.AppID.String()) != nil {
			continue
		}
		id, err := p.newID()
		if err != nil {
			return err
		}
		p.put(KindServicePrincipal, id.String(), tenant, &ServicePrincipal{
			ID: id, Tenant: tenant, AppID: app.AppID, DisplayName: app.DisplayName, Type: TypeApplication, Enabled: true,
			Names: append([]string{app.AppID.String()}, app.IdentifierURIs...), FirstParty: true, Created: p.now,
		})
	}
	return nil
}

// AddDomain verifies a further domain for a tenant.
func (d *Directory) AddDomain(ctx context.Context, by Actor, tenant ID, domain string) error {
	domain = strings.ToLower(domain)
	if err := checkDomain(domain); err != nil {
		return err
	}
	return d.update(ctx, by, func(p *plan) error {
		if err := p.mayWrite(by, tenant); err != nil {
			return err
		}
		t := p.Tenant(tenant)
		if t == nil {
			return fault.New(fault.NotFound, "tenant %s does not exist", tenant)
		}
		if other := p.TenantByDomain(domain); other != nil {
			return fault.New(fault.Conflict, "the domain %s is already verified", domain)
		}
		changed := *t
		changed.Domains = append(slices.Clone(t.Domains), domain)
		p.put(KindTenant, tenant.String(), tenant, &changed)
		return nil
	})
}
