package main

import (
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
)

// datasetCreated is the sentence for a new dataset.
func datasetCreated(h annotatedEvent, b struct{ Kind string }) string {
	return fmt.Sprintf("created dataset %s of kind %s", h.subject(), b.Kind)
}

// itemsAdded is the sentence for an import. Given counts the items of the
// files, of which Given-Added were in the dataset already.
func itemsAdded(h annotatedEvent, b struct{ Added, Given int }) string {
	text := fmt.Sprintf("added %s to dataset %s", plural(b.Added, "item"), h.subject())
	if b.Given > b.Added {
		text += fmt.Sprintf(", %s already present", withThousands(b.Given-b.Added))
	}
	return text
}

// datasetSplit is the sentence for holding out part of a dataset. With the
// rule and the seed, the split can be computed again.
func datasetSplit(h annotatedEvent, b struct {
	By      string
	Seed    uint64
	Items   int
	HeldOut int `json:"held_out"`
}) string {
	return fmt.Sprintf("split dataset %s by %s with seed %d: %s of %s held out", h.subject(), b.By, b.Seed,
		withThousands(b.HeldOut), plural(b.Items, "item"))
}

// datasetFrozen is the sentence for a new frozen version.
func datasetFrozen(h annotatedEvent, b struct {
	Version trimtab.Digest
	Items   int
}) string {
	return fmt.Sprintf("froze dataset %s as %s, %s", h.subject(), b.Version.Short(), plural(b.Items, "item"))
}

// filesImported is the sentence for the files that items were read from. The
// digest is of the file's bytes, so that it can be found again by sha256sum.
func filesImported(h annotatedEvent, b struct {
	Files []struct {
		Name   string
		Digest trimtab.Digest
		Items  int
	}
}) string {
	var parts []string
	// The file's name is its base name: folders say something about a machine
	// only.
	for _, f := range b.Files {
		parts = append(parts, fmt.Sprintf("%s (%s, %s)", f.Name, f.Digest.Short(), plural(f.Items, "item")))
	}
	return fmt.Sprintf("imported into dataset %s: %s", h.subject(), strings.Join(parts, ", "))
}

// itemsErased is the sentence for erased items. Their text is gone, and so
// the sentence cannot quote it.
func itemsErased(h annotatedEvent, b struct {
	Items  []trimtab.Digest
	Reason string
}) string {
	return withReason(fmt.Sprintf("erased the text of %s of dataset %s", plural(len(b.Items), "item"), h.subject()),
		b.Reason)
}
