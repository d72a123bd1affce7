package graph

import (
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// The organization is the tenant itself, and its domains are part of it: both are read only here.
func (s *Server) mountOrganization(m *web.Mux) {
	s.route(m, "GET /organization", read, func(c *call) error {
		return c.plainList("organization", []members{c.organization()})
	})
	s.route(m, "GET /organization/{id}", read, func(c *call) error {
		if key := c.r.PathValue("id"); !strings.EqualFold(key, c.tenant.String()) {
			return directory.ErrNoObject(clip(key, 200))
		}
		return c.plainEntity("organization", c.organization())
	})
	s.route(m, "GET /domains", read, func(c *call) error {
		list := []members{}
		for i := range c.dir.Tenant(c.tenant).Domains {
			list = append(list, c.domain(i))
		}
		return c.plainList("domains", list)
	})
	s.route(m, "GET /domains/{id}", read, func(c *call) error {
		key := c.r.PathValue("id")
		for i, name := range c.dir.Tenant(c.tenant).Domains {
			if strings.EqualFold(name, key) {
				return c.plainEntity("domains", c.domain(i))
			}
		}
		return directory.ErrNoObject(clip(key, 200))
	})
}

func (c *call) organization() members {
	t := c.dir.Tenant(c.tenant)
	verified := []members{}
	for i, name := range t.Domains {
		verified = append(verified, members{
			{"capabilities", "Email, OfficeCommunicationsOnline"}, {"isDefault", i == 0}, {"isInitial", i == 0}, {"name", name}, {"type", "Managed"},
		})
	}
	return members{
		{"id", t.ID}, {"createdDateTime", t.Created.UTC().Truncate(1e9)}, {"displayName", t.DisplayName}, {"tenantType", "AAD"},
		{"businessPhones", []any{}}, {"technicalNotificationMails", []any{}}, {"onPremisesSyncEnabled", nil},
		{"assignedPlans", []any{}}, {"provisionedPlans", []any{}}, {"verifiedDomains", verified},
	}
}

func (c *call) domain(i int) members {
	return members{
		{"id", c.dir.Tenant(c.tenant).Domains[i]}, {"authenticationType", "Managed"}, {"availabilityStatus", nil}, {"isAdminManaged", true},
		{"isDefault", i == 0}, {"isInitial", i == 0}, {"isRoot", true}, {"isVerified", true},
		{"supportedServices", []any{}}, {"state", nil},
	}
}

// plainList and plainEntity answer for what has no table of properties. They take $select alone.
func (c *call) plainList(set string, list []members) error {
	fields, err := c.plainSelect(set, list)
	if err != nil {
		return err
	}
	for i := range list {
		list[i] = list[i].only(fields)
	}
	return c.reply(http.StatusOK, members{{"@odata.context", c.context(fragment(set, &query{fields: fields}))}, {"value", list}})
}

func (c *call) plainEntity(set string, m members) error {
	fields, err := c.plainSelect(set, []members{m})
	if err != nil {
		return err
	}
	head := members{{"@odata.context", c.context(fragment(set, &query{fields: fields}) + "/$entity")}}
	return c.reply(http.StatusOK, append(head, m.only(fields)...))
}

func (c *call) plainSelect(set string, list []members) ([]string, error) {
	given, err := options(c.r, []option{optSelect})
	if err != nil {
		return nil, err
	}
	text, ok := given[optSelect]
	if !ok {
		return nil, nil
	}
	k := &kind{name: strings.TrimSuffix(set, "s")}
	for _, e := range list[0] {
		k.properties = append(k.properties, property{name: e.name})
	}
	return parseSelect(text, schemaOf(k))
}

// only keeps some members; nil: all.
func (m members) only(fields []string) members {
	if fields == nil {
		return m
	}
	var kept members
	for _, e := range m {
		for _, f := range fields {
			if f == e.name {
				kept.add(e.name, e.value)
			}
		}
	}
	return kept
}
