package graph

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Page sizes of Graph.
const (
	defaultTop = 100
	maxTop     = 999
)

// option is an OData system query option, without the dollar sign.
type option string

const (
	optSelect  option = "select"
	optFilter  option = "filter"
	optTop     option = "top"
	optCount   option = "count"
	optOrderBy option = "orderby"
	optExpand  option = "expand"
	optToken   option = "skiptoken"
)

// Which options a route answers.
var (
	ofEntity     = []option{optSelect, optExpand}
	ofCollection = []option{optSelect, optFilter, optTop, optCount, optOrderBy, optExpand, optToken}
	ofCount      = []option{optFilter}
	// Of what anybody may read about themselves: what is related to an object in it is about others.
	ofOwnCollection = []option{optSelect, optFilter, optTop, optCount, optOrderBy, optToken}
)

// query is what a request asks of an entity or a collection.
type query struct {
	schema  schema
	fields  []string // of $select, in the properties' own spelling; nil: the default ones
	expand  []expansion
	filter  *filter
	top     int
	count   bool
	orderBy *property // nil: by id
	reverse bool
	after   *cursor
}

// expansion is one item of $expand.
type expansion struct {
	name   string
	fields []string
}

// cursor is the place after the last entry of a page.
type cursor struct {
	Key string       `json:"k,omitempty"` // of $orderby
	ID  directory.ID `json:"i"`
}

// parseQuery reads the options of a request, of which only some may be there.
func parseQuery(r *http.Request, s schema, allowed []option) (*query, error) {
	given, err := options(r, allowed)
	if err != nil {
		return nil, err
	}
	q := &query{schema: s, top: defaultTop}
	if text, ok := given[optSelect]; ok {
		if q.fields, err = parseSelect(text, s); err != nil {
			return nil, err
		}
	}
	if text, ok := given[optExpand]; ok {
		if q.expand, err = parseExpand(text, s); err != nil {
			return nil, err
		}
	}
	if text, ok := given[optFilter]; ok {
		if q.filter, err = parseFilter(text, s); err != nil {
			return nil, err
		}
	}
	if text, ok := given[optTop]; ok {
		if q.top, err = strconv.Atoi(text); err != nil || q.top < 1 || q.top > maxTop {
			return nil, errBadRequest("Invalid page size specified: '%s'. Must be between 1 and %d inclusive.", clip(text, 40), maxTop).At("$top")
		}
	}
	if text, ok := given[optCount]; ok {
		if q.count, err = strconv.ParseBool(strings.ToLower(text)); err != nil {
			return nil, errBadRequest("$count is '%s'; it may be true or false.", clip(text, 40)).At("$count")
		}
	}
	if text, ok := given[optOrderBy]; ok {
		if err := q.parseOrderBy(text); err != nil {
			return nil, err
		}
	}
	if text, ok := given[optToken]; ok {
		if q.after, err = parseCursor(text); err != nil {
			return nil, err
		}
	}
	return q, q.checkConsistency(r, slices.Equal(allowed, ofCount))
}

// parseCursor reads what cursor.encode made.
func parseCursor(text string) (*cursor, error) {
	at := new(cursor)
	if raw, err := base64.RawURLEncoding.DecodeString(text); err != nil || json.Unmarshal(raw, at) != nil {
		return nil, errBadRequest("$skiptoken is not one that this server made; follow @odata.nextLink as it is.").At("$skiptoken")
	}
	return at, nil
}

// options reads the system query options. The dollar sign may be left out, as Graph has it.
func options(r *http.Request, allowed []option) (map[option]string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errBadRequest("the query string is not percent-encoded correctly; encode it again")
	}
	given := map[option]string{}
	for name, list := range values {
		bare, dollar := strings.CutPrefix(strings.ToLower(name), "$")
		o := option(bare)
		switch {
		case slices.Contains(allowed, o):
		case o == "search":
			return nil, errUnsupported("$search is not supported; use $filter with startswith(displayName,'...').").At("$search")
		case dollar || slices.Contains(ofCollection, o):
			return nil, errBadRequest("The query option '%s' is not supported here; supported are: %s.", clip(name, 40), optionList(allowed)).At(clip(name, 40))
		default:
			continue // OData leaves custom options to the service, which has none
		}
		if _, twice := given[o]; twice || len(list) != 1 {
			return nil, errBadRequest("The query option '$%s' is given more than once; give it once.", o).At("$" + bare)
		}
		given[o] = strings.TrimSpace(list[0])
	}
	return given, nil
}

func optionList(allowed []option) string {
	if len(allowed) == 0 {
		return "none"
	}
	var names []string
	for _, o := range allowed {
		names = append(names, "$"+string(o))
	}
	return strings.Join(names, ", ")
}

func parseSelect(text string, s schema) ([]string, error) {
	fields := []string{}
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if name == "*" {
			return nil, nil
		}
		p := s.property(name)
		if p == nil {
			return nil, errBadRequest("Parsing OData Select and Expand failed: Could not find a property named '%s' on type 'microsoft.graph.%s'.", clip(name, 80), s.name).At("$select")
		}
		if !slices.Contains(fields, p.name) {
			fields = append(fields, p.name)
		}
	}
	return fields, nil
}

// parseExpand reads names with, perhaps, a $select of their own: owners($select=id,displayName).
func parseExpand(text string, s schema) ([]expansion, error) {
	var all []expansion
	for text != "" {
		end := strings.IndexAny(text, ",(")
		if end < 0 {
			end = len(text)
		}
		name, rest := strings.TrimSpace(text[:end]), text[end:]
		canonical := ""
		for _, k := range s.kinds {
			for relation := range k.relations {
				if strings.EqualFold(relation, name) {
					canonical = relation
				}
			}
		}
		if canonical == "" {
			return nil, errBadRequest("Parsing OData Select and Expand failed: '%s' of type 'microsoft.graph.%s' cannot be expanded.", clip(name, 80), s.name).At("$expand")
		}
		e := expansion{name: canonical}
		if inner, ok := strings.CutPrefix(rest, "("); ok {
			var closed bool
			if inner, rest, closed = strings.Cut(inner, ")"); !closed {
				return nil, errBadRequest("$expand has no closing parenthesis after '%s'.", canonical).At("$expand")
			}
			names, ok := cutPrefixFold(strings.TrimSpace(inner), "$select=")
			if !ok {
				return nil, errBadRequest("$expand=%s takes $select alone, not '%s'.", canonical, clip(inner, 80)).At("$expand")
			}
			var err error
			if e.fields, err = parseSelect(names, mixed); err != nil {
				return nil, err
			}
		}
		all = append(all, e)
		rest = strings.TrimSpace(rest)
		if text = strings.TrimPrefix(rest, ","); text == rest && rest != "" {
			return nil, errBadRequest("$expand: expected a comma before '%s'.", clip(rest, 40)).At("$expand")
		}
	}
	if len(all) > 1 {
		return nil, errUnsupported("$expand takes one relation at a time; ask for the others in further requests.").At("$expand")
	}
	return all, nil
}

func (q *query) parseOrderBy(text string) error {
	words := strings.Fields(text)
	if len(words) == 2 && (strings.EqualFold(words[1], "asc") || strings.EqualFold(words[1], "desc")) {
		q.reverse = strings.EqualFold(words[1], "desc")
		words = words[:1]
	}
	if len(words) == 1 {
		for _, name := range []string{"displayName", "userPrincipalName"} {
			if strings.EqualFold(name, words[0]) && q.schema.property(name) != nil {
				q.orderBy = q.schema.property(name)
				return nil
			}
		}
	}
	return errUnsupported("Sorting not supported for current query: $orderby=%s. It may be displayName or, for users, userPrincipalName, with asc or desc.", clip(text, 80)).At("$orderby")
}

// checkConsistency holds a query against Graph's rule that some need the header ConsistencyLevel: eventual, and most of
// these $count=true (Microsoft Graph "Advanced query capabilities"). Nothing here is eventual; but a client that
// works here shall work there.
func (q *query) checkConsistency(r *http.Request, segment bool) error {
	eventual := strings.EqualFold(r.Header.Get("ConsistencyLevel"), "eventual")
	if segment || q.count {
		if !eventual {
			return errUnsupported("$count is answered with the request header 'ConsistencyLevel: eventual' only; add it.").At("$count")
		}
		return nil
	}
	if q.filter != nil && (q.filter.advanced || q.orderBy != nil) {
		return errUnsupported("Operators ne, not and endsWith, and $orderby together with $filter, need $count=true and the request header 'ConsistencyLevel: eventual'; add both.").At("$filter")
	}
	return nil
}
