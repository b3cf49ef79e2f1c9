package runs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/papers"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// edge finds an edge by where it starts and its role.
func edge(t *testing.T, l papers.Lineage, from trimtab.Digest, role string) papers.Edge {
	t.Helper()
	for _, e := range l.From(from) {
		if e.Role == role {
			return e
		}
	}
	t.Fatalf("%s has no edge %q: %v", l.Node(from).Name, role, l.From(from))
	return papers.Edge{}
}

func lineageOf(t *testing.T, b *bench, model trimtab.Digest, run string) papers.Lineage {
	t.Helper()
	l, err := b.Lineage(b.ctx, model, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l.Edges {
		if l.Node(e.From) == nil || l.Node(e.To) == nil {
			t.Errorf("the edge %+v leads to nothing", e)
		}
	}
	return l
}

// The lineage of a run's last model reaches everything that went into it; that
// of a rerun's, the attempts that did the work; and back from each source one
// comes to the same models.
func TestLineage(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch(), trimtab.RunCompleted)
	made := models(d)
	l := lineageOf(t, b, made["ppo"], "")
	checkPPO(t, l, d)
	if again := lineageOf(t, b, made["ppo"], d.ID); !bytes.Equal(again.SVG(), l.SVG()) ||
		!slices.Equal(again.Tree(), l.Tree()) {
		t.Error("the lineage is another the second time")
	}

	checkFacts(t, b, d)
	res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: d.ID, Stage: "ppo", Sets: []string{"ppo.kl_coef=0.2"},
		Actor: "tester", Reason: "to see"})
	if err != nil {
		t.Fatal(err)
	}
	again := b.await(res.Run, trimtab.RunCompleted)
	checkReused(t, b, again, d)
	checkUses(t, b, l, made, models(again)["ppo"])
}

func checkPPO(t *testing.T, l papers.Lineage, d runs.View) {
	t.Helper()
	made := models(d)
	ppo := edge(t, l, made["ppo"], papers.RoleMadeBy).To
	a := l.Node(ppo).Attempt
	if a.Run != d.ID || a.Stage != "ppo" || a.Number != 1 || a.Seed != 1 || a.Numerics != "v1" || a.StageVersion == 0 ||
		a.Build != "test" || a.Actor != "trimtab" || a.EndedAt == nil {
		t.Errorf("ppo's attempt is %+v", a)
	}
	for role, want := range map[string]trimtab.Digest{"model": made["sft"], "reward": made["reward"],
		papers.RoleReference: made["sft"],
		"prompts":            stageOf(t, d, "ppo").Inputs["prompts"], papers.RoleConfig: a.Config} {
		if got := edge(t, l, ppo, role).To; got != want {
			t.Errorf("ppo's %s is %s, want %s", role, got, want)
		}
	}
	words := edge(t, l, made["ppo"], papers.RoleTokenizer).To
	if words != edge(t, l, made["reward"], papers.RoleTokenizer).To ||
		edge(t, l, words, papers.RoleTrainedBy).To != edge(t, l, made["base"], papers.RoleMadeBy).To {
		t.Errorf("tokenizer %s is not the one that pretraining made", words)
	}
	rankings := edge(t, l, edge(t, l, made["reward"], papers.RoleMadeBy).To, "rankings").To
	set, ranked := l.Node(rankings).Dataset, 0
	for _, e := range l.From(rankings) {
		if e.Role == papers.RoleRankedBy {
			ranked += e.Count
		}
	}
	if !set.Simulated || set.Pairs == 0 || ranked != set.Items || set.HeldOut == 0 {
		t.Errorf("%d of the rankings are by somebody; the version is %+v", ranked, set)
	}
	if e := edge(t, l, rankings, papers.RoleSampledBy); e.To != made["sft"] || e.Count < 2*set.Items {
		t.Errorf("the responses are sampled by %+v", e)
	}
	if l.Node(edge(t, l, rankings, papers.RoleCollectedBy).To).Attempt.Stage != "collect" {
		t.Error("the rankings are not collect's")
	}
	text := edge(t, l, edge(t, l, made["base"], papers.RoleMadeBy).To, "text").To
	if !l.Node(text).Dataset.Generated || l.Node(edge(t, l, text, papers.RoleImported).To).Import.Actor != "trimtab" {
		t.Errorf("the text is %+v", l.Node(text).Dataset)
	}
}

// checkFacts looks at the papers of the run's models.
func checkFacts(t *testing.T, b *bench, d runs.View) {
	t.Helper()
	made := models(d)
	facts := func(model, run string) *papers.Facts {
		f, err := b.Facts(b.ctx, made[model], run)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := facts("ppo", "")
	if e := f.Evaluation; e == nil || e.As != "ppo" || e.Run != d.ID || e.Report.Wins == nil ||
		e.Report.Models["ppo"].Gold == nil || len(e.Report.Models) != 3 {
		t.Errorf("ppo's evaluation is %+v", e)
	}
	if f.Shape == nil || f.Shape.Width != 32 || len(f.Files) == 0 || len(f.Agreements) != 1 ||
		f.Agreements[0].Share < .5 {
		t.Errorf("ppo has the shape %+v, the files %v and the agreement %+v", f.Shape, f.Files, f.Agreements)
	}
	for _, want := range []string{"simulated labellers", "made by the program: texts of a small invented world",
		"two labellers order a pair alike in ", "(95 %: ", "| gold score, 0 to 1 | "} {
		if !bytes.Contains(papers.Card(f), []byte(want)) {
			t.Errorf("ppo's card does not say %q:\n%s", want, papers.Card(f))
		}
	}
	first, err := papers.BOM(f)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := papers.BOM(facts("ppo", d.ID)); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the bill is another the second time (%v)", err)
	}
	if f = facts("reward", ""); !f.Reward || !bytes.Contains(papers.Card(f),
		[]byte("| accuracy on held-out comparisons, share | ")) {
		t.Errorf("the reward model's card is\n%s", papers.Card(f))
	}
	if body, err := papers.Provenance(f); err != nil ||
		!bytes.Contains(body, []byte(`"invocationId": "`+d.ID+`/reward/1"`)) {
		t.Errorf("the reward model's provenance is %s (%v)", body, err)
	}
}

// checkReused looks at a run that reruns another one's ppo.
func checkReused(t *testing.T, b *bench, again, old runs.View) {
	t.Helper()
	sft := models(again)["sft"]
	l := lineageOf(t, b, models(again)["ppo"], again.ID)
	took := edge(t, l, sft, papers.RoleMadeBy).To
	did := edge(t, l, took, papers.RoleReused).To
	if l.Node(took).Attempt.Run != again.ID || l.Node(took).Attempt.Status != "reused" ||
		l.Node(did).Attempt.Run != old.ID || l.Producer(sft) != l.Node(did).Attempt {
		t.Errorf("sft was made by %+v, which reused %+v", l.Node(took).Attempt, l.Node(did).Attempt)
	}
	run := edge(t, l, edge(t, l, models(again)["ppo"], papers.RoleMadeBy).To, papers.RoleRun).To
	if edge(t, l, run, papers.RoleReruns).To != papers.IDOf(papers.NodeRun, old.ID) {
		t.Errorf("run %s reruns another", again.ID)
	}
	if plain := lineageOf(t, b, sft, ""); plain.Node(took) != nil {
		t.Error("without a run the attempt that did the work is not followed")
	}
}

// checkUses goes the other way.
func checkUses(t *testing.T, b *bench, l papers.Lineage, made map[string]trimtab.Digest, other trimtab.Digest) {
	t.Helper()
	items := func(stage, input string) []trimtab.Item {
		all, err := b.Store().Items(b.ctx, edge(t, l, edge(t, l, made[stage], papers.RoleMadeBy).To, input).To)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	ranking := items("reward", "rankings")[0].(trimtab.Ranking)
	aligned := []trimtab.Digest{made["ppo"], other}
	ranked := append([]trimtab.Digest{made["reward"]}, aligned...)
	tuned := append([]trimtab.Digest{made["sft"]}, ranked...)
	for _, c := range []struct {
		what, ref, as, kind string
		want                []trimtab.Digest
	}{
		{"a labeller", ranking.Labeller, "", runs.SourceLabeller, ranked},
		{"a ranking", string(trimtab.DigestOf(ranking.Canonical())), "", runs.SourceItem, ranked},
		{"a demonstrator", items("sft", "demonstrations")[0].(trimtab.Demonstration).Demonstrator, "",
			runs.SourceDemonstrator, tuned},
		{"a dataset", "starter/1/prompts", "", runs.SourceDataset, ranked},
		{"a text", string(trimtab.DigestOf(items("base", "text")[0].Canonical())), "", runs.SourceItem,
			append([]trimtab.Digest{made["base"]}, tuned...)},
		{"the reward model", string(made["reward"]), "", runs.SourceModel, aligned},
		{"a config", string(l.Node(edge(t, l, made["reward"], papers.RoleMadeBy).To).Attempt.Config), "",
			runs.SourceDocument, ranked},
	} {
		u, err := b.UsedBy(b.ctx, c.ref, c.as)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var got []trimtab.Digest
		for _, m := range u.Models {
			got = append(got, m.Digest)
			if c.kind != runs.SourceModel && c.kind != runs.SourceDocument && (m.Items < 1 || len(m.Through) == 0) {
				t.Errorf("%s is in %s with nothing of it: %+v", c.what, m.Name, m)
			}
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(c.want))
		if u.Kind != c.kind || !slices.Equal(got, want) {
			t.Errorf("%s is a %s in %v, want %v", c.what, u.Kind, got, want)
		}
	}
	_, err := b.UsedBy(b.ctx, "nobody", "")
	wantRefusal(t, "an unknown source", err, "source_not_found", 3)
}

// Files that were imported, names of people and of datasets come through as
// they are, and the pictures spell out what is none of a name's business.
func TestLineageOfHostileData(t *testing.T) {
	b := newBench(t, 0)
	const who = "</text><script>alert(1)</script>\x1b[2J\u202e|`*_&"
	demo := trimtab.Demonstration{Prompt: "who?", Response: "me", Demonstrator: who, Split: "train"}
	file := storage.ImportedFile{Name: "<img src=x>.jsonl", Digest: trimtab.DigestOf([]byte("file")), Bytes: 4,
		Items: 1}
	if _, err := b.Store().AddItems(b.ctx, "demos", trimtab.KindDemonstrations, []trimtab.Item{demo},
		[]storage.ImportedFile{file}, who); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store().Freeze(b.ctx, "demos", who); err != nil {
		t.Fatal(err)
	}
	d := b.await(b.launch("data.demonstrations=demos"), trimtab.RunCompleted)
	l := lineageOf(t, b, models(d)["sft"], "")
	if body, err := json.Marshal(l); err != nil || !bytes.Contains(body, []byte(file.Digest)) {
		t.Errorf("the file is not in the lineage: %v", err)
	}
	svg := string(l.SVG())
	if !strings.Contains(svg, "&lt;img src=x&gt;.jsonl") || strings.Contains(svg, "<script") ||
		strings.ContainsAny(svg, "\x1b\u202e") {
		t.Errorf("the picture is\n%s", svg)
	}
	u, err := b.UsedBy(b.ctx, string(file.Digest), "")
	if err != nil || u.Kind != runs.SourceFile || len(u.Models) != 3 || u.Models[0].Digest != models(d)["sft"] {
		t.Errorf("the file is in %+v (%v)", u, err)
	}
	if u, err = b.UsedBy(b.ctx, who, ""); err != nil || u.Kind != runs.SourceDemonstrator || len(u.Models) != 3 {
		t.Errorf("the demonstrator is in %+v (%v)", u, err)
	}

	item := trimtab.DigestOf(demo.Canonical())
	if _, err := b.Store().Erase(b.ctx, "demos", []trimtab.Digest{item}, "tester", "asked", false); err != nil {
		t.Fatal(err)
	}
	l = lineageOf(t, b, models(d)["sft"], "")
	n := l.Node(edge(t, l, edge(t, l, models(d)["sft"], papers.RoleMadeBy).To, "demonstrations").To)
	if n.Dataset.Erased != 1 {
		t.Errorf("of the demonstrations %d are erased", n.Dataset.Erased)
	}
	f, err := b.Facts(b.ctx, models(d)["ppo"], "")
	if err != nil || !bytes.Contains(papers.Card(f), []byte("the text of 1 item was erased since")) {
		t.Errorf("the card does not mention the erasure (%v)", err)
	}
	if u, err = b.UsedBy(b.ctx, string(item), ""); err != nil || u.Kind != runs.SourceItem || len(u.Models) != 3 {
		t.Errorf("the erased item is in %+v (%v)", u, err)
	}
}

// Of several attempts that put the same bytes out, the one to follow.
func TestChooseProducer(t *testing.T) {
	of := func(id int64, run string, reused int64) storage.Attempt {
		return storage.Attempt{ID: id, Run: run, ReusedFrom: reused}
	}
	all := []storage.Attempt{of(1, "a", 0), of(2, "b", 1), of(3, "c", 0), of(4, "b", 0), of(5, "d", 1), of(6, "e", 0)}
	for _, c := range []struct {
		makers []storage.Attempt
		run    string
		want   int64
		others int
	}{{all, "", 1, 3}, {all, "b", 4, 3}, {all, "d", 5, 3}, {all[1:3], "", 3, 0}, {all[1:2], "", 2, 0},
		{all, "f", 1, 3}} {
		if m, others := runs.ChooseProducer(c.makers, c.run); m.ID != c.want || others != c.others {
			t.Errorf("in run %q it is %d with %d others, want %d and %d", c.run, m.ID, others, c.want, c.others)
		}
	}
	if m, others := runs.ChooseProducer(nil, "a"); m != nil || others != 0 {
		t.Errorf("what nobody made was made by %+v", m)
	}
}

// A recipe that reads its data from files writes down which: those of the
// rankings, and both for the text, which holds what was ranked too.
func TestSourcesAreKnown(t *testing.T) {
	b := newServers(t, t.TempDir(), 0)
	folder := t.TempDir()
	digests := map[string]trimtab.Digest{}
	for name, body := range map[string]string{
		"votes.jsonl": `{"prompt": "a?", "responses": ["x y", "z"], "ranks": [1, 2], "group": "a"}` + "\n" +
			`{"prompt": "b?", "responses": ["v", "w x"], "ranks": [2, 1], "group": "b"}` + "\n",
		"text.txt": "One paragraph.\n\nAnother one.\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		digests[name] = trimtab.DigestOf([]byte(body))
	}
	spec, err := recipes.Load("debate", "smallest",
		[]string{"sources.folder=" + folder, "sources.rankings=[votes.jsonl]", "sources.text=[text.txt]",
			"sources.test_share=0.5", "model.vocab_size=270"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"rankings": {"votes.jsonl"}, "text": {"text.txt", "votes.jsonl"},
		"demonstrations": {"votes.jsonl"}, "prompts": {"votes.jsonl"}} {
		v, err := b.Store().ResolveDataset(b.ctx, "debate/"+name)
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := b.Store().DatasetOrigin(b.ctx, v.Digest)
		if err != nil || len(o.Imports) != 1 || o.Imports[0].Items != o.Items {
			t.Fatalf("%s came in by %+v (%v)", name, o.Imports, err)
		}
		var got []string
		for _, f := range o.Imports[0].Files {
			got = append(got, f.Name)
			if f.Digest != digests[f.Name] || f.Items != 2 {
				t.Errorf("%s: the file %s is described as %+v", name, f.Name, f)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s came from %v, want %v", name, got, want)
		}
	}
}
