package seal_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// BenchmarkSecret compares writing and reading one secret with and without sealing.
func BenchmarkSecret(b *testing.B) {
	bench := newBench(b, storetest.SQLite)
	sealed := bench.must(options(bench.own()))
	for name, log := range map[string]feed.Log{"plain": storetest.Open(b, storetest.SQLite(b)), "sealed": sealed} {
		b.Run("write/"+name, func(b *testing.B) {
			for i := range b.N {
				put(b, log, secret(fmt.Sprint(i%1000), "of about the size of a hashed password with its parameters, and the salt"))
			}
		})
		b.Run("read/"+name, func(b *testing.B) {
			put(b, log, secret("0", "body"))
			for b.Loop() {
				read(b, log, "0")
			}
		})
	}
}

// BenchmarkRoll seals 100,000 secrets anew, as happens every 90 days.
func BenchmarkRoll(b *testing.B) {
	bench := newBench(b, storetest.SQLite)
	sealed := bench.must(options(bench.own()))
	all := make([]feed.Secret, 100_000)
	for i := range all {
		all[i] = secret(fmt.Sprint(i), "of about the size of a hashed password with its parameters, and the salt")
	}
	put(b, sealed, all...)
	for b.Loop() {
		if err := sealed.Roll(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
