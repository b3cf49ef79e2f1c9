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

// ensure finds the embedded stack of the data folder, or starts it as a detached `trimtab dev`.
func (a *app) ensure(ctx context.Context) (devstack.Endpoints, error) {
	dir, err := a.settings.dataFolder()
	if err != nil {
		return devstack.Endpoints{}, err
	}
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

// openRuns counts the runs that have not ended, also for the servers of another build.
func openRuns(ctx context.Context, e devstack.Endpoints) (int, error) {
	return storage.CountOpenRuns(ctx, e.AppURL)
}

func (a *app) devCmd() *cobra.Command {
	var idle time.Duration
	cmd := &cobra.Command{
		Use: "dev", Short: "keep the embedded servers and a worker running, in the foreground", Args: argCount(0, 0),
		Long: `Start a private Postgres, a Temporal server on it, and a worker, for one data
folder; start again whichever dies; adopt what an earlier dev left running. Other
commands start a detached one when they need it. It ends by dev stop, by Ctrl-C, or
when for a quarter of an hour there was no command and no open run.`,
		Example: "  trimtab dev\n  trimtab dev status\n  trimtab dev stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.settings.dataFolder()
			if err != nil {
				return err
			}
			return devstack.RunDev(cmd.Context(), devstack.DevOptions{
				Dir: dir, Migrate: migrateEmbedded, Worker: a.workerProcess, OpenRuns: openRuns, Idle: idle,
				Log:       a.redactedWriter(a.err),
				Downloads: a.downloads(),
			})
		},
	}
	cmd.Flags().DurationVar(&idle, "idle", 15*time.Minute,
		"end after so long without a command and without an open run")
	cmd.AddCommand(a.devStopCmd(), a.devStatusCmd())
	return cmd
}

func migrateEmbedded(ctx context.Context, e devstack.Endpoints) error {
	return storage.Migrate(ctx, e.PostgresURL, e.AppPassword, e.AuditorPassword)
}

// workerProcess is this program as a worker of the embedded servers.
func (a *app) workerProcess(e devstack.Endpoints) *exec.Cmd {
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

func (a *app) devStopCmd() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "end the embedded servers and the worker; the data stays", Args: argCount(0, 0),
		Example: "  trimtab dev stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.settings.dataFolder()
			if err != nil {
				return err
			}
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

// devDocument says what runs on a data folder. It holds no password.
type devDocument struct {
	Schema    string     `json:"schema"`
	Data      string     `json:"data"`
	Running   bool       `json:"running"`
	Pid       int        `json:"pid,omitempty"`
	BuildID   string     `json:"build_id,omitempty"`
	StartedAt *time.Time `json:"started_at,omitempty"`
	Postgres  string     `json:"postgres,omitempty"`
	Temporal  string     `json:"temporal,omitempty"`
	Namespace string     `json:"namespace,omitempty"`
	TLS       *devTLS    `json:"temporal_tls,omitempty"`
	Log       string     `json:"log,omitempty"`
	WorkerLog string     `json:"worker_log,omitempty"`
}

// devTLS names the files with which the Temporal server takes a client.
type devTLS struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

func (t *devTLS) String() string {
	if t == nil {
		return "none: an older trimtab started it, and any user of this machine can steer its runs; see trimtab dev stop"
	}
	return fmt.Sprintf("%s, key %s, authority %s", t.Cert, t.Key, t.CA)
}

func (a *app) devState() devDocument {
	dir := a.settings.value("data")
	doc := devDocument{Schema: "trimtab.dev/v1", Data: dir}
	info, ok := devstack.Running(dir)
	if !ok {
		return doc
	}
	started := info.Started.UTC()
	doc.Running, doc.Pid, doc.BuildID, doc.StartedAt = true, info.Pid, info.BuildID, &started
	e := info.Endpoints
	address, _, _ := strings.Cut(redact.Address(e.AppURL), "?")
	doc.Postgres, doc.Temporal, doc.Namespace = address, e.Temporal, e.Namespace
	if t := e.TemporalTLS; t != (devstack.TLS{}) {
		doc.TLS = &devTLS{t.CA, t.Cert, t.Key}
	}
	doc.Log, doc.WorkerLog = filepath.Join(dir, "dev.log"), filepath.Join(dir, "worker.log")
	return doc
}

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
