// Package storage keeps the record of Trimtab in Postgres. It is the only
// package that speaks SQL; the tables are those of package migrations.
//
// # Rows
//
// There are three kinds of row:
//
//	facts        inserted once, never changed: run, attempt, metric, rollout,
//	             checkpoint, artifact, dataset items and versions, documents
//	projections  updated in place: run_state and attempt_state, each change of
//	             which an event records; fence and progress, which have no events
//	events       (stream, sequence, at, actor, type, stage, attempt, body),
//	             appended by the SQL function append_event in the transaction
//	             of the fact; body is the exact bytes of a JSON object
//
// A digest is stored as the text "sha256:…". Bytes are bytea; a text column
// beside them is for people and has what Postgres cannot store replaced.
//
// # Loads
//
// Many rows are written by COPY into a temporary staging table, and from there
// by insert … on conflict do nothing. Rows that were there already are
// compared, floating-point numbers by their bits: an equal repeat changes
// nothing, and a different one is the error "replay_diverged". So every write
// may be repeated after a fault whose outcome is unknown: the connection was
// lost, the process was killed, an activity was retried by Temporal.
//
// # Leases
//
// A worker takes an attempt by raising the token of its fence (Lease.Acquire),
// and every write of a worker is a method of its Lease. The write locks the
// row of the fence, compares the token, and keeps the lock until it commits.
// A worker that was thought dead, and is not, finds a higher token and gets the
// error "fenced": nothing that it computes can reach the record any more.
//
// Writes on behalf of a workflow, of a person or of an import need no lease and
// are methods of Store. They take turns by row locks and advisory locks.
//
// # Order of locks
//
// A transaction locks the dataset or the fence first, then the state of a run
// or attempt, then items in order of their digests, and the event stream last,
// so that no two transactions wait for each other.
//
// # Errors
//
// Errors are of type trimtab.Error wherever a caller can act on them. Their
// Type is stable and snake_case: "replay_diverged", "fenced", "run_not_found".
// Unavailable means that the database does not answer, or not now; activities
// are retried on it. Everything else is final.
//
// # Files
//
//	store, session, errors, migrate     connections, settings, errors, schema
//	event, event_body, tree             events, and the Merkle tree over them
//	run, replan, decision               runs, reruns, what people decide
//	fence, attempt, checkpoint,         attempts, as workers write them
//	metric, rollout, progress, log
//	load, import, item, dataset,        datasets: import, freeze, split, erase
//	split, sample, erase, document
//	artifact, name, evaluation          models and reports
//	lineage, trace, usage, series,      questions about what was made from what
//	reproduction, references
//	invariants                          what must hold of each run
//	snapshot, rows, recount,            what the audit reads
//	coverage, schema, catalog
package storage
