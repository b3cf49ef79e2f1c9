package runs

import "github.com/trimtab/trimtab"

// requestTexts are the free texts of a request that are recorded as they were
// given. An empty text is valid.
type requestTexts struct {
	name, reason, actor string
	// --set arguments, each PATH=VALUE
	sets []string
}

// check rejects a text that cannot be recorded and shown again unchanged, such
// as one with control characters or an over-long one, as Usage "bad_text".
// Every request is checked here, so that it does not depend on the front end.
func (w requestTexts) check() error {
	reject := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return trimtab.NewError(trimtab.Usage, "bad_text", "give one line of UTF-8 text within the limit",
			"the %s cannot be recorded: %w", what, err)
	}
	if err := reject("name", trimtab.CheckName(w.name)); err != nil {
		return err
	}
	// An actor is shown beside every event, so the rules for names apply.
	if err := reject("actor's name", trimtab.CheckName(w.actor)); err != nil {
		return err
	}
	if err := reject("reason", trimtab.CheckText(w.reason, trimtab.MostReason)); err != nil {
		return err
	}
	for _, set := range w.sets {
		if err := reject("setting", trimtab.CheckText(set, trimtab.MostSetting)); err != nil {
			return err
		}
	}
	return nil
}
