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
		for _, app := range FirstParty {
			id, err := p.newID()
			if err != nil {
				return err
			}
			p.put(KindServicePrincipal, id.String(), tenant.ID, &ServicePrincipal{
				ID: id, Tenant: tenant.ID, AppID: app.AppID, DisplayName: app.DisplayName, Type: TypeApplication, Enabled: true,
				Names: append([]string{app.AppID.String()}, app.IdentifierURIs...), FirstParty: true, Created: p.now,
			})
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
