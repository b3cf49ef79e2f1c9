package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// secret stands in every address of these tests and in no error.
const secret = "hunter2"

// content is what the servers of these tests have.
var content = func() []byte {
	b := make([]byte, 300_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}()

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// serve starts a server whose n-th request, from 0, is answered by handle.
func serve(t *testing.T, handle func(n int, w http.ResponseWriter, r *http.Request)) (File, *atomic.Int64) {
	t.Helper()
	var requests atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(int(requests.Add(1))-1, w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return fileAt(s.URL), &requests
}

func fileAt(address string) File {
	u, _ := url.Parse(address)
	u.User = url.UserPassword("me", secret)
	u.Path = "/a.jar"
	return File{URL: u.String(), Size: int64(len(content)), SHA256: digestOf(content)}
}

// whole answers as a good server does.
func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// cut sends n bytes of what was asked for and breaks the connection.
func cut(w http.ResponseWriter, r *http.Request, n int) {
	var from int
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(content[from:min(len(content), from+n)])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func quick() Options {
	return Options{Client: &http.Client{Transport: &http.Transport{}}, Backoff: time.Millisecond,
		StallTimeout: 10 * time.Second}
}

func get(t *testing.T, f File, path string, o Options) error {
	t.Helper()
	err := Get(t.Context(), f, path, o)
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows the password: %v", err)
	}
	if err != nil {
		t.Logf("it says: %v", err)
	}
	return err
}

func wantContent(t *testing.T, path string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%d bytes came, %v; want %d", len(b), err, len(content))
	}
}

func wantKind(t *testing.T, err error, kind Cause) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Cause != kind {
		t.Fatalf("%v (%T), want an error of kind %d", err, err, kind)
	}
	return e
}

func TestGet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part   []byte // there already
		handle func(n int, w http.ResponseWriter, r *http.Request)
		want   int64 // requests
	}{
		"whole": {nil, func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }, 1},
		"resumes": {content[:1000], func(_ int, w http.ResponseWriter,
			r *http.Request) {
			wantRange(t, r, 1000)
			whole(w, r)
		}, 1},
		"is all there": {content, func(_ int, _ http.ResponseWriter,
			_ *http.Request) {
			t.Error("asked for what is there")
		}, 0},
		"is too long": {append(content[:len(content):len(content)], 1),
			func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }, 1},
		"other part": {make([]byte, 1000), func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }, 2},
		"other, no end": {make([]byte, len(content)),
			func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }, 1},
		"breaks": {nil, func(n int, w http.ResponseWriter, r *http.Request) {
			if n < 9 {
				cut(w, r, 30_000)
			}
			wantRange(t, r, 9*30_000)
			whole(w, r)
		}, 10},
		"no ranges": {content[:1000], func(_ int, w http.ResponseWriter, r *http.Request) { _, _ = w.Write(content) },
			1},
		"no length": {nil, func(_ int, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(content[:5])
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(content[5:])
		}, 1},
		"range refused": {content[:1000], func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			whole(w, r)
		}, 2},
		"another range": {content[:1000], func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
				w.WriteHeader(http.StatusPartialContent)
				return
			}
			whole(w, r)
		}, 2},
		"busy": {nil, func(n int, w http.ResponseWriter, r *http.Request) {
			if n < 4 {
				w.WriteHeader([]int{503, 502, 429, 500}[n])
				return
			}
			whole(w, r)
		}, 5},
		"redirected": {nil, func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				http.Redirect(w, r, "/elsewhere?signature="+secret, http.StatusFound)
				return
			}
			whole(w, r)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, requests := serve(t, c.handle)
			path := filepath.Join(t.TempDir(), "a.jar")
			if c.part != nil {
				if err := os.WriteFile(path, c.part, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := get(t, f, path, quick()); err != nil {
				t.Fatal(err)
			}
			wantContent(t, path)
			if got := requests.Load(); got != c.want {
				t.Errorf("%d requests, want %d", got, c.want)
			}
		})
	}
}

func wantRange(t *testing.T, r *http.Request, from int) {
	t.Helper()
	if got, want := r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", from); got != want {
		t.Errorf("Range: %s, want %s", got, want)
	}
	if user, password, _ := r.BasicAuth(); user != "me" || password != secret {
		t.Errorf("user %q, password %q", user, password)
	}
}

func TestGetFails(t *testing.T) {
	t.Parallel()
	status := func(code int) func(int, http.ResponseWriter, *http.Request) {
		return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		handle func(n int, w http.ResponseWriter, r *http.Request)
		kind   Cause
		want   int64 // requests
		left   int   // bytes
		says   string
	}{
		"not there": {status(404), Status, 1, 0, "404"},
		"forbidden": {status(403), Status, 1, 0, "403"},
		"no user":   {status(401), Status, 1, 0, "401"},
		"gone":      {status(410), Status, 1, 0, "410"},
		"busy":      {status(503), Status, 5, 0, "503"},
		"no body":   {status(204), Status, 1, 0, "204"},
		"breaks":    {func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, 10) }, Network, 5, 50, "EOF"},
		"a page": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<html>Log in to the hotel's network")
		},
			Length, 1, 0, `"text/html; charset=utf-8", where 300000 were expected`},
		"another file": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			_,
				_ = w.Write(make([]byte, len(content)))
		},
			Digest, 1, 0, "SHA-256 digest " + digestOf(make([]byte, len(content)))},
		"endless": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, Length, 1, 0, "more than the expected 300000 bytes"},
		"another size": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				cut(w, r, 10)
			}
			w.Header().Set("Content-Range", "bytes 10-19/20")
			w.WriteHeader(http.StatusPartialContent)
		}, Length, 2, 10, "20 bytes"},
		"circle": {func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/again?signature="+secret, http.StatusFound)
		}, Address, 10, 0, "10 redirects"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, requests := serve(t, c.handle)
			path := filepath.Join(t.TempDir(), "a.jar")
			err := get(t, f, path, quick())
			if wantKind(t, err, c.kind); !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %q, want %q in it", err, c.says)
			}
			if b, err := os.ReadFile(path); err != nil || len(b) != c.left {
				t.Errorf("%d bytes are left, %v; want %d", len(b), err, c.left)
			}
			if got := requests.Load(); got != c.want {
				t.Errorf("%d requests, want %d", got, c.want)
			}
		})
	}
}

func TestGetStalled(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	f, _ := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n > 0 {
			_, _ = w.Write(content[:10])
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	o := quick()
	o.StallTimeout, o.MaxAttempts = 50*time.Millisecond, 2
	err := get(t, f, filepath.Join(t.TempDir(), "a.jar"), o)
	if wantKind(t, err, Network); !strings.Contains(err.Error(), "nothing for 50ms") {
		t.Error(err)
	}
}

func TestGetCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	o := quick()
	o.OnProgress = func(int64) { cancel() }
	f.Size = int64(len(content))
	path := filepath.Join(t.TempDir(), "a.jar")
	if err := Get(ctx, f, path, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) == 0 || !bytes.HasPrefix(content, b) {
		t.Errorf("%d bytes are kept, %v", len(b), err)
	}
}

func TestGetRetryAfter(t *testing.T) {
	t.Parallel()
	f, _ := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		whole(w, r)
	})
	o := quick()
	var pause time.Duration
	o.OnRetry = func(_ error, _ int64, p time.Duration) { pause = p }
	path := filepath.Join(t.TempDir(), "a.jar")
	if err := get(t, f, path, o); err != nil || pause != time.Second {
		t.Errorf("%v, after a pause of %v; want 1 s", err, pause)
	}
	wantContent(t, path)
}

func TestGetConnection(t *testing.T) {
	t.Parallel()
	encrypted := httptest.NewTLSServer(http.HandlerFunc(whole))
	t.Cleanup(encrypted.Close)
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) })
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(proxy.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	through := func(address string) *http.Transport {
		return &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(address) }}
	}
	for name, c := range map[string]struct {
		address   string
		transport *http.Transport
		kind      Cause
		says      string
	}{
		"unknown certificate": {encrypted.URL, &http.Transport{}, TLS, "certificate"},
		"no TLS there":        {strings.Replace(plain.URL, "http:", "https:", 1), &http.Transport{}, TLS, "HTTPS"},
		"refused":             {"http://" + closed.Addr().String(), &http.Transport{}, Network, "refused"},
		"proxy wants a user":  {encrypted.URL, through(proxy.URL), Status, "407"},
		"proxy refused": {encrypted.URL, through("http://me:" + secret + "@" + closed.Addr().String()), Network,
			"refused"},
		"no proxy": {encrypted.URL, &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
			return nil, fmt.Errorf("invalid proxy address %q", "ht!tp://me:"+secret+"@x")
		}}, Address, "HTTPS_PROXY"},
		"no such name": {"http://registry.invalid",
			&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "registry.invalid",
					IsNotFound: true}}
			}}, Name, "registry.invalid"},
		"no address": {"ftp://x", &http.Transport{}, Address, "http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := quick()
			o.Client.Transport = c.transport
			err := get(t, fileAt(c.address), filepath.Join(t.TempDir(), "a.jar"), o)
			if wantKind(t, err, c.kind); !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %q, want %q in it", err, c.says)
			}
		})
	}
}

func TestGetDisk(t *testing.T) {
	t.Parallel()
	f, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) })
	dir := t.TempDir()
	wantKind(t, get(t, f, filepath.Join(dir, "absent", "a.jar"), quick()), Disk)
	wantKind(t, get(t, f, dir, quick()), Disk)
	wantKind(t, get(t, f, "/dev/null", quick()), Disk)
	wantKind(t, DiskError(&os.PathError{Op: "write", Path: "a.jar", Err: syscall.ENOSPC}), Space)
	wantKind(t, DiskError(&os.PathError{Op: "write", Path: "a.jar", Err: syscall.EDQUOT}), Space)
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/10", "bytes 5-4/10", "bytes */10", "bytes 0-9/*", "",
		"bytes +1-2/3", "bytes 01-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, size, ok := parseContentRange(s)
		if ok && (from < 0 || from >= size) {
			t.Errorf("%q begins at %d of %d", s, from, size)
		}
	})
}
