package recipes

import (
	"path"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
	"go.yaml.in/yaml/v3"
)

// Names returns the names of the recipes that ship with the program, sorted.
func Names() []string {
	entries, _ := shipped.ReadDir(".")
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
	}
	return names
}

// Source returns the text of a shipped recipe.
func Source(name string) ([]byte, error) {
	b, err := shipped.ReadFile(name + ".yaml")
	if err != nil {
		return nil, trimtab.NewError(trimtab.NotFound, "recipe_not_found",
			"the shipped recipes are "+strings.Join(Names(), ", "), "there is no recipe %q", name)
	}
	return b, nil
}

// About returns the one sentence in which a shipped recipe describes itself.
func About(name string) (string, error) {
	b, err := Source(name)
	if err != nil {
		return "", err
	}
	var head struct {
		About string `yaml:"about"`
	}
	err = yaml.Unmarshal(b, &head)
	return head.About, err
}

// Sizes returns the names of the sizes of a shipped recipe, the default first.
func Sizes(name string) ([]string, error) {
	o, root, err := parseShipped(name)
	if err != nil {
		return nil, err
	}
	return o.sizes(root), nil
}

// parseShipped returns the origin and the top mapping of a shipped recipe.
func parseShipped(name string) (*origin, *yaml.Node, error) {
	b, err := Source(name)
	if err != nil {
		return nil, nil, err
	}
	o := &origin{kind: ofRecipe, name: name}
	root, err := o.parse(b)
	return o, root, err
}

// Load resolves a shipped recipe at a size, then applies the overrides
// "path=value" in order.
func Load(name, size string, sets []string) (Spec, error) {
	o, root, err := parseShipped(name)
	if err != nil {
		return Spec{}, err
	}
	return o.resolve(root, size, sets)
}

// Read resolves a user's spec at a size, if it has any, then applies the
// overrides "path=value" in order. file is its path, or - for standard input:
// messages name it, and relative paths in the spec are relative to its folder.
// A shipped recipe that has been printed and edited is such a spec.
func Read(file string, data []byte, size string, sets []string) (Spec, error) {
	o := &origin{kind: ofFile, name: file}
	if file == "-" {
		o = &origin{kind: ofInput}
	}
	root, err := o.parse(data)
	if err != nil {
		return Spec{}, err
	}
	return o.resolve(root, size, sets)
}

// Override resolves the stored spec of a run with further overrides.
func Override(s Spec, sets []string) (Spec, error) {
	b, err := s.YAML()
	if err != nil {
		return Spec{}, err
	}
	o := &origin{kind: ofRun}
	root, err := o.parse(b)
	if err != nil {
		return Spec{}, err
	}
	return o.resolve(root, DefaultSize, sets)
}

// resolve applies a size and then the overrides, removes the keys that only
// recipes have, checks what is left, and decodes it over the defaults. The
// check comes before the decoding so that errors use this package's wording.
func (o *origin) resolve(root *yaml.Node, size string, sets []string) (Spec, error) {
	if err := o.applySize(root, size); err != nil {
		return Spec{}, err
	}
	remove(root, "about")
	remove(root, "sizes")
	for _, set := range sets {
		if err := o.applySet(root, set); err != nil {
			return Spec{}, err
		}
	}
	if err := o.check(root); err != nil {
		return Spec{}, err
	}
	if err := o.locate(root); err != nil {
		return Spec{}, err
	}
	s := Spec{Seed: 1, Numerics: tensor.V1}
	if err := root.Decode(&s); err != nil { // check has seen every value
		return Spec{}, invalid(o.remedy(), "%s: %s", o, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if s.Model.Base == "" {
		s.Model.Config = s.Model.Config.Complete()
	}
	if err := s.Validate(); err != nil {
		return Spec{}, invalid(o.remedy(), "%s: %w", o, err)
	}
	return s, nil
}

// applySize assigns the overrides of a size; an empty size is the default.
func (o *origin) applySize(root *yaml.Node, size string) error {
	if size == "" || size == DefaultSize {
		return nil
	}
	over := lookup(lookup(root, "sizes"), size)
	if over == nil || over.Kind != yaml.MappingNode {
		return invalid("the sizes are "+strings.Join(o.sizes(root), ", "), "%s has no size %q", o, size)
	}
	for i := 0; i+1 < len(over.Content); i += 2 {
		if err := o.assign(root, over.Content[i].Value, over.Content[i+1], ""); err != nil {
			return err
		}
	}
	return nil
}

// sizes returns the names of the sizes of a spec, the default first.
func (o *origin) sizes(root *yaml.Node) []string {
	sizes := []string{DefaultSize}
	if n := lookup(root, "sizes"); n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			sizes = append(sizes, n.Content[i].Value)
		}
	}
	return sizes
}

// applySet applies one override "path=value". An empty value is an empty
// string.
func (o *origin) applySet(root *yaml.Node, set string) error {
	key, text, ok := strings.Cut(set, "=")
	if !ok || key == "" {
		return invalid("write --set path=value, for example --set ppo.kl_coef=0.1", "--set %s needs a path and =", set)
	}
	if strings.TrimSpace(text) == "" {
		return o.assign(root, key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"}, set)
	}
	v, err := (&origin{kind: ofSet, name: set}).document([]byte(text))
	if err != nil {
		return err
	}
	if v == nil || commented(v) {
		return invalid("quote the value, as in --set 'name=\"run #3\"'",
			"--set %s: # and what follows it is a YAML comment", set)
	}
	return o.assign(root, key, v, set)
}

// commented reports whether a value, or anything below it, has a comment:
// reading it would drop the comment.
func commented(n *yaml.Node) bool {
	if n.HeadComment+n.LineComment+n.FootComment != "" {
		return true
	}
	for _, c := range n.Content {
		if commented(c) {
			return true
		}
	}
	return false
}

// assign sets the value at a dotted path, for the override set, or for a size
// if set is empty. A first word that is the name of a stage means that stage.
// Missing mappings are created, so that the check that follows can name an
// unknown key.
func (o *origin) assign(root *yaml.Node, key string, v *yaml.Node, set string) error {
	words := strings.Split(key, ".")
	at := root
	if st := stageNode(root, words[0]); st != nil {
		if len(words) == 1 {
			return invalid("name one of its settings, as in "+key+".checkpoint_steps=10",
				"--set %s: %s is a whole stage", set, key)
		}
		at, words = st, words[1:]
	}
	for _, w := range words[:len(words)-1] {
		next := lookup(at, w)
		if next == nil {
			next = o.from(&yaml.Node{Kind: yaml.MappingNode, Line: v.Line}, set)
			at.Content = append(at.Content, o.from(scalar(w, v.Line), set), next)
		}
		if next.Kind != yaml.MappingNode {
			return invalid("`trimtab plan --resolved` prints a spec with every setting",
				"%s: %s has no settings below it", o.at(next), w)
		}
		at = next
	}
	last := words[len(words)-1]
	if old := lookup(at, last); old != nil {
		*old = *v
		o.from(old, set)
		return nil
	}
	at.Content = append(at.Content, o.from(scalar(last, v.Line), set), o.from(v, set))
	return nil
}

// scalar returns a string node.
func scalar(s string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Line: line}
}

// lookup returns the value of a key of a mapping; nil if n is not a mapping or
// has no such key.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// remove takes a key out of a mapping.
func remove(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}

// stageNode returns the mapping of the stage called name, or nil. A stage with
// a name is found only by that name, not by its kind.
func stageNode(root *yaml.Node, name string) *yaml.Node {
	stages := lookup(root, "stages")
	if stages == nil {
		return nil
	}
	for _, st := range stages.Content {
		for _, key := range []string{"name", "kind"} {
			if n := lookup(st, key); n != nil {
				if n.Value == name {
					return st
				}
				break // a stage with a name is found only by that
			}
		}
	}
	return nil
}
