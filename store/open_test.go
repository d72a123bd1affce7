package store_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

func TestOpenForms(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	for _, url := range []string{
		filepath.Join(folder, "plain.db"),
		"relative.db",
		"sqlite://" + filepath.Join(folder, "url.db"),
		filepath.Join(folder, "odd ?name=1&x#%20é.db"),
	} {
		db := storetest.Open(t, url)
		_, path, isURL := strings.Cut(url, "://")
		if !isURL {
			path = url
		}
		if path, _ = filepath.Abs(path); db.String() != path {
			t.Errorf("%s is named %s", url, db)
		}
		if found, err := filepath.Glob(filepath.Join(folder, "*")); err != nil || !strings.Contains(strings.Join(found, "\n"), path) {
			t.Errorf("%s made %q", url, found)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"":                             "no database is named",
		"sqlite://gatehouse.db":        "sqlite://gatehouse.db: the path must be absolute",
		"mysql://me:topsecret@host/db": "mysql://...: only sqlite:///path and postgres://",
		filepath.Join(t.TempDir(), "missing", "x.db"): "its folder must exist",

		"postgres://me:topsecret@127.0.0.1:1/db":                            "the server cannot be reached",
		"postgresql:///db?user=me&password=topsecret&host=127.0.0.1&port=1": "the server cannot be reached",
		"postgres://me:topsecret@host:port/db":                              "cannot be read",
		"postgres://me:%zztopsecret@host/db":                                "cannot be read",
		"postgres://me:topsecret@127.0.0.1/db?sslmode=sometimes":            "cannot be read",
		"postgres://me:top@topsecret@127.0.0.1:1/db":                        "cannot be read",
		"postgres://me:1/topsecret@127.0.0.1:1/db":                          "cannot be read",
		"postgres://me:1/topsecret@":                                        "cannot be read",
		"postgres://me:1?topsecret@127.0.0.1:1/db":                          "cannot be read",
		"postgres://topsecret/topsecret@127.0.0.1:1/db":                     "cannot be read",
	} {
		_, err := store.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", url, err, want)
		}
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), "topsecret") {
			t.Errorf("%s: the error shows the password: %v", url, err)
		}
	}
}
