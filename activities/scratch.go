package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tokenizer"
)

// scratchStore is the artifactStore of reproductions: models go to a store of
// their own, rankings and evaluations stay in memory. Reads find what was made
// here before what the record has, so a later stage can use it as an input.
type scratchStore struct {
	store     *storage.Store // read only
	files     *checkpoint.Store
	sets      map[trimtab.Digest][]trimtab.Item // in the order in which they were made
	documents map[trimtab.Digest][]byte
}

// items returns items in order of digest, as the record does.
func (s *scratchStore) items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error) {
	made, ok := s.sets[version]
	if !ok {
		return s.store.Items(ctx, version)
	}
	byDigest := func(a, b trimtab.Item) int {
		return strings.Compare(string(trimtab.DigestOf(a.Canonical())), string(trimtab.DigestOf(b.Canonical())))
	}
	return slices.SortedStableFunc(slices.Values(made), byDigest), nil
}

// putModel stores a model's files and no row.
func (s *scratchStore) putModel(_ context.Context, _ SegmentInput, _ string, m *model.Model,
	t *tokenizer.Tokenizer) (trimtab.Digest, error) {
	return checkpoint.SaveModel(s.files, m, t)
}

// putRankings returns the digest that the dataset version would have: the Merkle
// root over the items. They are kept in memory in the order in which they were
// made.
func (s *scratchStore) putRankings(_ context.Context, _ SegmentInput, items []trimtab.Item) (trimtab.Digest, error) {
	leaves := make([]trimtab.Digest, len(items))
	for i, it := range items {
		leaves[i] = trimtab.DigestOf(it.Canonical())
	}
	root := trimtab.MerkleRoot(leaves)
	s.sets[root] = items
	return root, nil
}

// putEvaluation returns the digest of the report.
func (s *scratchStore) putEvaluation(_ context.Context, _ SegmentInput, body []byte) (trimtab.Digest, error) {
	d := trimtab.DigestOf(body)
	s.documents[d] = body
	return d, nil
}

// compare finds the first difference of an output from the recorded one, by
// content. stored says whether the recorded content still exists; without it only
// the digests are compared.
func (s *scratchStore) compare(
	ctx context.Context, o ReproducedOutput, recorded *checkpoint.Store,
) (d Difference, differ, stored bool, err error) {
	d = Difference{Place: o.Name, Name: "digest", Recorded: string(o.Recorded), Here: string(o.Here)}
	differ, stored = o.Recorded != o.Here, true
	switch {
	case o.Here == "": // the reproduction made no output of that name
		d.Here = "absent"
	// The output is there: say where in it the difference is.
	case o.Name == placeModel:
		stored, err = s.compareModel(o, recorded, &d, &differ)
	case o.Name == placeRankings:
		want, err := s.store.Items(ctx, o.Recorded)
		if e, ok := errors.AsType[*trimtab.Error](err); ok && e.Type == "dataset_erased" {
			return d, differ, false, nil // erased at somebody's request: only the digest is left
		}
		if err != nil {
			return d, differ, false, err
		}
		if differ {
			d.setMismatch(compareRankings(want, s.sets[o.Here]))
		}
	case o.Name == placeEvaluation:
		want, err := s.store.Document(ctx, o.Recorded)
		if err != nil {
			return d, differ, false, err
		}
		if differ {
			d.setMismatch(compareJSON(want, s.documents[o.Here]))
		}
	}
	return d, differ, stored, err
}

// compareModel compares a model with the recorded one, file by file. The recorded
// files may be damaged or gone, so a difference can be theirs: then the place is
// placeStoredModel.
func (s *scratchStore) compareModel(
	o ReproducedOutput, recorded *checkpoint.Store, d *Difference, differ *bool,
) (stored bool, err error) {
	files, err := s.files.Files(o.Here)
	if err != nil {
		return false, err
	}
	first, other, err := recorded.CompareModel(o.Recorded, files)
	switch {
	case isNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	case !other:
		return true, nil
	case !*differ: // the digests agree, so it is the stored file that changed
		d.Place, *differ = placeStoredModel, true
	}
	d.setMismatch(first)
	return true, nil
}

// Export writes outputs of a reproduction into a folder: a model as a Hugging
// Face folder, rankings as JSON lines, an evaluation as JSON.
func (r *Reproducer) Export(outputs []ReproducedOutput, folder string) error {
	for _, o := range outputs {
		var err error
		switch path := filepath.Join(folder, o.Name); o.Name {
		case placeModel:
			err = checkpoint.Export(r.scratch.files, o.Here, path)
		case placeRankings:
			err = writeLines(path+".jsonl", r.scratch.sets[o.Here])
		case placeEvaluation:
			err = writeFile(path+".json", r.scratch.documents[o.Here])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeLines writes items as JSON lines.
func writeLines(path string, items []trimtab.Item) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, it := range items {
		if err := enc.Encode(it); err != nil {
			return err
		}
	}
	return writeFile(path, b.Bytes())
}

// writeFile writes a new file, with its folder. A file that exists is not
// replaced.
func writeFile(path string, body []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return plainfile.WriteNew(path, 0o644, body)
}
