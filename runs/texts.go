package runs

import "github.com/trimtab/trimtab"

// requestTexts are texts of a request that go into the record as they are.
type requestTexts struct {
	name, reason, actor string
	sets                []string
}

// check refuses what cannot be recorded and shown as it was written, whichever face took it in.
func (w requestTexts) check() error {
	refused := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return trimtab.NewError(trimtab.Usage, "bad_text", "give one line of UTF-8 text that is no longer than that",
			"the %s cannot be taken: %w", what, err)
	}
	if err := refused("name", trimtab.CheckName(w.name)); err != nil {
		return err
	}
	if err := refused("actor's name", trimtab.CheckName(w.actor)); err != nil {
		return err
	}
	if err := refused("reason", trimtab.CheckText(w.reason, trimtab.MostReason)); err != nil {
		return err
	}
	for _, set := range w.sets {
		if err := refused("setting", trimtab.CheckText(set, trimtab.MostSetting)); err != nil {
			return err
		}
	}
	return nil
}
