package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/recipes"
)

// recipesCmd is "trimtab recipes": list the shipped specs, or print one. It
// needs no server and no data folder.
func (a *app) recipesCmd() *cobra.Command {
	return &cobra.Command{
		Use: "recipes [NAME]", Short: "list the shipped run specs, or print one", Args: argCount(0, 1),
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

// recipe is a shipped spec with the sizes that it offers.
type recipe struct {
	Name string `json:"name"`
	// About is one line on what the recipe is for.
	About string `json:"about"`
	// Sizes are the values of --size that it offers.
	Sizes []string `json:"sizes"`
}

// listRecipes lists the shipped specs in alphabetical order, with the sizes
// that --size takes.
func (a *app) listRecipes() error {
	// About is the field of that name in the recipe's file.
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

// printRecipe prints a recipe's YAML as it ships, comments included, so that
// it can be redirected to a file and edited; as a document it is the resolved
// spec of the default size, which is what align would run.
func (a *app) printRecipe(name string) error {
	if a.wantsJSON() {
		// Loading fills in defaults and checks the spec, which the text alone
		// does not show.
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
