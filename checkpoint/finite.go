package checkpoint

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// checkFinite refuses arrays that hold NaN or an infinity, naming the first such
// element. Nothing that has diverged is stored, so every state and model of a
// store can be trained on. Error: not_a_number.
func checkFinite(arrays []tensor.NamedArray) error {
	for _, a := range arrays {
		for i, v := range a.Data {
			if v-v != 0 { // true for NaN and ±Inf alone
				return trimtab.NewError(trimtab.Invalid, "not_a_number",
					"lower the learning rate, or begin again from an earlier checkpoint",
					"array %s, element %d is %v", a.Name, i, v)
			}
		}
	}
	return nil
}
