package identity

import (
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

const credentialType = resourceType + "/federatedIdentityCredentials"

// credentialBody is a federated credential as a request has it.
type credentialBody struct {
	Properties *struct {
		Issuer    string   `json:"issuer"`
		Subject   string   `json:"subject"`
		Audiences []string `json:"audiences"`
	} `json:"properties"`
}

// principalOf returns the service principal of the identity that a path names, which holds its federated credentials.
func principalOf(v *feed.View, q *arm.Request) (*Identity, *directory.ServicePrincipal, error) {
	i, err := find(v, q)
	if err != nil {
		return nil, nil, err
	}
	sp := directory.In(v).ServicePrincipal(i.Principal)
	if sp == nil {
		return nil, nil, fault.New(fault.Internal, "identity %s has no service principal", i.Principal)
	}
	return i, sp, nil
}

func errNoCredential(q *arm.Request) error {
	return arm.ErrResourceNotFound(credentialType, q.PathValue("identity")+"/"+q.PathValue("credential"), q.PathValue("group"))
}

func listCredentials(w http.ResponseWriter, q *arm.Request) error {
	i, sp, err := principalOf(q.View, q)
	if err != nil {
		return err
	}
	out := []any{}
	for c := range sp.Federated {
		out = append(out, i.credential(&sp.Federated[c]))
	}
	return arm.WriteList(w, out)
}

func getCredential(w http.ResponseWriter, q *arm.Request) error {
	i, sp, err := principalOf(q.View, q)
	if err != nil {
		return err
	}
	c := sp.FederatedNamed(q.PathValue("credential"))
	if c == nil {
		return errNoCredential(q)
	}
	return web.WriteJSON(w, http.StatusOK, i.credential(c))
}

func (p *Provider) putCredential(w http.ResponseWriter, q *arm.Request) error {
	var b credentialBody
	if err := readBody(q, &b); err != nil {
		return err
	}
	if b.Properties == nil {
		return fault.New(fault.Invalid, "The property 'properties' is missing; give issuer, subject and audiences in it.").At("properties").WithCode("InvalidRequestContent")
	}
	id, err := directory.NewID(p.random())
	if err != nil {
		return err
	}
	wanted := directory.FederatedCredential{
		ID: id, Name: q.PathValue("credential"), Issuer: b.Properties.Issuer, Subject: b.Properties.Subject, Audiences: b.Properties.Audiences,
	}
	var shown any
	status := http.StatusOK
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		i, sp, err := principalOf(v, q)
		if err != nil {
			return feed.Change{}, err
		}
		if _, err := arm.LiveGroup(v, i.Subscription, i.Group); err != nil {
			return feed.Change{}, err
		}
		record, created, err := directory.In(v).PutIdentityCredential(sp.ID, wanted)
		if err != nil {
			return feed.Change{}, recode(err)
		}
		named := wanted
		if status = http.StatusCreated; !created {
			status, named.Name = http.StatusOK, sp.FederatedNamed(wanted.Name).Name
		}
		shown = i.credential(&named)
		return feed.Change{Records: []feed.Record{record}}, nil
	})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, status, shown)
}

// deleteCredential deletes a credential. One that does not exist is deleted; its identity must.
func deleteCredential(w http.ResponseWriter, q *arm.Request) error {
	status := http.StatusOK
	err := q.Update(func(v *feed.View) (feed.Change, error) {
		_, sp, err := principalOf(v, q)
		if err != nil {
			return feed.Change{}, err
		}
		record, err := directory.In(v).RemoveIdentityCredential(sp.ID, q.PathValue("credential"))
		if fault.Is(err, fault.NotFound) {
			status = http.StatusNoContent
			return feed.Change{}, nil
		}
		return feed.Change{Records: []feed.Record{record}}, err
	})
	if err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}

// recode gives the directory's refusals the code that ARM's clients know, in place of Microsoft Graph's.
func recode(err error) error {
	e := *fault.From(err)
	if strings.HasPrefix(e.Code, "Request_") {
		e.Code = ""
	}
	return &e
}

// credential is a federated credential as clients read it.
func (i *Identity) credential(c *directory.FederatedCredential) any {
	return map[string]any{
		"id": i.ID() + "/federatedIdentityCredentials/" + c.Name, "name": c.Name, "type": credentialType,
		"properties": map[string]any{"issuer": c.Issuer, "subject": c.Subject, "audiences": c.Audiences},
	}
}
