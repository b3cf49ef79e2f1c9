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
//	rankings        chosen + rejected (+ prompt, or a common beginning), and other names of the two |
//	                two responses, numbered or lettered, and a verdict | prompt + responses + rank |
//	                context + completions with ranks or scores | info + summaries + choice |
//	                query + sample0… + best | two responses + annotator1… | responses + votes |
//	                annotations of Label Studio | message trees
//
// A column that is null or empty counts as absent wherever another one can
// stand for it. A prompt, completion, chosen or rejected may be a string, a
// message or a list of messages ({role, content}, {from, value} or {role,
// text}); in a table such a list may be JSON, or what Python prints. A
// conversation becomes text in one way: a single question stands for itself,
// and of a longer one each turn is led by "Human: " or "Assistant: ", turns
// parted by an empty line, "Assistant:" last (see Transcript). What would be
// lost or read as another conversation in that form is refused.
//
// A record that is not usable is a Problem with its file, line, reason and
// remedy, and never costs the records around it.
package dataset

import (
	"fmt"

	"github.com/trimtab/trimtab"
)

// Limits of Scan. They bound its memory, whatever the file.
const (
	MaxRecord   = 8 << 20  // bytes of one record: a line, an element of an array, a row, a document
	MaxItems    = 64 << 20 // bytes of the text of all items of one record
	MaxProblems = 1000     // that are listed; more are counted
)

// ReadOptions say what a file does not.
type ReadOptions struct {
	// Map names the file's column for one of ours: {"completion": "response"}. NoColumn for ours leaves it out.
	Map map[string]string
	// Split cuts plain text into items: "document" (the whole file), "paragraph" (at empty lines) or
	// "line". Empty is document for text and line for prompts.
	Split string
	// Votes says what the numbers of votes for one of two responses mean: ZeroBased or OneBased. Empty is
	// OneBased, as long as the votes themselves do not leave that open.
	Votes string
}

// NoColumn in ReadOptions.Map says that the file has no column of that meaning, whatever one of its columns is called.
const NoColumn = "-"

// The meanings of the numbers of votes.
const (
	ZeroBased = "zero-based" // 0 is the first response, 1 the second
	OneBased  = "one-based"  // 1 is the first response, 2 the second, 0 a tie
)

// ScanReport counts what Scan found.
type ScanReport struct {
	Accepted   int // different items
	Duplicates int // items that are equal to an earlier one
	// Undecided counts records whose every vote was a tie, and rankings of equal ranks: sound, but nothing to
	// learn from.
	Undecided int
	// Equal counts rankings that were left out because they rank two equal responses apart; Contradictions are
	// the first MaxProblems of them.
	Equal          int
	Contradictions []Problem
	Rejected       []Problem // the first MaxProblems
	Unlisted       int       // problems beyond those
}

// ReadResult is what Read found.
type ReadResult struct {
	ScanReport
	Items []trimtab.Item // in the order of the file, each once
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

// recordError is a Problem without its place.
type recordError struct{ reason, remedy string }

func (f recordError) Error() string { return f.reason }

func recordErrorf(remedy, format string, args ...any) error {
	return recordError{reason: fmt.Sprintf(format, args...), remedy: remedy}
}
