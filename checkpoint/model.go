package checkpoint

import (
	"io"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
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
	if err := sameVocab(m.Config, t); err != nil {
		return "", err
	}
	if err := checkNumbers(m.Named()); err != nil {
		return "", about(err, "model to store")
	}
	weights, err := s.putObject(weightsName, func(w io.Writer) error {
		return writeSafetensors(w, m.Named(), map[string]string{"format": "pt"})
	})
	if err != nil {
		return "", err
	}
	entries := []manifestEntry{weights}
	for _, f := range append(t.Files(), File{Name: configName, Data: writeConfig(m, t)}) {
		e, err := s.putObject(f.Name, func(w io.Writer) error { _, err := w.Write(f.Data); return err })
		if err != nil {
			return "", err
		}
		entries = append(entries, e)
	}
	return s.putManifest(entries)
}

// LoadModel reads what SaveModel stores. Errors: artifact_missing,
// artifact_corrupt, not_a_number, unsupported_model.
func LoadModel(s *Store, d trimtab.Digest) (*model.Model, *tokenizer.Tokenizer, error) {
	files, err := s.Files(d)
	if err != nil {
		return nil, nil, err
	}
	m, t, err := readModel(files)
	if err != nil {
		return nil, nil, about(err, "artifact %s", d.Short())
	}
	return m, t, nil
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
func readModel(files []File) (*model.Model, *tokenizer.Tokenizer, error) {
	config, weights := find(files, configName), find(files, weightsName)
	if config == nil || weights == nil {
		return nil, nil, unsupported("%s or %s is absent", configName, weightsName)
	}
	c, scalar, err := readConfig(config)
	if err != nil {
		return nil, nil, unsupported("%s: %w", configName, err)
	}
	t, err := tokenizer.Load(files)
	if err != nil {
		return nil, nil, unsupported("tokenizer: %w", err)
	}
	if err := sameVocab(c, t); err != nil {
		return nil, nil, err
	}
	arrays, _, err := parse(weights)
	if err != nil {
		return nil, nil, unsupported("%s: %w", weightsName, err)
	}
	m, err := fromArrays(c, scalar, arrays)
	if err != nil {
		return nil, nil, err
	}
	return m, t, nil
}

func find(files []File, name string) []byte {
	at := slices.IndexFunc(files, func(f File) bool { return f.Name == name })
	if at < 0 {
		return nil
	}
	return files[at].Data
}

// bodyPrefix is before the names of the body in models with a head, and
// absent in a bare GPT2Model.
const bodyPrefix = "transformer."

// buffers are the attention masks that old exports of Hugging Face hold.
var buffers = regexp.MustCompile(`^transformer\.h\.\d+\.attn\.(bias|masked_bias)$`)

// fromArrays fills a model of shape c. Every parameter must be there, in its
// shape; buffers are ignored, and so is an output head that equals the
// embedding; anything else is refused. score.bias is 0 when it is absent.
func fromArrays(c model.Config, scalar bool, arrays []array) (*model.Model, error) {
	byName, total := index(arrays)
	if c.Parameters() > total { // before anything of that size is allocated
		return nil, unsupported("%s holds %d numbers, %s asks for %d", weightsName, total, configName, c.Parameters())
	}
	m := model.New(c, scalar)
	for _, p := range m.Named() {
		a, ok := byName[p.Name]
		if !ok && p.Name == "score.bias" {
			continue
		}
		if !ok || !slices.Equal(a.shape, p.Shape) {
			return nil, unsupported("%s: array %s must have the shape %v", weightsName, p.Name, p.Shape)
		}
		if err := a.floats(p.Data); err != nil {
			return nil, unsupported("%s: %w", weightsName, err)
		}
		delete(byName, p.Name)
	}
	if err := checkRest(byName, m); err != nil {
		return nil, err
	}
	return m, checkNumbers(m.Named())
}

// index finds arrays by full name; total is the number of elements in all.
func index(arrays []array) (byName map[string]array, total int) {
	byName = make(map[string]array, len(arrays))
	for _, a := range arrays {
		name := a.name
		if !strings.HasPrefix(name, bodyPrefix) && !strings.HasPrefix(name, "score.") && !strings.HasPrefix(name, "lm_head.") {
			name = bodyPrefix + name
		}
		byName[name] = a
		total += elements(a.shape)
	}
	return byName, total
}

// checkRest judges the arrays that are no parameters of m.
func checkRest(rest map[string]array, m *model.Model) error {
	for name, a := range rest { // any order: which of several strangers is named does not matter
		switch {
		case buffers.MatchString(name):
		case name == "lm_head.weight":
			if err := checkTied(a, m.Named()[0]); err != nil {
				return err
			}
		default:
			return unsupported("%s: array %s is no part of this transformer", weightsName, a.name)
		}
	}
	return nil
}

// checkTied accepts an output head that is the embedding, bit for bit.
func checkTied(head array, embedding tensor.Named) error {
	if !slices.Equal(head.shape, embedding.Shape) {
		return unsupported("lm_head.weight has the shape %v, the embedding %v", head.shape, embedding.Shape)
	}
	data := make([]float32, len(embedding.Data))
	if err := head.floats(data); err != nil {
		return unsupported("%w", err)
	}
	for i, v := range data {
		if math.Float32bits(v) != math.Float32bits(embedding.Data[i]) {
			return unsupported("lm_head.weight differs from the embedding: only tied heads are supported")
		}
	}
	return nil
}
