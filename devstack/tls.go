package devstack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"go.temporal.io/sdk/client"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// TLS names the files with which a client reaches a Temporal server over TLS.
type TLS struct {
	CA   string `json:"ca"`   // authorities that may vouch for the server; empty: the system's
	Cert string `json:"cert"` // the client's certificate; empty: it shows none
	Key  string `json:"key"`  // its private key
	// that the server's certificate must hold; empty: the host of its address
	ServerName string `json:"server_name,omitempty"`
	Digest     string `json:"digest,omitempty"` // of an embedded server's authority: another when it was made anew
}

// Config reads the files. One that cannot be read is an error of the class Usage.
func (t TLS) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := plainfile.Read(t.CA)
		if err != nil {
			return nil, tlsError("read the certificate authority of the Temporal server: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil,
				tlsError("read the certificate authority of the Temporal server: %s holds no certificate in PEM", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil,
			tlsError("read the certificate for the Temporal server: it needs its key, and the key its certificate")
	}
	if t.Cert != "" {
		own, err := readPair(t.Cert, t.Key)
		if err != nil {
			return nil, tlsError("read the certificate for the Temporal server from %s and %s: %w", t.Cert, t.Key, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// readPair reads a certificate and its key.
func readPair(cert, key string) (tls.Certificate, error) {
	certPEM, err1 := plainfile.Read(cert)
	keyPEM, err2 := plainfile.Read(key)
	if err := errors.Join(err1, err2); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

func tlsError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Usage, "temporal_tls",
		"check the settings temporal_tls_ca, temporal_tls_cert and temporal_tls_key with trimtab doctor", format,
		args...)
}

// TemporalOptions are those of Temporal's SDK for the server and the namespace
// of e. A server that an older trimtab started takes plain text.
func (e Endpoints) TemporalOptions() (client.Options, error) {
	o := client.Options{HostPort: e.Temporal, Namespace: e.Namespace}
	if e.TemporalTLS == (TLS{}) {
		return o, nil
	}
	c, err := e.TemporalTLS.Config()
	if err != nil {
		return o, err
	}
	c.MinVersion = tls.VersionTLS13
	o.ConnectionOptions.TLS = c
	return o, nil
}
