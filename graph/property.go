package graph

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// kind is an entity type of Graph. Its table of properties is all that listing, selecting, filtering, sorting, reading and
// writing an entity go by.
type kind struct {
	name       string // "user"; in OData "#microsoft.graph.user"
	set        string // "users"
	properties []property
	relations  map[string]relation // that $expand may name
	paths      []property          // what $filter alone may name: properties within properties, as in status/errorCode
	ordered    bool                // $filter takes gt and lt, too
}

// relation lists the objects at the other end.
type relation func(c *call, id directory.ID) []directory.ID

// valueType is what $filter may do with a property.
type valueType int

const (
	complexValue valueType = iota // nothing
	textValue
	boolValue
	timeValue
	numberValue
	textsValue // a collection: any()
)

// property is one row of a kind's table. Graph's property names match in any letter case.
type property struct {
	name  string
	value valueType
	more  bool                                        // answered only when $select names it
	get   func(dir *directory.State, entity any) any  // nil is null
	set   func(entity any, raw json.RawMessage) error // nil: read-only
	once  bool                                        // may be set at creation only
}

// selectOnly marks a property that is not part of the default answer.
func (p property) selectOnly() property {
	p.more = true
	return p
}

// atCreation marks a property that cannot be changed later.
func (p property) atCreation() property {
	p.once = true
	return p
}

// computed makes a read-only property.
func computed[T any](name string, value valueType, get func(*directory.State, *T) any) property {
	return property{name: name, value: value, get: func(dir *directory.State, entity any) any { return get(dir, entity.(*T)) }}
}

// constant makes a read-only property that is the same for every entity, because the directory knows no other.
func constant(name string, v any) property {
	return property{name: name, get: func(*directory.State, any) any { return v }}
}

// identifier makes the read-only property of an id.
func identifier[T any](name string, get func(*T) directory.ID) property {
	return computed(name, textValue, func(_ *directory.State, e *T) any { return get(e).String() })
}

// text makes a property of a string field. Empty is null.
func text[T any](name string, field func(*T) *string) property {
	p := computed(name, textValue, func(_ *directory.State, e *T) any {
		if v := *field(e); v != "" {
			return v
		}
		return nil
	})
	p.set = func(entity any, raw json.RawMessage) error {
		return decode(raw, field(entity.(*T)), name, "a string or null")
	}
	return p
}

// flag makes a property of a bool field.
func flag[T any](name string, field func(*T) *bool) property {
	p := computed(name, boolValue, func(_ *directory.State, e *T) any { return *field(e) })
	p.set = func(entity any, raw json.RawMessage) error {
		if isNull(raw) {
			return errBadRequest("The property '%s' is null; it must be true or false.", name).At(name)
		}
		return decode(raw, field(entity.(*T)), name, "true or false")
	}
	return p
}

// texts makes a property of a list of strings. It is never null.
func texts[T any](name string, field func(*T) *[]string) property {
	p := computed(name, textsValue, func(_ *directory.State, e *T) any { return nonNil(*field(e)) })
	p.set = func(entity any, raw json.RawMessage) error {
		return decode(raw, field(entity.(*T)), name, "a list of strings")
	}
	return p
}

// moment makes a read-only property of a point in time. The zero time is null.
func moment[T any](name string, get func(*T) time.Time) property {
	return computed(name, timeValue, func(_ *directory.State, e *T) any {
		if t := get(e); !t.IsZero() {
			return t.UTC().Truncate(time.Second)
		}
		return nil
	})
}

// decode replaces *into by a value of the request; null makes it empty.
func decode[T any](raw json.RawMessage, into *T, name, want string) error {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return errBadRequest("The property '%s' must be %s; it is %s.", name, want, clip(string(raw), 80)).At(name)
	}
	*into = v
	return nil
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// clip shortens what a client sent for a message.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

func (k *kind) odataType() string { return "#microsoft.graph." + k.name }

// property returns a row by its name in any letter case, or nil.
func (k *kind) property(name string) *property {
	i := slices.IndexFunc(k.properties, func(p property) bool { return strings.EqualFold(p.name, name) })
	if i < 0 {
		return nil
	}
	return &k.properties[i]
}

// object is an entity of some kind in the caller's tenant.
type object struct {
	kind   *kind
	id     directory.ID
	entity any
}

// find returns an object of a tenant by its id. Objects of other tenants do not exist.
func find(dir *directory.State, tenant, id directory.ID) (object, bool) {
	if u := dir.User(id); u != nil && u.Tenant == tenant {
		return object{userKind, id, u}, true
	}
	if g := dir.Group(id); g != nil && g.Tenant == tenant {
		return object{groupKind, id, g}, true
	}
	if p := dir.ServicePrincipal(id); p != nil && p.Tenant == tenant {
		return object{principalKind, id, p}, true
	}
	if a := dir.Application(id); a != nil && a.Tenant == tenant {
		return object{applicationKind, id, a}, true
	}
	return object{}, false
}

// schema is what a collection may hold: one kind, or several mixed.
type schema struct {
	name  string // of the OData type, for messages
	kinds []*kind
}

func schemaOf(k *kind) schema { return schema{k.name, []*kind{k}} }

// mixed is the schema of directoryObject collections. It is filled by init, because the kinds' relations answer with it.
var mixed = schema{name: "directoryObject"}

func init() { mixed.kinds = []*kind{userKind, groupKind, principalKind, applicationKind} }

// cast narrows a schema to one kind by an OData type as it stands in a path: microsoft.graph.group.
func (s schema) cast(name string) (schema, bool) {
	short, ok := cutPrefixFold(name, "microsoft.graph.")
	if !ok {
		short, ok = cutPrefixFold(name, "graph.")
	}
	if ok && strings.EqualFold(short, "directoryObject") {
		return s, true
	}
	for _, k := range s.kinds {
		if ok && strings.EqualFold(short, k.name) {
			return schemaOf(k), true
		}
	}
	return schema{}, false
}

// ordered reports whether $filter takes gt and lt.
func (s schema) ordered() bool {
	return len(s.kinds) == 1 && s.kinds[0].ordered
}

func (s schema) has(k *kind) bool { return slices.Contains(s.kinds, k) }

// path returns a kind's row for what $filter names, or nil.
func (s schema) path(name string) *property {
	for _, k := range s.kinds {
		for i, p := range k.paths {
			if strings.EqualFold(p.name, name) {
				return &k.paths[i]
			}
		}
	}
	return s.property(name)
}

// property returns the first kind's row of a name, or nil when no kind has one.
func (s schema) property(name string) *property {
	for _, k := range s.kinds {
		if p := k.property(name); p != nil {
			return p
		}
	}
	return nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
