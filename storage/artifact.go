package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Artifact is a model in the content-addressed store, as one maker made it.
type Artifact struct {
	Digest     trimtab.Digest
	Kind       string // model, reward
	Name       string
	Run, Stage string // empty for an imported one
	Attempt    int64  // id; 0 for an imported one
	Parameters int64
	CreatedAt  time.Time // set by the database
}

// minDigits is the shortest beginning of a digest that may stand for it.
const minDigits = 6

// PutArtifact writes down that an artifact exists and who made it. The same
// again changes nothing; another kind or size under the same digest is "replay_diverged".
func (s *Store) PutArtifact(ctx context.Context, a Artifact, actor string) error {
	return s.write(ctx, "keeping artifact "+a.Digest.Short(),
		func(tx pgx.Tx) error { return putArtifact(ctx, tx, a, actor) })
}

func putArtifact(ctx context.Context, tx pgx.Tx, a Artifact, actor string) error {
	var differ int
	err := tx.QueryRow(ctx, "select count(*) from artifact where digest = $1 and (kind <> $2 or parameters <> $3)",
		a.Digest, a.Kind, a.Parameters).Scan(&differ)
	if err != nil {
		return err
	}
	if differ > 0 {
		return diverged("artifact %s is stored already with another kind or number of parameters", a.Digest.Short())
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
	return appendEvent(ctx, tx, of, actor, "artifact_made",
		map[string]any{"digest": a.Digest, "kind": a.Kind, "name": storableText(a.Name), "parameters": a.Parameters})
}

// producer is the attempt that made an artifact, or the artifact itself if no run did.
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

const selectArtifact = `
	select a.digest, a.kind, a.name, coalesce(a.run, ''), a.stage, coalesce(a.attempt, 0), a.parameters, a.created_at from artifact a `

// Artifacts lists every artifact, newest first. One whose name was moved to
// another is without a name.
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

// ResolveArtifact finds an artifact by its digest, by a beginning of it of six
// or more digits, by name (see ImportArtifact), or by "run/stage" (the output
// of the stage's newest attempt that has one). Of several makers of one digest
// the first is returned, or with run/stage the attempt that made it there. What
// may be two different artifacts is Usage "artifact_ambiguous".
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
				"%q is the name of one model and the beginning of the digest of another", ref)
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
				"%q is the beginning of several artifacts", ref)
		}
	}
	return found, err
}

// artifactsByName finds an artifact under the name that it has now, and only
// there: a name stands for one digest, whose rows come first made first.
func artifactsByName(ctx context.Context, q querier, name string) ([]Artifact, error) {
	holder, err := nameOwner(ctx, q, name)
	if err != nil || holder == "" {
		return nil, err
	}
	return queryRows(ctx, q, pgx.RowToStructByPos[Artifact],
		selectArtifact+"where a.digest = $1 order by a.name <> $2, a.id", holder, name)
}

// artifactsOfStage finds what a stage's attempts put out, the newest attempt first; a reused attempt puts out
// another's.
func (s *Store) artifactsOfStage(ctx context.Context, run, stage string) ([]Artifact, error) {
	id, err := s.findRun(ctx, run)
	if err != nil {
		return nil, err
	}
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact], selectArtifact+`
		join attempt_output o on o.digest = a.digest
		join attempt t on t.id = o.attempt
		where t.run = $1 and t.stage = $2
		order by t.id desc, o.position, coalesce(a.run, '') <> t.run or a.stage <> t.stage, a.run is null, a.id`, id, stage)
	if err != nil || len(found) > 0 {
		return found, err
	}
	return queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact],
		selectArtifact+"where a.run = $1 and a.stage = $2 order by a.id desc", id, stage)
}
