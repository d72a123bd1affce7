package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

var contoso = "11111111-1111-1111-1111-111111111111"

// TestSignInsByIndex: whatever is asked, the answer is a piece of one index, read in its order: neither a table is searched nor anything
// sorted, however long the log is.
func TestSignInsByIndex(t *testing.T) {
	db := storetest.Open(t, storetest.SQLite(t))
	for _, field := range append([]signin.Field{""}, signin.Fields...) {
		for _, oldestFirst := range []bool{false, true} {
			q := signin.Query{Tenant: contoso, Field: field, Key: []byte("x"), OldestFirst: oldestFirst, Limit: 100,
				From: signin.FirstID(time.Unix(1, 0)), To: signin.FirstID(time.Unix(2, 0))}
			text, args := store.SelectSignIns(q)
			rows, err := db.Writer().Query("EXPLAIN QUERY PLAN "+text, args...)
			if err != nil {
				t.Fatal(err)
			}
			var plan []string
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Fatal(err)
				}
				plan = append(plan, detail)
			}
			rows.Close()
			want := "(tenant=? AND id>? AND id<?)"
			if field != "" {
				want = fmt.Sprintf("USING INDEX signins_%s (tenant=? AND %[1]s=? AND id>? AND id<?)", field)
			}
			if len(plan) != 1 || !strings.Contains(plan[0], want) {
				t.Errorf("%s: plan %q, want one search with %s", text, plan, want)
			}
		}
	}
}

func guid(kind, n int) string { return fmt.Sprintf("%08d-0000-0000-0000-%012d", kind, n) }

// fill writes a log of n entries, a tenth of them failures of one user, a millisecond apart.
func fill(tb testing.TB, db *store.DB, n int) (last time.Time) {
	tb.Helper()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for done := 0; done < n; {
		entries := make([]signin.Entry, 0, 5000)
		for ; done < n && len(entries) < cap(entries); done++ {
			at = at.Add(time.Millisecond)
			e := signin.Entry{
				ID: signin.FirstID(at), Tenant: contoso, Kind: signin.NonInteractiveUser, UPN: fmt.Sprintf("user%d@contoso.example", done%1000),
				User: guid(1, done%1000), UserName: "Somebody or other", App: guid(2, done%20), AppName: "Some application",
				Resource: "6dae42f8-4368-4678-94ff-3960e28e3630", ResourceName: "Azure Kubernetes Service AAD Server", Address: fmt.Sprintf("192.0.2.%d", done%256),
				Method: "Refresh token", Protocol: "oAuth2", ClientApp: "Mobile Apps and Desktop clients", UserAgent: "python-requests/2.28.1", Browser: "python-requests 2.28.1",
				Correlation: guid(3, done), Request: "00000000-0000-0000-0000-000000000000",
			}
			if done%10 == 0 {
				e.Kind, e.Code, e.Reason = signin.InteractiveUser, 50126, "Error validating credentials due to invalid username or password."
			}
			entries = append(entries, e)
		}
		if err := db.AppendSignIns(tb.Context(), entries); err != nil {
			tb.Fatal(err)
		}
	}
	return at
}

// BenchmarkSignIns is a page of 100 in logs of two lengths: it costs the same.
func BenchmarkSignIns(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		for name, database := range storetest.Engines {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				db := storetest.Open(b, database(b))
				began := time.Now()
				last := fill(b, db, n)
				b.Logf("%d entries were written in %s", n, time.Since(began).Round(time.Millisecond))
				for _, q := range []signin.Query{
					{}, {To: signin.FirstID(last.Add(-time.Duration(n/2) * time.Millisecond))},
					{Field: signin.ByUPN, Key: signin.KeyOf(signin.ByUPN, "user3@contoso.example")}, {Field: signin.ByCode, Key: signin.KeyOf(signin.ByCode, "50126")},
				} {
					q.Tenant, q.Limit = contoso, 100
					b.Run(fmt.Sprintf("by=%s,middle=%t", q.Field, !q.To.IsZero()), func(b *testing.B) {
						for b.Loop() {
							if found, err := db.SignIns(b.Context(), q); err != nil || len(found) == 0 {
								b.Fatal(len(found), err)
							}
						}
					})
				}
			})
		}
	}
}
