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
)

// resolveData makes the datasets and the model that the spec asks for, and puts
// digests where it named them. Data that the spec names already is left alone.
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
				"data.%s names %s, which holds %s", k, *ref, v.Kind)
		}
		*ref = string(v.Digest)
	}
	return spec, nil
}

// freeze stores items, and the files that they were read from, as a dataset version and returns its digest for the
// spec.
func (s *Service) freeze(ctx context.Context, ref *string, name string, items []trimtab.Item,
	files []storage.ImportedFile, actor string) error {
	if *ref != "" || len(items) == 0 {
		return nil
	}
	if len(files) > 0 {
		if _, err := s.store.AddItemsOf(ctx, name, items[0].Kind(), items, files, actor); err != nil {
			return err
		}
	}
	v, err := s.store.FreezeItems(ctx, name, items[0].Kind(), items, actor)
	*ref = string(v.Digest)
	return err
}

func asItems[T trimtab.Item](list []T) []trimtab.Item {
	items := make([]trimtab.Item, len(list))
	for i, v := range list {
		items[i] = v
	}
	return items
}

// programActor is the actor of what trimtab makes by itself.
const programActor = "trimtab"

// freezeStarter generates the small world: equal settings, equal bytes.
func (s *Service) freezeStarter(ctx context.Context, spec *recipes.Spec, log func(string, ...any)) error {
	st := spec.Starter
	if d := spec.Data; d.Text != "" && d.Demonstrations != "" && d.Prompts != "" {
		return nil
	}
	log("generating the starter world %d: about %d words of text, %d demonstrations, %d prompts", st.World, st.Words,
		st.Demonstrations, st.Prompts)
	for _, set := range starterSets(*st) {
		if err := s.freeze(ctx, spec.Data.Ref(set.kind), set.name, set.items, set.files, programActor); err != nil {
			return err
		}
	}
	return nil
}

// pendingDataset is items that become a dataset, and the files that they were read from.
type pendingDataset struct {
	kind  trimtab.Kind
	name  string // of the dataset
	items []trimtab.Item
	files []storage.ImportedFile
}

// starterSets are what a starter world gives.
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

// freezeSources freezes what the files of the spec's sources give.
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

// sourceSets reads files of rankings and text, holds whole groups out, and
// derives demonstrations and prompts if the spec wants them.
func sourceSets(name string, src *recipes.Sources, log func(string, ...any)) ([]pendingDataset, error) {
	if src.Folder == "" && slices.ContainsFunc(slices.Concat(src.Rankings, src.Text),
		func(f string) bool { return !filepath.IsAbs(f) }) {
		return nil, trimtab.NewError(trimtab.Usage, "invalid_spec", "name it with --set sources.folder=PATH",
			"sources.folder is empty: the recipe reads its files from there")
	}
	rankings, voted, err := readRankings(src, log)
	if err != nil {
		return nil, err
	}
	holdOutGroups(rankings, src.TestShare)
	texts, written, err := readTexts(src, log)
	if err != nil {
		return nil, err
	}
	var demos []trimtab.Demonstration
	var prompts []trimtab.Prompt
	if src.Derive == "winners" {
		demos, prompts = demonstrationsFromWinners(rankings)
		texts = append(texts, trainingResponses(rankings)...)
		written = append(written, voted...)
	}
	sets := []pendingDataset{
		{kind: trimtab.KindRankings, items: asItems(rankings), files: voted},
		{kind: trimtab.KindText, items: asItems(texts), files: written},
		{kind: trimtab.KindDemonstrations, items: asItems(demos), files: voted},
		{kind: trimtab.KindPrompts, items: asItems(prompts), files: voted},
	}
	for i := range sets {
		sets[i].name = fmt.Sprintf("%s/%s", name, sets[i].kind)
	}
	return sets, nil
}

// readFiles reads source files of one kind; a file that is not wholly usable is told, one of which nothing is usable is
// an error.
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
				"write its whole path, or set sources.folder, now "+strconv.Quote(src.Folder)+
					", to the folder that holds it", "read the sources: %w", err)
		}
		read := dataset.NewHashingReader(f)
		imp, err := dataset.Read(kind, filepath.Base(name), read, o)
		digest, size, rest := read.Finish()
		f.Close()
		if err != nil {
			return nil, nil, err
		}
		if rest != nil {
			return nil, nil, rest
		}
		if imp.Accepted == 0 {
			reason := "it is empty"
			if len(imp.Rejected) > 0 {
				reason = fmt.Sprintf("line %d: %s", imp.Rejected[0].Line, imp.Rejected[0].Reason)
			}
			return nil, nil, trimtab.NewError(trimtab.Invalid, "nothing_accepted",
				"see `trimtab data import --dry-run`", "%s holds no usable %s: %s", name, kind, reason)
		}
		log("%s: %d %s accepted, %d duplicates, %d rejected", name, imp.Accepted, kind, imp.Duplicates,
			len(imp.Rejected)+imp.Unlisted)
		items = append(items, imp.Items...)
		files = append(files, storage.ImportedFile{Name: filepath.Base(name), Digest: digest, Bytes: size,
			Items: imp.Accepted})
	}
	return items, files, nil
}

func readRankings(src *recipes.Sources, log func(string, ...any)) ([]trimtab.Ranking, []storage.ImportedFile, error) {
	items, files, err := readFiles(src, src.Rankings, trimtab.KindRankings, dataset.ReadOptions{}, log)
	list := make([]trimtab.Ranking, len(items))
	for i, it := range items {
		list[i] = it.(trimtab.Ranking)
	}
	return list, files, err
}

func readTexts(src *recipes.Sources, log func(string, ...any)) ([]trimtab.Text, []storage.ImportedFile, error) {
	items, files, err := readFiles(src, src.Text, trimtab.KindText, dataset.ReadOptions{Split: "paragraph"}, log)
	list := make([]trimtab.Text, len(items))
	for i, it := range items {
		list[i] = it.(trimtab.Text)
	}
	return list, files, err
}

// holdOutGroups holds whole groups out. The draw does not depend on the run's seed, so
// that runs of different seeds are measured on the same held-out groups.
func holdOutGroups(rankings []trimtab.Ranking, share float64) {
	groups := make([]string, len(rankings))
	for i, r := range rankings {
		groups[i] = label.Group(r)
		rankings[i].Split = trimtab.SplitTrain
	}
	_, test := dataset.SplitByGroup(groups, share, draw.New(1, "sources", "split"))
	for _, i := range test {
		rankings[i].Split = trimtab.SplitTest
	}
}

// demonstrationsFromWinners are the best responses of the training rankings as demonstrations,
// and the prompts of all rankings, each once and in order of first appearance.
func demonstrationsFromWinners(rankings []trimtab.Ranking) ([]trimtab.Demonstration, []trimtab.Prompt) {
	var demos []trimtab.Demonstration
	var prompts []trimtab.Prompt
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

// trainingResponses are the texts of the responses of training rankings, each once.
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
