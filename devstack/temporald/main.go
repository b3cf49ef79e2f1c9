// Command trimtab-temporal runs the Temporal server in one process on a Postgres:
//
//	TRIMTAB_TEMPORAL_POSTGRES_URL=postgres://user:password@host/postgres trimtab-temporal -port 7233 -tls folder
//
// The role must be able to log in, and to create the databases temporal and
// temporal_visibility if they are absent. Every start upgrades their schemas to
// this server's version. Besides -port, the server listens on the three ports
// after it: history, matching, worker. Each of the four requires a client
// certificate of the authority in the folder; nothing else listens: no HTTP, no
// web pages, no metrics.
//
// It is a module and a program of its own because the server is large, takes
// minutes to build, and exits on faults that it cannot handle. Trimtab runs it as
// a child process and restarts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"go.temporal.io/server/common/log"
)

// options are the settings given by the command line and the environment.
type options struct {
	// postgresURL connects to any database of the server, as the role to use; it
	// holds a password.
	postgresURL string
	// ip is the address to listen on.
	ip string
	// port is that of the frontend; the three after it are used too.
	port int
	// tls is the folder of certificates.
	tls string
	// logLevel is that of the server's log, which goes to standard error as JSON.
	logLevel string
}

// The services' ports, counted from the frontend's.
const (
	historyPort = iota + 1
	matchingPort
	workerPort
)

// address is that of the service whose port is so far from the frontend's.
func (o options) address(offset int) string {
	return net.JoinHostPort(o.ip, strconv.Itoa(o.port+offset))
}

// main exits with 1 on any error but a request for help. SIGTERM and SIGINT stop
// the server in order.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Getenv("TRIMTAB_TEMPORAL_POSTGRES_URL"), os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "trimtab-temporal:", err)
		os.Exit(1)
	}
}

// parse reads the command line. The URL is taken from the environment, not from a
// flag: it holds a password, and other users can see command lines.
func parse(args []string, postgresURL string, usage io.Writer) (options, error) {
	o := options{postgresURL: postgresURL}
	f := flag.NewFlagSet("trimtab-temporal", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.ip, "ip", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 7233, "port of the workflow service; the three after it are used as well")
	f.StringVar(&o.tls, "tls", "",
		"folder of ca.pem, which signs the certificates of clients, and of server.pem and server.key")
	f.StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: only flags are accepted", f.Arg(0))
	case o.port < 1 || o.port+workerPort > 65535:
		return o, fmt.Errorf("port %d: it and the three after it must lie between 1 and 65535", o.port)
	case net.ParseIP(o.ip) == nil:
		return o, fmt.Errorf("ip %q is not an IP address", o.ip)
	case o.tls == "":
		return o, errors.New("-tls is not given: name the folder of ca.pem, server.pem and server.key")
	case o.postgresURL == "":
		return o, errors.New("TRIMTAB_TEMPORAL_POSTGRES_URL is not set: give the URL of a Postgres server")
	}
	return o, nil
}

// run migrates the databases and serves until ctx ends.
func run(ctx context.Context, args []string, postgresURL string, stderr io.Writer) error {
	o, err := parse(args, postgresURL, stderr)
	if err != nil {
		return err
	}
	// The no-op logger must not be used: its Fatal returns, and the server would keep running in a broken state.
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: o.logLevel, Format: "json"}))
	store, err := parseStore(o.postgresURL)
	if err != nil {
		return err
	}
	if err := store.migrate(ctx, logger); err != nil {
		return err
	}
	// Migrating before the server starts keeps its services from meeting a schema that is not theirs.
	server, err := newServer(o, store, logger)
	if err != nil {
		return fmt.Errorf("set up the server: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	<-ctx.Done()
	return server.Stop()
}
