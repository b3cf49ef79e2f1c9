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
	Client   *http.Client  // nil: one that goes through the proxies that the environment names
	Tries    int           // attempts in a row that bring next to nothing; 0: 5
	Pause    time.Duration // before the second of them; it doubles from one to the next; 0: 1 second
	Stall    time.Duration // how long a server may be silent; 0: 30 seconds
	Progress func(done int64)
	Retry    func(cause error, done int64, pause time.Duration) // told before each pause
}

func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = &http.Client{Transport: http.DefaultTransport}
	}
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if o.Retry == nil {
		o.Retry = func(error, int64, time.Duration) {}
	}
	return o
}

// Get brings f to path. What has come is kept in path when Get fails for want of
// a network or is cancelled, and the next Get goes on from there; so path holds f
// only after Get has returned nil. Errors are of type *Error, or of ctx.
func Get(ctx context.Context, f File, path string, o Options) error {
	d := &download{File: f, Options: o.withDefaults()}
	if u, err := url.Parse(f.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return &Error{Kind: Address, Err: errors.New("the address is not one of http or https")} // it may hold a password
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return onDisk(err)
	}
	defer out.Close()
	d.out = out
	st, err := out.Stat()
	if err != nil {
		return onDisk(err)
	}
	if !st.Mode().IsRegular() {
		return &Error{Kind: Disk, Err: fmt.Errorf("%s is no ordinary file", path)}
	}
	if d.done = st.Size(); d.done > f.Size {
		d.done = 0
	}
	d.joined = d.done > 0
	return d.run(ctx)
}

// download is one call of Get.
type download struct {
	File
	Options
	out    *os.File
	done   int64 // bytes that out holds
	joined bool  // they did not come in one piece
}

// run tries until the whole file is there and has its digest. What was joined
// from pieces and has another digest is fetched once more, from the beginning.
func (d *download) run(ctx context.Context) error {
	for again := true; ; again = false {
		if err := d.fill(ctx); err != nil {
			return err
		}
		got, err := d.digest()
		if err != nil || got == d.SHA256 {
			return err
		}
		joined := d.joined
		if err := d.restart(); err != nil {
			return err
		}
		if !joined || !again {
			return &Error{Kind: Digest, Err: fmt.Errorf("what came has the SHA-256 digest %s, which should be %s", got, d.SHA256)}
		}
	}
}

// fill makes out hold Size bytes.
func (d *download) fill(ctx context.Context) error {
	for failures := 0; d.done < d.Size; {
		before := d.done
		err := d.attempt(ctx)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if e := asError(err); !e.passing {
			return e
		}
		if failures++; d.done-before > d.Size/100 { // it breaks off, but it comes
			failures = 1
		}
		if failures >= d.Tries {
			return asError(err)
		}
		pause := max(d.Pause<<(failures-1), asError(err).after)
		d.Retry(err, d.done, pause)
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
	watch := time.AfterFunc(d.Stall, func() { cancel(stalled(d.Stall)) })
	defer watch.Stop()
	response, err := d.ask(ctx)
	if err != nil {
		return onNetwork(ctx, err)
	}
	defer response.Body.Close()
	if err := d.accept(response); err != nil {
		return err
	}
	return d.copy(ctx, response.Body, func() { watch.Reset(d.Stall) })
}

func (d *download) ask(ctx context.Context) (*http.Response, error) {
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

// accept sees that the body of a response is what is missing, or all of the file.
func (d *download) accept(r *http.Response) error {
	switch {
	case r.StatusCode == http.StatusOK:
		if r.ContentLength >= 0 && r.ContentLength != d.Size {
			return d.otherFile(r, r.ContentLength)
		}
		return d.restart()
	case r.StatusCode == http.StatusPartialContent && d.done > 0:
		from, size, ok := parseContentRange(r.Header.Get("Content-Range"))
		if ok && from == d.done && size == d.Size {
			d.joined = true
			return nil
		}
		if ok && size != d.Size {
			return d.otherFile(r, size)
		}
		fallthrough
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.done > 0:
		if err := d.restart(); err != nil {
			return err
		}
		return &Error{Kind: Network, passing: true, Err: errors.New("the server does not go on where it broke off")}
	}
	return &Error{Kind: Status, Status: r.StatusCode, passing: passingStatus(r.StatusCode), after: retryAfter(r),
		Err: fmt.Errorf("the server answers %d %s", r.StatusCode, http.StatusText(r.StatusCode))}
}

func (d *download) otherFile(r *http.Response, size int64) error {
	return &Error{Kind: Length, Err: fmt.Errorf("the server has another file there: %d bytes of type %q, where %d were expected",
		size, r.Header.Get("Content-Type"), d.Size)}
}

func passingStatus(code int) bool {
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
				long := &Error{Kind: Length, Err: fmt.Errorf("the server sends more than the %d bytes that were expected", d.Size)}
				return errors.Join(long, d.restart())
			}
			if _, err := d.out.WriteAt(buffer[:n], d.done); err != nil {
				return onDisk(err)
			}
			d.done += int64(n)
			d.Progress(d.done)
		}
		switch {
		case err == io.EOF && d.done < d.Size:
			return &Error{Kind: Network, passing: true, Err: errors.New("the connection broke off")}
		case err == io.EOF:
			return nil
		case err != nil:
			return onNetwork(ctx, err)
		}
	}
}

// restart forgets what has come.
func (d *download) restart() error {
	d.done, d.joined = 0, false
	if err := d.out.Truncate(0); err != nil {
		return onDisk(err)
	}
	return nil
}

func (d *download) digest() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d.out, 0, d.Size)); err != nil {
		return "", onDisk(err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
