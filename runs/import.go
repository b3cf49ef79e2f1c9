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

// BaseFolder returns the folder that model.base refers to, or "" if it refers
// to a stored model or to none. The form of the reference decides:
//
// - an absolute path, or one that begins with ./ or ../, is a folder;
// - a word without a slash is the name or digest of a stored model, even if there
// is a folder of that name;
// - anything else with a slash may be a folder or RUN/STAGE, whichever exists.
//
// Errors: NotFound "model_not_found" where the reference leads nowhere, and
// Usage "base_ambiguous" where it could be either.
func (s *Service) BaseFolder(ctx context.Context, ref string) (string, error) {
	info, err := os.Stat(ref)
	isFolder := ref != "" && err == nil && info.IsDir()
	switch {
	case isPath(ref) && err == nil && strings.EqualFold(filepath.Ext(ref), ".gguf") && !isFolder:
		return "", trimtab.NewError(trimtab.Usage, "usage",
			fmt.Sprintf("import it first with `trimtab model import %s`, and name the model here", ref),
			"model.base is %q, a GGUF file: it is a folder or the name of a model", ref)
	case isPath(ref) && !isFolder:
		return "", trimtab.NewError(trimtab.NotFound, "model_not_found",
			"check the path: in a spec it is relative to the spec's folder, with --set to the current one",
			"model.base is %q, but there is no such folder", ref)
	case isPath(ref):
		return ref, nil
	case !isFolder:
		return "", nil // whether there is such a model is checked when the spec is planned
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
			fmt.Sprintf("write %s for the folder, or the model's digest, which `trimtab model show %s` prints",
				path, ref),
			"model.base is %q, which is both a folder and a model", ref)
	case missing:
		return "", trimtab.NewError(trimtab.NotFound, "model_not_found",
			fmt.Sprintf("write %s for the folder of that name, or import it first with `trimtab model import %s`",
				path, path),
			"model.base is %q, but there is no model of that name", ref)
	}
	return "", nil
}

// isPath reports whether a reference can be nothing but a path. Both separators
// are understood on Windows.
func isPath(ref string) bool {
	clean := filepath.ToSlash(ref)
	return filepath.IsAbs(ref) || clean == "." || clean == ".." || strings.HasPrefix(clean, "./") ||
		strings.HasPrefix(clean, "../")
}

// importBase imports the folder that model.base refers to and returns the
// digest of its model. A reference to a stored model is returned as it is.
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
	name := nameOfFolder(dir)
	imported, err := s.ImportModel(ctx, f, ImportRequest{Name: name, Actor: actor, UniqueName: true})
	if err != nil {
		return "", err
	}
	if imported.Name != name {
		log("%s: the name %s belongs to another model, so this one is stored as %s", dir, name, imported.Name)
	}
	return string(imported.Digest), nil
}

// nameOfFolder returns the last element of a folder's absolute path, under
// which its model is stored.
func nameOfFolder(dir string) string {
	whole, err := filepath.Abs(dir)
	if err != nil {
		whole = filepath.Clean(dir)
	}
	if name := filepath.Base(whole); !strings.Contains(name, "/") {
		return name
	}
	return "model" // the root folder has no name
}

// ImportRequest says under which name a model is imported and by whom. Without
// TakeName and UniqueName, a name that another model has is an error.
type ImportRequest struct {
	Name, Actor string
	// Move the name here from the model that has it.
	TakeName bool
	// If another model has the name, append the digest's first digits to it.
	UniqueName bool
}

// ImportResult is the artifact under which a model was imported.
type ImportResult struct {
	storage.Artifact
	// The model that had the name before; empty if none had.
	PreviousOwner trimtab.Digest
}

// ImportModel stores the model of a folder and records it as an artifact. It is
// the one way into the record for a model that no run produced; `trimtab model
// import` and a spec with a model.base folder both come here.
//
// The name is checked before anything is stored, so that a taken name leaves no
// files behind. The files are written before the record: a crash in between
// leaves files that the garbage collector removes. Importing the same model
// twice is harmless, since both the files and the artifact are addressed by
// digest.
//
// Errors: Conflict "name_taken", "disk_full", and those of the database.
func (s *Service) ImportModel(ctx context.Context, f *checkpoint.Folder, r ImportRequest) (ImportResult, error) {
	digest, err := f.Digest()
	if err != nil {
		return ImportResult{}, err
	}
	owner, err := s.store.NameOwner(ctx, r.Name)
	if err != nil {
		return ImportResult{}, err
	}
	switch taken := owner != "" && owner != digest; {
	case taken && r.UniqueName:
		r.Name += "-" + digest.Short()
	case taken && !r.TakeName:
		return ImportResult{}, storage.NameTaken(r.Name, owner)
	}
	if err := s.RegisterDatabase(ctx); err != nil {
		return ImportResult{}, err
	}
	if digest, err = f.Save(s.files); err != nil {
		return ImportResult{}, err
	}
	result := ImportResult{Artifact: storage.Artifact{
		Digest:     digest,
		Kind:       ArtifactKind(f),
		Name:       r.Name,
		Parameters: int64(len(f.Model.Slab)),
	}}
	result.PreviousOwner, err = s.store.ImportArtifact(ctx, result.Artifact, r.TakeName, r.Actor)
	return result, err
}

// ArtifactKind returns the kind of artifact that a folder's model is: "reward"
// for a model with a scalar head, else "model".
func ArtifactKind(f *checkpoint.Folder) string {
	if f.Model.Scalar {
		return "reward"
	}
	return "model"
}
