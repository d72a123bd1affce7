package gatehouse

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-k8s/gatehouse"

// mayImport is the map of docs/architecture.md: what each package may import of this module. Imports run inwards only.
// internal/web and internal/cache are the faces' common ground. aks is a noun and its face in one package, so cluster and
// webhook link a little of HTTP that they do not use.
var mayImport = map[string][]string{
	"fault":          {},
	"feed":           {}, // what a store implements; carries opaque records
	"audit":          {"fault"},
	"internal/cache": {},
	"internal/guess": {"internal/cache"},
	"internal/kms":   {},
	"internal/pki":   {},
	"internal/web":   {"fault"},

	"directory": {"fault", "feed"},
	"rbac":      {"directory", "fault", "feed"},
	"signin":    {},

	"sts":     {"audit", "directory", "fault", "feed", "internal/cache", "internal/guess", "internal/web", "signin"},
	"graph":   {"audit", "directory", "fault", "feed", "internal/guess", "internal/web", "signin", "sts"},
	"arm":     {"audit", "directory", "fault", "feed", "internal/web", "rbac", "sts"},
	"aks":     {"arm", "audit", "directory", "fault", "feed", "identity", "internal/web", "rbac"}, // a resource provider is served by arm; clusters are given identities
	"webhook": {"aks", "audit", "directory", "fault", "feed", "internal/cache", "internal/web", "sts"},

	"identity": {"arm", "directory", "fault", "feed", "internal/web", "rbac"},
	"msi":      {"audit", "directory", "fault", "feed", "internal/web", "sts"},

	"cluster": {"aks", "directory", "fault", "internal/pki"}, // implements aks.ControlPlanes
	"front":   {"fault", "internal/pki"},                     // knows faces as http.Handlers only

	"seal":            {"feed", "internal/kms", "internal/pki"}, // stands between feed and store, knows no SQL
	"store":           {"feed", "signin"},
	"store/storetest": {"feed", "signin", "store"},

	"gatehousetest": {"arm", "directory", "feed", "front", "graph", "internal/pki", "internal/web", "rbac", "seal", "signin", "store", "sts"}, // wires, as cmd/gatehouse does

	"internal/kms/kmstest": {}, // a plugin for tests; the only package that knows Kubernetes' generated code

	"e2e": {}, // tests drive the binaries from outside

	"cmd/gatehouse": {"aks", "arm", "audit", "cluster", "directory", "fault", "feed", "front", "graph", "identity", "internal/pki", "internal/web", "msi", "rbac", "seal", "signin", "store", "sts", "webhook"},
}

// nouns know no technology, whatever it is for.
var (
	nouns      = []string{"fault", "feed", "audit", "directory", "rbac", "signin"}
	technology = []string{"net/http", "database/sql", "k8s.io/", "github.com/jackc/", "modernc.org/"}
)

// TestImports holds the table against the code. Tests may import more: they wire real parts together.
func TestImports(t *testing.T) {
	seen, used := map[string]bool{}, map[string]bool{}
	for file, src := range sources(t) {
		pkg := filepath.ToSlash(filepath.Dir(file))
		if pkg == "." || strings.HasPrefix(pkg, "kube") || strings.HasPrefix(pkg, "e2e/azsdk") || strings.HasSuffix(file, "_test.go") {
			continue
		}
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s: package %s is not in the import table; add it there and to docs/architecture.md", file, pkg)
			continue
		}
		seen[pkg] = true
		for _, path := range src.imports {
			if inner, ok := strings.CutPrefix(path, module+"/"); ok {
				used[pkg+" "+inner] = true
				if !slices.Contains(allowed, inner) {
					t.Errorf("%s: %s must not import %s", file, pkg, inner)
				}
			}
			if slices.Contains(nouns, pkg) && slices.ContainsFunc(technology, func(t string) bool { return strings.HasPrefix(path, t) }) {
				t.Errorf("%s: %s must not know %s", file, pkg, path)
			}
		}
	}
	for pkg, allowed := range mayImport {
		if !seen[pkg] {
			t.Errorf("package %s is in the import table but has no code", pkg)
		}
		for _, inner := range allowed {
			if !used[pkg+" "+inner] {
				t.Errorf("the import table lets %s import %s, which it does not do", pkg, inner)
			}
		}
	}
}

// TestPackageDocs demands that every package says what it is.
func TestPackageDocs(t *testing.T) {
	documented := map[string]bool{}
	for file, src := range sources(t) {
		pkg := filepath.ToSlash(filepath.Dir(file))
		if pkg == "." || strings.HasSuffix(file, "_test.go") {
			continue
		}
		documented[pkg] = documented[pkg] || src.doc
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

type source struct {
	imports []string
	doc     bool
}

func sources(t *testing.T) map[string]source {
	t.Helper()
	out := map[string]source{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{doc: f.Doc != nil}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		out[path] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
