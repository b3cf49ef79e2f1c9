package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/tensor"
)

func (a *app) recipesCmd() *cobra.Command {
	return &cobra.Command{
		Use: "recipes [NAME]", Short: "the run specs that ship with the program", Args: argCount(0, 1),
		Example: "  trimtab recipes\n  trimtab recipes instructgpt > my-run.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.printRecipe(args[0])
			}
			return a.listRecipes()
		},
		ValidArgsFunction: cobra.FixedCompletions(recipes.Names(), cobra.ShellCompDirectiveNoFileComp),
	}
}

type recipe struct {
	Name  string   `json:"name"`
	About string   `json:"about"`
	Sizes []string `json:"sizes"`
}

func (a *app) listRecipes() error {
	var items []recipe
	for _, name := range recipes.Names() {
		about, err := recipes.About(name)
		if err != nil {
			return err
		}
		sizes, err := recipes.Sizes(name)
		if err != nil {
			return err
		}
		items = append(items, recipe{name, about, sizes})
	}
	return printList(a, list[recipe]{
		schema: "trimtab.recipes/v1", key: "recipes", items: items, empty: "no recipes",
		columns: []column[recipe]{
			{name: "name", full: func(r recipe) string { return r.Name }},
			{name: "sizes", full: func(r recipe) string { return strings.Join(r.Sizes, " ") }},
			{name: "about", full: func(r recipe) string { return r.About }},
		},
	})
}

// printRecipe prints a recipe as it ships, or resolved as a document.
func (a *app) printRecipe(name string) error {
	if a.wantsJSON() {
		spec, err := recipes.Load(name, recipes.DefaultSize, nil)
		if err != nil {
			return err
		}
		return a.printDocument(spec)
	}
	text, err := recipes.Source(name)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

func (a *app) planCmd() *cobra.Command {
	var o specFlags
	var asYAML bool
	cmd := &cobra.Command{
		Use: "plan", Short: "what a run would cost: parameters, FLOPs, memory, disk, time on this machine",
		Args: argCount(0, 0),
		Long: `Say what a run of a spec would read and cost, without launching it. Data that the
spec names is counted where the record is there: what does not fit into the model's
context is told. What depends on data that is not there yet is unknown.`,
		Example: "  trimtab plan\n  trimtab plan --size 175b\n  trimtab plan -f my-run.yaml --resolved   # the spec " +
			"with every default filled in",
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := o.read(a)
			if err != nil {
				return err
			}
			if asYAML {
				text, err := spec.YAML()
				if err == nil {
					_, err = a.out.Write(text)
				}
				return err
			}
			if runs.NeedsDatabase(spec) && a.hasDatabase() {
				return a.withStore(cmd, func(ctx context.Context,
					s *session) error {
					return a.plan(ctx, s.runs, spec)
				})
			}
			return a.plan(cmd.Context(), runs.New(slog.New(slog.DiscardHandler), nil, nil, nil), spec)
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&asYAML, "resolved", false, "print the spec with every default filled in, and stop")
	return cmd
}

// hasDatabase reports whether there is a record to look names up in: a configured
// database, or an embedded one that was begun.
func (a *app) hasDatabase() bool {
	if a.settings.value("postgres_url") != "" || a.settings.value("temporal_address") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(a.settings.value("data"), "postgres"))
	return err == nil
}

// plan prints what a run would cost; s may be without a record.
func (a *app) plan(ctx context.Context, s *runs.Service, spec recipes.Spec) error {
	known, notes, err := s.Preview(ctx, spec)
	if err != nil {
		return err
	}
	return a.printCost(recipes.Estimate(spec, known), known, notes, spec)
}

// planDocument is what a run would cost. What is unknown is null.
type planDocument struct {
	Schema     string      `json:"schema"`
	Name       string      `json:"name"`
	Seed       uint64      `json:"seed"`
	Numerics   string      `json:"numerics"`
	Parameters int64       `json:"parameters"`
	FLOPs      *float64    `json:"flops"`
	Memory     int64       `json:"memory_bytes"`
	Disk       int64       `json:"disk_bytes"`
	Speed      float64     `json:"flops_per_second"`
	Seconds    *float64    `json:"seconds"`
	Stages     []planStage `json:"stages"`
	Notes      []string    `json:"notes,omitempty"`
}

type planStage struct {
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	Steps   *int          `json:"steps"`
	Tokens  *int64        `json:"tokens"`
	FLOPs   *float64      `json:"flops"`
	Memory  int64         `json:"memory_bytes"`
	Disk    int64         `json:"disk_bytes"`
	Seconds *float64      `json:"seconds"`
	Data    []trimtab.Fit `json:"data,omitempty"` // what of its data the stage would read
}

// costOf turns an estimate into a document.
func costOf(cost recipes.Cost, known recipes.Known, spec recipes.Spec, p *speedEstimator) planDocument {
	doc := planDocument{
		Schema: "trimtab.plan/v1", Name: spec.Name, Seed: spec.Seed, Numerics: string(spec.Numerics),
		Parameters: cost.Parameters,
		Memory:     cost.Memory, Disk: cost.Disk, Speed: p.matMulFLOPS,
	}
	flops, total, whole := 0., 0., true
	for i, st := range cost.Stages {
		ps := planStage{Name: st.Name, Kind: st.Kind, Steps: st.Steps, Memory: st.Memory, Disk: st.Disk}
		if st.Work.Known {
			tokens, seconds := int64(st.Work.Tokens()), p.seconds(st)
			ps.Tokens, ps.FLOPs, ps.Seconds = &tokens, &st.FLOPs, &seconds
			flops, total = flops+st.FLOPs, total+seconds
		}
		whole = whole && st.Work.Known
		if i < len(known) {
			ps.Data = known[i].Counts(st.Kind)
		}
		doc.Stages = append(doc.Stages, ps)
	}
	if whole {
		doc.FLOPs, doc.Seconds = &flops, &total
	}
	return doc
}

var planColumns = []column[planStage]{
	{name: "stage", full: func(s planStage) string { return s.Name }},
	{name: "steps", full: func(s planStage) string { return ifKnown(s.Steps, strconv.Itoa) },
		short: func(s planStage) string { return orUnknown(s.Steps, strconv.Itoa) }, right: true},
	{name: "tokens", full: func(s planStage) string { return ifKnown(s.Tokens, digits) },
		short: func(s planStage) string {
			return orUnknown(s.Tokens, func(n int64) string { return formatCount(float64(n)) })
		}, right: true},
	{name: "flops", full: func(s planStage) string { return ifKnown(s.FLOPs, formatExact) },
		short: func(s planStage) string { return orUnknown(s.FLOPs, formatCount) }, right: true},
	{name: "memory_bytes", full: func(s planStage) string { return fmt.Sprint(s.Memory) }, only: formatCSV},
	{name: "memory", full: func(s planStage) string { return formatBytes(s.Memory) }, only: formatTable, right: true},
	{name: "disk_bytes", full: func(s planStage) string { return fmt.Sprint(s.Disk) }, only: formatCSV},
	{name: "disk", full: func(s planStage) string { return formatBytes(s.Disk) }, only: formatTable, right: true},
	{name: "seconds", full: func(s planStage) string { return ifKnown(s.Seconds, formatExact) },
		short: func(s planStage) string { return orUnknown(s.Seconds, formatLongTime) }, right: true},
}

func digits(n int64) string { return strconv.FormatInt(n, 10) }

// ifKnown prints a number, or nothing.
func ifKnown[T any](v *T, print func(T) string) string {
	if v == nil {
		return ""
	}
	return print(*v)
}

// orUnknown prints a number, or that it is not known.
func orUnknown[T any](v *T, print func(T) string) string {
	if v == nil {
		return "unknown"
	}
	return print(*v)
}

func (a *app) printCost(cost recipes.Cost, known recipes.Known, notes []string, spec recipes.Spec) error {
	p := newSpeedEstimator(spec.Numerics)
	defer p.close()
	doc := costOf(cost, known, spec, p)
	doc.Notes = notes
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if err := printList(a, list[planStage]{items: doc.Stages, columns: planColumns, empty: "no stages"}); err != nil ||
		a.format == formatCSV {
		return err
	}
	a.printCostSums(doc)
	fmt.Fprintln(a.out, p.speeds.sentence())
	a.printKnown(known, spec)
	for _, note := range notes {
		fmt.Fprintln(a.out, escapeLine(note))
	}
	return nil
}

// printCostSums prints what the whole run takes.
func (a *app) printCostSums(doc planDocument) {
	work, unknown := sumCost(doc)
	fmt.Fprintf(a.out, "\n%s parameters, %s, %s of memory at the most, %s on disk, numerics %s\n",
		formatCount(float64(doc.Parameters)), formatFLOPs(work.flops), formatBytes(doc.Memory), formatBytes(doc.Disk),
		doc.Numerics)
	fmt.Fprintf(a.out,
		"about %s on this machine as it is now, as short trials of the work say (%sFLOP/s in matrix products, %s "+
			"kernels)\n",
		formatLongTime(work.seconds), formatCount(doc.Speed), tensor.Implementation())
	if len(unknown) > 0 {
		fmt.Fprintf(a.out, "not counted: %s, which the spec's data decides\n", escapeLine(strings.Join(unknown, ", ")))
	}
}

// loop is FLOPs and the seconds they take.
type costSum struct{ flops, seconds float64 }

// sumCost sums what is known, and names the stages that are not.
func sumCost(doc planDocument) (sum costSum, unknown []string) {
	for _, st := range doc.Stages {
		if st.Seconds == nil {
			unknown = append(unknown, st.Name)
			continue
		}
		sum.flops += *st.FLOPs
		sum.seconds += *st.Seconds
	}
	return sum, unknown
}

// printKnown says what of the stages' data does not fit.
func (a *app) printKnown(known recipes.Known, spec recipes.Spec) {
	for i, k := range known {
		st := spec.Stages[i]
		for _, f := range k.Counts(st.Kind) {
			about := ""
			if !k.Exact(f.Items) {
				about = "about "
			}
			if !f.Whole() && f.Items != "text" {
				fmt.Fprintln(a.out, escapeLine(fmt.Sprintf("data of %s: %s%s", st.Name, about, f)))
			}
		}
	}
}

// printPlan is the head of align: what will be done, in what order.
func (a *app) printPlan(l runs.LaunchResult, spec recipes.Spec) error {
	run, cost := l.Run, recipes.Estimate(spec, l.Known)
	fmt.Fprintf(a.out, "run %s  %s  seed %d  numerics %s  %s parameters  spec %s\n", shortID(run.ID),
		escapeLine(run.Name), run.Seed, run.Plan.Numerics,
		formatCount(float64(cost.Parameters)), run.SpecDigest.Short())
	for i, st := range cost.Stages {
		if !st.Work.Known {
			fmt.Fprintf(a.out, "  %d %-10s %16s\n", i+1, escapeLine(st.Name), "as the data has")
			continue
		}
		fmt.Fprintf(a.out, "  %d %-10s %10d steps  %8s tokens  %14s\n", i+1, escapeLine(st.Name), *st.Steps,
			formatCount(st.Work.Tokens()), formatFLOPs(st.FLOPs))
	}
	a.printKnown(l.Known, spec)
	_, err := fmt.Fprintln(a.out)
	return err
}

// formatFLOPs prints a number of floating-point operations for people.
func formatFLOPs(n float64) string {
	if n < 1000 {
		return formatCount(n) + " FLOPs"
	}
	return formatCount(n) + "FLOPs" // the prefix stands with its unit
}

// formatBytes prints a number of bytes for people.
func formatBytes(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.3g %s", v, units[i])
}

// formatLongTime is seconds for times that may be centuries.
func formatLongTime(s float64) string {
	const day, year = 86400, 365.25 * 86400
	switch {
	case s < 100*3600:
		return formatSeconds(s)
	case s < 2*year:
		return fmt.Sprintf("%.0f days", s/day)
	}
	return fmt.Sprintf("%s years", strings.TrimSpace(formatCount(s/year)))
}
