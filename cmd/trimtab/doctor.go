package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/workflowservice/v1"
	"golang.org/x/sys/unix"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
)

// Results of a check, in JSON and in tables.
const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkProblem = "problem"
)

// minFreeDisk is the free space, in bytes, below which doctor warns.
const minFreeDisk = 2 << 30

// checkResult is the outcome of one check of doctor.
type checkResult struct {
	// Check names what was checked.
	Check string `json:"check"`
	// Result is ok, warning or problem.
	Result string `json:"result"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Remedy says what to do about a warning or problem.
	Remedy string `json:"remedy,omitempty"`
}

// settingLine is a setting, its value without secrets, and where it came
// from.
type settingLine struct {
	Key string `json:"key"`
	// Value has no secrets in it.
	Value string `json:"value"`
	// Origin is the flag, variable or file that the value came from, or
	// "default".
	Origin string `json:"origin"`
}

// doctorDocument is the report of doctor.
type doctorDocument struct {
	Schema   string        `json:"schema"`
	Settings []settingLine `json:"settings"`
	Checks   []checkResult `json:"checks"`
}

// doctorCmd is "trimtab doctor": check this machine, or the record of one
// run.
func (a *app) doctorCmd() *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use: "doctor", Short: "check settings and this machine, or the record of a run",
		Args: argCount(0, 0),
		Long: `Print every setting and where its value came from, and check what runs need. Nothing is
started or changed.

With --run, check instead that nothing of a run was lost, duplicated or half-written: the
invariants that its record must satisfy no matter what was killed, and the models and
checkpoints that the record names. Exit code 5 means that one does not hold.`,
		Example: "  trimtab doctor\n  trimtab doctor -o json\n  trimtab doctor --run my-assistant",
		RunE: func(cmd *cobra.Command, _ []string) error {
			// --run '' is an error about an empty name, and not a check of
			// the machine.
			if cmd.Flags().Changed("run") {
				return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.doctorRun(ctx, s, run) })
			}
			return a.doctor(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "check the record and files of this run")
	return cmd
}

// invariant is a condition that a run's record must satisfy, with the outcome
// of checking it.
type invariant struct {
	// Invariant is a stable name.
	Invariant string `json:"invariant"`
	// Must states the condition in words.
	Must string `json:"must"`
	OK   bool   `json:"ok"`
	// Broken is the number of violations, and Offenders names the first ones.
	Broken    int      `json:"broken"`
	Offenders []string `json:"offenders"`
}

// invariantColumns show the condition where it holds, and the first
// violations where it does not.
var invariantColumns = []column[invariant]{
	{name: "invariant", full: func(i invariant) string { return i.Invariant }},
	{name: "result", full: func(i invariant) string {
		if i.OK {
			return checkOK
		}
		return fmt.Sprintf("%d broken", i.Broken)
	}},
	{name: "detail", full: func(i invariant) string {
		if i.OK {
			return i.Must
		}
		return strings.Join(i.Offenders, "; ")
	}},
}

// doctorRun checks a run's record and files, and exits with 5 if an invariant
// is broken. It may run while the run is at work: the checks read one
// snapshot of the database. The files are read as well, which takes time for
// large models.
func (a *app) doctorRun(ctx context.Context, s *session, ref string) error {
	run, findings, err := s.runs.Check(ctx, ref)
	if err != nil {
		return err
	}
	items, broken := make([]invariant, len(findings)), 0
	for i, f := range findings {
		items[i] = invariant{f.Name, f.Must, f.Broken == 0, f.Broken, append([]string{}, f.Offenders...)}
		if f.Broken > 0 {
			broken++
		}
	}
	err = printList(a, list[invariant]{schema: "trimtab.invariants/v1", key: "invariants", items: items,
		columns: invariantColumns,
		extra:   map[string]any{"run": run.ID, "ok": broken == 0}})
	if err != nil {
		return err
	}
	if a.format == formatTable {
		a.note("run %s: %d of %d invariants hold", run.ID, len(items)-broken, len(items))
	}
	if broken > 0 {
		return exitStatus(trimtab.ExitCode(trimtab.NewError(trimtab.Verification, "", "", "")))
	}
	return nil
}

// doctor prints the settings and the checks of this machine, and exits with 6
// if there is a problem; warnings do not count.
func (a *app) doctor(ctx context.Context) error {
	doc := doctorDocument{Schema: "trimtab.doctor/v1"}
	for _, s := range allSettings {
		doc.Settings = append(doc.Settings, settingLine{s.key, a.settings.shown(s.key), a.settings.origins[s.key]})
	}
	doc.Checks = a.checks(ctx)
	for i, c := range doc.Checks {
		doc.Checks[i].Detail, doc.Checks[i].Remedy = a.secrets.Text(c.Detail), a.secrets.Text(c.Remedy)
	}
	if err := a.printDoctor(doc); err != nil {
		return err
	}
	for _, c := range doc.Checks {
		if c.Result == checkProblem {
			return exitStatus(trimtab.ExitCode(trimtab.NewError(trimtab.Unavailable, "", "", "")))
		}
	}
	return nil
}

// checks runs all checks of the machine. With configured servers it checks
// those, and otherwise the programs of the embedded ones; the schema of a
// database is checked only where one answers. Every check has a time limit,
// so that a server that hangs does not hang doctor.
func (a *app) checks(ctx context.Context) []checkResult {
	v := version()
	checks := []checkResult{
		{"program", checkOK, fmt.Sprintf("%s %s, build %.12s", v.Version, v.Go, v.BuildID), ""},
		checkKernels(),
		a.checkFolder(),
		a.checkDisk(),
	}
	if a.settings.value("postgres_url") == "" && a.settings.value("temporal_address") == "" {
		checks = append(checks, a.checkEmbedded(ctx)...)
		// The embedded database is checked if it runs; doctor does not start
		// it.
		if info, running := devstack.Running(a.settings.value("data")); running {
			checks = append(checks, checkSchema(ctx, info.Endpoints.AppURL)...)
		}
		return checks
	}
	checks = append(checks, a.checkPostgres(ctx))
	if url := a.settings.value("postgres_url"); url != "" && checks[len(checks)-1].Result == checkOK {
		checks = append(checks, checkSchema(ctx, url)...)
	}
	return append(checks, a.checkTemporal(ctx))
}

// checkSchema checks that tables, functions, triggers, privileges and
// settings of the database are as the migrations create them. Triggers are
// what keeps the record append-only: a database without one accepts changes
// silently. Where the database cannot be opened it returns nothing: another
// check reports that.
func checkSchema(ctx context.Context, url string) []checkResult {
	const name = "schema"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	store, err := storage.Open(ctx, url)
	if err != nil {
		return nil
	}
	defer store.Close()
	// Additions that change nothing, such as an index, are harmless and only
	// a warning.
	odd, err := store.Schema(ctx)
	if err != nil {
		e := trimtab.AsError(err)
		return []checkResult{{name, checkProblem, e.Message, e.Remedy}}
	}
	var problems, notes []string
	for _, o := range odd {
		if text := o.Where + ": " + o.What; o.Harmless {
			notes = append(notes, text)
		} else {
			problems = append(problems, text)
		}
	}
	const remedy = "run `trimtab audit verify`: it lists all of them and tests whether rows were changed"
	switch {
	case len(problems) > 0:
		return []checkResult{{name, checkProblem,
			fmt.Sprintf("differs from the migrations in %s, first: %s", plural(len(problems), "place"), problems[0]),
			remedy}}
	case len(notes) > 0:
		return []checkResult{{name, checkWarning, fmt.Sprintf("has %s, first: %s",
			plural(len(notes), "harmless addition"), notes[0]), remedy}}
	}
	return []checkResult{{name, checkOK, "tables, functions, triggers and privileges match the migrations", ""}}
}

// checkFolder checks that the data folder, or the nearest folder above it
// that exists, is writable.
func (a *app) checkFolder() checkResult {
	if _, err := a.checkDataFolder(); err != nil {
		e := trimtab.AsError(err)
		return checkResult{"data folder", checkProblem, e.Message, e.Remedy}
	}
	// The folder may not exist yet: what counts is where it would be created.
	dir := nearestExisting(a.settings.value("data"))
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return checkResult{"data folder", checkProblem, fmt.Sprintf("%s: %v", dir, err),
			"choose another with --data-folder or TRIMTAB_DATA"}
	}
	return checkResult{"data folder", checkOK, a.settings.value("data"), ""}
}

// checkDisk checks the free disk space of the data folder.
func (a *app) checkDisk() checkResult {
	var st unix.Statfs_t
	dir := nearestExisting(a.settings.value("data"))
	if err := unix.Statfs(dir, &st); err != nil {
		return checkResult{"disk", checkWarning, err.Error(), ""}
	}
	// Bavail is what a user without privileges may use, and Bfree also the
	// reserve.
	free := int64(st.Bavail) * int64(st.Bsize)
	if free < minFreeDisk {
		return checkResult{"disk", checkWarning, formatBytes(free) + " free",
			"a default run needs a few hundred MB: free some space, or choose another folder with --data-folder"}
	}
	return checkResult{"disk", checkOK, formatBytes(free) + " free", ""}
}

// nearestExisting is path, or the nearest folder above it that exists.
func nearestExisting(path string) string {
	for {
		if st, err := os.Stat(path); err == nil && st.IsDir() || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// checkEmbedded looks for the programs of the embedded servers, without
// starting or downloading them.
func (a *app) checkEmbedded(ctx context.Context) []checkResult {
	var checks []checkResult
	dir, err := a.checkDataFolder()
	if err != nil {
		return nil // checkFolder reports it
	}
	for _, c := range devstack.DoctorChecks(ctx, dir, a.downloads()) {
		result := checkOK
		if !c.OK {
			result = checkProblem
		}
		checks = append(checks, checkResult{c.Name, result, c.Detail, c.Remedy})
	}
	return checks
}

// checkKernels reports which kernels compute, and how fast they are. The
// speed is measured, in half a second, since it is the only way to notice a
// machine that is throttled or that emulates instructions.
func checkKernels() checkResult {
	if err := tensor.InitError(); err != nil {
		return checkResult{"processor", checkProblem, err.Error(), "set TRIMTAB_KERNELS to one of " +
			strings.Join(tensor.Implementations(), ", ") + ", or unset it"}
	}
	return checkResult{"processor", checkOK, fmt.Sprintf("%d cores, %s kernels; %s", runtime.NumCPU(),
		tensor.Implementation(), measureNumericsSpeeds().sentence()), ""}
}

// checkPostgres connects to the configured database.
func (a *app) checkPostgres(ctx context.Context) checkResult {
	const name = "postgres"
	url := a.settings.value("postgres_url")
	if url == "" {
		return checkResult{name, checkProblem, "temporal_address is set and postgres_url is not", "set both or neither"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	store, err := storage.Open(ctx, url)
	if err != nil {
		e := trimtab.AsError(err)
		return checkResult{name, checkProblem, e.Message, e.Remedy}
	}
	defer store.Close()
	return checkResult{name, checkOK, a.settings.shown("postgres_url"), ""}
}

// checkTemporal connects to the configured Temporal server, and looks for its
// namespace.
func (a *app) checkTemporal(ctx context.Context) checkResult {
	const name = "temporal"
	failed := func(err error) checkResult {
		e := trimtab.AsError(err)
		return checkResult{name, checkProblem, e.Message, e.Remedy}
	}
	o, err := a.temporalOptions()
	switch {
	case err != nil:
		return failed(err)
	// One address alone is a mistake: locate refuses it too.
	case o.HostPort == "":
		return checkResult{name, checkProblem, "postgres_url is set and temporal_address is not", "set both or neither"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := dialTemporal(ctx, o, a.logger(io.Discard))
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	// A server that answers may still lack our namespace, or refuse us.
	namespace := &workflowservice.DescribeNamespaceRequest{Namespace: o.Namespace}
	if _, err := c.WorkflowService().DescribeNamespace(ctx, namespace); err != nil {
		detail := fmt.Sprintf("%s answers, but namespace %s: %v", o.HostPort, o.Namespace, err)
		return checkResult{name, checkProblem, detail, "run trimtab migrate with temporal_address set"}
	}
	how := "in plain text"
	if o.ConnectionOptions.TLS != nil {
		how = "over TLS"
	}
	return checkResult{name, checkOK, fmt.Sprintf("%s %s, namespace %s", o.HostPort, how, o.Namespace), ""}
}

// printDoctor prints two tables, settings and checks. CSV has room for one:
// the checks.
func (a *app) printDoctor(doc doctorDocument) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	checks := list[checkResult]{items: doc.Checks, columns: []column[checkResult]{
		{name: "check", full: func(c checkResult) string { return c.Check }},
		{name: "result", full: func(c checkResult) string { return c.Result }},
		{name: "detail", full: func(c checkResult) string { return c.Detail }},
		{name: "remedy", full: func(c checkResult) string { return c.Remedy }},
	}}
	if a.format == formatCSV {
		return printCSV(a.out, checks)
	}
	settings := list[settingLine]{items: doc.Settings, columns: []column[settingLine]{
		{name: "setting", full: func(s settingLine) string { return s.Key }},
		{name: "value", full: func(s settingLine) string { return s.Value }},
		{name: "from", full: func(s settingLine) string { return s.Origin }},
	}}
	if err := printList(a, settings); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	return printList(a, checks)
}
