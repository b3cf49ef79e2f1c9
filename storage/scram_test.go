package storage

import (
	"encoding/base64"
	"strings"
	"testing"
)

// The keys of RFC 7677's example: user "user", password "pencil".
func TestScramKnownAnswer(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := scramOf("pencil", salt)
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("the secret is\n%s\nwant\n%s (%v)", got, want, err)
	}
	if s, err := scramSecret("geheim"); err != nil || strings.Contains(s, "geheim") ||
		!strings.HasPrefix(s, "SCRAM-SHA-256$4096:") {
		t.Errorf("%s, %v", s, err)
	}
	if s, err := scramSecret("gehéim"); err != nil || s != "gehéim" {
		t.Errorf("%s, %v", s, err)
	}
}
