package graph

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// groupKind is Graph's group.
var groupKind = &kind{
	name: "group", set: "groups",
	properties: []property{
		identifier("id", func(g *directory.Group) directory.ID { return g.ID }),
		moment("createdDateTime", func(g *directory.Group) time.Time { return g.Created }),
		text("description", func(g *directory.Group) *string { return &g.Description }),
		text("displayName", func(g *directory.Group) *string { return &g.DisplayName }),
		texts("groupTypes", func(g *directory.Group) *[]string { return &g.Types }).atCreation(),
		flag("isAssignableToRole", func(g *directory.Group) *bool { return &g.RoleAssignable }).atCreation(),
		flag("mailEnabled", func(g *directory.Group) *bool { return &g.MailEnabled }).atCreation(),
		text("mailNickname", func(g *directory.Group) *string { return &g.MailNickname }),
		flag("securityEnabled", func(g *directory.Group) *bool { return &g.SecurityEnabled }),
		text("visibility", func(g *directory.Group) *string { return &g.Visibility }),
	},
	relations: map[string]relation{
		"memberOf": (*call).memberOf, "members": (*call).membersOf, "owners": (*call).ownersOf,
	},
}

func (s *Server) mountGroups(m *web.Mux) {
	on := onKind(groupKind)
	s.route(m, "GET /groups", read, func(c *call) error { return c.collection("groups", schemaOf(groupKind), c.groups()) })
	s.route(m, "GET /groups/$count", read, func(c *call) error { return c.count(schemaOf(groupKind), c.groups()) })
	s.route(m, "POST /groups", write, (*call).createGroup)
	s.route(m, "GET /groups/{id}", read, on((*call).showObject))
	s.route(m, "PATCH /groups/{id}", write, on((*call).patchGroup))
	s.route(m, "DELETE /groups/{id}", write, on((*call).deleteGroup))
	s.memberships(m, "/groups/{id}", read, on)
	s.relation(m, "/groups/{id}/members", read, on, (*call).membersOf)
	s.relation(m, "/groups/{id}/transitiveMembers", read, on, (*call).transitiveMembersOf)
	s.relation(m, "/groups/{id}/owners", read, on, (*call).ownersOf)

	s.references(m, "/groups/{id}/members", on, references{
		add: func(ctx context.Context, d *directory.Directory, by directory.Actor, group, member directory.ID) error {
			return d.AddMembers(ctx, by, group, feed.Window{}, member)
		},
		remove: func(ctx context.Context, d *directory.Directory, by directory.Actor, group, member directory.ID) error {
			return d.RemoveMember(ctx, by, group, member)
		},
	})
	s.references(m, "/groups/{id}/owners", on, ownerReferences)
}

// references are the commands behind a relation's $ref.
type references struct {
	add, remove func(ctx context.Context, d *directory.Directory, by directory.Actor, object, other directory.ID) error
}

// ownerReferences are those of everything that can have owners.
var ownerReferences = references{
	add: func(ctx context.Context, d *directory.Directory, by directory.Actor, object, owner directory.ID) error {
		return d.AddOwner(ctx, by, object, owner)
	},
	remove: func(ctx context.Context, d *directory.Directory, by directory.Actor, object, owner directory.ID) error {
		return d.RemoveOwner(ctx, by, object, owner)
	},
}

func (s *Server) references(m *web.Mux, path string, on onObject, refs references) {
	s.route(m, "POST "+path+"/$ref", write, on(func(c *call, o object) error {
		other, err := readReference(c.r)
		if err != nil {
			return err
		}
		c.detail("reference", other.String())
		if err := refs.add(c.r.Context(), c.Directory, c.actor(), o.id, other); err != nil {
			return err
		}
		return c.noContent()
	}))
	s.route(m, "DELETE "+path+"/{other}/$ref", write, on(func(c *call, o object) error {
		key := c.r.PathValue("other")
		other, err := directory.ParseID(key)
		if err != nil {
			return directory.ErrNoObject(clip(key, 200))
		}
		c.detail("reference", other.String())
		if err := refs.remove(c.r.Context(), c.Directory, c.actor(), o.id, other); err != nil {
			return err
		}
		return c.noContent()
	}))
}

func (c *call) groups() iter.Seq[object] {
	return func(yield func(object) bool) {
		for g := range c.dir.EachGroup(c.tenant) {
			if !yield(object{groupKind, g.ID, g}) {
				return
			}
		}
	}
}

func (c *call) createGroup() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	if err := b.require(groupKind, "displayName", "mailEnabled", "mailNickname", "securityEnabled"); err != nil {
		return err
	}
	made := directory.NewGroup{Group: directory.Group{Tenant: c.tenant}}
	if made.Owners, err = b.binds("owners"); err != nil {
		return err
	}
	if made.Members, err = b.binds("members"); err != nil {
		return err
	}
	all, err := b.settings(groupKind)
	if err != nil {
		return err
	}
	if err := apply(&made.Group, all); err != nil {
		return err
	}
	group, err := c.Directory.CreateGroup(c.r.Context(), c.actor(), made)
	if err != nil {
		return err
	}
	c.changed(group.ID)
	for name, ids := range map[string][]directory.ID{"members": made.Members, "owners": made.Owners} {
		if len(ids) > 0 {
			c.detail(name, joinIDs(ids))
		}
	}
	return c.created(object{groupKind, group.ID, group})
}

// patchGroup changes properties, or adds members. Not both: owners may do the one but not the other, and each is one write.
func (c *call) patchGroup(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	added, err := b.binds("members")
	if err != nil {
		return err
	}
	all, err := b.settings(groupKind)
	if err != nil {
		return err
	}
	if len(added) > 0 {
		if len(all) > 0 {
			return errBadRequest("members@odata.bind cannot be combined with other properties; send two requests.").At("members@odata.bind")
		}
		c.detail("members", joinIDs(added))
		if err := c.Directory.AddMembers(c.r.Context(), c.actor(), o.id, feed.Window{}, added...); err != nil {
			return err
		}
		return c.noContent()
	}
	probe := *o.entity.(*directory.Group)
	if err := check(c.dir, &probe, all); err != nil { // so that it cannot fail below
		return err
	}
	if err := c.Directory.UpdateGroup(c.r.Context(), c.actor(), o.id, func(g *directory.Group) { apply(g, all) }); err != nil {
		return err
	}
	c.note(all)
	return c.noContent()
}

func (c *call) deleteGroup(o object) error {
	if err := c.Directory.DeleteGroup(c.r.Context(), c.actor(), o.id); err != nil {
		return err
	}
	return c.noContent()
}

func joinIDs(ids []directory.ID) string {
	var list []string
	for _, id := range ids {
		list = append(list, id.String())
	}
	return strings.Join(list, " ")
}
