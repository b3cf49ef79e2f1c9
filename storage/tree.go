package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"golang.org/x/mod/sumdb/tlog"
)

// sealLockQuery takes the lock of the process that adds to the tree, if it is
// free. Nobody waits for it: its holder may be suspended for long.
const sealLockQuery = "select pg_try_advisory_xact_lock(hashtextextended('tree', 0))"

// sealBatch is the largest number of events that one transaction adds.
const sealBatch = 5000

// Seal adds every event that is not in the tree yet and returns the head of
// the tree. Streams that a transaction is writing to are left for the next
// call, and so is everything while another process adds to the tree.
func (s *Store) Seal(ctx context.Context) (audit.Head, error) {
	for {
		added, err := s.seal(ctx)
		if err != nil || added < sealBatch {
			if err != nil {
				return audit.Head{}, err
			}
			return s.Head(ctx)
		}
	}
}

// unsealedEvent is an event that is not in the tree.
type unsealedEvent struct {
	Stream   string
	Sequence int64
	Hash     []byte
}

// seal adds one batch of events in a transaction and returns their number.
func (s *Store) seal(ctx context.Context) (added int, err error) {
	err = s.write(ctx, "adding events to the tree of the record", func(tx pgx.Tx) error {
		var alone bool
		// Without the lock there is nothing to do: its holder adds these
		// events.
		if err := tx.QueryRow(ctx, sealLockQuery).Scan(&alone); err != nil || !alone {
			return err
		}
		events, err := queryRows(ctx, tx, pgx.RowToStructByPos[unsealedEvent],
			"select stream, sequence, hash from unlogged_events($1)", sealBatch)
		if err != nil || len(events) == 0 {
			return err
		}
		added = len(events)
		return appendLeaves(ctx, tx, events)
	})
	return added, err
}

// appendLeaves adds leaves to the tree, and the hashes of the subtrees that
// they complete. Only the right edge of the tree is read: the roots of the
// complete subtrees that it consists of (RFC 9162, section 2.1).
func appendLeaves(ctx context.Context, tx pgx.Tx, events []unsealedEvent) error {
	size, err := treeSize(ctx, tx)
	if err != nil {
		return err
	}
	// known has what is read of the tree and, in turn, what is added to it:
	// tlog asks for both.
	known := map[int64]tlog.Hash{} // what is read of the tree, and what is new
	if err := frontier(ctx, tx, size, known); err != nil {
		return err
	}
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			h, ok := known[x]
			if !ok {
				return nil, fmt.Errorf("hash %d of the tree is not on its right edge", x)
			}
			hashes[i] = h
		}
		return hashes, nil
	})
	var streams []string
	var sequences []int64
	var hashes [][]byte
	// Hashes are stored in the order in which tlog numbers them.
	first := tlog.StoredHashCount(size)
	for i, e := range events {
		complete, err := tlog.StoredHashesForRecordHash(size+int64(i), audit.Leaf(audit.Hash(e.Hash)), reader)
		if err != nil {
			return err
		}
		for _, h := range complete {
			known[first+int64(len(hashes))] = h
			hashes = append(hashes, slices.Clone(h[:]))
		}
		streams, sequences = append(streams, e.Stream), append(sequences, e.Sequence)
	}
	_, err = tx.Exec(ctx, "select add_leaves($1, $2, $3, $4, $5)", streams, sequences, size, hashes, first)
	return err
}

// treeSize is the number of leaves.
func treeSize(ctx context.Context, q querier) (size int64, err error) {
	err = q.QueryRow(ctx, "select coalesce(max(index) + 1, 0) from log_leaf").Scan(&size)
	return size, err
}

// frontier reads the roots of the complete subtrees of which a tree of that
// size consists, into a map by their index.
func frontier(ctx context.Context, q querier, size int64, into map[int64]tlog.Hash) error {
	if size == 0 {
		return nil
	}
	_, err := tlog.TreeHash(size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := treeHashes(ctx, q, indexes)
		for i, h := range hashes {
			into[indexes[i]] = h
		}
		return hashes, err
	}))
	return err
}

// treeHashes reads hashes of the tree in the order of their indexes.
func treeHashes(ctx context.Context, q querier, indexes []int64) ([]tlog.Hash, error) {
	rows, err := queryRows(ctx, q, pgx.RowTo[[]byte], `
		select h.hash from unnest($1::bigint[]) with ordinality as want (index, n) join log_hash h using (index)
			order by n`, indexes)
	if err != nil {
		return nil, err
	}
	hashes := make([]tlog.Hash, len(rows))
	for i, r := range rows {
		if len(r) != len(hashes[i]) {
			return nil, fmt.Errorf("hash %d of the tree has %d bytes", indexes[i], len(r))
		}
		copy(hashes[i][:], r)
	}
	if len(hashes) != len(indexes) {
		return nil, fmt.Errorf("the tree lacks %d of %d hashes", len(indexes)-len(hashes), len(indexes))
	}
	return hashes, nil
}

// Head returns the current head of the tree, unsigned.
func (s *Store) Head(ctx context.Context) (h audit.Head, err error) {
	err = s.read(ctx, "reading the tree of the record", func(tx pgx.Tx) error {
		if h.Size, err = treeSize(ctx, tx); err != nil || h.Size == 0 {
			return err
		}
		root, err := tlog.TreeHash(h.Size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash,
			error) {
			return treeHashes(ctx, tx, indexes)
		}))
		h.Root = audit.Hash(root)
		return err
	})
	return h, err
}

// PutTreeHead stores a signed head. Storing the same again changes nothing.
func (s *Store) PutTreeHead(ctx context.Context, size int64, note string) error {
	return s.write(ctx, "storing a tree head", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into tree_head (size, note) values ($1, $2) on conflict do nothing", size, note)
		return err
	})
}

// NewestHead returns the signed head of the largest tree, if there is one.
func (s *Store) NewestHead(ctx context.Context) (size int64, note string, found bool, err error) {
	err = s.pool.QueryRow(ctx,
		`select size, note from tree_head order by size desc, note collate "C" limit 1`).Scan(&size, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", false, nil
	}
	return size, note, err == nil, wrapError(ctx, "reading the newest tree head", err)
}

// RecordEvent appends an event on its own: it seals no row.
func (s *Store) RecordEvent(ctx context.Context, stream, actor string, typ trimtab.EventType,
	body map[string]any) error {
	return s.write(ctx, "recording "+string(typ), func(tx pgx.Tx) error {
		return appendEvent(ctx, tx, subject{stream: stream}, actor, typ, body)
	})
}

// HasEvent reports whether the stream has an event of a type whose body
// contains a word.
func (s *Store) HasEvent(ctx context.Context, stream string, typ trimtab.EventType,
	word string) (found bool, err error) {
	err = s.pool.QueryRow(ctx,
		"select exists (select from event where stream = $1 and type = $2 and position($3::text in "+
			"convert_from(body, 'UTF8')) > 0)", stream, typ, word).Scan(&found)
	return found, wrapError(ctx, "reading the events of "+stream, err)
}

// Proof proves that an event is in the tree of a size, which a signed head
// has to have; the caller adds the head. An event that does not exist is
// NotFound "event_not_found", and one that is not in that tree Conflict
// "event_not_sealed".
func (s *Store) Proof(ctx context.Context, stream string, sequence, size int64) (audit.Proof, error) {
	p := audit.Proof{Schema: audit.ProofSchema}
	err := s.read(ctx, fmt.Sprintf("proving event %d of %s", sequence, stream), func(tx pgx.Tx) error {
		// The event before it is read as well, for its hash.
		found, err := queryRows(ctx, tx, scanHashedEvent, selectHashedEvent+
			`where stream = $1 and sequence between $2 - 1 and $2 order by sequence`, stream, sequence)
		if err != nil {
			return err
		}
		if len(found) == 0 || found[len(found)-1].Event.Sequence != sequence {
			return notFound("event", fmt.Sprintf("%s %d", stream, sequence), "list them with `trimtab audit log`")
		}
		p.Event = found[len(found)-1].Event
		if len(found) == 2 {
			p.Previous = found[0].Hash
		}
		return provePath(ctx, tx, &p, size)
	})
	return p, err
}

// provePath adds the audit path of the proof's event.
func provePath(ctx context.Context, tx pgx.Tx, p *audit.Proof, size int64) error {
	leaf, err := queryRows(ctx, tx, pgx.RowTo[int64], "select index from log_leaf where stream = $1 and sequence = $2",
		p.Event.Stream, p.Event.Sequence)
	if err != nil {
		return err
	}
	// The head is signed for a size; later leaves are not under it.
	if len(leaf) == 0 || leaf[0] >= size {
		return trimtab.NewError(trimtab.Conflict, "event_not_sealed",
			"try again in a minute: a worker signs a head then",
			"event %d of %s is not under a signed head yet", p.Event.Sequence, p.Event.Stream)
	}
	p.Leaf = leaf[0]
	path, err := tlog.ProveRecord(size, p.Leaf, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash,
		error) {
		return treeHashes(ctx, tx, indexes)
	}))
	for _, x := range path {
		p.Path = append(p.Path, audit.Hash(x))
	}
	return err
}

// NewestEvents returns the newest events of a stream, or of all streams if it
// is empty, in order of time; limit 0 is all of them.
func (s *Store) NewestEvents(ctx context.Context, stream string, limit int) ([]HashedEvent, error) {
	found, err := queryRows(ctx, s.pool, scanHashedEvent, `select * from (`+selectHashedEvent+`
		where $1 = '' or stream = $1 order by at desc, stream desc, sequence desc limit nullif($2, 0)) newest
			order by at, stream, sequence`, stream, limit)
	return found, wrapError(ctx, "reading the record", err)
}

// HashedEvent is an event with its stored hash.
type HashedEvent struct {
	Event audit.Event
	Hash  audit.Hash
}

// selectHashedEvent selects the columns of a HashedEvent; it reads the table
// itself, by its schema, since the audit uses it.
const selectHashedEvent = "select stream, sequence, at, actor, type, stage, attempt, body, facts, hash from only " +
	"public.event "

// scanHashedEvent reads a row of selectHashedEvent.
func scanHashedEvent(row pgx.CollectableRow) (r HashedEvent, err error) {
	var hash []byte
	err = row.Scan(&r.Event.Stream, &r.Event.Sequence, &r.Event.At, &r.Event.Actor, &r.Event.Type, &r.Event.Stage,
		&r.Event.Attempt,
		&r.Event.Body, &r.Event.Facts, &hash)
	if len(hash) == len(r.Hash) { // else it is no event's hash
		copy(r.Hash[:], hash)
	}
	return r, err
}
