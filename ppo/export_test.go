package ppo

import "github.com/trimtab/trimtab/model"

// ValueModel is a copy of the value model, for the digests of a whole chain.
func (t *Trainer) ValueModel() *model.Model { return t.value.model.Clone() }
