package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/tokenizer"
)

// maxFile bounds the size of every file that is read but the weights, bytes. A
// vocabulary of 50,257 tokens takes about 1 MB.
const maxFile = 64 << 20

// generationName holds the special tokens again, and how other programs sample.
const generationName = "generation_config.json"

// modelFiles are the files of a stored model, and importedFiles those that are
// read of a folder, if they exist; the weights may be in shards beside them.
var (
	modelFiles = []string{configName, weightsName, "vocab.json", "merges.txt", "tokenizer.json",
		"special_tokens_map.json",
		"tokenizer_config.json"}
	importedFiles = append(slices.Clone(modelFiles), "added_tokens.json", generationName, indexName)
)

// Import stores a Hugging Face folder as a model of the store (see Read).
// Importing what Export wrote gives the digest from which it was exported.
// Errors: those of Read, and disk_full.
func Import(s *Store, dir string) (trimtab.Digest, error) {
	f, err := Read(dir)
	if err != nil {
		return "", err
	}
	return f.Save(s)
}

// Save stores the model of the folder and returns its digest, that of Digest. Weights that all came as BF16 are stored
// as BF16, half the size of F32, from which loading gives the same numbers; those of a GPT-2 are stored as F32. Errors:
// those of SaveModel.
func (f *Folder) Save(s *Store) (trimtab.Digest, error) {
	return saveModel(s, f.Model, f.Tokenizer, f.storedType())
}

// storedType is the type that weights are stored in.
func (f *Folder) storedType() string {
	if f.BF16 {
		return "BF16"
	}
	return "F32"
}

// Folder is a model as it was read from a folder, and how it was read.
type Folder struct {
	Model     *model.Model
	Tokenizer *tokenizer.Tokenizer // nil of ReadWeights
	// Architecture is the class that config.json names: of a language model, its body alone, or a classifier.
	Architecture string
	// DType is the type of the weights in the file: F32, F16, BF16, or several with
	// commas between. In Model they are all F32.
	DType string
	// BF16 says that the weights are exactly those of BF16, and are to be stored as such.
	BF16 bool
	// Notes says what was renamed, converted or left out, in phrases for people.
	Notes []string
}

// Read reads a Hugging Face folder of any family. It accepts what other programs write:
//
//   - weights in several files, under model.safetensors.index.json;
//   - F16 and BF16, which are converted to F32;
//   - names without the prefix of the body, or with the prefixes of wrappers;
//   - attention masks, rotary frequencies, an output head that is the embedding, and the value head of a PPO
//     trainer, all of which are left out;
//   - an output head in place of the embedding that it is tied to.
//
// All files must agree on the tokens that begin, end and pad a text. Folder.Notes
// names what was not read as it stands. Errors: model_not_found,
// unsupported_model, vocabulary_mismatch, not_a_number.
func Read(dir string) (*Folder, error) {
	files, err := readFolder(dir, importedFiles)
	if err != nil {
		return nil, annotate(err, "import %s", dir)
	}
	f, err := readModel(files)
	if err != nil {
		return nil, annotate(err, "import %s", dir)
	}
	f.addNotes(dir, files)
	return f, nil
}

// ReadWeights reads a Hugging Face folder as Read does, but for its tokenizer: config.json and the weights are enough.
// Folder.Tokenizer is nil. Errors: model_not_found, unsupported_model, vocabulary_mismatch, not_a_number.
func ReadWeights(dir string) (*Folder, error) {
	files, err := readFolder(dir, []string{configName, weightsName, indexName})
	if err != nil {
		return nil, annotate(err, "read %s", dir)
	}
	c, err := readConfigFile(files)
	if err != nil {
		return nil, annotate(err, "read %s", dir)
	}
	f, _, err := readBody(files, c)
	if err != nil {
		return nil, annotate(err, "read %s", dir)
	}
	return f, nil
}

// ignoredFiles are files that say how a model is used elsewhere, with the reason
// why they are not read.
var ignoredFiles = []struct{ name, why string }{
	{"chat_template.jinja", "prompts have Trimtab's own form here"},
	{"chat_template.json", "prompts have Trimtab's own form here"},
	{"preprocessor_config.json", "only text is read"},
	{"adapter_config.json", "the weights are taken as they are, without an adapter"},
}

// addNotes adds what is noteworthy about the folder beside its weights.
func (f *Folder) addNotes(dir string, files []File) {
	add := func(format string, args ...any) { f.Notes = append(f.Notes, fmt.Sprintf(format, args...)) }
	f.addTypeNotes()
	// Silence about these would let people believe that they count.
	for _, l := range ignoredFiles {
		if _, err := os.Stat(filepath.Join(dir, l.name)); err == nil {
			add("%s left out: %s", l.name, l.why)
		}
	}
	// The template may be inside tokenizer_config.json instead of in a file of its own.
	var beside map[string]json.RawMessage
	if json.Unmarshal(fileData(files, "tokenizer_config.json"), &beside) == nil && len(beside["chat_template"]) > 0 {
		add("chat_template in tokenizer_config.json left out: prompts have Trimtab's own form here")
	}
	if fileData(files, generationName) != nil {
		add("%s: its token ids were read, how it samples is left out", generationName)
	}
}

// addTypeNotes adds notes on the type of the weights, and on ids without a token.
func (f *Folder) addTypeNotes() {
	switch {
	case f.BF16:
		f.Notes = append(f.Notes, "the weights are BF16 and are stored as such; they are computed with as F32")
	case f.DType != "F32":
		f.Notes = append(f.Notes, fmt.Sprintf("the weights are %s and were converted to F32", f.DType))
	}
	if t := f.Tokenizer; t.TokenCount() < t.VocabSize() {
		f.Notes = append(f.Notes, fmt.Sprintf("ids %d to %d of the model have no token: they are never sampled",
			t.TokenCount(), t.VocabSize()-1))
	}
}

// Digest returns the digest under which SaveModel would store the model. The
// weights are encoded to be hashed, and nothing is stored.
func (f *Folder) Digest() (trimtab.Digest, error) {
	entries, err := modelEntries(f.Model, f.Tokenizer, f.storedType(), hashEntry)
	if err != nil {
		return "", err
	}
	raw, err := writeManifest(entries)
	return trimtab.DigestOf(raw), err
}

// Contents lists the files that SaveModel would store, in order of name, so that
// a plan can show them before anything is stored.
func (f *Folder) Contents() ([]Entry, error) {
	entries, err := modelEntries(f.Model, f.Tokenizer, f.storedType(), hashEntry)
	list := make([]Entry, len(entries))
	for i, e := range entries {
		list[i] = Entry{e.name, e.digest, e.size}
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// FolderDigest returns the digest of the model in a folder that Export wrote,
// without storing it; files of other names are not part of it. A reward model
// whose bias was folded has the digest of the stored model that it was exported
// from, if every byte agrees with that. Errors: model_not_found,
// unsupported_model.
func FolderDigest(dir string) (trimtab.Digest, error) {
	files, err := readFolder(dir, append(slices.Clone(modelFiles), indexName))
	if err == nil {
		files, err = joinShards(files)
	}
	if err == nil && len(files) == 0 {
		err = trimtab.NewError(trimtab.NotFound, "model_not_found", "give the folder of an exported model",
			"there is no model")
	}
	if err != nil {
		return "", annotate(err, "read the model in %s", dir)
	}
	// An exported reward model has other bytes than the stored one.
	if d, ok := storedDigest(files); ok {
		return d, nil
	}
	entries := make([]manifestEntry, len(files))
	for i, f := range files {
		entries[i] = manifestEntry{name: f.Name, digest: trimtab.DigestOf(f.Data), size: int64(len(f.Data))}
	}
	raw, err := writeManifest(entries)
	return trimtab.DigestOf(raw), err
}

// FolderConfig returns the configuration of the model in a Hugging Face folder,
// before it is imported. Only config.json is read. Errors: model_not_found,
// unsupported_model.
func FolderConfig(dir string) (model.Config, error) {
	files, err := readFiles(dir, []string{configName})
	if err == nil && len(files) == 0 {
		err = unsupportedError("%s is absent", configName)
	}
	if err != nil {
		return model.Config{}, annotate(err, "read the model in %s", dir)
	}
	c, err := readConfig(files[0].Data)
	if err != nil {
		err = annotate(unsupportedError("%s: %w", configName, err), "read the model in %s", dir)
	}
	return c.Config, err
}

// ModelConfig returns the configuration of a stored model, from which its size
// and cost follow. Of its files only config.json is read. It reports false for an
// artifact that is missing or not a model.
func ModelConfig(s *Store, d trimtab.Digest) (c model.Config, ok bool) {
	raw, ok := readArtifactConfig(s, d)
	if !ok {
		return c, false
	}
	of, err := readConfig(raw)
	return of.Config, err == nil
}

// StoredType returns the type that the weights of a stored model have, F32 or BF16. Of its files only config.json is
// read. It reports false for an artifact that is missing or not a model.
func StoredType(s *Store, d trimtab.Digest) (dtype string, ok bool) {
	raw, ok := readArtifactConfig(s, d)
	if !ok {
		return "", false
	}
	c, err := readConfig(raw)
	if c.DType == "bfloat16" {
		return "BF16", err == nil
	}
	return "F32", err == nil
}

// readArtifactConfig reads config.json of an artifact.
func readArtifactConfig(s *Store, d trimtab.Digest) ([]byte, bool) {
	entries, err := s.manifest(d)
	if err != nil {
		return nil, false
	}
	at := slices.IndexFunc(entries, func(e manifestEntry) bool { return e.name == configName })
	if at < 0 {
		return nil, false
	}
	raw, err := s.read(objects, entries[at].digest, entries[at].size)
	return raw, err == nil
}

// readFolder reads those of the named files that exist, and the shards of the
// weights where an index names them.
func readFolder(dir string, names []string) ([]File, error) {
	files, err := readFiles(dir, names)
	// model.safetensors wins over an index, as in transformers.
	if err != nil || fileData(files, weightsName) != nil {
		return files, err
	}
	index := fileData(files, indexName)
	if index == nil {
		return files, unsupportedWeights(dir)
	}
	shards, err := shardNames(index)
	if err != nil {
		return nil, unsupportedError("%s: %w", indexName, err)
	}
	more, err := readFiles(dir, shards)
	if err != nil {
		return nil, err
	}
	for _, name := range shards {
		if fileData(more, name) == nil {
			return nil, trimtab.NewError(trimtab.Invalid, "unsupported_model",
				"get the missing file, or all of the folder again",
				"%s names the file %s, which is absent", indexName, name)
		}
	}
	return append(files, more...), nil
}

// readFiles reads those of the named files that exist. Only plain files are
// opened, so that a pipe or a device is refused and does not block.
func readFiles(dir string, names []string) ([]File, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, trimtab.NewError(trimtab.NotFound, "model_not_found", "give the path of a folder",
			"there is no such folder")
	}
	var files []File
	for _, name := range names {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) { // which files are needed, the caller knows
			continue
		}
		if err == nil {
			err = checkLink(dir, path)
		}
		if err != nil {
			return nil, err
		}
		// Weights may be large; anything else of that size is not what its name says.
		if !info.Mode().IsRegular() || !strings.HasSuffix(name, ".safetensors") && info.Size() > maxFile {
			return nil, unsupportedError("%s is not a plain file of at most %d bytes", name, maxFile)
		}
		data, err := plainfile.Read(path)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: name, Data: data})
	}
	return files, nil
}

// checkLink refuses a symbolic link that leads out of the folder, so that a folder from elsewhere cannot name other
// files of this machine. The links of Hugging Face's cache, from snapshots to blobs of the same model, are followed.
func checkLink(dir, path string) error {
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	base, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if within(base, target) {
		return nil
	}
	if cache := filepath.Dir(base); filepath.Base(cache) == "snapshots" &&
		within(filepath.Join(filepath.Dir(cache), "blobs"), target) {
		return nil
	}
	return trimtab.NewError(trimtab.Invalid, "unsupported_model", "copy the file itself into the folder",
		"%s is a link that leads out of the folder", filepath.Base(path))
}

// within reports whether a path lies below a folder; both are without links.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// unsupportedWeights looks for weights in a format that is not read, and returns
// an error with a remedy for it. Pickles are not read because loading one runs
// code.
func unsupportedWeights(dir string) error {
	const (
		again = "save it again with save_pretrained(…, safe_serialization=True): pickles are not read"
		merge = "it is an adapter without its model: load both with peft, call merge_and_unload(), and save what " +
			"that gives"
	)
	for _, form := range []struct{ name, remedy string }{
		{"adapter_model.safetensors", merge},
		{"adapter_model.bin", merge},
		{"pytorch_model.bin", again},
		{"pytorch_model.bin.index.json", again},
		{"tf_model.h5", "load it with from_pretrained(…, from_tf=True) and save it again with save_pretrained(…)"},
		{"model.gguf", "name the file itself in place of the folder"},
		{"flax_model.msgpack",
			"load it with from_pretrained(…, from_flax=True) and save it again with save_pretrained(…)"},
	} {
		if _, err := os.Stat(filepath.Join(dir, form.name)); err == nil {
			return trimtab.NewError(trimtab.Invalid, "unsupported_model", form.remedy, "the weights are in %s",
				form.name)
		}
	}
	return nil
}

// Export writes the files of an artifact into dir, as ExportForm gives them, and
// papers about it, which Import ignores. dir must be absent or empty. Errors:
// artifact_missing, artifact_corrupt, folder_not_empty.
func Export(s *Store, d trimtab.Digest, dir string, papers ...File) error {
	return ExportAs(s, d, dir, ExportOptions{}, papers...)
}

// ExportAs is Export with weights in another form. Errors: also unsupported_model for a type that is not written.
func ExportAs(s *Store, d trimtab.Digest, dir string, o ExportOptions, papers ...File) error {
	x, err := ExportFormAs(s, d, o)
	if err != nil {
		return err
	}
	return WriteFolder(dir, append(x.Files, papers...))
}

// WriteFolder writes files into dir, which must be absent or empty, and syncs
// them. If it fails, it removes what it wrote. Error: folder_not_empty.
func WriteFolder(dir string, files []File) error {
	if entries, err := listFolder(dir); err == nil && len(entries) > 0 {
		return trimtab.NewError(trimtab.Conflict, "folder_not_empty",
			"name a folder that is new or empty", "export to %s: the folder is not empty", dir)
	}
	for i, f := range files {
		if err := exportFile(filepath.Join(dir, filepath.FromSlash(f.Name)), f.Data); err != nil {
			for _, done := range files[:i] {
				os.Remove(filepath.Join(dir, filepath.FromSlash(done.Name))) // the error that stopped us matters more
			}
			return diskError(fmt.Errorf("export to %s: %w", dir, err))
		}
	}
	return syncFolder(dir)
}

// exportFile writes one file and syncs it, or leaves nothing.
func exportFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	// All three, so that the file is closed in any case and no error is lost.
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path) // ours, and not whole
	}
	return err
}
