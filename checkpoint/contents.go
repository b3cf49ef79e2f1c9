package checkpoint

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tokenizer"
)

// Entry is a file of an artifact without its bytes.
type Entry struct {
	Name   string
	Digest trimtab.Digest
	Bytes  int64
}

// Contents lists the files of an artifact in order of name. Only the manifest
// is read. Errors: artifact_missing, artifact_corrupt.
func Contents(s *Store, d trimtab.Digest) ([]Entry, error) {
	entries, err := s.manifest(d)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, len(entries))
	for i, e := range entries {
		list[i] = Entry{e.name, e.digest, e.size}
	}
	return list, nil
}

// TokenizerDigest is the digest of a model's tokenizer; the weights are not read.
// A model that is not there, or is damaged, has none.
func TokenizerDigest(s *Store, d trimtab.Digest) (trimtab.Digest, bool) {
	t, err := LoadTokenizer(s, d)
	if err != nil {
		return "", false
	}
	return trimtab.Digest(t.Digest()), true
}

// LoadTokenizer reads the tokenizer of a stored model; the weights are not
// read. Errors: artifact_missing, artifact_corrupt, unsupported_model.
func LoadTokenizer(s *Store, d trimtab.Digest) (*tokenizer.Tokenizer, error) {
	entries, err := s.manifest(d)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		if e.name == weightsName {
			continue
		}
		data, err := s.read(objects, e.digest, e.size)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: e.name, Data: data})
	}
	config := fileData(files, configName)
	if config == nil {
		return readTokenizer(files)
	}
	c, err := readConfig(config)
	if err != nil {
		return nil, unsupportedError("%s: %w", configName, err)
	}
	return readTokenizer(files, c.claim)
}
