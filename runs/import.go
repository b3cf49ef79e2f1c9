package runs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
)

// BaseFolder is the folder that model.base names, or "" where it names a stored
// model. A path that is absolute or begins with ./ or ../ is a folder; a word
// without a slash is a name or a digest, whatever folders there are; what else
// has a slash is whichever of a folder and RUN/STAGE there is. Errors:
// model_not_found, base_ambiguous.
func (s *Service) BaseFolder(ctx context.Context, ref string) (string, error) {
	info, err := os.Stat(ref)
	there := ref != "" && err == nil && info.IsDir()
	switch {
	case isPath(ref) && !there:
		return "", trimtab.NewError(trimtab.NotFound, "model_not_found",
			"check the path: in a spec it is relative to the folder of the spec, with --set to that of the command",
			"model.base is %q: there is no such folder", ref)
	case isPath(ref):
		return ref, nil
	case !there:
		return "", nil
	}
	_, err = s.store.ResolveArtifact(ctx, ref)
	missing := err != nil && trimtab.AsError(err).Class == trimtab.NotFound
	switch path := "." + string(filepath.Separator) + ref; {
	case err != nil && !missing:
		return "", err
	case strings.Contains(ref, "/") && missing:
		return ref, nil
	case strings.Contains(ref, "/"):
		return "", trimtab.NewError(trimtab.Usage, "base_ambiguous",
			fmt.Sprintf("write %s for the folder, or the digest of the model, as `trimtab model show %s` prints it",
				path, ref),
			"model.base is %q: there is a folder of that name and a model", ref)
	case missing:
		return "", trimtab.NewError(trimtab.NotFound, "model_not_found",
			fmt.Sprintf("write %s for the folder of that name, or import it first with `trimtab model import %s`", path,
				path),
			"model.base is %q: there is no model of that name", ref)
	}
	return "", nil
}

// isPath reports whether a reference can only be a path.
func isPath(ref string) bool {
	clean := filepath.ToSlash(ref)
	return filepath.IsAbs(ref) || clean == "." || clean == ".." || strings.HasPrefix(clean, "./") ||
		strings.HasPrefix(clean, "../")
}

// resolveBase takes in the folder that ref names, and returns its digest; anything else names a stored model.
func (s *Service) importBase(ctx context.Context, ref, actor string, log func(string, ...any)) (string, error) {
	dir, err := s.BaseFolder(ctx, ref)
	if err != nil || dir == "" {
		return ref, err
	}
	f, err := checkpoint.Read(dir)
	if err != nil {
		return "", err
	}
	for _, note := range f.Notes {
		log("%s: %s", dir, note)
	}
	x, err := s.ImportModel(ctx, f, ImportRequest{Name: nameOfFolder(dir), Actor: actor, UniqueName: true})
	if err != nil {
		return "", err
	}
	if x.Name != nameOfFolder(dir) {
		log("%s: the model is named %s here: another one is named %s", dir, x.Name, nameOfFolder(dir))
	}
	return string(x.Digest), nil
}

// nameOfFolder is the last part of a folder's whole path.
func nameOfFolder(dir string) string {
	whole, err := filepath.Abs(dir)
	if err != nil {
		whole = filepath.Clean(dir)
	}
	if name := filepath.Base(whole); !strings.Contains(name, "/") {
		return name
	}
	return "model" // the root of all folders has no name
}

// ImportRequest says under which name a model comes in.
type ImportRequest struct {
	Name, Actor string
	TakeName    bool // the name is taken from the model that has it
	UniqueName  bool // a name that is taken is not taken again: the model gets one of its own
}

// ImportResult is a model that came in.
type ImportResult struct {
	storage.Artifact
	PreviousOwner trimtab.Digest // the model that had the name until now; empty if none had
}

// ImportModel stores a model that no run made and writes it down. Errors:
// name_taken, disk_full and those of the database.
func (s *Service) ImportModel(ctx context.Context, f *checkpoint.Folder, r ImportRequest) (ImportResult, error) {
	digest, err := f.Digest()
	if err != nil {
		return ImportResult{}, err
	}
	holder, err := s.store.NameOwner(ctx, r.Name)
	if err != nil {
		return ImportResult{}, err
	}
	switch taken := holder != "" && holder != digest; {
	case taken && r.UniqueName:
		r.Name += "-" + digest.Short()
	case taken && !r.TakeName: // before anything is stored
		return ImportResult{}, storage.NameTaken(r.Name, holder)
	}
	if err := s.RegisterDatabase(ctx); err != nil {
		return ImportResult{}, err
	}
	if digest, err = checkpoint.SaveModel(s.files, f.Model, f.Tokenizer); err != nil {
		return ImportResult{}, err
	}
	x := ImportResult{Artifact: storage.Artifact{Digest: digest, Kind: ArtifactKind(f), Name: r.Name,
		Parameters: int64(len(f.Model.Slab))}}
	x.PreviousOwner, err = s.store.ImportArtifact(ctx, x.Artifact, r.TakeName, r.Actor)
	return x, err
}

// ArtifactKind is the kind of artifact that a folder's model is.
func ArtifactKind(f *checkpoint.Folder) string {
	if f.Model.Scalar {
		return "reward"
	}
	return "model"
}
