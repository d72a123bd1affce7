package sts

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCatalogue: every number that the code fails with is in the catalogue with the right count of values, and the catalogue holds
// no number that nothing fails with.
func TestCatalogue(t *testing.T) {
	used := map[int]bool{}
	fset := token.NewFileSet()
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, ok := call.Fun.(*ast.Ident)
			if !ok || name.Name != "fail" {
				return true
			}
			at := fset.Position(call.Pos())
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: fail needs a number, so that this test sees it", at)
				return true
			}
			number, err := strconv.Atoi(lit.Value)
			must(t, err)
			used[number] = true
			if want := strings.Count(catalogue[number].text, "%s"); len(call.Args)-1 != want {
				t.Errorf("%s: AADSTS%d has %d values, its text takes %d", at, number, len(call.Args)-1, want)
			}
			return true
		})
	}
	for number, e := range catalogue {
		if !used[number] {
			t.Errorf("AADSTS%d is in the catalogue, but nothing fails with it", number)
		}
		if e.status < 400 || e.error == "" || e.help == "" || e.text == "" {
			t.Errorf("AADSTS%d is incomplete", number)
		}
	}
	for number := range used {
		if _, ok := catalogue[number]; !ok {
			t.Errorf("AADSTS%d is not in the catalogue", number)
		}
	}
}
