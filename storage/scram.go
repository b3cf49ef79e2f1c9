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

// scramRounds is how often the password is hashed, as Postgres does by itself.
const scramRounds = 4096

// scramSecret is what Postgres keeps of a password (RFC 5803, as of pg_authid):
// sent in its place, the password is in no statement that a server logs or
// shows. A password with other characters than ASCII is normalised by the
// server first, and comes back as it is.
func scramSecret(password string) (string, error) {
	if strings.ContainsFunc(password, func(r rune) bool { return r >= 0x80 }) {
		return password, nil
	}
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	return scramOf(password, salt[:])
}

func scramOf(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramRounds, sha256.Size)
	if err != nil {
		return "", err
	}
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
