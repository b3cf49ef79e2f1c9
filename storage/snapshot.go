package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/trimtab/trimtab/audit"
)

// Snapshot is the record as it was at one instant, for whoever verifies it. It
// is read by plain selects from ordinary tables, named with their schema, and
// with Postgres's own types and operators: nothing that somebody defined in the database has a say in what is read.
type Snapshot struct{ tx pgx.Tx }

// snapshotSettings are those of a transaction that reads. Only pg_catalog is on its path. Whoever reads may hash and
// read files in between for longer than a session may idle. What is computed from a cursor is wanted whole.
const snapshotSettings = `
	set local search_path = pg_catalog, pg_temp;
	set local work_mem = '64MB';
	set local idle_in_transaction_session_timeout = 0;
	set local cursor_tuple_fraction = 1;
	set local quote_all_identifiers = off`

// Snapshot runs f over the record at one instant.
func (s *Store) Snapshot(ctx context.Context, f func(r Snapshot) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return wrapError(ctx, "reading the record", pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, snapshotSettings); err != nil {
			return err
		}
		return f(Snapshot{tx})
	}))
}

// Savepoint runs f so that an error of the database in it does not end the reading.
func (r Snapshot) Savepoint(ctx context.Context, f func(r Snapshot) error) error {
	return pgx.BeginFunc(ctx, r.tx, func(tx pgx.Tx) error { return f(Snapshot{tx}) })
}

// forEach calls f with every row of a query as it comes.
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

// Events calls f with every event in order of stream and sequence. What e holds is good until f returns.
func (r Snapshot) Events(ctx context.Context, f func(e *audit.Event, hash audit.Hash) error) error {
	var e audit.Event
	var at pgtype.Timestamptz
	var stream, actor, typ, stage, body, facts, digest pgtype.DriverBytes
	text := func(old string, b []byte) string { // most are as in the row before
		if old == string(b) {
			return old
		}
		return string(b)
	}
	return r.forEach(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&stream, &e.Sequence, &at, &actor, &typ, &stage, &e.Attempt, &body, &facts,
			&digest); err != nil {
			return err
		}
		e.Stream, e.Actor, e.Type, e.Stage = text(e.Stream, stream), text(e.Actor, actor), text(e.Type,
			typ), text(e.Stage, stage)
		e.At, e.Body, e.Facts = at.Time, body, facts
		var hash audit.Hash
		if len(digest) == len(hash) {
			copy(hash[:], digest)
		}
		return f(&e, hash)
	}, selectHashedEvent+`order by stream, sequence`)
}

// Leaf is a leaf of the tree: which event it is of.
type Leaf struct {
	Index    int64
	Stream   string
	Sequence int64
	Hash     audit.Hash
	At       time.Time // of the event
	Found    bool      // the event is there
}

// Leaves calls f with every leaf of the tree in order.
func (r Snapshot) Leaves(ctx context.Context, f func(l Leaf) error) error {
	var l Leaf
	var at pgtype.Timestamptz
	var digest pgtype.DriverBytes
	return r.forEach(ctx, func(row pgx.Rows) error {
		if err := row.Scan(&l.Index, &l.Stream, &l.Sequence, &at, &digest); err != nil {
			return err
		}
		l.Hash, l.At, l.Found = audit.Hash{}, at.Time, digest != nil
		if len(digest) == len(l.Hash) {
			copy(l.Hash[:], digest)
		}
		return f(l)
	}, `select l.index, l.stream, l.sequence, e.at, e.hash from only public.log_leaf l
		left join only public.event e on e.stream = l.stream and e.sequence = l.sequence order by l.index`)
}

// LoggedEvents calls f with every event that is in the tree, in the order of its leaves. What e holds is good until f
// returns.
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

// TreeHashes calls f with every stored hash of the tree in order.
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

// Stream is what stands about a stream beside its events.
type Stream struct {
	Name         string
	Head, Logged int64
	Hash         []byte
}

// Streams returns every stream in order of name.
func (r Snapshot) Streams(ctx context.Context) ([]Stream, error) {
	return queryRows(ctx, r.tx, pgx.RowToStructByPos[Stream],
		"select stream, head, logged, hash from only public.event_stream order by stream")
}

// ModelDigests are the digests of all models in the record.
func (r Snapshot) ModelDigests(ctx context.Context) ([]string, error) {
	return queryRows(ctx, r.tx, pgx.RowTo[string], "select distinct digest::text from only public.artifact order by 1")
}

// TreeHeads are the signed heads in order of size.
func (r Snapshot) TreeHeads(ctx context.Context) ([]SignedHead, error) {
	return queryRows(ctx, r.tx, pgx.RowToStructByPos[SignedHead], `select size, note from only public.tree_head order by size,
		note collate "C"`)
}

// SignedHead is a row of tree_head.
type SignedHead struct {
	Size int64
	Note string
}

// CountRows counts the rows of the tables that events tell of.
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

// orphansQuery are rows that several events may tell of and none does: items that are in no dataset, and versions that
// were
// never frozen.
const orphansQuery = `
	select 'text_item ' || digest::text from only public.text_item t where not exists (select from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text and d.kind = 'text')
	union all
	select 'prompt ' || digest::text from only public.prompt t where not exists (select from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text and d.kind = 'prompts')
	union all
	select 'demonstration ' || digest::text from only public.demonstration t where not exists (select
		from only public.dataset_item i
		join only public.dataset d on d.name = i.dataset where i.item::text = t.digest::text and d.kind = 'demonstrations')
	union all
	select 'ranking ' || digest::text from only public.ranking t where not exists (select from only public.dataset_item i
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

// Orphans calls f with the table and key of rows that several events may tell of, and none does.
func (r Snapshot) Orphans(ctx context.Context, f func(row string)) error {
	var name string
	return r.forEach(ctx, func(row pgx.Rows) error {
		err := row.Scan(&name)
		f(name)
		return err
	}, orphansQuery)
}

// staleSummariesQuery names versions whose counts for people are not what the migrations' summary_of counts now. A
// version
// with erased items or responses is left out: it was counted before, and what was erased cannot be counted any more.
const staleSummariesQuery = `
	select coalesce(v.digest, s.version)::text,
		case when v.digest is null then 'it is of no version' when s.version is null then 'it is not there' else 'it does not count what the version holds' end
	from only public.dataset_version v full join only public.dataset_summary s on s.version = v.digest
	where v.digest is null or not exists (
		select from only public.dataset_version_item i where i.version = v.digest and (i.item in (select e.digest from only public.erasure e)
			or exists (select from only public.ranking_response p join only public.erasure e on e.digest = p.response where p.ranking = i.item)))
		and (s.version is null or s is distinct from public.summary_of(v.digest))
	order by 1`

// StaleSummaries calls f with the version of a row of dataset_summary that is not what the version holds, and says how.
// It has the database count again, by a function that Schema holds against the migrations.
func (r Snapshot) StaleSummaries(ctx context.Context, f func(version, what string)) error {
	var version, what string
	return r.forEach(ctx, func(row pgx.Rows) error {
		err := row.Scan(&version, &what)
		f(version, what)
		return err
	}, staleSummariesQuery)
}

// CheckpointedAttempts are the attempts that have a checkpoint, with id, run, stage and number.
func (r Snapshot) CheckpointedAttempts(ctx context.Context) ([]Attempt, error) {
	return queryRows(ctx, r.tx, func(row pgx.CollectableRow) (a Attempt, err error) {
		err = row.Scan(&a.ID, &a.Run, &a.Stage, &a.Number)
		return a, err
	}, `select a.id, a.run, a.stage, a.number from only public.attempt a where exists (select from only public.checkpoint c
		where c.attempt = a.id) order by a.id`)
}
