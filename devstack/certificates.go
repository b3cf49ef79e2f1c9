package devstack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trimtab/trimtab/plainfile"
)

// The certificates of one embedded Temporal server are in a folder of their own
// that only its owner can enter:
//
//	ca.pem                  the authority; its key is discarded once it has signed the two below
//	server.pem server.key   of the server; its services also present it to one another as clients
//	client.pem client.key   of all clients: anyone who can read the key may use the server
//
// An authority without a stored key can sign nothing more, so there is no key to
// protect; renewing means making all three again.
const (
	authorityFile = "ca.pem"
	serverFile    = "server"
	clientFile    = "client"
)

// temporalName is the DNS name in the server's certificate, besides localhost and
// the loopback addresses.
const temporalName = "trimtab-temporal"

const (
	// certLifetime is how long certificates are valid.
	certLifetime = 30 * 365 * 24 * time.Hour
	// certRenewal is how long before they expire a start of the server replaces them.
	certRenewal = 365 * 24 * time.Hour
)

// certificates reads the certificates in a folder, or creates them where there
// are none or they are unusable. reason is why existing ones were replaced; nil
// otherwise.
func certificates(dir string, now time.Time) (t TLS, reason error, err error) {
	t, reason = readCertificates(dir, now)
	if reason == nil {
		return t, nil, nil
	}
	if _, absent := os.Lstat(dir); absent != nil {
		reason = nil
	}
	if err := makeCertificates(dir, now); err != nil {
		return TLS{}, reason, fmt.Errorf("create the certificates of the Temporal server: %w", err)
	}
	t, err = readCertificates(dir, now)
	return t, reason, err
}

// readCertificates reads the certificates and checks that they are complete,
// match, remain valid for certRenewal, and are private to their owner.
func readCertificates(dir string, now time.Time) (TLS, error) {
	ca := filepath.Join(dir, authorityFile)
	raw, err := plainfile.Read(ca)
	if err != nil {
		return TLS{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return TLS{}, fmt.Errorf("%s holds no certificate", ca)
	}
	client, until := filepath.Join(dir, clientFile), now.Add(certRenewal)
	if err := checkCertificate(filepath.Join(dir, serverFile), pool, x509.ExtKeyUsageServerAuth, until); err != nil {
		return TLS{}, err
	}
	if err := checkCertificate(client, pool, x509.ExtKeyUsageClientAuth, until); err != nil {
		return TLS{}, err
	}
	sum := sha256.Sum256(raw)
	return TLS{CA: ca, Cert: client + ".pem", Key: client + ".key", Digest: hex.EncodeToString(sum[:8])}, nil
}

// checkCertificate refuses a certificate that does not match its key or the
// authority, expires before until, or whose key other users can read.
func checkCertificate(path string, authority *x509.CertPool, usage x509.ExtKeyUsage, until time.Time) error {
	for _, file := range []string{filepath.Dir(path), path + ".key"} {
		st, err := os.Lstat(file)
		if err != nil {
			return err
		}
		if st.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s is accessible to other users (%v)", file, st.Mode().Perm())
		}
	}
	pair, err := readPair(path+".pem", path+".key")
	if err == nil {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{
			Roots:       authority,
			KeyUsages:   []x509.ExtKeyUsage{usage},
			CurrentTime: until,
		})
	}
	if err != nil {
		return fmt.Errorf("%s.pem: %w", path, err)
	}
	return nil
}

// makeCertificates creates an authority and the two certificates that it signs,
// and writes everything but the authority's key. Existing files are replaced.
func makeCertificates(dir string, now time.Time) error {
	if err := privateFolder(dir); err != nil {
		return err
	}
	authority := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "trimtab data folder"},
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs no further authorities
	}
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: temporalName}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{temporalName, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	client := &x509.Certificate{
		Subject: pkix.Name{CommonName: "trimtab client"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signer, root, err := signCertificate(authority, nil, nil, now)
	if err != nil {
		return err
	}
	for _, leaf := range []struct {
		file string
		cert *x509.Certificate
	}{{serverFile, server}, {clientFile, client}} {
		key, cert, err := signCertificate(leaf.cert, authority, signer, now)
		if err != nil {
			return err
		}
		if err := writePair(filepath.Join(dir, leaf.file), key, cert); err != nil {
			return err
		}
	}
	return writePEM(filepath.Join(dir, authorityFile), "CERTIFICATE", root) // last: readers need it first
}

// signCertificate creates a P-256 key for c and signs c by parent, or by itself
// if parent is nil. It returns the key and the certificate in DER. NotBefore is
// 1970, so that a clock that jumps back cannot end a run.
func signCertificate(c, parent *x509.Certificate, by *ecdsa.PrivateKey,
	now time.Time) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	c.NotBefore, c.NotAfter = time.Unix(0, 0), now.Add(certLifetime)
	if parent == nil {
		parent, by = c, key
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	return key, cert, err
}

// writePair writes a key, in PKCS #8, and its certificate as PEM files.
func writePair(path string, key *ecdsa.PrivateKey, cert []byte) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(writePEM(path+".key", "PRIVATE KEY", raw), writePEM(path+".pem", "CERTIFICATE", cert))
}

// writePEM writes one PEM block to a private file.
func writePEM(path, kind string, raw []byte) error {
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

// privateFolder creates a folder that only its owner can enter, or removes the
// access of others to an existing one. O_NOFOLLOW keeps it from changing the
// target of a link.
func privateFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o700), f.Close())
}
