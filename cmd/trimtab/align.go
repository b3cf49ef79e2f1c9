package main

import (
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// specFlags are the flags of align and plan that choose a run spec: a file or
// a shipped recipe, and changes to single settings of it.
type specFlags struct {
	// file is a YAML file, and - standard input; empty means recipe.
	file string
	// recipe and size name a shipped spec and its model size.
	recipe, size string
	// seed is the value of --seed, used only if the flag was given.
	seed uint64
	// sets are settings as path=value, applied in this order.
	sets []string
	// cmd is the command that the flags were declared on.
	cmd *cobra.Command
}

// register declares the flags on a command.
func (o *specFlags) register(cmd *cobra.Command) {
	o.cmd = cmd
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "run spec, a YAML file (- is standard input)")
	f.StringVar(&o.recipe, "recipe", recipes.Default, "name of a shipped spec; trimtab recipes lists them")
	f.StringVar(&o.size, "size", recipes.DefaultSize, "model size, one that the recipe offers")
	f.Uint64Var(&o.seed, "seed", 0, "seed of all random draws")
	f.StringArrayVar(&o.sets, "set", nil,
		"change a setting: path=value, for example ppo.total_episodes=8192 (may be repeated)")
}

// read resolves the spec that the flags choose, with every default filled in.
// --seed is the setting seed, and gives way to an explicit --set seed=….
func (o *specFlags) read(a *app) (recipes.Spec, error) {
	sets := o.sets
	if o.cmd.Flags().Changed("seed") {
		sets = append([]string{fmt.Sprintf("seed=%d", o.seed)}, sets...)
	}
	if o.file == "" {
		return recipes.Load(o.recipe, o.size, sets)
	}
	if o.cmd.Flags().Changed("recipe") {
		return recipes.Spec{}, usagef("drop one of them", "-f and --recipe are given together")
	}
	data, err := readFile(a, o.file)
	if err != nil {
		return recipes.Spec{}, err
	}
	return recipes.Read(o.file, data, o.size, sets)
}

// alignFlags are the flags of align.
type alignFlags struct {
	spec specFlags
	// name is the name of the run; empty means the spec's.
	name string
	// resume is the run to attach to, whatever the spec says.
	resume string
	// detach returns after the launch, new allows a second open run of the
	// spec, and reuse takes finished stages from other runs.
	detach, new, reuse bool
}

// alignCmd is "trimtab align": launch a run of a spec, or attach to it, and
// follow it.
func (a *app) alignCmd() *cobra.Command {
	var o alignFlags
	cmd := &cobra.Command{
		Use: "align", Short: "launch a run and follow it to its end", Args: argCount(0, 0),
		Long: `Take a model through the stages of a run spec; by default that is the starter world,
from scratch to an aligned model. If a run of the same spec is still open, attach to
it instead of starting another, unless --name asks for a run of a different name. A
name that is in use by an open run of a different spec is refused. Ctrl-C detaches;
the run continues.`,
		Example: `  trimtab align
  trimtab align --seed 7 --set ppo.kl_coef=0.05 --name more-drift
  trimtab align -f my-run.yaml --detach
  trimtab align -o json > run.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			// Everything about the spec is checked before servers are
			// started.
			spec, err := o.spec.read(a)
			if err == nil {
				err = spec.CheckNames()
			}
			if err != nil {
				return err
			}
			return a.withService(cmd, func(ctx context.Context, s *session) error { return a.align(ctx, s, spec, o) })
		},
	}
	f := cmd.Flags()
	o.spec.register(cmd)
	f.StringVar(&o.name, "name", "", "name of the run (default: the spec's name)")
	f.BoolVar(&o.detach, "detach", false, "return as soon as the run is launched")
	f.BoolVar(&o.new, "new", false, "start another run even if one of this spec is still open")
	f.StringVar(&o.resume, "resume", "", "attach to this run")
	f.BoolVar(&o.reuse, "reuse", false, "reuse completed stages of other runs where nothing changed")
	return cmd
}

// check rejects flags that contradict one another. A slash is not allowed in
// a run's name because RUN/STAGE names a model.
func (o *alignFlags) check() error {
	switch {
	case strings.Contains(o.name, "/"):
		return usagef("choose a name without a slash", "--name is %q: RUN/STAGE is how models are named", o.name)
	case o.resume != "" && o.name != "":
		return usagef("drop one of them: a run keeps the name that it was launched with",
			"--resume and --name are given together")
	case o.resume != "" && o.new:
		return usagef("drop one of them", "--resume attaches to a run, and --new starts another")
	}
	return nil
}

// align launches the run and follows it, or with --detach prints how to
// follow it. Until Launch returns, Ctrl-C kills the command as usual; from
// then on it only stops following.
func (a *app) align(ctx context.Context, s *session, spec recipes.Spec, o alignFlags) error {
	launched, err := s.runs.Launch(ctx, runs.LaunchRequest{
		Spec: spec, Name: o.name, Actor: a.actor(), New: o.new, Resume: o.resume, Reuse: o.reuse, Log: a.note,
		LocalWorker: s.embedded,
	})
	if err != nil {
		return err
	}
	following, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	id := launched.Run.ID
	if launched.Attached {
		a.note("attached to run %s (%s), which is still open; --new starts another", shortID(id), launched.Run.Name)
	}
	// Reward stages without held-out rankings: their accuracy cannot be
	// measured.
	for _, u := range launched.Unmeasured {
		a.note("%s", u)
	}
	if !o.detach {
		if a.format == formatTable {
			if err := a.printPlan(launched, spec); err != nil {
				return err
			}
		}
		return a.follow(following, s, id)
	}
	doc, err := s.runs.Show(ctx, id)
	if err != nil {
		return err
	}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	fmt.Fprintln(a.out, escapeLine(fmt.Sprintf("run %s (%s) is %s", id, doc.Name, doc.Status)))
	a.printFollowHints(id)
	return nil
}

// printFollowHints notes how to follow and how to cancel a run that continues
// without this process.
func (a *app) printFollowHints(id string) {
	a.note("to follow it: trimtab watch %s", shortID(id))
	a.note("to cancel it: trimtab cancel %s --reason …", shortID(id))
}
