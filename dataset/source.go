package dataset

import (
	"crypto/sha256"
	"hash"
	"io"

	"github.com/trimtab/trimtab"
)

// Source is a file that is read once, for its records and for its digest.
type Source struct {
	r   io.Reader
	sum hash.Hash
	n   int64
}

// NewSource reads from r.
func NewSource(r io.Reader) *Source { return &Source{r: r, sum: sha256.New()} }

// Read reads on.
func (s *Source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// End reads what is left, which the reader of an archive may leave, and returns the digest and the bytes of the whole.
func (s *Source) End() (trimtab.Digest, int64, error) {
	_, err := io.Copy(io.Discard, s)
	return trimtab.DigestFromSum(s.sum.Sum(nil)), s.n, err
}
