package recipes

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/trimtab/trimtab/tensor"
	"go.yaml.in/yaml/v3"
)

// checkSpec walks the document beside the types that it will be decoded into
// and refuses the first key that nothing reads.
func checkSpec(file string, root *yaml.Node) error {
	if err := checkKeys(file, "", root, reflect.TypeFor[Spec]()); err != nil {
		return err
	}
	if err := checkNumerics(file, root); err != nil {
		return err
	}
	stages := lookup(root, "stages")
	if stages == nil {
		return nil
	}
	if stages.Kind != yaml.SequenceNode {
		return invalid("write them as a list: - kind: pretrain", "%s: stages is not a list", at(file, stages))
	}
	for i, n := range stages.Content {
		if err := checkStage(file, fmt.Sprintf("stages[%d].", i), n); err != nil {
			return err
		}
	}
	return nil
}

// checkNumerics refuses a numeric contract that package tensor does not keep.
func checkNumerics(file string, root *yaml.Node) error {
	n := lookup(root, "numerics")
	if n == nil {
		return nil
	}
	var name string
	if err := n.Decode(&name); err != nil {
		return yamlError(file, err)
	}
	if !tensor.Numerics(name).Valid() {
		return invalid(Suggest(name, []string{string(tensor.V1), string(tensor.V1BF16)}), "%s: unknown numerics %q", at(file, n), name)
	}
	return nil
}

func checkStage(file, prefix string, n *yaml.Node) error {
	kind := lookup(n, "kind")
	if kind == nil {
		return invalid("the kinds are "+strings.Join(Kinds(), ", "), "%s: %skind is missing", at(file, n), prefix)
	}
	k, ok := kinds[kind.Value]
	if !ok {
		return invalid(Suggest(kind.Value, Kinds()), "%s: unknown kind of stage %q", at(file, kind), kind.Value)
	}
	return checkKeys(file, prefix, n, reflect.TypeFor[stageKeys](), reflect.TypeOf(k.config()).Elem())
}

// checkKeys compares a mapping's keys with the yaml tags of the given structs.
func checkKeys(file, prefix string, n *yaml.Node, types ...reflect.Type) error {
	if n.Kind != yaml.MappingNode {
		return invalid("write key: value lines", "%s: %s is not a mapping", at(file, n), strings.TrimSuffix(prefix, "."))
	}
	fields := map[string]reflect.Type{}
	for _, t := range types {
		tagged(t, fields)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		t, ok := fields[key.Value]
		if !ok {
			return invalid(Suggest(key.Value, keysOf(fields)), "%s: unknown key %q", at(file, key), prefix+key.Value)
		}
		if seen[key.Value] {
			return invalid("keep one", "%s: key %q stands twice", at(file, key), prefix+key.Value)
		}
		seen[key.Value] = true
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Struct && t != reflect.TypeFor[Stage]() {
			if err := checkKeys(file, prefix+key.Value+".", value, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// tagged collects the yaml keys of a struct, its inlined fields included.
func tagged(t reflect.Type, into map[string]reflect.Type) {
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case strings.Contains(opts, "inline"):
			tagged(f.Type, into)
		case name != "":
			into[name] = f.Type
		}
	}
}

func keysOf(fields map[string]reflect.Type) []string {
	var keys []string
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Suggest names the nearest of the valid words, or all of them.
func Suggest(word string, valid []string) string {
	best, distance := "", 1+len(word)/2
	for _, v := range valid {
		if d := edits(word, v); d < distance {
			best, distance = v, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q? (valid: %s)", best, strings.Join(valid, ", "))
	}
	return "valid: " + strings.Join(valid, ", ")
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
