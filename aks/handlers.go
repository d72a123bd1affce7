package aks

import (
	"errors"
	"io"
	"net/http"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/identity"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// find returns the cluster that a path names.
func find(v *feed.View, q *arm.Request) (*Cluster, error) {
	group, name := q.PathValue("group"), q.PathValue("cluster")
	if c := In(v).ByID(clusterID(q.Subscription.ID, group, name)); c != nil {
		return c, nil
	}
	if arm.In(v).Group(q.Subscription.ID, group) == nil {
		return nil, arm.ErrGroupNotFound(group)
	}
	return nil, arm.ErrResourceNotFound(namespace+"/managedClusters", name, group)
}

// idle refuses while another operation works on the cluster.
func idle(v *feed.View, c *Cluster) error {
	o := arm.In(v).Operation(c.Operation)
	if o == nil || o.Done() {
		return nil
	}
	return &fault.Error{
		Kind: fault.Conflict, Code: "OperationNotAllowed", RetryAfter: 1,
		Message: "Operation is not allowed: operation " + o.ID.String() + " (" + c.Provisioning + ") is in progress on the cluster '" + c.Name +
			"'. Wait until it has ended, then try again: az aks wait --resource-group " + c.Group + " --name " + c.Name + " --custom \"provisioningState!='" + c.Provisioning + "'\"",
	}
}

// checkMatch applies the conditions of a request (RFC 9110 section 13.1). c is nil when there is no such cluster.
func checkMatch(q *arm.Request, c *Cluster) error {
	match, none := q.Header.Get("If-Match"), q.Header.Get("If-None-Match")
	etag := ""
	if c != nil {
		etag = c.ETag
	}
	fits := func(condition string) bool {
		return c != nil && (condition == "*" || condition == etag || condition == `"`+etag+`"`)
	}
	if match != "" && !fits(match) || none != "" && fits(none) {
		return fault.New(fault.Conflict, "The condition of the request is not met: the cluster's present eTag is '%s'. Read the cluster again and repeat the change.", etag).
			WithCode("PreconditionFailed")
	}
	return nil
}

// begin writes an operation on an existing cluster: change says what becomes of its record.
func (p *Provisioner) begin(q *arm.Request, state string, change func(v *feed.View, c *Cluster) error) (*Cluster, *arm.Operation, error) {
	o, err := q.Begin(namespace)
	if err != nil {
		return nil, nil, err
	}
	etag, err := directory.NewID(p.random())
	if err != nil {
		return nil, nil, err
	}
	var next Cluster
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		c, err := find(v, q)
		if err != nil {
			return feed.Change{}, err
		}
		if err := errors.Join(checkMatch(q, c), idle(v, c)); err != nil {
			return feed.Change{}, err
		}
		if _, err := arm.LiveGroup(v, c.Subscription, c.Group); err != nil {
			return feed.Change{}, err
		}
		next = *c
		if err := change(v, &next); err != nil {
			return feed.Change{}, err
		}
		return feed.Change{Records: start(&next, o, state, etag)}, nil
	})
	return &next, o, err
}

// start puts an operation on a cluster, and returns the records of both.
func start(c *Cluster, o *arm.Operation, state string, etag directory.ID) []feed.Record {
	o.Location, o.Resource = c.Location, c.ID()
	c.Provisioning, c.Operation, c.Failure, c.ETag = state, o.ID, nil, etag.String()
	return []feed.Record{c.record(), o.Record()}
}

func (p *Provisioner) putCluster(w http.ResponseWriter, q *arm.Request) error {
	if err := checkName(q.PathValue("cluster")); err != nil {
		return err
	}
	raw, err := readAll(q)
	if err != nil {
		return err
	}
	g, err := parseCluster(raw)
	if err != nil {
		return err
	}
	o, err := q.Begin(namespace)
	if err != nil {
		return err
	}
	ids, err := p.freshIDs()
	if err != nil {
		return err
	}
	var next *Cluster
	status := http.StatusOK
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		group, err := arm.LiveGroup(v, q.Subscription.ID, q.PathValue("group"))
		if err != nil {
			return feed.Change{}, err
		}
		old := In(v).ByID(clusterID(q.Subscription.ID, group.Name, q.PathValue("cluster")))
		if err := checkMatch(q, old); err != nil {
			return feed.Change{}, err
		}
		state := Creating
		status = http.StatusCreated
		if old != nil {
			if err := idle(v, old); err != nil {
				return feed.Change{}, err
			}
			state, status = Updating, http.StatusOK
		}
		at := situation{
			directory: directory.In(v), identities: identity.In(v), mayAssign: mayAssign(q, v), group: group, subscription: q.Subscription, name: q.PathValue("cluster"), guid: ids.guid, version: p.version(),
			groups: arm.In(v), clusters: In(v), issuer: p.Issuer, now: q.Now,
		}
		if next, err = desired(at, old, &g); err != nil {
			return feed.Change{}, err
		}
		identities, err := at.desiredIdentities(next, old, &g.identity, ids)
		if err != nil {
			return feed.Change{}, err
		}
		return feed.Change{Records: append(identities, start(next, o, state, ids.etag)...)}, nil
	})
	if err != nil {
		return err
	}
	q.PollStatus(w, o, false)
	return web.WriteJSON(w, status, next.resource())
}

// mayAssign is the rule for giving a user-assigned identity to a resource: it takes a right on the identity, too.
func mayAssign(q *arm.Request, v *feed.View) func(arm.ResourceID) error {
	const action = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
	return func(id arm.ResourceID) error {
		if q.MayIn(v, action, id.Scope()) {
			return nil
		}
		return fault.New(fault.Denied, "The client '%s' with object id '%s' has permission to perform action '%s' on scope '%s'; however, it does not have permission to perform action '%s' on the linked scope '%s' or the linked scope is invalid.",
			q.Caller.Name, q.Caller.ID, q.Action, q.Scope, action, id).WithCode("LinkedAuthorizationFailed")
	}
}

func getCluster(w http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, c.resource())
}

func listClusters(w http.ResponseWriter, q *arm.Request) error {
	all := In(q.View).InSubscription(q.Subscription.ID)
	if group := q.PathValue("group"); group != "" {
		if arm.In(q.View).Group(q.Subscription.ID, group) == nil && q.May(q.Action, q.Scope) {
			return arm.ErrGroupNotFound(group)
		}
		all = In(q.View).InGroup(q.Subscription.ID, group)
	}
	visible, err := arm.Visible(q, all, (*Cluster).scope)
	if err != nil {
		return err
	}
	out := []any{}
	for _, c := range visible {
		out = append(out, c.resource())
	}
	return arm.WriteList(w, out)
}

// patchCluster changes tags, which no control plane knows of.
func (p *Provisioner) patchCluster(w http.ResponseWriter, q *arm.Request) error {
	body, err := readObject(q, "tags")
	if err != nil {
		return err
	}
	tags, err := member[map[string]string](body, "tags", "an object of strings")
	if err != nil {
		return err
	}
	for name := range body.m {
		if name != "tags" {
			return invalid(name, "A PATCH changes tags only; to change '%.100s' send a PUT of the whole cluster, as az aks update does.", name)
		}
	}
	etag, err := directory.NewID(p.random())
	if err != nil {
		return err
	}
	var next Cluster
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		c, err := find(v, q)
		if err != nil {
			return feed.Change{}, err
		}
		if err := checkMatch(q, c); err != nil {
			return feed.Change{}, err
		}
		next = *c
		if next.ETag = etag.String(); tags != nil {
			next.Tags = *tags
		}
		return feed.Change{Records: []feed.Record{next.record()}}, arm.CheckTags(next.Tags)
	})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, next.resource())
}

// deleteCluster begins a deletion. One that runs already answers again; a cluster that does not exist is deleted.
func (p *Provisioner) deleteCluster(w http.ResponseWriter, q *arm.Request) error {
	o, err := q.Begin(namespace)
	if err != nil {
		return err
	}
	gone := false
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		c, err := find(v, q)
		if fault.Is(err, fault.NotFound) {
			gone = true
			return feed.Change{}, nil
		}
		if err != nil {
			return feed.Change{}, err
		}
		if err := checkMatch(q, c); err != nil {
			return feed.Change{}, err
		}
		if running := arm.In(v).Operation(c.Operation); running != nil && c.Provisioning == Deleting {
			o = running
			return feed.Change{}, nil
		}
		o.Location, o.Resource = c.Location, c.ID()
		return feed.Change{Records: append(leave(v, c, o), o.Record())}, nil
	})
	if err != nil {
		return err
	}
	if gone {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	q.PollStatus(w, o, true)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (p *Provisioner) rotateCertificates(w http.ResponseWriter, q *arm.Request) error {
	_, o, err := p.begin(q, Rotating, func(_ *feed.View, c *Cluster) error { return needsEndpoint(c) })
	if err != nil {
		return err
	}
	q.PollStatus(w, o, true)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// resetAAD exists for the legacy integration alone, which new clusters can't have.
func resetAAD(_ http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	switch {
	case err != nil:
		return err
	case c.AAD == nil:
		return fault.New(fault.Invalid, "Operation 'resetAADProfile' is not allowed for the cluster '%s': it has no Microsoft Entra integration. Enable it with az aks update --enable-aad.", c.Name)
	case c.AAD.Managed:
		return fault.New(fault.Invalid, "Operation 'resetAADProfile' is not allowed for managed AAD enabled cluster.")
	}
	return fault.New(fault.Invalid, "Operation 'resetAADProfile' is not available in this version of Gatehouse; move the cluster '%s' to the managed integration with az aks update --enable-aad.", c.Name)
}

// unknownAction answers actions that AKS has and Gatehouse has not.
func unknownAction(_ http.ResponseWriter, q *arm.Request) error {
	if _, err := find(q.View, q); err != nil {
		return err
	}
	return fault.New(fault.Invalid, "Operation '%.100s' is not available in this version of Gatehouse.", q.PathValue("action"))
}

// readObject reads a body that is a JSON object, and gives these of its names their usual spelling.
func readObject(q *arm.Request, names ...string) (body object, err error) {
	raw, err := readAll(q)
	if err != nil {
		return body, err
	}
	if body, err = parseObject("", raw); err != nil {
		return body, err
	}
	return body, body.canonical(names...)
}

func readAll(q *arm.Request) ([]byte, error) {
	raw, err := io.ReadAll(q.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, fault.New(fault.Invalid, "The request body is larger than %d bytes; send less.", tooLarge.Limit).WithCode("RequestContentTooLarge")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "The request body ended early; send it again.").WithCode("InvalidRequestContent").Wrap(err)
	}
	return raw, nil
}
