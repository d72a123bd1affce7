package store_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

func benchmark(b *testing.B, f func(b *testing.B, db *store.DB)) {
	for name, database := range storetest.Engines {
		b.Run(name, func(b *testing.B) { f(b, storetest.Open(b, database(b))) })
	}
}

// members is n records of the size of a membership, under random keys.
func members(n int) []feed.Record {
	records := make([]feed.Record, n)
	for i := range records {
		key := rand.Text() + rand.Text()
		records[i] = feed.Record{
			Kind: "directory/member", Key: key, Tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47",
			Body: []byte(fmt.Sprintf(`{"group":%q,"member":%q,"from":1767225600}`, key[:26], key[26:])),
		}
	}
	return records
}

// BenchmarkWrite is a transaction of one record.
func BenchmarkWrite(b *testing.B) {
	benchmark(b, func(b *testing.B, db *store.DB) {
		records := members(1000)
		for i := 0; b.Loop(); i++ {
			if _, err := write(b.Context(), db, records[i%len(records)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSince is what a follower asks when there is nothing new.
func BenchmarkSince(b *testing.B) {
	benchmark(b, func(b *testing.B, db *store.DB) {
		at, err := write(b.Context(), db, members(1000)...)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, _, err := db.Since(b.Context(), at); err != nil {
				b.Fatal(err)
			}
		}
	})
}

const many = 200_000

// BenchmarkBulk is one change of many records in an empty database.
func BenchmarkBulk(b *testing.B) {
	for name, database := range storetest.Engines {
		b.Run(name, func(b *testing.B) {
			records := members(many)
			for b.Loop() {
				b.StopTimer()
				db := storetest.Open(b, database(b))
				b.StartTimer()
				if _, err := write(b.Context(), db, records...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(many*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkLoad reads them all.
func BenchmarkLoad(b *testing.B) {
	benchmark(b, func(b *testing.B, db *store.DB) {
		if _, err := write(b.Context(), db, members(many)...); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			n := 0
			_, err := db.Load(b.Context(), func(r feed.Record) error {
				if n++; !strings.HasPrefix(string(r.Body), "{") {
					b.Fatalf("%v", r)
				}
				return nil
			})
			if err != nil || n != many {
				b.Fatalf("loaded %d records: %v", n, err)
			}
		}
		b.ReportMetric(float64(many*b.N)/b.Elapsed().Seconds(), "records/s")
	})
}
