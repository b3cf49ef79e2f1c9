package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// modelImportFlags are the flags of model import.
type modelImportFlags struct {
	// name is the name to give the model.
	name string
	// force moves a name that is taken; dryRun stores nothing.
	force, dryRun bool
}

// modelImportCmd is "trimtab model import". An import is strict: weights that
// would be computed differently here than in other programs are refused,
// since the difference would show only as slightly worse numbers.
func (a *app) modelImportCmd() *cobra.Command {
	var o modelImportFlags
	cmd := &cobra.Command{
		Use: "import FOLDER|FILE.gguf", Short: "import a Hugging Face folder or a GGUF file", Args: argCount(1, 1),
		Long: `Import a folder with config.json, the weights (model.safetensors, one file or several) and
the tokenizer's files, and report everything that was dropped, ignored or converted. What
cannot be computed here in the way the folder intends is refused by name: another
architecture, another pre-tokenizer, files that disagree. docs/models.md lists what is
supported.

Of a GGUF file of llama.cpp's, the shape and the weights are read, which are widened to F32
if they are quantized. Its tokenizer is read from tokenizer.json, or vocab.json and
merges.txt, in the same folder.`,
		Example: `  trimtab model import ./gpt2 --name gpt2
  trimtab model import ./gpt2 --dry-run
  trimtab model import ./smollm2/model-q8_0.gguf --name smollm2`,
		RunE: func(cmd *cobra.Command, args []string) error {
			// The name defaults to the folder's own, also where the folder is
			// given as "." .
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if o.name == "" {
				o.name = filepath.Base(dir)
				if ext := filepath.Ext(o.name); isGGUF(dir) && ext != o.name {
					o.name = strings.TrimSuffix(o.name, ext)
				}
			}
			if err := checkPlainName("the model's name", o.name); err != nil {
				return err
			}
			// RUN/STAGE is how the outputs of runs are named: an imported
			// model of such a name could be mistaken for one.
			if strings.Contains(o.name, "/") {
				return usagef("use a name without a slash: RUN/STAGE names a model of a run",
					"the model's name is %q", o.name)
			}
			return a.withStore(cmd, func(ctx context.Context,
				s *session) error {
				return a.importModel(ctx, s, args[0], o)
			})
		},
	}
	cmd.Flags().StringVar(&o.name, "name", "", "name of the model (default: that of the folder or file)")
	cmd.Flags().BoolVar(&o.force, "force", false, "move the name if another model has it")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be imported, and stop")
	return cmd
}

// modelImportDocument is the report of an import: what was read, and what had
// to be changed.
type modelImportDocument struct {
	// Folder is the folder, or the one that a GGUF file and its tokenizer are
	// in; File is empty for a folder.
	Folder string `json:"folder"`
	File   string `json:"file,omitempty"`
	// Architecture is that of config.json or of the GGUF file, and DType the type of the weights
	// in the files; both are what was read, not what is stored.
	Architecture string `json:"architecture"`
	DType        string `json:"dtype"`
	// Notes are the conversions that were made, a sentence each.
	Notes []string `json:"notes"`
	// NameBefore is the model that had the name until now.
	NameBefore trimtab.Digest `json:"name_before,omitempty"`
	DryRun     bool           `json:"dry_run"`
}

// lines are the report for people, as label and text. They stand in front of
// the lines of model show.
func (d *modelImportDocument) lines() [][2]string {
	outcome := "imported"
	if d.DryRun {
		outcome = "nothing was imported (--dry-run)"
	}
	source := [2]string{"folder", d.Folder + ": " + outcome}
	if d.File != "" {
		source = [2]string{"file", d.File + ": " + outcome}
	}
	lines := [][2]string{source, {"weights", d.Architecture + ", " + d.DType}}
	for _, note := range d.Notes {
		lines = append(lines, [2]string{"note", note})
	}
	if d.NameBefore != "" {
		verb := "moved"
		if d.DryRun {
			verb = "would be moved"
		}
		lines = append(lines, [2]string{"name", fmt.Sprintf("%s here from model %s", verb, d.NameBefore.Short())})
	}
	return lines
}

// isGGUF reports whether a path names a GGUF file: a folder may have any name.
func isGGUF(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && strings.EqualFold(filepath.Ext(path), ".gguf")
}

// readImport reads and verifies a folder or GGUF file, and begins the report.
func readImport(path string, dryRun bool) (*checkpoint.Folder, *modelImportDocument, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fileError(path, err)
	}
	done := &modelImportDocument{Folder: path, DryRun: dryRun}
	read := checkpoint.Read
	switch {
	case isGGUF(path):
		done.Folder, done.File = filepath.Dir(path), path
		read = checkpoint.ReadGGUF
	case !info.IsDir():
		return nil, nil, usagef("give the folder that it is in, or a file whose name ends in .gguf",
			"%s is neither a folder nor a GGUF file", path)
	}
	f, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	done.Architecture, done.DType, done.Notes = f.Architecture, f.DType, f.Notes
	return f, done, nil
}

// importModel reads a folder or GGUF file and stores its model, or with --dry-run only
// reports what importing it would do. Importing the same folder again gives
// the same digest, and adds at most a name.
func (a *app) importModel(ctx context.Context, s *session, path string, o modelImportFlags) error {
	// Reading verifies the folder in full and converts it; nothing is stored
	// yet.
	f, done, err := readImport(path, o.dryRun)
	if err != nil {
		return err
	}
	var doc modelDocument
	if o.dryRun {
		doc, err = previewImport(ctx, s, f, o, done)
	} else {
		var result runs.ImportResult
		if result, err = s.runs.ImportModel(ctx, f, runs.ImportRequest{Name: o.name, Actor: a.actor(),
			TakeName: o.force}); err == nil {
			done.NameBefore = result.PreviousOwner
			doc, err = describe(ctx, s, string(result.Digest))
		}
	}
	if err != nil {
		return err
	}
	doc.Name, doc.Import = o.name, done
	return a.printModel(doc)
}

// previewImport is the document of an import that is not carried out. It
// fails where the import would fail, as far as that can be known: also if the
// name is taken. Nothing is written, not even to the store of files.
func previewImport(
	ctx context.Context, s *session, f *checkpoint.Folder, o modelImportFlags, done *modelImportDocument,
) (modelDocument, error) {
	var doc modelDocument
	digest, err := f.Digest()
	if err != nil {
		return doc, err
	}
	holder, err := s.store.NameOwner(ctx, o.name)
	if err != nil {
		return doc, err
	}
	// A name that the same model has already is no conflict.
	if holder != "" && holder != digest {
		if !o.force {
			return doc, storage.NameTaken(o.name, holder)
		}
		done.NameBefore = holder
	}
	entries, err := f.Contents()
	if err != nil {
		return doc, err
	}
	// The artifact as it would be recorded: it has no origin yet.
	art := artifact{Digest: digest, Kind: runs.ArtifactKind(f), Parameters: int64(len(f.Model.Slab))}
	// If the model is known already, its origin is shown in place of "not
	// imported yet".
	if known, err := s.store.ResolveArtifact(ctx, string(digest)); err == nil {
		art = artifactOf(known)
	}
	return documentOf(art, f.Model, f.Tokenizer, entries), nil
}
