package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trimtab/trimtab/recipes"
)

// What a text names of this program: a command between backquotes, a flag, a setting after --set.
var (
	namedCommand = regexp.MustCompile("`trimtab ([^`]+)`")
	namedFlag    = regexp.MustCompile(`--[a-z][a-z-]+`)
	namedSetting = regexp.MustCompile(`--set ([a-z][a-z_.]*[a-z])=`)
)

// texts are the literal strings of the program's source, tests left out.
func texts(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") ||
			d.Name() == "testdata" || d.Name() == "temporald"):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					found[path] = append(found[path], text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// flagsOf are the flags of a command and those of all.
func flagsOf(c *cobra.Command) map[string]bool {
	flags := map[string]bool{"help": true, "version": true}
	c.InheritedFlags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	c.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	return flags
}

// Every command, flag and setting that a message names is one that there is:
// the command takes as many words as are written, and has those flags.
func TestWhatMessagesNameIsThere(t *testing.T) {
	root := (&app{in: strings.NewReader(""), out: new(bytes.Buffer), err: new(bytes.Buffer)}).root()
	everyFlag := map[string]bool{}
	var collect func(c *cobra.Command)
	collect = func(c *cobra.Command) {
		for name := range flagsOf(c) {
			everyFlag[name] = true
		}
		for line := range strings.Lines(c.Example) {
			if _, line, ok := strings.Cut(line, "trimtab "); ok {
				line, _, _ = strings.Cut(line, " #")
				if wrong := checkCommand(root, strings.TrimSpace(line)); wrong != "" &&
					!strings.ContainsAny(line, "\"'$") {
					t.Errorf("%s: trimtab %s: %s", c.CommandPath(), strings.TrimSpace(line), wrong)
				}
			}
		}
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	commands, settings := 0, 0
	for file, list := range texts(t) {
		for _, text := range list {
			for _, m := range namedCommand.FindAllStringSubmatch(text, -1) {
				commands++
				if wrong := checkCommand(root, m[1]); wrong != "" {
					t.Errorf("%s: `trimtab %s`: %s", file, m[1], wrong)
				}
			}
			for _, m := range namedSetting.FindAllStringSubmatch(text, -1) {
				settings++
				if m[1] != "path" && m[1] != "key" && !isSetting(m[1]) {
					t.Errorf("%s: --set %s=: there is no such setting: %q", file, m[1], text)
				}
			}
			if !speaksOf(file) {
				continue
			}
			for _, flag := range namedFlag.FindAllString(text, -1) {
				if !everyFlag[strings.TrimPrefix(flag, "--")] {
					t.Errorf("%s: %s: no command has it: %q", file, flag, text)
				}
			}
		}
	}
	if commands < 40 || settings < 3 {
		t.Errorf("only %d commands and %d settings were found", commands, settings)
	}
}

// speaksOf reports whether the flags in a file's texts are this program's.
func speaksOf(file string) bool {
	dir := filepath.Base(filepath.Dir(file))
	return slices.Contains([]string{"trimtab", "runs", "recipes", "workflows", "activities", "storage", "dataset"}, dir)
}

// checkCommand says what is wrong with a command line as a message has it.
func checkCommand(root *cobra.Command, line string) string {
	for _, shell := range []string{" > ", " < ", " | "} {
		line, _, _ = strings.Cut(line, shell)
	}
	words := strings.Fields(line)
	cmd, rest, err := root.Find(words)
	if err != nil || cmd == root && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		return "there is no such command"
	}
	flags, args, skip := flagsOf(cmd), 0, false
	for _, w := range rest {
		name, hasValue := strings.CutPrefix(w, "--")
		name, _, given := strings.Cut(name, "=")
		switch {
		case w == "…":
			return "" // what follows is left to the reader
		case hasValue && !flags[name]:
			return "it has no flag --" + name
		case hasValue:
			f := cmd.Flag(name)
			skip = !given && f != nil && f.Value.Type() != "bool"
		case strings.HasPrefix(w, "-") && len(w) == 2:
			f := cmd.Flags().ShorthandLookup(w[1:])
			if f == nil {
				f = cmd.InheritedFlags().ShorthandLookup(w[1:])
			}
			if f == nil {
				return "it has no flag " + w
			}
			skip = f.Value.Type() != "bool"
		case skip:
			skip = false
		default:
			args++
		}
	}
	if args == 0 { // the command as such is named, not a line to type
		return ""
	}
	if err := cmd.Args(cmd, make([]string, args)); err != nil {
		return err.Error()
	}
	return ""
}

// isSetting reports whether the default recipe, or the one that reads files, has the setting.
func isSetting(path string) bool {
	for _, name := range recipes.Names() {
		if recipes.HasSetting(name, path) {
			return true
		}
	}
	return false
}
