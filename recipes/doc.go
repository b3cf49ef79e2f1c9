// Package recipes reads run specs: YAML documents that say from which data, in which
// stages and with which settings a model is trained.
//
// Reading is strict: an unknown key, a value out of range, or a key that the
// chosen stage would not read is an error that names file, line and the
// nearest valid key. The resolved Spec has every default filled in; its
// canonical JSON, without the run's own name and with dataset names replaced
// by version roots, is what a run's spec digest is taken over.
//
// The recipes that ship with the program are in this folder. They may have two
// more keys, as may any other spec: about, one sentence for people, and sizes,
// named sets of overrides as --set takes them.
package recipes

import (
	"embed"

	"github.com/trimtab/trimtab"
)

//go:embed *.yaml
var shipped embed.FS

// Default values and limits.
const (
	Default     = "instructgpt" // the recipe of a bare `trimtab align`
	DefaultSize = "default"
	MaxSeed     = 1<<53 - 1 // the largest integer that every JSON reader keeps
)

func invalid(remedy, format string, args ...any) error {
	return trimtab.NewError(trimtab.Usage, "invalid_spec", remedy, format, args...)
}
