package recipes

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A setting has two names. The key of a spec, which people write, is the yaml
// tag of its field and follows Hugging Face's TrainingArguments and TRL:
// learning_rate, num_ppo_epochs, cliprange. The stored key, in the JSON that
// configs, digests and cache keys are made of, is the json tag: it stays as it
// was when the first run was recorded (lr, inner_epochs, clip), since another
// spelling would give another digest. Every translation between the two is
// derived from the tags, so that there is no second table.

// keyPair is one setting: its path in the stored JSON, and its path in a spec.
type keyPair struct{ stored, spec string }

// keyPairs returns the settings of a struct and of the structs in it, in field
// order. A field that specs do not have ("-") is left out.
func keyPairs(t reflect.Type) []keyPair { return appendKeyPairs(nil, keyPair{}, t) }

func appendKeyPairs(all []keyPair, at keyPair, t reflect.Type) []keyPair {
	for f := range t.Fields() {
		spec, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		stored, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if spec == "-" || spec == "" && !strings.Contains(options, "inline") {
			continue
		}
		below := keyPair{joinPath(at.stored, stored), joinPath(at.spec, spec)}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			all = appendKeyPairs(all, below, ft)
		} else {
			all = append(all, below)
		}
	}
	return all
}

// joinPath puts a dot between a path and a key; an empty key, that of an
// embedded or inlined struct, adds nothing.
func joinPath(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}

// SpecPath returns the path in a spec, as --set takes it, of the setting with
// the given path in the stored JSON: of the spec itself if kind is empty, or
// else of the config of a stage of that kind. A path that no setting has is
// returned unchanged.
func SpecPath(kind, stored string) string {
	t := reflect.TypeFor[Spec]()
	if kind != "" {
		k, ok := kinds[kind]
		if !ok {
			return stored
		}
		t = reflect.TypeOf(k.config()).Elem()
		// a pretrain stage's stored config holds the shape of the spec's model
		if shape, ok := strings.CutPrefix(stored, "model."); ok {
			return SpecPath("", "model."+shape)
		}
	}
	for _, p := range keyPairs(t) {
		if p.stored == stored {
			return p.spec
		}
	}
	return stored
}

// formerKey looks up an unknown key of a mapping among the keys that specs had
// before they followed Hugging Face and TRL, which are the stored ones. It
// returns the old and the new path, below prefix, of the first setting that
// matches; ok is false if the key never existed.
func formerKey(prefix, key string, value *yaml.Node, types ...reflect.Type) (old, now string, ok bool) {
	for _, t := range types {
		for _, p := range keyPairs(t) {
			if p.stored == p.spec || p.stored == "" {
				continue
			}
			if p.stored == key {
				return prefix + key, prefix + p.spec, true
			}
			below, isBelow := strings.CutPrefix(p.stored, key+".")
			if isBelow && (value.Kind != yaml.MappingNode || lookup(value, below) != nil) {
				return prefix + p.stored, prefix + p.spec, true
			}
		}
	}
	return "", "", false
}

// renamedKey returns the error for a key that has been renamed.
func (o *origin) renamedKey(n *yaml.Node, old, now string) error {
	return invalid(fmt.Sprintf("write %s instead; docs/recipes.md has the table of old and new names", now),
		"%s: %s is now called %s", o.at(n), old, now)
}
