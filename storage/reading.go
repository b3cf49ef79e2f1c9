package storage

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/trimtab/trimtab/audit"
)

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
