// Package audit states how the record can be checked, as pure functions: no
// database, no clock, no file.
//
// # Chains
//
// Events stand in streams, one for each run and each dataset, numbered 1, 2, 3
// …. The hash of an event is SHA-256 over these bytes:
//
//	trimtab event 1 and a newline
//	32 bytes     hash of the event before it in its stream; zeros for the first
//	field        stream
//	8 bytes      sequence
//	8 bytes      time in microseconds since 2000-01-01 00:00:00 UTC
//	field        actor
//	field        type
//	field        stage
//	4 bytes      number of the attempt, 0 for none
//	field        body, a JSON object
//	field        facts, a line for each table of which the event tells rows:
//	             its name, how many rows, and the hexadecimal SHA-256 of the
//	             concatenated SHA-256 of each row, in order of its key
//
// Numbers are two's complement, most significant byte first. A field is its
// length in 4 bytes and then its bytes. The same is done by event_hash in
// migrations/007_record.sql, which also says what the bytes of a row are.
//
// # Tree
//
// The hashes of all events are the records of one Merkle tree (RFC 9162, as
// golang.org/x/mod/sumdb/tlog computes it), in an order in which those of a
// stream stay in order. A head of the tree is a checkpoint as C2SP's
// tlog-checkpoint has it, an origin, a size and a root on a line each, signed
// as golang.org/x/mod/sumdb/note does. Whoever keeps one head outside the
// database can tell later whether anything under it was changed, taken out or
// put in, by whatever rights.
package audit
