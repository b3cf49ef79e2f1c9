package dataset

import (
	"crypto/sha256"
	"hash"
	"io"

	"github.com/trimtab/trimtab"
)

// HashingReader reads a file once, for its records and for its digest: a second
// pass could see another file.
type HashingReader struct {
	r   io.Reader
	sum hash.Hash
	// n counts the bytes read so far.
	n int64
}

// NewHashingReader returns a reader of r.
func NewHashingReader(r io.Reader) *HashingReader { return &HashingReader{r: r, sum: sha256.New()} }

// Read implements io.Reader.
func (s *HashingReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// Finish reads the rest, which a decompressor may leave unread, and returns the
// digest and the number of bytes of the whole file.
func (s *HashingReader) Finish() (trimtab.Digest, int64, error) {
	_, err := io.Copy(io.Discard, s)
	return trimtab.DigestFromSum(s.sum.Sum(nil)), s.n, err
}
