package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
)

func (a *app) recipesCmd() *cobra.Command {
	return &cobra.Command{
		Use: "recipes [NAME]", Short: "the run specs that ship with the program", Args: takes(0, 1),
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
	if a.documents() {
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
		Use: "plan", Short: "what a run would cost: parameters, FLOPs, memory, disk, time on this machine", Args: takes(0, 0),
		Example: "  trimtab plan\n  trimtab plan --size 175b\n  trimtab plan -f my-run.yaml --resolved   # the spec with every default filled in",
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
			if spec.Model.Base == "" {
				return a.printCost(recipes.Estimate(spec, nil), spec)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				cost, err := estimate(ctx, s, spec)
				if err != nil {
					return err
				}
				return a.printCost(cost, spec)
			})
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&asYAML, "resolved", false, "print the spec with every default filled in, and stop")
	return cmd
}

// planDocument is what a run would cost.
type planDocument struct {
	Schema     string      `json:"schema"`
	Name       string      `json:"name"`
	Seed       uint64      `json:"seed"`
	Numerics   string      `json:"numerics"`
	Parameters int64       `json:"parameters"`
	FLOPs      float64     `json:"flops"`
	Memory     int64       `json:"memory_bytes"`
	Disk       int64       `json:"disk_bytes"`
	Speed      float64     `json:"flops_per_second"`
	Seconds    float64     `json:"seconds"`
	Stages     []planStage `json:"stages"`
}

type planStage struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Steps   int     `json:"steps"`
	Tokens  int64   `json:"tokens"`
	FLOPs   float64 `json:"flops"`
	Memory  int64   `json:"memory_bytes"`
	Disk    int64   `json:"disk_bytes"`
	Seconds float64 `json:"seconds"`
}

// estimate costs a spec; one that starts from a stored model takes that model's shape.
func estimate(ctx context.Context, s *session, spec recipes.Spec) (recipes.Cost, error) {
	if spec.Model.Base == "" {
		return recipes.Estimate(spec, nil), nil
	}
	if info, err := os.Stat(spec.Model.Base); err == nil && info.IsDir() {
		c, err := checkpoint.FolderConfig(spec.Model.Base)
		return recipes.Estimate(spec, &c), err
	}
	_, m, _, err := loadModel(ctx, s, spec.Model.Base)
	if err != nil {
		return recipes.Cost{}, err
	}
	return recipes.Estimate(spec, &m.Config), nil
}

// costOf turns an estimate into a document; speed is in FLOP/s.
func costOf(cost recipes.Cost, spec recipes.Spec, speed float64) planDocument {
	doc := planDocument{
		Schema: "trimtab.plan/v1", Name: spec.Name, Seed: spec.Seed, Numerics: string(spec.Numerics), Parameters: cost.Parameters,
		FLOPs: cost.FLOPs, Memory: cost.Memory, Disk: cost.Disk, Speed: speed, Seconds: cost.FLOPs / speed,
	}
	for _, st := range cost.Stages {
		doc.Stages = append(doc.Stages, planStage{st.Name, st.Kind, st.Steps, st.Tokens, st.FLOPs, st.Memory, st.Disk, st.FLOPs / speed})
	}
	return doc
}

var planColumns = []column[planStage]{
	{name: "stage", full: func(s planStage) string { return s.Name }},
	{name: "steps", full: func(s planStage) string { return fmt.Sprint(s.Steps) }, short: func(s planStage) string { return counted(s, fmt.Sprint(s.Steps)) }, right: true},
	{name: "tokens", full: func(s planStage) string { return fmt.Sprint(s.Tokens) }, short: func(s planStage) string { return counted(s, count(float64(s.Tokens))) }, right: true},
	{name: "flops", full: func(s planStage) string { return exact(s.FLOPs) }, short: func(s planStage) string { return counted(s, count(s.FLOPs)) }, right: true},
	{name: "memory_bytes", full: func(s planStage) string { return fmt.Sprint(s.Memory) }, only: formatCSV},
	{name: "memory", full: func(s planStage) string { return bytesOf(s.Memory) }, only: formatTable, right: true},
	{name: "disk_bytes", full: func(s planStage) string { return fmt.Sprint(s.Disk) }, only: formatCSV},
	{name: "disk", full: func(s planStage) string { return bytesOf(s.Disk) }, only: formatTable, right: true},
	{name: "seconds", full: func(s planStage) string { return exact(s.Seconds) }, short: func(s planStage) string { return counted(s, longTime(s.Seconds)) }, right: true},
}

// counted is the text, or ? for a stage whose length depends on data that has not been read.
func counted(s planStage, text string) string {
	if s.FLOPs == 0 {
		return "?"
	}
	return text
}

func (a *app) printCost(cost recipes.Cost, spec recipes.Spec) error {
	speeds := measureSpeeds()
	doc := costOf(cost, spec, speeds.of(string(spec.Numerics)))
	if a.documents() {
		return a.printDocument(doc)
	}
	if err := printList(a, list[planStage]{items: doc.Stages, columns: planColumns, empty: "no stages"}); err != nil || a.format == formatCSV {
		return err
	}
	fmt.Fprintf(a.out, "\n%s parameters, %s, %s of memory at the most, %s on disk, numerics %s\n",
		count(float64(doc.Parameters)), flops(doc.FLOPs), bytesOf(doc.Memory), bytesOf(doc.Disk), doc.Numerics)
	fmt.Fprintf(a.out, "about %s at this machine's %s/s (%s kernels, measured just now on matrix products;\nattention, sampling and saving take longer than their share)\n",
		longTime(doc.Seconds), strings.TrimSuffix(flops(doc.Speed), "s"), tensor.Implementation())
	fmt.Fprintln(a.out, speeds.sentence())
	if slices.ContainsFunc(doc.Stages, func(s planStage) bool { return s.FLOPs == 0 }) {
		fmt.Fprintln(a.out, "?: as long as its data, which a plan does not read; not counted above")
	}
	return nil
}

// printPlan is the head of align: what will be done, in what order.
func (a *app) printPlan(cost recipes.Cost, run storage.Run) error {
	fmt.Fprintf(a.out, "run %s  %s  seed %d  numerics %s  %s parameters  spec %s\n", shortID(run.ID), clean(run.Name), run.Seed, run.Plan.Numerics,
		count(float64(cost.Parameters)), run.SpecDigest.Short())
	for i, st := range cost.Stages {
		if st.FLOPs == 0 {
			fmt.Fprintf(a.out, "  %d %-10s %16s\n", i+1, clean(st.Name), "as the data has")
			continue
		}
		fmt.Fprintf(a.out, "  %d %-10s %10d steps  %8s tokens  %14s\n", i+1, clean(st.Name), st.Steps, count(float64(st.Tokens)), flops(st.FLOPs))
	}
	_, err := fmt.Fprintln(a.out)
	return err
}

// flops prints a number of floating-point operations for people.
func flops(n float64) string {
	if n < 1000 {
		return count(n) + " FLOPs"
	}
	return count(n) + "FLOPs" // the prefix stands with its unit
}

// bytesOf prints a number of bytes for people.
func bytesOf(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.3g %s", v, units[i])
}

// longTime is seconds for times that may be centuries.
func longTime(s float64) string {
	const day, year = 86400, 365.25 * 86400
	switch {
	case s < 100*3600:
		return seconds(s)
	case s < 2*year:
		return fmt.Sprintf("%.0f days", s/day)
	}
	return fmt.Sprintf("%s years", strings.TrimSpace(count(s/year)))
}
