package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/dataset"
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
	cmd.AddCommand(a.modelListCmd(), a.modelShowCmd(), a.modelLineageCmd(), a.modelCardCmd(), a.modelProvenanceCmd(),
		a.modelBOMCmd(), a.modelImportCmd(), a.modelExportCmd())
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
	{name: "digest", full: func(m artifact) string { return string(m.Digest) },
		short: func(m artifact) string { return m.Digest.Short() }},
	{name: "name", full: func(m artifact) string { return m.Name }},
	{name: "kind", full: func(m artifact) string { return m.Kind }},
	{name: "run", full: func(m artifact) string { return m.Run },
		short: func(m artifact) string { return shortID(m.Run) }},
	{name: "stage", full: func(m artifact) string { return m.Stage }},
	{name: "parameters", full: func(m artifact) string { return strconv.FormatInt(m.Parameters, 10) },
		short: func(m artifact) string { return formatCount(float64(m.Parameters)) }, right: true},
	{name: "created_at", full: func(m artifact) string { return m.CreatedAt.Format(time.RFC3339) },
		short: func(m artifact) string { return formatAgo(m.CreatedAt) }},
}

func (a *app) modelListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "every model, newest first", Args: argCount(0, 0), Example: "  trimtab model list -o json",
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
	Config    model.Config         `json:"config"`
	Scalar    bool                 `json:"scalar_head"`
	Tokenizer string               `json:"tokenizer"`
	Tokens    tokensDocument       `json:"tokens"`
	Import    *modelImportDocument `json:"import,omitempty"`
	Files     []fileEntry          `json:"files"`
}

// tokensDocument is what a vocabulary's ids mean.
type tokensDocument struct {
	IDs     int       `json:"ids"`    // of the model
	Tokens  int       `json:"tokens"` // ids from here on have no text and are never sampled
	Begin   idToken   `json:"begin"`
	Ends    []idToken `json:"ends"` // any of them ends a text
	Pad     *idToken  `json:"pad"`
	Special []idToken `json:"special"` // all of them, also those above
}

type idToken struct {
	ID   int32  `json:"id"`
	Text string `json:"text"`
}

func tokensOf(t *tokenizer.Tokenizer) tokensDocument {
	named := func(id int32) idToken { return idToken{id, t.Piece(id)} }
	d := tokensDocument{IDs: t.VocabSize(), Tokens: t.TokenCount(), Begin: named(t.BeginOfText())}
	for _, id := range t.StopTokens() {
		d.Ends = append(d.Ends, named(id))
	}
	for _, id := range t.Specials() {
		d.Special = append(d.Special, named(id))
	}
	if t.Pad() != tokenizer.NoToken {
		pad := named(t.Pad())
		d.Pad = &pad
	}
	return d
}

// line says the same in words.
func (d tokensDocument) line() string {
	show := func(list ...idToken) string {
		var words []string
		for _, t := range list {
			words = append(words, fmt.Sprintf("%s (%d)", t.Text, t.ID))
		}
		return strings.Join(words, ", ")
	}
	pad := "none"
	if d.Pad != nil {
		pad = show(*d.Pad)
	}
	line := fmt.Sprintf("begin %s, end %s, pad %s", show(d.Begin), show(d.Ends...), pad)
	var more []idToken
	for _, t := range d.Special {
		if t != d.Begin && !slices.Contains(d.Ends, t) && (d.Pad == nil || t != *d.Pad) {
			more = append(more, t)
		}
	}
	if len(more) > 0 {
		line += ", special " + show(more...)
	}
	return line
}

type fileEntry struct {
	Path   string         `json:"path"`
	Bytes  int            `json:"bytes"`
	Digest trimtab.Digest `json:"digest"`
}

func (a *app) modelShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show MODEL", Short: "one model: shape, origin, files; every digest is verified", Args: argCount(1, 1),
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

// describe is a model under the name that it was asked for by, with its first origin.
func describe(ctx context.Context, s *session, ref string) (modelDocument, error) {
	x, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return modelDocument{}, err
	}
	first, err := s.store.ResolveArtifact(ctx, string(x.Digest))
	if err != nil {
		return modelDocument{}, err
	}
	first.Name = x.Name
	entries, err := checkpoint.Contents(s.files, x.Digest)
	if err != nil {
		return modelDocument{}, err
	}
	return documentOf(artifactOf(first), m, t, entries), nil
}

func documentOf(x artifact, m *model.Model, t *tokenizer.Tokenizer, entries []checkpoint.Entry) modelDocument {
	doc := modelDocument{
		Schema: "trimtab.model/v1", artifact: x, Config: m.Config, Scalar: m.Scalar, Tokenizer: t.Digest(),
		Tokens: tokensOf(t),
	}
	for _, e := range entries {
		doc.Files = append(doc.Files, fileEntry{e.Name, int(e.Bytes), e.Digest})
	}
	return doc
}

func (a *app) printModel(doc modelDocument) error {
	if a.wantsJSON() {
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
	lines := [][2]string{
		{"digest", string(doc.Digest)}, {"name", doc.Name}, {"origin", describeOrigin(doc.artifact)}, {"head", head},
		{"shape", fmt.Sprintf("%d layers, width %d, %d heads, context %d, vocabulary %d", c.Layers, c.Width, c.Heads,
			c.Context, c.Vocab)},
		{"size", formatCount(float64(doc.Parameters)) + " parameters"}, {"tokenizer", doc.Tokenizer},
		{"tokens", doc.Tokens.line()},
	}
	if doc.Import != nil {
		lines = append(doc.Import.lines(), lines...)
	}
	for _, line := range lines {
		fmt.Fprintf(a.out, "%-10s%s\n", line[0], escapeLine(line[1]))
	}
	fmt.Fprintln(a.out)
	return printList(a, files)
}

func describeOrigin(x artifact) string {
	if x.CreatedAt.IsZero() {
		return "not here yet"
	}
	if x.Run == "" {
		return "imported " + formatAgo(x.CreatedAt)
	}
	return fmt.Sprintf("stage %s of run %s, %s", x.Stage, x.Run, formatAgo(x.CreatedAt))
}

// resolve finds a model by digest, its beginning, RUN/STAGE or name, and by
// the name that a run shows it under, as in RUN/base.
func resolve(ctx context.Context, s *session, ref string) (storage.Artifact, error) {
	x, err := s.store.ResolveArtifact(ctx, ref)
	run, name, ok := strings.Cut(ref, "/")
	if err != nil && !ok && trimtab.AsError(err).Class == trimtab.NotFound {
		return x, s.modelNotFound(ctx, ref, err)
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

// modelNotFound says how to name a model of a run, where ref is one.
func (s *session) modelNotFound(ctx context.Context, ref string, err error) error {
	remedy := "list them with `trimtab model list`"
	if doc, missing := s.runs.Show(ctx, ref); missing == nil && len(doc.Models) > 0 {
		remedy = fmt.Sprintf("%s is a run: name one of its models, such as %s/%s", ref, ref,
			doc.Models[len(doc.Models)-1].Name)
	}
	return trimtab.NewError(trimtab.NotFound, trimtab.AsError(err).Type, remedy, "there is no model %q", ref)
}

// loadModel resolves a reference and loads what it names, verified.
func loadModel(ctx context.Context, s *session, ref string) (storage.Artifact, *model.Model, *tokenizer.Tokenizer,
	error) {
	x, err := resolve(ctx, s, ref)
	if err != nil {
		return x, nil, nil, err
	}
	m, t, err := checkpoint.LoadModel(s.files, x.Digest)
	return x, m, t, err
}

// checkPlainName refuses a name that commands could not find again, or not tell from other references.
func checkPlainName(flag, name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '@' }
	if name == "" || utf8.RuneCountInString(name) > 200 || strings.ContainsFunc(name, bad) ||
		strings.HasPrefix(name, "sha256:") {
		return usagef("use 1 to 200 characters without spaces and @", "%s is %q", flag, name)
	}
	return nil
}

// modelStream is the stream that tells of a model: that of its run, or its own.
func modelStream(x storage.Artifact) string {
	if x.Run != "" {
		return x.Run
	}
	return "artifact/" + string(x.Digest)
}

func (a *app) modelExportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export MODEL FOLDER", Short: "write a model as a Hugging Face folder, with its papers",
		Args: argCount(2, 2),
		Long: `Write the files of a model into a new or empty folder, and beside them its card
(README.md), provenance (provenance.json), bill of materials (bom.json), the form of its
prompts (chat_template.jinja), how the run sampled it (generation_config.json) and, where a
head of the record was signed, proofs of where it came from (proofs.json; see "audit prove
--offline"). These are no part of the model: imported again, the folder has the same digest.
A reward model is written so that other programs score as it does: its bias is folded into
the last layer norm, and it has a padding token.`,
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
				beside, notes, err := exportModel(ctx, s, x.Digest, runIn(ctx, s, args[0]), args[1])
				if err != nil {
					return err
				}
				if err := s.store.RecordEvent(ctx, modelStream(x), a.actor(), "model_exported",
					map[string]any{"digest": x.Digest}); err != nil {
					return err
				}
				proved, err := a.writeProofs(ctx, s, x.Digest, args[1])
				if err != nil {
					return err
				}
				names := beside
				if proved {
					names = append(names, proofsName)
				}
				if a.wantsJSON() {
					return a.printDocument(map[string]any{
						"schema": "trimtab.export/v1", "digest": x.Digest, "folder": args[1], "papers": names,
						"notes": notes,
					})
				}
				fmt.Fprintf(a.out, "%s is in %s, with %s\n", x.Digest, escapeLine(args[1]), strings.Join(names, ", "))
				for _, note := range notes {
					fmt.Fprintln(a.out, note)
				}
				return nil
			})
		},
	}
}

// exportModel writes a model with what lies beside it; it lists that, and what is to be said.
func exportModel(ctx context.Context, s *session, d trimtab.Digest, run,
	dir string) (beside, notes []string, err error) {
	f, err := s.runs.Facts(ctx, d, run)
	if err != nil {
		return nil, nil, err
	}
	files, err := paperFiles(f)
	if err != nil {
		return nil, nil, err
	}
	x, err := checkpoint.ExportForm(s.files, d)
	if err != nil {
		return nil, nil, err
	}
	use, notes, err := usageFiles(ctx, s, d, run, x)
	if err != nil {
		return nil, nil, err
	}
	files = append(files, use...)
	for _, p := range files {
		beside = append(beside, p.Name)
	}
	return beside, notes, checkpoint.WriteFolder(dir, append(x.Files, files...))
}

// usageFiles are the files by which other programs use a model as it was trained, and what is to be said of its form.
func usageFiles(ctx context.Context, s *session, d trimtab.Digest, run string,
	x checkpoint.Exported) ([]checkpoint.File, []string, error) {
	if x.Tokenizer == nil {
		return nil, nil, nil
	}
	var files []checkpoint.File
	var notes []string
	if text, ok := dataset.ChatTemplate(x.Tokenizer); ok {
		files = append(files, checkpoint.File{Name: "chat_template.jinja", Data: text})
	} else {
		notes = append(notes,
			"there is no chat template: other programs take off what is beside the tokens that begin and end a text")
	}
	if x.Padded {
		notes = append(notes, "a padding token was added, by which other programs score a batch")
	}
	switch {
	case x.KeepsBias:
		notes = append(notes, "score.bias could not be folded into the last layer norm: other programs leave it out, "+
			"and their scores are off by it")
	case len(x.Changed) > 0:
		notes = append(notes, "score.bias is folded into the last layer norm, so that other programs score alike")
	}
	if x.Scalar {
		return files, notes, nil
	}
	how, err := s.runs.Sampling(ctx, d, run)
	return append(files, checkpoint.GenerationConfig(x.Tokenizer, how)), notes, err
}
