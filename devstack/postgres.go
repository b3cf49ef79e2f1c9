package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

const owner = "trimtab" // the superuser of a private cluster

// PostgresOptions say where a private cluster lives and how to run it.
type PostgresOptions struct {
	Dir           string     // its folder; made if absent
	Bin           string     // folder of initdb and postgres; empty: find them
	Downloads     *Downloads // whether to fetch them where none are installed; nil: no
	Fast          bool       // forget durability: for tests alone
	DieWithParent bool       // end with this process (Linux): for tests alone
	Log           io.Writer  // notices to people; may be nil
}

// Postgres is a running private cluster.
type Postgres struct {
	URL     string // of Database, as the owner, over TCP with a password
	Pid     int    // of the postmaster
	Adopted bool   // it was running already

	proc   *process
	socket string
}

// StartPostgres starts the cluster in o.Dir, making it first if there is none,
// or adopts it if it runs. Its port and its socket's folder stay the same from
// one start to the next. A data folder of another major version is refused.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	c, err := openCluster(o)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(c.dir, "postgres.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	IgnoreEnvironment()
	if err := readJSON(c.stateFile(), &c.clusterState); err != nil { // who held the lock may have written it
		return nil, err
	}
	if c.password, err = password(filepath.Join(c.dir, "postgres.password")); err != nil {
		return nil, err
	}
	if s, err := c.adopt(ctx); s != nil || err != nil {
		return s, err
	}
	return c.startNew(ctx)
}

func (c *cluster) startNew(ctx context.Context) (*Postgres, error) {
	bin, err := findOrFetch(ctx, c.data(), c.opts.Bin, c.opts.Downloads, c.cred, c.opts.Log)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		s, err := c.launch(ctx, bin)
		if s != nil || try == 50 || !errors.Is(err, errTransient) {
			return s, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// launch starts the server, and makes the cluster first if there is none. The
// error may be transient: another program may have taken the port.
func (c *cluster) launch(ctx context.Context, bin programs) (*Postgres, error) {
	kept, err := reservePorts(c.Port, 1)
	if err != nil {
		return nil, err
	}
	defer kept.release()
	if c.Port != 0 && c.Port != kept.first {
		logf(c.opts.Log, "Postgres moves from port %d, which another program uses, to %d", c.Port, kept.first)
	}
	c.Port = kept.first
	if err := c.prepare(); err != nil {
		return nil, err
	}
	if err := c.initdb(ctx, bin); err != nil {
		return nil, err
	}
	if key := folderKey(c.data()); c.DataKey != key {
		c.DataKey, c.Draft = key, ""
		if err := c.save(); err != nil {
			return nil, err
		}
	}
	return c.run(ctx, bin)
}

// prepare settles socket folder and place, and writes them down with the port.
func (c *cluster) prepare() error {
	if err := makeFolder(c.dataParent()); err != nil {
		return err
	}
	if err := errors.Join(c.makeSocketFolder(), c.claimDataParent()); err != nil {
		return err
	}
	return c.save()
}

func (c *cluster) save() error { return writeJSON(c.stateFile(), c.clusterState) }

// initdb makes the cluster in a folder beside its own and renames it into
// place, so that a data folder is always a whole one.
func (c *cluster) initdb(ctx context.Context, bin programs) error {
	if _, err := os.Stat(c.data()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	draft, err := c.newDraft()
	if err != nil {
		return err
	}
	pwfile, err := c.passwordFile()
	if err != nil {
		return err
	}
	defer os.Remove(pwfile)
	args := []string{"-D", draft, "-U", owner, "--pwfile=" + pwfile, "--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C"}
	if c.opts.Fast {
		args = append(args, "--no-sync")
	}
	cmd := c.command(bin, "initdb", args...)
	cmd.Dir = draft
	if out, err := runContext(ctx, cmd); err != nil {
		return fmt.Errorf("make a database with Postgres %v: %w\n%s", bin, err, strings.TrimSpace(string(out)))
	}
	return os.Rename(draft, c.data())
}

// newDraft makes the folder of a cluster that is never opened by a server. Its
// name is written down first: one that a killed start left is known by it, and removed.
func (c *cluster) newDraft() (string, error) {
	if draftName.MatchString(c.Draft) && !c.isCopy() {
		if err := os.RemoveAll(filepath.Join(c.dataParent(), c.Draft)); err != nil {
			return "", err
		}
	}
	c.Draft = "data.unfinished-" + rand.Text()
	draft := filepath.Join(c.dataParent(), c.Draft)
	return draft, errors.Join(c.save(), os.Mkdir(draft, 0o700), c.chown(draft))
}

var draftName = regexp.MustCompile(`^data\.unfinished-[A-Z2-7]+$`)

// passwordFile makes a file with the password that initdb, as another user, can
// open: in that user's folder, where it must be a new one.
func (c *cluster) passwordFile() (string, error) {
	f, err := os.CreateTemp(c.Socket, "initdb-password-") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(c.password)
	if c.cred != nil {
		err = errors.Join(err, f.Chown(int(c.cred.Uid), int(c.cred.Gid)))
	}
	return f.Name(), errors.Join(err, f.Close())
}

// runContext is CombinedOutput that ends with ctx.
func runContext(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd, false)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // its whole group
		<-p.done
		return []byte(out.String()), ctx.Err()
	}
	return []byte(out.String()), p.err
}

// runGo is a program of Postgres, run as its user.
func (c *cluster) command(bin programs, name string, args ...string) *exec.Cmd {
	cmd := bin.command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
	return cmd
}

// settings of the server; what is not here is Postgres's default, which is
// durable. The write-ahead log is kept small beside small data: 256 MB between
// two checkpoints and not 1 GB, and pages written whole are compressed (by
// pglz, which every build of Postgres has).
func (c *cluster) settings() []string {
	s := []string{"listen_addresses=127.0.0.1", "unix_socket_directories=" + c.Socket, "max_connections=300",
		"timezone=UTC", "log_timezone=UTC", "log_min_messages=warning", "log_min_error_statement=panic",
		"max_wal_size=256MB", "min_wal_size=64MB", "wal_compression=on", "checkpoint_warning=0"}
	if c.opts.Fast {
		s = append(s, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum_naptime=1h")
	}
	return s
}

// errTransient is a start that may succeed when it is tried again.
var errTransient = errors.New("not now")

// run starts the postmaster and waits until it answers.
func (c *cluster) run(ctx context.Context, bin programs) (*Postgres, error) {
	log, err := openLog(c.log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	from := fileSize(log)
	args := []string{"-D", c.data(), "-p", strconv.Itoa(c.Port)}
	for _, s := range c.settings() {
		args = append(args, "-c", s)
	}
	cmd := c.command(bin, "postgres", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.data(), log, log
	p, err := startProcess(cmd, c.opts.DieWithParent)
	if err != nil {
		return nil, fmt.Errorf("start Postgres %v: %w", bin, err)
	}
	s := c.handle(p)
	if err := c.waitReady(ctx, p); err != nil {
		_ = s.Stop()
		return nil, c.startError(err, tail(c.log(), from))
	}
	return s, nil
}

// startError adds what the server said, and tells what another try may cure: a
// killed postmaster that is not reaped yet, its processes that are still
// ending, and a taken port. A disk without room is told as what it is.
func (c *cluster) startError(err error, said string) error {
	for _, sign := range []string{"already exists", "shared memory block", "Address already in use"} {
		if strings.Contains(said, sign) {
			err = fmt.Errorf("%w: %w", errTransient, err)
			break
		}
	}
	typ, remedy := "postgres_start", "see "+c.log()
	if strings.Contains(said, "No space left on device") || strings.Contains(said, "Disk quota exceeded") {
		typ, remedy = "disk_full", "free some space, or files, on the disk of "+c.data()
	}
	return trimtab.NewError(trimtab.Unavailable, typ, remedy, "start Postgres in %s: %w\n%s\n", c.data(), err, said)
}

func (c *cluster) handle(p *process) *Postgres {
	return &Postgres{URL: c.url(Database), Pid: p.pid, Adopted: p.adopted, proc: p, socket: c.Socket}
}

func (c *cluster) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(owner, c.password), Host: "127.0.0.1:" +
		strconv.Itoa(c.Port),
		Path: "/" + database, RawQuery: noClientFiles.Encode()}
	return u.String()
}

// noClientFiles keeps clients from reading the user's certificates in ~/.postgresql,
// which they do, and fail if they cannot, even where nothing is encrypted.
var noClientFiles = url.Values{"sslmode": {"disable"}, "sslrootcert": {""}, "sslcert": {""}, "sslkey": {""}}

// waitReady waits until the server answers and holds Database. Recovery after a
// crash may take its time; it is announced after some seconds.
func (c *cluster) waitReady(ctx context.Context, p *process) error {
	notice := time.After(5 * time.Second)
	for {
		err := c.createDatabase(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended():
			return fmt.Errorf("it ended at once (%v)", p.err)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w (%v)", ctx.Err(), err)
		case <-notice:
			logf(c.opts.Log, "Postgres is not ready yet, perhaps recovering from a crash: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *cluster) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.url("postgres"))
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "28P01" { // the file of the password was lost
		return errors.Join(err, c.resetPassword(ctx))
	}
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := c.checkServer(ctx, conn); err != nil {
		return err
	}
	var have bool
	err = conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, Database).Scan(&have)
	if have || err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `create database `+Database)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42P04" { // exists by now
		return nil
	}
	return err
}

// checkServer makes sure that the server which answers works on this data: one
// on a copy of the folder has the same password, and may have been faster to take the port.
func (c *cluster) checkServer(ctx context.Context, conn *pgx.Conn) error {
	var where string
	if err := conn.QueryRow(ctx, `select pg_catalog.current_setting('data_directory')`).Scan(&where); err != nil {
		return err
	}
	is, err := os.Stat(where)
	if errors.Is(err, fs.ErrNotExist) { // it was moved since
		return nil
	}
	if own, here := os.Stat(c.data()); err == nil && here == nil && os.SameFile(is, own) {
		return nil
	}
	return fmt.Errorf("the server on port %d works on %s", c.Port, where)
}

// resetPassword gives the owner the password that is in the file now. Whoever
// may enter the socket's folder, which is Postgres's user and root, needs none.
func (c *cluster) resetPassword(ctx context.Context) error {
	conn, err := pgx.Connect(ctx,
		fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=disable sslrootcert='' sslcert='' sslkey=''",
			c.Socket, c.Port, owner))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `alter role `+owner+` password '`+c.password+`'`) // hexadecimal digits, or a parse error
	return err
}

// adopt takes over the postmaster that runs on the data folder, if one does.
// A lock file that nobody is behind any more is Postgres's own to remove,
// unless it would take a dead process for a live one.
func (c *cluster) adopt(ctx context.Context) (*Postgres, error) {
	pid, port := c.readLockFile()
	if pid == 0 {
		return nil, nil
	}
	if c.lockIsCopied() {
		return nil,
			c.dropLockFile("the database was copied while process %d worked on the original: its lock is removed "+
				"from the copy", pid)
	}
	c.awaitReaper(pid)
	born, alive := startID(pid)
	if !alive || !isPostgres(pid) || !c.inUse() { // gone, or the id belongs to a stranger now
		return nil, c.removeStaleLock(pid)
	}
	c.Port = port
	p := adopt(pid, born)
	if p == nil {
		return nil, nil
	}
	wait, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := c.waitReady(wait, p); err != nil {
		if !p.alive() { // it was dying
			c.awaitReaper(pid)
			return nil, c.removeStaleLock(pid)
		}
		return nil, trimtab.NewError(trimtab.Unavailable, "postgres_adopt",
			fmt.Sprintf("see %s; to end it: kill -INT %d", c.log(), pid),
			"adopt the Postgres that runs on %s as process %d: %w", c.data(), pid, err)
	}
	return c.handle(p), nil
}

// readLockFile reads process and port from postmaster.pid, whose lines are
// pid, data folder, start time, port, ….
func (c *cluster) readLockFile() (pid, port int) {
	lines := c.lockLines()
	if len(lines) < 4 {
		return 0, 0
	}
	pid, _ = strconv.Atoi(lines[0])
	port, _ = strconv.Atoi(lines[3])
	return max(pid, 0), port
}

func (c *cluster) lockLines() []string {
	b, _ := plainfile.Read(filepath.Join(c.data(), "postmaster.pid"))
	return strings.Split(string(b), "\n")
}

// lockIsCopied tells that the lock file is that of a server on the original: it names
// another data folder than this one, in which nobody was started since it was copied.
func (c *cluster) lockIsCopied() bool {
	lines := c.lockLines()
	if len(lines) < 2 {
		return false
	}
	where, err := os.Stat(lines[1])
	here, err2 := os.Stat(c.data())
	if err == nil && err2 == nil && os.SameFile(where, here) {
		return false
	}
	return c.isCopy() || c.DataKey == "" && err == nil // of before, and the other one is still there
}

// awaitReaper gives the parent of a dead postmaster up to three seconds to
// reap it: until then Postgres takes it for alive.
func (c *cluster) awaitReaper(pid int) {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, alive := startID(pid); alive || syscall.Kill(pid, 0) != nil {
			return
		}
	}
}

// removeStaleLock removes a lock file whose process id is that of a zombie or a
// stranger, which Postgres could not tell from its own; only if no process
// works in the data folder.
func (c *cluster) removeStaleLock(pid int) error {
	if syscall.Kill(pid, 0) != nil || c.inUse() {
		return nil
	}
	return c.dropLockFile("Postgres left a lock of process %d, which is no server: removed", pid)
}

func (c *cluster) dropLockFile(why string, pid int) error {
	logf(c.opts.Log, why, pid)
	return remove(filepath.Join(c.data(), "postmaster.pid"))
}

// runningPostgres adopts the server of a folder if it runs, and starts none.
func runningPostgres(ctx context.Context, dir string) (*Postgres, error) {
	c, err := openCluster(PostgresOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	if c.password, err = password(filepath.Join(c.dir, "postgres.password")); err != nil {
		return nil, err
	}
	return c.adopt(ctx)
}

// Done is closed when the server has ended.
func (s *Postgres) Done() <-chan struct{} { return s.proc.ended() }

// Wait waits until the server has ended. The error says how, if this process started it.
func (s *Postgres) Wait() error {
	<-s.proc.ended()
	return s.proc.err
}

// Stop ends the server by a fast shutdown: open transactions are rolled back,
// nothing has to be recovered at the next start. The data stays.
func (s *Postgres) Stop() error {
	err := s.proc.stop(stopStep{syscall.SIGINT, 60 * time.Second}, stopStep{syscall.SIGQUIT, 10 * time.Second})
	if err != nil {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	_ = syscall.Rmdir(s.socket) // if empty; made anew at the next start
	return nil
}
