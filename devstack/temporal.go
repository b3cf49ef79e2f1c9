package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// TemporalOptions configure an embedded Temporal server.
type TemporalOptions struct {
	// Dir is the folder of the server's state. It is created if absent, but its
	// parent must exist.
	Dir string
	// PostgresURL connects as a role that may create roles and databases.
	PostgresURL string
	// Program is the path of trimtab-temporal; empty: it is found or built.
	Program string
	// DieWithParent ends the server when this process ends (Linux). For tests
	// only.
	DieWithParent bool
	// Log receives lines for people; it may be nil.
	Log io.Writer
}

// Temporal is a running Temporal server.
type Temporal struct {
	// Address is host:port of the workflow service.
	Address string
	// TLS is what a client needs.
	TLS TLS
	// Pid is the process id of the server.
	Pid int
	// Adopted: the server was already running; this process did not start it.
	Adopted bool

	proc *process
}

// temporalState is the file temporal.json.
type temporalState struct {
	// Port is the port of the workflow service; the three after it are used too.
	Port int `json:"port"`
	processIdentity
	// Postgres is a digest of the URL that the server was started with: it holds
	// a password.
	Postgres string `json:"postgres"`
	// Authority is the TLS.Digest that the server was started with; empty: an
	// older trimtab started it, in plain text.
	Authority string `json:"authority"`
}

const (
	// temporalRole is the database role that the server works as.
	temporalRole = "trimtab_temporal"
	// temporalPorts is the number of ports in a row that it listens on: frontend, history, matching, worker.
	temporalPorts = 4
)

// temporalServer is the folder and the state of one Temporal server.
type temporalServer struct {
	opts TemporalOptions
	dir  string
	tls  TLS
	temporalState
}

// StartTemporal starts the server of o.Dir, or adopts it if it is running, and
// waits until Namespace is registered and its search attributes can be used. Its
// ports stay the same from one start to the next unless another program has taken
// one. It may have to build the program first, which takes some minutes and is
// announced in the log. Errors: temporal_start, temporal_build, temporal_missing,
// temporal_program, unsafe_program, no_ports.
func StartTemporal(ctx context.Context, o TemporalOptions) (*Temporal, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := makeSubfolder(dir); err != nil {
		return nil, fmt.Errorf("create the folder of the Temporal server: %w", err)
	}
	IgnoreEnvironment()
	unlock, err := lock(ctx, filepath.Join(dir, "temporal.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	d := &temporalServer{opts: o, dir: dir}
	if err := readJSON(d.stateFile(), &d.temporalState); err != nil {
		return nil, err
	}
	if err := d.loadCertificates(); err != nil {
		return nil, err
	}
	if t := d.adopt(ctx); t != nil {
		return t, nil
	}
	return d.start(ctx)
}

// loadCertificates reads the certificates, or creates them in a new folder and in
// one from before TLS was introduced.
func (d *temporalServer) loadCertificates() error {
	t, reason, err := certificates(d.certificatesDir(), time.Now())
	if reason != nil {
		logf(d.opts.Log, "replacing the certificates of the Temporal server: %v", reason)
	}
	d.tls = t
	return err
}

// stateFile is the file of temporalState.
func (d *temporalServer) stateFile() string { return filepath.Join(d.dir, "temporal.json") }

// log is the server's log file.
func (d *temporalServer) log() string { return filepath.Join(d.dir, "temporal.log") }

// certificatesDir is the folder of the certificates.
func (d *temporalServer) certificatesDir() string { return filepath.Join(d.dir, "tls") }

// tag is the processTag of the server.
func (d *temporalServer) tag() string { return processTag(d.dir, "temporal") }

// address is that of the service whose port is so far from the first.
func (d *temporalServer) address(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.Port+offset))
}

// adopt takes over a running server if it answers, works on the same Postgres and
// uses the current certificates; any other is stopped.
func (d *temporalServer) adopt(ctx context.Context) *Temporal {
	p := d.find(d.dir, d.tag())
	if p == nil {
		return nil
	}
	if d.Postgres == urlDigest(d.opts.PostgresURL) && d.Authority == d.tls.Digest {
		wait, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := d.waitReady(wait, p); err == nil {
			return d.handle(p)
		}
	}
	if !p.alive() { // it was dying
		return nil
	}
	reason := "does not answer for this database"
	if d.Authority != d.tls.Digest {
		reason = "does not use the certificates of this data folder"
	}
	logf(d.opts.Log, "the Temporal server with process id %d %s: restarting it", d.Pid, reason)
	_ = stopTemporal(p)
	return nil
}

// start finds or builds the program and starts it, with up to ten attempts if a
// port is taken meanwhile.
func (d *temporalServer) start(ctx context.Context) (*Temporal, error) {
	program, err := findTemporal(ctx, d.opts.Program, d.opts.Log)
	if err != nil {
		return nil, err
	}
	role, err := d.ensureRole(ctx)
	if err != nil {
		return nil, fmt.Errorf("create Temporal's role in Postgres: %w", err)
	}
	for _, p := range findTagged(d.tag()) { // two servers must not work on one database
		if err := stopTemporal(p); err != nil {
			return nil, err
		}
	}
	for try := 1; ; try++ {
		t, err := d.launch(ctx, program, role)
		if !errors.Is(err, errTransient) || try == 10 {
			return t, err
		}
	}
}

// launch starts the program. The error wraps errTransient if another program has
// taken one of its ports since they were looked at. The state file is written
// before the server is ready, so that the next process finds it even if this one
// is killed.
func (d *temporalServer) launch(ctx context.Context, program, role string) (*Temporal, error) {
	reserved, err := reservePorts(d.Port, temporalPorts)
	if err != nil {
		return nil, err
	}
	defer reserved.release()
	if d.Port != 0 && d.Port != reserved.first {
		logf(d.opts.Log, "a port from %d on is in use by another program: Temporal moves to port %d",
			d.Port, reserved.first)
	}
	d.Port = reserved.first
	log, err := openLog(d.log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	from := fileSize(log)
	cmd := exec.Command(program, "-ip", "127.0.0.1", "-port", strconv.Itoa(d.Port), "-tls", d.certificatesDir())
	cmd.Env = append(serverEnvironment(), "TRIMTAB_TEMPORAL_POSTGRES_URL="+role, d.tag())
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, log, log
	p, err := startProcess(cmd, d.opts.DieWithParent)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	// Recorded only now, with the process id: an adopted server is compared with what it was started with.
	d.processIdentity, d.Postgres, d.Authority = identityOf(p, d.dir), urlDigest(d.opts.PostgresURL), d.tls.Digest
	err = writeJSON(d.stateFile(), d.temporalState)
	if err == nil {
		err = d.waitReady(ctx, p)
	}
	if err != nil {
		_ = stopTemporal(p)
		if strings.Contains(readFrom(d.log(), from), "address already in use") {
			err = fmt.Errorf("%w: %w", errTransient, err)
		}
		return nil, d.startError(program, err, tail(d.log(), from))
	}
	return d.handle(p), nil
}

// handle is the exported view of the running server p.
func (d *temporalServer) handle(p *process) *Temporal {
	return &Temporal{Address: d.address(0), TLS: d.tls, Pid: p.pid, Adopted: p.adopted, proc: p}
}

// startError adds what the server logged to err. A program of an older release is
// recognised by its not knowing the flag -tls.
func (d *temporalServer) startError(program string, err error, logged string) error {
	remedy := "see " + d.log()
	if strings.Contains(logged, "not defined: -tls") {
		remedy = "replace " + program + ", which is of an older release, with the " + temporalProgram +
			" of this release"
	}
	return trimtab.NewError(trimtab.Unavailable, "temporal_start", remedy,
		"start the Temporal server: %w\n%s\n", err, logged)
}

// waitReady waits until the namespace can be used. It fails when the server ends,
// and after three minutes.
func (d *temporalServer) waitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("it does not answer on %s", d.address(0)))
	defer cancel()
	o, err := Endpoints{Temporal: d.address(0), TemporalTLS: d.tls, Namespace: Namespace}.TemporalOptions()
	if err != nil {
		return err
	}
	registered := make(chan error, 1)
	go func() { registered <- RegisterNamespace(ctx, o) }()
	select {
	case err := <-registered:
		return err
	case <-p.ended():
		return fmt.Errorf("it exited at once (%v)", p.err)
	}
}

// ensureRole creates the database role that Temporal works as, or resets it, with
// a password kept in the folder, and returns the URL to connect with.
func (d *temporalServer) ensureRole(ctx context.Context) (string, error) {
	secret, err := password(filepath.Join(d.dir, "temporal.password"))
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, d.opts.PostgresURL)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var have bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1)`,
		temporalRole).Scan(&have); err != nil {
		return "", err
	}
	verb := "create"
	if have {
		verb = "alter"
	}
	// The password is hexadecimal digits that this program wrote; a tampered file gives a syntax error at worst.
	_, err = conn.Exec(ctx, verb+` role `+temporalRole+` login createdb password '`+secret+`'`)
	if err == nil {
		err = resetRole(ctx, conn)
	}
	return withSessionSettings(withUser(withDatabase(d.opts.PostgresURL, "postgres"), temporalRole, secret)), err
}

// resetRole removes the settings that somebody gave Temporal's role with `alter
// role … set`.
func resetRole(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `select coalesce(d.datname, '')
		from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase
		where s.setrole = (select oid from pg_roles where rolname = $1)`, temporalRole)
	if err != nil {
		return err
	}
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range databases {
		within := ""
		if name != "" {
			within = " in database " + pgx.Identifier{name}.Sanitize()
		}
		if _, err := conn.Exec(ctx, "alter role "+temporalRole+within+" reset all"); err != nil {
			return err
		}
	}
	return nil
}

// temporalSettings are sent with each connection of Temporal's, where they
// override the settings of roles and databases. The server passes values without
// spaces on unchanged.
var temporalSettings = map[string]string{
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"default_transaction_read_only":       "off",
	"search_path":                         "public",
	"standard_conforming_strings":         "on",
	"bytea_output":                        "hex",
	"DateStyle":                           "ISO,MDY",
	"TimeZone":                            "UTC",
}

// withSessionSettings adds temporalSettings to a URL.
func withSessionSettings(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	q := u.Query()
	for name, value := range temporalSettings {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Done is closed when the server has ended.
func (t *Temporal) Done() <-chan struct{} { return t.proc.ended() }

// Wait waits until the server has ended. The error is how it ended; nil for an
// adopted server, whose exit status another process gets.
func (t *Temporal) Wait() error {
	<-t.proc.ended()
	return t.proc.err
}

// Stop stops the server. Nothing is lost: all of its state is in Postgres.
func (t *Temporal) Stop() error {
	if err := stopTemporal(t.proc); err != nil {
		return fmt.Errorf("stop the Temporal server: %w", err)
	}
	return nil
}

// stopTemporal stops a server, by SIGKILL if it does not end within 20 seconds.
func stopTemporal(p *process) error {
	return p.stop(stopStep{syscall.SIGTERM, 20 * time.Second}, stopStep{syscall.SIGKILL, 5 * time.Second})
}

// urlDigest is a digest of a URL, for state files that must not hold its
// password.
func urlDigest(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}
