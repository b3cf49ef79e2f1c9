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

// owner is the role that initdb creates: the superuser of the private cluster,
// and the owner of trimtab's database.
const owner = "trimtab"

// PostgresOptions configure a private cluster.
type PostgresOptions struct {
	// Dir is the folder of the cluster and of what belongs to it. It is created
	// if absent, but its parent must exist.
	Dir string
	// Bin is the folder that holds initdb and postgres; empty: findPrograms looks
	// for it.
	Bin string
	// Downloads configure fetching where no Postgres is installed; nil: nothing
	// is fetched.
	Downloads *Downloads
	// Fast turns fsync and other durability off. For tests only: a crash of the
	// machine may destroy the data.
	Fast bool
	// DieWithParent ends the server when this process ends (Linux). For tests
	// only.
	DieWithParent bool
	// Log receives lines for people; it may be nil.
	Log io.Writer
}

// Postgres is a running private cluster.
type Postgres struct {
	// URL connects to Database as the owner, over TCP with a password.
	URL string
	// Pid is the process id of the postmaster.
	Pid int
	// Adopted: the server was already running; this process did not start it.
	Adopted bool

	// proc is the postmaster.
	proc *process
	// socket is the folder of the Unix socket, removed by Stop.
	socket string
}

// StartPostgres starts the cluster in o.Dir, creating it first if there is none,
// or adopts it if it is already running. Port and socket folder stay the same
// from one start to the next unless another program has taken the port. Processes
// that call it at the same time get the same server. Errors: data_folder,
// copied_folder, postgres_user, postgres_owner, postgres_start, postgres_adopt,
// disk_full, no_ports, and those of findOrFetch.
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
	// The state is read again: the lock's last holder may have changed it.
	if err := readJSON(c.stateFile(), &c.clusterState); err != nil {
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

// startNew starts a server. It makes up to 50 more attempts, a tenth of a second
// apart, while the reason for a failure is transient.
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

// launch starts the server, and creates the cluster first if there is none. The
// error wraps errTransient if another program has taken the port since it was
// looked at.
func (c *cluster) launch(ctx context.Context, bin programs) (*Postgres, error) {
	reserved, err := reservePorts(c.Port, 1)
	if err != nil {
		return nil, err
	}
	defer reserved.release()
	if c.Port != 0 && c.Port != reserved.first {
		logf(c.opts.Log, "port %d is in use by another program: Postgres moves to port %d", c.Port, reserved.first)
	}
	c.Port = reserved.first
	if err := c.prepare(); err != nil {
		return nil, err
	}
	if err := c.initdb(ctx, bin); err != nil {
		return nil, err
	}
	// The key is saved before the server writes its lock file: from then on a copy of the folder can be recognised.
	if key := folderKey(c.data()); c.DataKey != key {
		c.DataKey, c.Draft = key, ""
		if err := c.save(); err != nil {
			return nil, err
		}
	}
	return c.run(ctx, bin)
}

// prepare creates the folder of the data and that of the socket, and saves them
// with the port before anything depends on them.
func (c *cluster) prepare() error {
	if err := makeFolder(c.dataParent()); err != nil {
		return err
	}
	if err := errors.Join(c.makeSocketFolder(), c.claimDataParent()); err != nil {
		return err
	}
	return c.save()
}

// save writes the state file.
func (c *cluster) save() error { return writeJSON(c.stateFile(), c.clusterState) }

// initdb creates the cluster in a draft folder and renames it into place, so that
// a data folder is always a complete one. It does nothing where there is a
// cluster.
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
	// Local connections need no password because the socket's folder is private; TCP, open to all users, asks for it.
	args := []string{"-D", draft, "-U", owner, "--pwfile=" + pwfile, "--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C"}
	if c.opts.Fast {
		args = append(args, "--no-sync")
	}
	cmd := c.command(bin, "initdb", args...)
	cmd.Dir = draft
	if out, err := runContext(ctx, cmd); err != nil {
		return fmt.Errorf("create a database cluster with Postgres %v: %w\n%s", bin, err,
			strings.TrimSpace(string(out)))
	}
	return os.Rename(draft, c.data())
}

// newDraft creates the folder in which initdb works. Its name is saved first: the
// draft of a start that was killed is recognised by that name, and removed.
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

// draftName matches the names that newDraft gives: nothing else is ever removed.
var draftName = regexp.MustCompile(`^data\.unfinished-[A-Z2-7]+$`)

// passwordFile writes the owner's password to a new file that initdb, possibly
// running as another user, can read. It is in the private socket folder, so
// nobody else could have put a file or link of that name there.
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

// runContext is cmd.CombinedOutput, but kills the command's whole process group
// when ctx ends.
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
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.done
		return []byte(out.String()), ctx.Err()
	}
	return []byte(out.String()), p.err
}

// command is a command that runs one of Postgres's programs as the user that owns
// the data.
func (c *cluster) command(bin programs, name string, args ...string) *exec.Cmd {
	cmd := bin.command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
	return cmd
}

// settings are the server's settings, passed on its command line; everything else
// is Postgres's default, which is durable. The write-ahead log is kept small,
// since the data is: 256 MB between two checkpoints instead of 1 GB, with
// compressed full-page images (by pglz, which every build of Postgres has).
func (c *cluster) settings() []string {
	s := []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=" + c.Socket,
		"max_connections=300",
		"timezone=UTC", "log_timezone=UTC",
		// Statements stay out of the log: they may hold a user's text.
		"log_min_messages=warning", "log_min_error_statement=panic",
		"max_wal_size=256MB", "min_wal_size=64MB", "wal_compression=on",
		// With a small write-ahead log, frequent checkpoints are expected: no warning about them.
		"checkpoint_warning=0",
	}
	if c.opts.Fast {
		s = append(s, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum_naptime=1h")
	}
	return s
}

// errTransient marks the error of a start that may succeed when it is repeated.
var errTransient = errors.New("a transient failure")

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

// startError adds what the server logged to err. It marks as transient what
// another start may cure: a killed postmaster that is not reaped yet, its child
// processes that are still ending, and a port in use. A full disk gets the type
// disk_full.
func (c *cluster) startError(err error, logged string) error {
	for _, sign := range []string{"already exists", "shared memory block", "Address already in use"} {
		if strings.Contains(logged, sign) {
			err = fmt.Errorf("%w: %w", errTransient, err)
			break
		}
	}
	typ, remedy := "postgres_start", "see "+c.log()
	if trimtab.SaysDiskFull(logged) {
		typ, remedy = "disk_full", "free space or inodes on the disk of "+c.data()
	}
	return trimtab.NewError(trimtab.Unavailable, typ, remedy, "start Postgres in %s: %w\n%s\n", c.data(), err, logged)
}

// handle is the exported view of the running server p.
func (c *cluster) handle(p *process) *Postgres {
	return &Postgres{URL: c.url(Database), Pid: p.pid, Adopted: p.adopted, proc: p, socket: c.Socket}
}

// url connects to a database of the cluster as the owner. It holds the password.
func (c *cluster) url(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(owner, c.password),
		Host:     "127.0.0.1:" + strconv.Itoa(c.Port),
		Path:     "/" + database,
		RawQuery: noClientFiles.Encode(),
	}
	return u.String()
}

// noClientFiles keeps clients from reading certificates in the user's
// ~/.postgresql: libpq and pgx do so, and fail if the files are unreadable, even
// on connections without encryption.
var noClientFiles = url.Values{"sslmode": {"disable"}, "sslrootcert": {""}, "sslcert": {""}, "sslkey": {""}}

// waitReady waits until the server answers and Database exists. Recovery after a
// crash may take a while; after five seconds it says so.
func (c *cluster) waitReady(ctx context.Context, p *process) error {
	notice := time.After(5 * time.Second)
	for {
		err := c.createDatabase(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended():
			return fmt.Errorf("it exited at once (%v)", p.err)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w (%v)", ctx.Err(), err)
		case <-notice:
			logf(c.opts.Log, "Postgres is not ready yet; it may be recovering from a crash: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// createDatabase connects to the server and creates Database if it is absent.
// SQLSTATE 28P01 means that the password file was lost or replaced; the password
// is then set to what the file holds, and the caller tries again.
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

// checkServer checks that the server which answers works on this data folder. One
// on a copy of the folder has the same password, and may have been faster to take
// the port.
func (c *cluster) checkServer(ctx context.Context, conn *pgx.Conn) error {
	var where string
	if err := conn.QueryRow(ctx, `select pg_catalog.current_setting('data_directory')`).Scan(&where); err != nil {
		return err
	}
	actual, err := os.Stat(where)
	if errors.Is(err, fs.ErrNotExist) { // the folder was moved since the server started
		return nil
	}
	if own, ownErr := os.Stat(c.data()); err == nil && ownErr == nil && os.SameFile(actual, own) {
		return nil
	}
	return fmt.Errorf("the server on port %d works on another data folder, %s", c.Port, where)
}

// resetPassword sets the owner's password to the one in the file. It connects
// through the Unix socket, where no password is asked for: only Postgres's user
// and root can enter its folder.
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

// adopt takes over the postmaster that runs on the data folder; nil without an
// error if none does. A stale lock file is normally Postgres's own to remove; it
// is removed here only where Postgres would mistake a dead process for a live
// one. Error: postgres_adopt.
func (c *cluster) adopt(ctx context.Context) (*Postgres, error) {
	pid, port := c.readLockFile()
	if pid == 0 {
		return nil, nil
	}
	if c.lockIsCopied() {
		return nil,
			c.dropLockFile("the database was copied while process %d had the original open: removing the lock "+
				"file from the copy", pid)
	}
	c.awaitReaper(pid)
	born, alive := startID(pid)
	if !alive || !isPostgres(pid) || !c.inUse() { // it ended, and its id may have been reused
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
			fmt.Sprintf("see %s; to stop it: kill -INT %d", c.log(), pid),
			"connect to the Postgres already running on %s as process %d: %w", c.data(), pid, err)
	}
	return c.handle(p), nil
}

// readLockFile reads process id and port from postmaster.pid, whose lines are
// pid, data folder, start time, port, and more; zeros if there is no lock file or
// it is incomplete.
func (c *cluster) readLockFile() (pid, port int) {
	lines := c.lockLines()
	if len(lines) < 4 {
		return 0, 0
	}
	pid, _ = strconv.Atoi(lines[0])
	port, _ = strconv.Atoi(lines[3])
	return max(pid, 0), port
}

// lockLines are the lines of postmaster.pid.
func (c *cluster) lockLines() []string {
	b, _ := plainfile.Read(filepath.Join(c.data(), "postmaster.pid"))
	return strings.Split(string(b), "\n")
}

// lockIsCopied reports whether the lock file came with a copy of the data folder:
// it names another folder, and no server was started here since the copy was
// made.
func (c *cluster) lockIsCopied() bool {
	lines := c.lockLines()
	if len(lines) < 2 {
		return false
	}
	locked, err := os.Stat(lines[1])
	own, ownErr := os.Stat(c.data())
	if err == nil && ownErr == nil && os.SameFile(locked, own) {
		return false
	}
	// Without a DataKey, written by an older trimtab, the original must still exist: otherwise the folder was moved.
	return c.isCopy() || c.DataKey == "" && err == nil
}

// awaitReaper gives the parent of a dead postmaster up to three seconds to reap
// it: until then Postgres takes the zombie for a live server.
func (c *cluster) awaitReaper(pid int) {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, alive := startID(pid); alive || syscall.Kill(pid, 0) != nil {
			return
		}
	}
}

// removeStaleLock removes a lock file whose process id belongs to a zombie or to
// an unrelated process, which Postgres cannot distinguish from its own. It does
// so only if no process works in the data folder.
func (c *cluster) removeStaleLock(pid int) error {
	if syscall.Kill(pid, 0) != nil || c.inUse() {
		return nil
	}
	return c.dropLockFile("removing a stale Postgres lock file: process %d is not a server", pid)
}

// dropLockFile removes postmaster.pid and logs why; the format reason takes the
// process id.
func (c *cluster) dropLockFile(reason string, pid int) error {
	logf(c.opts.Log, reason, pid)
	return remove(filepath.Join(c.data(), "postmaster.pid"))
}

// runningPostgres adopts the server of a folder if it is running, and returns nil
// without starting one if it is not.
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

// Wait waits until the server has ended. The error is how it ended; nil for an
// adopted server, whose exit status another process gets.
func (s *Postgres) Wait() error {
	<-s.proc.ended()
	return s.proc.err
}

// Stop shuts the server down in fast mode: open transactions are rolled back, and
// the next start needs no recovery. After a minute it resorts to an immediate
// shutdown. The data stays.
func (s *Postgres) Stop() error {
	err := s.proc.stop(stopStep{syscall.SIGINT, 60 * time.Second}, stopStep{syscall.SIGQUIT, 10 * time.Second})
	if err != nil {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	_ = syscall.Rmdir(s.socket) // only if empty; the next start recreates it
	return nil
}
