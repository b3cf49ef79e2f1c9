// Package storagetest gives each test a migrated database of its own, on one
// Postgres for the test process:
//
//	template  trimtab_template, migrated once
//	test      trimtab_test_N, cloned from it, dropped with the test
//
// A package that uses New or URLs stops the server at its end with
//
//	func TestMain(m *testing.M) { devstacktest.Main(m) }
//
// On uses a server that runs already.
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

// Addresses are the three ways into one database.
type Addresses struct {
	Owner   string // who migrates
	App     string // trimtab_app, who runs the program
	Auditor string // trimtab_auditor, who reads
}

// New returns a store on a fresh migrated database, as trimtab_app. It is closed and dropped with the test.
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

// URLs returns the addresses of a fresh migrated database, which is dropped with the test.
func URLs(t testing.TB) Addresses {
	t.Helper()
	owner := devstacktest.Postgres(t).PostgresURL
	if err := makeTemplate(owner); err != nil {
		t.Fatalf("make the template database: %v", err)
	}
	// a clone has the tables and their rights, but not the rights on the database
	return database(t, owner, " template "+template, "", "")
}

// URLsOn is URLs on another server, by the address of a superuser of it. It
// migrates each database anew, so that it leaves no template there, and gives
// the server's trimtab_app and trimtab_auditor the passwords of this process.
func URLsOn(t testing.TB, ownerURL string) Addresses {
	t.Helper()
	return database(t, ownerURL, "", appPassword, auditorPassword)
}

// PersonRole makes a database role for a person, a member of trimtab_app, and
// returns his way into the database and the role's name. It is dropped with the test.
func PersonRole(t testing.TB, a Addresses) (address, role string) {
	t.Helper()
	role, password := fmt.Sprintf("person_%s_%d", process, databases.Add(1)), rand.Text()
	if err := execute(t.Context(), a.Owner, "create role "+role+" login password '"+password+"' in role "+
		storage.AppRole); err != nil {
		t.Fatalf("make a role for a person: %v", err)
	}
	t.Cleanup(func() { _ = execute(context.Background(), a.Owner, "drop role "+role) })
	u, err := url.Parse(a.App)
	if err != nil {
		t.Fatal(err)
	}
	return withDatabase(a.App, url.UserPassword(role, password), strings.TrimPrefix(u.Path, "/")), role
}

// database makes a database from a template, or from nothing, and migrates it.
func database(t testing.TB, ownerURL, from, appPass, auditorPass string) Addresses {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	name := fmt.Sprintf("trimtab_test_%s_%d", process, databases.Add(1))
	if err := execute(ctx, ownerURL, "create database "+name+from); err != nil {
		t.Fatalf("make a database for the test: %v", err)
	}
	t.Cleanup(func() {
		// the server may have been stopped by the test
		_ = execute(context.Background(), ownerURL, "drop database if exists "+name+" with (force)")
	})
	fresh := withDatabase(ownerURL, nil, name)
	if err := storage.Migrate(ctx, fresh, appPass, auditorPass); err != nil {
		t.Fatal(err)
	}
	return Addresses{Owner: fresh, App: withDatabase(fresh, url.UserPassword(storage.AppRole, appPassword), name),
		Auditor: withDatabase(fresh, url.UserPassword(storage.AuditorRole, auditorPassword), name)}
}

// Tests of several processes may share a server, so names hold a random part.
var (
	process         = strings.ToLower(rand.Text()[:8])
	databases       atomic.Int64
	appPassword     = rand.Text()
	auditorPassword = rand.Text()
)

const template = "trimtab_template"

// templates tells whether the server of this process has its template.
var templates struct {
	sync.Mutex
	template bool
}

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

// withDatabase returns rawURL with another user, if there is one, and another database.
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
