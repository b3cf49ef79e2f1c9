package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"go.temporal.io/server/common/rpc/encryption"
)

// serverName is the name in the server's certificate, whatever address it listens
// on: devstack writes it there.
const serverName = "trimtab-temporal"

// loadTLS reads the certificates in a folder: ca.pem, server.pem and server.key.
// Every port of this process then requires TLS 1.3 and a client certificate
// signed by that authority. The services use the server's own certificate as
// clients of one another.
func loadTLS(folder string) (*encryption.FixedTLSConfigProvider, error) {
	own, err := tls.LoadX509KeyPair(filepath.Join(folder, "server.pem"), filepath.Join(folder, "server.key"))
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	pem, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the certificate authority: no certificate in %s", filepath.Join(folder, "ca.pem"))
	}
	// One configuration serves all ports, and one dials between the services: Temporal takes the two for its frontend
	// and for the traffic between its nodes separately.
	client := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}}
	server := client.Clone()
	client.RootCAs, client.ServerName = authority, serverName
	server.ClientCAs, server.ClientAuth = authority, tls.RequireAndVerifyClientCert
	return &encryption.FixedTLSConfigProvider{
		FrontendServerConfig: server, InternodeServerConfig: server,
		FrontendClientConfig: client, InternodeClientConfig: client,
	}, nil
}
