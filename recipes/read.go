package recipes

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
	"go.yaml.in/yaml/v3"
)

// Names lists the shipped recipes.
func Names() []string {
	entries, _ := shipped.ReadDir(".")
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
	}
	return names
}

// Source is the text of a shipped recipe.
func Source(name string) ([]byte, error) {
	b, err := shipped.ReadFile(name + ".yaml")
	if err != nil {
		return nil, trimtab.NewError(trimtab.NotFound, "recipe_not_found",
			"the shipped ones are "+strings.Join(Names(), ", "), "there is no recipe %q", name)
	}
	return b, nil
}

// About is one sentence on a shipped recipe.
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

// Sizes lists the sizes of a shipped recipe, default first.
func Sizes(name string) ([]string, error) {
	root, err := parseShipped(name)
	if err != nil {
		return nil, err
	}
	return sizesOf(root), nil
}

func sizesOf(root *yaml.Node) []string {
	sizes := []string{DefaultSize}
	if n := lookup(root, "sizes"); n != nil {
		for i := 0; i+1 < len(n.Content); i += 2 {
			sizes = append(sizes, n.Content[i].Value)
		}
	}
	return sizes
}

func parseShipped(name string) (*yaml.Node, error) {
	b, err := Source(name)
	if err != nil {
		return nil, err
	}
	return parse(name+".yaml", b)
}

// Load resolves a shipped recipe at a size, then the overrides "path=value".
func Load(name, size string, sets []string) (Spec, error) {
	root, err := parseShipped(name)
	if err != nil {
		return Spec{}, err
	}
	return sized(name+".yaml", root, size, sets)
}

// sized applies the overrides of a size, and takes off what only recipes have.
func sized(file string, root *yaml.Node, size string, sets []string) (Spec, error) {
	if size != "" && size != DefaultSize {
		over := lookup(lookup(root, "sizes"), size)
		if over == nil {
			return Spec{}, invalid("the sizes are "+strings.Join(sizesOf(root), ", "), "%s has no size %q", file, size)
		}
		for i := 0; i+1 < len(over.Content); i += 2 {
			if err := assign(root, over.Content[i].Value, over.Content[i+1]); err != nil {
				return Spec{}, err
			}
		}
	}
	remove(root, "about")
	remove(root, "sizes")
	return resolve(file, root, sets)
}

// Read resolves a user's spec at a size, if it has any, then the overrides
// "path=value". The file name is for messages. A shipped recipe, printed and
// edited, is such a spec.
func Read(file string, data []byte, size string, sets []string) (Spec, error) {
	root, err := parse(file, data)
	if err != nil {
		return Spec{}, err
	}
	return sized(file, root, size, sets)
}

// Override resolves a stored spec with further overrides.
func Override(s Spec, sets []string) (Spec, error) {
	b, err := s.YAML()
	if err != nil {
		return Spec{}, err
	}
	return Read("the run's spec", b, DefaultSize, sets)
}

func parse(file string, data []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, invalid("mend the YAML there", "%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, invalid("see `trimtab recipes instructgpt` for one", "%s: a run spec is a mapping of keys such as model and stages", file)
	}
	return doc.Content[0], nil
}

func resolve(file string, root *yaml.Node, sets []string) (Spec, error) {
	for _, set := range sets {
		key, text, ok := strings.Cut(set, "=")
		if !ok {
			return Spec{}, invalid("write --set path=value, for example --set ppo.kl_coef=0.1", "--set %s has no =", set)
		}
		var v yaml.Node
		if err := yaml.Unmarshal([]byte(text), &v); err != nil || len(v.Content) == 0 {
			return Spec{}, invalid("quote the value", "--set %s: the value is not YAML", set)
		}
		if err := assign(root, key, v.Content[0]); err != nil {
			return Spec{}, err
		}
	}
	if err := checkSpec(file, root); err != nil {
		return Spec{}, err
	}
	s := Spec{Seed: 1, Numerics: tensor.V1}
	if err := root.Decode(&s); err != nil {
		return Spec{}, yamlError(file, err)
	}
	if err := s.Validate(); err != nil {
		return Spec{}, invalid("correct it in the spec or with --set", "%s: %w", file, err)
	}
	return s, nil
}

// mismatch is how the YAML library says that a value is of another type.
var mismatch = regexp.MustCompile("^line (\\d+): cannot unmarshal !!\\w+(?: `(.*)`)? into (.*)$")

// expected are Go's types in words.
var expected = map[string]string{"int": "a whole number", "uint64": "a whole number of at least 0", "float64": "a number", "bool": "true or false",
	"string": "text", "[]string": "a list of texts", "[]trimtab.Gate": "a list of gates", "map[string]string": "a mapping of name to name"}

// yamlError is the first decoding error, with its place.
func yamlError(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if te, ok := errors.AsType[*yaml.TypeError](err); ok && len(te.Errors) > 0 {
		text = te.Errors[0]
	}
	m := mismatch.FindStringSubmatch(text)
	if m == nil {
		return invalid("correct the value", "%s: %s", file, text)
	}
	want, ok := expected[m[3]]
	if !ok {
		want = m[3]
	}
	return invalid("correct the value", "%s:%s: %q is not %s", file, m[1], m[2], want)
}

// assign sets a dotted path. A first word that is a stage's name means that
// stage; missing mappings are made, so that the check that follows can name an
// unknown key.
func assign(root *yaml.Node, key string, v *yaml.Node) error {
	words := strings.Split(key, ".")
	at := root
	if st := stageNode(root, words[0]); st != nil {
		if len(words) == 1 {
			return invalid("name a field of it, as in "+key+".lr", "--set %s: that is a whole stage", key)
		}
		at, words = st, words[1:]
	}
	for _, w := range words[:len(words)-1] {
		next := lookup(at, w)
		if next == nil {
			next = &yaml.Node{Kind: yaml.MappingNode, Line: at.Line}
			at.Content = append(at.Content, scalar(w, at.Line), next)
		}
		if next.Kind != yaml.MappingNode {
			return invalid("see `trimtab recipes` for the paths", "%s: %q is not a mapping", key, w)
		}
		at = next
	}
	last := words[len(words)-1]
	if old := lookup(at, last); old != nil {
		line := old.Line
		*old = *v
		old.Line = line
		return nil
	}
	at.Content = append(at.Content, scalar(last, at.Line), v)
	return nil
}

func scalar(s string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Line: line}
}

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

func remove(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}

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
				break // a stage with a name answers to that alone
			}
		}
	}
	return nil
}

// at is the place of a node for messages.
func at(file string, n *yaml.Node) string {
	if n.Line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, n.Line)
}
