package dataset

import (
	"cmp"

	"github.com/trimtab/trimtab"
)

// Label Studio exports JSON tasks (annotatedItems), or tables in which a column
// holds what was selected as a list of one object (selectedColumn). Both are
// projects with a Pairwise tag.

// selectedColumn finds a column with a selection as Label Studio writes it into
// tables; "" if there is none.
func selectedColumn(f fields) string {
	for _, name := range f.names {
		if list, ok := f.byName[name].([]any); ok {
			if m, ok := singleObject(list); ok && m["selected"] != nil {
				return name
			}
		}
	}
	return ""
}

// annotatedItems reads a task of Label Studio: one ranking per annotation of
// the type pairwise, of the two texts in its data.
//
//	{"data": {"prompt": "Q", "answer1": "x", "answer2": "y"},
//	 "annotations": [{"completed_by": 1, "result":
//	   [{"type": "pairwise", "value": {"selected": "left"}}]}]}
func annotatedItems(f, data fields) ([]trimtab.Item, error) {
	// The columns are in data; the votes belong to the file.
	data.votes, data.votesMean, data.line = f.votes, f.votesMean, f.line
	r, err := rankingMetadata(data)
	if err != nil {
		return nil, err
	}
	of := findResponsePair(data)
	if of == nil {
		return nil, recordErrorf("name them with --map answer1=LEFT --map answer2=RIGHT",
			"the task's data does not have the two texts that were compared (have: %s)", data.columnList())
	}
	list, err := f.list("annotations")
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, recordErrorf("leave the record out", "%s is %s, not an object",
				nth("annotation", i), typeName(v))
		}
		item, err := annotationItem(r, data, of, nth("annotation", i), newFields(m))
		if err != nil {
			return nil, err
		}
		items = append(items, item...)
	}
	return items, nil
}

// annotationItem returns what one person selected: nothing for an annotation
// that was cancelled or that selects nothing.
func annotationItem(r trimtab.Ranking, data fields, of *responsePair, name string, a fields) ([]trimtab.Item, error) {
	if a.byName["was_cancelled"] == true || !a.hasValue("result") {
		return nil, nil
	}
	results, err := a.list("result")
	if err != nil {
		return nil, err
	}
	var selected []any
	for _, v := range results {
		m, _ := v.(map[string]any)
		value, _ := m["value"].(map[string]any)
		if m["type"] == "pairwise" {
			selected = append(selected, value["selected"])
		}
	}
	switch {
	case len(selected) == 0:
		return nil, recordErrorf("export a project with a Pairwise tag", "%s has no result of the type pairwise", name)
	case len(selected) > 1:
		return nil, recordErrorf("leave the record out",
			"%s has %d results of the type pairwise: it is not clear which one counts", name, len(selected))
	}
	ranks, err := data.preference("what "+name+" selected", selected[0], of)
	if err != nil || ranks == nil {
		return nil, err
	}
	who, err := completedBy(a)
	if err != nil {
		return nil, err
	}
	r.Labeller = cmp.Or(who, r.Labeller)
	return rankPair(r, data, of, ranks)
}

// completedBy returns the annotator: a number, or an object with an email
// address.
func completedBy(a fields) (string, error) {
	if m, ok := a.byName["completed_by"].(map[string]any); ok {
		return newFields(m).optional("email", "id")
	}
	return a.optional("completed_by")
}
