package graph

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

func (s *Server) mountDirectoryObjects(m *web.Mux) {
	s.route(m, "GET /directoryObjects/{id}", read, onAny((*call).showDirectoryObject))
	s.route(m, "POST /directoryObjects/getByIds", read, (*call).getByIDs)
	s.memberships(m, "/directoryObjects/{id}", read, onAny)
}

// onAny finds an object of any kind by its id.
func onAny(answer func(*call, object) error) func(*call) error { return onKind(nil)(answer) }

// onKind finds an object of one kind by its id; nil: of any.
func onKind(k *kind) onObject {
	return func(answer func(*call, object) error) func(*call) error {
		return func(c *call) error {
			key := c.r.PathValue("id")
			id, err := c.objectID(k, key)
			if err != nil {
				return directory.ErrNoObject(clip(key, 200))
			}
			o, ok := find(c.dir, c.tenant, id)
			if !ok || (k != nil && o.kind != k) {
				return directory.ErrNoObject(clip(key, 200))
			}
			c.changed(o.id)
			return answer(c, o)
		}
	}
}

// objectID reads an object id or, of applications and service principals, the other key appId=... (see keySegments).
func (c *call) objectID(k *kind, key string) (directory.ID, error) {
	text, ok := cutPrefixFold(key, "appId=")
	if !ok || (k != applicationKind && k != principalKind) {
		return directory.ParseID(key)
	}
	appID, err := directory.ParseID(text)
	if err != nil {
		return directory.ID{}, err
	}
	if k == applicationKind {
		if a := c.dir.ApplicationByAppID(appID); a != nil {
			return a.ID, nil
		}
	} else if p := c.dir.ServicePrincipalByName(c.tenant, appID.String()); p != nil {
		return p.ID, nil
	}
	return directory.ID{}, directory.ErrNoObject(text)
}

func (c *call) showDirectoryObject(o object) error {
	q, err := parseQuery(c.r, schemaOf(o.kind), ofEntity)
	if err != nil {
		return err
	}
	m := members{{"@odata.context", c.context(fragment(directoryObjects, q) + "/$entity")}}
	return c.reply(http.StatusOK, append(m, c.show(o, q, true)...))
}

// getByIDs answers with the objects of up to 1,000 ids. Ids that name nothing are left out.
func (c *call) getByIDs() error {
	q, err := parseQuery(c.r, mixed, []option{optSelect})
	if err != nil {
		return err
	}
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	_, ids, err := readIDs("ids", b.take("ids"), maxByIDs)
	if err != nil {
		return err
	}
	var types []string
	if raw := b.take("types"); raw != nil {
		if err := decode(raw, &types, "types", "a list of type names"); err != nil {
			return err
		}
	}
	list := []members{}
	seen := map[directory.ID]bool{}
	for o := range c.objects(mixed, ids) {
		wanted := len(types) == 0 || slices.ContainsFunc(types, func(t string) bool {
			return strings.EqualFold(t, o.kind.name) || strings.EqualFold(t, "directoryObject")
		})
		if wanted && !seen[o.id] {
			seen[o.id] = true
			list = append(list, c.project(o, q.fields, true))
		}
	}
	return c.reply(http.StatusOK, members{{"@odata.context", c.context(directoryObjects)}, {"value", list}})
}

// readIDs reads a list of object ids, and keeps the caller's spelling beside them.
func readIDs(name string, raw json.RawMessage, limit int) (asked []string, ids []directory.ID, err error) {
	if raw == nil {
		return nil, nil, errBadRequest("The request body must hold '%s', a list of object ids.", name).At(name)
	}
	if err := decode(raw, &asked, name, "a list of object ids"); err != nil {
		return nil, nil, err
	}
	if len(asked) > limit {
		return nil, nil, errBadRequest("'%s' holds %d ids; at most %d are answered in one request.", name, len(asked), limit).At(name)
	}
	for _, text := range asked {
		id, err := directory.ParseID(text)
		if err != nil {
			return nil, nil, errBadRequest("Invalid object identifier '%s' in '%s'; object ids are GUIDs.", clip(text, 80), name).At(name)
		}
		ids = append(ids, id)
	}
	return asked, ids, nil
}
