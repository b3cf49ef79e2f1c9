package storage

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Producers lists the attempts that have d as an output, the oldest first:
// those that made it, and those that reuse it (ReusedFrom).
func (s *Store) Producers(ctx context.Context, d trimtab.Digest) ([]Attempt, error) {
	found, err := queryRows(ctx, s.pool, scanAttempt,
		selectAttempt+"where a.id in (select attempt from attempt_output where digest = $1) order by a.id", d)
	return found, wrapError(ctx, "finding who made "+d.Short(), err)
}

// Consumers lists the attempts of a kind that have d as an input, the oldest
// first.
func (s *Store) Consumers(ctx context.Context, d trimtab.Digest, kind string) ([]Attempt, error) {
	found, err := queryRows(ctx, s.pool, scanAttempt,
		selectAttempt+
			"where a.id in (select attempt from attempt_input where digest = $1) and a.kind = $2 order by a.id", d,
		kind)
	return found, wrapError(ctx, "finding who read "+d.Short(), err)
}

// ArtifactName is one of the names of an artifact, and who gave it.
type ArtifactName struct {
	Name       string
	Kind       string // model, reward
	Parameters int64
	Run        string // that made it; empty for an import
	Actor      string
	CreatedAt  time.Time
}

// NamesOf lists the names of an artifact, the oldest first, and none for a
// digest that is no artifact.
func (s *Store) NamesOf(ctx context.Context, d trimtab.Digest) ([]ArtifactName, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[ArtifactName],
		`select name, kind, parameters, coalesce(run, ''), actor, created_at
			from artifact where digest = $1 order by id`, d)
	return found, wrapError(ctx, "finding the names of "+d.Short(), err)
}

// PlanAt returns the plan in force when an attempt was created: the newest
// one of that time that has the stage with the attempt's config. It is empty
// if there is none.
func (s *Store) PlanAt(ctx context.Context, a Attempt) (trimtab.Plan, error) {
	plans, err := queryRows(ctx, s.pool, pgx.RowTo[[]byte],
		"select plan from run_plan where run = $1 and created_at <= $2 order by revision desc", a.Run, a.CreatedAt)
	if err != nil {
		return trimtab.Plan{}, wrapError(ctx, "reading the plans of run "+a.Run, err)
	}
	for _, raw := range plans {
		var p trimtab.Plan
		if err := json.Unmarshal(raw, &p); err != nil {
			return p, err
		}
		for _, st := range p.Stages {
			if st.Name == a.Stage && st.Config == a.Config {
				return p, nil
			}
		}
	}
	return trimtab.Plan{}, nil
}

// CheckpointProducer returns the id of the attempt of a stage that made a
// checkpoint, and 0 if none did.
func (s *Store) CheckpointProducer(ctx context.Context, run, stage string, d trimtab.Digest) (id int64, err error) {
	err = s.pool.QueryRow(ctx, `
		select c.attempt from attempt a join checkpoint c on c.attempt = a.id
		where a.run = $1 and a.stage = $2 and c.digest = $3 order by c.attempt limit 1`, run, stage, d).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return id, wrapError(ctx, "finding who made checkpoint "+d.Short(), err)
}

// DecisionRecord is what a person decided about an attempt.
type DecisionRecord struct {
	Decision string
	Reason   string
	Actor    string // who the person said they are
	Role     string // of the session that requested it; empty for an older build, which recorded no request
	At       time.Time
}

// Decisions lists what people decided about an attempt, in order. The role is
// that of the request that the decision names.
func (s *Store) Decisions(ctx context.Context, a Attempt) ([]DecisionRecord, error) {
	found, err := queryRows(ctx, s.pool, func(row pgx.CollectableRow) (d DecisionRecord, err error) {
		var body []byte
		if err := row.Scan(&body, &d.Actor, &d.Role, &d.At); err != nil {
			return d, err
		}
		var decoded struct {
			Decision string
			Details  struct{ Reason string }
		}
		err = json.Unmarshal(body, &decoded)
		d.Decision, d.Reason = decoded.Decision, decoded.Details.Reason
		return d, err
	}, `select d.body, d.actor, coalesce(r.actor, ''), d.at
		from event d left join event r on r.stream = d.stream and r.type = 'decision_requested' and r.stage = d.stage
			and r.sequence < d.sequence
			and r.sequence::text = convert_from(d.body, 'UTF8')::json ->> 'request'
		where d.stream = $1 and d.stage = $2 and d.attempt = $3 and d.type = 'decision' order by d.sequence`,
		a.Run, a.Stage, a.Number)
	return found, wrapError(ctx, "reading the decisions about "+a.Stage, err)
}

// DatasetOrigin is where the items of a dataset version come from.
type DatasetOrigin struct {
	Digest  trimtab.Digest
	Kind    trimtab.Kind
	Items   int // duplicates counted
	HeldOut int // of them, in the split test
	Pairs   int // comparisons that rankings imply
	// Names are the datasets that were frozen to the version, Imports the
	// additions of items to these that brought an item of it.
	Names   []FreezeEvent
	Imports []ImportEvent
	// The contributors: of rankings, of demonstrations, and of responses.
	Labellers     []LabellerCount
	Demonstrators []DemonstratorCount
	Samplers      []SamplerCount
}

// FreezeEvent is a dataset that was frozen to a version: who did it first,
// and when.
type FreezeEvent struct {
	Dataset   string
	Actor     string
	CreatedAt time.Time
}

// ImportEvent is one addition of items to a dataset.
type ImportEvent struct {
	Dataset  string
	Sequence int64 // of the event, in the dataset's stream
	Actor    string
	At       time.Time
	// Given counts the different items of the import, Added those of them that
	// were new in the dataset, and Items those of these that are in the version.
	Given int
	Added int
	Items int
	// Root is the Merkle root over the given items.
	Root trimtab.Digest
	// Files are the files that the items were read from, where recorded.
	Files []ImportedFile
}

// ImportedFile is a file that items were read from.
type ImportedFile struct {
	Name   string         `json:"name"` // without its folder
	Digest trimtab.Digest `json:"digest"`
	Bytes  int64          `json:"bytes"`
	Items  int            `json:"items"` // read from it
}

// LabellerCount is how many rankings of a version a labeller made under a
// guideline, and how many pairs of responses these compare.
type LabellerCount struct {
	Labeller, Guideline string
	Rankings, HeldOut   int
	Pairs               int
}

// DemonstratorCount is how many demonstrations of a version a person wrote.
type DemonstratorCount struct {
	Demonstrator   string
	Items, HeldOut int
}

// SamplerCount is how many responses of a version a model sampled.
type SamplerCount struct {
	Model     trimtab.Digest
	Responses int
}

// DatasetOrigin returns what the items of a dataset version are and who made
// them. It reports false for a digest that is no version.
func (s *Store) DatasetOrigin(ctx context.Context, d trimtab.Digest) (o DatasetOrigin, is bool, err error) {
	o.Digest = d
	err = s.read(ctx, "finding the origin of "+d.Short(), func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "select kind, items from dataset_version where digest = $1", d).Scan(&o.Kind, &o.Items)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		is = true
		if o.Names, err = queryRows(ctx, tx, pgx.RowToStructByPos[FreezeEvent], `
			select dataset, (array_agg(actor order by id))[1], min(created_at) from dataset_freeze
			where version = $1 group by dataset order by min(id)`, d); err != nil {
			return err
		}
		for _, n := range o.Names {
			events, err := importsInto(ctx, tx, n.Dataset, d)
			if err != nil {
				return err
			}
			o.Imports = append(o.Imports, events...)
		}
		return o.countContributors(ctx, tx)
	})
	return o, is, err
}

// importsInto finds the events that added items of a version to a dataset.
// The event after each names the files, if there were any.
func importsInto(ctx context.Context, tx pgx.Tx, dataset string, version trimtab.Digest) ([]ImportEvent, error) {
	return queryRows(ctx, tx, func(row pgx.CollectableRow) (e ImportEvent, err error) {
		e.Dataset = dataset
		var body, files []byte
		if err := row.Scan(&e.Sequence, &e.Actor, &e.At, &body, &e.Items, &files); err != nil {
			return e, err
		}
		var decoded itemsAddedBody
		if err := json.Unmarshal(body, &decoded); err != nil {
			return e, err
		}
		e.Added = decoded.Added
		e.Given = decoded.Given
		e.Root = decoded.Root
		e.Files, err = parseFiles(files)
		return e, err
	}, `
		select e.sequence, e.actor, e.at, e.body, count(*), f.body
		from dataset_version_item v
		join dataset_item i on i.dataset = $1 and i.item = v.item
		join event e on e.stream = 'dataset/' || $1 and e.sequence = i.event and e.type = 'items_added'
		left join event f on f.stream = e.stream and f.sequence = e.sequence + 1 and f.type = 'files_imported'
		where v.version = $2 group by e.sequence, e.actor, e.at, e.body, f.body order by e.sequence`, dataset, version)
}

// parseFiles reads the body of files_imported; nil has no files.
func parseFiles(body []byte) ([]ImportedFile, error) {
	if body == nil {
		return nil, nil
	}
	var decoded filesImportedBody
	err := json.Unmarshal(body, &decoded)
	return decoded.Files, err
}

// countContributors counts items by the people and models that made them.
func (o *DatasetOrigin) countContributors(ctx context.Context, tx pgx.Tx) (err error) {
	switch o.Kind {
	case trimtab.KindPrompts:
		return tx.QueryRow(ctx, `
			select coalesce(sum(v.copies) filter (where p.split = 'test'), 0)
			from dataset_version_item v join prompt p on p.digest = v.item where v.version = $1`,
			o.Digest).Scan(&o.HeldOut)
	case trimtab.KindDemonstrations:
		o.Demonstrators, err = queryRows(ctx, tx, pgx.RowToStructByPos[DemonstratorCount], `
			select d.demonstrator, sum(v.copies), coalesce(sum(v.copies) filter (where d.split = 'test'), 0)
			from dataset_version_item v join demonstration d on d.digest = v.item
			where v.version = $1 group by d.demonstrator order by d.demonstrator collate "C"`, o.Digest)
		for _, d := range o.Demonstrators {
			o.HeldOut += d.HeldOut
		}
	case trimtab.KindRankings:
		return o.countLabellers(ctx, tx)
	}
	return err
}

// countLabellers counts rankings by labeller and guideline, and responses by
// the model that sampled them.
func (o *DatasetOrigin) countLabellers(ctx context.Context, tx pgx.Tx) (err error) {
	if o.Labellers, err = queryRows(ctx, tx, pgx.RowToStructByPos[LabellerCount], `
		select r.labeller, r.guideline, sum(v.copies), coalesce(sum(v.copies) filter (where r.split = 'test'), 0),
			sum(v.copies * (select count(*) from comparison c where c.ranking = r.digest))
		from dataset_version_item v join ranking r on r.digest = v.item
		where v.version = $1 group by r.labeller, r.guideline 
		order by r.labeller collate "C", r.guideline collate "C"`, o.Digest); err != nil {
		return err
	}
	for _, l := range o.Labellers {
		o.HeldOut += l.HeldOut
		o.Pairs += l.Pairs
	}
	o.Samplers, err = queryRows(ctx, tx, pgx.RowToStructByPos[SamplerCount], `
		select r.model, sum(v.copies) from dataset_version_item v
		join ranking_response p on p.ranking = v.item join response r on r.digest = p.response
		where v.version = $1 and r.model <> '' group by r.model order by r.model collate "C"`, o.Digest)
	return err
}
