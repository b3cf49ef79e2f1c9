package recipes

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/trimtab/trimtab/tensor"
	"go.yaml.in/yaml/v3"
)

// check walks the document alongside the types that it will be decoded into. It
// refuses the first key that nothing reads, and the first value that its key
// does not take.
func (o *origin) check(root *yaml.Node) error {
	if err := o.checkKeys(root, "", root, reflect.TypeFor[Spec]()); err != nil {
		return err
	}
	if err := o.checkNumerics(root); err != nil {
		return err
	}
	stages := lookup(root, "stages")
	if stages == nil {
		return nil
	}
	if stages.Kind != yaml.SequenceNode {
		return invalid("write them as a list: - kind: pretrain", "%s: stages is not a list", o.at(stages))
	}
	for i, n := range stages.Content {
		if err := o.checkStage(root, i, n); err != nil {
			return err
		}
	}
	return nil
}

// checkNumerics refuses a numeric contract that package tensor does not have.
func (o *origin) checkNumerics(root *yaml.Node) error {
	n := lookup(root, "numerics")
	if n == nil || tensor.Numerics(n.Value).Valid() {
		return nil
	}
	return invalid(Suggest(n.Value, []string{string(tensor.V1), string(tensor.V1BF16)}), "%s: unknown numerics %q",
		o.at(n), n.Value)
}

// checkStage checks the kind of stage i, then its keys against those of that
// kind.
func (o *origin) checkStage(root *yaml.Node, i int, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return invalid("write them as a list: - kind: pretrain", "%s: stages[%d] is not a mapping", o.at(n), i)
	}
	kind := lookup(n, "kind")
	if kind == nil {
		return invalid("the kinds are "+strings.Join(Kinds(), ", "), "%s: stages[%d].kind is missing", o.at(n), i)
	}
	k, ok := kinds[kind.Value]
	if !ok {
		return invalid(Suggest(kind.Value, Kinds()), "%s: unknown kind of stage %q", o.at(kind), kind.Value)
	}
	return o.checkKeys(root, stageName(n)+".", n, reflect.TypeFor[stageKeys](), reflect.TypeOf(k.config()).Elem())
}

// stageName returns what --set calls a stage: its name, or else its kind.
func stageName(n *yaml.Node) string {
	for _, key := range []string{"name", "kind"} {
		if v := lookup(n, key); v != nil {
			return v.Value
		}
	}
	return ""
}

// checkKeys compares the keys of a mapping with the yaml tags of the given
// structs, and its values with their types. prefix is the path of the mapping
// as --set takes it.
func (o *origin) checkKeys(root *yaml.Node, prefix string, n *yaml.Node, types ...reflect.Type) error {
	if n.Kind != yaml.MappingNode {
		return invalid("write key: value lines, or leave the key out", "%s: %s is not a mapping", o.at(n),
			strings.TrimSuffix(prefix, "."))
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
			if old, now, ok := formerKey(prefix, key.Value, value, types...); ok {
				return o.renamedKey(key, old, now)
			}
			return invalid(o.keyHint(root, prefix, key.Value, keysOf(fields)), "%s: unknown key %q", o.at(key),
				prefix+key.Value)
		}
		if seen[key.Value] {
			return invalid("keep one", "%s: key %q is given twice", o.at(key), prefix+key.Value)
		}
		seen[key.Value] = true
		if err := o.checkValue(root, prefix+key.Value, value, t); err != nil {
			return err
		}
	}
	return nil
}

// checkValue refuses a value that does not have its key's type. A key without a
// value is an empty string or list; a number needs one.
func (o *origin) checkValue(root *yaml.Node, path string, n *yaml.Node, t reflect.Type) error {
	none := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	switch t.Kind() {
	case reflect.Pointer:
		if none {
			return nil
		}
		return o.checkValue(root, path, n, t.Elem())
	case reflect.Struct:
		return o.checkKeys(root, path+".", n, t)
	case reflect.Slice:
		return o.checkList(root, path, n, t.Elem())
	case reflect.Map:
		return o.checkMap(root, path, n, t.Elem())
	case reflect.String:
		if n.Kind != yaml.ScalarNode {
			return invalid("write one string there", "%s: %s is a %s, not a string", o.at(n), path, form(n))
		}
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return invalid("write one number there", "%s: %s is a %s, not a number", o.at(n), path, form(n))
	}
	if wrong, remedy := checkNumber(n, t.Kind()); wrong != "" {
		return invalid(remedy, "%s: %s is %s", o.at(n), path, wrong)
	}
	return nil
}

// checkList checks the elements of a list. Stages are checked elsewhere,
// according to their kinds.
func (o *origin) checkList(root *yaml.Node, path string, n *yaml.Node, t reflect.Type) error {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null", t == reflect.TypeFor[Stage]():
		return nil
	case n.Kind != yaml.SequenceNode:
		return invalid("write a list, as in [a, b]", "%s: %s is a %s, not a list", o.at(n), path, form(n))
	}
	for i, e := range n.Content {
		if err := o.checkValue(root, fmt.Sprintf("%s[%d]", path, i), e, t); err != nil {
			return err
		}
	}
	return nil
}

// checkMap checks the values of a mapping with free keys, such as inputs.
func (o *origin) checkMap(root *yaml.Node, path string, n *yaml.Node, t reflect.Type) error {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil
	case n.Kind != yaml.MappingNode:
		return invalid("write a mapping, as in {model: sft}", "%s: %s is a %s, not a mapping of name to name", o.at(n),
			path, form(n))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			return invalid("keep one", "%s: key %q is given twice", o.at(key), path+"."+key.Value)
		}
		seen[key.Value] = true
		if err := o.checkValue(root, path+"."+key.Value, value, t); err != nil {
			return err
		}
	}
	return nil
}

// form returns the form of a node, in words.
func form(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	return "single value"
}

// tagged adds the yaml keys of a struct, including those of its inlined fields,
// to into with their types.
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

// keyHint says where a key that is unknown below prefix is valid, under its
// current or its former name, or else which valid key is nearest.
func (o *origin) keyHint(root *yaml.Node, prefix, key string, valid []string) string {
	var near, elsewhere []string
	for _, p := range settings(root) {
		if p.spec != key && !strings.HasSuffix(p.spec, "."+key) && !strings.HasSuffix(p.stored, "."+key) {
			continue
		}
		elsewhere = append(elsewhere, p.spec)
		if first, _, _ := strings.Cut(prefix, "."); strings.HasPrefix(p.spec, first+".") {
			near = append(near, p.spec)
		}
	}
	if len(near) == 0 || prefix == "" {
		near = elsewhere
	}
	switch stages := stageNames(root); {
	case len(near) > 0:
		return fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))
	case prefix == "" && len(stages) > 0: // --set begins with a stage too
		return Suggest(key, append(valid, stages...))
	}
	return Suggest(key, valid)
}

// stageNames returns what --set calls the stages of a spec.
func stageNames(root *yaml.Node) []string {
	var names []string
	if list := lookup(root, "stages"); list != nil {
		for _, n := range list.Content {
			if name := stageName(n); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// paths returns all settings of a spec as --set takes them.
func paths(root *yaml.Node) []string {
	var all []string
	for _, p := range settings(root) {
		all = append(all, p.spec)
	}
	return all
}

// settings returns all settings of a spec, with those of its stages below the
// stages' names.
func settings(root *yaml.Node) []keyPair {
	all := keyPairs(reflect.TypeFor[Spec]())
	list := lookup(root, "stages")
	if list == nil {
		return all
	}
	for _, n := range list.Content {
		kind := lookup(n, "kind")
		if kind == nil {
			continue
		}
		if k, ok := kinds[kind.Value]; ok {
			all = append(all, stageSettings(stageName(n), k)...)
		}
	}
	return all
}

// stageSettings returns the settings of a stage of kind k that is called name.
func stageSettings(name string, k kind) []keyPair {
	all := append(keyPairs(reflect.TypeFor[stageKeys]()), keyPairs(reflect.TypeOf(k.config()).Elem())...)
	for i, p := range all {
		all[i] = keyPair{stored: joinPath(name, p.stored), spec: joinPath(name, p.spec)}
	}
	return all
}

// IsKey reports whether a spec has a top-level key of that name.
func IsKey(key string) bool {
	fields := map[string]reflect.Type{}
	tagged(reflect.TypeFor[Spec](), fields)
	return fields[key] != nil
}

// HasSetting reports whether a shipped recipe has a setting at that path, as
// --set takes it.
func HasSetting(recipe, path string) bool {
	_, root, err := parseShipped(recipe)
	return err == nil && (slices.Contains(paths(root), path) || IsKey(path))
}

// Settings returns the paths, as --set takes them, at which a stage named after
// its kind has a setting called key, or one that had this name before specs
// followed Hugging Face and TRL.
func Settings(kind, key string) []string {
	k, ok := kinds[kind]
	if !ok {
		return nil
	}
	var all []string
	for _, p := range stageSettings(kind, k) {
		if strings.HasSuffix(p.spec, "."+key) || strings.HasSuffix(p.stored, "."+key) {
			all = append(all, p.spec)
		}
	}
	return all
}

// keysOf returns the names of fields, sorted.
func keysOf(fields map[string]reflect.Type) []string {
	var keys []string
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Suggest returns a hint that names the nearest of the valid words, or all of
// them if none is near.
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

// edits returns the Levenshtein distance between a and b, in bytes.
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
