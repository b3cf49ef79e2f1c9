// Package fetch brings a file of a known size and digest over HTTP, going on
// where a broken download ended, and unpacks it. Nothing that it leaves under
// its final name is part of a file, or another file than the one asked for.
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

// File is what to fetch.
type File struct {
	URL    string // http or https; it may hold a user and a password, which no error shows
	Size   int64  // bytes
	SHA256 string // 64 hexadecimal digits
}

// Options say how patient Get is and whom it tells. The zero value is fit for use.
type Options struct {
	Client       *http.Client  // nil: one that goes through the proxies that the environment names
	MaxAttempts  int           // attempts in a row that bring next to nothing; 0: 5
	Backoff      time.Duration // before the second of them; it doubles from one to the next; 0: 1 second
	StallTimeout time.Duration // how long a server may be silent; 0: 30 seconds
	OnProgress   func(done int64)
	OnRetry      func(cause error, done int64, pause time.Duration) // told before each pause
}

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

// Get brings f to path. What has come is kept in path when Get fails for want of
// a network or is cancelled, and the next Get goes on from there; so path holds f
// only after Get has returned nil. Errors are of type *Error, or of ctx.
func Get(ctx context.Context, f File, path string, o Options) error {
	d := &download{File: f, Options: o.withDefaults()}
	if u, err := url.Parse(f.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// it may hold a password
		return &Error{Cause: Address, Err: errors.New("the address is not one of http or https")}
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return classifyDisk(err)
	}
	defer out.Close()
	d.out = out
	st, err := out.Stat()
	if err != nil {
		return classifyDisk(err)
	}
	if !st.Mode().IsRegular() {
		return &Error{Cause: Disk, Err: fmt.Errorf("%s is no ordinary file", path)}
	}
	if d.done = st.Size(); d.done > f.Size {
		d.done = 0
	}
	d.resumed = d.done > 0
	return d.run(ctx)
}

// download is one call of Get.
type download struct {
	File
	Options
	out     *os.File
	done    int64 // bytes that out holds
	resumed bool  // they did not come in one piece
}

// run tries until the whole file is there and has its digest. What was joined
// from pieces and has another digest is fetched once more, from the beginning.
func (d *download) run(ctx context.Context) error {
	for again := true; ; again = false {
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
		if !joined || !again {
			return &Error{Cause: Digest, Err: fmt.Errorf("what came has the SHA-256 digest %s, which should be %s", got,
				d.SHA256)}
		}
	}
}

// fetchAll makes out hold Size bytes.
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
		if failures++; d.done-before > d.Size/100 { // it breaks off, but it comes
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

// attempt asks for what is missing, once.
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

// checkResponse sees that the body of a response is what is missing, or all of the file.
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
		return &Error{Cause: Network, transient: true, Err: errors.New("the server does not go on where it broke off")}
	}
	return &Error{Cause: Status, Status: r.StatusCode, transient: isTransientStatus(r.StatusCode),
		retryAfter: retryAfter(r),
		Err:        fmt.Errorf("the server answers %d %s", r.StatusCode, http.StatusText(r.StatusCode))}
}

func (d *download) wrongSize(r *http.Response, size int64) error {
	return &Error{Cause: Length,
		Err: fmt.Errorf("the server has another file there: %d bytes of type %q, where %d were expected",
			size, r.Header.Get("Content-Type"), d.Size)}
}

func isTransientStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter is how long a server asks to be left alone: of that, a minute at the most.
func retryAfter(r *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(r.Header.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

// parseContentRange reads "bytes 100-199/200".
func parseContentRange(s string) (from, size int64, ok bool) {
	var to int64
	n, err := fmt.Sscanf(s, "bytes %d-%d/%d", &from, &to, &size)
	ok = n == 3 && err == nil && 0 <= from && from <= to && to < size &&
		s == "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to, 10)+"/"+strconv.FormatInt(size, 10)
	return from, size, ok
}

// copy appends the body to out and calls alive whenever something came.
func (d *download) copy(ctx context.Context, body io.Reader, alive func()) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			alive()
			if d.done+int64(n) > d.Size {
				long := &Error{Cause: Length,
					Err: fmt.Errorf("the server sends more than the %d bytes that were expected", d.Size)}
				return errors.Join(long, d.restart())
			}
			if _, err := d.out.WriteAt(buffer[:n], d.done); err != nil {
				return classifyDisk(err)
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

// restart forgets what has come.
func (d *download) restart() error {
	d.done, d.resumed = 0, false
	if err := d.out.Truncate(0); err != nil {
		return classifyDisk(err)
	}
	return nil
}

func (d *download) digest() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d.out, 0, d.Size)); err != nil {
		return "", classifyDisk(err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
