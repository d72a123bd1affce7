package graph

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// body is the JSON object of a request, with its members' names in the caller's spelling.
type body map[string]json.RawMessage

// readBody reads a JSON object. Two spellings of one name are refused: which of them counts would be a guess.
func readBody(r *http.Request) (body, error) {
	var raw json.RawMessage
	if err := web.ReadJSON(r, &raw); err != nil {
		return nil, err
	}
	var b body
	if len(raw) > 0 && json.Unmarshal(raw, &b) != nil {
		return nil, errBadRequest("The request body must be a JSON object.")
	}
	seen := map[string]string{}
	for name := range b {
		lower := strings.ToLower(name)
		if other, twice := seen[lower]; twice {
			return nil, errBadRequest("The request body has both '%s' and '%s'; names match in any letter case. Send one.", clip(other, 80), clip(name, 80))
		}
		seen[lower] = name
	}
	return b, nil
}

// take removes a member and returns its value, or nil.
func (b body) take(name string) json.RawMessage {
	for given, raw := range b {
		if strings.EqualFold(given, name) {
			delete(b, given)
			return raw
		}
	}
	return nil
}

// require refuses a body in which one of these members is missing or null.
func (b body) require(k *kind, names ...string) error {
	for _, name := range names {
		found := false
		for given, raw := range b {
			found = found || (strings.EqualFold(given, name) && !isNull(raw))
		}
		if !found {
			return errBadRequest("A value is required for property '%s' of resource '%s'.", name, title(k.name)).At(name)
		}
	}
	return nil
}

// setting is a property that a request sets.
type setting struct {
	*property
	raw json.RawMessage
}

// settings looks every member up in the kind's table. An unknown or read-only one is refused.
func (b body) settings(k *kind) ([]setting, error) {
	var all []setting
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if strings.EqualFold(name, "@odata.type") || strings.EqualFold(name, "@odata.context") {
			continue
		}
		p := k.property(name)
		switch {
		case p == nil:
			return nil, errBadRequest("One or more properties are invalid: '%s' is not a property of resource '%s'.", clip(name, 80), title(k.name)).At(clip(name, 80))
		case p.set == nil:
			return nil, errBadRequest("Property '%s' of resource '%s' is read-only and cannot be set.", p.name, title(k.name)).At(p.name)
		}
		all = append(all, setting{p, b[name]})
	}
	return all, nil
}

// check sets properties of a copy of an existing entity, to find out what is wrong with them. A property that belongs to
// the creation may be there only as it is.
func check(dir *directory.State, copied any, all []setting) error {
	for _, s := range all {
		before := s.get(dir, copied)
		if err := s.set(copied, s.raw); err != nil {
			return err
		}
		if s.once && !reflect.DeepEqual(before, s.get(dir, copied)) {
			return errBadRequest("Property '%s' can be set at creation only; it is %v.", s.name, before).At(s.name)
		}
	}
	return nil
}

// note keeps what was set for the audit. Passwords are no properties of a kind, so none is among these.
func (c *call) note(all []setting) {
	for _, s := range all {
		c.detail(s.name, clip(string(s.raw), 200))
	}
}

// apply sets properties of an entity.
func apply(entity any, all []setting) error {
	for _, s := range all {
		if err := s.set(entity, s.raw); err != nil {
			return err
		}
	}
	return nil
}

// maxBinds is how many references one request may add (Microsoft Graph, "members@odata.bind").
const maxBinds = 20

// binds takes the references of name@odata.bind out of a body.
func (b body) binds(name string) ([]directory.ID, error) {
	field := name + "@odata.bind"
	raw := b.take(field)
	if raw == nil {
		return nil, nil
	}
	var refs []string
	if err := decode(raw, &refs, field, "a list of references"); err != nil {
		return nil, err
	}
	if len(refs) > maxBinds {
		return nil, errBadRequest("%s holds %d references; at most %d can be added in one request.", field, len(refs), maxBinds).At(field)
	}
	var ids []directory.ID
	for _, ref := range refs {
		id, err := referenceID(ref)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// readReference reads the body of a POST to $ref.
func readReference(r *http.Request) (directory.ID, error) {
	b, err := readBody(r)
	if err != nil {
		return directory.ID{}, err
	}
	raw := b.take("@odata.id")
	if raw == nil {
		return directory.ID{}, errBadRequest("The request body must be {\"@odata.id\": \"https://%s/v1.0/directoryObjects/{id}\"}.", cloudHost).At("@odata.id")
	}
	var ref string
	if err := decode(raw, &ref, "@odata.id", "a URL"); err != nil {
		return directory.ID{}, err
	}
	return referenceID(ref)
}

// referenceID reads the object id at the end of a reference, on any host: .../directoryObjects/{id} or ...('{id}').
func referenceID(ref string) (directory.ID, error) {
	u, err := url.Parse(ref)
	if err == nil {
		segment := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
		if _, key, ok := strings.Cut(keySegment(segment), "/"); ok {
			segment = key
		}
		if id, err := directory.ParseID(segment); err == nil {
			return id, nil
		}
	}
	return directory.ID{}, errBadRequest("Invalid URL format specified in payload: '%s' does not end in an object id; give one like https://%s/v1.0/directoryObjects/{id}.", clip(ref, 200), cloudHost).
		At("@odata.id")
}

// title makes the name that messages use: User.
func title(name string) string { return strings.ToUpper(name[:1]) + name[1:] }
