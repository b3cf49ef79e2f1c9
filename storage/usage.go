package storage

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// VersionUsage is a dataset version that contains something of interest, and
// how many of its items do.
type VersionUsage struct {
	Version trimtab.Digest
	Dataset string // the dataset that was frozen to it first
	Kind    trimtab.Kind
	Items   int // of interest, duplicates counted
	HeldOut int // of them, in the split test
}

// versionUsage completes a query for a list of VersionUsage. with selects
// version, item, copies and split of the items of interest.
func (s *Store) versionUsage(ctx context.Context, doing, with string, args ...any) ([]VersionUsage, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[VersionUsage], `
		with held as (`+with+`)
		select h.version, (select dataset from dataset_freeze f where f.version = h.version order by id
			limit 1), v.kind,
			sum(h.copies), coalesce(sum(h.copies) filter (where h.split = 'test'), 0)
		from held h join dataset_version v on v.digest = h.version
		group by h.version, v.kind order by (select min(id) from dataset_freeze f
			where f.version = h.version), h.version`, args...)
	return found, wrapError(ctx, doing, err)
}

// VersionsWithItem lists the versions that contain an item.
func (s *Store) VersionsWithItem(ctx context.Context, item trimtab.Digest) ([]VersionUsage, error) {
	return s.versionUsage(ctx, "finding where item "+item.Short()+" is", `
		select v.version, v.item, v.copies, coalesce(p.split, d.split, r.split, '') as split
		from dataset_version_item v
		left join prompt p on p.digest = v.item left join demonstration d on d.digest = v.item left join ranking r
			on r.digest = v.item
		where v.item = $1`, item)
}

// VersionsByLabeller lists the versions with rankings by a labeller.
func (s *Store) VersionsByLabeller(ctx context.Context, name string) ([]VersionUsage, error) {
	return s.versionUsage(ctx, "finding the rankings of "+name, `
		select v.version, v.item, v.copies, r.split from ranking r join dataset_version_item v on v.item = r.digest
			where r.labeller = $1`, name)
}

// VersionsByDemonstrator lists the versions with demonstrations by a person.
func (s *Store) VersionsByDemonstrator(ctx context.Context, name string) ([]VersionUsage, error) {
	return s.versionUsage(ctx, "finding the demonstrations of "+name, `
		select v.version, v.item, v.copies, d.split from demonstration d join dataset_version_item v
			on v.item = d.digest where d.demonstrator = $1`, name)
}

// VersionsBySampler lists the versions with rankings of responses that a
// model sampled.
func (s *Store) VersionsBySampler(ctx context.Context, model trimtab.Digest) ([]VersionUsage, error) {
	return s.versionUsage(ctx, "finding the samples of "+model.Short(), `
		select v.version, v.item, v.copies, r.split from dataset_version_item v join ranking r on r.digest = v.item
		where v.item in (select p.ranking from ranking_response p join response x on x.digest = p.response
			where x.model = $1)`, string(model))
}

// VersionsFromFile lists the versions with items that were imported from a
// file. Files that were imported together are one import, since the record
// does not say which item came from which of them.
func (s *Store) VersionsFromFile(ctx context.Context, file trimtab.Digest) ([]VersionUsage, error) {
	return s.versionUsage(ctx, "finding what came of file "+file.Short(), `
		select distinct v.version, v.item, v.copies, coalesce(p.split, d.split, r.split, '') as split
		from dataset t
		join event e on e.stream = 'dataset/' || t.name and e.type = 'files_imported'
			and position(convert_to($1, 'UTF8') in e.body) > 0
		join dataset_item i on i.dataset = t.name and i.event = e.sequence - 1
		join (select distinct dataset, version from dataset_freeze) f on f.dataset = t.name
		join dataset_version_item v on v.version = f.version and v.item = i.item
		left join prompt p on p.digest = v.item left join demonstration d on d.digest = v.item left join ranking r
			on r.digest = v.item`, string(file))
}

// RecordMatch says what a reference is in the record. It may be several
// things.
type RecordMatch struct {
	Item, Version, Document, Model, File bool
	Labeller, Demonstrator               bool
}

// LookUp finds out what ref, a digest or a name, is in the record.
func (s *Store) LookUp(ctx context.Context, ref string) (k RecordMatch, err error) {
	d, _ := trimtab.ParseDigest(ref)
	err = s.pool.QueryRow(ctx, `select
		exists (select from dataset_item where item = $2) or exists (select from dataset_version_item where item = $2),
		exists (select from dataset_version where digest = $2),
		exists (select from document where digest = $2),
		exists (select from artifact where digest = $2),
		$2 <> '' and exists (select from dataset d join event e on e.stream = 'dataset/' || d.name
			where e.type = 'files_imported' and position(convert_to($2, 'UTF8') in e.body) > 0),
		exists (select from ranking where labeller = $1),
		exists (select from demonstration where demonstrator = $1)`, ref, string(d)).
		Scan(&k.Item, &k.Version, &k.Document, &k.Model, &k.File, &k.Labeller, &k.Demonstrator)
	return k, wrapError(ctx, "finding "+ref, err)
}

// OutputsUnderDocument lists the outputs of the attempts that ran under a
// document: a stage's config, or the spec of a run.
func (s *Store) OutputsUnderDocument(ctx context.Context, document trimtab.Digest) ([]trimtab.Digest, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowTo[trimtab.Digest], `
		select o.digest from attempt a join attempt_output o on o.attempt = a.id
		where a.config = $1 or a.run in (select run from run_plan where plan->>'spec' = $1)
		group by o.digest order by min(a.id), o.digest`, string(document))
	return found, wrapError(ctx, "finding what document "+document.Short()+" made", err)
}

// Derivation is an edge of lineage: To was made from From by one attempt.
type Derivation struct {
	From, To trimtab.Digest
}

// Descendants lists everything that was made, through any number of attempts,
// from what has these digests: each derivation once, the nearest first.
func (s *Store) Descendants(ctx context.Context, from []trimtab.Digest) ([]Derivation, error) {
	var steps []Derivation
	seen := map[trimtab.Digest]bool{}
	for _, d := range from {
		seen[d] = true
	}
	// Breadth first, one query for each generation.
	for len(from) > 0 {
		made, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Derivation], descendantsQuery, from)
		if err != nil {
			return nil, wrapError(ctx, "finding what was made of it", err)
		}
		from = nil
		for _, st := range made {
			steps = append(steps, st)
			if !seen[st.To] {
				seen[st.To] = true
				from = append(from, st.To)
			}
		}
	}
	return steps, nil
}

// descendantsQuery selects one generation: the outputs of attempts that read
// one of the digests, or that started from a checkpoint of one that did.
const descendantsQuery = `
	with recursive reader(source, id) as (
		select digest, attempt from attempt_input where digest = any($1)
		union
		select r.source, a.id from reader r
		join attempt p on p.id = r.id
		join attempt a on a.run = p.run and a.stage = p.stage and a.number > p.number and a.from_checkpoint <> ''
		join checkpoint c on c.attempt = p.id and c.digest = a.from_checkpoint
	)
	select r.source, o.digest from reader r join attempt_output o on o.attempt = r.id
	group by r.source, o.digest order by min(r.id), r.source, o.digest`

// ArtifactsOf lists the artifacts among digests in order of digest, each
// once, as its first producer recorded it.
func (s *Store) ArtifactsOf(ctx context.Context, digests []trimtab.Digest) ([]Artifact, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Artifact], selectArtifact+
		"where a.digest = any($1) order by a.digest, a.id", digests)
	if err != nil {
		return nil, wrapError(ctx, "finding models", err)
	}
	return slices.CompactFunc(found, func(a, b Artifact) bool { return a.Digest == b.Digest }), nil
}
