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
	// Name is postgres, temporal, dev or limits.
	Name string
	OK   bool
	// Detail describes what was found, or what is wrong.
	Detail string
	// Remedy says what to do if not OK.
	Remedy string
}

// DoctorChecks checks what the embedded stack of a data folder needs, and the
// stack that is running. It starts, builds, downloads and changes nothing.
func DoctorChecks(ctx context.Context, dir string, d *Downloads) []Check {
	IgnoreEnvironment()
	return []Check{checkPostgres(dir, d), checkTemporal(), checkDev(ctx, dir), checkLimits()}
}

// failedCheck is a check that failed with an error.
func failedCheck(name string, err error) Check {
	e := trimtab.AsError(err)
	return Check{Name: name, Detail: e.Message, Remedy: e.Remedy}
}

// checkPostgres finds the programs that would be used, those of the cluster's
// major version if there is a cluster, or says what would be fetched.
func checkPostgres(dir string, d *Downloads) Check {
	const name = "postgres"
	c, err := inspectCluster(dir)
	if err != nil {
		return failedCheck(name, err)
	}
	detail, err := describePrograms(c, d)
	if err != nil {
		return failedCheck(name, err)
	}
	if c.Port == 0 {
		return Check{Name: name, OK: true, Detail: detail + "; no database yet"}
	}
	return Check{Name: name, OK: true, Detail: detail + "; data in " + c.data()}
}

// inspectCluster reads the state of a data folder's cluster, and changes nothing.
func inspectCluster(dir string) (*cluster, error) {
	folder, err := filepath.Abs(filepath.Join(dir, "postgres"))
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: folder}
	if err := readJSON(c.stateFile(), &c.clusterState); err != nil {
		return nil, err
	}
	c.cred, err = credential()
	return c, err
}

// describePrograms describes the programs that findOrFetch would use, without
// fetching them.
func describePrograms(c *cluster, d *Downloads) (string, error) {
	p, err := findPrograms(c.data(), "")
	if err == nil {
		return p.String(), nil
	}
	if !isNotInstalled(err) {
		return "", err
	}
	s, err := newCacheEntry(c.data(), d, c.cred, err)
	if err == nil {
		err = s.checkTrusted()
	}
	switch {
	case err != nil:
		return "", err
	case s.isIntact():
		p, err := s.probe()
		return p.String(), err
	case d.offline():
		return "", s.missing
	}
	return fmt.Sprintf("no suitable Postgres is installed: %s would be fetched once (%s) from %s into %s",
		s.name(), megabytes(s.file.Size), d.host(), s.cache), nil
}

// checkLimits checks the limits (ulimit) that the servers would inherit.
func checkLimits() Check {
	if err := checkStackLimits(); err != nil {
		return failedCheck("limits", err)
	}
	return Check{Name: "limits", OK: true, Detail: "files, processes, memory and CPU time suffice for the servers"}
}

// checkTemporal finds the program trimtab-temporal, or the means to build it.
func checkTemporal() Check {
	const name = "temporal"
	program, err := FindTemporal()
	switch {
	case err != nil:
		return failedCheck(name, err)
	case program != "":
		return Check{Name: name, OK: true, Detail: program}
	case temporalSource() == "":
		return failedCheck(name, temporalMissing())
	}
	if _, err := exec.LookPath("go"); err != nil {
		return failedCheck(name, temporalMissing())
	}
	return Check{Name: name, OK: true, Detail: "will be built when it is first needed, which takes a few minutes, once"}
}

// checkDev checks that the servers of the running dev process answer.
func checkDev(ctx context.Context, dir string) Check {
	const name = "dev"
	info, ok := Running(dir)
	if !ok {
		return Check{Name: name, OK: true, Detail: "not running; commands start it when they need it"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	remedy := "see the logs in " + dir + "; trimtab dev stop stops everything, and the next command starts it again"
	// A dev process that runs says little: each server has to answer a client.
	conn, err := pgx.Connect(ctx, info.Endpoints.PostgresURL)
	if err != nil {
		detail := fmt.Sprintf("process %d is running, but Postgres does not answer: %v", info.Pid, err)
		return Check{Name: name, Detail: detail, Remedy: remedy}
	}
	defer conn.Close(ctx)
	o, err := info.Endpoints.TemporalOptions()
	if err == nil {
		err = RegisterNamespace(ctx, o) // it is registered already, so this only checks
	}
	if err != nil {
		detail := fmt.Sprintf("process %d is running, but Temporal does not answer: %v", info.Pid, err)
		return Check{Name: name, Detail: detail, Remedy: remedy}
	}
	if own, err := buildID(""); err == nil && own != info.BuildID {
		return Check{Name: name, OK: true, Detail: fmt.Sprintf("process %d is running, of another build (%s)", info.Pid,
			info.BuildID)}
	}
	return Check{Name: name, OK: true, Detail: fmt.Sprintf("process %d has been running since %s", info.Pid,
		info.Started.Local().Format(time.DateTime))}
}
