package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// Hugging Face's GPT2ForSequenceClassification has a score without a bias, and
// scores a batch only where there is a padding token that ends no text. A
// reward model is therefore exported in another form than it is stored in:
//
//   - the bias c is folded into the bias of the last layer norm, to which
//     c·w/‖w‖² is added: w is score.weight, so the score grows by c;
//   - a vocabulary without a padding token gets one, <|pad|>, with a row of
//     zeros in the embedding.
//
// The metadata of model.safetensors says what was changed. From it Read restores
// the stored model, bit for bit, if no other byte was changed.
const (
	metaBias = "trimtab.score.bias"            // score.bias: base64 of a float32, little-endian
	metaNorm = "trimtab.transformer.ln_f.bias" // the unfolded bias of the last norm: C floats in the same form
	metaIDs  = "trimtab.vocab_size"            // without the padding token that was added; absent if none was
	metaPad  = "trimtab.pad_token_id"          // the padding token before one was added, if there was one
)

// Exported is an artifact as other programs read it.
type Exported struct {
	Files []File
	// Tokenizer is that of the exported folder; nil where the artifact is not a model.
	Tokenizer *tokenizer.Tokenizer
	// Scalar says that it is a reward model.
	Scalar bool
	// Changed describes those of Files that differ from the stored ones.
	Changed []Entry
	// Padded says that a padding token was added, and a row to the embedding for it.
	Padded bool
	// Folded says that score.bias was folded into the bias of the last norm.
	Folded bool
	// Converted says that the weights have another type than the stored ones: the folder is another model.
	Converted bool
	// KeepsBias says that score.bias could not be folded. It is in the file then, and
	// other programs leave it out: their scores are off by it.
	KeepsBias bool
}

// ExportForm returns an artifact as other programs read it: as it is stored,
// except for reward models (see metaBias), and for weights of more than 5 GB, which are
// divided. Errors: artifact_missing, artifact_corrupt.
func ExportForm(s *Store, d trimtab.Digest) (Exported, error) {
	return ExportFormAs(s, d, ExportOptions{})
}

// ExportFormAs is ExportForm with weights in another form. Errors: also unsupported_model for a type that is not
// written.
func ExportFormAs(s *Store, d trimtab.Digest, o ExportOptions) (Exported, error) {
	x, stored, err := exportForm(s, d)
	if err != nil {
		return x, err
	}
	if x.Tokenizer != nil { // a model
		if x.Files, x.Converted, err = o.apply(x.Files); err != nil {
			return x, annotate(err, "artifact %s", d.Short())
		}
	}
	for _, g := range x.Files {
		if !bytes.Equal(g.Data, fileData(stored, g.Name)) {
			x.Changed = append(x.Changed, Entry{g.Name, trimtab.DigestOf(g.Data), int64(len(g.Data))})
		}
	}
	return x, nil
}

// exportForm returns an artifact in its export form, with weights in one file, and the files as they are stored.
func exportForm(s *Store, d trimtab.Digest) (x Exported, stored []File, err error) {
	files, err := s.Files(d)
	if err != nil {
		return x, nil, err
	}
	x.Files = files
	config := fileData(files, configName)
	if config == nil {
		return x, files, nil
	}
	c, err := readConfig(config)
	if err != nil {
		return x, files, nil // a config that is not understood: the artifact is exported as it is
	}
	if x.Scalar = c.Scalar; !x.Scalar {
		x.Tokenizer, err = readTokenizer(files, c.claim)
		return x, files, err
	}
	f, err := readModel(files)
	if err != nil {
		return x, files, annotate(err, "artifact %s", d.Short())
	}
	form := newExportedModel(f.Model, f.Tokenizer)
	form.dtype = f.storedType()
	x.Tokenizer, x.KeepsBias, x.Padded = form.tokenizer, form.keepsBias, form.metadata[metaIDs] != ""
	x.Folded = form.metadata[metaBias] != ""
	x.Files, err = form.files()
	return x, files, err
}

// exportedModel is a reward model in the form for other programs.
type exportedModel struct {
	model     *model.Model
	tokenizer *tokenizer.Tokenizer
	metadata  map[string]string // of model.safetensors: what restoreStored needs
	keepsBias bool              // score.bias could not be folded
	dtype     string            // of the weights; "" is F32
}

// newExportedModel returns a copy of a reward model with the bias folded and a
// padding token added, as far as either is needed and possible.
func newExportedModel(m *model.Model, t *tokenizer.Tokenizer) exportedModel {
	x := exportedModel{model: withoutSpareHead(m).Clone(), tokenizer: t, metadata: map[string]string{"format": "pt"}}
	_, bias := x.model.ScoreHead()
	if math.Float32bits(bias[0]) != 0 { // bits: a bias of −0 has to come back as −0
		norm := lastNorm(m)
		if folded, ok := foldBias(m); ok {
			copy(lastNorm(x.model), folded)
			x.metadata[metaBias], x.metadata[metaNorm] = encodeFloats(bias), encodeFloats(norm)
			bias[0] = 0
		} else {
			x.keepsBias = true
		}
	}
	if pad := t.Pad(); pad == tokenizer.NoToken || slices.Contains(t.StopTokens(), pad) {
		x.metadata[metaIDs] = strconv.Itoa(m.Config.Vocab)
		if pad != tokenizer.NoToken {
			x.metadata[metaPad] = strconv.Itoa(int(pad))
		}
		x.tokenizer = t.WithPad()
		x.model = resizeVocab(x.model, x.tokenizer.VocabSize())
	}
	return x
}

// lastNorm returns the bias of the last norm (C), as a view into the model: writing
// to it changes the model. It is nil in models without one, such as those with RMS norms.
func lastNorm(m *model.Model) []float32 {
	named, name := m.NamedParameters(), m.Config.LastNormBias()
	i := slices.IndexFunc(named, func(p tensor.NamedArray) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return named[i].Data
}

// maxFoldError bounds the error of a score after folding, relative to the bias,
// or absolute where the bias is below 1.
const maxFoldError = 1e-5

// foldBias returns the last layer norm's bias with score.bias folded in. It
// reports false where the model has no such bias, or float32 cannot hold the result closely enough: where the
// score's weights are zero, or nearly so. It computes in float64 and rounds once.
func foldBias(m *model.Model) ([]float32, bool) {
	w, bias := m.ScoreHead()
	square, got := 0.0, 0.0
	for _, v := range w {
		square += float64(v) * float64(v)
	}
	norm := lastNorm(m)
	folded := make([]float32, len(norm))
	for i, v := range norm {
		folded[i] = float32(float64(v) + float64(bias[0])*float64(w[i])/square)
		got += float64(w[i]) * (float64(folded[i]) - float64(v))
	}
	off := math.Abs(got - float64(bias[0]))
	// off is how far the folded bias moves the score from the exact one.
	return folded, off <= maxFoldError*math.Max(1, math.Abs(float64(bias[0]))) // false for NaN
}

// resizeVocab returns a copy of a model with another number of rows in its
// embedding: rows of zeros are added at the end, or rows are cut off.
func resizeVocab(m *model.Model, vocab int) *model.Model {
	c := m.Config
	c.Vocab = vocab
	wide := model.New(c, m.Scalar)
	from := m.NamedParameters()
	for i, p := range wide.NamedParameters() {
		copy(p.Data, from[i].Data)
	}
	return wide
}

// files encodes the files of the exported folder, in order of name.
func (x exportedModel) files() ([]File, error) {
	arrays := storedArrays(x.model)
	if !x.keepsBias {
		arrays = slices.DeleteFunc(arrays, func(p tensor.NamedArray) bool { return p.Name == "score.bias" })
	}
	var b bytes.Buffer
	dtype := cmp.Or(x.dtype, "F32")
	if err := writeArrays(&b, arrays, x.metadata, dtype); err != nil {
		return nil, err
	}
	config, err := writeConfig(x.model, x.tokenizer, x.keepsBias, dtype)
	if err != nil {
		return nil, err
	}
	files := append(x.tokenizer.Files(),
		File{Name: configName, Data: config},
		File{Name: weightsName, Data: b.Bytes()})
	slices.SortFunc(files, func(a, b File) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return files, nil
}

// restoreStored turns a reward model that Export wrote back into the stored one.
// A model that another program has changed since is left as it is.
func (f *Folder) restoreStored(metadata map[string]string) {
	if !f.Model.Scalar || metadata[metaBias] == "" && metadata[metaIDs] == "" {
		return
	}
	x, ok := storedModel(f.Model, f.Tokenizer, metadata)
	// The metadata may be genuine and the weights changed: export again and compare.
	if !ok || !newExportedModel(x.model, x.tokenizer).equals(f.Model, f.Tokenizer) {
		f.Notes = append(f.Notes, "the reward model was changed after Trimtab exported it: it is taken as it is, "+
			"without the bias that it was stored with")
		return
	}
	f.Notes = append(f.Notes, "the reward model is one that Trimtab exported: "+
		"its bias and its vocabulary are those that it was stored with")
	f.Model, f.Tokenizer = x.model, x.tokenizer
}

// storedModel undoes newExportedModel by the metadata. The result is the stored
// model only if exporting it again gives the same bits, which the caller checks.
func storedModel(m *model.Model, t *tokenizer.Tokenizer, metadata map[string]string) (x exportedModel, ok bool) {
	x = exportedModel{model: m.Clone(), tokenizer: t}
	if metadata[metaIDs] != "" {
		vocab, err := strconv.Atoi(metadata[metaIDs])
		if err != nil || vocab < 1 || vocab > m.Config.Vocab {
			return x, false
		}
		pad := int64(tokenizer.NoToken)
		if raw := metadata[metaPad]; raw != "" {
			if pad, err = strconv.ParseInt(raw, 10, 32); err != nil {
				return x, false
			}
		}
		if x.tokenizer, ok = t.WithoutPad(vocab, int32(pad)); !ok {
			return x, false
		}
		x.model = resizeVocab(m, vocab)
	}
	if metadata[metaBias] == "" {
		return x, true
	}
	_, bias := x.model.ScoreHead()
	return x, decodeFloats(bias, metadata[metaBias]) && decodeFloats(lastNorm(x.model), metadata[metaNorm])
}

// equals reports whether x is the model of a folder, bit for bit.
func (x exportedModel) equals(m *model.Model, t *tokenizer.Tokenizer) bool {
	same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
	return x.model.Config.Equal(m.Config) && x.tokenizer.Digest() == t.Digest() &&
		slices.EqualFunc(x.model.Slab, m.Slab, same)
}

// storedDigest returns the digest of the stored reward model from which a
// folder's files were exported. It reports false if any byte differs from what
// Export writes of that model.
func storedDigest(files []File) (trimtab.Digest, bool) {
	raw := fileData(files, weightsName)
	if raw == nil {
		return "", false
	}
	_, metadata, err := parseSafetensors(raw)
	// Most folders are not exported reward models: their digest needs no decoding.
	if err != nil || metadata[metaBias] == "" && metadata[metaIDs] == "" {
		return "", false
	}
	f, err := readModel(files)
	if err != nil {
		return "", false
	}
	// Only an export of that very model has these bytes.
	form := newExportedModel(f.Model, f.Tokenizer)
	form.dtype = f.storedType()
	again, err := form.files()
	if err != nil || len(again) != len(files) {
		return "", false
	}
	for _, g := range again {
		if !bytes.Equal(g.Data, fileData(files, g.Name)) {
			return "", false
		}
	}
	d, err := f.Digest()
	return d, err == nil
}

// encodeFloats encodes floats as base64 of their little-endian bytes, so that every
// bit comes back.
func encodeFloats(x []float32) string {
	var raw []byte
	for _, v := range x {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// decodeFloats decodes what encodeFloats wrote into dst. It reports false for any
// other text, or for another number of floats: the metadata come from a file that
// other programs may have rewritten.
func decodeFloats(dst []float32, s string) bool {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != 4*len(dst) {
		return false
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return true
}
