// Package dataset reads files of training data into the items of a dataset, and
// turns items into the token sequences that the stages train on.
//
// A file is a list of records: JSON lines (.jsonl, .ndjson), a JSON array
// (.json), a table with a header (.csv, .tsv), or plain text (.txt); each of
// them may be compressed with gzip (.gz). A record becomes items according to
// the columns that it has:
//
//	text            text | messages | conversations
//	prompts         prompt | instruction (+ input) | question | messages |
//	                conversations | context | query | input
//	demonstrations  prompt + completion | messages | conversations |
//	                instruction (+ input) + output | instruction + instances |
//	                question + answer | input + output
//	rankings        chosen + rejected (+ prompt, or a shared beginning), and
//	                other names for the two | two responses, numbered or
//	                lettered, and a preference | prompt + responses + rank |
//	                context + completions with ranks or scores |
//	                info + summaries + choice | query + sample0… + best |
//	                two responses + annotator1… | responses + votes |
//	                annotations of Label Studio | message trees
//
// A column that is null or empty counts as absent wherever another one can
// stand in for it. A prompt, completion, chosen or rejected may be a string, a
// message or a list of messages ({role, content}, {from, value} or {role,
// text}); in a table such a list may be JSON or a Python literal. A
// conversation becomes text in one way: a single question is its own text; of a
// longer conversation each turn begins with "Human: " or "Assistant: ", turns
// are separated by an empty line, and "Assistant:" ends it (see Transcript).
// Content that this form would lose, or that would read back as another
// conversation, is refused.
//
// A record that cannot be used is reported as a Problem with file, line, reason
// and remedy, and never affects the records around it.
//
// Reading takes these steps, none of which holds more than one record in
// memory:
//
//	charset.go               bytes to UTF-8
//	bounded.go               a limit for every record, and line numbers
//	formats.go, table.go     UTF-8 to records
//	fields.go, literal.go    a record's columns and their values
//	transcript.go            messages to prompts
//	items.go                 a record's texts, prompts or demonstrations
//	ranking_forms.go, pairs.go,
//	labelstudio.go           a record's rankings
//	read.go, distinct.go     validation, duplicates, the report
//
// Training takes items from the record and encodes them for a context length:
// tokens.go and fit.go.
package dataset

import (
	"fmt"

	"github.com/trimtab/trimtab"
)

// Limits of Scan. They bound its memory for any file.
const (
	// MaxRecord is the largest record in bytes: a line, an element of an array,
	// a row, a document.
	MaxRecord = 8 << 20
	// MaxItems bounds the bytes of the text of all items of one record.
	MaxItems = 64 << 20
	// MaxProblems is how many problems are listed; more are only counted.
	MaxProblems = 1000
)

// ReadOptions supply what a file does not say itself.
type ReadOptions struct {
	// Map gives the file's name for one of the columns above, for example
	// {"completion": "response"}. NoColumn means that the file has no such
	// column.
	Map map[string]string
	// Split cuts plain text into items: "document" (the whole file),
	// "paragraph" (at empty lines) or "line". The default is "document" for
	// text and "line" for prompts.
	Split string
	// Votes says how numeric votes for one of two responses are counted:
	// ZeroBased or OneBased. The default is OneBased; if the votes of a file
	// fit both, Scan refuses to guess.
	Votes string
}

// NoColumn as a value of ReadOptions.Map says that the file has no column of
// that meaning, even if one of its columns has the name.
const NoColumn = "-"

// The meanings of numeric votes.
const (
	// ZeroBased votes: 0 is the first response, 1 the second.
	ZeroBased = "zero-based"
	// OneBased votes: 1 is the first response, 2 the second, 0 a tie.
	OneBased = "one-based"
)

// ScanReport counts what Scan found.
type ScanReport struct {
	// Accepted counts distinct items; Duplicates counts repetitions of them.
	Accepted   int
	Duplicates int
	// Undecided counts records whose votes are all ties, and rankings whose
	// ranks are all equal: valid, but there is nothing to learn from them.
	Undecided int
	// Equal counts rankings that were left out because they rank two identical
	// responses differently; Contradictions lists the first MaxProblems of
	// them.
	Equal          int
	Contradictions []Problem
	// Rejected lists the first MaxProblems records that cannot be used, and
	// Unlisted counts the others.
	Rejected []Problem
	Unlisted int
}

// ReadResult is what Read found.
type ReadResult struct {
	ScanReport
	// Items are in the order of the file, each once.
	Items []trimtab.Item
}

// Problem is one thing that is wrong with a file. It is an error, and one of
// the entries of a JSON report.
type Problem struct {
	File string `json:"file"`
	// Line is where the record begins, from 1; 0 stands for the whole file.
	Line   int    `json:"line"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

// Error returns the problem in one line, as "file:line: reason: remedy".
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

// recordError is a Problem whose place is not known yet: the code that parses a
// record sees no file name and no line.
type recordError struct{ reason, remedy string }

// Error returns the reason alone; the remedy goes into the Problem.
func (f recordError) Error() string { return f.reason }

// recordErrorf returns a recordError with a remedy and a formatted reason.
func recordErrorf(remedy, format string, args ...any) error {
	return recordError{reason: fmt.Sprintf(format, args...), remedy: remedy}
}
