package dataset

import (
	"crypto/sha256"
	"hash"
	"io"

	"github.com/trimtab/trimtab"
)

// HashingReader is a file that is read once, for its records and for its digest.
type HashingReader struct {
	r   io.Reader
	sum hash.Hash
	n   int64
}

// NewHashingReader reads from r.
func NewHashingReader(r io.Reader) *HashingReader { return &HashingReader{r: r, sum: sha256.New()} }

// Read reads on.
func (s *HashingReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// Finish reads what is left, which the reader of an archive may leave, and returns the digest and the bytes of the
// whole.
func (s *HashingReader) Finish() (trimtab.Digest, int64, error) {
	_, err := io.Copy(io.Discard, s)
	return trimtab.DigestFromSum(s.sum.Sum(nil)), s.n, err
}
