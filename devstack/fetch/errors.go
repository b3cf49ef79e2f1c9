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

// Cause classifies a failure by what stands in the way, and so by what a person
// can do about it.
type Cause int

// The causes of an Error.
const (
	// Network: no connection, a broken connection, or a server that stopped
	// sending.
	Network Cause = iota
	// Name: the server's host name does not resolve.
	Name
	// TLS: the server cannot prove its identity.
	TLS
	// Status: the server refuses the request; Error.Status is the HTTP status.
	Status
	// Length: the server has a file of another size at this URL.
	Length
	// Digest: the file has another digest.
	Digest
	// Address: the URL, or that of the proxy, is malformed.
	Address
	// Space: no space, inodes or quota is left on the disk.
	Space
	// Disk: the disk or the folder cannot be read or written.
	Disk
	// Archive: the fetched file cannot be unpacked.
	Archive
)

// Error is a failure of Get, Unpack or TreeDigest. Its text never holds a
// password or a URL's query.
type Error struct {
	Cause Cause
	// Status is the HTTP status, for the cause Status.
	Status int
	// Err says what failed.
	Err error
	// transient: another attempt may succeed.
	transient bool
	// retryAfter is the least time before another attempt, as the server asked
	// for.
	retryAfter time.Duration
}

// Error returns the text of the underlying error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error, for errors.Is and errors.AsType.
func (e *Error) Unwrap() error { return e.Err }

// asError finds the *Error in err's chain. Anything else came from the connection
// and becomes one with the cause Network.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Cause: Network, Err: err}
}

// stallError is the cause of a request that was cancelled because the server sent
// nothing for so long.
type stallError time.Duration

// Error says for how long nothing came.
func (s stallError) Error() string {
	return fmt.Sprintf("the server sent nothing for %v", time.Duration(s))
}

// classifyNetwork turns a failure of the HTTP client into an *Error. It drops the
// URL from the text, which may hold a password or a signature. Some failures have
// no type of their own in net/http and are recognised by their wording.
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
		return &Error{Cause: TLS, Err: fmt.Errorf("the server does not speak HTTPS (%w)", err)}
	case isCertificate, isAlert, isHost:
		return &Error{Cause: TLS, Err: err}
	case strings.Contains(text, "invalid proxy address"): // it names the password
		return &Error{Cause: Address, Err: errors.New("HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is not an address")}
	case strings.Contains(text, "Proxy Authentication Required"):
		return &Error{Cause: Status, Status: 407,
			Err: errors.New("the proxy requires a user name and a password (407)")}
	case strings.Contains(text, "stopped after 10 redirects"), strings.Contains(text, "unsupported protocol scheme"):
		return &Error{Cause: Address, Err: err}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the connection broke off (%w)", err)
	}
	return &Error{Cause: Network, transient: !errors.Is(err, syscall.ENETUNREACH), Err: err}
}

// DiskError turns a failure of the file system into an *Error with the cause Space
// or Disk. EFBIG counts as Space: a file size limit is a lack of room too.
func DiskError(err error) *Error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return &Error{Cause: Space, Err: err}
		}
	}
	return &Error{Cause: Disk, Err: err}
}
