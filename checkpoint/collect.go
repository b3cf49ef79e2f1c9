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

// Keep says which files of a store are still pointed to, and how old one has
// to be before it is looked at. A nil function keeps everything.
type Keep struct {
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

// Loose is a file to which nothing points.
type Loose struct {
	Path    string // in the store, with slashes
	Size    int64  // bytes
	Written time.Time
	Why     string
}

// Loose lists the files of the store that are older than the grace and that
// nothing points to, in order of path. What is neither an artifact, a state,
// a rollout nor a file under way is none of the store's business. Objects are
// left out while a manifest that is kept cannot be read: it may name them.
func (s *Store) Loose(k Keep) ([]Loose, error) {
	c := &collection{s: s, keep: k, now: time.Now(), named: map[string]bool{}, readable: true}
	for _, part := range []struct {
		folder string
		why    func(path string, name trimtab.Digest) string
	}{
		{artifacts, c.artifact}, {objects, c.object}, {states, c.state}, {rollouts, c.rollout}, {partial, nil},
	} {
		if err := c.walk(part.folder, part.why); err != nil {
			return nil, about(diskError(err), "look through the store")
		}
	}
	slices.SortFunc(c.loose, func(a, b Loose) int { return strings.Compare(a.Path, b.Path) })
	return c.loose, nil
}

// collection is one look through a store.
type collection struct {
	s        *Store
	keep     Keep
	now      time.Time
	named    map[string]bool // objects of the artifacts that are kept, in hexadecimal digits
	readable bool            // every manifest that is kept could be read
	loose    []Loose
}

// walk looks at every file of a folder; why is asked about those that are named by a digest.
func (c *collection) walk(folder string, why func(path string, name trimtab.Digest) string) error {
	if st, err := os.Lstat(filepath.Join(c.s.dir, folder)); err == nil && !st.IsDir() {
		return trimtab.NewError(trimtab.Conflict, "store_linked", "put the folder itself there, or put the whole data folder where there is space, and link or mount that",
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
		if reason := c.why(name, info, why); reason != "" {
			c.loose = append(c.loose, Loose{Path: name, Size: info.Size(), Written: info.ModTime(), Why: reason})
		}
		return nil
	})
}

// why says why a file can go; "" is that it cannot. Manifests are asked about whatever their age, for their objects.
func (c *collection) why(name string, info fs.FileInfo, why func(path string, name trimtab.Digest) string) string {
	age := c.now.Sub(info.ModTime())
	base := path.Base(name)
	switch {
	case asideName.MatchString(base):
		if age < max(c.keep.Damaged, c.keep.Grace) {
			return ""
		}
		return "was set aside as damaged"
	case why == nil: // under way
		if age < c.keep.Grace || path.Dir(name) != partial || !partialName.MatchString(base) {
			return ""
		}
		return "is a file that was never finished"
	}
	d, err := trimtab.ParseDigest("sha256:" + base)
	if err != nil {
		return ""
	}
	if path.Dir(name) == artifacts && age < c.keep.Grace {
		c.keepObjects(d)
		return ""
	}
	if age < c.keep.Grace {
		return ""
	}
	return why(name, d)
}

func (c *collection) artifact(_ string, d trimtab.Digest) string {
	if c.keep.Artifact == nil || c.keep.Artifact(d) {
		c.keepObjects(d)
		return ""
	}
	return "is a model that nothing names"
}

// keepObjects takes note of the objects of an artifact that is kept.
func (c *collection) keepObjects(d trimtab.Digest) {
	entries, err := c.s.manifest(d)
	if err != nil {
		c.readable = c.readable && trimtab.AsError(err).Type == "artifact_missing" // removed meanwhile
		return
	}
	for _, e := range entries {
		c.named[e.digest.Hex()] = true
	}
}

func (c *collection) object(_ string, d trimtab.Digest) string {
	if !c.readable || c.named[d.Hex()] {
		return ""
	}
	return "is a file of no model that is kept"
}

func (c *collection) state(name string, d trimtab.Digest) string {
	if c.keep.State == nil {
		return ""
	}
	return c.keep.State(attemptID(attemptOf(states, name)), d)
}

func (c *collection) rollout(name string, _ trimtab.Digest) string {
	if c.keep.Rollouts == nil {
		return ""
	}
	return c.keep.Rollouts(attemptID(attemptOf(rollouts, name)))
}

// attemptOf is the name of the attempt to which a file under a folder belongs.
func attemptOf(folder, name string) string {
	return strings.TrimPrefix(path.Dir(name), folder+"/")
}

// Collect removes loose files and returns those that it has removed. One that
// was written anew since it was listed stays, and so does whatever belongs to
// an artifact that has come since. It stops at the first error.
func (s *Store) Collect(loose []Loose, k Keep) (removed []Loose, err error) {
	// A manifest goes before its objects, so that an artifact is there whole or not at all.
	for _, l := range loose {
		if path.Dir(l.Path) != objects {
			if removed, err = s.collect(removed, l, k); err != nil {
				return removed, err
			}
		}
	}
	again, err := s.Loose(k)
	if err != nil {
		return removed, err
	}
	still := map[string]bool{}
	for _, l := range again {
		still[l.Path] = true
	}
	for _, l := range loose {
		if path.Dir(l.Path) == objects && still[l.Path] {
			if removed, err = s.collect(removed, l, k); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

func (s *Store) collect(removed []Loose, l Loose, k Keep) ([]Loose, error) {
	err := s.alone(func() error {
		in, err := os.OpenRoot(s.dir) // nothing outside is removed, whatever the path leads to
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Lstat(l.Path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.ModTime().Equal(l.Written) || time.Since(info.ModTime()) < k.Grace) {
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
		err = about(err, "remove %s", l.Path)
	}
	return removed, err
}
