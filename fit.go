package trimtab

import (
	"fmt"
	"strings"
)

// Fit counts what happened to the items of one split when a stage put them into
// its model's context. Nothing is cut or left out that it does not count.
type Fit struct {
	// Items says which: text, demonstrations, prompts, tests (held-out prompts),
	// rankings, held_out (rankings).
	Items string `json:"items"`
	Kept  int    `json:"kept"` // items that the stage reads
	// Cut are texts that lose their end, among those kept: demonstrations,
	// responses of rankings, documents that are longer than a row and go over
	// several; of prompts, those whose answers may get fewer than max_tokens.
	Cut int `json:"cut"`
	// LeftOut are items without room: their prompt fills the context, or leaves
	// less than max_tokens. Of text, documents that no full row holds.
	LeftOut int `json:"left_out"`
	// pairs of a ranking, not tied, whose responses are equal as far as the context goes
	Equal int `json:"equal,omitempty"`
}

// fitPrefix is how the names of metrics of a Fit begin.
const fitPrefix = "data/"

// Metrics are the counts as final metrics of the stage: data/ITEMS/kept,
// data/ITEMS/cut, data/ITEMS/left_out, and of rankings data/ITEMS/equal.
func (f Fit) Metrics() []Metric {
	list := []Metric{{f.name("kept"), float64(f.Kept)}, {f.name("cut"), float64(f.Cut)},
		{f.name("left_out"), float64(f.LeftOut)}}
	if f.ranked() {
		list = append(list, Metric{f.name("equal"), float64(f.Equal)})
	}
	return list
}

func (f Fit) name(count string) string { return fitPrefix + f.Items + "/" + count }

func (f Fit) ranked() bool { return f.Items == "rankings" || f.Items == "held_out" }

// IsFit reports whether a metric is a count of a Fit.
func (m Metric) IsFit() bool { return strings.HasPrefix(m.Name, fitPrefix) }

// FitMetrics are the metrics of several counts, in order.
func FitMetrics(fits []Fit) []Metric {
	var list []Metric
	for _, f := range fits {
		list = append(list, f.Metrics()...)
	}
	return list
}

// Fits finds the counts among metrics, in the order in which they stand there.
// Stages of older programs have none.
func Fits(metrics []Metric) []Fit {
	var fits []Fit
	at := map[string]int{}
	for _, m := range metrics {
		items, count, ok := strings.Cut(strings.TrimPrefix(m.Name, fitPrefix), "/")
		if !m.IsFit() || !ok {
			continue
		}
		i, known := at[items]
		if !known {
			i, at[items] = len(fits), len(fits)
			fits = append(fits, Fit{Items: items})
		}
		f, n := &fits[i], int(m.Value)
		switch count {
		case "kept":
			f.Kept = n
		case "cut":
			f.Cut = n
		case "left_out":
			f.LeftOut = n
		case "equal":
			f.Equal = n
		}
	}
	return fits
}

// Whole reports whether every item is read as it is.
func (f Fit) Whole() bool { return f.Cut == 0 && f.LeftOut == 0 && f.Equal == 0 }

// String is the count in words, for example "318 of 523 rankings read; 205
// left out (the prompt fills the context); 106 responses cut where the context ends".
func (f Fit) String() string {
	w := f.words()
	parts := []string{fmt.Sprintf("%d of %s read", f.Kept, several(f.Kept+f.LeftOut, w.item))}
	if f.LeftOut > 0 {
		parts = append(parts, fmt.Sprintf("%d left out (%s)", f.LeftOut, w.left))
	}
	if f.Cut > 0 {
		parts = append(parts, several(f.Cut, w.cut)+" "+w.how)
	}
	if f.Equal > 0 {
		parts = append(parts, several(f.Equal, "pair")+" equal up to there")
	}
	return strings.Join(parts, "; ")
}

// fitWords are what an item is called, why it is left out, and what is cut and how.
type fitWords struct{ item, left, cut, how string }

func (f Fit) words() fitWords {
	const fills, ends = "the prompt fills the context", "cut where the context ends"
	switch f.Items {
	case "text":
		return fitWords{"document", "no full row holds it", "document", "longer than a row, laid over several"}
	case "demonstrations":
		return fitWords{"demonstration", fills, "demonstration", ends}
	case "rankings":
		return fitWords{"ranking", fills, "response", ends}
	case "held_out":
		return fitWords{"held-out ranking", fills, "response", ends}
	case "prompts":
		return fitWords{"prompt", "too little room for an answer", "prompt", "with room for less than max_tokens"}
	case "tests":
		return fitWords{"held-out prompt", "too little room for an answer", "held-out prompt",
			"with room for less than max_tokens"}
	}
	return fitWords{"item of " + f.Items, "no room", "item", "cut"}
}

// several is a count with its noun.
func several(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	first, rest, of := strings.Cut(noun, " of ")
	if of {
		rest = " of " + rest
	}
	return fmt.Sprintf("%d %ss%s", n, first, rest)
}
