// Package storagetest gives each test a migrated database of its own, so that
// tests run in parallel and see no rows of each other. All are on one Postgres
// server for the test process:
//
//	template  trimtab_template, migrated once
//	test      trimtab_test_N, cloned from it, dropped with the test
//
// A package that uses New or URLs stops the server at its end with
//
//	func TestMain(m *testing.M) { devstacktest.Main(m) }
//
// URLsOn uses a server that is running already.
package storagetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/storage"
)

// Addresses are the addresses of one database, by role.
type Addresses struct {
	Owner   string // the owner, who migrates
	App     string // trimtab_app, as which the program runs
	Auditor string // trimtab_auditor, which only reads
}

// New returns a store on a fresh migrated database, as trimtab_app. With the
// test it is closed, and the database dropped.
func New(t testing.TB) *storage.Store {
	t.Helper()
	return Open(t, URLs(t).App)
}

// Open opens a store and closes it with the test.
func Open(t testing.TB, url string) *storage.Store {
	t.Helper()
	s, err := storage.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// URLs returns the addresses of a fresh migrated database, which is dropped
// with the test.
func URLs(t testing.TB) Addresses {
	t.Helper()
	owner := devstacktest.Postgres(t).PostgresURL
	if err := makeTemplate(owner); err != nil {
		t.Fatalf("make the template database: %v", err)
	}
	// A clone has the tables and their rights, but not the rights on the database,
	// which Migrate grants. The passwords are those of the template.
	return database(t, owner, " template "+template, "", "")
}

// URLsOn is URLs on another server, given the address of a superuser. It
// migrates each database anew, so that it leaves no template there, and sets
// the passwords of the server's trimtab_app and trimtab_auditor.
func URLsOn(t testing.TB, ownerURL string) Addresses {
	t.Helper()
	return database(t, ownerURL, "", appPassword, auditorPassword)
}

// PersonRole creates a database role for a person, a member of trimtab_app,
// and returns the address with which that person connects, and the role's
// name. It is dropped with the test.
func PersonRole(t testing.TB, a Addresses) (address, role string) {
	t.Helper()
	role, password := fmt.Sprintf("person_%s_%d", process, databases.Add(1)), rand.Text()
	if err := execute(t.Context(), a.Owner, "create role "+role+" login password '"+password+"' in role "+
		storage.AppRole); err != nil {
		t.Fatalf("make a role for a person: %v", err)
	}
	t.Cleanup(func() { _ = execute(context.Background(), a.Owner, "drop role "+role) })
	// The role logs in to the same database as the program.
	u, err := url.Parse(a.App)
	if err != nil {
		t.Fatal(err)
	}
	return withDatabase(a.App, url.UserPassword(role, password), strings.TrimPrefix(u.Path, "/")), role
}

// database creates a database, from a template or empty, and migrates it.
func database(t testing.TB, ownerURL, from, appPass, auditorPass string) Addresses {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	name := fmt.Sprintf("trimtab_test_%s_%d", process, databases.Add(1))
	if err := execute(ctx, ownerURL, "create database "+name+from); err != nil {
		t.Fatalf("make a database for the test: %v", err)
	}
	t.Cleanup(func() {
		// The test may have stopped the server, so errors do not matter.
		_ = execute(context.Background(), ownerURL, "drop database if exists "+name+" with (force)")
	})
	// A clone of the template needs only its rights; an empty database
	// everything.
	fresh := withDatabase(ownerURL, nil, name)
	if err := storage.Migrate(ctx, fresh, appPass, auditorPass); err != nil {
		t.Fatal(err)
	}
	return Addresses{Owner: fresh, App: withDatabase(fresh, url.UserPassword(storage.AppRole, appPassword), name),
		Auditor: withDatabase(fresh, url.UserPassword(storage.AuditorRole, auditorPassword), name)}
}

// Processes may share a server, so names have a random part; each process sets
// the roles' passwords for itself.
var (
	// process is in the names of databases and roles of this process.
	process = strings.ToLower(rand.Text()[:8])
	// databases counts them.
	databases       atomic.Int64
	appPassword     = rand.Text()
	auditorPassword = rand.Text()
)

// template is the database that is migrated once and cloned for each test.
const template = "trimtab_template"

// templates says whether the server of this process has its template.
var templates struct {
	sync.Mutex
	template bool
}

// makeTemplate creates the template on its first call; concurrent calls wait
// for it. A call that failed leaves no template, and the next one tries
// again.
func makeTemplate(ownerURL string) error {
	templates.Lock()
	defer templates.Unlock()
	if templates.template {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := execute(ctx, ownerURL, "create database "+template); err != nil {
		return err
	}
	err := storage.Migrate(ctx, withDatabase(ownerURL, nil, template), appPassword, auditorPassword)
	templates.template = err == nil
	return err
}

// Timing is how long a part of one step took; the part "step" is all of it.
type Timing struct {
	Step    int
	Name    string
	Seconds float64
}

// Timings returns the timings of an attempt, by its id, in order of step and
// name. Only tests read them through Go; people read the table.
func Timings(t testing.TB, url string, attempt int64) []Timing {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(),
		`select step, name, seconds from timing where attempt = $1 order by step, name collate "C"`, attempt)
	if err != nil {
		t.Fatal(err)
	}
	timings, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Timing])
	if err != nil {
		t.Fatal(err)
	}
	return timings
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// withDatabase is an address with another database and, if it is not nil,
// another user.
func withDatabase(rawURL string, user *url.Userinfo, database string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL
	}
	if user != nil {
		u.User = user
	}
	u.Path = "/" + database
	return u.String()
}
