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

// Outcomes of a check.
const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkProblem = "problem"
)

// minFreeDisk is the free space under which doctor warns.
const minFreeDisk = 2 << 30

// checkResult is one thing that doctor looked at.
type checkResult struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// settingLine is a setting with where its value came from.
type settingLine struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// doctorDocument is everything doctor found.
type doctorDocument struct {
	Schema   string        `json:"schema"`
	Settings []settingLine `json:"settings"`
	Checks   []checkResult `json:"checks"`
}

func (a *app) doctorCmd() *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use: "doctor", Short: "what is set, from where, and what is wrong with this machine or a run's record",
		Args: argCount(0, 0),
		Long: `Print every setting with where it came from, and check what runs need. Nothing is
started or changed. With --run, check instead that nothing of a run was lost,
doubled or torn: what must hold of its record whatever was killed, and the models
and checkpoints that the record names. Exit code 5 says that something was.`,
		Example: "  trimtab doctor\n  trimtab doctor -o json\n  trimtab doctor --run my-assistant",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("run") {
				return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.doctorRun(ctx, s, run) })
			}
			return a.doctor(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "check the record and the files of this run")
	return cmd
}

// invariant is one thing that must hold of a run, as this program shows it.
type invariant struct {
	Invariant string   `json:"invariant"`
	Must      string   `json:"must"`
	OK        bool     `json:"ok"`
	Broken    int      `json:"broken"`    // how many things break it
	Offenders []string `json:"offenders"` // the first of them
}

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

// doctorRun checks a run's record and files.
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

// checkSchema looks whether tables, functions, triggers, rights and settings are as the migrations make them. It says
// nothing where the database cannot be opened: another check does.
func checkSchema(ctx context.Context, url string) []checkResult {
	const name = "schema"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	store, err := storage.Open(ctx, url)
	if err != nil {
		return nil
	}
	defer store.Close()
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
	const remedy = "`trimtab audit verify` names everything and says whether rows were changed"
	switch {
	case len(problems) > 0:
		return []checkResult{{name, checkProblem,
			fmt.Sprintf("%d things are not as the migrations make them, the first: %s", len(problems), problems[0]),
			remedy}}
	case len(notes) > 0:
		return []checkResult{{name, checkWarning, fmt.Sprintf("%d things are odd and harmless, the first: %s",
			len(notes), notes[0]), remedy}}
	}
	return []checkResult{{name, checkOK, "tables, functions, triggers and rights are as the migrations make them", ""}}
}

// checkFolder looks whether the data folder, or the first parent that exists, can be written.
func (a *app) checkFolder() checkResult {
	if _, err := a.checkDataFolder(); err != nil {
		e := trimtab.AsError(err)
		return checkResult{"data folder", checkProblem, e.Message, e.Remedy}
	}
	dir := nearestExisting(a.settings.value("data"))
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return checkResult{"data folder", checkProblem, fmt.Sprintf("%s: %v", dir, err),
			"choose another with --data-folder or TRIMTAB_DATA"}
	}
	return checkResult{"data folder", checkOK, a.settings.value("data"), ""}
}

func (a *app) checkDisk() checkResult {
	var st unix.Statfs_t
	dir := nearestExisting(a.settings.value("data"))
	if err := unix.Statfs(dir, &st); err != nil {
		return checkResult{"disk", checkWarning, err.Error(), ""}
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	if free < minFreeDisk {
		return checkResult{"disk", checkWarning, formatBytes(free) + " free",
			"a default run wants a few hundred MB: free some, or choose another folder with --data-folder"}
	}
	return checkResult{"disk", checkOK, formatBytes(free) + " free", ""}
}

// nearestExisting is the nearest folder above path that exists.
func nearestExisting(path string) string {
	for {
		if st, err := os.Stat(path); err == nil && st.IsDir() || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// checkEmbedded looks for the programs of the embedded servers without starting them.
func (a *app) checkEmbedded(ctx context.Context) []checkResult {
	var checks []checkResult
	dir, err := a.checkDataFolder()
	if err != nil {
		return nil // which has been told
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

// checkKernels says on which kernels products run, and how fast.
func checkKernels() checkResult {
	if err := tensor.InitError(); err != nil {
		return checkResult{"processor", checkProblem, err.Error(), "set TRIMTAB_KERNELS to one of " +
			strings.Join(tensor.Implementations(), ", ") + ", or unset it"}
	}
	return checkResult{"processor", checkOK, fmt.Sprintf("%d cores, %s kernels; %s", runtime.NumCPU(),
		tensor.Implementation(), measureNumericsSpeeds().sentence()), ""}
}

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
