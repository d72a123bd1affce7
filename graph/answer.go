package graph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// members is a JSON object with its members in order.
type members []member

type member struct {
	name  string
	value any
}

func (m *members) add(name string, value any) { *m = append(*m, member{name, value}) }

// MarshalJSON keeps the order.
func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(e.value)
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", e.name, err)
		}
		fmt.Fprintf(&b, "%q:", e.name) // our own names: ASCII without escapes
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// project returns the members of an object that fields name, in the order of the kind's table; nil: the default ones.
func (c *call) project(o object, fields []string, typed bool) members {
	var m members
	if typed {
		m.add("@odata.type", o.kind.odataType())
	}
	for _, p := range o.kind.properties {
		if (fields == nil && !p.more) || slices.Contains(fields, p.name) {
			m.add(p.name, p.get(c.dir, o.entity))
		}
	}
	return m
}

// expanded is how many objects an expanded relation shows (Microsoft Graph "$expand": 20 for directory objects).
const expanded = 20

// show is project with the query's expansions.
func (c *call) show(o object, q *query, typed bool) members {
	m := c.project(o, q.fields, typed)
	for _, e := range q.expand {
		list := []members{}
		if relation := o.kind.relations[e.name]; relation != nil {
			for _, id := range relation(c, o.id) {
				if len(list) == expanded {
					break
				}
				if other, ok := find(c.dir, c.tenant, id); ok {
					list = append(list, c.project(other, e.fields, true))
				}
			}
		}
		m.add(e.name, list)
	}
	return m
}

// context is the value of @odata.context.
func (c *call) context(fragment string) string {
	return c.base(c.r) + version + "/$metadata#" + fragment
}

func fragment(set string, q *query) string {
	names := slices.Clone(q.fields)
	for _, e := range q.expand {
		names = append(names, e.name+"()")
	}
	if len(names) == 0 {
		return set
	}
	return set + "(" + strings.Join(names, ",") + ")"
}

// entity answers with one object.
func (c *call) entity(status int, o object, q *query) error {
	m := members{{"@odata.context", c.context(fragment(o.kind.set, q) + "/$entity")}}
	return c.reply(status, append(m, c.show(o, q, false)...))
}

// created answers a POST with the new object.
func (c *call) created(o object) error {
	c.w.Header().Set("Location", c.base(c.r)+version+"/directoryObjects/"+o.id.String()+"/Microsoft.DirectoryServices."+title(o.kind.name))
	return c.entity(http.StatusCreated, o, &query{schema: schemaOf(o.kind)})
}

// collection answers with a page of objects. set names it in the context.
func (c *call) collection(set string, s schema, all iter.Seq[object]) error {
	allowed := ofCollection
	if c.need == profile {
		allowed = ofOwnCollection
	}
	q, err := parseQuery(c.r, s, allowed)
	if err != nil {
		return err
	}
	p := q.page(c.dir, all)
	m := members{{"@odata.context", c.context(fragment(set, q))}}
	if q.count {
		m.add("@odata.count", p.count)
	}
	if p.next != nil {
		m.add("@odata.nextLink", c.nextLink(p.next))
	}
	list := make([]members, 0, len(p.objects))
	for _, o := range p.objects {
		list = append(list, c.show(o, q, set == directoryObjects))
	}
	m.add("value", list)
	return c.reply(http.StatusOK, m)
}

// count answers a $count segment.
func (c *call) count(s schema, all iter.Seq[object]) error {
	q, err := parseQuery(c.r, s, ofCount)
	if err != nil {
		return err
	}
	n := 0
	for o := range all {
		if q.filter.matches(c.dir, o) {
			n++
		}
	}
	c.headers()
	c.w.Header().Set("Content-Type", "text/plain")
	_, err = fmt.Fprint(c.w, n)
	return ignoreHangup(err)
}

// directoryObjects is the set of mixed collections.
const directoryObjects = "directoryObjects"

// objects are those of a list of ids that exist in the tenant and fit the schema.
func (c *call) objects(s schema, ids []directory.ID) iter.Seq[object] {
	return func(yield func(object) bool) {
		for _, id := range ids {
			if o, ok := find(c.dir, c.tenant, id); ok && s.has(o.kind) && !yield(o) {
				return
			}
		}
	}
}

// values answers with a list of plain values.
func (c *call) values(edm string, list any) error {
	return c.reply(http.StatusOK, members{{"@odata.context", c.context("Collection(" + edm + ")")}, {"value", list}})
}

func (c *call) reply(status int, v any) error {
	c.headers()
	return web.WriteJSON(c.w, status, v)
}

func (c *call) noContent() error {
	c.headers()
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// headers are those that clients quote to support.
func (c *call) headers() {
	id := web.RequestID(c.r.Context())
	if id == "" {
		id = web.NewGUID()
	}
	c.w.Header().Set("request-id", id)
	c.w.Header().Set("client-request-id", clientRequestID(c.r, id))
	c.w.Header().Set("Cache-Control", "no-store")
}

// A client that has gone away is not an error worth rendering.
func ignoreHangup(error) error { return nil }
