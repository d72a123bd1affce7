package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/front"
)

// tenantStatus is what clients need to know of a tenant.
type tenantStatus struct {
	ID           string `json:"id"`
	DisplayName  string `json:"displayName"`
	Domain       string `json:"domain"`
	Subscription string `json:"subscription"`
	Admin        string `json:"admin"` // UPN
	PasswordFile string `json:"passwordFile,omitempty"`
}

// tenant finds a tenant by its id or domain; "" is the first.
func (s *status) tenant(name string) (tenantStatus, error) {
	for _, t := range s.Tenants {
		if name == "" && t.ID == s.facts.Tenant || strings.EqualFold(name, t.ID) || strings.EqualFold(name, t.Domain) {
			return t, nil
		}
	}
	return tenantStatus{}, fmt.Errorf("there is no tenant %q on this server; gatehouse tenant list shows those that there are", name)
}

// tenantDir is the folder for what belongs to a tenant that is not the first. Its domain has been checked: it is no path.
func tenantDir(dataDir, domain string) string { return filepath.Join(dataDir, "tenants", domain) }

func (s *server) tenantList() []tenantStatus {
	view := s.feed.View()
	state := directory.In(view)
	out := []tenantStatus{}
	for _, t := range state.Tenants() {
		one := tenantStatus{ID: t.ID.String(), DisplayName: t.DisplayName, Domain: t.DefaultDomain(), Admin: administrator(state, t.ID)}
		if subs := arm.In(view).Subscriptions(t.ID); len(subs) > 0 {
			one.Subscription = subs[0].ID.String()
		}
		out = append(out, one)
	}
	return out
}

// createTenant makes a tenant with an administrator, whose password is in a file, and a subscription that the administrator owns.
func (s *server) createTenant(ctx context.Context, domain, displayName string) (tenantStatus, error) {
	s.tenants.Lock()
	defer s.tenants.Unlock()
	domain = strings.TrimSpace(domain)
	if err := s.checkTenantDomain(domain); err != nil {
		return tenantStatus{}, err
	}
	if displayName == "" {
		displayName = domain
	}
	folder := tenantDir(s.dir.path, domain)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return tenantStatus{}, err
	}
	file := filepath.Join(folder, passwordFile)
	password, made, err := adminPassword(file)
	if err != nil {
		return tenantStatus{}, err
	}
	subscription, err := directory.NewID(rand.Reader)
	if err != nil {
		return tenantStatus{}, err
	}
	n := directory.NewTenant{DisplayName: displayName, Domain: domain, AdminName: adminName, Password: password}
	t, admin, err := s.people.CreateTenant(ctx, n, func(t *directory.Tenant, admin *directory.User) (feed.Change, error) {
		return newSubscription(subscription, t, admin)
	})
	if err != nil {
		if kind := fault.From(err).Kind; made && (kind == fault.Invalid || kind == fault.Conflict) { // for certain, no account has this password
			os.Remove(file)
			os.Remove(folder)
		}
		return tenantStatus{}, err
	}
	s.audit.Record(audit.Event{Time: t.Created, Tenant: t.ID.String(), Action: "tenant-create", Target: domain, Outcome: audit.Allowed})
	s.log.Info("tenant created", "tenant", t.ID, "domain", domain)
	return tenantStatus{
		ID: t.ID.String(), DisplayName: t.DisplayName, Domain: domain, Subscription: subscription.String(), Admin: admin.UPN, PasswordFile: file,
	}, nil
}

// checkTenantDomain refuses what cannot be a tenant's domain: no DNS name, a name that belongs to the cloud or is answered here for another
// purpose, or one that is taken.
func (s *server) checkTenantDomain(domain string) error {
	if err := directory.CheckDomain(domain); err != nil {
		return err
	}
	if strings.Contains(domain, "token") {
		return fault.New(fault.Invalid, "the domain %q must not contain \"token\", because MSAL for Go would rewrite it", domain)
	}
	if t := s.people.State().TenantByDomain(domain); t != nil {
		return fault.New(fault.Conflict, "the domain %s belongs to tenant %s of this server; choose another name", domain, t.ID)
	}
	for host := range front.HostsOf(s.facts.Domain) {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return fault.New(fault.Invalid, "the domain %s is, or is above, the host %s that this server answers for; choose another name", domain, host)
		}
	}
	return nil
}

const tenantSynopsis = `tenant create --domain NAME [--display-name TEXT] [--data-dir DIR]
       gatehouse tenant list [--data-dir DIR]`

func runTenant(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	var dir, domain, name string
	fs := flag.NewFlagSet("tenant", flag.ContinueOnError)
	dataDirFlag(fs, &dir)
	fs.StringVar(&domain, "domain", "", "`NAME` of the new tenant's domain; you vouch that it is the tenant's")
	fs.StringVar(&name, "display-name", "", "`TEXT` that people see (default: the domain)")
	if err := parse(fs, args, stdout, tenantSynopsis); err != nil {
		return err
	}
	switch {
	case verb == "list" && domain+name == "":
		return listTenants(ctx, dir, stdout)
	case verb == "create" && domain != "":
		return makeTenant(ctx, dir, domain, name, stdout, stderr)
	case verb == "create":
		return usageError{fmt.Errorf("--domain is missing")}
	}
	return usageError{fmt.Errorf("say create --domain NAME, or list")}
}

func makeTenant(ctx context.Context, dir, domain, name string, stdout, stderr io.Writer) error {
	var t tenantStatus
	q := url.Values{"domain": {domain}, "displayName": {name}}
	if err := control(ctx, dir, http.MethodPost, "/tenants?"+q.Encode(), &t); err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "tenant\t%s (%s)\nsubscription\t%s\nadministrator\t%s\npassword\tin %s\n", t.ID, t.Domain, t.Subscription, t.Admin, t.PasswordFile)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stderr, "\nTo use it, in a new shell:\n  eval \"$(gatehouse env --data-dir %s --tenant %s)\"\n  az login -u %s -p \"$(cat %s)\"\n", dir, t.Domain, t.Admin, t.PasswordFile)
	return err
}

func listTenants(ctx context.Context, dir string, stdout io.Writer) error {
	var list []tenantStatus
	if err := control(ctx, dir, http.MethodGet, "/tenants", &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANT\tDOMAIN\tNAME\tSUBSCRIPTION\tADMINISTRATOR")
	for _, t := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Domain, t.DisplayName, t.Subscription, t.Admin)
	}
	return w.Flush()
}
