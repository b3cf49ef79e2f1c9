package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

const (
	configName  = "config.json"
	weightsName = "model.safetensors"
)

// SaveModel stores a model and its tokenizer as an artifact: config.json
// (GPT2LMHeadModel, or GPT2ForSequenceClassification with one label for a
// scalar head), model.safetensors (F32, in the order of the slab, names and
// shapes of Hugging Face's GPT-2; metadata {"format":"pt"}), and the
// tokenizer's files. The digest is a function of the parameters, the shape
// and the vocabulary. Errors: not_a_number, vocabulary_mismatch, disk_full.
func SaveModel(s *Store, m *model.Model, t *tokenizer.Tokenizer) (trimtab.Digest, error) {
	entries, err := modelEntries(m, t, s.putObject)
	if err != nil {
		return "", err
	}
	return s.putManifest(entries)
}

// pt is the metadata of weights as PyTorch's libraries want it.
var pt = map[string]string{"format": "pt"}

// putting takes a file that write writes, and says what it is.
type putting func(name string, write func(io.Writer) error) (manifestEntry, error)

// modelEntries hands each file of a stored model to put.
func modelEntries(m *model.Model, t *tokenizer.Tokenizer, put putting) ([]manifestEntry, error) {
	if err := sameVocab(m.Config, t); err != nil {
		return nil, err
	}
	if err := checkNumbers(m.Named()); err != nil {
		return nil, about(err, "model to store")
	}
	weights, err := put(weightsName, func(w io.Writer) error { return writeSafetensors(w, m.Named(), pt) })
	if err != nil {
		return nil, err
	}
	entries := []manifestEntry{weights}
	for _, f := range append(t.Files(), File{Name: configName, Data: writeConfig(m, t, true)}) {
		e, err := put(f.Name, func(w io.Writer) error { _, err := w.Write(f.Data); return err })
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// hashed is the entry of a file that is written nowhere.
func hashed(name string, write func(io.Writer) error) (manifestEntry, error) {
	h := sha256.New()
	n := counter(0)
	if err := write(io.MultiWriter(h, &n)); err != nil {
		return manifestEntry{}, err
	}
	return manifestEntry{digest: trimtab.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), size: int64(n), name: name}, nil
}

// counter counts the bytes that are written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// LoadModel reads what SaveModel stores. Errors: artifact_missing,
// artifact_corrupt, not_a_number, unsupported_model.
func LoadModel(s *Store, d trimtab.Digest) (*model.Model, *tokenizer.Tokenizer, error) {
	files, err := s.Files(d)
	if err != nil {
		return nil, nil, err
	}
	f, err := readModel(files)
	if err != nil {
		return nil, nil, about(err, "artifact %s", d.Short())
	}
	return f.Model, f.Tokenizer, nil
}

func sameVocab(c model.Config, t *tokenizer.Tokenizer) error {
	if c.Vocab == t.Vocab() {
		return nil
	}
	return trimtab.NewError(trimtab.Invalid, "vocabulary_mismatch",
		"use the tokenizer that the model was made with",
		"the model has %d token ids, its tokenizer %d", c.Vocab, t.Vocab())
}

func unsupported(format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, "unsupported_model",
		"give a Hugging Face GPT-2 folder: config.json, model.safetensors, vocab.json, merges.txt", format, args...)
}

// readModel makes a model from the files of a Hugging Face GPT-2 folder.
func readModel(files []File) (*Folder, error) {
	config := find(files, configName)
	if config == nil {
		return nil, unsupported("%s is absent", configName)
	}
	c, err := readConfig(config)
	if err != nil {
		return nil, unsupported("%s: %w", configName, err)
	}
	words, err := readWords(files, c.claim)
	if err != nil {
		return nil, err
	}
	f := &Folder{Tokenizer: words, Architecture: c.architecture}
	if pad := c.claim.Pad; pad != nil && *pad != words.Pad() && *pad != words.EndOfText() {
		f.Notes = append(f.Notes,
			fmt.Sprintf("pad_token_id %d of %s left out: the tokenizer has another padding token", *pad, configName))
	}
	w, err := readWeights(files)
	if err != nil {
		return nil, err
	}
	if f.Model, err = w.model(c.Config, c.scalar); err != nil {
		return nil, err
	}
	f.DType, f.Notes = w.dtypes(), append(f.Notes, w.notes...)
	if c.dropout {
		f.Notes = append(f.Notes, "the dropout of config.json is left out: Trimtab trains without")
	}
	f.unfold(w.metadata)
	return f, nil
}

// readWords reads the tokenizer, with what config.json and generation_config.json say of ids.
func readWords(files []File, claims ...tokenizer.Claim) (*tokenizer.Tokenizer, error) {
	if raw := find(files, generationName); raw != nil {
		g := struct {
			Begin *int32 `json:"bos_token_id"`
			End   idList `json:"eos_token_id"`
			Pad   *int32 `json:"pad_token_id"`
		}{}
		if err := json.Unmarshal(raw, &g); err != nil {
			return nil, unsupported("%s: %w", generationName, jsonError(err))
		}
		claims = append(claims, tokenizer.Claim{File: generationName, Begin: g.Begin, End: g.End, Pad: g.Pad})
	}
	t, err := tokenizer.Load(files, claims...)
	var refused *tokenizer.Refusal
	switch {
	case errors.As(err, &refused):
		return nil, trimtab.NewError(trimtab.Invalid, "unsupported_model", refused.Remedy, "tokenizer: %w", err)
	case err != nil:
		return nil, unsupported("tokenizer: %w", err)
	}
	return t, nil
}

func find(files []File, name string) []byte {
	at := slices.IndexFunc(files, func(f File) bool { return f.Name == name })
	if at < 0 {
		return nil
	}
	return files[at].Data
}
