package directory

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// maxFederated is how many federated credentials an application holds (Microsoft Entra "Important considerations and
// restrictions for federated identity credentials").
const maxFederated = 20

// AddFederatedCredential lets tokens of another issuer prove an application. The server chooses the id.
func (d *Directory) AddFederatedCredential(ctx context.Context, by Actor, application ID, c FederatedCredential) (*FederatedCredential, error) {
	err := d.update(ctx, by, func(p *plan) (err error) {
		app, err := p.applicationFor(by, application)
		if err != nil {
			return err
		}
		if len(app.Federated) >= maxFederated {
			return invalidFederated("", "The application has %d federated identity credentials, which is the most that it can have; delete one first.", maxFederated)
		}
		if c.ID, err = p.newID(); err != nil {
			return err
		}
		return p.putFederated(app, append(slices.Clone(app.Federated), c))
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// UpdateFederatedCredential lets change edit a copy of a federated credential. Its id and name stay.
func (d *Directory) UpdateFederatedCredential(ctx context.Context, by Actor, application, id ID, change func(*FederatedCredential) error) error {
	return d.update(ctx, by, func(p *plan) error {
		app, err := p.applicationFor(by, application)
		if err != nil {
			return err
		}
		list := slices.Clone(app.Federated)
		i := slices.IndexFunc(list, func(c FederatedCredential) bool { return c.ID == id })
		if i < 0 {
			return ErrNoObject(id.String())
		}
		old := list[i]
		if err := change(&list[i]); err != nil {
			return err
		}
		list[i].ID, list[i].Name = old.ID, old.Name
		return p.putFederated(app, list)
	})
}

// RemoveFederatedCredential takes a federated credential away from an application.
func (d *Directory) RemoveFederatedCredential(ctx context.Context, by Actor, application, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		app, err := p.applicationFor(by, application)
		if err != nil {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(app.Federated), func(c FederatedCredential) bool { return c.ID == id })
		if len(rest) == len(app.Federated) {
			return ErrNoObject(id.String())
		}
		return p.putFederated(app, rest)
	})
}

// putFederated writes an application's federated credentials if all rules hold.
func (p *plan) putFederated(app *Application, list []FederatedCredential) error {
	if err := checkFederated(list); err != nil {
		return err
	}
	changed := *app
	changed.Federated = list
	p.put(KindApplication, app.ID.String(), app.Tenant, &changed)
	return nil
}

// checkFederated applies the rules for each federated credential of one application, and for all of them together.
func checkFederated(list []FederatedCredential) error {
	for i := range list {
		c := &list[i]
		if err := c.check(); err != nil {
			return err
		}
		for _, other := range list[:i] {
			if strings.EqualFold(other.Name, c.Name) {
				return fault.New(fault.Conflict, "FederatedIdentityCredential with name %s already exists.", c.Name).At("name").WithCode("Request_MultipleObjectsWithSameKeyValue")
			}
			if other.Issuer == c.Issuer && other.Subject == c.Subject {
				return fault.New(fault.Conflict, "The combination of issuer and subject must be unique for this application, and credential %s has it already.", other.Name).
					At("subject").WithCode("Request_MultipleObjectsWithSameKeyValue")
			}
		}
	}
	return nil
}

// check applies the rules of Microsoft Graph's federatedIdentityCredential.
func (c *FederatedCredential) check() error {
	if len(c.Name) < 3 || len(c.Name) > 120 || !isAlphanumeric(rune(c.Name[0])) ||
		strings.ContainsFunc(c.Name, func(r rune) bool { return r != '-' && r != '_' && !isAlphanumeric(r) }) {
		return invalidFederated("name", "The name %.130q is invalid: it has 3 to 120 letters, digits, hyphens and underscores, and begins with a letter or digit.", c.Name)
	}
	if err := checkIssuer(c.Issuer); err != nil {
		return err
	}
	if len(c.Audiences) != 1 {
		return invalidFederated("audiences", "There are %d audiences; a federated identity credential has exactly one, normally api://AzureADTokenExchange.", len(c.Audiences))
	}
	for field, value := range map[string]string{"subject": c.Subject, "audiences": c.Audiences[0]} {
		if err := checkText(field, value, true, 600); err != nil {
			return err
		}
		if strings.TrimSpace(value) != value {
			return invalidFederated(field, "%s %.100q begins or ends with a space; it is compared letter by letter.", field, value)
		}
	}
	return checkText("description", c.Description, false, 600)
}

// checkIssuer accepts what can be an issuer whose keys are fetched (OpenID Connect Discovery 1.0 section 2).
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || len(issuer) > 600 || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery ||
		strings.ContainsFunc(issuer, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`#"<>\^{|}`+"`", r) }) ||
		!strings.HasPrefix(issuer, "https://") {
		return invalidFederated("issuer", "The issuer %.200q is not an https URL without query, fragment and user; give the 'iss' of the tokens exactly as they have it.", issuer)
	}
	return nil
}

func invalidFederated(field, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).At(field).WithCode("Request_BadRequest")
}
