package activities

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

func TestBuilderHasTheNumerics(t *testing.T) {
	a := &Activities{}
	for given, want := range map[string]tensor.Numerics{"": tensor.V1, "v1": tensor.V1, "v1-bf16": tensor.V1BF16} {
		b, err := a.newStageBuilder(SegmentInput{Numerics: given})
		if err != nil || b.numerics != want || b.pass().Numerics() != want {
			t.Errorf("given %q: %q, %v, want %q", given, b.numerics, err, want)
		}
	}
	if _, err := a.newStageBuilder(SegmentInput{Numerics: "v2"}); trimtab.AsError(err).Type != "unknown_numerics" {
		t.Errorf("numerics that there are not: %v", err)
	}
}

// Every Pass of this package is made by builder.pass, and every stage's Inputs
// are given the numerics.
func TestEveryPassHasTheNumerics(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	passes, inputs := 0, 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if n.Sel.Name == "NewPass" {
					passes++
				}
			case *ast.CompositeLit:
				if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Inputs" {
					inputs++
					if !slices.ContainsFunc(n.Elts, isNumerics) {
						t.Errorf("%s: Inputs without Numerics", set.Position(n.Pos()))
					}
				}
			}
			return true
		})
	}
	if passes != 1 || inputs != 6 {
		t.Errorf("%d calls of NewPass and %d Inputs, want one, in builder.pass, and one a stage", passes, inputs)
	}
}

func isNumerics(e ast.Expr) bool {
	kv, ok := e.(*ast.KeyValueExpr)
	if !ok {
		return false
	}
	key, ok := kv.Key.(*ast.Ident)
	return ok && key.Name == "Numerics"
}
