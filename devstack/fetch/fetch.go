// Package fetch downloads a file of known size and digest over HTTP, resuming
// where a broken download ended, and unpacks it. A file or folder under its final
// name is always complete and the one that was asked for: Get verifies the digest
// before it returns, and callers of Unpack compare TreeDigest before they rename
// the result into place.
//
// Errors have a Cause, from which the caller derives the remedy to show.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// File identifies what to fetch: where it is, and the size and digest that it
// must have.
type File struct {
	// URL is http or https. It may hold a user and a password, which no error
	// shows.
	URL string
	// Size is in bytes.
	Size int64
	// SHA256 is 64 hexadecimal digits.
	SHA256 string
}

// Options configure how patient Get is and how it reports progress. The zero
// value is ready to use.
type Options struct {
	// Client sends the requests; nil: one that uses the proxies named in the
	// environment.
	Client *http.Client
	// MaxAttempts is how many attempts in a row may bring next to nothing; 0: 5.
	MaxAttempts int
	// Backoff is the pause before the second attempt; it doubles from one to the
	// next; 0: 1 second.
	Backoff time.Duration
	// StallTimeout is how long the server may send nothing; 0: 30 seconds.
	StallTimeout time.Duration
	// OnProgress is called whenever bytes have arrived, with the number of bytes
	// so far; may be nil.
	OnProgress func(done int64)
	// OnRetry is called before each pause, with the reason for it; may be nil.
	OnRetry func(cause error, done int64, pause time.Duration)
}

// withDefaults returns o with every zero field replaced by its default.
func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = &http.Client{Transport: http.DefaultTransport}
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 5
	}
	if o.Backoff == 0 {
		o.Backoff = time.Second
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = 30 * time.Second
	}
	if o.OnProgress == nil {
		o.OnProgress = func(int64) {}
	}
	if o.OnRetry == nil {
		o.OnRetry = func(error, int64, time.Duration) {}
	}
	return o
}

// Get downloads f to path. When it fails for want of a network, or is cancelled,
// the bytes received so far stay in path and the next Get resumes from there; so
// path holds f only after Get has returned nil. At most one Get may write to a
// path at a time: the caller holds a lock. Errors are of type *Error, or that of
// ctx.
func Get(ctx context.Context, f File, path string, o Options) error {
	d := &download{File: f, Options: o.withDefaults()}
	if u, err := url.Parse(f.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// The URL itself stays out of the error: it may hold a password.
		return &Error{Cause: Address, Err: errors.New("the address is not an http or https URL")}
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return DiskError(err)
	}
	defer out.Close()
	d.out = out
	st, err := out.Stat()
	if err != nil {
		return DiskError(err)
	}
	if !st.Mode().IsRegular() {
		return &Error{Cause: Disk, Err: fmt.Errorf("%s is not a regular file", path)}
	}
	if d.done = st.Size(); d.done > f.Size {
		d.done = 0
	}
	d.resumed = d.done > 0
	return d.run(ctx)
}

// download is the state of one call of Get.
type download struct {
	File
	Options
	// out is the file at the path of Get, open for writing.
	out *os.File
	// done is how many bytes of the file out holds.
	done int64
	// resumed: those bytes came from more than one response, which may have been
	// of different files.
	resumed bool
}

// run downloads until the whole file is there and has its digest. A file that was
// pieced together from several responses and has a wrong digest is downloaded
// once more from the beginning; a wrong digest of a single response is final.
func (d *download) run(ctx context.Context) error {
	for firstTry := true; ; firstTry = false {
		if err := d.fetchAll(ctx); err != nil {
			return err
		}
		got, err := d.digest()
		if err != nil || got == d.SHA256 {
			return err
		}
		joined := d.resumed
		if err := d.restart(); err != nil {
			return err
		}
		if !joined || !firstTry {
			return &Error{Cause: Digest,
				Err: fmt.Errorf("the downloaded file has the SHA-256 digest %s; it should be %s", got, d.SHA256)}
		}
	}
}

// fetchAll makes attempts until out holds Size bytes. An attempt that brought
// more than a hundredth of the file starts the count of failures again: a
// connection that breaks often still gets there. The pause doubles with each
// failure, and is never shorter than the server's Retry-After.
func (d *download) fetchAll(ctx context.Context) error {
	for failures := 0; d.done < d.Size; {
		before := d.done
		err := d.attempt(ctx)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if e := asError(err); !e.transient {
			return e
		}
		if failures++; d.done-before > d.Size/100 { // it broke off, but made progress
			failures = 1
		}
		if failures >= d.MaxAttempts {
			return asError(err)
		}
		pause := max(d.Backoff<<(failures-1), asError(err).retryAfter)
		d.OnRetry(err, d.done, pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// attempt makes one request for the bytes that are missing, and appends what it
// receives. A timer cancels the request when the server sends nothing for
// StallTimeout.
func (d *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(d.StallTimeout, func() { cancel(stallError(d.StallTimeout)) })
	defer watch.Stop()
	response, err := d.request(ctx)
	if err != nil {
		return classifyNetwork(ctx, err)
	}
	defer response.Body.Close()
	if err := d.checkResponse(response); err != nil {
		return err
	}
	return d.copy(ctx, response.Body, func() { watch.Reset(d.StallTimeout) })
}

// request asks for the missing bytes: the whole file, or a range of it when out
// holds the beginning. The encoding must be identity, since size and digest are
// those of the plain file.
func (d *download) request(ctx context.Context) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "trimtab")
	request.Header.Set("Accept-Encoding", "identity")
	if d.done > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
	}
	return d.Client.Do(request)
}

// checkResponse checks that the body of a response is either the missing part or
// the whole file, in which case out is emptied first.
func (d *download) checkResponse(r *http.Response) error {
	switch {
	case r.StatusCode == http.StatusOK:
		if r.ContentLength >= 0 && r.ContentLength != d.Size {
			return d.wrongSize(r, r.ContentLength)
		}
		return d.restart()
	case r.StatusCode == http.StatusPartialContent && d.done > 0:
		from, size, ok := parseContentRange(r.Header.Get("Content-Range"))
		if ok && from == d.done && size == d.Size {
			d.resumed = true
			return nil
		}
		if ok && size != d.Size {
			return d.wrongSize(r, size)
		}
		fallthrough
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.done > 0:
		if err := d.restart(); err != nil {
			return err
		}
		return &Error{Cause: Network, transient: true, Err: errors.New("the server does not resume the download")}
	}
	return &Error{
		Cause:      Status,
		Status:     r.StatusCode,
		Err:        fmt.Errorf("the server answered %d %s", r.StatusCode, http.StatusText(r.StatusCode)),
		transient:  isTransientStatus(r.StatusCode),
		retryAfter: retryAfter(r),
	}
}

// wrongSize is the error for a server that has a file of another size. It quotes
// the content type: text/html points to a login page.
func (d *download) wrongSize(r *http.Response, size int64) error {
	return &Error{Cause: Length,
		Err: fmt.Errorf("the server has another file there: %d bytes of type %q, where %d were expected",
			size, r.Header.Get("Content-Type"), d.Size)}
}

// isTransientStatus reports whether the same request may succeed later.
func isTransientStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter is the pause that a server asks for in Retry-After, at most a
// minute. Only the form in seconds is read; it is 0 without one.
func retryAfter(r *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(r.Header.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

// parseContentRange parses the header "bytes 100-199/200". It is strict: a
// malformed one counts as a server that cannot resume.
func parseContentRange(s string) (from, size int64, ok bool) {
	var to int64
	n, err := fmt.Sscanf(s, "bytes %d-%d/%d", &from, &to, &size)
	ok = n == 3 && err == nil && 0 <= from && from <= to && to < size &&
		s == "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to, 10)+"/"+strconv.FormatInt(size, 10)
	return from, size, ok
}

// copy appends the body to out and calls alive whenever bytes arrive. It never
// writes more than Size bytes.
func (d *download) copy(ctx context.Context, body io.Reader, alive func()) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			alive()
			if d.done+int64(n) > d.Size {
				long := &Error{Cause: Length,
					Err: fmt.Errorf("the server sent more than the expected %d bytes", d.Size)}
				return errors.Join(long, d.restart())
			}
			if _, err := d.out.WriteAt(buffer[:n], d.done); err != nil {
				return DiskError(err)
			}
			d.done += int64(n)
			d.OnProgress(d.done)
		}
		switch {
		case err == io.EOF && d.done < d.Size:
			return &Error{Cause: Network, transient: true, Err: errors.New("the connection broke off")}
		case err == io.EOF:
			return nil
		case err != nil:
			return classifyNetwork(ctx, err)
		}
	}
}

// restart discards the bytes received so far.
func (d *download) restart() error {
	d.done, d.resumed = 0, false
	if err := d.out.Truncate(0); err != nil {
		return DiskError(err)
	}
	return nil
}

// digest is the SHA-256 of the file as it is on disk, in hexadecimal digits: it
// covers pieces from earlier calls too.
func (d *download) digest() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d.out, 0, d.Size)); err != nil {
		return "", DiskError(err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
