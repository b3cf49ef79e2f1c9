package main

import (
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
)

// documentKept is the sentence for a stored document, such as an evaluation.
func documentKept(_ annotatedEvent, b struct{ Digest trimtab.Digest }) string {
	return "stored document " + b.Digest.Short()
}

// modelExported is the sentence for an export: who took a copy of a model.
func modelExported(_ annotatedEvent, b struct{ Digest trimtab.Digest }) string {
	return "exported model " + b.Digest.Short()
}

// modelNamed is the sentence for a name that was moved between models.
func modelNamed(_ annotatedEvent, b struct {
	Name           string
	Digest, Before trimtab.Digest
}) string {
	return fmt.Sprintf("moved the name %s from model %s to %s", b.Name, b.Before.Short(), b.Digest.Short())
}

// keyUsed is the sentence for the first use of a signing key. The name of a
// verifier is what precedes its first plus sign
// (golang.org/x/mod/sumdb/note).
func keyUsed(_ annotatedEvent, b struct{ Verifier string }) string {
	name, _, _ := strings.Cut(b.Verifier, "+")
	return "began to sign tree heads with key " + name
}

// auditVerified is the sentence for a verification of the record.
func auditVerified(_ annotatedEvent, b struct{ Events, Problems int }) string {
	if b.Problems == 0 {
		return fmt.Sprintf("verified the record of %s: nothing was changed", plural(b.Events, "event"))
	}
	return fmt.Sprintf("verified the record of %s: %s found", plural(b.Events, "event"), plural(b.Problems, "problem"))
}
