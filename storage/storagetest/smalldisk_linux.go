package storagetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/devstack/devstacktest"
)

// Disk is a small file system in memory, for the tables of a test. It shows
// how the program behaves when the disk of Postgres is full.
type Disk struct {
	Dir        string
	tablespace string
}

// SmallDisk mounts a file system of mb megabytes on which the test server can
// store tables. The test is skipped where it may not mount one. Call it
// before creating the database that moves there, so that the disk is removed
// after the database is dropped.
func SmallDisk(t testing.TB, mb int) Disk {
	t.Helper()
	owner := devstacktest.Postgres(t).PostgresURL
	var data string
	if err := query(t.Context(), owner, "show data_directory", &data); err != nil {
		t.Fatal(err)
	}
	// Postgres may run as another user, to whom the disk must belong.
	var of syscall.Stat_t
	if err := syscall.Stat(data, &of); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "trimtab-small-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	// A tmpfs of a fixed size returns ENOSPC as a full disk does.
	err = syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700,uid=%d,gid=%d", mb, of.Uid, of.Gid))
	// Containers usually may not mount.
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a file system cannot be mounted here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	d := Disk{dir, fmt.Sprintf("small_%s_%d", process, databases.Add(1))}
	if err := execute(t.Context(), owner, "create tablespace "+d.tablespace+" location '"+dir+"'"); err != nil {
		t.Fatalf("make a tablespace on %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := execute(context.Background(), owner, "drop tablespace "+d.tablespace); err != nil {
			t.Error(err)
		}
	})
	return d
}

// MoveTables moves all tables of a database, and their indexes, to the disk.
func (d Disk) MoveTables(t testing.TB, a Addresses) {
	t.Helper()
	// Postgres moves tables and their indexes by separate statements.
	for _, what := range []string{"table", "index"} {
		if err := execute(t.Context(), a.Owner, "alter "+what+" all in tablespace pg_default set tablespace "+
			d.tablespace); err != nil {
			t.Fatalf("move each %s to %s: %v", what, d.Dir, err)
		}
	}
}

// Fill writes a file until no space is left on the disk. free removes it,
// after which writes succeed again.
func (d Disk) Fill(t testing.TB) (free func()) {
	t.Helper()
	name := filepath.Join(d.Dir, "filler")
	f, err := os.Create(name)
	for err == nil {
		_, err = f.Write(make([]byte, 1<<12))
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// query reads one value on a connection of its own.
func query(ctx context.Context, url, sql string, value any) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, sql).Scan(value)
}
