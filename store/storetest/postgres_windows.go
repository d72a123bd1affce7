package storetest

import "testing"

// Postgres skips the test: nobody has written how to start a server here.
func Postgres(t testing.TB) string {
	t.Helper()
	t.Skip("no PostgreSQL for tests on Windows")
	return ""
}
