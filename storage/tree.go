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

// sealLockQuery is the lock of whoever adds to the tree. It is not waited for: who has it may be frozen.
const sealLockQuery = "select pg_try_advisory_xact_lock(hashtextextended('tree', 0))"

// sealBatch bounds the events of one transaction of Seal.
const sealBatch = 5000

// Seal adds every event to the tree that is not in it yet and returns its
// head. Streams that are being written to just now are left for the next time,
// and everything is while another adds to the tree.
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

func (s *Store) seal(ctx context.Context) (added int, err error) {
	err = s.write(ctx, "adding events to the tree of the record", func(tx pgx.Tx) error {
		var alone bool
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

// appendLeaves adds leaves to the tree.
func appendLeaves(ctx context.Context, tx pgx.Tx, events []unsealedEvent) error {
	size, err := treeSize(ctx, tx)
	if err != nil {
		return err
	}
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

func treeSize(ctx context.Context, q querier) (size int64, err error) {
	err = q.QueryRow(ctx, "select coalesce(max(index) + 1, 0) from log_leaf").Scan(&size)
	return size, err
}

// frontier reads the roots of the whole subtrees of which a tree of that size consists.
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

// treeHashes reads hashes of the tree by their indexes.
func treeHashes(ctx context.Context, q querier, indexes []int64) ([]tlog.Hash, error) {
	rows, err := queryRows(ctx, q, pgx.RowTo[[]byte], `
		select h.hash from unnest($1::bigint[]) with ordinality as want (index, n) join log_hash h using (index) order by n`, indexes)
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

// Head is the head of the tree as it is now.
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

// PutTreeHead keeps a signed head; the same again changes nothing.
func (s *Store) PutTreeHead(ctx context.Context, size int64, note string) error {
	return s.write(ctx, "keeping a tree head", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into tree_head (size, note) values ($1, $2) on conflict do nothing", size, note)
		return err
	})
}

// NewestHead is the largest signed head, if there is one.
func (s *Store) NewestHead(ctx context.Context) (size int64, note string, found bool, err error) {
	err = s.pool.QueryRow(ctx,
		`select size, note from tree_head order by size desc, note collate "C" limit 1`).Scan(&size, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", false, nil
	}
	return size, note, err == nil, wrapError(ctx, "reading the newest tree head", err)
}

// RecordEvent appends an event of its own, which tells of no row.
func (s *Store) RecordEvent(ctx context.Context, stream, actor, typ string, body map[string]any) error {
	return s.write(ctx, "telling "+typ, func(tx pgx.Tx) error {
		return appendEvent(ctx, tx, subject{stream: stream}, actor, typ, body)
	})
}

// HasEvent reports whether an event of a stream and a type holds a word.
func (s *Store) HasEvent(ctx context.Context, stream, typ, word string) (told bool, err error) {
	err = s.pool.QueryRow(ctx,
		"select exists (select from event where stream = $1 and type = $2 and position($3::text in "+
			"convert_from(body, 'UTF8')) > 0)", stream, typ, word).Scan(&told)
	return told, wrapError(ctx, "reading the events of "+stream, err)
}

// Proof shows that an event is in the tree as it was at a size, which a signed
// head has to have; NotFound "event_not_found", or Conflict "event_not_sealed" if the event is not in that tree.
func (s *Store) Proof(ctx context.Context, stream string, sequence, size int64) (audit.Proof, error) {
	p := audit.Proof{Schema: audit.ProofSchema}
	err := s.read(ctx, fmt.Sprintf("proving event %d of %s", sequence, stream), func(tx pgx.Tx) error {
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

func provePath(ctx context.Context, tx pgx.Tx, p *audit.Proof, size int64) error {
	leaf, err := queryRows(ctx, tx, pgx.RowTo[int64], "select index from log_leaf where stream = $1 and sequence = $2",
		p.Event.Stream, p.Event.Sequence)
	if err != nil {
		return err
	}
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

// NewestEvents are the newest events of a stream, or of all if it is empty, in
// order of time; limit 0 is all of them.
func (s *Store) NewestEvents(ctx context.Context, stream string, limit int) ([]HashedEvent, error) {
	found, err := queryRows(ctx, s.pool, scanHashedEvent, `select * from (`+selectHashedEvent+`
		where $1 = '' or stream = $1 order by at desc, stream desc, sequence desc limit nullif($2, 0)) newest order by at, stream, sequence`, stream, limit)
	return found, wrapError(ctx, "reading the record", err)
}

// NewestEvents is an event with its hash and its place in the tree.
type HashedEvent struct {
	Event audit.Event
	Hash  audit.Hash
}

const selectHashedEvent = "select stream, sequence, at, actor, type, stage, attempt, body, facts, hash from only " +
	"public.event "

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
