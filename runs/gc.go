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

// Retention says how long unreferenced and superseded files are kept.
type Retention struct {
	// Grace is the minimum age of any file that is removed. It protects files whose
	// record has not been committed yet.
	Grace time.Duration
	// States is the age after which a completed attempt keeps only its last checkpoint.
	// Before that, and in every other attempt, the newest two are kept.
	States time.Duration
	// Damaged is the age after which a quarantined file is removed.
	Damaged time.Duration
}

// Garbage is a list of removable files, with the policy under which it was
// made.
type Garbage struct {
	Files []checkpoint.UnreferencedFile
	// Asked again for each file at removal.
	policy checkpoint.GCPolicy
}

// FindGarbage lists the files of the model store that nothing in the record
// refers to any more. It removes nothing. If the store belongs to another
// database, every file would look unreferenced: that is Conflict
// "store_of_another_database".
func (s *Service) FindGarbage(ctx context.Context, r Retention) (Garbage, error) {
	owned, err := s.ownsStore(ctx)
	if err != nil {
		return Garbage{}, err
	}
	refs, err := s.store.References(ctx, r.States)
	if err != nil {
		return Garbage{}, err
	}
	counts := &digestCounts{}
	g := Garbage{policy: retentionPolicy(refs, r, counts)}
	if g.Files, err = s.files.FindUnreferenced(g.policy); err != nil {
		return Garbage{}, err
	}
	// A store from before databases were registered carries no owner. If this
	// database knows not one of its files, it is most likely another's.
	if !owned && counts.known == 0 && counts.unknown > 0 {
		return Garbage{}, foreignStoreError(
			"the database has no record of any of the %d models and checkpoints in this store",
			counts.unknown)
	}
	return g, nil
}

// RemoveGarbage removes the listed files and returns those that it removed. A
// file that was written again or came into use since it was listed is kept.
func (s *Service) RemoveGarbage(g Garbage) ([]checkpoint.UnreferencedFile, error) {
	return s.files.CollectGarbage(g.Files, g.policy)
}

// foreignStoreError returns Conflict "store_of_another_database". It stops the
// garbage collector before it removes files that another database refers to.
func foreignStoreError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Conflict, "store_of_another_database",
		"check the data folder and the database with `trimtab doctor`", format, args...)
}

// ownsStore reports whether the store is registered for this database and no
// other. It is false, without an error, for a store that no database is
// registered in.
func (s *Service) ownsStore(ctx context.Context) (bool, error) {
	id, err := s.store.Identity(ctx)
	if err != nil {
		return false, err
	}
	databases, err := s.files.Databases()
	if err != nil || len(databases) == 0 {
		return false, err
	}
	if !slices.Equal(databases, []string{id}) {
		return false, foreignStoreError("this is database %s, but the store is registered for %s (one file each in "+
			"its folder databases; remove the files of databases that no longer exist)",
			id, strings.Join(databases, ", "))
	}
	return true, nil
}

// RegisterDatabase records in the store that this database refers to its files.
// It is called before the first file is written, so that the garbage collector
// of another database never takes the file for unreferenced.
func (s *Service) RegisterDatabase(ctx context.Context) error {
	id, err := s.store.Identity(ctx)
	if err != nil {
		return err
	}
	return s.files.RegisterDatabase(id)
}

// digestCounts counts the files that the record knows and those that it does
// not, to recognize the store of another database.
type digestCounts struct{ known, unknown int }

// count counts one file and returns its argument.
func (c *digestCounts) count(known bool) bool {
	if known {
		c.known++
	} else {
		c.unknown++
	}
	return known
}

// retentionPolicy turns the references in the record into the policy of the
// garbage collector. For each file the policy says whether it is kept, or why
// it may be removed; the reasons complete a sentence that begins with the
// file's name. counts is updated with every model and checkpoint that is asked
// about.
func retentionPolicy(refs storage.References, r Retention, counts *digestCounts) checkpoint.GCPolicy {
	return checkpoint.GCPolicy{
		Grace: r.Grace, Damaged: r.Damaged,
		Artifact: func(d trimtab.Digest) bool { return counts.count(refs.Digests[d]) },
		State: func(attempt int64, d trimtab.Digest) string {
			a, ok := refs.Attempts[attempt]
			if !counts.count(ok) {
				return "is a checkpoint of an attempt that is not in the record"
			}
			switch {
			case slices.Contains(a.Checkpoints, d), refs.Pinned[d]:
				return ""
			case a.Settled:
				return fmt.Sprintf("is not the last checkpoint of completed attempt %d of %s in run %s",
					a.Number, a.Stage, a.Run)
			}
			return fmt.Sprintf("is not one of the newest two checkpoints of attempt %d of %s in run %s",
				a.Number, a.Stage, a.Run)
		},
		Rollouts: func(attempt int64) string {
			if refs.Attempts[attempt].Open {
				return ""
			}
			return "has rollouts of an attempt that has ended"
		},
	}
}
