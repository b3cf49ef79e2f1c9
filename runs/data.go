package runs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/workflows"
)

// resolveData creates the datasets and imports the base model that a spec asks
// for, and returns the spec with digests in place of references. Data that the
// spec refers to already is not created. A dataset of another kind than its
// field is Usage "wrong_kind".
//
// The resolved spec is what is recorded and hashed, so the run does not depend
// on what the names mean later. log receives progress messages and notes.
func (s *Service) resolveData(ctx context.Context, spec recipes.Spec, actor string,
	log func(string, ...any)) (recipes.Spec, error) {
	var err error
	if spec.Model.Base, err = s.importBase(ctx, spec.Model.Base, actor, log); err != nil {
		return spec, err
	}
	switch {
	case spec.Starter != nil:
		err = s.freezeStarter(ctx, &spec, log)
	case spec.Sources != nil:
		err = s.freezeSources(ctx, &spec, actor, log)
	}
	if err != nil {
		return spec, err
	}
	// Ref points into spec, a copy, so assigning through it leaves the caller's alone.
	for _, k := range trimtab.Kinds {
		ref := spec.Data.Ref(k)
		if *ref == "" {
			continue
		}
		v, err := s.store.ResolveDataset(ctx, *ref)
		if err != nil {
			return spec, err
		}
		if v.Kind != k {
			return spec, trimtab.NewError(trimtab.Usage, "wrong_kind", fmt.Sprintf("name a dataset of kind %s", k),
				"data.%s refers to %s, which holds %s", k, *ref, v.Kind)
		}
		*ref = string(v.Digest)
	}
	return spec, nil
}

// freeze stores items as a frozen dataset version and puts its digest into ref,
// unless ref is set already or there are no items. files are the files that the
// items were read from, which are recorded with the import; generated items
// have none.
func (s *Service) freeze(ctx context.Context, ref *string, name string, items []trimtab.Item,
	files []storage.ImportedFile, actor string) error {
	if *ref != "" || len(items) == 0 {
		return nil
	}
	if len(files) > 0 {
		if _, err := s.store.AddItems(ctx, name, items[0].Kind(), items, files, actor); err != nil {
			return err
		}
	}
	v, err := s.store.FreezeItems(ctx, name, items[0].Kind(), items, actor)
	*ref = string(v.Digest)
	return err
}

// asItems returns a list of one type of item as a list of the interface.
func asItems[T trimtab.Item](list []T) []trimtab.Item {
	items := make([]trimtab.Item, len(list))
	for i, v := range list {
		items[i] = v
	}
	return items
}

// freezeStarter generates the starter world's data. Equal settings give equal
// bytes, and so the dataset versions of an earlier run.
func (s *Service) freezeStarter(ctx context.Context, spec *recipes.Spec, log func(string, ...any)) error {
	st := spec.Starter
	if d := spec.Data; d.Text != "" && d.Demonstrations != "" && d.Prompts != "" {
		return nil
	}
	log("generating starter world %d: about %d words of text, %d demonstrations, %d prompts", st.World, st.Words,
		st.Demonstrations, st.Prompts)
	// The data is recorded as the program's own work, not as that of the person who
	// launches the run.
	for _, set := range starterSets(*st) {
		ref := spec.Data.Ref(set.kind)
		if err := s.freeze(ctx, ref, set.name, set.items, set.files, workflows.SystemActor); err != nil {
			return err
		}
	}
	return nil
}

// pendingDataset is a dataset before it is frozen.
type pendingDataset struct {
	kind trimtab.Kind
	// The dataset's name.
	name  string
	items []trimtab.Item
	// The files that the items were read from; none for generated items.
	files []storage.ImportedFile
}

// starterSets generates the datasets of a starter world. The test prompts come
// after the training prompts, in the same dataset with the split "test".
func starterSets(st recipes.Starter) []pendingDataset {
	w := starter.New(st.World)
	sets := []pendingDataset{
		{kind: trimtab.KindText, items: asItems(w.Documents(st.Words))},
		{kind: trimtab.KindDemonstrations, items: asItems(w.Demonstrations(st.Demonstrations))},
		{kind: trimtab.KindPrompts, items: asItems(append(w.Prompts(st.Prompts), w.TestPrompts(st.Tests)...))},
	}
	for i := range sets {
		sets[i].name = fmt.Sprintf("starter/%d/%s", st.World, sets[i].kind)
	}
	return sets
}

// freezeSources reads the files of a spec's sources and freezes the datasets
// that they yield.
func (s *Service) freezeSources(ctx context.Context, spec *recipes.Spec, actor string, log func(string, ...any)) error {
	if spec.Data.Rankings != "" && spec.Data.Text != "" {
		return nil
	}
	sets, err := sourceSets(spec.Name, spec.Sources, log)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if err := s.freeze(ctx, spec.Data.Ref(set.kind), set.name, set.items, set.files, actor); err != nil {
			return err
		}
	}
	return nil
}

// sourceSets reads a spec's files of rankings and text, holds whole groups of
// rankings out for testing, and derives demonstrations and prompts from the
// rankings if the spec asks for it. name is the first part of the dataset
// names.
//
// With sources.derive=winners the training responses are added to the text as
// well, so that a model pretrained on it has seen the language of the
// responses. The held-out responses are not.
func sourceSets(name string, src *recipes.Sources, log func(string, ...any)) ([]pendingDataset, error) {
	if src.Folder == "" && slices.ContainsFunc(slices.Concat(src.Rankings, src.Text),
		func(f string) bool { return !filepath.IsAbs(f) }) {
		return nil, trimtab.NewError(trimtab.Usage, "invalid_spec", "set it with --set sources.folder=PATH",
			"sources.folder is empty, but the recipe reads its files from that folder")
	}
	rankings, rankingFiles, err := readRankings(src, log)
	if err != nil {
		return nil, err
	}
	holdOutGroups(rankings, src.TestShare)
	texts, textFiles, err := readTexts(src, log)
	if err != nil {
		return nil, err
	}
	var demos []trimtab.Demonstration
	var prompts []trimtab.Prompt
	if src.Derive == "winners" {
		demos, prompts = demonstrationsFromWinners(rankings)
		texts = append(texts, trainingResponses(rankings)...)
		textFiles = append(textFiles, rankingFiles...)
	}
	sets := []pendingDataset{
		{kind: trimtab.KindRankings, items: asItems(rankings), files: rankingFiles},
		{kind: trimtab.KindText, items: asItems(texts), files: textFiles},
		{kind: trimtab.KindDemonstrations, items: asItems(demos), files: rankingFiles},
		{kind: trimtab.KindPrompts, items: asItems(prompts), files: rankingFiles},
	}
	for i := range sets {
		sets[i].name = fmt.Sprintf("%s/%s", name, sets[i].kind)
	}
	return sets, nil
}

// readFiles reads source files of one kind and returns their items with a
// record of each file: its digest, its size in bytes and how many items it
// gave. Rejected lines are counted in a log message; a file without a single
// usable item is Invalid "nothing_accepted".
func readFiles(src *recipes.Sources, names []string, kind trimtab.Kind, o dataset.ReadOptions,
	log func(string, ...any)) ([]trimtab.Item, []storage.ImportedFile, error) {
	var items []trimtab.Item
	var files []storage.ImportedFile
	for _, name := range names {
		path := filepath.FromSlash(name)
		if !filepath.IsAbs(path) {
			path = filepath.Join(src.Folder, path)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, trimtab.NewError(trimtab.NotFound, "file_not_found",
				"give its absolute path, or set sources.folder, now "+strconv.Quote(src.Folder)+
					", to the folder that has it", "read the sources: %w", err)
		}
		// The digest is that of the bytes that were parsed: the file is read once,
		// and Finish reads what the parser left.
		reader := dataset.NewHashingReader(f)
		imp, err := dataset.Read(kind, filepath.Base(name), reader, o)
		digest, size, finishErr := reader.Finish()
		f.Close()
		if err != nil {
			return nil, nil, err
		}
		if finishErr != nil {
			return nil, nil, finishErr
		}
		if imp.Accepted == 0 {
			reason := "the file is empty"
			if len(imp.Rejected) > 0 {
				reason = fmt.Sprintf("line %d: %s", imp.Rejected[0].Line, imp.Rejected[0].Reason)
			}
			return nil, nil, trimtab.NewError(trimtab.Invalid, "nothing_accepted",
				"check the file with `trimtab data import --dry-run`", "%s has no usable %s: %s", name, kind, reason)
		}
		log("%s: %d %s accepted, %d duplicates, %d rejected", name, imp.Accepted, kind, imp.Duplicates,
			len(imp.Rejected)+imp.Unlisted)
		items = append(items, imp.Items...)
		files = append(files, storage.ImportedFile{
			Name:   filepath.Base(name),
			Digest: digest,
			Bytes:  size,
			Items:  imp.Accepted,
		})
	}
	return items, files, nil
}

// readRankings reads the spec's files of rankings.
func readRankings(src *recipes.Sources, log func(string, ...any)) ([]trimtab.Ranking, []storage.ImportedFile, error) {
	items, files, err := readFiles(src, src.Rankings, trimtab.KindRankings, dataset.ReadOptions{}, log)
	list := make([]trimtab.Ranking, len(items))
	for i, it := range items {
		list[i] = it.(trimtab.Ranking)
	}
	return list, files, err
}

// readTexts reads the spec's text files, one item per paragraph.
func readTexts(src *recipes.Sources, log func(string, ...any)) ([]trimtab.Text, []storage.ImportedFile, error) {
	items, files, err := readFiles(src, src.Text, trimtab.KindText, dataset.ReadOptions{Split: "paragraph"}, log)
	list := make([]trimtab.Text, len(items))
	for i, it := range items {
		list[i] = it.(trimtab.Text)
	}
	return list, files, err
}

// holdOutGroups marks a share of the rankings' groups as the test split, whole
// groups at a time, so that no prompt is in both splits. The draw does not
// depend on the run's seed: runs of different seeds are measured on the same
// rankings.
func holdOutGroups(rankings []trimtab.Ranking, share float64) {
	groups := make([]string, len(rankings))
	for i, r := range rankings {
		groups[i] = label.Group(r)
		rankings[i].Split = trimtab.SplitTrain
	}
	// Seed 1 is fixed; a different one would move items between the splits.
	_, test := dataset.SplitByGroup(groups, share, draw.New(1, "sources", "split"))
	for _, i := range test {
		rankings[i].Split = trimtab.SplitTest
	}
}

// demonstrationsFromWinners returns the best responses of the training rankings
// as demonstrations, and the prompts of all rankings with their split. Each
// appears once, in the order of its first appearance. Responses that are no
// valid demonstration, such as empty ones, are left out.
func demonstrationsFromWinners(rankings []trimtab.Ranking) ([]trimtab.Demonstration, []trimtab.Prompt) {
	var demos []trimtab.Demonstration
	var prompts []trimtab.Prompt
	// The keys of prompts begin with p and those of demonstrations with d, so that
	// one map serves for both.
	seen := map[string]bool{}
	for _, r := range rankings {
		if !seen["p"+r.Prompt] {
			seen["p"+r.Prompt] = true
			prompts = append(prompts, trimtab.Prompt{Text: r.Prompt, Split: r.Split})
		}
		if r.Split == trimtab.SplitTest {
			continue
		}
		for i, resp := range r.Responses {
			text := string(resp.Bytes)
			d := trimtab.Demonstration{Prompt: r.Prompt, Response: text, Split: trimtab.SplitTrain}
			if key := "d" + r.Prompt + "\x00" + text; r.Ranks[i] == 1 && !seen[key] && d.Validate() == nil {
				seen[key] = true
				demos = append(demos, d)
			}
		}
	}
	return demos, prompts
}

// trainingResponses returns the responses of the training rankings as texts,
// each once, without leading and trailing white space.
func trainingResponses(rankings []trimtab.Ranking) []trimtab.Text {
	var texts []trimtab.Text
	seen := map[string]bool{}
	for _, r := range rankings {
		if r.Split == trimtab.SplitTest {
			continue
		}
		for _, resp := range r.Responses {
			t := trimtab.Text{Body: strings.TrimSpace(string(resp.Bytes))}
			if !seen[t.Body] && t.Validate() == nil {
				seen[t.Body] = true
				texts = append(texts, t)
			}
		}
	}
	return texts
}
