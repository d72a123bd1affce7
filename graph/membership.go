package graph

import (
	"slices"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Limits of the real service.
const (
	maxChecked = 20   // ids in checkMemberGroups
	maxByIDs   = 1000 // ids in getByIds
)

// memberOf are the groups that an object is directly in now.
func (c *call) memberOf(id directory.ID) []directory.ID { return c.dir.MemberOf(id, c.now) }

// groupsOf are the groups that an object is in now, through any nesting.
func (c *call) groupsOf(id directory.ID) []directory.ID {
	groups, _ := c.dir.GroupsOf(id, c.now)
	return slices.DeleteFunc(groups, func(g directory.ID) bool { return g == id }) // a circle of groups
}

func (c *call) membersOf(id directory.ID) []directory.ID { return c.dir.Members(id, c.now) }

func (c *call) transitiveMembersOf(id directory.ID) []directory.ID {
	return c.dir.TransitiveMembers(id, c.now)
}

func (c *call) ownersOf(id directory.ID) []directory.ID { return c.dir.Owners(id) }
func (c *call) ownedBy(id directory.ID) []directory.ID  { return c.dir.Owned(id) }

// memberships adds what every object that can be in a group has.
func (s *Server) memberships(m *web.Mux, path string, n need, on onObject) {
	s.relation(m, path+"/memberOf", n, on, (*call).memberOf)
	s.relation(m, path+"/transitiveMemberOf", n, on, (*call).groupsOf)
	// The directory's member objects are groups: roles and administrative units are not objects here.
	for _, name := range []string{"Groups", "Objects"} {
		s.route(m, "POST "+path+"/getMember"+name, n, on((*call).getMemberGroups))
		s.route(m, "POST "+path+"/checkMember"+name, n, on((*call).checkMemberGroups))
	}
}

func (s *Server) owned(m *web.Mux, path string, n need, on onObject) {
	s.relation(m, path+"/ownedObjects", n, on, (*call).ownedBy)
}

// relation adds a list of related objects, its casts to one kind, and their counts.
func (s *Server) relation(m *web.Mux, path string, n need, on onObject, list relation) {
	schemaOfCast := func(c *call) (string, schema, error) {
		name := c.r.PathValue("cast")
		if name == "" {
			return directoryObjects, mixed, nil
		}
		narrowed, ok := mixed.cast(name)
		if !ok {
			return "", schema{}, errBadRequest("Resource not found for the segment '%s'; a cast is one like microsoft.graph.group.", clip(name, 80))
		}
		if len(narrowed.kinds) > 1 {
			return directoryObjects, narrowed, nil
		}
		return narrowed.kinds[0].set, narrowed, nil
	}
	show := on(func(c *call, o object) error {
		set, sc, err := schemaOfCast(c)
		if err != nil {
			return err
		}
		return c.collection(set, sc, c.objects(sc, list(c, o.id)))
	})
	count := on(func(c *call, o object) error {
		_, sc, err := schemaOfCast(c)
		if err != nil {
			return err
		}
		return c.count(sc, c.objects(sc, list(c, o.id)))
	})
	s.route(m, "GET "+path, n, show)
	s.route(m, "GET "+path+"/$count", n, count)
	s.route(m, "GET "+path+"/{cast}", n, show)
	s.route(m, "GET "+path+"/{cast}/$count", n, count)
}

// getMemberGroups answers with the ids of all groups that an object is in, without a limit on their number.
func (c *call) getMemberGroups(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	security := false
	raw := b.take("securityEnabledOnly")
	if raw == nil {
		return errBadRequest("The request body must be {\"securityEnabledOnly\": false}, or true for a user.").At("securityEnabledOnly")
	}
	if err := decode(raw, &security, "securityEnabledOnly", "true or false"); err != nil {
		return err
	}
	if security && o.kind != userKind {
		return errBadRequest("securityEnabledOnly can be true for a user only, and %s is a %s; set it to false.", o.id, o.kind.name).At("securityEnabledOnly")
	}
	ids := []string{}
	for _, id := range c.groupsOf(o.id) {
		if g := c.dir.Group(id); g != nil && (g.SecurityEnabled || !security) {
			ids = append(ids, id.String())
		}
	}
	return c.values("Edm.String", ids)
}

// checkMemberGroups answers with those of the given ids that an object is in, in the caller's spelling: az compares text.
func (c *call) checkMemberGroups(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	name := "groupIds"
	raw := b.take(name)
	if other := b.take("ids"); raw == nil {
		name, raw = "ids", other // of checkMemberObjects
	}
	asked, ids, err := readIDs(name, raw, maxChecked)
	if err != nil {
		return err
	}
	groups := c.groupsOf(o.id)
	in := []string{}
	for i, id := range ids {
		if _, ok := slices.BinarySearchFunc(groups, id, directory.ID.Compare); ok {
			in = append(in, asked[i])
		}
	}
	return c.values("Edm.String", in)
}
