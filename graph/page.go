package graph

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"iter"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// ranked is an object with what it is sorted by.
type ranked struct {
	object
	key string
}

// page is a piece of a collection.
type page struct {
	objects []object
	count   int     // of all that match, if the query asks
	next    *cursor // nil: this was the last one
}

// page picks the entries after the query's cursor, in order, out of a sequence that has none. It keeps only about
// twice the page in hand, so that a page of a large directory costs one look at each object and no sort of all.
func (q *query) page(dir *directory.State, all iter.Seq[object]) page {
	var (
		kept  []ranked
		total int
		limit = q.top + 1 // one more shows whether there is a next page
		last  *ranked     // of the best limit entries so far
	)
	shrink := func() {
		slices.SortFunc(kept, q.compare)
		if len(kept) > limit {
			clear(kept[limit:])
			kept = kept[:limit]
		}
		if len(kept) == limit {
			bound := kept[limit-1]
			last = &bound
		}
	}
	for o := range all {
		e := ranked{o, q.rank(dir, o)}
		behind := q.after != nil && q.compare(e, ranked{object{id: q.after.ID}, q.after.Key}) <= 0
		out := behind || (last != nil && q.compare(e, *last) > 0)
		if (out && !q.count) || !q.filter.matches(dir, o) {
			continue
		}
		total++
		if out {
			continue
		}
		if kept = append(kept, e); len(kept) >= 2*limit {
			shrink()
		}
	}
	shrink()
	p := page{count: total}
	if len(kept) > q.top {
		kept = kept[:q.top]
		end := kept[q.top-1]
		p.next = &cursor{end.key, end.id}
	}
	for _, e := range kept {
		p.objects = append(p.objects, e.object)
	}
	return p
}

func (q *query) rank(dir *directory.State, o object) string {
	if q.orderBy == nil {
		return ""
	}
	own := o.kind.property(q.orderBy.name)
	if own == nil {
		return ""
	}
	v, _ := own.get(dir, o.entity).(string)
	return strings.ToLower(v)
}

func (q *query) compare(a, b ranked) int {
	order := strings.Compare(a.key, b.key)
	if q.reverse {
		order = -order
	}
	return cmp.Or(order, a.id.Compare(b.id))
}

// encode makes the value of $skiptoken.
func (c *cursor) encode() string {
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err) // text and an id always encode
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// nextLink is the request's own URL with the place to go on from.
func (c *call) nextLink(next *cursor) string {
	var options []string
	for option := range strings.SplitSeq(c.r.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(option, "=")
		if plain, err := url.QueryUnescape(name); err == nil && option != "" && !strings.EqualFold(strings.TrimPrefix(plain, "$"), string(optToken)) {
			options = append(options, option)
		}
	}
	options = append(options, "$skiptoken="+next.encode())
	return c.base(c.r) + (&url.URL{Path: c.r.URL.Path}).EscapedPath() + "?" + strings.Join(options, "&")
}
