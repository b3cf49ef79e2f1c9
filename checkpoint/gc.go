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

// GCPolicy says which files of a store are still pointed to, and how old one has
// to be before it is looked at. A nil function keeps everything.
type GCPolicy struct {
	Artifact func(d trimtab.Digest) bool
	// State says why nobody needs a state of an attempt; "" is that somebody does. The id is 0 for a name that no
	// attempt of a record has (see AttemptName).
	State func(attempt int64, d trimtab.Digest) (why string)
	// Rollouts says the same of all rollouts of an attempt.
	Rollouts func(attempt int64) (why string)
	// Grace is the age under which no file is touched: somebody may be about to name it.
	Grace time.Duration
	// Damaged is the age at which a file that was set aside as damaged goes.
	Damaged time.Duration
}

// FindUnreferenced is a file to which nothing points.
type UnreferencedFile struct {
	Path    string // in the store, with slashes
	Size    int64  // bytes
	ModTime time.Time
	Reason  string
}

// FindUnreferenced lists the files of the store that are older than the grace and that
// nothing points to, in order of path. What is neither an artifact, a state,
// a rollout nor a file under way is none of the store's business. Objects are
// left out while a manifest that is kept cannot be read: it may name them.
func (s *Store) FindUnreferenced(k GCPolicy) ([]UnreferencedFile, error) {
	c := &gcScan{s: s, policy: k, now: time.Now(), liveObjects: map[string]bool{}, readable: true}
	for _, part := range []struct {
		folder string
		why    func(path string, name trimtab.Digest) string
	}{
		{artifacts, c.artifact}, {objects, c.object}, {states, c.state}, {rollouts, c.rollout}, {partial, nil},
	} {
		if err := c.walk(part.folder, part.why); err != nil {
			return nil, annotate(diskError(err), "look through the store")
		}
	}
	slices.SortFunc(c.unreferenced, func(a, b UnreferencedFile) int { return strings.Compare(a.Path, b.Path) })
	return c.unreferenced, nil
}

// gcScan is one look through a store.
type gcScan struct {
	s            *Store
	policy       GCPolicy
	now          time.Time
	liveObjects  map[string]bool // objects of the artifacts that are kept, in hexadecimal digits
	readable     bool            // every manifest that is kept could be read
	unreferenced []UnreferencedFile
}

// walk looks at every file of a folder; why is asked about those that are named by a digest.
func (c *gcScan) walk(folder string, why func(path string, name trimtab.Digest) string) error {
	if st, err := os.Lstat(filepath.Join(c.s.dir, folder)); err == nil && !st.IsDir() {
		return trimtab.NewError(trimtab.Conflict, "store_linked",
			"put the folder itself there, or put the whole data folder where there is space, and link or mount that",
			"%s is a link, or no folder: nothing is removed behind it", folder)
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
		if reason := c.reason(name, info, why); reason != "" {
			c.unreferenced = append(c.unreferenced,
				UnreferencedFile{Path: name, Size: info.Size(), ModTime: info.ModTime(), Reason: reason})
		}
		return nil
	})
}

// reason says why a file can go; "" is that it cannot. Manifests are asked about whatever their age, for their objects.
func (c *gcScan) reason(name string, info fs.FileInfo, why func(path string, name trimtab.Digest) string) string {
	age := c.now.Sub(info.ModTime())
	base := path.Base(name)
	switch {
	case quarantinedName.MatchString(base):
		if age < max(c.policy.Damaged, c.policy.Grace) {
			return ""
		}
		return "was set aside as damaged"
	case why == nil: // under way
		if age < c.policy.Grace || path.Dir(name) != partial || !partialName.MatchString(base) {
			return ""
		}
		return "is a file that was never finished"
	}
	d, err := trimtab.ParseDigest("sha256:" + base)
	if err != nil {
		return ""
	}
	if path.Dir(name) == artifacts && age < c.policy.Grace {
		c.markObjects(d)
		return ""
	}
	if age < c.policy.Grace {
		return ""
	}
	return why(name, d)
}

func (c *gcScan) artifact(_ string, d trimtab.Digest) string {
	if c.policy.Artifact == nil || c.policy.Artifact(d) {
		c.markObjects(d)
		return ""
	}
	return "is a model that nothing names"
}

// markObjects takes note of the objects of an artifact that is kept.
func (c *gcScan) markObjects(d trimtab.Digest) {
	entries, err := c.s.manifest(d)
	if err != nil {
		c.readable = c.readable && trimtab.AsError(err).Type == "artifact_missing" // removed meanwhile
		return
	}
	for _, e := range entries {
		c.liveObjects[e.digest.Hex()] = true
	}
}

func (c *gcScan) object(_ string, d trimtab.Digest) string {
	if !c.readable || c.liveObjects[d.Hex()] {
		return ""
	}
	return "is a file of no model that is kept"
}

func (c *gcScan) state(name string, d trimtab.Digest) string {
	if c.policy.State == nil {
		return ""
	}
	return c.policy.State(attemptID(attemptOf(states, name)), d)
}

func (c *gcScan) rollout(name string, _ trimtab.Digest) string {
	if c.policy.Rollouts == nil {
		return ""
	}
	return c.policy.Rollouts(attemptID(attemptOf(rollouts, name)))
}

// attemptOf is the name of the attempt to which a file under a folder belongs.
func attemptOf(folder, name string) string {
	return strings.TrimPrefix(path.Dir(name), folder+"/")
}

// CollectGarbage removes loose files and returns those that it has removed. One that
// was written anew since it was listed stays, and so does whatever belongs to
// an artifact that has come since. It stops at the first error.
func (s *Store) CollectGarbage(loose []UnreferencedFile, k GCPolicy) (removed []UnreferencedFile, err error) {
	// A manifest goes before its objects, so that an artifact is there whole or not at all.
	for _, l := range loose {
		if path.Dir(l.Path) != objects {
			if removed, err = s.removeUnreferenced(removed, l, k); err != nil {
				return removed, err
			}
		}
	}
	again, err := s.FindUnreferenced(k)
	if err != nil {
		return removed, err
	}
	still := map[string]bool{}
	for _, l := range again {
		still[l.Path] = true
	}
	for _, l := range loose {
		if path.Dir(l.Path) == objects && still[l.Path] {
			if removed, err = s.removeUnreferenced(removed, l, k); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

func (s *Store) removeUnreferenced(removed []UnreferencedFile, l UnreferencedFile,
	k GCPolicy) ([]UnreferencedFile, error) {
	err := s.withExclusiveLock(func() error {
		in, err := os.OpenRoot(s.dir) // nothing outside is removed, whatever the path leads to
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Lstat(l.Path)
		if errors.Is(err, fs.ErrNotExist) || err == nil &&
			(!info.ModTime().Equal(l.ModTime) || time.Since(info.ModTime()) < k.Grace) {
			return nil
		} else if err != nil {
			return diskError(err)
		}
		if err := in.Remove(l.Path); err != nil {
			return diskError(err)
		}
		removed = append(removed, l)
		if dir := path.Dir(l.Path); strings.Contains(dir, "/") { // of an attempt; it stays if there is more in it
			_ = in.Remove(dir)
		}
		return nil
	})
	if err != nil {
		err = annotate(err, "remove %s", l.Path)
	}
	return removed, err
}
