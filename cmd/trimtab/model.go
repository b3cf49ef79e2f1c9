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
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tokenizer"
)

// modelCmd is "trimtab model", the group of commands about models.
func (a *app) modelCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "model", Short: "models: list, show, lineage, papers, import, export", RunE: group,
		Long: `Models are Hugging Face folders, stored under the digest of their content. MODEL is
a digest or its beginning, RUN/STAGE, or a name.`,
		Example: "  trimtab model list\n  trimtab model export my-assistant/ppo ./my-assistant",
	}
	cmd.AddCommand(a.modelListCmd(), a.modelShowCmd(), a.modelLineageCmd(), a.modelCardCmd(), a.modelProvenanceCmd(),
		a.modelBOMCmd(), a.modelImportCmd(), a.modelExportCmd())
	return cmd
}

// artifact is a stored model as this program shows it.
type artifact struct {
	// Name is the name of an imported model, or RUN/STAGE.
	Name   string         `json:"name"`
	Digest trimtab.Digest `json:"digest"`
	// Kind is "model" for a language model, and "reward" for one with a
	// scalar head.
	Kind string `json:"kind"`
	// Run and Stage are empty for an imported model.
	Run        string    `json:"run"`
	Stage      string    `json:"stage"`
	Parameters int64     `json:"parameters"`
	CreatedAt  time.Time `json:"created_at"`
}

// artifactOf converts a stored model.
func artifactOf(art storage.Artifact) artifact {
	return artifact{art.Name, art.Digest, art.Kind, art.Run, art.Stage, art.Parameters, art.CreatedAt.UTC()}
}

// artifactColumns are the columns of model list. The short digest is enough
// to name a model in other commands.
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

// modelListCmd is "trimtab model list".
func (a *app) modelListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list models, newest first", Args: argCount(0, 0), Example: "  trimtab model list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				all, err := s.store.Artifacts(ctx)
				if err != nil {
					return err
				}
				var items []artifact
				for _, art := range all {
					items = append(items, artifactOf(art))
				}
				return printList(a, list[artifact]{
					schema: "trimtab.models/v1", key: "models", items: items, columns: artifactColumns,
					empty: "no models yet: trimtab align trains some, trimtab model import imports one",
				})
			})
		},
	}
}

// modelDocument is one model in full.
type modelDocument struct {
	Schema string `json:"schema"`
	artifact
	Config model.Config `json:"config"`
	// Scalar is true for a reward model.
	Scalar bool `json:"scalar_head"`
	// Tokenizer is the digest of the tokenizer's files.
	Tokenizer string         `json:"tokenizer"`
	Tokens    tokensDocument `json:"tokens"`
	// Import is set in the output of model import only.
	Import *modelImportDocument `json:"import,omitempty"`
	// Files are the files as stored, by path.
	Files []fileEntry `json:"files"`
}

// tokensDocument describes the special tokens of a vocabulary.
type tokensDocument struct {
	// IDs is the size of the model's vocabulary, and Tokens that of the
	// tokenizer's: ids from there on have no text and are never sampled.
	IDs    int `json:"ids"`
	Tokens int `json:"tokens"`
	// Begin is the token that begins a text.
	Begin idToken `json:"begin"`
	// Ends are the tokens each of which ends a text.
	Ends []idToken `json:"ends"`
	// Pad is null for a vocabulary without a padding token.
	Pad *idToken `json:"pad"`
	// Special are all special tokens, including those above.
	Special []idToken `json:"special"`
}

// idToken is a token with its text.
type idToken struct {
	ID   int32  `json:"id"`
	Text string `json:"text"`
}

// tokensOf describes a tokenizer's special tokens.
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

// line is the description as one line for people: "begin <|endoftext|>
// (50256), end …, pad none". Ids are in parentheses, as no text of a token is
// sure not to look like a number.
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
		// Special tokens that have none of these functions are listed last.
		if t != d.Begin && !slices.Contains(d.Ends, t) && (d.Pad == nil || t != *d.Pad) {
			more = append(more, t)
		}
	}
	if len(more) > 0 {
		line += ", special " + show(more...)
	}
	return line
}

// fileEntry is a file of a model, with its size in bytes and its digest.
type fileEntry struct {
	Path   string         `json:"path"`
	Bytes  int            `json:"bytes"`
	Digest trimtab.Digest `json:"digest"`
}

// modelShowCmd is "trimtab model show".
func (a *app) modelShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show MODEL", Short: "show a model: shape, origin, files; every digest is verified", Args: argCount(1, 1),
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

// describe loads and verifies a model. The document has the name that it was
// asked for by, and the first origin of its bytes: the same weights may be
// the output of several attempts.
func describe(ctx context.Context, s *session, ref string) (modelDocument, error) {
	art, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return modelDocument{}, err
	}
	// Resolved by digest, the artifact is the first that had these bytes.
	first, err := s.store.ResolveArtifact(ctx, string(art.Digest))
	if err != nil {
		return modelDocument{}, err
	}
	first.Name = art.Name
	entries, err := checkpoint.Contents(s.files, art.Digest)
	if err != nil {
		return modelDocument{}, err
	}
	return documentOf(artifactOf(first), m, t, entries), nil
}

// documentOf builds the document of a model from its row in the database, the
// loaded model and tokenizer, and the manifest of its files.
func documentOf(art artifact, m *model.Model, t *tokenizer.Tokenizer, entries []checkpoint.Entry) modelDocument {
	doc := modelDocument{
		Schema: "trimtab.model/v1", artifact: art, Config: m.Config, Scalar: m.Scalar, Tokenizer: t.Digest(),
		Tokens: tokensOf(t),
	}
	for _, e := range entries {
		doc.Files = append(doc.Files, fileEntry{e.Name, int(e.Bytes), e.Digest})
	}
	return doc
}

// printModel prints a model as labels and values with a table of its files,
// or as CSV only the files. An import puts its report in front.
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

// describeOrigin says where a model came from: an import, or a stage of a
// run. The zero time means that the model is not stored: a preview of an
// import.
func describeOrigin(art artifact) string {
	if art.CreatedAt.IsZero() {
		return "not imported yet"
	}
	if art.Run == "" {
		return "imported " + formatAgo(art.CreatedAt)
	}
	return fmt.Sprintf("stage %s of run %s, %s", art.Stage, art.Run, formatAgo(art.CreatedAt))
}

// resolve finds a model by digest, by its beginning, by RUN/STAGE or by name,
// and also by the name under which a run shows it, as in RUN/base: a run's
// base model is not an output of its stages.
func resolve(ctx context.Context, s *session, ref string) (storage.Artifact, error) {
	art, err := s.store.ResolveArtifact(ctx, ref)
	// RUN/NAME may be an output, which the store knows, or a name that only
	// the view of the run gives, such as RUN/base.
	run, name, ok := strings.Cut(ref, "/")
	if err != nil && !ok && trimtab.AsError(err).Class == trimtab.NotFound {
		return art, s.modelNotFound(ctx, ref, err)
	}
	if err == nil || !ok || trimtab.AsError(err).Class != trimtab.NotFound {
		return art, err
	}
	// Its error is dropped: the user asked for a model, and err is about
	// that.
	doc, missing := s.runs.Show(ctx, run)
	if missing != nil {
		return art, err
	}
	for _, m := range doc.Models {
		if m.Name == name {
			return s.store.ResolveArtifact(ctx, string(m.Digest))
		}
	}
	return art, err
}

// modelNotFound is the error for a reference without a slash that names no
// model. If it names a run, the hint is one of the run's models.
func (s *session) modelNotFound(ctx context.Context, ref string, err error) error {
	remedy := "list them with `trimtab model list`"
	if doc, missing := s.runs.Show(ctx, ref); missing == nil && len(doc.Models) > 0 {
		remedy = fmt.Sprintf("%s is a run: name one of its models, for example %s/%s", ref, ref,
			doc.Models[len(doc.Models)-1].Name)
	}
	return trimtab.NewError(trimtab.NotFound, trimtab.AsError(err).Type, remedy, "there is no model %q", ref)
}

// loadModel resolves a reference and loads the model, with every file
// verified against its digest. It is not to be written to: its weights may be
// those of the store's file.
func loadModel(
	ctx context.Context, s *session, ref string,
) (storage.Artifact, *model.Model, *tokenizer.Tokenizer, error) {
	art, err := resolve(ctx, s, ref)
	if err != nil {
		return art, nil, nil, err
	}
	m, t, err := checkpoint.LoadFrozen(s.files, art.Digest)
	return art, m, t, err
}

// checkPlainName rejects a name for a dataset or model that could be mistaken
// for a digest or for NAME@VERSION, or that would need quoting in a shell.
// flag says in the error what the name is of.
func checkPlainName(flag, name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '@' }
	if name == "" || utf8.RuneCountInString(name) > 200 || strings.ContainsFunc(name, bad) ||
		strings.HasPrefix(name, "sha256:") {
		return usagef("use 1 to 200 characters, without spaces or @", "%s is %q", flag, name)
	}
	return nil
}

// modelStream is the stream that events about a model are recorded in: its
// run's, or its own if it was imported.
func modelStream(art storage.Artifact) string {
	if art.Run != "" {
		return art.Run
	}
	return "artifact/" + string(art.Digest)
}
