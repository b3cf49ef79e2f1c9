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
func DoctorChecks(ctx context.Context, dir string, d *Downloads) []Check {
	IgnoreEnvironment()
	return []Check{checkPostgres(dir, d), checkTemporal(), checkDev(ctx, dir), checkLimits()}
}

func failedCheck(name string, err error) Check {
	e := trimtab.AsError(err)
	return Check{Name: name, Detail: e.Message, Remedy: e.Remedy}
}

// checkPostgres finds the programs that would be used, those of the version
// that made the data folder if there is one, or says what would be fetched.
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

// inspectCluster reads what is known of the cluster of a data folder, and changes nothing.
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
	return fmt.Sprintf("none that fits is installed: %s would be fetched once (%s) from %s into %s",
		s.name(), megabytes(s.file.Size), d.host(), s.cache), nil
}

func checkLimits() Check {
	if err := checkStackLimits(); err != nil {
		return failedCheck("limits", err)
	}
	return Check{Name: "limits", OK: true, Detail: "of files, processes, memory and time suffice for the servers"}
}

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
		return Check{Name: name, Detail: fmt.Sprintf("process %d runs, but Postgres does not answer: %v", info.Pid,
			err), Remedy: remedy}
	}
	defer conn.Close(ctx)
	o, err := info.Endpoints.TemporalOptions()
	if err == nil {
		err = RegisterNamespace(ctx, o) // it is registered: this only looks
	}
	if err != nil {
		return Check{Name: name, Detail: fmt.Sprintf("process %d runs, but Temporal does not answer: %v", info.Pid,
			err), Remedy: remedy}
	}
	if own, err := buildID(""); err == nil && own != info.BuildID {
		return Check{Name: name, OK: true, Detail: fmt.Sprintf("process %d runs, of another build (%s)", info.Pid,
			info.BuildID)}
	}
	return Check{Name: name, OK: true, Detail: fmt.Sprintf("process %d runs since %s", info.Pid,
		info.Started.Local().Format(time.DateTime))}
}
