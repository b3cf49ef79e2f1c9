package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// nameStream is the prefix of the streams of names. A name belongs to one
// artifact: the first that is imported under it. When it moves to another, its
// stream gets an event:
//
//	name/NAME  model_named  {"before": …, "digest": …, "name": …}
//
// The newest such event says which artifact has the name. Without one it is the
// newest row of table artifact with that name.
const nameStream = "name/"

// ImportArtifact records an artifact that no run made and gives it a name. If
// another artifact has the name, the error is Conflict "name_taken", unless
// move is set: then the name moves, and before is the digest of the artifact
// that had it. The same import again changes nothing.
func (s *Store) ImportArtifact(ctx context.Context, a Artifact, move bool,
	actor string) (before trimtab.Digest, err error) {
	a.Name = storableText(a.Name)
	err = s.write(ctx, "importing artifact "+a.Digest.Short(), func(tx pgx.Tx) error {
		// Imports under one name take turns.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended($1, 0))",
			nameStream+a.Name); err != nil {
			return err
		}
		holder, err := nameOwner(ctx, tx, a.Name)
		if err != nil {
			return err
		}
		if taken := holder != "" && holder != a.Digest; taken && !move {
			return NameTaken(a.Name, holder)
		} else if taken {
			before = holder
		}
		if err := putArtifact(ctx, tx, a, actor); err != nil || before == "" {
			return err
		}
		return appendEvent(ctx, tx, subject{stream: nameStream + a.Name}, actor, trimtab.EventModelNamed,
			modelNamedBody{Before: before, Digest: a.Digest, Name: a.Name})
	})
	return before, err
}

// NameTaken is the error of giving a name that another artifact has.
func NameTaken(name string, holder trimtab.Digest) error {
	return trimtab.NewError(trimtab.Conflict, "name_taken", "choose another with --name, or move the name with --force",
		"naming a model %q: model %s has that name", name, holder.Short())
}

// NameOwner returns the digest of the artifact that has a name, empty if
// there is none.
func (s *Store) NameOwner(ctx context.Context, name string) (trimtab.Digest, error) {
	d, err := nameOwner(ctx, s.pool, storableText(name))
	return d, wrapError(ctx, fmt.Sprintf("finding the model named %q", name), err)
}

// nameOwner is NameOwner in a transaction, or outside of one.
func nameOwner(ctx context.Context, q querier, name string) (d trimtab.Digest, err error) {
	var body []byte
	err = q.QueryRow(ctx,
		"select body from event where stream = $1 and type = 'model_named' order by sequence desc limit 1",
		nameStream+name).Scan(&body)
	if err == nil {
		return bodyDigest(body)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return "", err
	}
	err = q.QueryRow(ctx, "select digest from artifact where name = $1 order by id desc limit 1", name).Scan(&d)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return d, err
}

// movedNames maps the names that were ever moved to the artifact that has
// them.
func movedNames(ctx context.Context, q querier) (map[string]trimtab.Digest, error) {
	bodies, err := queryRows(ctx, q, pgx.RowTo[[]byte], `
		select e.body from event_stream s
		cross join lateral (select body from event where stream = s.stream and type = 'model_named'
			order by sequence desc limit 1) e
		where starts_with(s.stream, $1)`, nameStream)
	if err != nil {
		return nil, err
	}
	moved := make(map[string]trimtab.Digest)
	for _, raw := range bodies {
		var b struct{ Name string }
		if err := json.Unmarshal(raw, &b); err != nil {
			return nil, err
		}
		if moved[b.Name], err = bodyDigest(raw); err != nil {
			return nil, err
		}
	}
	return moved, nil
}

// bodyDigest is the field digest of an event's body.
func bodyDigest(body []byte) (trimtab.Digest, error) {
	var b struct{ Digest trimtab.Digest }
	err := json.Unmarshal(body, &b)
	return b.Digest, err
}
