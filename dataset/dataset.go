// Package dataset reads the files people have into the items of a dataset,
// and turns items into the token sequences that stages learn from.
//
// A file is records: lines of JSON (.jsonl, .ndjson), a JSON array (.json),
// a table with a header (.csv, .tsv), or plain text (.txt); any of them
// compressed with gzip (.gz). A record becomes items by the columns it has:
//
//	text            text | messages | conversations
//	prompts         prompt | instruction (+ input) | question | messages | conversations | context | query | input
//	demonstrations  prompt + completion | messages | conversations | instruction (+ input) + output |
//	                instruction + instances | question + answer | input + output
//	rankings        chosen + rejected (+ prompt, or a common beginning) | prompt + responses + rank |
//	                context + completions with ranks | info + summaries + choice | query + sample0… + best |
//	                instruction + response1 + response2 + annotator1… | responses + votes | message trees
//
// A prompt, completion, chosen or rejected may be a string, a message or a
// list of messages ({role, content}, {from, value} or {role, text}). A
// conversation becomes text in one way: a single question stands for itself,
// and of a longer one each turn is led by "Human: " or "Assistant: ", turns
// parted by an empty line, "Assistant:" last (see Transcript).
//
// A record that is not usable is a Problem with its file, line, reason and
// remedy, and never costs the records around it.
package dataset

import (
	"fmt"

	"github.com/trimtab/trimtab"
)

// Limits of Read. They bound its memory, whatever the file.
const (
	MaxRecord   = 8 << 20 // bytes of one record: a line, an element of an array, a row, a document
	MaxProblems = 1000    // that are listed; more are counted
)

// ReadOptions say what a file does not.
type ReadOptions struct {
	// Map names the file's column for one of ours: {"completion": "response"}.
	Map map[string]string
	// Split cuts plain text into items: "document" (the whole file), "paragraph" (at empty lines) or
	// "line". Empty is document for text and line for prompts.
	Split string
}

// Import is what Read found.
type Import struct {
	Items      []trimtab.Item // in the order of the file, each once
	Accepted   int            // len(Items)
	Duplicates int            // items left out because an equal one came before
	// Undecided counts records whose every vote was a tie: sound, but nothing to learn from.
	Undecided int
	Rejected  []Problem // the first MaxProblems
	Unlisted  int       // problems beyond those
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // from 1, where the record begins; 0 is the whole file
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

func (p Problem) Error() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	s += ": " + p.Reason
	if p.Remedy != "" {
		s += ": " + p.Remedy
	}
	return s
}

// fault is a Problem without its place.
type fault struct{ reason, remedy string }

func (f fault) Error() string { return f.reason }

func faultf(remedy, format string, args ...any) error {
	return fault{reason: fmt.Sprintf(format, args...), remedy: remedy}
}
