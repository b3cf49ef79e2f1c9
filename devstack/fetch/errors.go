package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Kind says what stands in the way, and so what a person can do about it.
type Kind int

// The kinds of error.
const (
	Network Kind = iota // no connection, a broken one, or a silent server
	Name                // the name of the server is not found
	TLS                 // the server cannot prove who it is
	Status              // the server refuses: see Error.Status
	Length              // the server has a file of another size there
	Digest              // the file has another digest
	Address             // the address, or that of the proxy, is none
	Space               // no space, inodes or quota is left on the disk
	Disk                // the disk or the folder cannot be read or written
	Archive             // what was fetched cannot be unpacked
)

// Error is a failure of Get or Unpack. No password is in its text.
type Error struct {
	Kind    Kind
	Status  int // of HTTP, for the kind Status
	Err     error
	passing bool          // another attempt may succeed
	after   time.Duration // but not before so long
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: Network, Err: err}
}

// stalled is a server that was silent for so long.
type stalled time.Duration

func (s stalled) Error() string {
	return fmt.Sprintf("the server has sent nothing for %v", time.Duration(s))
}

// onNetwork sorts a failure of the HTTP client. The address in its text, which
// may hold a password or a signature, is left out.
func onNetwork(ctx context.Context, err error) *Error {
	if silent, ok := errors.AsType[stalled](context.Cause(ctx)); ok {
		return &Error{Kind: Network, passing: true, Err: silent}
	}
	for e, ok := errors.AsType[*url.Error](err); ok; e, ok = errors.AsType[*url.Error](err) {
		err = e.Err
	}
	name, isName := errors.AsType[*net.DNSError](err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	_, isAlert := errors.AsType[tls.AlertError](err)
	_, isHost := errors.AsType[x509.HostnameError](err)
	switch text := err.Error(); {
	case isName:
		return &Error{Kind: Name, passing: !name.IsNotFound && !strings.Contains(text, "network is unreachable"), Err: err}
	case isRecord, strings.Contains(text, "HTTP response to HTTPS client"):
		return &Error{Kind: TLS, Err: fmt.Errorf("what answers there does not speak HTTPS (%w)", err)}
	case isCertificate, isAlert, isHost:
		return &Error{Kind: TLS, Err: err}
	case strings.Contains(text, "invalid proxy address"): // it names the password
		return &Error{Kind: Address, Err: errors.New("HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is not an address")}
	case strings.Contains(text, "Proxy Authentication Required"):
		return &Error{Kind: Status, Status: 407, Err: errors.New("the proxy wants a user and a password (407)")}
	case strings.Contains(text, "stopped after 10 redirects"), strings.Contains(text, "unsupported protocol scheme"):
		return &Error{Kind: Address, Err: err}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the connection broke off (%w)", err)
	}
	return &Error{Kind: Network, passing: !errors.Is(err, syscall.ENETUNREACH), Err: err}
}

// onDisk sorts a failure of the file system.
func onDisk(err error) *Error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return &Error{Kind: Space, Err: err}
		}
	}
	return &Error{Kind: Disk, Err: err}
}
