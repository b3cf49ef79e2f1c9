package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// specFlags are the flags that choose a run spec.
type specFlags struct {
	file, recipe, size string
	seed               uint64
	sets               []string
	cmd                *cobra.Command
}

func (o *specFlags) register(cmd *cobra.Command) {
	o.cmd = cmd
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "run spec, a YAML file (- is standard input)")
	f.StringVar(&o.recipe, "recipe", recipes.Default, "a spec that ships with the program; trimtab recipes lists them")
	f.StringVar(&o.size, "size", recipes.DefaultSize, "a size of that recipe")
	f.Uint64Var(&o.seed, "seed", 0, "seed of every random draw")
	f.StringArrayVar(&o.sets, "set", nil,
		"change one setting: path=value, for example ppo.episodes=8192 (may be repeated)")
}

// read resolves the spec that the flags choose.
func (o *specFlags) read(a *app) (recipes.Spec, error) {
	sets := o.sets
	if o.cmd.Flags().Changed("seed") {
		sets = append([]string{fmt.Sprintf("seed=%d", o.seed)}, sets...)
	}
	if o.file == "" {
		return recipes.Load(o.recipe, o.size, sets)
	}
	if o.cmd.Flags().Changed("recipe") {
		return recipes.Spec{}, usagef("leave one out", "-f and --recipe are given together")
	}
	data, err := readFile(a, o.file)
	if err != nil {
		return recipes.Spec{}, err
	}
	return recipes.Read(o.file, data, o.size, sets)
}

// alignFlags are those of align beside the spec's.
type alignFlags struct {
	spec               specFlags
	name, resume       string
	detach, new, reuse bool
}

func (a *app) alignCmd() *cobra.Command {
	var o alignFlags
	cmd := &cobra.Command{
		Use: "align", Short: "launch a run and follow it to its end", Args: argCount(0, 0),
		Long: `Take a model through the stages of a run spec: by default the starter world, from
nothing to an aligned model. With the spec of a run that has not ended, attach to
that run, unless another name is asked for: a run of another name is another run.
A name that an open run of another spec has is refused. Ctrl-C detaches; the run
goes on.`,
		Example: `  trimtab align
  trimtab align --seed 7 --set ppo.kl_coef=0.05 --name more-drift
  trimtab align -f my-run.yaml --detach
  trimtab align -o json > run.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
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
	f.StringVar(&o.name, "name", "", "name of the run (default: the spec's)")
	f.BoolVar(&o.detach, "detach", false, "return when the run is launched")
	f.BoolVar(&o.new, "new", false, "start another run even if one of this spec has not ended")
	f.StringVar(&o.resume, "resume", "", "attach to this run")
	f.BoolVar(&o.reuse, "reuse", false, "take completed stages from other runs where nothing changed")
	return cmd
}

// check refuses flags that contradict one another.
func (o *alignFlags) check() error {
	switch {
	case strings.Contains(o.name, "/"): // RUN/STAGE names a model
		return usagef("choose a name without it", "--name %s has a slash", o.name)
	case o.resume != "" && o.name != "":
		return usagef("leave one out: a run keeps the name that it was launched with",
			"--resume and --name are given together")
	case o.resume != "" && o.new:
		return usagef("leave one out", "--resume attaches to a run and --new starts another")
	}
	return nil
}

func (a *app) align(ctx context.Context, s *session, spec recipes.Spec, o alignFlags) error {
	launched, err := s.runs.Launch(ctx, runs.LaunchRequest{
		Spec: spec, Name: o.name, Actor: a.actor(), New: o.new, Resume: o.resume, Reuse: o.reuse, Log: a.note,
		LocalWorker: s.embedded,
	})
	if err != nil {
		return err
	}
	following, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM) // from here on Ctrl-C detaches
	defer stop()
	id := launched.Run.ID
	if launched.Attached {
		a.note("attached to run %s (%s), which has not ended; --new starts another", shortID(id), launched.Run.Name)
	}
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

// printFollowHints says how to follow and how to end a run that goes on by itself.
func (a *app) printFollowHints(id string) {
	a.note("follow it: trimtab watch %s", shortID(id))
	a.note("cancel it: trimtab cancel %s --reason …", shortID(id))
}

// maxInput bounds what is read of a spec, or of a text on standard input, bytes.
const maxInput = recipes.MaxSpec

// readFile reads a spec that the user named; - is standard input.
func readFile(a *app, name string) ([]byte, error) {
	if name == "-" {
		return readAll(a.in, "standard input")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError(name, err)
	}
	defer f.Close()
	return readAll(f, name)
}

// readAll reads to the end, and refuses what is longer than maxInput.
func readAll(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = usagef("give a shorter one", "%s has more than %d MiB", name, maxInput>>20)
	}
	return data, fileError(name, err)
}

// fileError gives an error of opening or reading a user's file its exit code.
func fileError(name string, err error) error {
	var known *trimtab.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return trimtab.NewError(trimtab.NotFound, "file_not_found", "check the path", "%s: no such file", name)
	}
	return trimtab.NewError(trimtab.Invalid, "file_unreadable", "check that it is a file that you may read",
		"read %s: %w", name, err)
}
