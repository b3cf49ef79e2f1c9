// Trimtab-temporal is the Temporal server, with its web pages, in one process
// on a Postgres:
//
//	TRIMTAB_TEMPORAL_POSTGRES_URL=postgres://user:password@host/postgres trimtab-temporal -port 7233
//
// The role must be able to log in, and to create the databases temporal and
// temporal_visibility if they are absent. Their schemas are brought to this
// server's version at every start. Besides -port the server listens on the
// five ports after it: HTTP, history, matching, worker, web pages.
//
// It is a module and a program of its own because the server is large, takes
// minutes to build, and ends its process when it cannot go on. Trimtab runs it
// as a child and starts it again.
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

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/server/common/log"
)

// options are what the command line and the environment say.
type options struct {
	postgresURL string
	ip          string
	port        int // of the frontend; five more follow
	pages       bool
	logLevel    string
}

// The ports after the frontend's.
const (
	httpPort = iota + 1
	historyPort
	matchingPort
	workerPort
	pagesPort
)

func (o options) address(offset int) string {
	return net.JoinHostPort(o.ip, strconv.Itoa(o.port+offset))
}

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

// parse reads the command line. The URL holds a password and so is no flag.
func parse(args []string, postgresURL string, usage io.Writer) (options, error) {
	o := options{postgresURL: postgresURL}
	f := flag.NewFlagSet("trimtab-temporal", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.ip, "ip", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 7233, "port of the workflow service; the five after it are used as well")
	f.BoolVar(&o.pages, "pages", true, "serve the web pages, on the fifth port after -port")
	f.StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q: only flags are read", f.Arg(0))
	case o.port < 1 || o.port+pagesPort > 65535:
		return o, fmt.Errorf("port %d: it and the five after it must lie between 1 and 65535", o.port)
	case net.ParseIP(o.ip) == nil:
		return o, fmt.Errorf("ip %q is no IP address", o.ip)
	case o.postgresURL == "":
		return o, errors.New("TRIMTAB_TEMPORAL_POSTGRES_URL is not set: give the URL of a Postgres server")
	}
	return o, nil
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, postgresURL string, stderr io.Writer) error {
	o, err := parse(args, postgresURL, stderr)
	if err != nil {
		return err
	}
	// Not the no-op logger: its Fatal returns, and the server would go on broken.
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: o.logLevel, Format: "json"}))
	store, err := storeOf(o.postgresURL)
	if err != nil {
		return err
	}
	if err := store.migrate(ctx, logger); err != nil {
		return err
	}
	server, err := newServer(o, store, logger)
	if err != nil {
		return fmt.Errorf("set up the server: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	if o.pages {
		defer pages(o).Stop()
	}
	<-ctx.Done()
	return server.Stop()
}

// pages serves the web pages. They are for people alone, and whether they can
// be served is no reason to end.
func pages(o options) *uiserver.Server {
	ui := uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host: o.ip, Port: o.port + pagesPort, TemporalGRPCAddress: o.address(0), EnableUI: true,
		DefaultNamespace: "trimtab", DisableNewsFetch: true, HideLogs: true,
		CORS: uiconfig.CORS{CookieInsecure: true}, // plain HTTP on this machine
	}))
	l, err := net.Listen("tcp", o.address(pagesPort))
	if err != nil {
		fmt.Fprintln(os.Stderr, "trimtab-temporal: no web pages:", err)
		return ui
	}
	l.Close()
	go func() { _ = ui.Start() }()
	return ui
}
