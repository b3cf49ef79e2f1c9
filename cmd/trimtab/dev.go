package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/redact"
	"github.com/trimtab/trimtab/storage"
)

// ensure finds the embedded stack of the data folder, or starts it as a
// detached "trimtab dev" and waits until its servers answer. A stack of
// another build is replaced if no run is open there; otherwise it is used as
// it is.
func (a *app) ensure(ctx context.Context) (devstack.Endpoints, error) {
	dir, err := a.settings.dataFolder()
	if err != nil {
		return devstack.Endpoints{}, err
	}
	// The settings about downloads are passed in the environment: dev may
	// have to fetch Postgres, and reads no settings of this invocation.
	e, err := devstack.Ensure(ctx, devstack.EnsureOptions{
		Dir: dir, Marker: a.folder, Args: []string{"dev", "--data-folder", dir}, OpenRuns: openRuns,
		Log: a.redactedWriter(a.err), Downloads: a.downloads(),
		Env: []string{envName("offline") + "=" + a.settings.value("offline"), envName("maven_mirror") + "=" +
			a.settings.value("maven_mirror")},
	})
	if err == nil {
		_, err = a.claimDataFolder()
	}
	return e, err
}

// openRuns counts the runs that are still open. It works with the servers of
// any build: it needs no matching schema.
func openRuns(ctx context.Context, e devstack.Endpoints) (int, error) {
	return storage.CountOpenRuns(ctx, e.AppURL)
}

// devCmd is "trimtab dev": the supervisor of the embedded servers, in the
// foreground.
func (a *app) devCmd() *cobra.Command {
	var idle time.Duration
	cmd := &cobra.Command{
		Use: "dev", Short: "keep the embedded servers and a worker running, in the foreground", Args: argCount(0, 0),
		Long: `Start a private Postgres server, a Temporal server that stores its data there, and a
worker, for one data folder. Restart whichever of them dies, and adopt those that an
earlier dev left running. Other commands start a detached dev when they need one. It ends
with "trimtab dev stop", with Ctrl-C, or after 15 minutes without a command and without an
open run.`,
		Example: "  trimtab dev\n  trimtab dev status\n  trimtab dev stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.settings.dataFolder()
			if err != nil {
				return err
			}
			return devstack.RunDev(cmd.Context(), devstack.DevOptions{
				Dir: dir, Migrate: migrateEmbedded, Worker: a.workerProcess, OpenRuns: openRuns, Idle: idle,
				Log: a.redactedWriter(a.err), Downloads: a.downloads(),
			})
		},
	}
	cmd.Flags().DurationVar(&idle, "idle", 15*time.Minute,
		"stop after this long without a command and without an open run")
	cmd.AddCommand(a.devStopCmd(), a.devStatusCmd())
	return cmd
}

// migrateEmbedded brings the embedded database to this program's schema.
func migrateEmbedded(ctx context.Context, e devstack.Endpoints) error {
	return storage.Migrate(ctx, e.PostgresURL, e.AppPassword, e.AuditorPassword)
}

// workerProcess is the command that runs this program as a worker of the
// embedded servers. Addresses and certificates are passed in the environment,
// where other users cannot read them.
func (a *app) workerProcess(e devstack.Endpoints) *exec.Cmd {
	// The same executable, so that the worker has the same build id as dev.
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.Command(self, "worker")
	cmd.Env = append(os.Environ(),
		envName("data")+"="+a.settings.value("data"),
		envName("postgres_url")+"="+e.AppURL,
		envName("temporal_address")+"="+e.Temporal,
		envName("temporal_namespace")+"="+e.Namespace,
		envName("temporal_tls_ca")+"="+e.TemporalTLS.CA,
		envName("temporal_tls_cert")+"="+e.TemporalTLS.Cert,
		envName("temporal_tls_key")+"="+e.TemporalTLS.Key,
		envName("openlineage_url")+"="+a.settings.value("openlineage_url"),
		envName("openlineage_namespace")+"="+a.settings.value("openlineage_namespace"),
	)
	return cmd
}

// devStopCmd is "trimtab dev stop". It waits until all processes have ended;
// runs that are open continue when the servers are started again.
func (a *app) devStopCmd() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "stop the embedded servers and the worker; the data stays", Args: argCount(0, 0),
		Example: "  trimtab dev stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.settings.dataFolder()
			if err != nil {
				return err
			}
			// Stopping what does not run is fine, but the answer should not
			// claim otherwise.
			was := a.devState().Running
			if err := devstack.Stop(cmd.Context(), dir); err != nil {
				return err
			}
			if a.wantsJSON() {
				return a.printDocument(devDocument{Schema: "trimtab.dev/v1", Data: dir})
			}
			done := ""
			if was {
				done = "stopped: "
			}
			fmt.Fprintf(a.out, "%snothing runs on %s\n", done, escapeLine(dir))
			return nil
		},
	}
}

// devDocument describes what runs on a data folder. It contains no password,
// so that it can be pasted into a bug report.
type devDocument struct {
	Schema string `json:"schema"`
	// Data is the data folder.
	Data    string `json:"data"`
	Running bool   `json:"running"`
	// Pid is the process id of the supervisor.
	Pid int `json:"pid,omitempty"`
	// BuildID is the SHA-256 of the program that the supervisor runs.
	BuildID   string     `json:"build_id,omitempty"`
	StartedAt *time.Time `json:"started_at,omitempty"`
	// Postgres is the address of the database, without password and
	// parameters.
	Postgres string `json:"postgres,omitempty"`
	// Temporal is host:port of the Temporal frontend.
	Temporal  string `json:"temporal,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// TLS is null for servers started by builds that had none.
	TLS *devTLS `json:"temporal_tls,omitempty"`
	// Log and WorkerLog are the paths of the log files.
	Log       string `json:"log,omitempty"`
	WorkerLog string `json:"worker_log,omitempty"`
}

// devTLS names the files with which a client may connect to the embedded
// Temporal server.
type devTLS struct {
	// CA is the certificate authority of the data folder.
	CA string `json:"ca"`
	// Cert and Key are the client certificate and its private key.
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// String is the line of dev status about the certificate.
func (t *devTLS) String() string {
	if t == nil {
		return "none: these servers were started by an older trimtab, and any user of this machine can control their " +
			"runs; run `trimtab dev stop`"
	}
	return fmt.Sprintf("%s, key %s, authority %s", t.Cert, t.Key, t.CA)
}

// devState looks up what runs, without starting or changing anything.
func (a *app) devState() devDocument {
	dir := a.settings.value("data")
	doc := devDocument{Schema: "trimtab.dev/v1", Data: dir}
	info, ok := devstack.Running(dir)
	if !ok {
		return doc
	}
	started := info.Started.UTC()
	doc.Running = true
	doc.Pid = info.Pid
	doc.BuildID = info.BuildID
	doc.StartedAt = &started
	e := info.Endpoints
	// The query has connection parameters only, which nobody needs to see.
	address, _, _ := strings.Cut(redact.Address(e.AppURL), "?")
	doc.Postgres, doc.Temporal, doc.Namespace = address, e.Temporal, e.Namespace
	if t := e.TemporalTLS; t != (devstack.TLS{}) {
		doc.TLS = &devTLS{t.CA, t.Cert, t.Key}
	}
	doc.Log, doc.WorkerLog = filepath.Join(dir, "dev.log"), filepath.Join(dir, "worker.log")
	return doc
}

// devStatusCmd is "trimtab dev status". It only looks: an empty or missing
// data folder stays as it is.
func (a *app) devStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "what runs on the data folder", Args: argCount(0, 0),
		Example: "  trimtab dev status -o json",
		RunE: func(*cobra.Command, []string) error {
			if _, err := a.checkDataFolder(); err != nil {
				return err
			}
			doc := a.devState()
			if a.wantsJSON() {
				return a.printDocument(doc)
			}
			if !doc.Running {
				fmt.Fprintf(a.out, "nothing runs on %s\n", escapeLine(doc.Data))
				return nil
			}
			for _, line := range [][2]string{
				{"data", doc.Data}, {"process", fmt.Sprintf("%d, started %s", doc.Pid, formatAgo(*doc.StartedAt))},
				{"postgres", doc.Postgres}, {"temporal", doc.Temporal + ", namespace " + doc.Namespace},
				{"certificate", doc.TLS.String()},
				{"logs", doc.Log + ", " + doc.WorkerLog},
			} {
				fmt.Fprintf(a.out, "%-13s%s\n", line[0], escapeLine(line[1]))
			}
			return nil
		},
	}
}
