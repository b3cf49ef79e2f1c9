package devstack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"go.temporal.io/sdk/client"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// TLS names the files with which a client connects to a Temporal server over TLS.
// The zero value means plain text.
type TLS struct {
	// CA holds the certificate authorities to trust; empty: the system's.
	CA string `json:"ca"`
	// Cert is the client's certificate; empty: the client presents none.
	Cert string `json:"cert"`
	// Key is the private key of Cert.
	Key string `json:"key"`
	// ServerName is the name that the server's certificate must be valid for;
	// empty: the host of its address.
	ServerName string `json:"server_name,omitempty"`
	// Digest identifies an embedded server's authority; it changes when the
	// certificates are replaced.
	Digest string `json:"digest,omitempty"`
}

// Config reads the files and returns the configuration of a client. Errors have
// the type temporal_tls and the class Usage.
func (t TLS) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := plainfile.Read(t.CA)
		if err != nil {
			return nil, tlsError("read the certificate authority of the Temporal server: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, tlsError("read the certificate authority of the Temporal server: %s holds no PEM certificate",
				t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, tlsError("read the client certificate for the Temporal server: " +
			"certificate and key must be given together")
	}
	if t.Cert != "" {
		own, err := readPair(t.Cert, t.Key)
		if err != nil {
			return nil, tlsError("read the client certificate for the Temporal server from %s and %s: %w",
				t.Cert, t.Key, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// readPair reads a certificate and its private key.
func readPair(cert, key string) (tls.Certificate, error) {
	certPEM, err1 := plainfile.Read(cert)
	keyPEM, err2 := plainfile.Read(key)
	if err := errors.Join(err1, err2); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// tlsError is an error about the TLS files that the user configured.
func tlsError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Usage, "temporal_tls",
		"check the settings temporal_tls_ca, temporal_tls_cert and temporal_tls_key with trimtab doctor",
		format, args...)
}

// TemporalOptions are the options of Temporal's SDK for the server and namespace
// of e. A server that an older trimtab started is reached in plain text; all
// others require TLS 1.3.
func (e Endpoints) TemporalOptions() (client.Options, error) {
	o := client.Options{HostPort: e.Temporal, Namespace: e.Namespace}
	if e.TemporalTLS == (TLS{}) {
		return o, nil
	}
	c, err := e.TemporalTLS.Config()
	if err != nil {
		return o, err
	}
	// Client certificates travel unencrypted in TLS 1.2.
	c.MinVersion = tls.VersionTLS13
	o.ConnectionOptions.TLS = c
	return o, nil
}
