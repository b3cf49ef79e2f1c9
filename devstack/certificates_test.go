package devstack

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Now()
	first, reason, err := certificates(dir, now)
	if err != nil || reason != nil || first.Digest == "" {
		t.Fatalf("a new folder: %+v, %v, %v", first, reason, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 5 {
		t.Fatalf("%d files, %v: want two pairs and an authority without its key", len(files), err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), st.Mode(), err)
		}
	}
	if again, reason, err := certificates(dir, now.Add(28*365*24*time.Hour)); again != first || reason != nil ||
		err != nil {
		t.Errorf("28 years later: %+v, %v, %v; want the same as %+v", again, reason, err, first)
	}
	for _, c := range []struct {
		what   string
		damage func() error
		later  time.Duration
		want   string
	}{
		{"near their end", func() error { return nil }, certLifetime - certRenewal/2, "expired"},
		{"a key that others may read", func() error { return os.Chmod(filepath.Join(dir, "client.key"), 0o640) }, 0,
			"accessible to other users"},
		{"a folder that others may enter", func() error { return os.Chmod(dir, 0o711) }, 0, "accessible to other users"},
		{"another key", func() error {
			return os.Rename(filepath.Join(dir, "client.key"),
				filepath.Join(dir, "server.key"))
		}, 0, "does not match"},
		{"no authority in the file", func() error {
			return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"),
				0o600)
		}, 0, "holds no certificate"},
		{"another authority", func() error { return replaceAuthority(dir, now) }, 0, "unknown authority"},
		{"an empty key", func() error { return os.WriteFile(filepath.Join(dir, "server.key"), nil, 0o600) }, 0, "PEM"},
	} {
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		next, reason, err := certificates(dir, now.Add(c.later))
		if err != nil || next.Digest == first.Digest || reason == nil || !strings.Contains(reason.Error(), c.want) {
			t.Errorf("%s: %+v, %v, %v; want others, for %q", c.what, next, reason, err, c.want)
		}
		if again, reason, err := certificates(dir, now.Add(c.later)); again != next || reason != nil || err != nil {
			t.Errorf("%s, once more: %+v, %v, %v; want %+v to stay", c.what, again, reason, err, next)
		}
		first = next
	}
}

// replaceAuthority leaves the certificates of one authority and the file of another, as a kill while they are made
// does.
func replaceAuthority(dir string, now time.Time) error {
	other := dir + "-other"
	if _, _, err := certificates(other, now); err != nil {
		return err
	}
	return os.Rename(filepath.Join(other, "ca.pem"), filepath.Join(dir, "ca.pem"))
}

// A server with a folder's certificates takes the clients of that folder and
// nobody else, and clients take no other server.
func TestCertificatesTakeNoStranger(t *testing.T) {
	t.Parallel()
	now := time.Now()
	own, other := filepath.Join(t.TempDir(), "tls"), filepath.Join(t.TempDir(), "tls")
	mine, _, err := certificates(own, now)
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := certificates(other, now)
	if err != nil {
		t.Fatal(err)
	}
	address := mutual(t, own)
	for _, c := range []struct {
		what string
		tls  TLS
		max  uint16
		ok   bool
	}{
		{"a client of the folder", mine, 0, true},
		{"no certificate", TLS{CA: mine.CA}, 0, false},
		{"the certificate of another folder", TLS{CA: mine.CA, Cert: theirs.Cert, Key: theirs.Key}, 0, false},
		{"a client that trusts another folder", TLS{CA: theirs.CA, Cert: mine.Cert, Key: mine.Key}, 0, false},
		{"a client that trusts the system", TLS{Cert: mine.Cert, Key: mine.Key}, 0, false},
		{"a client that wants another name", TLS{CA: mine.CA, Cert: mine.Cert, Key: mine.Key,
			ServerName: "temporal.example"}, 0, false},
		{"an older TLS", mine, tls.VersionTLS12, false},
	} {
		config, err := c.tls.Config()
		if err != nil {
			t.Fatal(err)
		}
		config.MaxVersion = c.max
		if err := greet(address, config); (err == nil) != c.ok {
			t.Errorf("%s: %v, want success %v", c.what, err, c.ok)
		}
	}
}

// mutual listens as trimtab-temporal does and says a word to whom it takes.
func mutual(t *testing.T, dir string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				defer c.Close()
				_, _ = c.Write([]byte("welcome"))
			}(c)
		}
	}()
	return l.Addr().String()
}

// greet connects and waits for the word: in TLS 1.3 a client learns only then that it was refused.
func greet(address string, config *tls.Config) error {
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Read(make([]byte, 7))
	return err
}

func TestTLSFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, _, err := certificates(filepath.Join(dir, "tls"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, files := range map[string]TLS{
		"no authority":        {CA: filepath.Join(dir, "absent")},
		"an empty authority":  {CA: empty},
		"a folder":            {CA: dir},
		"a cert without key":  {Cert: good.Cert},
		"a key without cert":  {Key: good.Key},
		"two that do not fit": {Cert: good.Cert, Key: filepath.Join(dir, "tls", "server.key")},
	} {
		_, err := files.Config()
		if e := trimtab.AsError(err); err == nil || e.Class != trimtab.Usage || e.Type != "temporal_tls" ||
			e.Remedy == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
