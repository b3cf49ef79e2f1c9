package notary_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/storage"
)

// A head goes into the database, the file, a folder and to an address; a copy
// that fails stops nothing and is made up for by the next head.
func TestCopies(t *testing.T) {
	r := newRecord(t)
	r.fill()
	var mu sync.Mutex
	var posted []string
	answer := http.StatusInternalServerError
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		defer mu.Unlock()
		if answer == http.StatusOK {
			posted = append(posted, string(body))
		}
		w.WriteHeader(answer)
	}))
	defer server.Close()
	outside := t.TempDir()
	var said bytes.Buffer
	n := notary.New(slog.New(slog.NewTextHandler(&said, nil)), r.store, "ann", r.key, notary.HeadsIn(r.folder), outside,
		filepath.Join(outside, "absent"), server.URL)
	must(t, n.SignHead(t.Context(), time.Now()))
	for _, want := range []string{"absent", "500 Internal Server Error"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log does not tell of %q: %s", want, said.String())
		}
	}
	mu.Lock()
	answer = http.StatusOK
	mu.Unlock()
	must(t, n.SignHead(t.Context(), time.Now())) // nothing is new
	must(t, r.store.RecordEvent(t.Context(), "audit", "ann", trimtab.EventAuditVerified, nil))
	must(t, n.SignHead(t.Context(), time.Now()))
	query, err := r.owner.Query(t.Context(), "select note from tree_head order by size")
	must(t, err)
	rows, err := pgx.CollectRows(query, pgx.RowTo[string])
	must(t, err)
	kept, _, err := notary.ReadHeads(notary.HeadsIn(r.folder))
	must(t, err)
	copied, _, err := notary.ReadHeads(notary.HeadsIn(outside))
	must(t, err)
	if len(rows) != 2 || len(kept) != 2 || len(copied) != 2 || len(posted) != 1 || rows[1] != kept[1] ||
		kept[1] != copied[1] || copied[1] != posted[0] {
		t.Errorf("%d in the database, %d in the file, %d copied, %d posted", len(rows), len(kept), len(copied),
			len(posted))
	}
	h, err := audit.OpenHead(posted[0], r.signer.Verifier())
	if now, err2 := r.store.Head(t.Context()); err != nil || err2 != nil || h.Size != now.Size || h.Root != now.Root {
		t.Errorf("%+v, %v; %+v, %v", h, err, now, err2)
	}
}

// A crash may tear the last line of the file; the next head begins a line of its own.
func TestTornHeads(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	path := notary.HeadsIn(r.folder)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"note":"trimtab-`)
	must(t, err)
	must(t, f.Close())
	must(t, r.store.RecordEvent(t.Context(), "audit", "ann", trimtab.EventAuditVerified, nil))
	r.keep()
	notes, torn, err := notary.ReadHeads(path)
	if err != nil || len(notes) != 2 || torn != 1 {
		t.Errorf("%d heads, %d torn, %v", len(notes), torn, err)
	}
}

// Several notaries at once make one tree.
func TestNotariesTogether(t *testing.T) {
	r := newRecord(t)
	r.fill()
	var wg sync.WaitGroup
	for range 4 {
		n := notary.New(quiet, open(t, r.urls.App), "ann", r.key, notary.HeadsIn(r.folder))
		wg.Go(func() {
			for range 10 {
				err := r.store.RecordEvent(t.Context(), "audit", "ann", trimtab.EventAuditVerified, nil)
				if err != nil {
					t.Error(err)
				}
				if err := n.SignHead(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.keep()
	if rep := r.verify(true); len(rep.Problems) > 0 || rep.Leaves != rep.Events {
		t.Errorf("%+v", rep)
	}
}

// Keys that come at once are one; a broken one is refused.
func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.key")
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			s, err := notary.OpenKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = s.Verifier()
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k == "" || k != keys[0] {
			t.Errorf("keys %q", keys)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	must(t, os.WriteFile(path, []byte("x\ny\n"), 0o600))
	if _, err := notary.OpenKey(path); trimtab.AsError(err).Type != "audit_key" {
		t.Error(err)
	}
}

// The auditor's role verifies and changes nothing; the app's adds and changes nothing.
func TestRoles(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	rep, err := notary.Verifier{Store: open(t, r.urls.Auditor), Keys: []string{r.signer.Verifier()}}.Verify(t.Context())
	if err != nil || len(rep.Problems) > 0 || rep.Events == 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	for role, url := range map[string]string{"app": r.urls.App, "auditor": r.urls.Auditor} {
		conn, err := pgx.Connect(t.Context(), url)
		must(t, err)
		defer conn.Close(t.Context())
		for _, sql := range []string{
			"update event set actor = 'eve'", "delete from event", "truncate event",
			"insert into event select * from event", "update event_stream set head = 1",
			"insert into log_leaf values (9, 'x', 1)", "delete from log_leaf", "update log_hash set hash = ''",
			"delete from tree_head", "update tree_head set note = ''",
			"update text_item set body = ''", "delete from erasure",
			"insert into erasure values ('prompt', 'sha256:', 1, 'x', '', '')", "alter table event disable trigger all",
		} {
			if _, err := conn.Exec(t.Context(), sql); err == nil {
				t.Errorf("%s may: %s", role, sql)
			}
		}
	}
	for _, sql := range []string{"update event set actor = 'eve'", "delete from event", "truncate event cascade",
		"set session_replication_role = replica; delete from tree_head"} {
		if _, err := r.owner.PgConn().Exec(t.Context(), sql).ReadAll(); err == nil ||
			!strings.Contains(err.Error(), "only ever added to") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// Proofs of a model hold, and lead down to frozen data and imported models.
func TestProveModel(t *testing.T) {
	r := newRecord(t)
	r.fill()
	if _, err := notary.ProveModel(t.Context(), r.store,
		digest("model of sft")); trimtab.AsError(err).Type != "no_tree_head" {
		t.Errorf("before a head was signed: %v", err)
	}
	r.keep()
	p, err := notary.ProveModel(t.Context(), r.store, digest("base"))
	must(t, err)
	if _, origins, err := p.Check(string(digest("base")), r.signer.Verifier()); err != nil || len(origins) != 1 ||
		origins[0].What != "imported" {
		t.Errorf("%+v, %v", origins, err)
	}
	p, err = notary.ProveModel(t.Context(), r.store, digest("model of sft"))
	must(t, err)
	_, _, err = p.Check(string(digest("model of sft")), r.signer.Verifier())
	if err == nil || !strings.Contains(err.Error(), "no proof shows where "+string(digest("prompts"))) {
		t.Errorf("its input was never frozen, but: %v", err)
	}
	if _, err := notary.ProveModel(t.Context(), r.store,
		digest("nothing")); trimtab.AsError(err).Type != "model_not_found" {
		t.Errorf("an unknown model: %v", err)
	}
	must(t, r.store.RecordEvent(t.Context(), "audit", "ann", trimtab.EventAuditVerified, nil))
	if _, err := notary.Prove(t.Context(), r.store,
		storage.EventRef{Stream: "audit", Sequence: 2}); trimtab.AsError(err).Type != "event_not_sealed" {
		t.Errorf("an event after the head: %v", err)
	}
	if _, err := notary.Prove(t.Context(), r.store,
		storage.EventRef{Stream: "run-one", Sequence: 999}); trimtab.AsError(err).Class != trimtab.NotFound {
		t.Errorf("no event: %v", err)
	}
}

func TestMembership(t *testing.T) {
	r := newRecord(t)
	r.fill()
	v, err := r.store.ResolveDataset(t.Context(), "prompts")
	must(t, err)
	leaves, err := r.store.Leaves(t.Context(), v.Digest)
	must(t, err)
	names := make([]string, len(leaves))
	for i, d := range leaves {
		names[i] = string(d)
	}
	for _, item := range names {
		m, err := audit.ProveMembership(string(v.Digest), item, names)
		must(t, err)
		must(t, m.Check())
		m.Index++
		if m.Check() == nil {
			t.Error("it holds at another place")
		}
	}
	if _, err := audit.ProveMembership(string(v.Digest), string(digest("no item")), names); err == nil {
		t.Error("what is no item is one")
	}
}

// An exported record is verified without the database, and no changed byte of its events passes.
func TestExport(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	folder := filepath.Join(t.TempDir(), "export")
	n, err := notary.Export(t.Context(), r.store, folder)
	must(t, err)
	rep, err := notary.VerifyExport(folder, []string{r.signer.Verifier()}, nil)
	if err != nil || len(rep.Problems) > 0 || rep.Events != n || rep.Heads != 1 || n < 30 {
		t.Fatalf("%+v, %v", rep, err)
	}
	path := filepath.Join(folder, "events.jsonl")
	raw, err := os.ReadFile(path)
	must(t, err)
	tried := 0
	for i := 0; i < len(raw); i += 37 {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		must(t, os.WriteFile(path, changed, 0o644))
		if rep, err := notary.VerifyExport(folder, []string{r.signer.Verifier()}, nil); err == nil &&
			len(rep.Problems) == 0 {
			t.Errorf("byte %d changed: nothing is found in %s", i, changed[max(0, i-40):min(len(changed), i+40)])
		}
		tried++
	}
	lines := bytes.SplitAfter(raw, []byte("\n"))
	must(t, os.WriteFile(path, bytes.Join(lines[:len(lines)-2], nil), 0o644))
	if rep, err := notary.VerifyExport(folder, []string{r.signer.Verifier()}, nil); err != nil ||
		len(rep.Problems) != 1 {
		t.Errorf("without the last event: %+v, %v", rep.Problems, err)
	}
	t.Logf("%d changed bytes of %d found", tried, len(raw))
}

// A disk that cannot be written to when a worker starts is no reason not to work: heads are signed once it can be.
func TestKeyComesLater(t *testing.T) {
	r := newRecord(t)
	r.fill()
	later := filepath.Join(r.folder, "later")
	n := notary.New(quiet, r.store, "ann", filepath.Join(later, "audit.key"), notary.HeadsIn(later))
	if err := n.Open(t.Context()); err == nil {
		t.Fatal("a key was made in a folder that is not there")
	}
	if err := n.SignHead(t.Context(), time.Now()); err == nil {
		t.Fatal("a head was kept in a folder that is not there")
	}
	must(t, os.Mkdir(later, 0o700))
	must(t, n.SignHead(t.Context(), time.Now()))
	signer, err := notary.OpenKey(filepath.Join(later, "audit.key"))
	must(t, err)
	notes, _, err := notary.ReadHeads(notary.HeadsIn(later))
	if err != nil || len(notes) != 1 {
		t.Fatalf("%d heads, %v", len(notes), err)
	}
	if _, err := audit.OpenHead(notes[0], signer.Verifier()); err != nil {
		t.Error(err)
	}
	recorded, err := r.store.HasEvent(t.Context(), notary.Stream, trimtab.EventKeyUsed, signer.Verifier())
	if err != nil || !recorded {
		t.Errorf("the key was not told of: %v", err)
	}
}
