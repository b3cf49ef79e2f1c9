package checkpoint

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tokenizer"
)

// Entry describes one file of an artifact, as its manifest does.
type Entry struct {
	Name   string         // path within the artifact, with slashes
	Digest trimtab.Digest // SHA-256 of the bytes
	Bytes  int64          // size
}

// Contents lists the files of an artifact in order of name. Only the manifest is
// read, so files that are missing or damaged are listed too. Errors:
// artifact_missing, artifact_corrupt.
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

// TokenizerDigest returns the digest of a stored model's tokenizer, without
// reading the weights. Two models can be combined in a stage only if theirs are
// equal. It reports false for a model that is missing or damaged.
func TokenizerDigest(s *Store, d trimtab.Digest) (trimtab.Digest, bool) {
	t, err := LoadTokenizer(s, d)
	if err != nil {
		return "", false
	}
	return trimtab.Digest(t.Digest()), true
}

// LoadTokenizer reads the tokenizer of a stored model, and config.json for the
// ids of its special tokens, but not the weights, which are by far the largest
// file. Errors: artifact_missing, artifact_corrupt, unsupported_model.
func LoadTokenizer(s *Store, d trimtab.Digest) (*tokenizer.Tokenizer, error) {
	entries, err := s.manifest(d)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		if e.name == weightsName { // hundreds of megabytes that say nothing about tokens
			continue
		}
		data, err := s.read(objects, e.digest, e.size)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: e.name, Data: data})
	}
	config := fileData(files, configName)
	if config == nil { // then the tokenizer's own files have to be enough
		return readTokenizer(files)
	}
	c, err := readConfig(config)
	if err != nil {
		return nil, unsupportedError("%s: %w", configName, err)
	}
	return readTokenizer(files, c.claim)
}
