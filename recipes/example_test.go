package recipes_test

import (
	"fmt"

	"github.com/trimtab/trimtab/recipes"
)

// A shipped recipe is loaded at a size, with overrides in the form of --set.
// Every default is filled in, and an unknown key is an error with a hint.
func ExampleLoad() {
	spec, err := recipes.Load(recipes.Default, "smallest", []string{"ppo.kl_coef=0.05", "seed=7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ppo, _ := spec.Stage("ppo")
	fmt.Println(spec.Seed, spec.Model.Width, ppo.Config.(*recipes.PPO).KLCoef)

	_, err = recipes.Load(recipes.Default, "smallest", []string{"ppo.inner_epochs=1"})
	fmt.Println(err)
	// Output:
	// 7 32 0.05
	// --set ppo.inner_epochs=1: ppo.inner_epochs is now called ppo.num_ppo_epochs: write ppo.num_ppo_epochs instead; docs/recipes.md has the table of old and new names
}
