package identity

import (
	"net/http"
	"regexp"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// namePattern is the rule for names (Azure "Naming rules and restrictions", Microsoft.ManagedIdentity).
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][-_a-zA-Z0-9]{2,127}$`)

// body is an identity as a request has it. Its properties are the server's to say.
type body struct {
	Location string             `json:"location"`
	Tags     *map[string]string `json:"tags"`
}

// find returns the identity that a path names.
func find(v *feed.View, q *arm.Request) (*Identity, error) {
	group, name := q.PathValue("group"), q.PathValue("identity")
	if i := In(v).ByID(identityID(q.Subscription.ID, group, name)); i != nil {
		return i, nil
	}
	if arm.In(v).Group(q.Subscription.ID, group) == nil {
		return nil, arm.ErrGroupNotFound(group)
	}
	return nil, arm.ErrResourceNotFound(resourceType, name, group)
}

// putIdentity makes an identity with its service principal, or changes the tags of one.
func (p *Provider) putIdentity(w http.ResponseWriter, q *arm.Request) error {
	name := q.PathValue("identity")
	if !namePattern.MatchString(name) {
		return fault.New(fault.Invalid, "The identity name '%.140s' is invalid: it has 3 to 128 letters, digits, underscores and hyphens, and begins with a letter or digit.", name).
			At("resourceName").WithCode("InvalidParameter")
	}
	var b body
	if err := readBody(q, &b); err != nil {
		return err
	}
	location, err := arm.ParseLocation(b.Location, "LocationNotAvailableForResourceType")
	if err != nil {
		return err
	}
	var ids [2]directory.ID
	for i := range ids {
		if ids[i], err = directory.NewID(p.random()); err != nil {
			return err
		}
	}
	var next Identity
	var made bool
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		group, err := arm.LiveGroup(v, q.Subscription.ID, q.PathValue("group"))
		if err != nil {
			return feed.Change{}, err
		}
		old := In(v).ByID(identityID(q.Subscription.ID, group.Name, name))
		var change feed.Change
		if made = old == nil; made {
			next = Identity{
				Principal: ids[0], Client: ids[1], Tenant: q.Subscription.Tenant, Subscription: q.Subscription.ID,
				Group: group.Name, Name: name, Location: location, Created: q.Now,
			}
			if directory.In(v).ManagedIdentityOf(next.ID()) != nil { // of a cluster from before node resource groups had to be free
				return feed.Change{}, fault.New(fault.Conflict, "The identity '%s' belongs to the kubelets of a cluster whose node resource group is '%s'; choose another name.", name, group.Name).
					WithCode("ResourceConflict")
			}
			change.Records = append(change.Records, next.principal())
		} else if next = *old; next.Location != location {
			return feed.Change{}, fault.New(fault.Conflict, "The identity '%s' exists in location '%s' and can't move to '%s'; use that location or another name.", next.Name, next.Location, location).
				At("location").WithCode("InvalidResourceLocation")
		}
		next.Tags = nil
		if b.Tags != nil {
			next.Tags = *b.Tags
		}
		change.Records = append(change.Records, next.record())
		return change, arm.CheckTags(next.Tags)
	})
	if err != nil {
		return err
	}
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	return web.WriteJSON(w, status, next.resource())
}

func getIdentity(w http.ResponseWriter, q *arm.Request) error {
	i, err := find(q.View, q)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, i.resource())
}

func patchIdentity(w http.ResponseWriter, q *arm.Request) error {
	var b body
	if err := readBody(q, &b); err != nil {
		return err
	}
	var next Identity
	err := q.Update(func(v *feed.View) (feed.Change, error) {
		i, err := find(v, q)
		if err != nil {
			return feed.Change{}, err
		}
		if _, err := arm.LiveGroup(v, i.Subscription, i.Group); err != nil {
			return feed.Change{}, err
		}
		if next = *i; b.Tags != nil {
			next.Tags = *b.Tags
		}
		return feed.Change{Records: []feed.Record{next.record()}}, arm.CheckTags(next.Tags)
	})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, next.resource())
}

// deleteIdentity deletes an identity with its service principal, memberships, credentials and the role assignments on it. One that
// does not exist is deleted.
func deleteIdentity(w http.ResponseWriter, q *arm.Request) error {
	status := http.StatusOK
	err := q.Update(func(v *feed.View) (feed.Change, error) {
		i, err := find(v, q)
		if fault.Is(err, fault.NotFound) {
			status = http.StatusNoContent
			return feed.Change{}, nil
		}
		if err != nil {
			return feed.Change{}, err
		}
		// A group that is being deleted waits for its clusters; its identities are gone already.
		records := arm.Removed(v, i.scope(), i.Subscription, i.Group, false, q.Now)
		return feed.Change{Records: append(records, i.removal(directory.In(v))...)}, nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}

func listIdentities(w http.ResponseWriter, q *arm.Request) error {
	all := In(q.View).InSubscription(q.Subscription.ID)
	if group := q.PathValue("group"); group != "" {
		if arm.In(q.View).Group(q.Subscription.ID, group) == nil && q.May(q.Action, q.Scope) {
			return arm.ErrGroupNotFound(group)
		}
		all = In(q.View).InGroup(q.Subscription.ID, group)
	}
	visible, err := arm.Visible(q, all, (*Identity).scope)
	if err != nil {
		return err
	}
	out := []any{}
	for _, i := range visible {
		out = append(out, i.resource())
	}
	return arm.WriteList(w, out)
}

// listAssociated lists the resources that use an identity.
func (p *Provider) listAssociated(w http.ResponseWriter, q *arm.Request) error {
	i, err := find(q.View, q)
	if err != nil {
		return err
	}
	out := []any{}
	if p.Users != nil {
		for _, r := range p.Users(q.View, i.Principal) {
			if !q.May(r.Type+"/read", r.ID.Scope()) {
				continue
			}
			out = append(out, map[string]any{
				"id": r.ID.String(), "name": r.ID.Name(), "type": r.Type, "resourceGroup": r.ID.Group, "subscriptionId": r.ID.Subscription,
				"subscriptionDisplayName": q.Subscription.Name,
			})
		}
	}
	return web.WriteJSON(w, http.StatusOK, map[string]any{"totalCount": len(out), "value": out})
}

// resource is the identity as clients read it.
func (i *Identity) resource() any {
	tags := i.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return map[string]any{
		"id": i.ID(), "name": i.Name, "type": resourceType, "location": i.Location, "tags": tags,
		"properties": map[string]any{"tenantId": i.Tenant, "principalId": i.Principal, "clientId": i.Client},
	}
}

// readBody reads a request's JSON body.
func readBody(q *arm.Request, v any) error {
	err := web.ReadJSON(q.Request, v)
	if e := fault.From(err); err != nil && e.Code == "" {
		return e.WithCode("InvalidRequestContent")
	}
	return err
}
