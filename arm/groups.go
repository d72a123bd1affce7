package arm

import (
	"maps"
	"net/http"
	"regexp"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

func (s *Server) mountGroups(r *Routes) {
	const groups = " /subscriptions/{subscription}/resourceGroups"
	const group = groups + "/{group}"
	r.HandleAnyone("GET"+groups, listGroups)
	r.Handle("PUT"+group, putGroup)
	r.Handle("GET"+group, getGroup)
	r.Handle("HEAD"+group, headGroup)
	r.Handle("PATCH"+group, patchGroup)
	r.Handle("DELETE"+group, s.deleteGroup)
	r.HandleAnyone("GET /subscriptions/{subscription}/operationresults/{operation}", operationResult)
	r.HandleAnyone("GET /subscriptions/{subscription}/operations/{operation}", operationStatus)
	r.HandleAnyone("GET /subscriptions/{subscription}/resources", s.listResources)
	r.HandleAnyone("GET"+group+"/resources", s.listResources)
}

// groupPattern is ARM's rule for names (Azure "Naming rules and restrictions"), less the letters beyond ASCII.
var groupPattern = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)

type groupBody struct {
	Location  string            `json:"location"`
	Tags      map[string]string `json:"tags"`
	ManagedBy string            `json:"managedBy"`
}

func putGroup(w http.ResponseWriter, q *Request) error {
	name := q.PathValue("group")
	if !groupPattern.MatchString(name) {
		return fault.New(fault.Invalid, "The resource group name '%.120s' is invalid: it has 1 to 90 letters, digits, underscores, parentheses, hyphens and periods, and does not end in a period.", name).
			At("resourceGroupName").WithCode("InvalidResourceGroup")
	}
	var body groupBody
	if err := readBody(q, &body); err != nil {
		return err
	}
	location, err := ParseLocation(body.Location, "LocationNotAvailableForResourceGroup")
	if err != nil {
		return err
	}
	if err := CheckTags(body.Tags); err != nil {
		return err
	}
	var made bool
	var next Group
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		old := In(v).Group(q.Subscription.ID, name)
		made = old == nil
		if made {
			for _, p := range q.server.Providers {
				if by := p.ManagerOf(v, q.Subscription.ID, name); by != nil {
					return feed.Change{}, fault.New(fault.Invalid, "The resource group '%s' is managed by '%s', and can't be made by anybody else; use another name.", name, by).
						At("resourceGroupName").WithCode("ResourceGroupManagedByMismatch")
				}
			}
			next = Group{Subscription: q.Subscription.ID, Tenant: q.Subscription.Tenant, Name: name, Location: location, Created: q.Now}
		} else {
			if _, err := LiveGroup(v, q.Subscription.ID, name); err != nil {
				return feed.Change{}, err
			}
			if old.Location != location {
				return feed.Change{}, fault.New(fault.Conflict, "Invalid resource group location '%s'. The resource group '%s' exists in location '%s' and cannot move; use that location or another name.",
					location, old.Name, old.Location).At("location").WithCode("InvalidResourceGroupLocation")
			}
			next = *old
		}
		next.Tags, next.ManagedBy = body.Tags, body.ManagedBy
		return feed.Change{Records: []feed.Record{next.record()}}, nil
	})
	if err != nil {
		return err
	}
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	return web.WriteJSON(w, status, groupJSON(&next))
}

func getGroup(w http.ResponseWriter, q *Request) error {
	g := In(q.View).Group(q.Subscription.ID, q.PathValue("group"))
	if g == nil {
		return ErrGroupNotFound(q.PathValue("group"))
	}
	return web.WriteJSON(w, http.StatusOK, groupJSON(g))
}

func headGroup(w http.ResponseWriter, q *Request) error {
	status := http.StatusNoContent
	if In(q.View).Group(q.Subscription.ID, q.PathValue("group")) == nil {
		status = http.StatusNotFound
	}
	w.WriteHeader(status)
	return nil
}

func patchGroup(w http.ResponseWriter, q *Request) error {
	var body struct {
		Tags *map[string]string `json:"tags"`
	}
	if err := readBody(q, &body); err != nil {
		return err
	}
	var next Group
	err := q.Update(func(v *feed.View) (feed.Change, error) {
		old, err := LiveGroup(v, q.Subscription.ID, q.PathValue("group"))
		if err != nil {
			return feed.Change{}, err
		}
		next = *old
		if body.Tags != nil {
			next.Tags = *body.Tags
		}
		return feed.Change{Records: []feed.Record{next.record()}}, CheckTags(next.Tags)
	})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, groupJSON(&next))
}

// deleteGroup begins the deletion of a group and of all that is in it. A group that is being deleted already says so
// again.
func (s *Server) deleteGroup(w http.ResponseWriter, q *Request) error {
	o, err := q.Begin("")
	if err != nil {
		return err
	}
	err = q.Update(func(v *feed.View) (feed.Change, error) {
		g := In(v).Group(q.Subscription.ID, q.PathValue("group"))
		if g == nil {
			return feed.Change{}, ErrGroupNotFound(q.PathValue("group"))
		}
		if running := In(v).Operation(g.Deleting); running != nil {
			o = running
			return feed.Change{}, nil
		}
		var change feed.Change
		all := true
		for _, p := range s.Providers {
			records, empty := p.RemoveGroup(v, g, o)
			change.Records = append(change.Records, records...)
			all = all && empty
		}
		if all {
			change.Records = append(change.Records, o.End(Succeeded, nil, q.Now).Record())
			change.Records = append(change.Records, removeGroup(v, g, q.Now)...)
			return change, nil
		}
		leaving := *g
		leaving.Deleting = o.ID
		change.Records = append(change.Records, o.Record(), leaving.record())
		return change, nil
	})
	if err != nil {
		return err
	}
	w.Header().Set("Location", q.url(o.resultPath()))
	w.Header().Set("Retry-After", pollAfter)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// listGroups is for everyone who may read one of the groups.
func listGroups(w http.ResponseWriter, q *Request) error {
	f, err := parseFilter(q.URL.Query().Get("$filter"), "tagName", "tagValue")
	if err != nil {
		return err
	}
	groups, err := Visible(q, In(q.View).Groups(q.Subscription.ID), (*Group).Scope)
	if err != nil {
		return err
	}
	out := []any{}
	for _, g := range groups {
		if f.tags(g.Tags) {
			out = append(out, groupJSON(g))
		}
	}
	return WriteList(w, out)
}

func groupJSON(g *Group) any {
	state := "Succeeded"
	if !g.Deleting.IsZero() {
		state = "Deleting"
	}
	out := map[string]any{
		"id": g.ID(), "name": g.Name, "type": "Microsoft.Resources/resourceGroups", "location": g.Location,
		"properties": map[string]string{"provisioningState": state},
	}
	if g.Tags != nil {
		out["tags"] = g.Tags
	}
	if g.ManagedBy != "" {
		out["managedBy"] = g.ManagedBy
	}
	return out
}

// listResources lists what providers have in the subscription or the group.
func (s *Server) listResources(w http.ResponseWriter, q *Request) error {
	f, err := parseFilter(q.URL.Query().Get("$filter"), "tagName", "tagValue", "resourceType", "resourceGroup", "location", "name")
	if err != nil {
		return err
	}
	group := q.PathValue("group")
	if group != "" && In(q.View).Group(q.Subscription.ID, group) == nil && q.May(q.Action, q.Scope) {
		return ErrGroupNotFound(group)
	}
	var all []Resource
	for _, p := range s.Providers {
		for _, r := range p.Resources(q.View, q.Subscription.ID) {
			if (group == "" || strings.EqualFold(group, r.ID.Group)) && f.tags(r.Tags) && f.fits("resourceType", r.Type) &&
				f.fits("resourceGroup", r.ID.Group) && f.fits("location", r.Location) && f.fits("name", r.ID.Name()) {
				all = append(all, r)
			}
		}
	}
	shown, err := Visible(q, all, func(r Resource) rbac.Scope { return r.ID.Scope() })
	if err != nil {
		return err
	}
	out := []any{}
	for _, r := range shown {
		entry := map[string]any{"id": r.ID.String(), "name": r.ID.Name(), "type": r.Type, "location": r.Location}
		if r.Tags != nil {
			entry["tags"] = maps.Clone(r.Tags)
		}
		out = append(out, entry)
	}
	return WriteList(w, out)
}

// CheckTags applies ARM's limits (Azure "Use tags", limitations).
func CheckTags(tags map[string]string) error {
	if len(tags) > 50 {
		return fault.New(fault.Invalid, "There are %d tags; at most 50 are allowed.", len(tags)).At("tags").WithCode("TooManyTags")
	}
	for name, value := range tags {
		switch {
		case name == "" || len(name) > 512 || strings.ContainsAny(name, `<>%&\?/`):
			return fault.New(fault.Invalid, `The tag name %.100q is invalid: it has 1 to 512 characters, none of < > %% & \ ? /`, name).At("tags").WithCode("InvalidTagName")
		case len(value) > 256:
			return fault.New(fault.Invalid, "The value of tag %.100q is too long; at most 256 characters are allowed.", name).At("tags").WithCode("InvalidTagValue")
		}
	}
	return nil
}

// readBody reads a request's JSON body, which must be there.
func readBody(q *Request, v any) error {
	err := web.ReadJSON(q.Request, v)
	if e := fault.From(err); err != nil && e.Code == "" {
		return e.WithCode("InvalidRequestContent")
	}
	return err
}
