package storetest

import (
	"context"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/store"
)

var (
	contoso  = "11111111-1111-1111-1111-111111111111"
	fabrikam = "22222222-2222-2222-2222-222222222222"
	someone  = "33333333-3333-3333-3333-333333333333"
	start    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

// attempt is an entry of a millisecond after the start.
func attempt(tenant string, ms int) signin.Entry {
	e := signin.Entry{ID: signin.FirstID(start.Add(time.Duration(ms) * time.Millisecond)), Tenant: tenant, Kind: signin.InteractiveUser}
	e.ID[15] = byte(rand.N(256))
	return e
}

func (t *trial) add(db *store.DB, entries ...signin.Entry) {
	t.Helper()
	t.try(db.AppendSignIns(t.ctx, entries))
}

func (t *trial) signIns(db *store.DB, q signin.Query) []signin.Entry {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	if q.Tenant == "" {
		q.Tenant = contoso
	}
	found, err := db.SignIns(t.ctx, q)
	t.try(err)
	return found
}

func (t *trial) wantSignIns(db *store.DB, q signin.Query, want ...signin.Entry) {
	t.Helper()
	if got := t.signIns(db, q); !slices.EqualFunc(got, want, func(a, b signin.Entry) bool { return reflect.DeepEqual(a, b) }) {
		t.Fatalf("%+v: got %+v, want %+v", q, got, want)
	}
}

func testSignInOrder(t *trial) {
	db := t.open()
	a, b, c := attempt(contoso, 1), attempt(contoso, 2), attempt(contoso, 3)
	b.User, b.UPN, b.Code, b.Reason, b.Proved, b.Session = someone, "Bob@x", 50126, "wrong \"password\" é", true, someone
	other := attempt(fabrikam, 2)
	before := t.load(db).Position
	t.add(db, b, other, c, a)
	if after := t.load(db).Position; after != before {
		t.Errorf("sign-ins moved the feed from %v to %v", before, after)
	}
	t.wantSignIns(db, signin.Query{}, c, b, a)
	t.wantSignIns(t.open(), signin.Query{OldestFirst: true}, a, b, c)
	t.wantSignIns(db, signin.Query{Limit: 2}, c, b)
	t.wantSignIns(db, signin.Query{From: b.ID}, c, b)
	t.wantSignIns(db, signin.Query{To: b.ID}, a)
	t.wantSignIns(db, signin.Query{From: a.ID, To: c.ID, OldestFirst: true, Limit: 1}, a)
	t.wantSignIns(db, signin.Query{Tenant: fabrikam}, other)
	t.wantSignIns(db, signin.Query{Tenant: someone})
	if got := b.Time(); !got.Equal(start.Add(2 * time.Millisecond)) {
		t.Errorf("an entry of 2 ms is of %v", got)
	}
}

func testSignInsOnce(t *trial) {
	db := t.open()
	first, second := attempt(contoso, 1), attempt(contoso, 2)
	t.add(db, first)
	again := first
	again.Reason = "another"
	t.add(db, again, second)
	t.wantSignIns(db, signin.Query{}, second, first)
	ended, cancel := context.WithCancel(t.ctx)
	cancel()
	t.want(db.AppendSignIns(ended, []signin.Entry{attempt(contoso, 3)}), context.Canceled)
	many := make([]signin.Entry, 1234)
	for i := range many {
		many[i] = attempt(fabrikam, i)
	}
	t.add(db, many...)
	if n := len(t.signIns(db, signin.Query{Tenant: fabrikam, Limit: 5000})); n != len(many) {
		t.Errorf("%d of %d entries", n, len(many))
	}
	t.add(db)
	t.wantSignIns(db, signin.Query{}, second, first)
}

func testSignInFields(t *trial) {
	db := t.open()
	full := attempt(contoso, 1)
	full.User, full.UPN, full.App, full.Address, full.Code, full.Correlation = someone, "Alice@Contoso.example", fabrikam, "2001:DB8::1", 50126, contoso
	empty := attempt(contoso, 2)
	empty.Kind = signin.ServicePrincipal
	t.add(db, full, empty)
	for field, value := range map[signin.Field]string{
		signin.ByUser: someone, signin.ByUPN: "aLICE@contoso.EXAMPLE", signin.ByApp: fabrikam, signin.ByAddress: "2001:db8::1",
		signin.ByCode: "50126", signin.ByCorrelation: contoso, signin.ByKind: "INTERACTIVEuser",
	} {
		t.wantSignIns(db, signin.Query{Field: field, Key: signin.KeyOf(field, value)}, full)
		t.wantSignIns(db, signin.Query{Field: field, Key: signin.KeyOf(field, value), From: empty.ID})
	}
	t.wantSignIns(db, signin.Query{Field: signin.ByCode, Key: signin.KeyOf(signin.ByCode, "0")}, empty)
	t.wantSignIns(db, signin.Query{Field: signin.ByUPN, Key: signin.KeyOf(signin.ByUPN, "alice")})
}

func testSignInPages(t *trial) {
	db := t.open()
	for ms := range 50 {
		t.add(db, attempt(contoso, 2*ms))
	}
	var seen []signin.Entry
	for q := (signin.Query{Limit: 7}); ; {
		page := t.signIns(db, q)
		if len(page) == 0 {
			break
		}
		seen = append(seen, page...)
		q.To = page[len(page)-1].ID
		t.add(db, attempt(contoso, 1000+len(seen))) // newer than all
	}
	if len(seen) != 50 || !slices.IsSortedFunc(seen, func(a, b signin.Entry) int { return b.ID.Compare(a.ID) }) {
		t.Errorf("%d entries on all pages", len(seen))
	}
}

func testSignInSweep(t *trial) {
	db := t.open()
	many := make([]signin.Entry, 3000)
	for i := range many {
		many[i] = attempt([]string{contoso, fabrikam, someone}[i%3], i)
	}
	t.add(db, many...)
	rounds := 0
	for more := true; more; rounds++ {
		var err error
		more, err = db.SweepSignIns(t.ctx, signin.FirstID(start.Add(2994*time.Millisecond)))
		t.try(err)
	}
	if rounds < 2 {
		t.Errorf("2,994 entries went at once")
	}
	for i, tenant := range []string{contoso, fabrikam, someone} {
		t.wantSignIns(db, signin.Query{Tenant: tenant}, many[2997+i], many[2994+i])
	}
	if more, err := db.SweepSignIns(t.ctx, signin.FirstID(start)); more || err != nil {
		t.Errorf("nothing is left to sweep, got %t, %v", more, err)
	}
}
