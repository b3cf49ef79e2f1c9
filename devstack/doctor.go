package devstack

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Check is one thing that the embedded stack needs, and whether it is there.
type Check struct {
	Name   string // postgres, temporal or dev
	OK     bool
	Detail string
	Remedy string // if not OK
}

// DoctorChecks looks for what the embedded stack of a data folder needs, and
// at the one that runs. It starts, builds and changes nothing.
func DoctorChecks(ctx context.Context, dir string) []Check {
	return []Check{checkPostgres(dir), checkTemporal(), checkDev(ctx, dir)}
}

func failed(name string, err error) Check {
	e := trimtab.AsError(err)
	return Check{Name: name, Detail: e.Message, Remedy: e.Remedy}
}

// checkPostgres finds the programs that would be used, those of the version
// that made the data folder if there is one.
func checkPostgres(dir string) Check {
	const name = "postgres"
	folder, err := filepath.Abs(filepath.Join(dir, "postgres"))
	if err != nil {
		return failed(name, err)
	}
	c := cluster{dir: folder}
	if err := readJSON(c.stateFile(), &c.clusterState); err != nil {
		return failed(name, err)
	}
	if _, err := credential(); err != nil {
		return failed(name, err)
	}
	p, err := findPrograms(c.data(), "")
	if err != nil {
		return failed(name, err)
	}
	if c.Port == 0 {
		return Check{Name: name, OK: true, Detail: fmt.Sprintf("%v; no database yet", p)}
	}
	return Check{Name: name, OK: true, Detail: fmt.Sprintf("%v; data in %s", p, c.data())}
}

func checkTemporal() Check {
	const name = "temporal"
	program, err := FindTemporal()
	switch {
	case err != nil:
		return failed(name, err)
	case program != "":
		return Check{Name: name, OK: true, Detail: program}
	case temporalSource() == "":
		return failed(name, errNoTemporal())
	}
	if _, err := exec.LookPath("go"); err != nil {
		return failed(name, errNoTemporal())
	}
	return Check{Name: name, OK: true, Detail: "built once, in some minutes, when it is first needed"}
}

func checkDev(ctx context.Context, dir string) Check {
	const name = "dev"
	info, ok := Running(dir)
	if !ok {
		return Check{Name: name, OK: true, Detail: "not running; commands start it"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	remedy := "see the logs in " + dir + "; trimtab dev stop ends all, and the next command starts it again"
	conn, err := pgx.Connect(ctx, info.Endpoints.PostgresURL)
	if err != nil {
		return Check{Name: name, Detail: fmt.Sprintf("process %d runs, but Postgres does not answer: %v", info.Pid, err), Remedy: remedy}
	}
	defer conn.Close(ctx)
	o, err := info.Endpoints.TemporalOptions()
	if err == nil {
		err = RegisterNamespace(ctx, o) // it is registered: this only looks
	}
	if err != nil {
		return Check{Name: name, Detail: fmt.Sprintf("process %d runs, but Temporal does not answer: %v", info.Pid, err), Remedy: remedy}
	}
	if own, err := buildID(""); err == nil && own != info.BuildID {
		return Check{Name: name, OK: true, Detail: fmt.Sprintf("process %d runs, of another build (%s)", info.Pid, info.BuildID)}
	}
	return Check{Name: name, OK: true, Detail: fmt.Sprintf("process %d runs since %s", info.Pid, info.Started.Local().Format(time.DateTime))}
}
