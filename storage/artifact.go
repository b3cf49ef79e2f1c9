package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Artifact is a model in the content-addressed store, as one producer made
// it. The same bytes made twice are two artifacts with one digest.
type Artifact struct {
	Digest trimtab.Digest
	// Kind is "model" for a language model, "reward" for a reward model.
	Kind string
	Name string
	// Run, Stage and Attempt, an id, are the producer. For an imported artifact
	// they are empty and 0.
	Run, Stage string
	Attempt    int64
	// Parameters is the number of trained numbers.
	Parameters int64
	// CreatedAt is set by the database.
	CreatedAt time.Time
}

// minDigits is the shortest prefix of a digest, in hexadecimal digits, that
// may stand for the whole one.
const minDigits = 6

// PutArtifact records that an artifact exists and who made it; the files are
// the checkpoint store's. Recording the same again changes nothing. Another
// kind or number of parameters under the same digest is Verification
// "replay_diverged".
func (s *Store) PutArtifact(ctx context.Context, a Artifact, actor string) error {
	return s.write(ctx, "recording artifact "+a.Digest.Short(),
		func(tx pgx.Tx) error { return putArtifact(ctx, tx, a, actor) })
}

// PutArtifact is Store.PutArtifact by the holder of the lease.
func (l Lease) PutArtifact(ctx context.Context, a Artifact, actor string) error {
	return l.write(ctx, "recording artifact "+a.Digest.Short(),
		func(tx pgx.Tx, _ subject) error { return putArtifact(ctx, tx, a, actor) })
}

// putArtifact is PutArtifact in the caller's transaction. The check comes
// before the insert because the unique index is over digest, name and producer,
// and does not exclude a second kind.
func putArtifact(ctx context.Context, tx pgx.Tx, a Artifact, actor string) error {
	var differ int
	err := tx.QueryRow(ctx, "select count(*) from artifact where digest = $1 and (kind <> $2 or parameters <> $3)",
		a.Digest, a.Kind, a.Parameters).Scan(&differ)
	if err != nil {
		return err
	}
	// The number of parameters is a function of the bytes, so one of the two
	// records is wrong.
	if differ > 0 {
		return diverged("artifact %s is already stored with another kind or number of parameters", a.Digest.Short())
	}
	tag, err := tx.Exec(ctx, `
		insert into artifact (digest, kind, name, run, stage, attempt, parameters, actor)
		values ($1, $2, $3, nullif($4, ''), $5, nullif($6::bigint, 0), $7, $8) on conflict do nothing`,
		a.Digest, a.Kind, storableText(a.Name), a.Run, a.Stage, a.Attempt, a.Parameters, storableText(actor))
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	of, err := producer(ctx, tx, a)
	if err != nil {
		return err
	}
	return appendEvent(ctx, tx, of, actor, trimtab.EventArtifactMade,
		artifactMadeBody{Digest: a.Digest, Kind: a.Kind, Name: storableText(a.Name), Parameters: a.Parameters})
}

// producer is the subject of an artifact's event: the attempt that made it,
// or the artifact itself for an imported one.
func producer(ctx context.Context, tx pgx.Tx, a Artifact) (subject, error) {
	of := subject{stream: a.Run, stage: a.Stage}
	if a.Run == "" {
		of.stream = "artifact/" + string(a.Digest)
	}
	if a.Attempt == 0 {
		return of, nil
	}
	err := tx.QueryRow(ctx, "select number from attempt where id = $1", a.Attempt).Scan(&of.attempt)
	return of, err
}

// selectArtifact selects the fields of an Artifact in the order of the
// struct; a condition follows it.
const selectArtifact = `
	select a.digest, a.kind, a.name, coalesce(a.run, ''), a.stage, coalesce(a.attempt, 0), a.parameters, a.created_at
		from artifact a `

// Artifacts lists every artifact, newest first. An imported artifact whose
// name was moved to another one since is listed without a name.
func (s *Store) Artifacts(ctx context.Context) ([]Artifact, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact], selectArtifact+"order by a.id desc")
	if err != nil {
		return nil, wrapError(ctx, "listing artifacts", err)
	}
	moved, err := movedNames(ctx, s.pool)
	if err != nil {
		return nil, wrapError(ctx, "listing the names of artifacts", err)
	}
	for i, a := range rows {
		if a.Run != "" {
			continue
		}
		if moved[a.Name] == "" {
			moved[a.Name] = a.Digest // the newest of the name has it
		}
		if moved[a.Name] != a.Digest {
			rows[i].Name = ""
		}
	}
	return rows, nil
}

// ResolveArtifact finds the artifact that a person's reference means:
//
//	a digest, or a prefix of one with at least six digits
//	a name that was given by ImportArtifact
//	"run/stage": the output of the stage's newest attempt that has one
//
// Of several producers of one digest the first is returned, or, for
// run/stage, the attempt that made it there. A reference that fits two
// different artifacts is Usage "artifact_ambiguous"; one that fits none is
// NotFound "artifact_not_found".
func (s *Store) ResolveArtifact(ctx context.Context, ref string) (Artifact, error) {
	const doing = "finding artifact "
	if storableText(ref) != ref {
		// nothing stored has such a name
		return Artifact{}, notFound("artifact", ref, "list them with `trimtab model list`")
	}
	found, err := s.artifactsByDigest(ctx, ref)
	if err == nil {
		var named []Artifact
		if named, err = artifactsByName(ctx, s.pool, ref); len(found) == 0 {
			found = named
		} else if len(named) > 0 && named[0].Digest != found[0].Digest {
			return Artifact{}, trimtab.NewError(trimtab.Usage, "artifact_ambiguous",
				fmt.Sprintf("write %s or %s", named[0].Digest, found[0].Digest),
				"%q is the name of one model and a prefix of the digest of another", ref)
		}
	}
	if run, stage, ok := strings.Cut(ref, "/"); ok && err == nil && len(found) == 0 {
		found, err = s.artifactsOfStage(ctx, run, stage)
	}
	switch {
	case err != nil:
		return Artifact{}, wrapError(ctx, doing+ref, err)
	case len(found) == 0:
		return Artifact{}, notFound("artifact", ref, "list them with `trimtab model list`")
	}
	return found[0], nil
}

// artifactsByDigest finds artifacts by a prefix of their digest. A reference
// that cannot be one, because it is short or has other characters, finds
// none.
func (s *Store) artifactsByDigest(ctx context.Context, ref string) ([]Artifact, error) {
	digits := strings.TrimPrefix(ref, "sha256:")
	if len(digits) < minDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, nil
	}
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact],
		selectArtifact+"where starts_with(a.digest, 'sha256:' || $1) order by a.id", digits)
	for _, a := range found {
		if a.Digest != found[0].Digest {
			return nil, trimtab.NewError(trimtab.Usage, "artifact_ambiguous", "write more digits",
				"%q is a prefix of the digests of several artifacts", ref)
		}
	}
	return found, err
}

// artifactsByName finds the artifact that has a name now. A name belongs to
// one digest at a time; of its rows the one with that name comes first.
func artifactsByName(ctx context.Context, q querier, name string) ([]Artifact, error) {
	holder, err := nameOwner(ctx, q, name)
	if err != nil || holder == "" {
		return nil, err
	}
	return queryRows(ctx, q, pgx.RowToStructByPos[Artifact],
		selectArtifact+"where a.digest = $1 order by a.name <> $2, a.id", holder, name)
}

// artifactsOfStage finds the outputs of a stage, those of its newest attempt
// first. The output of a reused attempt was made by another attempt, so rows
// of this run are preferred and others accepted.
func (s *Store) artifactsOfStage(ctx context.Context, run, stage string) ([]Artifact, error) {
	id, err := s.findRun(ctx, run)
	if err != nil {
		return nil, err
	}
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact], selectArtifact+`
		join attempt_output o on o.digest = a.digest
		join attempt t on t.id = o.attempt
		where t.run = $1 and t.stage = $2
		order by t.id desc, o.position, coalesce(a.run, '') <> t.run or a.stage <> t.stage,
			a.run is null, a.id`, id, stage)
	if err != nil || len(found) > 0 {
		return found, err
	}
	return queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact],
		selectArtifact+"where a.run = $1 and a.stage = $2 order by a.id desc", id, stage)
}
