package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// References is everything in the database that refers to a file of a
// checkpoint store, as of one instant. Garbage collection keeps what it
// names.
type References struct {
	// Digests are all digests that a row, a plan, a spec, a document or an event
	// names, of artifacts and of anything else.
	Digests map[trimtab.Digest]bool
	// Pinned are the checkpoints that attempts which may be tried again began from.
	Pinned map[trimtab.Digest]bool
	// Attempts has every attempt by its id.
	Attempts map[int64]AttemptReferences
}

// AttemptReferences is what refers to the files of an attempt.
type AttemptReferences struct {
	Run, Stage string
	Number     int // within the stage
	// Open is set while the attempt has not ended.
	Open bool
	// Settled is set if it was completed, or reused, longer ago than asked.
	Settled bool
	// Checkpoints are the newest one if the attempt is settled, and otherwise
	// the newest two; and as many that were not reported as damaged.
	Checkpoints []trimtab.Digest
}

// References reads what the database refers to. A completed attempt that
// ended longer ago than settled needs only its newest checkpoint.
func (s *Store) References(ctx context.Context, settled time.Duration) (References, error) {
	r := References{Attempts: map[int64]AttemptReferences{}}
	err := s.read(ctx, "reading what the record points to", func(tx pgx.Tx) (err error) {
		if r.Digests, err = digestSet(ctx, tx, referencedDigestsQuery); err != nil {
			return err
		}
		if r.Pinned, err = digestSet(ctx, tx, `
			select a.from_checkpoint from attempt a join attempt_state s on s.attempt = a.id
			where a.from_checkpoint <> '' and s.status not in ('completed', 'reused')`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, attemptReferencesQuery, settled)
		if err != nil {
			return err
		}
		var id int64
		var a AttemptReferences
		_, err = pgx.ForEachRow(rows, []any{&id, &a.Run, &a.Stage, &a.Number, &a.Open, &a.Settled, &a.Checkpoints},
			func() error {
				r.Attempts[id] = a
				// The next row must not share a slice with the one in the map.
				a.Checkpoints = nil
				return nil
			})
		return err
	})
	return r, err
}

// referencedDigestsQuery selects every digest that a column or a text has,
// and whatever else follows "sha256:". It finds too many rather than too few.
// Commits, which are most of the events, are left out: the digests in them
// are those of checkpoints, which attemptReferencesQuery selects.
const referencedDigestsQuery = `
	select digest from artifact
	union select digest from attempt_input
	union select digest from attempt_output
	union select model from response where model <> ''
	union select 'sha256:' || left(part, 64) from (
		select spec::text as t from run
		union all select plan::text from run_plan
		union all select encode(body, 'escape') from document
		union all select encode(body, 'escape') from event where type <> 'steps_committed'
	) x cross join lateral unnest(string_to_array(x.t, 'sha256:')) with ordinality p (part, place)
	where place > 1`

// attemptReferencesQuery selects for each attempt the checkpoints to keep:
// the newest and, unless it is settled, one before it; and as many that were
// not reported as damaged.
const attemptReferencesQuery = `
	with damaged as (
		select stream, stage, attempt, convert_from(body, 'UTF8')::json->>'digest' as digest from event
			where type = 'checkpoint_damaged'
	), ranked as (
		select c.attempt, c.digest, d.digest is null as sound,
			row_number() over (partition by c.attempt order by c.step desc) as place,
			row_number() over (partition by c.attempt, d.digest is null order by c.step desc) as alike
		from checkpoint c join attempt a on a.id = c.attempt
		left join (select distinct * from damaged) d on d.stream = a.run and d.stage = a.stage
			and d.attempt = a.number and d.digest = c.digest)
	select a.id, a.run, a.stage, a.number, a.open, a.settled, coalesce(array_agg(r.digest::text order by r.place)
		filter (where r.place <= a.kept or r.sound and r.alike <= a.kept), '{}')
	from (select s.attempt as id, t.run, t.stage, t.number, s.status in ` + openStatuses + ` as open,
			x.settled, case when x.settled then 1 else 2 end as kept
		from attempt_state s join attempt t on t.id = s.attempt cross join lateral (
			select s.status in ('completed', 'reused')
				and s.ended_at < clock_timestamp() - $1::interval as settled) x) a
	left join ranked r on r.attempt = a.id group by a.id, a.run, a.stage, a.number, a.open, a.settled`

// digestSet is the set of the digests that a query returns.
func digestSet(ctx context.Context, q querier, sql string) (map[trimtab.Digest]bool, error) {
	all, err := queryRows(ctx, q, pgx.RowTo[trimtab.Digest], sql)
	set := make(map[trimtab.Digest]bool, len(all))
	for _, d := range all {
		set[d] = true
	}
	return set, err
}

// Identity identifies this database among all others: among those of the same
// server by its object id, and a copy on another server by the server's
// system identifier. A store of files records which databases use it.
func (s *Store) Identity(ctx context.Context) (string, error) {
	var system, database int64
	err := s.pool.QueryRow(ctx, `
		select c.system_identifier, d.oid::bigint from pg_control_system() c join pg_database d
			on d.datname = current_database()`).
		Scan(&system, &database)
	return fmt.Sprintf("%016x-%d", uint64(system), database), wrapError(ctx, "identifying the database", err)
}
