package arm

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Namespace is a resource provider as it is shown to clients. All that exist here are registered in every subscription.
type Namespace struct {
	Name  string
	Types []Type
}

// Type is a resource type.
type Type struct {
	Name     string
	Versions []string // api-versions that clients of it are known to send; others are accepted too
	Tracked  bool     // has a location and tags
}

func (s *Server) mountProviders(r *Routes) {
	r.HandleAnyone("GET /providers", s.listProviders)
	r.HandleAnyone("GET /providers/{namespace}", s.getProvider)
	r.Handle("GET /subscriptions/{subscription}/providers", s.listProviders)
	r.Handle("GET /subscriptions/{subscription}/providers/{namespace}", s.getProvider)
	r.Handle("POST /subscriptions/{subscription}/providers/{namespace}/register", s.getProvider)
	const feature = " /subscriptions/{subscription}/providers/Microsoft.Features/providers/{namespace}/features/{feature}"
	r.Handle("GET"+feature, s.getFeature)
	r.Handle("POST"+feature+"/register", s.registerFeature)
}

func (s *Server) namespaces() []Namespace {
	own := []Namespace{
		{"Microsoft.Features", []Type{{"features", []string{"2021-07-01"}, false}}},
		{"Microsoft.Resources", []Type{
			{"tenants", []string{"2019-11-01", "2022-12-01"}, false},
			{"subscriptions", []string{"2019-11-01", "2022-12-01"}, false},
			{"resourceGroups", []string{"2021-04-01", "2024-03-01"}, true},
		}},
	}
	for _, p := range s.Providers {
		own = append(own, p.Namespace())
	}
	return own
}

func (s *Server) listProviders(w http.ResponseWriter, q *Request) error {
	var out []any
	for _, n := range s.namespaces() {
		out = append(out, namespaceJSON(q, n))
	}
	return WriteList(w, out)
}

// getProvider also answers a registration: there is nothing to do.
func (s *Server) getProvider(w http.ResponseWriter, q *Request) error {
	n, err := s.namespace(q.PathValue("namespace"))
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, namespaceJSON(q, n))
}

func (s *Server) namespace(name string) (Namespace, error) {
	var known []string
	for _, n := range s.namespaces() {
		if strings.EqualFold(n.Name, name) {
			return n, nil
		}
		known = append(known, n.Name)
	}
	return Namespace{}, fault.New(fault.NotFound, "The resource namespace '%.100s' is invalid; Gatehouse has %s.", name, strings.Join(known, ", ")).
		WithCode("InvalidResourceNamespace")
}

func namespaceJSON(q *Request, n Namespace) any {
	id := "/providers/" + n.Name
	if q.Subscription != nil {
		id = "/subscriptions/" + q.Subscription.ID.String() + id
	}
	types := []any{}
	for _, t := range n.Types {
		capabilities, where := "None", []string{}
		if t.Tracked {
			capabilities, where = "SupportsTags, SupportsLocation", LocationNames()
		}
		types = append(types, map[string]any{"resourceType": t.Name, "locations": where, "apiVersions": t.Versions, "capabilities": capabilities})
	}
	return map[string]any{
		"id": id, "namespace": n.Name, "registrationState": "Registered", "registrationPolicy": "RegistrationRequired", "resourceTypes": types,
	}
}

var featurePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// feature returns the namespace, the name and the record's key of the feature that a path names.
func (s *Server) feature(q *Request) (namespace, name, key string, err error) {
	n, err := s.namespace(q.PathValue("namespace"))
	if err != nil {
		return "", "", "", err
	}
	name = q.PathValue("feature")
	if !featurePattern.MatchString(name) {
		return "", "", "", fault.New(fault.Invalid, "The feature name %.120q is invalid; use letters, digits, dots, dashes and underscores.", name).WithCode("InvalidFeatureName")
	}
	return n.Name, name, strings.ToLower(q.Subscription.ID.String() + "/" + n.Name + "/" + name), nil
}

func (s *Server) getFeature(w http.ResponseWriter, q *Request) error {
	namespace, name, key, err := s.feature(q)
	if err != nil {
		return err
	}
	state := "NotRegistered"
	if on, _ := In(q.View).features.Get(key); on {
		state = "Registered"
	}
	return writeFeature(w, q.Subscription.ID, namespace, name, state)
}

func (s *Server) registerFeature(w http.ResponseWriter, q *Request) error {
	namespace, name, key, err := s.feature(q)
	if err != nil {
		return err
	}
	err = q.Update(func(*feed.View) (feed.Change, error) {
		return feed.Change{Records: []feed.Record{record(KindFeature, key, q.Subscription.Tenant, struct{}{})}}, nil
	})
	if err != nil {
		return err
	}
	return writeFeature(w, q.Subscription.ID, namespace, name, "Registered")
}

func writeFeature(w http.ResponseWriter, subscription directory.ID, namespace, name, state string) error {
	return web.WriteJSON(w, http.StatusOK, map[string]any{
		"id":   "/subscriptions/" + subscription.String() + "/providers/Microsoft.Features/providers/" + namespace + "/features/" + name,
		"name": namespace + "/" + name, "type": "Microsoft.Features/providers/features", "properties": map[string]string{"state": state},
	})
}
