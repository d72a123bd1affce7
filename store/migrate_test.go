package store_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// TestMigrationsOnlyGrow holds the migrations against their recorded checksums: databases in the field have
// applied them as they were.
func TestMigrationsOnlyGrow(t *testing.T) {
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var sums strings.Builder
	for i, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if number := fmt.Sprintf("%04d-", i+1); !strings.HasPrefix(filepath.Base(f), number) {
			t.Errorf("%s: the next migration's name begins with %s", f, number)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), f)
	}
	recorded, err := os.ReadFile("testdata/migrations.sum")
	if err != nil {
		t.Fatal(err)
	}
	added, grown := strings.CutPrefix(sums.String(), string(recorded))
	switch {
	case !grown:
		t.Error("a migration that is recorded in testdata/migrations.sum was changed or removed; put it back and add a new one")
	case added != "":
		t.Errorf("append this to testdata/migrations.sum:\n%s", added)
	}
}

func TestOpenOfAnotherVersion(t *testing.T) {
	for change, want := range map[string]string{
		`INSERT INTO migrations (number, name, sum) VALUES (9999, '9999-future.sql', '')`: "a newer gatehouse made this database (it knows migration 9999-future.sql",
		`UPDATE migrations SET sum = 'another' WHERE number = 1`:                          "migration 0001-records.sql was applied with another content",
	} {
		for name, database := range storetest.Engines {
			t.Run(name, func(t *testing.T) {
				url := database(t)
				if _, err := storetest.Open(t, url).Writer().Exec(change); err != nil {
					t.Fatal(err)
				}
				if _, err := store.Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want %q", err, want)
				}
			})
		}
	}
}
