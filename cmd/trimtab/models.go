package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tokenizer"
)

func (a *app) modelCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "model", Short: "models: list, show, lineage, papers, import, export", RunE: group,
		Long: `Models are Hugging Face GPT-2 folders under the digest of their content. Wherever a
command takes MODEL, give a digest or its beginning, RUN/STAGE, or a name.`,
		Example: "  trimtab model list\n  trimtab model export my-assistant/ppo ./my-assistant",
	}
	cmd.AddCommand(a.modelListCmd(), a.modelShowCmd(), a.modelLineageCmd(), a.modelCardCmd(), a.modelProvenanceCmd(), a.modelBOMCmd(), a.modelImportCmd(), a.modelExportCmd())
	return cmd
}

// artifact is a stored model as this program shows it.
type artifact struct {
	Name       string         `json:"name"`
	Digest     trimtab.Digest `json:"digest"`
	Kind       string         `json:"kind"`
	Run        string         `json:"run"`
	Stage      string         `json:"stage"`
	Parameters int64          `json:"parameters"`
	CreatedAt  time.Time      `json:"created_at"`
}

func artifactOf(x storage.Artifact) artifact {
	return artifact{x.Name, x.Digest, x.Kind, x.Run, x.Stage, x.Parameters, x.CreatedAt.UTC()}
}

var artifactColumns = []column[artifact]{
	{name: "digest", full: func(m artifact) string { return string(m.Digest) }, short: func(m artifact) string { return m.Digest.Short() }},
	{name: "name", full: func(m artifact) string { return m.Name }},
	{name: "kind", full: func(m artifact) string { return m.Kind }},
	{name: "run", full: func(m artifact) string { return m.Run }, short: func(m artifact) string { return shortID(m.Run) }},
	{name: "stage", full: func(m artifact) string { return m.Stage }},
	{name: "parameters", full: func(m artifact) string { return strconv.FormatInt(m.Parameters, 10) }, short: func(m artifact) string { return count(float64(m.Parameters)) }, right: true},
	{name: "created_at", full: func(m artifact) string { return m.CreatedAt.Format(time.RFC3339) }, short: func(m artifact) string { return ago(m.CreatedAt) }},
}

func (a *app) modelListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "every model, newest first", Args: takes(0, 0), Example: "  trimtab model list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				all, err := s.store.Artifacts(ctx)
				if err != nil {
					return err
				}
				var items []artifact
				for _, x := range all {
					items = append(items, artifactOf(x))
				}
				return printList(a, list[artifact]{
					schema: "trimtab.models/v1", key: "models", items: items, columns: artifactColumns,
					empty: "no models yet: trimtab align makes some, trimtab model import takes one in",
				})
			})
		},
	}
}

// modelDocument is one model in full.
type modelDocument struct {
	Schema string `json:"schema"`
	artifact
	Config    model.Config `json:"config"`
	Scalar    bool         `json:"scalar_head"`
	Tokenizer string       `json:"tokenizer"`
	Files     []fileEntry  `json:"files"`
}

type fileEntry struct {
	Path   string         `json:"path"`
	Bytes  int            `json:"bytes"`
	Digest trimtab.Digest `json:"digest"`
}

func (a *app) modelShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show MODEL", Short: "one model: shape, origin, files; every digest is verified", Args: takes(1, 1),
		Example: "  trimtab model show my-assistant/ppo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				doc, err := describe(ctx, s, args[0])
				if err != nil {
					return err
				}
				return a.printModel(doc)
			})
		},
	}
}

func describe(ctx context.Context, s *session, ref string) (modelDocument, error) {
	x, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return modelDocument{}, err
	}
	files, err := s.files.Files(x.Digest)
	if err != nil {
		return modelDocument{}, err
	}
	doc := modelDocument{Schema: "trimtab.model/v1", artifact: artifactOf(x), Config: m.Config, Scalar: m.Scalar, Tokenizer: t.Digest()}
	for _, f := range files {
		doc.Files = append(doc.Files, fileEntry{f.Name, len(f.Data), trimtab.DigestOf(f.Data)})
	}
	return doc, nil
}

func (a *app) printModel(doc modelDocument) error {
	if a.documents() {
		return a.printDocument(doc)
	}
	files := list[fileEntry]{items: doc.Files, columns: []column[fileEntry]{
		{name: "path", full: func(f fileEntry) string { return f.Path }},
		{name: "bytes", full: func(f fileEntry) string { return strconv.Itoa(f.Bytes) }, right: true},
		{name: "digest", full: func(f fileEntry) string { return string(f.Digest) }},
	}}
	if a.format == formatCSV {
		return printCSV(a.out, files)
	}
	c := doc.Config
	head := "language model"
	if doc.Scalar {
		head = "reward model (scalar head)"
	}
	for _, line := range [][2]string{
		{"digest", string(doc.Digest)}, {"name", doc.Name}, {"origin", origins(doc.artifact)}, {"head", head},
		{"shape", fmt.Sprintf("%d layers, width %d, %d heads, context %d, vocabulary %d", c.Layers, c.Width, c.Heads, c.Context, c.Vocab)},
		{"size", count(float64(doc.Parameters)) + " parameters"}, {"tokenizer", doc.Tokenizer},
	} {
		fmt.Fprintf(a.out, "%-10s%s\n", line[0], clean(line[1]))
	}
	fmt.Fprintln(a.out)
	return printList(a, files)
}

func origins(x artifact) string {
	if x.Run == "" {
		return "imported " + ago(x.CreatedAt)
	}
	return fmt.Sprintf("stage %s of run %s, %s", x.Stage, x.Run, ago(x.CreatedAt))
}

// resolve finds a model by digest, its beginning, RUN/STAGE or name, and by
// the name that a run shows it under, as in RUN/base.
func resolve(ctx context.Context, s *session, ref string) (storage.Artifact, error) {
	x, err := s.store.ResolveArtifact(ctx, ref)
	run, name, ok := strings.Cut(ref, "/")
	if err != nil && !ok && trimtab.AsError(err).Class == trimtab.NotFound {
		return x, s.noModel(ctx, ref, err)
	}
	if err == nil || !ok || trimtab.AsError(err).Class != trimtab.NotFound {
		return x, err
	}
	doc, missing := s.runs.Show(ctx, run)
	if missing != nil {
		return x, err
	}
	for _, m := range doc.Models {
		if m.Name == name {
			return s.store.ResolveArtifact(ctx, string(m.Digest))
		}
	}
	return x, err
}

// noModel says how to name a model of a run, where ref is one.
func (s *session) noModel(ctx context.Context, ref string, err error) error {
	remedy := "list them with `trimtab model list`"
	if doc, missing := s.runs.Show(ctx, ref); missing == nil && len(doc.Models) > 0 {
		remedy = fmt.Sprintf("%s is a run: name one of its models, such as %s/%s", ref, ref, doc.Models[len(doc.Models)-1].Name)
	}
	return trimtab.NewError(trimtab.NotFound, trimtab.AsError(err).Type, remedy, "there is no model %q", ref)
}

// loadModel resolves a reference and loads what it names, verified.
func loadModel(ctx context.Context, s *session, ref string) (storage.Artifact, *model.Model, *tokenizer.Tokenizer, error) {
	x, err := resolve(ctx, s, ref)
	if err != nil {
		return x, nil, nil, err
	}
	m, t, err := checkpoint.LoadModel(s.files, x.Digest)
	return x, m, t, err
}

func (a *app) modelImportCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "import FOLDER", Short: "take in a Hugging Face GPT-2 folder", Args: takes(1, 1),
		Example: "  trimtab model import ./gpt2 --name gpt2",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if name == "" {
				name = filepath.Base(dir)
			}
			if err := plainName("the model's name", name); err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.importModel(ctx, s, args[0], name) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the model (default: the folder's)")
	return cmd
}

func (a *app) importModel(ctx context.Context, s *session, dir, name string) error {
	if _, err := os.Stat(dir); err != nil {
		return fileError(dir, err)
	}
	if err := s.runs.Tie(ctx); err != nil {
		return err
	}
	digest, err := checkpoint.Import(s.files, dir)
	if err != nil {
		return err
	}
	m, _, err := checkpoint.LoadModel(s.files, digest)
	if err != nil {
		return err
	}
	kind := "model"
	if m.Scalar {
		kind = "reward"
	}
	if err := s.store.PutArtifact(ctx, storage.Artifact{Digest: digest, Kind: kind, Name: name, Parameters: int64(len(m.Slab))}, a.actor()); err != nil {
		return err
	}
	doc, err := describe(ctx, s, string(digest))
	if err != nil {
		return err
	}
	doc.Name, doc.Run, doc.Stage = name, "", "" // the same model may have other names, and a run that made it
	return a.printModel(doc)
}

// plainName refuses a name that commands could not find again, or not tell from other references.
func plainName(flag, name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '@' }
	if name == "" || utf8.RuneCountInString(name) > 200 || strings.ContainsFunc(name, bad) || strings.HasPrefix(name, "sha256:") {
		return usagef("use 1 to 200 characters without spaces and @", "%s is %q", flag, name)
	}
	return nil
}

// streamOfModel is the stream that tells of a model: that of its run, or its own.
func streamOfModel(x storage.Artifact) string {
	if x.Run != "" {
		return x.Run
	}
	return "artifact/" + string(x.Digest)
}

func (a *app) modelExportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export MODEL FOLDER", Short: "write a model as a Hugging Face folder, with its papers", Args: takes(2, 2),
		Long: `Write the files of a model into a new or empty folder, and beside them its card
(README.md), provenance (provenance.json), bill of materials (bom.json) and, where a head
of the record was signed, proofs of where it came from (proofs.json; see "audit prove
--offline"). These are no part of the model: imported again, the folder has the same digest.`,
		Example: "  trimtab model export my-assistant/ppo ./my-assistant",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				x, err := resolve(ctx, s, args[0])
				if err != nil {
					return err
				}
				if err := forNewFiles(args[1]); err != nil {
					return err
				}
				f, err := s.runs.Facts(ctx, x.Digest, runIn(ctx, s, args[0]))
				if err != nil {
					return err
				}
				beside, err := papersOf(f)
				if err != nil {
					return err
				}
				if err := checkpoint.Export(s.files, x.Digest, args[1], beside...); err != nil {
					return err
				}
				if err := s.store.Tell(ctx, streamOfModel(x), a.actor(), "model_exported", map[string]any{"digest": x.Digest}); err != nil {
					return err
				}
				proved, err := a.putProofs(ctx, s, x.Digest, args[1])
				if err != nil {
					return err
				}
				var names []string
				for _, p := range beside {
					names = append(names, p.Name)
				}
				if proved {
					names = append(names, proofsName)
				}
				if a.documents() {
					return a.printDocument(map[string]any{"schema": "trimtab.export/v1", "digest": x.Digest, "folder": args[1], "papers": names})
				}
				fmt.Fprintf(a.out, "%s is in %s, with %s\n", x.Digest, clean(args[1]), strings.Join(names, ", "))
				return nil
			})
		},
	}
}
