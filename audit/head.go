package audit

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Head is the state of the tree at one size.
type Head struct {
	Size int64 // number of events
	Root Hash
	At   time.Time // when it was signed, to the second; zero for an unsigned head
}

// NewKey generates a key pair for signing heads: Ed25519, in the text form of
// sumdb/note, with a random name. The verifier's half is public.
func NewKey() (signer, verifier string, err error) {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return note.GenerateKey(rand.Reader, "trimtab-"+hex.EncodeToString(b[:]))
}

// Signer signs heads. It is safe for concurrent use.
type Signer struct {
	signer   note.Signer
	verifier string
}

// NewSigner takes both halves of a key and checks that they belong together.
func NewSigner(signer, verifier string) (*Signer, error) {
	s, err := note.NewSigner(signer)
	if err != nil {
		return nil, fmt.Errorf("the key to sign with: %w", err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return nil, fmt.Errorf("the key to verify with: %w", err)
	}
	if s.Name() != v.Name() || s.KeyHash() != v.KeyHash() {
		return nil, fmt.Errorf("the keys %s and %s are not two halves of one key", s.Name(), v.Name())
	}
	return &Signer{s, verifier}, nil
}

// Verifier returns the public half of the key.
func (s *Signer) Verifier() string { return s.verifier }

// Sign returns a signed head: a checkpoint, an empty line and the signature.
// The origin is the key's name. The time, if it is set, is an extension line,
// to the second in UTC.
func (s *Signer) Sign(h Head) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.signer.Name(), h.Size, base64.StdEncoding.EncodeToString(h.Root[:]))
	if !h.At.IsZero() {
		text += h.At.UTC().Format(time.RFC3339) + "\n"
	}
	signed, err := note.Sign(&note.Note{Text: text}, s.signer)
	return string(signed), err
}

// CheckKey returns what is wrong with a verification key.
func CheckKey(verifier string) error {
	_, err := note.NewVerifier(verifier)
	return err
}

// OpenHead reads a signed head and verifies its signature, which must be by
// one of the keys. It accepts one encoding of each part only, so that two
// different texts are never the same head.
func OpenHead(signed string, verifiers ...string) (Head, error) {
	var h Head
	var keys []note.Verifier
	for _, text := range verifiers {
		v, err := note.NewVerifier(text)
		if err != nil {
			return h, fmt.Errorf("the key %.100q: %w", text, err)
		}
		keys = append(keys, v)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(keys...))
	if err != nil {
		return h, fmt.Errorf("the tree head is not signed with this key: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 {
		return h, fmt.Errorf("the tree head has %d lines, not an origin, a size and a root", len(lines)-1)
	}
	if lines[0] != n.Sigs[0].Name {
		return h, fmt.Errorf("the tree head of %.80q is signed by %s", lines[0], n.Sigs[0].Name)
	}
	if h.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || h.Size < 0 ||
		lines[1] != strconv.FormatInt(h.Size, 10) {
		return h, fmt.Errorf("the tree head's size is %.40q", lines[1])
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil { // one form alone
		return h, fmt.Errorf("the tree head's signature: %w", err)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(h.Root) {
		return h, fmt.Errorf("the tree head's root is %.80q", lines[2])
	}
	copy(h.Root[:], root)
	if lines[3] != "" {
		if h.At, err = time.Parse(time.RFC3339, lines[3]); err != nil {
			return h, fmt.Errorf("the tree head's time is %.40q", lines[3])
		}
	}
	return h, nil
}
