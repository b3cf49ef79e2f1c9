package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/trimtab/trimtab/audit"
)

// Snapshot is the record as of one instant, read by the audit. It trusts
// nothing that could have been changed in the database: it selects from
// ordinary tables, named with their schema and without inheritance ("only
// public.…"), by types and operators of pg_catalog. No function, view or
// operator that somebody defined takes part.
type Snapshot struct{ tx pgx.Tx }

// snapshotSettings are the settings of the transaction of a Snapshot. Only
// pg_catalog is on the search path. The caller hashes rows and reads files in
// between, which takes longer than a session may be idle. Cursors are read to
// their end, so their plans are those for all rows.
const snapshotSettings = `
	set local search_path = pg_catalog, pg_temp;
	set local work_mem = '64MB';
	set local idle_in_transaction_session_timeout = 0;
	set local cursor_tuple_fraction = 1;
	set local quote_all_identifiers = off`

// Snapshot runs f over the record as of one instant. The transaction is
// repeatable read and read only.
func (s *Store) Snapshot(ctx context.Context, f func(r Snapshot) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return wrapError(ctx, "reading the record", pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		// "set local" ends with the transaction, so the pool's session is
		// unchanged.
		if _, err := tx.Exec(ctx, snapshotSettings); err != nil {
			return err
		}
		return f(Snapshot{tx})
	}))
}

// Savepoint runs f in a subtransaction, so that an error of the database in
// it does not end the snapshot: verification continues with its next part.
func (r Snapshot) Savepoint(ctx context.Context, f func(r Snapshot) error) error {
	return pgx.BeginFunc(ctx, r.tx, func(tx pgx.Tx) error { return f(Snapshot{tx}) })
}

// forEach calls f with every row of a query as it arrives.
func (r Snapshot) forEach(ctx context.Context, f func(row pgx.Rows) error, sql string, args ...any) error {
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

// Events calls f with every event and its stored hash, in order of stream and
// sequence. What e points to is valid until f returns.
func (r Snapshot) Events(ctx context.Context, f func(e *audit.Event, hash audit.Hash) error) error {
	var e audit.Event
	var at pgtype.Timestamptz
	var stream, actor, typ, stage, body, facts, digest pgtype.DriverBytes
	return r.forEach(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&stream, &e.Sequence, &at, &actor, &typ, &stage, &e.Attempt, &body, &facts,
			&digest); err != nil {
			return err
		}
		e.Stream = reuse(e.Stream, stream)
		e.Actor = reuse(e.Actor, actor)
		e.Type = reuse(e.Type, typ)
		e.Stage = reuse(e.Stage, stage)
		e.At, e.Body, e.Facts = at.Time, body, facts
		var hash audit.Hash
		if len(digest) == len(hash) {
			copy(hash[:], digest)
		}
		return f(&e, hash)
	}, selectHashedEvent+`order by stream, sequence`)
}

// reuse returns old if b has the same bytes, and otherwise a new string: most
// texts of an event are those of the row before it, and need no allocation.
func reuse[T ~string](old T, b []byte) T {
	if string(old) == string(b) {
		return old
	}
	return T(b)
}

// Leaf is a leaf of the Merkle tree: which event it stands for.
type Leaf struct {
	Index    int64 // from 0
	Stream   string
	Sequence int64
	Hash     audit.Hash // of the event
	At       time.Time  // of the event
	Found    bool       // the event is in the record
}

// Leaves calls f with every leaf of the tree in order. A leaf whose event is
// missing is not Found.
func (r Snapshot) Leaves(ctx context.Context, f func(l Leaf) error) error {
	var l Leaf
	var at pgtype.Timestamptz
	var digest pgtype.DriverBytes
	return r.forEach(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&l.Index, &l.Stream, &l.Sequence, &at, &digest); err != nil {
			return err
		}
		// A hash of another length cannot be compared and is left zero, which
		// verifies as wrong.
		l.Hash, l.At, l.Found = audit.Hash{}, at.Time, digest != nil
		if len(digest) == len(l.Hash) {
			copy(l.Hash[:], digest)
		}
		return f(l)
	}, `select l.index, l.stream, l.sequence, e.at, e.hash from only public.log_leaf l
		left join only public.event e on e.stream = l.stream and e.sequence = l.sequence order by l.index`)
}

// LoggedEvents calls f with every event that is in the tree, in the order of
// its leaves. What e points to is valid until f returns.
func (r Snapshot) LoggedEvents(ctx context.Context, f func(leaf int64, e *audit.Event, hash audit.Hash) error) error {
	return r.forEach(ctx, func(row pgx.Rows) error {
		var leaf int64
		var digest []byte
		var e audit.Event
		err := row.Scan(&leaf, &e.Stream, &e.Sequence, &e.At, &e.Actor, &e.Type, &e.Stage, &e.Attempt, &e.Body,
			&e.Facts, &digest)
		if err != nil {
			return err
		}
		var hash audit.Hash
		copy(hash[:], digest)
		return f(leaf, &e, hash)
	}, `select l.index, e.stream, e.sequence, e.at, e.actor, e.type, e.stage, e.attempt, e.body, e.facts, e.hash
		from only public.log_leaf l join only public.event e on e.stream = l.stream and e.sequence = l.sequence
			order by l.index`)
}

// TreeHashes calls f with every stored hash of the tree in the order of its
// index, as tlog numbers them.
func (r Snapshot) TreeHashes(ctx context.Context, f func(index int64, hash []byte) error) error {
	var index int64
	var digest pgtype.DriverBytes
	return r.forEach(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&index, &digest); err != nil {
			return err
		}
		return f(index, digest)
	}, `select index, hash from only public.log_hash order by index`)
}

// Stream is a row of event_stream: what append_event keeps of a stream, to
// chain the next event to it.
type Stream struct {
	Name string
	// Head is the sequence of the last event, Logged that of the last one that
	// is in the tree.
	Head, Logged int64
	// Hash is the hash of the last event.
	Hash []byte
}

// Streams returns every stream in order of name.
func (r Snapshot) Streams(ctx context.Context) ([]Stream, error) {
	return queryRows(ctx, r.tx, pgx.RowToStructByPos[Stream],
		"select stream, head, logged, hash from only public.event_stream order by stream")
}

// ModelDigests returns the digests of all models in the record.
func (r Snapshot) ModelDigests(ctx context.Context) ([]string, error) {
	return queryRows(ctx, r.tx, pgx.RowTo[string], "select distinct digest::text from only public.artifact order by 1")
}

// TreeHeads returns the signed heads in order of size.
func (r Snapshot) TreeHeads(ctx context.Context) ([]SignedHead, error) {
	return queryRows(ctx, r.tx, pgx.RowToStructByPos[SignedHead], `
		select size, note from only public.tree_head order by size, note collate "C"`)
}

// SignedHead is a row of tree_head: a signed note and the size that it says.
type SignedHead struct {
	Size int64
	Note string
}

// CountRows counts the rows of each audited table.
func (r Snapshot) CountRows(ctx context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	for _, t := range audit.Tables {
		var n int64
		if err := r.tx.QueryRow(ctx, "select count(*) from only public."+t.Name).Scan(&n); err != nil {
			return nil, err
		}
		counts[t.Name] = n
	}
	return counts, nil
}

// orphansQuery selects rows that no event records, of tables whose rows
// several events may record: items that are in no dataset, versions that were
// never frozen, and what belongs to such rows. For other tables the number of
// rows is compared with the sum of what events record.
const orphansQuery = `
	select 'text_item ' || digest::text from only public.text_item t where not exists (select
		from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text and d.kind = 'text')
	union all
	select 'prompt ' || digest::text from only public.prompt t where not exists (select from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text and d.kind = 'prompts')
	union all
	select 'demonstration ' || digest::text from only public.demonstration t where not exists (select
		from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text
			and d.kind = 'demonstrations')
	union all
	select 'ranking ' || digest::text from only public.ranking t where not exists (select
		from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text and d.kind = 'rankings')
	union all
	select 'response ' || digest::text from only public.response t
	where not exists (select from only public.ranking_response p where p.response::text = t.digest::text)
	union all
	select 'ranking_response ' || ranking::text || ' ' || position::text from only public.ranking_response p
	where not exists (select from only public.ranking t where t.digest::text = p.ranking::text)
	union all
	select 'dataset_version ' || digest::text from only public.dataset_version t
	where not exists (select from only public.dataset_freeze f where f.version::text = t.digest::text)
	union all
	select 'dataset_version_item ' || version::text || ' ' || item::text from only public.dataset_version_item t
	where not exists (select from only public.dataset_version v where v.digest::text = t.version::text)
	union all
	select 'dataset_item ' || dataset || ' ' || item::text from only public.dataset_item t
	where not exists (select from only public.dataset d where d.name = t.dataset)
	order by 1`

// Orphans calls f with the table and key of each unreferenced row; see
// orphansQuery.
func (r Snapshot) Orphans(ctx context.Context, f func(row string)) error {
	var name string
	return r.forEach(ctx, func(row pgx.Rows) error {
		err := row.Scan(&name)
		f(name)
		return err
	}, orphansQuery)
}

// staleSummariesQuery selects versions whose stored counts differ from what
// the migrations' function summary_of computes now. A version with erased
// items or responses is left out: it was counted before, and what was erased
// cannot be counted again.
const staleSummariesQuery = `
	select coalesce(v.digest, s.version)::text,
		case when v.digest is null then 'it is of no version' when s.version is null then 'it is not there'
			else 'it does not count what the version holds' end
	from only public.dataset_version v full join only public.dataset_summary s on s.version = v.digest
	where v.digest is null or not exists (
		select from only public.dataset_version_item i where i.version = v.digest and (i.item in (select e.digest
			from only public.erasure e)
			or exists (select from only public.ranking_response p join only public.erasure e on e.digest = p.response
				where p.ranking = i.item)))
		and (s.version is null or s is distinct from public.summary_of(v.digest))
	order by 1`

// StaleSummaries calls f with the version and the error of each row of
// dataset_summary that does not count what the version has. This is the only
// check that has the database compute something; Snapshot.Schema
// compares the function with the migrations.
func (r Snapshot) StaleSummaries(ctx context.Context, f func(version, what string)) error {
	var version, what string
	return r.forEach(ctx, func(row pgx.Rows) error {
		err := row.Scan(&version, &what)
		f(version, what)
		return err
	}, staleSummariesQuery)
}

// CheckpointedAttempts returns the attempts that have a checkpoint, with only
// id, run, stage and number set.
func (r Snapshot) CheckpointedAttempts(ctx context.Context) ([]Attempt, error) {
	return queryRows(ctx, r.tx, func(row pgx.CollectableRow) (a Attempt, err error) {
		err = row.Scan(&a.ID, &a.Run, &a.Stage, &a.Number)
		return a, err
	}, `select a.id, a.run, a.stage, a.number from only public.attempt a
		where exists (select from only public.checkpoint c where c.attempt = a.id) order by a.id`)
}
