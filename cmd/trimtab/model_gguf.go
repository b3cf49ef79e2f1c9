package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/checkpoint/gguf"
	"github.com/trimtab/trimtab/papers"
)

// ggufName is the name of a GGUF file in an exported folder.
const ggufName = "model.gguf"

// exportGGUF writes a model as a GGUF file: alone, or in a folder with the
// tokenizer's files, from which it can be imported again, and its papers. A
// folder without model.safetensors has no digest to prove, hence no proofs.
func (a *app) exportGGUF(ctx context.Context, s *session, e *modelExport) error {
	m, t, err := checkpoint.LoadModel(s.files, e.digest)
	if err != nil {
		return err
	}
	kind := e.ggufType(s)
	write := func(w io.Writer) error {
		if err := checkpoint.WriteGGUF(w, m, t, kind); err != nil {
			return fmt.Errorf("export model %s as GGUF: %w", e.digest.Short(), err)
		}
		return nil
	}
	if e.single {
		e.weights = []string{filepath.Base(e.target)}
		return a.writeTo(e.target, write)
	}
	e.weights = []string{ggufName}
	e.notes = append(e.notes, "a folder with a GGUF file has no proofs: they name the files as they are stored")
	// The papers name the file's digest. This pass also finds what cannot be
	// written before the folder is made.
	entry, err := hashFile(ggufName, write)
	if err != nil {
		return err
	}
	f, err := s.runs.Facts(ctx, e.digest, e.run)
	if err != nil {
		return err
	}
	f.GGUF, f.Exported = ggufName, []papers.ModelFile{entry}
	beside, err := e.accompany(ctx, s, f, checkpoint.Exported{Tokenizer: t})
	if err != nil {
		return err
	}
	return a.writeWithFile(e.target, append(t.Files(), beside...), write)
}

// ggufType returns the type of the matrices, and notes where they are stored
// in another.
func (e *modelExport) ggufType(s *session) gguf.Type {
	stored := gguf.F32
	if name, _ := checkpoint.StoredType(s.files, e.digest); name == "BF16" {
		stored = gguf.BF16
	}
	if e.kind == nil || *e.kind == stored {
		return stored
	}
	e.notes = append(e.notes, fmt.Sprintf("the matrices are %s; they are stored as %s", *e.kind, stored))
	return *e.kind
}

// writeWithFile writes the files of a folder and its GGUF file, which is not
// held in memory. If that fails, it removes what it wrote.
func (a *app) writeWithFile(dir string, files []checkpoint.File, write func(io.Writer) error) error {
	if err := checkpoint.WriteFolder(dir, files); err != nil {
		return err
	}
	err := a.writeTo(filepath.Join(dir, ggufName), write)
	if err != nil {
		for _, f := range files {
			os.Remove(filepath.Join(dir, f.Name)) // the error that stopped us matters more
		}
	}
	return err
}

// hashFile returns the size and digest of a file that is not written yet.
func hashFile(name string, write func(io.Writer) error) (papers.ModelFile, error) {
	h, n := sha256.New(), countWriter(0)
	if err := write(io.MultiWriter(h, &n)); err != nil {
		return papers.ModelFile{}, err
	}
	return papers.ModelFile{Name: name, Digest: trimtab.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))),
		Bytes: int64(n)}, nil
}

// countWriter counts the bytes that are written to it.
type countWriter int64

// Write adds the length of p.
func (c *countWriter) Write(p []byte) (int, error) { *c += countWriter(len(p)); return len(p), nil }
