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

// Cause says what stands in the way, and so what a person can do about it.
type Cause int

// The kinds of error.
const (
	Network Cause = iota // no connection, a broken one, or a silent server
	Name                 // the name of the server is not found
	TLS                  // the server cannot prove who it is
	Status               // the server refuses: see Error.Status
	Length               // the server has a file of another size there
	Digest               // the file has another digest
	Address              // the address, or that of the proxy, is none
	Space                // no space, inodes or quota is left on the disk
	Disk                 // the disk or the folder cannot be read or written
	Archive              // what was fetched cannot be unpacked
)

// Error is a failure of Get or Unpack. No password is in its text.
type Error struct {
	Cause      Cause
	Status     int // of HTTP, for the kind Status
	Err        error
	transient  bool          // another attempt may succeed
	retryAfter time.Duration // but not before so long
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Cause: Network, Err: err}
}

// stallError is a server that was silent for so long.
type stallError time.Duration

func (s stallError) Error() string {
	return fmt.Sprintf("the server has sent nothing for %v", time.Duration(s))
}

// classifyNetwork sorts a failure of the HTTP client. The address in its text, which
// may hold a password or a signature, is left out.
func classifyNetwork(ctx context.Context, err error) *Error {
	if silent, ok := errors.AsType[stallError](context.Cause(ctx)); ok {
		return &Error{Cause: Network, transient: true, Err: silent}
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
		return &Error{Cause: Name, transient: !name.IsNotFound && !strings.Contains(text, "network is unreachable"),
			Err: err}
	case isRecord, strings.Contains(text, "HTTP response to HTTPS client"):
		return &Error{Cause: TLS, Err: fmt.Errorf("what answers there does not speak HTTPS (%w)", err)}
	case isCertificate, isAlert, isHost:
		return &Error{Cause: TLS, Err: err}
	case strings.Contains(text, "invalid proxy address"): // it names the password
		return &Error{Cause: Address, Err: errors.New("HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is not an address")}
	case strings.Contains(text, "Proxy Authentication Required"):
		return &Error{Cause: Status, Status: 407, Err: errors.New("the proxy wants a user and a password (407)")}
	case strings.Contains(text, "stopped after 10 redirects"), strings.Contains(text, "unsupported protocol scheme"):
		return &Error{Cause: Address, Err: err}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the connection broke off (%w)", err)
	}
	return &Error{Cause: Network, transient: !errors.Is(err, syscall.ENETUNREACH), Err: err}
}

// classifyDisk sorts a failure of the file system.
func classifyDisk(err error) *Error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return &Error{Cause: Space, Err: err}
		}
	}
	return &Error{Cause: Disk, Err: err}
}
