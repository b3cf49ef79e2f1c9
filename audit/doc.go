// Package audit defines how the record can be verified, as pure functions: no
// database, no clock, no file. Package storage reads the rows and events that
// are checked, and package notary signs and verifies.
//
// # Chains
//
// Events are in streams, one for each run and each dataset, numbered 1, 2, 3 ….
// The hash of an event is SHA-256 over these bytes:
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
//	field        facts, a line for each table of which the event records rows:
//	             its name, how many rows, and the hexadecimal SHA-256 of the
//	             concatenated SHA-256 of each row, in order of its key
//
// Numbers are two's complement, most significant byte first. A field is its
// length in 4 bytes and then its bytes. The SQL function event_hash in
// migrations/007_record.sql computes the same, and that file also defines the
// bytes of a row. Tests compare the two implementations.
//
// # Tree
//
// The hashes of all events are the records of one Merkle tree (RFC 9162, as
// golang.org/x/mod/sumdb/tlog computes it), in an order in which those of a
// stream stay in order. A head of the tree is a checkpoint as C2SP's
// tlog-checkpoint defines it, an origin, a size and a root on a line each,
// signed as golang.org/x/mod/sumdb/note does. A head that is kept outside of
// the database shows later whether anything under it was changed, removed or
// inserted, with whatever rights.
//
// # Proofs
//
// A Proof shows that one event is under a signed head, Proofs show where a
// model came from, and a Membership shows that an item is in a frozen dataset
// version. Each is a JSON document that can be checked without the database,
// with nothing but the verification key or the version's digest.
package audit
