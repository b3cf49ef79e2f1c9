package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
)

// Retention says how long files stay to which nothing, or little, points.
type Retention struct {
	// Grace is the age under which no file is touched.
	Grace time.Duration
	// States is the age at which a completed attempt keeps only its last checkpoint; all others keep two.
	States time.Duration
	// Damaged is the age at which a file that was set aside as damaged goes.
	Damaged time.Duration
}

// FindGarbage is what can go from the store of models and checkpoints.
type Garbage struct {
	Files  []checkpoint.UnreferencedFile
	policy checkpoint.GCPolicy
}

// FindGarbage finds the files to which nothing in the record points any more. A
// store that another database names is Conflict "store_of_another_database".
func (s *Service) FindGarbage(ctx context.Context, r Retention) (Garbage, error) {
	tied, err := s.ownsStore(ctx)
	if err != nil {
		return Garbage{}, err
	}
	refs, err := s.store.References(ctx, r.States)
	if err != nil {
		return Garbage{}, err
	}
	seen := &digestCounts{}
	g := Garbage{policy: retentionPolicy(refs, r, seen)}
	if g.Files, err = s.files.FindUnreferenced(g.policy); err != nil {
		return Garbage{}, err
	}
	if !tied && seen.known == 0 && seen.unknown > 0 {
		return Garbage{}, foreignStoreError("the database knows none of the %d models and checkpoints in this store",
			seen.unknown)
	}
	return g, nil
}

// RemoveGarbage removes garbage and returns what went: not what was written anew since it was found.
func (s *Service) RemoveGarbage(g Garbage) ([]checkpoint.UnreferencedFile, error) {
	return s.files.CollectGarbage(g.Files, g.policy)
}

func foreignStoreError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Conflict, "store_of_another_database",
		"check the data folder and the database with `trimtab doctor`", format, args...)
}

// ownsStore reports whether the store is known to be this database's alone.
func (s *Service) ownsStore(ctx context.Context) (bool, error) {
	id, err := s.store.Identity(ctx)
	if err != nil {
		return false, err
	}
	ties, err := s.files.Databases()
	if err != nil || len(ties) == 0 {
		return false, err
	}
	if !slices.Equal(ties, []string{id}) {
		return false,
			foreignStoreError("this is database %s, and the store has files of %s (a file of its folder databases "+
				"for each; remove those of databases that are no more)", id, strings.Join(ties, ", "))
	}
	return true, nil
}

// RegisterDatabase takes note in the store that this database is going to name files of it.
func (s *Service) RegisterDatabase(ctx context.Context) error {
	id, err := s.store.Identity(ctx)
	if err != nil {
		return err
	}
	return s.files.RegisterDatabase(id)
}

// digestCounts counts the models and checkpoints that the database knows, and those that it does not.
type digestCounts struct{ known, unknown int }

func (c *digestCounts) count(known bool) bool {
	if known {
		c.known++
	} else {
		c.unknown++
	}
	return known
}

// retentionPolicy is the retention policy over what the record points to.
func retentionPolicy(refs storage.References, r Retention, seen *digestCounts) checkpoint.GCPolicy {
	return checkpoint.GCPolicy{
		Grace: r.Grace, Damaged: r.Damaged,
		Artifact: func(d trimtab.Digest) bool { return seen.count(refs.Digests[d]) },
		State: func(attempt int64, d trimtab.Digest) string {
			a, ok := refs.Attempts[attempt]
			if !seen.count(ok) {
				return "is a checkpoint of no attempt in the record"
			}
			switch {
			case slices.Contains(a.Checkpoints, d), refs.Pinned[d]:
				return ""
			case a.Settled:
				return fmt.Sprintf("is not the last checkpoint of attempt %d of %s of run %s, which was completed",
					a.Number, a.Stage, a.Run)
			}
			return fmt.Sprintf("is not one of the newest two checkpoints of attempt %d of %s of run %s", a.Number,
				a.Stage, a.Run)
		},
		Rollouts: func(attempt int64) string {
			if refs.Attempts[attempt].Open {
				return ""
			}
			return "holds rollouts of an attempt that is over"
		},
	}
}
