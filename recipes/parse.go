package recipes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// origin is where a spec comes from. It determines what messages call the spec,
// and what its relative paths are relative to.
type origin struct {
	kind originKind
	name string                // of the file, the recipe or the override
	sets map[*yaml.Node]string // the nodes that an override set, and the override
}

// originKind is the kind of place that a spec, or a part of one, comes from.
type originKind int

const (
	ofFile   originKind = iota // a user's file
	ofInput                    // standard input
	ofRecipe                   // a recipe that ships with the program
	ofRun                      // the spec that is stored with a run
	ofSet                      // the value of one --set
)

// MaxSpec is the size limit of a spec in bytes: a thousand times the size of the
// shipped ones.
const MaxSpec = 4 << 20

// String names the origin as a user knows it.
func (o *origin) String() string {
	switch o.kind {
	case ofInput:
		return "standard input"
	case ofRecipe:
		return "recipe " + o.name
	case ofRun:
		return "the run's spec"
	case ofSet:
		return "--set " + o.name
	}
	return o.name
}

// at returns the place of a node, for messages: a line that the user can open,
// or the --set that gave it.
func (o *origin) at(n *yaml.Node) string {
	if set := o.sets[n]; set != "" {
		return "--set " + set
	}
	return o.line(n.Line)
}

// line returns the place of line n, or only the origin if line numbers mean
// nothing to a user.
func (o *origin) line(n int) string {
	switch {
	case n == 0 || o.kind == ofRun || o.kind == ofSet:
		return o.String()
	case o.kind == ofFile:
		return fmt.Sprintf("%s:%d", o.name, n)
	}
	return fmt.Sprintf("%s, line %d", o, n)
}

// remedy says what to do about a wrong value of the spec.
func (o *origin) remedy() string {
	if o.kind == ofRecipe {
		return fmt.Sprintf("correct it with --set, or edit a copy: `trimtab recipes %s > my-run.yaml`, then -f "+
			"my-run.yaml", o.name)
	}
	return "correct it in the spec or with --set"
}

// from records that the override set put n and everything below it in place,
// and returns n. An empty set, that of a size, is not recorded.
func (o *origin) from(n *yaml.Node, set string) *yaml.Node {
	if set == "" {
		return n
	}
	if o.sets == nil {
		o.sets = map[*yaml.Node]string{}
	}
	o.sets[n] = set
	for _, c := range n.Content {
		o.from(c, set)
	}
	return n
}

// parse reads a spec and returns its top mapping.
func (o *origin) parse(data []byte) (*yaml.Node, error) {
	root, err := o.document(data)
	if err != nil {
		return nil, err
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return nil, invalid("see `trimtab recipes instructgpt` for one",
			"%s: a run spec is a mapping of keys such as model and stages", o)
	}
	return root, nil
}

// document reads one YAML document of at most MaxSpec bytes; nil is an empty
// one. Aliases, merge keys and tags are refused, so that the value written at a
// place is the one that applies there, and a short text cannot expand into a
// large tree.
func (o *origin) document(data []byte) (*yaml.Node, error) {
	if len(data) > MaxSpec {
		return nil, invalid("keep data in files of its own, and name them under sources or data",
			"%s: it has more than %d MiB, too large for a run spec", o, MaxSpec>>20)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, o.syntax(data, err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, invalid("keep one of them; -f takes one spec", "%s: a second YAML document begins here",
			o.line(more.Line))
	case !errors.Is(err, io.EOF):
		return nil, o.syntax(data, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], o.plain(doc.Content[0])
}

// place matches how the YAML library begins a syntax error.
var place = regexp.MustCompile(`^line (\d+): `)

// syntax rewords an error of the YAML library for users, with its place.
func (o *origin) syntax(data []byte, err error) error {
	text, at, remedy := strings.TrimPrefix(err.Error(), "yaml: "), o.String(), "correct the YAML there"
	if m := place.FindStringSubmatch(text); m != nil && o.kind != ofSet {
		var line int
		if _, err := fmt.Sscan(m[1], &line); err == nil {
			at, text = o.line(line), text[len(m[0]):]
		}
	}
	switch {
	case strings.Contains(text, "unknown anchor"):
		remedy = "write the value out: specs do not allow aliases; quote a string that begins with *"
	case o.kind == ofSet:
		remedy = "quote the value, as in --set 'name=\"a: b\"'"
	case tabbed.Match(data):
		remedy = "indent with spaces: YAML allows no tabs there"
	}
	return invalid(remedy, "%s: %s", at, text)
}

// tabbed matches a line that is indented with a tab, which YAML does not allow.
var tabbed = regexp.MustCompile(`(?m)^ *\t`)

// plain refuses aliases, tags, merge keys and keys that are not words, anywhere
// below n.
func (o *origin) plain(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return invalid("write the value out there; quote a string that begins with *",
			"%s: *%s is a YAML alias, which specs do not allow", o.at(n), n.Value)
	case n.Style&yaml.TaggedStyle != 0:
		return invalid("leave the tag out; quote a string that begins with !",
			"%s: %s is a YAML tag, which specs do not allow", o.at(n), n.Tag)
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			switch {
			case c.Tag == "!!merge":
				return invalid("write the keys out there",
					"%s: << merges another mapping in, which specs do not allow", o.at(c))
			case c.Kind != yaml.ScalarNode && c.Kind != yaml.AliasNode:
				return invalid("write key: value lines", "%s: a key is not a word", o.at(c))
			}
		}
		if err := o.plain(c); err != nil {
			return err
		}
	}
	return nil
}

// locate makes the paths of a spec absolute. A relative path is relative to the
// folder of the spec file or, if --set gave it or the spec is not a file, to the
// working directory. Files of sources are relative to sources.folder, which by
// default is the folder of the spec. ~/ is the home folder.
func (o *origin) locate(root *yaml.Node) error {
	if base := lookup(lookup(root, "model"), "base"); base != nil &&
		(base.Value == "." || base.Value == ".." || strings.HasPrefix(base.Value, "./") ||
			strings.HasPrefix(base.Value, "../") || strings.HasPrefix(base.Value, "~")) {
		if err := o.makeAbsolute(base); err != nil {
			return err
		}
	}
	src := lookup(root, "sources")
	for _, key := range []string{"rankings", "text"} {
		if list := lookup(src, key); list != nil {
			for _, n := range list.Content {
				if err := o.home(n); err != nil {
					return err
				}
			}
		}
	}
	folder := lookup(src, "folder")
	switch {
	case src == nil || src.Kind != yaml.MappingNode:
		return nil
	case folder != nil && folder.Value != "" && folder.Tag != "!!null":
		return o.makeAbsolute(folder)
	case o.kind != ofFile:
		return nil // the launch prepares the sources, and says that there is no folder
	case folder == nil:
		folder = scalar("", src.Line)
		src.Content = append(src.Content, scalar("folder", src.Line), folder)
	}
	*folder = *scalar(".", folder.Line)
	return o.makeAbsolute(folder)
}

// makeAbsolute makes the path in n absolute.
func (o *origin) makeAbsolute(n *yaml.Node) error {
	if err := o.home(n); err != nil || filepath.IsAbs(n.Value) {
		return err
	}
	dir := ""
	switch {
	case o.sets[n] != "":
	case o.kind == ofFile:
		dir = filepath.Dir(o.name)
	case o.kind == ofRun:
		return nil // as it was
	}
	path, err := filepath.Abs(filepath.Join(dir, n.Value))
	if err != nil {
		return invalid("write an absolute path", "%s: make the path %q absolute: %w", o.at(n), n.Value, err)
	}
	n.Value = path
	return nil
}

// home replaces a leading ~/ by the home folder. The home folder of another
// user (~ann) is refused: only a shell knows it.
func (o *origin) home(n *yaml.Node) error {
	if !strings.HasPrefix(n.Value, "~") || n.Tag == "!!null" {
		return nil
	}
	rest, ok := strings.CutPrefix(n.Value, "~/")
	if !ok && n.Value != "~" {
		return invalid("write the path out; ~/ is your own home folder",
			"%s: %q begins with the home folder of another user", o.at(n), n.Value)
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return invalid("write the path out, or set HOME",
			"%s: %q is below the home folder, and there is none: HOME is not set", o.at(n), n.Value)
	}
	n.Value = filepath.Join(home, strings.TrimPrefix(rest, "~"))
	n.Tag, n.Style = "!!str", 0
	return nil
}
