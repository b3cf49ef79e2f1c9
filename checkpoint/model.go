package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// Names of the files that every stored model has; the tokenizer adds its own.
const (
	configName  = "config.json"
	weightsName = "model.safetensors"
)

// SaveModel stores a model and its tokenizer as an artifact: config.json as the family has it (its CausalLM class,
// or its classifier with one label for a scalar head), model.safetensors (F32, in the order of the parameter slab,
// with the names and shapes of Hugging Face and the metadata {"format":"pt"}), and the tokenizer's files. The digest
// is a function of the parameters, the shape and the vocabulary alone. Errors: not_a_number, vocabulary_mismatch,
// unsupported_model, disk_full.
func SaveModel(s *Store, m *model.Model, t *tokenizer.Tokenizer) (trimtab.Digest, error) {
	return saveModel(s, m, t, "F32")
}

// saveModel stores a model whose weights are written as dtype.
func saveModel(s *Store, m *model.Model, t *tokenizer.Tokenizer, dtype string) (trimtab.Digest, error) {
	entries, err := modelEntries(m, t, dtype, s.putObject)
	if err != nil {
		return "", err
	}
	return s.putManifest(entries)
}

// ptMetadata is the metadata that PyTorch's libraries expect of weights.
var ptMetadata = map[string]string{"format": "pt"}

// putFunc takes one file of a model, named name, that write writes, and returns
// its manifest entry. Store.putObject stores the file, hashEntry only hashes it.
type putFunc func(name string, write func(io.Writer) error) (manifestEntry, error)

// modelEntries passes each file of a stored model to put and returns the entries
// of its manifest. It is shared by storing a model and by computing its digest, so
// that the two cannot disagree.
func modelEntries(m *model.Model, t *tokenizer.Tokenizer, dtype string, put putFunc) ([]manifestEntry, error) {
	if err := sameVocab(m.Config, t); err != nil {
		return nil, err
	}
	// Before anything is written, so that a diverged model leaves nothing behind.
	if err := checkFinite(m.NamedParameters()); err != nil {
		return nil, annotate(err, "model to store")
	}
	m = withoutSpareHead(m)
	config, err := writeConfig(m, t, true, dtype)
	if err != nil {
		return nil, err
	}
	weights, err := put(weightsName, func(w io.Writer) error {
		return writeArrays(w, storedArrays(m), ptMetadata, dtype)
	})
	if err != nil {
		return nil, err
	}
	// The manifest sorts its lines, so the order in which files are written is free.
	entries := []manifestEntry{weights}
	for _, f := range append(t.Files(), File{Name: configName, Data: config}) {
		e, err := put(f.Name, func(w io.Writer) error { _, err := w.Write(f.Data); return err })
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// withoutSpareHead returns a reward model without an output head of its own, which nothing reads: Hugging Face's
// classifiers have none. Any other model is returned as it is.
func withoutSpareHead(m *model.Model) *model.Model {
	if !m.Scalar || !m.Config.Untied {
		return m
	}
	c := m.Config
	c.Untied = false
	bare := model.New(c, true)
	from := m.NamedParameters()
	for _, p := range bare.NamedParameters() {
		i := slices.IndexFunc(from, func(q tensor.NamedArray) bool { return q.Name == p.Name })
		copy(p.Data, from[i].Data)
	}
	return bare
}

// storedArrays lists the parameters of a model as files hold them: see model.StoredArray.
func storedArrays(m *model.Model) []tensor.NamedArray {
	arrays := m.NamedParameters()
	for i, p := range m.Config.StoredArrays(m.Scalar) {
		if p.Spare > 0 {
			arrays[i].Shape, arrays[i].Data = p.Shape, append(make([]float32, p.Spare), arrays[i].Data...)
		}
	}
	return arrays
}

// hashEntry returns the entry of a file without storing it.
func hashEntry(name string, write func(io.Writer) error) (manifestEntry, error) {
	h := sha256.New()
	n := byteCounter(0)
	if err := write(io.MultiWriter(h, &n)); err != nil {
		return manifestEntry{}, err
	}
	return manifestEntry{digest: trimtab.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), size: int64(n),
		name: name}, nil
}

// byteCounter is a writer that counts bytes.
type byteCounter int64

// Write adds the length of p.
func (c *byteCounter) Write(p []byte) (int, error) { *c += byteCounter(len(p)); return len(p), nil }

// LoadModel reads a model that SaveModel stored, verifying every file. The model
// and the tokenizer are the caller's; nothing is cached. Errors: artifact_missing,
// artifact_corrupt, not_a_number, unsupported_model.
func LoadModel(s *Store, d trimtab.Digest) (*model.Model, *tokenizer.Tokenizer, error) {
	files, err := s.Files(d)
	if err != nil {
		return nil, nil, err
	}
	f, err := readModel(files)
	if err != nil {
		return nil, nil, annotate(err, "artifact %s", d.Short())
	}
	return f.Model, f.Tokenizer, nil
}

// sameVocab refuses a tokenizer with another number of ids than the model has
// rows in its embedding. Error: vocabulary_mismatch.
func sameVocab(c model.Config, t *tokenizer.Tokenizer) error {
	if c.Vocab == t.VocabSize() {
		return nil
	}
	return trimtab.NewError(trimtab.Invalid, "vocabulary_mismatch",
		"use the tokenizer that the model was made with",
		"the model has %d token ids, its tokenizer %d", c.Vocab, t.VocabSize())
}

// wholeFolder is the remedy where a folder is not what it has to be.
const wholeFolder = "give a Hugging Face folder of a family that Trimtab knows: config.json, model.safetensors " +
	"and the tokenizer's files"

// unsupportedError refuses a model that this transformer cannot compute, or
// files that are not a folder of one. The remedy says what a folder has to hold.
func unsupportedError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, "unsupported_model", wholeFolder, format, args...)
}

// readModel decodes the files of a Hugging Face folder. It accepts the
// variants of other programs, which Folder.Notes then name, and those of the
// store itself, which are the strict form.
func readModel(files []File) (*Folder, error) {
	c, err := readConfigFile(files)
	if err != nil {
		return nil, err
	}
	words, err := readTokenizer(files, c.claim)
	if err != nil {
		return nil, err
	}
	var notes []string
	if pad := c.claim.Pad; pad != nil && *pad != words.Pad() && *pad != words.EndOfText() {
		notes = append(notes,
			fmt.Sprintf("pad_token_id %d of %s left out: the tokenizer has another padding token", *pad, configName))
	}
	f, w, err := readBody(files, c)
	if err != nil {
		return nil, err
	}
	f.Tokenizer, f.Notes = words, append(notes, f.Notes...)
	// Last, when model and tokenizer are both known: it may replace them.
	f.restoreStored(w.metadata)
	return f, nil
}

// readConfigFile decodes config.json.
func readConfigFile(files []File) (modelInfo, error) {
	raw := fileData(files, configName)
	if raw == nil {
		return modelInfo{}, unsupportedError("%s is absent", configName)
	}
	c, err := readConfig(raw)
	if err != nil {
		return c, unsupportedError("%s: %w", configName, err)
	}
	return c, nil
}

// readBody decodes the weights, into a Folder without a tokenizer.
func readBody(files []File, c modelInfo) (*Folder, *weights, error) {
	w, err := readWeights(files)
	if err != nil {
		return nil, nil, err
	}
	f := &Folder{Architecture: c.Architecture}
	if f.Model, err = w.load(c.Config, c.Scalar); err != nil {
		return nil, nil, err
	}
	f.DType = w.dtypes()
	f.BF16 = f.DType == "BF16" && f.Model.Config.Family != "" // a GPT-2 is stored as ever
	f.Notes = append(w.notes, c.Notes...)
	return f, w, nil
}

// readTokenizer decodes the tokenizer. claims are what config.json says of the
// special tokens; those of generation_config.json are added, and all must agree.
func readTokenizer(files []File, claims ...tokenizer.ConfigIDs) (*tokenizer.Tokenizer, error) {
	if raw := fileData(files, generationName); raw != nil {
		g, err := model.ReadTokenIDs(raw)
		if err != nil {
			return nil, unsupportedError("%s: %w", generationName, err)
		}
		claims = append(claims, tokenizer.ConfigIDs{File: generationName, Begin: g.Begin, End: g.End, Pad: g.Pad})
	}
	t, err := tokenizer.Load(files, claims...)
	// A refusal of the tokenizer knows its own remedy.
	var refused *tokenizer.Refusal
	switch {
	case errors.As(err, &refused):
		return nil, trimtab.NewError(trimtab.Invalid, "unsupported_model", refused.Remedy, "tokenizer: %w", err)
	case err != nil:
		return nil, unsupportedError("tokenizer: %w", err)
	}
	return t, nil
}

// fileData returns the bytes of the file with that name, or nil if there is none.
func fileData(files []File, name string) []byte {
	at := slices.IndexFunc(files, func(f File) bool { return f.Name == name })
	if at < 0 {
		return nil
	}
	return files[at].Data
}
