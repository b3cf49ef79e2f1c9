package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/plainfile"
)

// maxFile bounds what Import reads of every file but the weights, bytes.
const maxFile = 64 << 20

// imported are the files that Import reads, if they are there.
var imported = []string{configName, weightsName, "vocab.json", "merges.txt", "tokenizer.json", "special_tokens_map.json"}

// Import stores a Hugging Face GPT-2 folder as a model of the store. Weights
// of F16 and BF16 become F32. Names may lack "transformer."; attention masks,
// and an lm_head.weight that is the embedding, are left out. Importing what
// Export wrote gives the digest it was exported from. Errors:
// model_not_found, unsupported_model, vocabulary_mismatch, not_a_number.
func Import(s *Store, dir string) (trimtab.Digest, error) {
	files, err := readFolder(dir, imported)
	if err != nil {
		return "", about(err, "import %s", dir)
	}
	m, t, err := readModel(files)
	if err != nil {
		return "", about(err, "import %s", dir)
	}
	return SaveModel(s, m, t)
}

// FolderDigest is the digest of the model in a folder that Export wrote; files
// of other names are not part of it. Nothing is stored. Errors: model_not_found, unsupported_model.
func FolderDigest(dir string) (trimtab.Digest, error) {
	files, err := readFolder(dir, append(slices.Clone(imported), "tokenizer_config.json"))
	if err == nil && len(files) == 0 {
		err = trimtab.NewError(trimtab.NotFound, "model_not_found", "give the folder of an exported model", "there is no model")
	}
	if err != nil {
		return "", about(err, "read the model in %s", dir)
	}
	entries := make([]manifestEntry, len(files))
	for i, f := range files {
		entries[i] = manifestEntry{name: f.Name, digest: trimtab.DigestOf(f.Data), size: int64(len(f.Data))}
	}
	raw, err := writeManifest(entries)
	return trimtab.DigestOf(raw), err
}

// FolderConfig is the shape of the model in a Hugging Face folder; only config.json is read.
func FolderConfig(dir string) (model.Config, error) {
	raw, err := plainfile.Read(filepath.Join(dir, configName))
	if errors.Is(err, fs.ErrNotExist) {
		err = unsupported("%s is absent", configName)
	}
	if err != nil {
		return model.Config{}, about(err, "read the model in %s", dir)
	}
	c, _, err := readConfig(raw)
	if err != nil {
		err = about(err, "read the model in %s", dir)
	}
	return c, err
}

// Shape is the shape of the model that an artifact holds; of its files only
// config.json is read. An artifact that is not there, or is no model, has none.
func Shape(s *Store, d trimtab.Digest) (c model.Config, ok bool) {
	entries, err := s.manifest(d)
	if err != nil {
		return c, false
	}
	at := slices.IndexFunc(entries, func(e manifestEntry) bool { return e.name == configName })
	if at < 0 {
		return c, false
	}
	raw, err := s.read(objects, entries[at].digest, entries[at].size)
	if err != nil {
		return c, false
	}
	c, _, err = readConfig(raw)
	return c, err == nil
}

// readFolder reads those of the files that are there.
func readFolder(dir string, names []string) ([]File, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, trimtab.NewError(trimtab.NotFound, "model_not_found", "give the path of a folder", "there is no such folder")
	}
	var files []File
	for _, name := range names {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || name != weightsName && info.Size() > maxFile {
			return nil, unsupported("%s is no plain file of at most %d bytes", name, maxFile)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: name, Data: data})
	}
	return files, otherForms(dir, files)
}

// otherForms names the remedy for weights in a form that is not read.
func otherForms(dir string, files []File) error {
	if find(files, weightsName) != nil {
		return nil
	}
	for name, remedy := range map[string]string{ // at most one is there, in practice
		"pytorch_model.bin":            "save it again with save_pretrained(…, safe_serialization=True): pickles are not read",
		"model.safetensors.index.json": "save it again as one file, with save_pretrained(…, max_shard_size=\"100GB\")",
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return trimtab.NewError(trimtab.Invalid, "unsupported_model", remedy, "the weights are in %s", name)
		}
	}
	return nil
}

// Export writes the files of an artifact into dir, which must be absent or
// empty, and papers about it, which Import leaves alone. Errors:
// artifact_missing, artifact_corrupt, folder_not_empty.
func Export(s *Store, d trimtab.Digest, dir string, papers ...File) error {
	files, err := s.Files(d)
	if err != nil {
		return err
	}
	files = append(files, papers...)
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

func exportFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path) // ours, and not whole
	}
	return err
}
