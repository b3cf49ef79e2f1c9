package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"golang.org/x/mod/sumdb/tlog"
)

// sealing is the lock of whoever adds to the tree. It is not waited for: who has it may be frozen.
const sealing = "select pg_try_advisory_xact_lock(hashtextextended('tree', 0))"

// sealAtOnce bounds the events of one transaction of Seal.
const sealAtOnce = 5000

// Seal adds every event to the tree that is not in it yet and returns its
// head. Streams that are being written to just now are left for the next time,
// and everything is while another adds to the tree.
func (s *Store) Seal(ctx context.Context) (audit.Head, error) {
	for {
		added, err := s.seal(ctx)
		if err != nil || added < sealAtOnce {
			if err != nil {
				return audit.Head{}, err
			}
			return s.Head(ctx)
		}
	}
}

// unsealed is an event that is not in the tree.
type unsealed struct {
	Stream   string
	Sequence int64
	Hash     []byte
}

func (s *Store) seal(ctx context.Context) (added int, err error) {
	err = s.write(ctx, "adding events to the tree of the record", func(tx pgx.Tx) error {
		var alone bool
		if err := tx.QueryRow(ctx, sealing).Scan(&alone); err != nil || !alone {
			return err
		}
		events, err := collect(ctx, tx, pgx.RowToStructByPos[unsealed], "select stream, sequence, hash from unlogged_events($1)", sealAtOnce)
		if err != nil || len(events) == 0 {
			return err
		}
		added = len(events)
		return grow(ctx, tx, events)
	})
	return added, err
}

// grow adds leaves to the tree.
func grow(ctx context.Context, tx pgx.Tx, events []unsealed) error {
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
	rows, err := collect(ctx, q, pgx.RowTo[[]byte], `
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
		root, err := tlog.TreeHash(h.Size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return treeHashes(ctx, tx, indexes) }))
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

// TreeHeads are the signed heads in order of size.
func (s *Store) TreeHeads(ctx context.Context) ([]string, error) {
	notes, err := collect(ctx, s.pool, pgx.RowTo[string], `select note from tree_head order by size, note collate "C"`)
	return notes, fault(ctx, "reading the tree heads", err)
}

// NewestHead is the largest signed head, if there is one.
func (s *Store) NewestHead(ctx context.Context) (size int64, note string, found bool, err error) {
	err = s.pool.QueryRow(ctx, `select size, note from tree_head order by size desc, note collate "C" limit 1`).Scan(&size, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", false, nil
	}
	return size, note, err == nil, fault(ctx, "reading the newest tree head", err)
}

// Tell appends an event of its own, which tells of no row.
func (s *Store) Tell(ctx context.Context, stream, actor, typ string, body map[string]any) error {
	return s.write(ctx, "telling "+typ, func(tx pgx.Tx) error {
		return record(ctx, tx, subject{stream: stream}, actor, typ, body)
	})
}

// Told reports whether an event of a stream and a type holds a word.
func (s *Store) Told(ctx context.Context, stream, typ, word string) (told bool, err error) {
	err = s.pool.QueryRow(ctx, "select exists (select from event where stream = $1 and type = $2 and position($3::text in convert_from(body, 'UTF8')) > 0)", stream, typ, word).Scan(&told)
	return told, fault(ctx, "reading the events of "+stream, err)
}

// Proof shows that an event is in the tree as it was at a size, which a signed
// head has to have; NotFound "event_not_found", or Conflict "event_not_sealed" if the event is not in that tree.
func (s *Store) Proof(ctx context.Context, stream string, sequence, size int64) (audit.Proof, error) {
	p := audit.Proof{Schema: audit.ProofSchema}
	err := s.read(ctx, fmt.Sprintf("proving event %d of %s", sequence, stream), func(tx pgx.Tx) error {
		found, err := collect(ctx, tx, scanRecorded, selectRecorded+`where stream = $1 and sequence between $2 - 1 and $2 order by sequence`, stream, sequence)
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
	leaf, err := collect(ctx, tx, pgx.RowTo[int64], "select index from log_leaf where stream = $1 and sequence = $2", p.Event.Stream, p.Event.Sequence)
	if err != nil {
		return err
	}
	if len(leaf) == 0 || leaf[0] >= size {
		return trimtab.NewError(trimtab.Conflict, "event_not_sealed", "try again in a minute: a worker signs a head then",
			"event %d of %s is not under a signed head yet", p.Event.Sequence, p.Event.Stream)
	}
	p.Leaf = leaf[0]
	path, err := tlog.ProveRecord(size, p.Leaf, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return treeHashes(ctx, tx, indexes) }))
	for _, x := range path {
		p.Path = append(p.Path, audit.Hash(x))
	}
	return err
}

// Recorded are the newest events of a stream, or of all if it is empty, in
// order of time; limit 0 is all of them.
func (s *Store) Recorded(ctx context.Context, stream string, limit int) ([]Recorded, error) {
	found, err := collect(ctx, s.pool, scanRecorded, `select * from (`+selectRecorded+`
		where $1 = '' or stream = $1 order by at desc, stream desc, sequence desc limit nullif($2, 0)) newest order by at, stream, sequence`, stream, limit)
	return found, fault(ctx, "reading the record", err)
}

// Recorded is an event with its hash and its place in the tree.
type Recorded struct {
	Event audit.Event
	Hash  audit.Hash
}

const selectRecorded = "select stream, sequence, at, actor, type, stage, attempt, body, facts, hash from event "

func scanRecorded(row pgx.CollectableRow) (r Recorded, err error) {
	var hash []byte
	err = row.Scan(&r.Event.Stream, &r.Event.Sequence, &r.Event.At, &r.Event.Actor, &r.Event.Type, &r.Event.Stage, &r.Event.Attempt,
		&r.Event.Body, &r.Event.Facts, &hash)
	if len(hash) == len(r.Hash) { // else it is no event's hash
		copy(r.Hash[:], hash)
	}
	return r, err
}

// Reading is the record as it was at one instant, for whoever verifies it.
type Reading struct{ tx pgx.Tx }

// Reading runs f over the record at one instant.
func (s *Store) Reading(ctx context.Context, f func(r Reading) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return fault(ctx, "reading the record", pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		// Whoever reads may hash and read files in between for longer than a session may idle.
		if _, err := tx.Exec(ctx, "set local work_mem = '64MB'; set local idle_in_transaction_session_timeout = 0"); err != nil {
			return err
		}
		return f(Reading{tx})
	}))
}

// each calls f with every row of a query as it comes.
func (r Reading) each(ctx context.Context, f func(row pgx.Rows) error, sql string, args ...any) error {
	rows, err := r.tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Events calls f with every event in order of stream and sequence. What e holds is good until f returns.
func (r Reading) Events(ctx context.Context, f func(e *audit.Event, hash audit.Hash) error) error {
	var e audit.Event
	var at pgtype.Timestamptz
	var stream, actor, typ, stage, body, facts, digest pgtype.DriverBytes
	text := func(old string, b []byte) string { // most are as in the row before
		if old == string(b) {
			return old
		}
		return string(b)
	}
	return r.each(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&stream, &e.Sequence, &at, &actor, &typ, &stage, &e.Attempt, &body, &facts, &digest); err != nil {
			return err
		}
		e.Stream, e.Actor, e.Type, e.Stage = text(e.Stream, stream), text(e.Actor, actor), text(e.Type, typ), text(e.Stage, stage)
		e.At, e.Body, e.Facts = at.Time, body, facts
		var hash audit.Hash
		if len(digest) == len(hash) {
			copy(hash[:], digest)
		}
		return f(&e, hash)
	}, selectRecorded+`order by stream, sequence`)
}

// Leaves calls f with every leaf of the tree in order; found says whether its event is there.
func (r Reading) Leaves(ctx context.Context, f func(index int64, stream string, sequence int64, hash audit.Hash, found bool) error) error {
	var index, sequence int64
	var stream string
	var digest pgtype.DriverBytes
	return r.each(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&index, &stream, &sequence, &digest); err != nil {
			return err
		}
		var hash audit.Hash
		if len(digest) == len(hash) {
			copy(hash[:], digest)
		}
		return f(index, stream, sequence, hash, digest != nil)
	}, `select l.index, l.stream, l.sequence, e.hash from log_leaf l left join event e on e.stream = l.stream and e.sequence = l.sequence order by l.index`)
}

// InTree calls f with every event that is in the tree, in the order of its leaves. What e holds is good until f returns.
func (r Reading) InTree(ctx context.Context, f func(leaf int64, e *audit.Event, hash audit.Hash) error) error {
	return r.each(ctx, func(row pgx.Rows) error {
		var leaf int64
		var digest []byte
		var e audit.Event
		err := row.Scan(&leaf, &e.Stream, &e.Sequence, &e.At, &e.Actor, &e.Type, &e.Stage, &e.Attempt, &e.Body, &e.Facts, &digest)
		if err != nil {
			return err
		}
		var hash audit.Hash
		copy(hash[:], digest)
		return f(leaf, &e, hash)
	}, `select l.index, e.stream, e.sequence, e.at, e.actor, e.type, e.stage, e.attempt, e.body, e.facts, e.hash
		from log_leaf l join event e on e.stream = l.stream and e.sequence = l.sequence order by l.index`)
}

// Hashes calls f with every stored hash of the tree in order.
func (r Reading) Hashes(ctx context.Context, f func(index int64, hash []byte) error) error {
	var index int64
	var digest pgtype.DriverBytes
	return r.each(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&index, &digest); err != nil {
			return err
		}
		return f(index, digest)
	}, `select index, hash from log_hash order by index`)
}

// Stream is what stands about a stream beside its events.
type Stream struct {
	Name         string
	Head, Logged int64
	Hash         []byte
}

// Streams returns every stream in order of name.
func (r Reading) Streams(ctx context.Context) ([]Stream, error) {
	return collect(ctx, r.tx, pgx.RowToStructByPos[Stream], "select stream, head, logged, hash from event_stream order by stream")
}

// StreamsOfEvents names every stream that has an event.
func (r Reading) StreamsOfEvents(ctx context.Context) ([]string, error) {
	return collect(ctx, r.tx, pgx.RowTo[string], "select distinct stream from event order by 1")
}

// Models are the digests of all models in the record.
func (r Reading) Models(ctx context.Context) ([]string, error) {
	return collect(ctx, r.tx, pgx.RowTo[string], "select distinct digest::text from artifact order by 1")
}

// TreeHeads are the signed heads in order of size.
func (r Reading) TreeHeads(ctx context.Context) ([]SignedHead, error) {
	return collect(ctx, r.tx, pgx.RowToStructByPos[SignedHead], `select size, note from tree_head order by size, note collate "C"`)
}

// SignedHead is a row of tree_head.
type SignedHead struct {
	Size int64
	Note string
}

// Told is what an event said of rows, and what they are now.
type Told struct {
	Stream   string
	Sequence int64
	Type     string
	Stage    string
	Attempt  int
	Was, Is  []byte // lines
}

// Facts calls f with every event that told of rows, in order of stream and sequence.
func (r Reading) Facts(ctx context.Context, f func(t Told) error) error {
	aside, err := r.tx.Begin(ctx) // an event that is no JSON any more ends the query, not the reading
	if err != nil {
		return err
	}
	defer aside.Rollback(ctx)
	return Reading{aside}.each(ctx, func(row pgx.Rows) error {
		var t Told
		if err := row.Scan(&t.Stream, &t.Sequence, &t.Type, &t.Stage, &t.Attempt, &t.Was, &t.Is); err != nil {
			return err
		}
		return f(t)
	}, `select stream, sequence, type, stage, attempt, facts, convert_to(facts_of(stream, sequence, type, stage, attempt, body), 'UTF8')
		from event where facts <> '' order by stream, sequence`)
}

// Tables counts the rows of the tables that events tell of.
func (r Reading) Tables(ctx context.Context) (map[string]int64, error) {
	names, err := collect(ctx, r.tx, pgx.RowTo[string], `
		select p.proargtypes[0]::regtype::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where p.proname = 'row_bytes' and n.nspname = 'public' order by 1`)
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	for _, name := range names {
		var n int64
		if err := r.tx.QueryRow(ctx, "select count(*) from "+name).Scan(&n); err != nil {
			return nil, err
		}
		counts[strings.TrimPrefix(name, "public.")] = n
	}
	return counts, nil
}

// Strays names rows of which no event tells: items that are in no dataset, and versions that were never frozen.
func (r Reading) Strays(ctx context.Context) ([]string, error) {
	return collect(ctx, r.tx, pgx.RowTo[string], `
		select 'text_item ' || digest from text_item t where not exists (select from dataset_item i join dataset d on d.name = i.dataset where i.item = t.digest and d.kind = 'text')
		union all
		select 'prompt ' || digest from prompt t where not exists (select from dataset_item i join dataset d on d.name = i.dataset where i.item = t.digest and d.kind = 'prompts')
		union all
		select 'demonstration ' || digest from demonstration t where not exists (select from dataset_item i join dataset d on d.name = i.dataset where i.item = t.digest and d.kind = 'demonstrations')
		union all
		select 'ranking ' || digest from ranking t where not exists (select from dataset_item i join dataset d on d.name = i.dataset where i.item = t.digest and d.kind = 'rankings')
		union all
		select 'response ' || digest from response t where not exists (select from ranking_response p where p.response = t.digest)
		union all
		select 'ranking_response ' || ranking || ' ' || position from ranking_response p where not exists (select from ranking t where t.digest = p.ranking)
		union all
		select 'dataset_version ' || digest from dataset_version t where not exists (select from dataset_freeze f where f.version = t.digest)
		union all
		select 'dataset_version_item ' || version || ' ' || item from dataset_version_item t where not exists (select from dataset_version v where v.digest = t.version)
		union all
		select 'dataset_item ' || dataset || ' ' || item from dataset_item t where not exists (select from dataset d where d.name = t.dataset)
		order by 1`)
}

// Remains names erased rows that are not as the erasure left them.
func (r Reading) Remains(ctx context.Context) ([]string, error) {
	var parts []string
	for _, relation := range erasable {
		parts = append(parts, fmt.Sprintf(`select '%[1]s ' || e.digest from erasure e left join %[1]s t on t.digest = e.digest
			where e.relation = '%[1]s' and sha256(row_bytes(t)) is distinct from e.remains`, relation))
	}
	return collect(ctx, r.tx, pgx.RowTo[string], strings.Join(parts, " union all ")+" order by 1")
}
