package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
)

// Garbage collection is mark and sweep over the files of a store. The roots are
// in a record, which the store does not know: a GCPolicy answers for it. The
// store itself knows one kind of edge, from the manifest of a live artifact to
// its objects.
//
// Files that were written recently are never touched (GCPolicy.Grace), because a
// writer stores a file before it records the reference. Removal takes the
// exclusive lock and looks at each file again, so a file that was stored anew
// between the two phases stays.

// GCPolicy says which files of a store are still referenced, and how old a file
// has to be before it can be garbage. A nil function keeps everything.
type GCPolicy struct {
	// Artifact reports whether an artifact is referenced.
	Artifact func(d trimtab.Digest) bool
	// State says why a state of an attempt is garbage, in words that continue
	// "the file …"; it is empty for a state that is referenced. The id is 0 for
	// a folder that no attempt of a record has (see AttemptName).
	State func(attempt int64, d trimtab.Digest) (reason string)
	// Rollouts says the same of all rollouts of an attempt.
	Rollouts func(attempt int64) (reason string)
	// Grace is the age under which no file is touched: its reference may not be written yet.
	Grace time.Duration
	// Damaged is the age at which a quarantined state is removed.
	Damaged time.Duration
}

// UnreferencedFile is a file of the store that can be removed.
type UnreferencedFile struct {
	Path    string    // in the store, with slashes
	Size    int64     // bytes
	ModTime time.Time // by which CollectGarbage notices that it was written anew
	Reason  string    // continues "the file …"
}

// FindUnreferenced lists the files of the store that are older than the grace
// period and unreferenced, in order of path. It considers artifacts, objects,
// states, rollouts and unfinished files; anything else in the folder is ignored.
// While a live manifest cannot be read, no object is listed, because the
// manifest may name it. Error: store_linked.
func (s *Store) FindUnreferenced(k GCPolicy) ([]UnreferencedFile, error) {
	c := &gcScan{s: s, policy: k, now: time.Now(), liveObjects: map[string]bool{}, readable: true}
	for _, part := range []struct {
		folder string
		check  checkFile
	}{
		// Artifacts come before objects, because they mark the live ones.
		{artifacts, c.artifact},
		{objects, c.object},
		{states, c.state},
		{rollouts, c.rollout},
		{partial, nil},
	} {
		if err := c.walk(part.folder, part.check); err != nil {
			return nil, annotate(diskError(err), "look through the store")
		}
	}
	slices.SortFunc(c.unreferenced, func(a, b UnreferencedFile) int { return strings.Compare(a.Path, b.Path) })
	return c.unreferenced, nil
}

// checkFile returns why a file that is named by a digest is garbage, or "".
type checkFile func(path string, name trimtab.Digest) (reason string)

// gcScan is one pass of FindUnreferenced.
type gcScan struct {
	s            *Store
	policy       GCPolicy
	now          time.Time
	liveObjects  map[string]bool // objects of live artifacts, by hexadecimal digest
	readable     bool            // every live manifest could be read
	unreferenced []UnreferencedFile
}

// walk adds the garbage of one folder. A nil check is for the folder of
// unfinished files. A folder that is a symbolic link is refused: what lies
// behind it may be shared with other programs.
func (c *gcScan) walk(folder string, check checkFile) error {
	if st, err := os.Lstat(filepath.Join(c.s.dir, folder)); err == nil && !st.IsDir() {
		return trimtab.NewError(trimtab.Conflict, "store_linked",
			"put the folder itself there, or put the whole data folder where there is space, and link or mount that",
			"%s is a link, or not a folder: nothing is removed behind it", folder)
	}
	return fs.WalkDir(os.DirFS(c.s.dir), folder, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile, or a folder that was never made
			return nil
		} else if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if reason := c.reason(name, info, check); reason != "" {
			c.unreferenced = append(c.unreferenced,
				UnreferencedFile{Path: name, Size: info.Size(), ModTime: info.ModTime(), Reason: reason})
		}
		return nil
	})
}

// reason returns why a file is garbage, or "". A manifest within the grace
// period is not garbage, but its objects are marked as live.
func (c *gcScan) reason(name string, info fs.FileInfo, check checkFile) string {
	// A file whose time is in the future has a negative age, and is kept.
	age := c.now.Sub(info.ModTime())
	base := path.Base(name)
	switch {
	case quarantinedName.MatchString(base):
		if age < max(c.policy.Damaged, c.policy.Grace) {
			return ""
		}
		return "was quarantined as damaged"
	case check == nil:
		if age < c.policy.Grace || path.Dir(name) != partial || !partialName.MatchString(base) {
			return ""
		}
		return "is a file that was never finished"
	}
	d, err := trimtab.ParseDigest("sha256:" + base)
	if err != nil { // not one of the store's files
		return ""
	}
	if path.Dir(name) == artifacts && age < c.policy.Grace {
		c.markObjects(d)
		return ""
	}
	if age < c.policy.Grace {
		return ""
	}
	return check(name, d)
}

// artifact is the checkFile of manifests. It marks the objects of live ones.
func (c *gcScan) artifact(_ string, d trimtab.Digest) string {
	if c.policy.Artifact == nil || c.policy.Artifact(d) {
		c.markObjects(d)
		return ""
	}
	return "is a model that nothing references"
}

// markObjects marks the objects of a live artifact as live.
func (c *gcScan) markObjects(d trimtab.Digest) {
	entries, err := c.s.manifest(d)
	if err != nil {
		// A manifest that was removed meanwhile keeps nothing alive. One that is damaged
		// might name any object, so none is garbage.
		c.readable = c.readable && trimtab.AsError(err).Type == "artifact_missing"
		return
	}
	for _, e := range entries {
		c.liveObjects[e.digest.Hex()] = true
	}
}

// object is the checkFile of objects.
func (c *gcScan) object(_ string, d trimtab.Digest) string {
	if !c.readable || c.liveObjects[d.Hex()] {
		return ""
	}
	return "is a file of no model that is kept"
}

// state is the checkFile of states.
func (c *gcScan) state(name string, d trimtab.Digest) string {
	if c.policy.State == nil {
		return ""
	}
	return c.policy.State(attemptID(attemptOf(states, name)), d)
}

// rollout is the checkFile of rollouts.
func (c *gcScan) rollout(name string, _ trimtab.Digest) string {
	if c.policy.Rollouts == nil {
		return ""
	}
	return c.policy.Rollouts(attemptID(attemptOf(rollouts, name)))
}

// attemptOf returns the name of the attempt whose file this is, of the path
// folder/attempt/digest.
func attemptOf(folder, name string) string {
	return strings.TrimPrefix(path.Dir(name), folder+"/")
}

// CollectGarbage removes files that FindUnreferenced listed and returns those
// that it removed. A file that was written anew since it was listed stays, and
// so does every object of an artifact that was stored since. It stops at the
// first error. Errors: store_unlockable, store_busy, store_linked.
func (s *Store) CollectGarbage(files []UnreferencedFile, k GCPolicy) (removed []UnreferencedFile, err error) {
	// Manifests go before objects, so that an artifact is there whole or not at all.
	for _, f := range files {
		if path.Dir(f.Path) != objects {
			if removed, err = s.removeUnreferenced(removed, f, k); err != nil {
				return removed, err
			}
		}
	}
	// A manifest that was stored meanwhile may name old objects.
	again, err := s.FindUnreferenced(k)
	if err != nil {
		return removed, err
	}
	still := map[string]bool{}
	for _, f := range again {
		still[f.Path] = true
	}
	for _, f := range files {
		if path.Dir(f.Path) == objects && still[f.Path] {
			if removed, err = s.removeUnreferenced(removed, f, k); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// removeUnreferenced removes one file under the exclusive lock, if it is still
// the file that was listed, and appends it to removed.
func (s *Store) removeUnreferenced(
	removed []UnreferencedFile, f UnreferencedFile, k GCPolicy,
) ([]UnreferencedFile, error) {
	err := s.withExclusiveLock(func() error {
		root, err := os.OpenRoot(s.dir) // nothing outside is removed, wherever links lead
		if err != nil {
			return err
		}
		defer root.Close()
		info, err := root.Lstat(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return diskError(err)
		}
		if !info.ModTime().Equal(f.ModTime) || time.Since(info.ModTime()) < k.Grace {
			return nil
		}
		if err := root.Remove(f.Path); err != nil {
			return diskError(err)
		}
		removed = append(removed, f)
		if dir := path.Dir(f.Path); strings.Contains(dir, "/") { // the folder of an attempt
			_ = root.Remove(dir) // fails, rightly, if more is in it
		}
		return nil
	})
	if err != nil {
		err = annotate(err, "remove %s", f.Path)
	}
	return removed, err
}
