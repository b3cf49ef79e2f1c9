package notary_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/storage/storagetest"
)

var (
	appended = flag.Int("appended", 2000, "events that TestWritersNeverFork appends over eight streams")
	verified = flag.Int("verified", 20000, "events that TestVerifyManyEvents verifies")
	durable  = flag.Bool("durable", false,
		"measure TestWritersNeverFork and BenchmarkKeep with a Postgres that waits for the disk")
)

// Eight writers over eight streams, and each of them also into one that all
// share: no chain forks, while a notary adds to the tree beside them.
func TestWritersNeverFork(t *testing.T) {
	r := recordOn(t, server(t))
	const writers = 8
	per := *appended / writers
	started := time.Now()
	var wg sync.WaitGroup
	done := make(chan struct{})
	go func() {
		defer close(done)
		for w := range writers {
			wg.Go(func() {
				for n := range per {
					stream := fmt.Sprintf("stream-%d", w)
					if n%10 == 0 {
						stream = "shared"
					}
					if err := r.store.RecordEvent(t.Context(), stream, "ann", "noted",
						map[string]any{"n": n, "w": w}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}()
	for sealing := true; sealing; {
		select {
		case <-done:
			sealing = false
		case <-time.After(50 * time.Millisecond):
			r.keep()
		}
	}
	seconds := time.Since(started).Seconds()
	r.keep()
	rep := r.verify(true)
	if len(rep.Problems) > 0 || rep.Events != int64(per*writers)+1 || rep.Leaves != rep.Events {
		t.Fatalf("%+v", rep)
	}
	var forks int
	must(t,
		r.owner.QueryRow(t.Context(),
			"select count(*) - count(distinct (stream, sequence)) + (select count(*) from (select from event where "+
				"sequence = 1 group by stream having count(*) > 1) f) from event").Scan(&forks))
	if forks != 0 {
		t.Errorf("%d forks", forks)
	}
	t.Logf("%d events by %d writers in %.1f s: %.0f a second, %d signed heads meanwhile", rep.Events, writers, seconds,
		float64(rep.Events)/seconds, rep.Heads/2)
}

// server is a database of the tests' server, or with -durable of one that waits for the disk.
func server(t testing.TB) storagetest.Addresses {
	t.Helper()
	if !*durable {
		return storagetest.URLs(t)
	}
	dir, err := os.MkdirTemp("", "trimtab-many-")
	must(t, errors.Join(err, os.Chmod(dir, 0o711))) // Postgres may run as another user
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	p, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{Dir: filepath.Join(dir, "postgres"),
		DieWithParent: true})
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	return storagetest.URLsOn(t, p.URL)
}

// A head, with one new event: what a stage waits for at its end.
func BenchmarkKeep(b *testing.B) {
	r := recordOn(b, server(b))
	r.fill()
	for b.Loop() {
		b.StopTimer()
		must(b, r.store.RecordEvent(b.Context(), "audit", "ann", trimtab.EventAuditVerified, nil))
		b.StartTimer()
		r.keep()
	}
}

// Verification goes through many events in little memory.
func TestVerifyManyEvents(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.exec("set synchronous_commit = off")
	const streams = 200
	r.exec(fmt.Sprintf(`do $$ declare previous bytea; digest bytea; begin
		for s in 1 .. %d loop
			previous := decode(repeat('00', 32), 'hex');
			for n in 1 .. %d loop
				digest := event_hash(previous, 'many-' || s, n, '2026-11-28', 'worker', 'steps_noted', 'ppo', 1,
					convert_to('{"checkpoint":{"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","step":' || n || '},"from":0}', 'UTF8'), '');
				insert into event (stream, sequence, at, actor, type, stage, attempt, body, facts,
					hash) values ('many-' || s, n, '2026-11-28', 'worker', 'steps_noted', 'ppo', 1,
					convert_to('{"checkpoint":{"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","step":' || n || '},"from":0}', 'UTF8'), '', digest);
				previous := digest;
			end loop;
			insert into event_stream (stream, head, hash) values ('many-' || s, %[2]d, previous);
		end loop;
	end $$`, streams, *verified/streams))
	started := time.Now()
	r.keep()
	sealed := time.Since(started).Seconds()
	r.exec("analyze")
	r.exec("vacuum")
	runtime.GC()
	before := resident(t)
	started = time.Now()
	rep := r.verify(true)
	seconds := time.Since(started).Seconds()
	if len(rep.Problems) > 0 || rep.Events < int64(*verified) {
		t.Fatalf("%+v", rep)
	}
	t.Logf("%d events: added to the tree in %.1f s (%.0f a second), verified in %.1f s (%.0f a second); resident %d "+
		"MB before, at most %d MB", rep.Events,
		sealed, float64(rep.Events)/sealed, seconds, float64(rep.Events)/seconds, before>>20, peak(t)>>20)
	r.unlock()
	r.exec("update event set actor = 'eve' where stream = 'many-150' and sequence = 7")
	if rep := r.verify(true); len(rep.Problems) != 1 ||
		!strings.HasPrefix(rep.Problems[0].Where, "event 7 of many-150") {
		t.Errorf("%+v", rep.Problems)
	}
}

func memoryLine(t *testing.T, name string) (bytes int64) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0 // not on this system
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, name) {
			_, _ = fmt.Sscan(strings.TrimPrefix(line, name), &bytes)
		}
	}
	return bytes << 10
}

func resident(t *testing.T) int64 { t.Helper(); return memoryLine(t, "VmRSS:") }
func peak(t *testing.T) int64     { t.Helper(); return memoryLine(t, "VmHWM:") }
