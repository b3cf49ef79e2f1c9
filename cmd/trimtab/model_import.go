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
	name          string
	force, dryRun bool
}

func (a *app) modelImportCmd() *cobra.Command {
	var o modelImportFlags
	cmd := &cobra.Command{
		Use: "import FOLDER", Short: "take in a Hugging Face GPT-2 folder", Args: argCount(1, 1),
		Long: `Take in a folder with config.json, the weights (model.safetensors, in one file or in several)
and the tokenizer's files, and say what was taken off, left out or turned into something else.
What cannot be computed here as the folder means it is refused by its name: another
architecture, another way of cutting text, files that disagree. docs/models.md lists what is read.`,
		Example: "  trimtab model import ./gpt2 --name gpt2\n  trimtab model import ./gpt2 --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if o.name == "" {
				o.name = filepath.Base(dir)
			}
			if err := checkPlainName("the model's name", o.name); err != nil {
				return err
			}
			if strings.Contains(o.name, "/") {
				return usagef("use a name without /: RUN/STAGE stands for what a run made", "the model's name is %q",
					o.name)
			}
			return a.withStore(cmd, func(ctx context.Context,
				s *session) error {
				return a.importModel(ctx, s, args[0], o)
			})
		},
	}
	cmd.Flags().StringVar(&o.name, "name", "", "name of the model (default: the folder's)")
	cmd.Flags().BoolVar(&o.force, "force", false, "move the name, if another model has it")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would come in, and take nothing in")
	return cmd
}

// modelImportDocument says what was done to take a folder in.
type modelImportDocument struct {
	Folder       string         `json:"folder"`
	Architecture string         `json:"architecture"`
	DType        string         `json:"dtype"`
	Notes        []string       `json:"notes"`
	NameBefore   trimtab.Digest `json:"name_before,omitempty"` // the model that had the name
	DryRun       bool           `json:"dry_run"`
}

func (d *modelImportDocument) lines() [][2]string {
	said := "taken in"
	if d.DryRun {
		said = "nothing was taken in: this is what would be"
	}
	lines := [][2]string{{"folder", d.Folder + ": " + said}, {"weights", d.Architecture + ", " + d.DType}}
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

func (a *app) importModel(ctx context.Context, s *session, dir string, o modelImportFlags) error {
	if _, err := os.Stat(dir); err != nil {
		return fileError(dir, err)
	}
	f, err := checkpoint.Read(dir)
	if err != nil {
		return err
	}
	var doc modelDocument
	done := &modelImportDocument{Folder: dir, Architecture: f.Architecture, DType: f.DType, Notes: f.Notes,
		DryRun: o.dryRun}
	if o.dryRun {
		doc, err = previewImport(ctx, s, f, o, done)
	} else {
		var x runs.ImportResult
		if x, err = s.runs.ImportModel(ctx, f, runs.ImportRequest{Name: o.name, Actor: a.actor(),
			TakeName: o.force}); err == nil {
			done.NameBefore = x.PreviousOwner
			doc, err = describe(ctx, s, string(x.Digest))
		}
	}
	if err != nil {
		return err
	}
	doc.Name, doc.Import = o.name, done
	return a.printModel(doc)
}

// previewImport is the document of an import that is not done.
func previewImport(ctx context.Context, s *session, f *checkpoint.Folder, o modelImportFlags,
	done *modelImportDocument) (modelDocument, error) {
	var doc modelDocument
	digest, err := f.Digest()
	if err != nil {
		return doc, err
	}
	holder, err := s.store.NameOwner(ctx, o.name)
	if err != nil {
		return doc, err
	}
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
	x := artifact{Digest: digest, Kind: runs.ArtifactKind(f), Parameters: int64(len(f.Model.Slab))}
	if known, err := s.store.ResolveArtifact(ctx, string(digest)); err == nil {
		x = artifactOf(known)
	}
	return documentOf(x, f.Model, f.Tokenizer, entries), nil
}
