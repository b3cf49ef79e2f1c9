// Package recipes reads run specs: YAML documents that say from what, in which
// stages and with which numbers a model is made.
//
// Reading is strict: an unknown key, a value out of range, or a key that the
// chosen stage would not read is an error that names file, line and the
// nearest valid key. The resolved Spec has every default filled in; its
// canonical JSON, without the run's own name and with dataset names replaced
// by version roots, is what a run's spec digest is taken over.
//
// Recipes that ship with the program lie beside this file. They, and any spec
// that wants to, have two more keys: about, one sentence for people, and
// sizes, named sets of overrides in the manner of --set.
package recipes

import (
	"embed"

	"github.com/trimtab/trimtab"
)

//go:embed *.yaml
var shipped embed.FS

// Settings that a spec may not leave to chance.
const (
	Default     = "instructgpt" // the recipe of a bare `trimtab align`
	DefaultSize = "default"
	MaxSeed     = 1<<53 - 1 // the largest integer that every JSON reader keeps
)

func invalid(remedy, format string, args ...any) error {
	return trimtab.NewError(trimtab.Usage, "invalid_spec", remedy, format, args...)
}
