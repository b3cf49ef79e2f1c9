package traintest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// module is the root of the module, seen from here.
const module = "../.."

// TestEveryTrainerIsChecked checks that every type that takes steps is checked
// by a Case: one of its own, or one of a struct that embeds it, whose table then
// classifies its fields too. A trainer declares a Step, or is a struct around a
// train.Trainer, a trainer or an interface that asks for one.
func TestEveryTrainerIsChecked(t *testing.T) {
	source := readModule(t)
	trainers := source.trainers()
	for _, name := range trainers {
		if !source.isChecked(name) {
			t.Errorf("%s is a train.Trainer that nothing checks: give its package's tests a traintest.Case[*%s] with "+
				"the class of every field", name, name[strings.LastIndex(name, ".")+1:])
		}
	}
	for name := range source.checked {
		if !slices.Contains(trainers, name) {
			t.Errorf("traintest.Case[*%s] checks a type that this test does not recognise as a trainer: fix the search",
				name)
		}
	}
	want := []string{"activities.collectJob", "activities.evaluateJob", "activities.modelJob", "collect.Trainer",
		"evaluate.Trainer", "ppo.Trainer", "pretrain.Trainer", "reward.Trainer", "sft.Trainer"}
	for _, name := range want {
		if !slices.Contains(trainers, name) {
			t.Errorf("%s is not found: fix the search", name)
		}
	}
}

// source holds the facts about trainers in the module's files. Types are named
// package.Name, packages by their folder.
type source struct {
	steps    map[string]bool     // types that declare a Step(context.Context, int)
	around   map[string][]string // types and what is embedded in them
	abstract map[string]bool     // interfaces
	checked  map[string]bool     // types of a traintest.Case
}

// trainers returns the concrete types that take steps, in the order of their names.
func (s *source) trainers() []string {
	all := map[string]bool{"train.Trainer": true}
	maps.Copy(all, s.steps)
	for grown := true; grown; {
		grown = false
		for name, parts := range s.around {
			if !all[name] && slices.ContainsFunc(parts, func(p string) bool { return all[p] }) {
				all[name], grown = true, true
			}
		}
	}
	maps.DeleteFunc(all, func(name string, _ bool) bool { return s.abstract[name] || name == "train.Trainer" })
	return slices.Sorted(maps.Keys(all))
}

// isChecked reports whether a type has a Case, or is embedded in one that has.
func (s *source) isChecked(name string) bool {
	if s.checked[name] {
		return true
	}
	for outer, embedded := range s.around {
		if s.checked[outer] && slices.Contains(embedded, name) {
			return true
		}
	}
	return false
}

// readModule reads all Go files of the module but this package's.
func readModule(t *testing.T) *source {
	t.Helper()
	s := &source{steps: map[string]bool{}, around: map[string][]string{}, abstract: map[string]bool{},
		checked: map[string]bool{}}
	err := fs.WalkDir(os.DirFS(module), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.ContainsAny(d.Name()[:1], "._") || d.Name() == "testdata" ||
			name == "train/traintest") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path.Join(module, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "_test.go") {
			s.readTest(path.Dir(name), f)
		} else {
			s.read(path.Dir(name), f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read records the types of a file and which of them declare Step.
func (s *source) read(pkg string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv != nil && n.Name.Name == "Step" && takesContextAndInt(f, n.Type) {
				s.steps[typeName(pkg, f, n.Recv.List[0].Type)] = true
			}
		case *ast.TypeSpec:
			s.readType(pkg+"."+n.Name.Name, pkg, f, n)
		}
		return true
	})
}

// readType records what is embedded in a type, and an interface that asks for Step.
func (s *source) readType(name, pkg string, f *ast.File, spec *ast.TypeSpec) {
	var fields *ast.FieldList
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		fields = typ.Fields
	case *ast.InterfaceType:
		fields, s.abstract[name] = typ.Methods, true
	default: // another name for a type
		s.around[name] = []string{typeName(pkg, f, spec.Type)}
		return
	}
	for _, field := range fields.List {
		if len(field.Names) == 0 {
			s.around[name] = append(s.around[name], typeName(pkg, f, field.Type))
		}
		if len(field.Names) == 1 && field.Names[0].Name == "Step" && s.abstract[name] {
			if method, ok := field.Type.(*ast.FuncType); ok && takesContextAndInt(f, method) {
				s.steps[name] = true
			}
		}
	}
}

// readTest records which types a test file has a Case of.
func (s *source) readTest(pkg string, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		made, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if of, ok := made.Type.(*ast.IndexExpr); ok && typeName(pkg, f, of.X) == "train/traintest.Case" {
			s.checked[typeName(pkg, f, of.Index)] = true
		}
		return true
	})
}

// takesContextAndInt reports whether a function takes a context.Context and an int.
func takesContextAndInt(f *ast.File, typ *ast.FuncType) bool {
	var list []string
	for _, p := range typ.Params.List {
		for range max(1, len(p.Names)) {
			list = append(list, typeName("", f, p.Type))
		}
	}
	return slices.Equal(list, []string{"context.Context", ".int"})
}

// typeName returns a type as folder.Name; of a pointer or a generic type, that of its base.
func typeName(pkg string, f *ast.File, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(pkg, f, e.X)
	case *ast.ParenExpr:
		return typeName(pkg, f, e.X)
	case *ast.IndexExpr:
		return typeName(pkg, f, e.X)
	case *ast.Ident:
		return pkg + "." + e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return imported(f, x.Name) + "." + e.Sel.Name
		}
	}
	return ""
}

// imported returns the folder of the package that a file imports under a name.
func imported(f *ast.File, name string) string {
	for _, spec := range f.Imports {
		p := strings.TrimPrefix(strings.Trim(spec.Path.Value, `"`), "github.com/trimtab/trimtab/")
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil && path.Base(p) == name {
			return p
		}
	}
	return name
}
