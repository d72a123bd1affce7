package graph

import (
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// federatedKind is Graph's federatedIdentityCredential: a part of an application, no directory object of its own.
var federatedKind = &kind{
	name: "federatedIdentityCredential", set: "federatedIdentityCredentials",
	properties: []property{
		identifier("id", func(f *directory.FederatedCredential) directory.ID { return f.ID }),
		text("name", func(f *directory.FederatedCredential) *string { return &f.Name }).atCreation(),
		text("issuer", func(f *directory.FederatedCredential) *string { return &f.Issuer }),
		text("subject", func(f *directory.FederatedCredential) *string { return &f.Subject }),
		text("description", func(f *directory.FederatedCredential) *string { return &f.Description }),
		texts("audiences", func(f *directory.FederatedCredential) *[]string { return &f.Audiences }),
	},
}

// federated adds the federated credentials of applications.
func (s *Server) federated(m *web.Mux, path string, on onObject) {
	all := path + "/federatedIdentityCredentials"
	one := all + "/{credential}"
	s.route(m, "GET "+all, read, on((*call).listFederated))
	s.route(m, "POST "+all, write, on((*call).addFederated))
	s.route(m, "GET "+one, read, on(onCredential((*call).showCredential)))
	s.route(m, "PATCH "+one, write, on(onCredential((*call).patchFederated)))
	s.route(m, "DELETE "+one, write, on(onCredential(func(c *call, app object, f *directory.FederatedCredential) error {
		if err := c.Directory.RemoveFederatedCredential(c.r.Context(), c.actor(), app.id, f.ID); err != nil {
			return err
		}
		return c.noContent()
	})))
}

// onCredential finds the credential that a path names by its id or its name.
func onCredential(answer func(*call, object, *directory.FederatedCredential) error) func(*call, object) error {
	return func(c *call, app object) error {
		asked := c.r.PathValue("credential")
		if name, ok := cutPrefixFold(asked, "name="); ok {
			asked = name
		}
		list := app.entity.(*directory.Application).Federated
		for i := range list {
			if strings.EqualFold(list[i].ID.String(), asked) || strings.EqualFold(list[i].Name, asked) {
				c.detail("federatedIdentityCredential", list[i].Name)
				found := list[i]
				return answer(c, app, &found)
			}
		}
		return directory.ErrNoObject(clip(asked, 130))
	}
}

func (c *call) listFederated(app object) error {
	list := app.entity.(*directory.Application).Federated
	return c.collection("applications('"+app.id.String()+"')/federatedIdentityCredentials", schemaOf(federatedKind), func(yield func(object) bool) {
		for i := range list {
			if !yield(object{federatedKind, list[i].ID, &list[i]}) {
				return
			}
		}
	})
}

func (c *call) showCredential(_ object, f *directory.FederatedCredential) error {
	return c.showObject(object{federatedKind, f.ID, f})
}

func (c *call) addFederated(app object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	if err := b.require(federatedKind, "name", "issuer", "subject", "audiences"); err != nil {
		return err
	}
	b.take("id") // clients send back what they have read
	all, err := b.settings(federatedKind)
	if err != nil {
		return err
	}
	var f directory.FederatedCredential
	if err := apply(&f, all); err != nil {
		return err
	}
	made, err := c.Directory.AddFederatedCredential(c.r.Context(), c.actor(), app.id, f)
	if err != nil {
		return err
	}
	c.note(all)
	return c.entity(http.StatusCreated, object{federatedKind, made.ID, made}, &query{schema: schemaOf(federatedKind)})
}

func (c *call) patchFederated(app object, f *directory.FederatedCredential) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	b.take("id")
	all, err := b.settings(federatedKind)
	if err != nil {
		return err
	}
	if err := check(c.dir, f, all); err != nil {
		return err
	}
	err = c.Directory.UpdateFederatedCredential(c.r.Context(), c.actor(), app.id, f.ID, func(f *directory.FederatedCredential) error { return apply(f, all) })
	if err != nil {
		return err
	}
	c.note(all)
	return c.noContent()
}
