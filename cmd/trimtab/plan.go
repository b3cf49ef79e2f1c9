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

// planCmd is "trimtab plan": the cost of a run before it is launched.
func (a *app) planCmd() *cobra.Command {
	var o specFlags
	var asYAML bool
	cmd := &cobra.Command{
		Use: "plan", Short: "estimate what a run would cost: FLOPs, memory, disk, time on this machine",
		Args: argCount(0, 0),
		Long: `Estimate what a run of a spec would read and cost, without launching it. Datasets that the
spec names are counted if a database is available, and items that do not fit the model's
context are reported. What depends on data that does not exist yet is unknown.`,
		Example: `  trimtab plan
  trimtab plan --size 175b
  trimtab plan -f my-run.yaml --resolved   # the spec with every default filled in`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := o.read(a)
			if err != nil {
				return err
			}
			// The resolved spec needs neither data nor a database.
			if asYAML {
				text, err := spec.YAML()
				if err == nil {
					_, err = a.out.Write(text)
				}
				return err
			}
			if runs.NeedsDatabase(spec) && a.hasDatabase() {
				return a.withStore(cmd, func(ctx context.Context, s *session) error {
					return a.plan(ctx, s.runs, spec)
				})
			}
			// A service without a database, which can still estimate what
			// needs no data.
			return a.plan(cmd.Context(), runs.New(slog.New(slog.DiscardHandler), nil, nil, nil), spec)
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&asYAML, "resolved", false, "print the spec with every default filled in, and stop")
	return cmd
}

// hasDatabase reports whether there is a database to look datasets up in: a
// configured one, or an embedded one that was created before. plan does not
// start servers merely to find an empty database.
func (a *app) hasDatabase() bool {
	if a.settings.value("postgres_url") != "" || a.settings.value("temporal_address") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(a.settings.value("data"), "postgres"))
	return err == nil
}

// plan prints what a run would cost. s may be a service without a database.
func (a *app) plan(ctx context.Context, s *runs.Service, spec recipes.Spec) error {
	known, notes, err := s.Preview(ctx, spec)
	if err != nil {
		return err
	}
	return a.printCost(recipes.Estimate(spec, known), known, notes, spec)
}

// planDocument is what a run would cost. Unknown values are null; totals are
// null if any stage's are.
type planDocument struct {
	Schema string `json:"schema"`
	// Name is the name that a run of the spec would have.
	Name string `json:"name"`
	Seed uint64 `json:"seed"`
	// Numerics is the contract that the run would compute under.
	Numerics string `json:"numerics"`
	// Parameters counts the weights of one language model.
	Parameters int64 `json:"parameters"`
	// FLOPs counts a multiply-add as two operations.
	FLOPs *float64 `json:"flops"`
	// Memory is the peak of the worker's resident memory, and Disk the most
	// that the run adds to the store.
	Memory int64 `json:"memory_bytes"`
	Disk   int64 `json:"disk_bytes"`
	// Speed is the measured matrix-product throughput in FLOP/s.
	Speed float64 `json:"flops_per_second"`
	// Seconds is the estimated time of all stages together.
	Seconds *float64    `json:"seconds"`
	Stages  []planStage `json:"stages"`
	// Notes are reasons why the run could not be launched on this machine.
	Notes []string `json:"notes,omitempty"`
}

// planStage is the cost of one stage.
type planStage struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Steps is the number of optimizer steps.
	Steps *int `json:"steps"`
	// Tokens counts trained, scored and sampled tokens.
	Tokens *int64 `json:"tokens"`
	// FLOPs, like Steps and Tokens, is null where it depends on data that is
	// not there yet.
	FLOPs *float64 `json:"flops"`
	// Memory and Disk are in bytes.
	Memory  int64    `json:"memory_bytes"`
	Disk    int64    `json:"disk_bytes"`
	Seconds *float64 `json:"seconds"`
	// Data is what of its datasets the stage would read.
	Data []trimtab.Fit `json:"data,omitempty"`
}

// costOf turns an estimate into a document, with the times that p measures.
// Totals are computed here, and are null if a stage's cost is unknown: a sum
// of what happens to be known would look like the whole.
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

// planColumns are the columns of plan; CSV has bytes where people read MB.
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

// printCost prints the table of stages, the totals, the fastest numerics, and
// what does not fit the context. CSV has the table only, whose rows add up to
// the totals.
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
	// The fastest contract here may not be the spec's: choosing another
	// changes the results as well as the time.
	fmt.Fprintln(a.out, p.speeds.sentence())
	a.printKnown(known, spec)
	for _, note := range notes {
		fmt.Fprintln(a.out, escapeLine(note))
	}
	return nil
}

// printCostSums prints the totals over the stages whose cost is known.
func (a *app) printCostSums(doc planDocument) {
	work, unknown := sumCost(doc)
	fmt.Fprintf(a.out, "\n%s parameters, %s, %s of memory at most, %s on disk, numerics %s\n",
		formatCount(float64(doc.Parameters)), formatFLOPs(work.flops), formatBytes(doc.Memory), formatBytes(doc.Disk),
		doc.Numerics)
	fmt.Fprintf(a.out,
		"about %s on this machine under its present load, extrapolated from short trials (matrix products: %sFLOP/s, "+
			"%s kernels)\n",
		formatLongTime(work.seconds), formatCount(doc.Speed), tensor.Implementation())
	if len(unknown) > 0 {
		fmt.Fprintf(a.out, "not counted: %s, whose cost depends on data that is not there yet\n",
			escapeLine(strings.Join(unknown, ", ")))
	}
}

// costSum is a number of FLOPs and the seconds that they take.
type costSum struct{ flops, seconds float64 }

// sumCost adds up what is known, and names the stages of which nothing is.
// The text for people has such a partial sum, since it can say next to it
// what is not counted.
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

// printKnown prints which of the stages' data would be truncated or left out.
// Texts are not mentioned: a document that is longer than the context is
// split over several rows.
func (a *app) printKnown(known recipes.Known, spec recipes.Spec) {
	for i, k := range known {
		st := spec.Stages[i]
		for _, f := range k.Counts(st.Kind) {
			about := ""
			// Counts of data that is generated or collected during the run
			// are estimates.
			if !k.Exact(f.Items) {
				about = "about "
			}
			if !f.Whole() && f.Items != "text" {
				fmt.Fprintln(a.out, escapeLine(fmt.Sprintf("data of %s: %s%s", st.Name, about, f)))
			}
		}
	}
}

// printPlan prints the head of align: the run, and its stages in order with
// their cost.
func (a *app) printPlan(l runs.LaunchResult, spec recipes.Spec) error {
	run, cost := l.Run, recipes.Estimate(spec, l.Known)
	fmt.Fprintf(a.out, "run %s  %s  seed %d  numerics %s  %s parameters  spec %s\n", shortID(run.ID),
		escapeLine(run.Name), run.Seed, run.Plan.Numerics,
		formatCount(float64(cost.Parameters)), run.SpecDigest.Short())
	for i, st := range cost.Stages {
		if !st.Work.Known {
			fmt.Fprintf(a.out, "  %d %-10s %16s\n", i+1, escapeLine(st.Name), "depends on data")
			continue
		}
		fmt.Fprintf(a.out, "  %d %-10s %10d steps  %8s tokens  %14s\n", i+1, escapeLine(st.Name), *st.Steps,
			formatCount(st.Work.Tokens()), formatFLOPs(st.FLOPs))
	}
	a.printKnown(l.Known, spec)
	_, err := fmt.Fprintln(a.out)
	return err
}
