package dataset

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/trimtab/trimtab"
)

// A HashingReader reports the whole file, also what a decompressor leaves
// unread, and a file whose reading fails.
func TestHashingReader(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(`{"prompt": "who?"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body     []byte
		accepted int
	}{
		"plain.jsonl":        {[]byte(`{"prompt": "who?"}` + "\n" + `{"prompt": "what?"}`), 2},
		"packed.jsonl.gz":    {packed.Bytes(), 1},
		"broken.jsonl.gz":    {packed.Bytes()[:packed.Len()-9], 0},
		"not-packed.gz":      {[]byte("plain text, and more of it than the head of an archive"), 0},
		"unknown.parquet":    {[]byte("PAR1"), 0},
		"another-end.txt.gz": {append(bytes.Clone(packed.Bytes()), "behind it"...), 0},
	} {
		src := NewHashingReader(bytes.NewReader(c.body))
		got, _ := Read(trimtab.KindPrompts, name, src, ReadOptions{})
		if c.accepted > 0 && got.Accepted != c.accepted {
			t.Errorf("%s: %d accepted, want %d", name, got.Accepted, c.accepted)
		}
		if d, n, err := src.Finish(); err != nil || d != trimtab.DigestOf(c.body) || n != int64(len(c.body)) {
			t.Errorf("%s: %s of %d bytes (%v), want %s of %d", name, d, n, err, trimtab.DigestOf(c.body), len(c.body))
		}
	}
}
