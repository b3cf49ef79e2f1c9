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

// TemporalOptions say how to run the program trimtab-temporal.
type TemporalOptions struct {
	Dir           string    // its folder; made if absent
	PostgresURL   string    // of a role that may make roles and databases
	Program       string    // path of trimtab-temporal; empty: find or build it
	DieWithParent bool      // end with this process (Linux): for tests alone
	Log           io.Writer // notices to people; may be nil
}

// Temporal is a running Temporal server.
type Temporal struct {
	Address string // host:port of the workflow service
	TLS     TLS    // for a client
	Pid     int
	Adopted bool // it was running already

	proc *process
}

// temporalState is the file temporal.json.
type temporalState struct {
	Port int `json:"port"` // of the workflow service; three more follow
	processIdentity
	Postgres string `json:"postgres"` // digest of the URL it was started with
	// digest of the authority it was started with; empty: by an older trimtab, in plain text
	Authority string `json:"authority"`
}

const (
	temporalRole  = "trimtab_temporal"
	temporalPorts = 4 // frontend, history, matching, worker
)

// temporalServer is one server's folder and state.
type temporalServer struct {
	opts TemporalOptions
	dir  string
	tls  TLS
	temporalState
}

// StartTemporal starts the server of o.Dir, or adopts it if it runs, and waits
// until Namespace is registered and its search attributes are visible. Its
// ports stay the same from one start to the next. It may have to build the
// program first, which takes some minutes and is announced.
func StartTemporal(ctx context.Context, o TemporalOptions) (*Temporal, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := makeSubfolder(dir); err != nil {
		return nil, fmt.Errorf("make the folder of the Temporal server: %w", err)
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

// loadCertificates reads the certificates, or makes them anew: in a new folder, and in
// one from before there were any.
func (d *temporalServer) loadCertificates() error {
	t, reason, err := certificates(d.certificatesDir(), time.Now())
	if reason != nil {
		logf(d.opts.Log, "the certificates of the Temporal server are made anew: %v", reason)
	}
	d.tls = t
	return err
}

func (d *temporalServer) stateFile() string       { return filepath.Join(d.dir, "temporal.json") }
func (d *temporalServer) log() string             { return filepath.Join(d.dir, "temporal.log") }
func (d *temporalServer) certificatesDir() string { return filepath.Join(d.dir, "tls") }

func (d *temporalServer) tag() string { return processTag(d.dir, "temporal") }

func (d *temporalServer) address(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.Port+offset))
}

// adopt takes over the server that runs, if it answers, works on the same
// Postgres and asks for the same certificates; one that does not is ended.
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
	why := "does not answer for this database"
	if d.Authority != d.tls.Digest {
		why = "asks for no certificate, or for others than those of this data folder"
	}
	logf(d.opts.Log, "the Temporal server with process id %d %s: it is started again", d.Pid, why)
	_ = stopTemporal(p)
	return nil
}

func (d *temporalServer) start(ctx context.Context) (*Temporal, error) {
	program, err := findTemporal(ctx, d.opts.Program, d.opts.Log)
	if err != nil {
		return nil, err
	}
	role, err := d.ensureRole(ctx)
	if err != nil {
		return nil, fmt.Errorf("give Temporal a role of its own in Postgres: %w", err)
	}
	for _, p := range findTagged(d.tag()) { // two on one database would be one too many
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

// launch starts the program. The error is transient if another program has
// taken one of its ports since they were looked at.
func (d *temporalServer) launch(ctx context.Context, program, role string) (*Temporal, error) {
	kept, err := reservePorts(d.Port, temporalPorts)
	if err != nil {
		return nil, err
	}
	defer kept.release()
	if d.Port != 0 && d.Port != kept.first {
		logf(d.opts.Log, "the Temporal server moves from port %d, which another program uses, to %d", d.Port,
			kept.first)
	}
	d.Port = kept.first
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

func (d *temporalServer) handle(p *process) *Temporal {
	return &Temporal{Address: d.address(0), TLS: d.tls, Pid: p.pid, Adopted: p.adopted, proc: p}
}

// wrapError adds what the server said. A program of an older release does not
// know the flag with which it is told to ask for certificates.
func (d *temporalServer) startError(program string, err error, said string) error {
	remedy := "see " + d.log()
	if strings.Contains(said, "not defined: -tls") {
		remedy = "put the " + temporalProgram + " of this release in the place of " + program +
			", which is of an older one"
	}
	return trimtab.NewError(trimtab.Unavailable, "temporal_start", remedy, "start the Temporal server: %w\n%s\n", err,
		said)
}

// waitReady waits until the namespace can be used, or the server has ended.
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
		return fmt.Errorf("it ended at once (%v)", p.err)
	}
}

// ensureRole makes the database role that Temporal works as, with a password kept in
// the folder, and gives the URL to connect with.
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
	// hexadecimal digits, or a parse error
	_, err = conn.Exec(ctx, verb+` role `+temporalRole+` login createdb password '`+secret+`'`)
	if err == nil {
		err = resetRole(ctx, conn)
	}
	return withSessionSettings(withUser(withDatabase(d.opts.PostgresURL, "postgres"), temporalRole, secret)), err
}

// resetRole takes back what somebody set for Temporal's role.
func resetRole(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `select coalesce(d.datname, '') from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase
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

// temporalSettings go with each request for a connection of Temporal's, where they
// count for more than what somebody gave its role, its databases or all roles. The
// server hands values without spaces on as they are.
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

// withSessionSettings adds temporalSettings to an address.
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

// Wait waits until the server has ended. The error says how, if this process started it.
func (t *Temporal) Wait() error {
	<-t.proc.ended()
	return t.proc.err
}

// Stop ends the server. What it had not written down it reads again from Postgres.
func (t *Temporal) Stop() error {
	if err := stopTemporal(t.proc); err != nil {
		return fmt.Errorf("stop the Temporal server: %w", err)
	}
	return nil
}

func stopTemporal(p *process) error {
	return p.stop(stopStep{syscall.SIGTERM, 20 * time.Second}, stopStep{syscall.SIGKILL, 5 * time.Second})
}

func urlDigest(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}
