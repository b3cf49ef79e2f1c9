package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/papers"
)

// modelExportFlags are the flags of model export, as they are given.
type modelExportFlags struct {
	// dtype and maxShardSize are about safetensors, ggufType about GGUF.
	dtype, maxShardSize, format, ggufType string
}

// modelExportCmd is "trimtab model export". The folder is written completely
// or not at all, except for the proofs, which come last. The export is
// recorded as an event: the record should show who took a copy of a model.
func (a *app) modelExportCmd() *cobra.Command {
	var o modelExportFlags
	cmd := &cobra.Command{
		Use: "export MODEL FOLDER", Short: "export a model as a Hugging Face folder or GGUF file, with its papers",
		Args: argCount(2, 2),
		Long: `Write the files of a model to a new or empty folder, together with its card (README.md),
provenance (provenance.json), bill of materials (bom.json), chat template
(chat_template.jinja), sampling parameters of the run (generation_config.json) and, if a
head of the record has been signed, proofs of its origin (proofs.json; see "audit prove
--offline"). These are not part of the model: importing the folder gives the same digest.
A reward model is written such that other programs compute the same scores: its bias is
folded into the last layer norm, and it has a padding token.

--dtype bf16 rounds the weights to half their size, --dtype f32 writes those that are
stored as bf16 in full. Either makes another model, which has no proofs. Weights larger
than --max-shard-size are divided into several files with an index.

--format gguf writes a language model for llama.cpp: FOLDER/model.gguf with the tokenizer's
files and the papers beside it, or only the file if the target ends in .gguf.`,
		Example: `  trimtab model export my-assistant/ppo ./my-assistant
  trimtab model export my-assistant/ppo ./my-assistant --dtype bf16 --max-shard-size 2GB
  trimtab model export my-assistant/ppo ./my-assistant.gguf --format gguf --gguf-type q8_0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := newExport(o, args[1], cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.exportTo(ctx, s, args[0], e)
			})
		},
	}
	cmd.Flags().StringVar(&o.format, "format", formatSafetensors, "safetensors, a Hugging Face folder, or gguf")
	cmd.Flags().StringVar(&o.dtype, "dtype", "", "type of the weights: f32 or bf16 (default: as they are stored)")
	cmd.Flags().StringVar(&o.maxShardSize, "max-shard-size", "5GB", "size above which the weights are divided")
	cmd.Flags().StringVar(&o.ggufType, "gguf-type", "",
		"type of a GGUF file's matrices: f32, f16, bf16 or q8_0 (default: as they are stored)")
	return cmd
}

// exportTo resolves a model, exports it, records that, and adds proofs.
func (a *app) exportTo(ctx context.Context, s *session, ref string, e *modelExport) error {
	// Resolve the model and check the target before anything is computed:
	// both fail often, and neither needs the model to be read.
	art, err := resolve(ctx, s, ref)
	if err != nil {
		return err
	}
	if err := e.checkTarget(); err != nil {
		return err
	}
	e.digest, e.run = art.Digest, runIn(ctx, s, ref)
	if e.format == formatGGUF {
		err = a.exportGGUF(ctx, s, e)
	} else {
		err = e.exportFolder(ctx, s)
	}
	if err != nil {
		return err
	}
	if err := s.store.RecordEvent(ctx, modelStream(art), a.actor(), trimtab.EventModelExported,
		map[string]any{"digest": art.Digest}); err != nil {
		return err
	}
	if e.provable {
		// Proofs come after the event: they may cover it.
		proved, err := a.writeProofs(ctx, s, art.Digest, e.target)
		if err != nil {
			return err
		}
		if proved {
			e.papers = append(e.papers, proofsName)
		}
	}
	return a.printExport(e)
}

// printExport says what was written.
func (a *app) printExport(e *modelExport) error {
	if a.wantsJSON() {
		folder := e.target
		if e.single {
			folder = filepath.Dir(e.target)
		}
		return a.printDocument(map[string]any{
			"schema": "trimtab.export/v1", "digest": e.digest, "folder": folder, "papers": e.papers, "notes": e.notes,
			"format": e.format, "weights": e.weights,
		})
	}
	beside := ""
	if len(e.papers) > 0 {
		beside = ", with " + strings.Join(e.papers, ", ")
	}
	fmt.Fprintf(a.out, "wrote %s to %s%s\n", e.digest, escapeLine(e.target), beside)
	for _, note := range e.notes {
		fmt.Fprintln(a.out, note)
	}
	return nil
}

// exportFolder writes a model as a Hugging Face folder, with the files that
// accompany it. All files are computed before the first is written, so that a
// missing fact leaves no folder behind.
func (e *modelExport) exportFolder(ctx context.Context, s *session) error {
	form, err := checkpoint.ExportFormAs(s.files, e.digest, e.options)
	if err != nil {
		return err
	}
	f, err := s.runs.Facts(ctx, e.digest, e.run)
	if err != nil {
		return err
	}
	f.Exported = nil
	for _, file := range form.Changed {
		f.Exported = append(f.Exported, papers.ModelFile(file))
	}
	beside, err := e.accompany(ctx, s, f, form)
	if err != nil {
		return err
	}
	if e.provable = !form.Converted; form.Converted {
		e.notes = append(e.notes, fmt.Sprintf("the weights were converted to %s, so that the folder holds another "+
			"model than %s: it has no proofs", e.options.DType, e.digest.Short()))
	}
	for _, file := range form.Files {
		if strings.HasSuffix(file.Name, ".safetensors") {
			e.weights = append(e.weights, file.Name)
		}
	}
	return checkpoint.WriteFolder(e.target, append(form.Files, beside...))
}

// accompany returns the papers of an exported folder and the files that say
// how it is used, and notes their names. They are not covered by the model's
// digest, so that a folder with an edited card is still the same model.
func (e *modelExport) accompany(
	ctx context.Context, s *session, f *papers.Facts, form checkpoint.Exported,
) ([]checkpoint.File, error) {
	files, err := paperFiles(f)
	if err != nil {
		return nil, err
	}
	use, notes, err := usageFiles(ctx, s, e.digest, e.run, form)
	if err != nil {
		return nil, err
	}
	files = append(files, use...)
	for _, p := range files {
		e.papers = append(e.papers, p.Name)
	}
	e.notes = append(e.notes, notes...)
	return files, nil
}

// usageFiles are the files by which other programs use the model as it was
// trained: chat_template.jinja gives the prompt format that ppo sampled with,
// and generation_config.json the temperature and the stop tokens. The notes
// say how the exported form differs from the stored one. A model without a
// tokenizer has neither.
func usageFiles(
	ctx context.Context, s *session, d trimtab.Digest, run string, form checkpoint.Exported,
) ([]checkpoint.File, []string, error) {
	if form.Tokenizer == nil {
		return nil, nil, nil
	}
	var files []checkpoint.File
	var notes []string
	// Other programs split a text around its special tokens in ways that the
	// tokenizer's settings decide. Where no template gives the ids that
	// training used, none is better than a wrong one.
	if text, ok := dataset.ChatTemplate(form.Tokenizer); ok {
		files = append(files, checkpoint.File{Name: "chat_template.jinja", Data: text})
	} else {
		notes = append(notes,
			"no chat template was written: other programs would match the begin and end tokens differently")
	}
	if form.Padded {
		notes = append(notes, "a padding token was added, which other programs need to score batches")
	}
	switch {
	case form.KeepsBias:
		notes = append(notes, "score.bias could not be folded into the last layer norm: other programs ignore it, "+
			"and their scores differ by that constant")
	case form.Folded:
		notes = append(notes,
			"score.bias was folded into the last layer norm, so that other programs compute the same scores")
	}
	// A reward model is not sampled: it has no generation config.
	if form.Scalar {
		return files, notes, nil
	}
	how, err := s.runs.Sampling(ctx, d, run)
	return append(files, checkpoint.GenerationConfig(form.Tokenizer, how)), notes, err
}
