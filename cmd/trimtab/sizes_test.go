package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab/storage/storagetest"
)

var sizes = flag.String("rankings", "1000,10000", "for TestDatasetsBySize: numbers of rankings, with commas between")

// mostResident is what a command may have resident, bytes, whatever the size of a dataset: half as much again as was
// measured.
const mostResident = 96 << 20

// Importing, freezing, showing and exporting a dataset of rankings takes memory
// that does not grow with it. The table says what each took of time and memory,
// and what the database and its log grew by:
//
//	go test -v -run TestDatasetsBySize ./cmd/trimtab -rankings 1000,10000,100000,1000000 -timeout 2h
func TestDatasetsBySize(t *testing.T) {
	if testing.Short() {
		t.Skip("imports thousands of rankings")
	}
	t.Logf("%9s %9s  %22s %22s %22s %9s %9s", "rankings", "file", "import and freeze", "show", "export", "database",
		"log")
	for _, field := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			t.Fatalf("-rankings has %q", field)
		}
		urls := storagetest.URLs(t)
		t.Setenv("TRIMTAB_POSTGRES_URL", urls.App)
		owner, err := pgx.Connect(t.Context(), urls.Owner)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "votes.jsonl")
		length := writeRankings(t, file, n)
		size, log := grown(t, owner)
		imported := measured(t, "data", "import", "votes", "--kind", "rankings", "--freeze", file)
		after, logAfter := grown(t, owner)
		shown := measured(t, "data", "show", "votes")
		exported := measured(t, "data", "export", "votes", "--to", file+".out")
		t.Logf("%9d %6.1f MB  %s %s %s %6.1f MB %6.1f MB", n, mb(length), imported, shown, exported, mb(after-size),
			mb(logAfter-log))
		if st, err := os.Stat(file + ".out"); err != nil || st.Size() < length/2 {
			t.Errorf("%d rankings of %d bytes are exported as %v, %v", n, length, st, err)
		}
		for what, m := range map[string]taken{"import": imported, "show": shown, "export": exported} {
			if m.resident > mostResident {
				t.Errorf("%s of %d rankings had %.0f MB resident, may have %.0f", what, n, mb(m.resident),
					mb(mostResident))
			}
		}
		if !strings.Contains(strings.ReplaceAll(shown.out, ",", ""), strconv.Itoa(n)) {
			t.Errorf("show says %s", shown.out)
		}
		owner.Close(t.Context())
		os.Remove(file)
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// writeRankings writes n rankings of four short responses each, about 740 bytes a line.
func writeRankings(t *testing.T, path string, n int) int64 {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the baker makes bread and sells it to a smith who lives near the river where fish are " +
		"caught by people from town every day of the year")
	text := func(k int) string {
		var b strings.Builder
		for range k {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		return b.String() + strconv.Itoa(r.IntN(1e9))
	}
	for i := range n {
		fmt.Fprintf(w,
			`{"prompt": "%s", "responses": ["%s", "%s", "%s", "%s"], "ranks": [%d, 2, 3, 4], "labeller": "w%d", "group": "g%d"}`+"\n",
			text(12), text(28), text(28), text(28), text(28), 1+r.IntN(2), i%40, i/10)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// grown are the bytes of the database, and where its write-ahead log is.
func grown(t *testing.T, owner *pgx.Conn) (size, log int64) {
	t.Helper()
	if err := owner.QueryRow(t.Context(),
		`select pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`).Scan(&size,
		&log); err != nil {
		t.Fatal(err)
	}
	return size, log
}

// taken is what a command took.
type taken struct {
	seconds  float64
	resident int64 // the most bytes at once
	out      string
}

func (c taken) String() string { return fmt.Sprintf("%10.2f s, %6.1f MB", c.seconds, mb(c.resident)) }

// measured runs this program in a process of its own.
func measured(t *testing.T, args ...string) (c taken) {
	t.Helper()
	cmd := process(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// else the peak begins with that of this process
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", cmd.Process.Pid), []byte("5"), 0)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		c.resident = max(c.resident, peakOf(cmd))
		select {
		case err := <-ended:
			c.seconds, c.out = time.Since(began).Seconds(), out.String()
			if err != nil {
				t.Fatalf("trimtab %v: %v\n%s", args, err, c.out)
			}
			return c
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// peakOf is the most bytes that a living process has had resident; 0 where the system does not say.
func peakOf(cmd *exec.Cmd) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kb int64
	_, _ = fmt.Sscan(rest, &kb)
	return kb << 10
}
