package aks

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// object is a JSON object of a request and where it stands, for messages. Absent and null members read as nil.
type object struct {
	at string // e.g. "properties.aadProfile"; empty at the top
	m  map[string]json.RawMessage
}

func parseObject(at string, raw []byte) (object, error) {
	o := object{at: at}
	if err := json.Unmarshal(raw, &o.m); err != nil || o.m == nil {
		return o, errType(at, raw, "an object")
	}
	return o, nil
}

// canonical renames members to the names given, where they match in another letter case: the service takes any. Without
// it a misspelt aadProfile would be a cluster without Entra integration.
func (o object) canonical(names ...string) error {
	for key, value := range o.m {
		for _, name := range names {
			if key == name || !strings.EqualFold(key, name) {
				continue
			}
			if _, twice := o.m[name]; twice {
				return fault.New(fault.Invalid, "The property '%s' is given twice, also as %q; give it once.", o.path(name), key).At(o.path(name)).WithCode("InvalidRequestContent")
			}
			delete(o.m, key)
			o.m[name] = value
		}
	}
	return nil
}

func (o object) path(name string) string {
	if o.at == "" {
		return name
	}
	return o.at + "." + name
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// object reads a member that is an object; nil if it is absent.
func (o object) object(name string) (*object, error) {
	raw := o.m[name]
	if isNull(raw) {
		return nil, nil
	}
	inner, err := parseObject(o.path(name), raw)
	return &inner, err
}

// member reads a member of a type, which what describes; nil if it is absent.
func member[T any](o object, name, what string) (*T, error) {
	raw := o.m[name]
	if isNull(raw) {
		return nil, nil
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, errType(o.path(name), raw, what)
	}
	return v, nil
}

func errType(at string, raw []byte, what string) error {
	if at == "" {
		at = "the request body"
	}
	return invalid(at, "The value %.100s of '%s' is invalid: it must be %s.", bytes.TrimSpace(raw), at, what)
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).At(target).WithCode("InvalidParameter")
}

// errChange is the service's refusal of a change that can't be made.
func errChange(property string) error {
	return fault.New(fault.Invalid, "Changing property '%s' is not allowed.", property).At(property).WithCode("PropertyChangeNotAllowed")
}

// tree decodes JSON so that numbers stay as they were written.
func tree(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	return v, d.Decode(&v)
}

// replaced are objects whose keys are data: they are taken as a whole, empty values included.
var replaced = map[string]bool{"nodeLabels": true, "tags": true}

// prune leaves out of objects what means "not given": null, and empty text, which az sends for "the service's default".
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if inner == nil || inner == "" {
				delete(v, key)
				continue
			}
			if !replaced[key] {
				v[key] = prune(inner)
			}
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// merge puts what is given over what there was: objects member by member, anything else as a whole.
func merge(old, given any) any {
	a, ok := old.(map[string]any)
	b, ok2 := given.(map[string]any)
	if !ok || !ok2 {
		return given
	}
	out := make(map[string]any, len(a)+len(b))
	for key, v := range a {
		out[key] = v
	}
	for key, v := range b {
		name := sameKey(a, key)
		out[name] = merge(a[name], v)
	}
	return out
}

// sameKey returns the spelling that a key has in m already.
func sameKey(m map[string]any, key string) string {
	if _, ok := m[key]; ok {
		return key
	}
	for known := range m {
		if strings.EqualFold(known, key) {
			return known
		}
	}
	return key
}

// lookup follows a path of member names, in any letter case; nil where it ends early.
func lookup(v any, path ...string) any {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[sameKey(m, name)]
	}
	return v
}
