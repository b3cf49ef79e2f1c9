package storage_test

import (
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	s := storagetest.New(t)
	for _, body := range []string{`{"lr":0.001}`, "\x00\xff not JSON at all", ""} {
		d, err := s.PutDocument(t.Context(), []byte(body))
		must(t, err)
		again, err := s.PutDocument(t.Context(), []byte(body))
		must(t, err)
		got, err := s.Document(t.Context(), d)
		must(t, err)
		if d != trimtab.DigestOf([]byte(body)) || again != d || string(got) != body {
			t.Errorf("document %q came back as %q under %s", body, got, d)
		}
	}
	_, err := s.Document(t.Context(), digest("absent"))
	wantError(t, err, trimtab.NotFound, "document_not_found")
}
