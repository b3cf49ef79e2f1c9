package storage

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// scramRounds is the number of iterations of PBKDF2, Postgres's default.
const scramRounds = 4096

// scramSecret is what Postgres stores of a password (RFC 5803, in the form of
// pg_authid). Sent in place of the password, it keeps the password out of
// every statement that a server logs or shows.
//
// A password with characters other than ASCII is returned as it is: the
// server would normalise it (SASLprep) before hashing.
func scramSecret(password string) (string, error) {
	if strings.ContainsFunc(password, func(r rune) bool { return r >= 0x80 }) {
		return password, nil
	}
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	return scramOf(password, salt[:])
}

// scramOf computes the secret for a salt: StoredKey and ServerKey of RFC
// 5802, section 3.
func scramOf(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramRounds, sha256.Size)
	if err != nil {
		return "", err
	}
	// HMAC of a constant text under the salted password, RFC 5802 section 3.
	sign := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text)) // never fails
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramRounds, b64(salt), b64(stored[:]), b64(sign("Server Key"))),
		nil
}
