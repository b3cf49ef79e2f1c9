// Package storage keeps the record of Trimtab in Postgres. It is the only
// package that speaks SQL; the tables are those of package migrations.
//
// Three kinds of row:
//
//	facts        inserted once, never changed: run, attempt, metric, rollout,
//	             checkpoint, artifact, dataset items and versions, documents
//	projections  updated in place, and each change told by an event:
//	             run_state, attempt_state; and two that tell nothing: fence, progress
//	events       (stream, sequence, at, actor, type, stage, attempt, body),
//	             appended by the SQL function append_event in the transaction
//	             of the fact; body is the exact bytes of a JSON object
//
// A digest is stored as the text "sha256:…". Bytes are bytea; a text column
// beside them is for people and has what Postgres cannot hold replaced.
//
// Loads. Many rows go by COPY into a temporary twin of their table and from
// there by insert … on conflict do nothing. Rows that were there already are
// compared, floating-point numbers by their bits: an equal repeat changes
// nothing, and a different one is the error replay_diverged. So every write
// may be repeated after a fault whose outcome nobody knows.
//
// Fences. A worker takes an attempt by raising its token (Fence); every write
// of a worker names its token and holds the row of the fence until it commits.
// A worker that was thought dead finds a higher token and gets "fenced".
//
// Order of locks: the dataset or fence, then state, then items in order of
// digest, then the event stream, so that no two transactions wait for each other.
package storage
