package papers

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"google.golang.org/protobuf/encoding/protojson"
)

var update = flag.Bool("update", false, "write the golden files anew")

func digest(s string) trimtab.Digest { return trimtab.DigestOf([]byte(s)) }

func at(minute int) time.Time {
	return time.Date(2026, 3, 1, 12, minute, 30, 123456000, time.FixedZone("", 3600))
}

// example is an imported base model, tuned on what two people wrote, and
// aligned by one person's rankings; every name in it goes through say.
func example(say func(string) string) *Facts {
	l := Lineage{Schema: LineageSchema, Model: digest("ppo")}
	attempt := func(stage, kind string, minute int, inputs ...trimtab.Named) *AttemptFacts {
		start, end := at(minute), at(minute+1)
		return &AttemptFacts{Run: "run1", Stage: stage, StageKind: kind, Number: 2, Status: "completed",
			Actor: say("ann"), Reason: say("to see"),
			CreatedAt: start, StartedAt: &start, EndedAt: &end, Steps: 4, Seed: 1<<64 - 1, Numerics: "v1",
			StageVersion: 3, Build: digest("build").Hex(),
			Config: digest("config of " + stage), CacheKey: digest("key of " + stage), Inputs: inputs,
			Metrics: []trimtab.Metric{{Name: "loss", Value: 1.25}, {Name: "kl", Value: 0.1}}}
	}
	model := func(name string, parameters int64) Node {
		return Node{ID: digest(name), Kind: NodeModel, Name: say("run1/" + name),
			Model: &ModelFacts{Names: []string{say("run1/" + name)}, Kind: "model", Parameters: parameters}}
	}
	set := func(name string, kind trimtab.Kind, items, heldOut, pairs int) Node {
		return Node{ID: digest(name), Kind: NodeDataset, Name: say(name),
			Dataset: &DatasetFacts{DataKind: kind, Items: items, HeldOut: heldOut, Pairs: pairs,
				Names: []FrozenAs{{say(name), say("bob"), at(1)}}}}
	}
	made := func(name string, a *AttemptFacts) trimtab.Digest {
		id := IDOf(NodeAttempt, a.Name())
		l.Link(Edge{From: digest(name), To: id, Role: RoleMadeBy})
		l.Add(Node{ID: id, Kind: NodeAttempt, Name: a.Name(), Attempt: a})
		l.Add(Node{ID: a.Config, Kind: NodeConfig, Name: "config of " + a.Stage,
			Config: json.RawMessage(`{"config":{"optim":{"lr":0.0005},"batch":32,"note":` +
				string(must(json.Marshal(say("n")))) + `},"kind":"` + a.StageKind + `"}`)})
		l.Link(Edge{From: id, To: a.Config, Role: RoleConfig})
		l.Add(Node{ID: IDOf(NodeRun, a.Run), Kind: NodeRun, Name: say("assistant"),
			Run: &RunFacts{ID: a.Run, Actor: say("ann"), Reason: say("again"), Origin: "run0", CreatedAt: at(2)}})
		l.Link(Edge{From: id, To: IDOf(NodeRun, a.Run), Role: RoleRun})
		return id
	}
	imported := func(name string, items int) {
		id := IDOf(NodeImport, name)
		l.Add(Node{ID: id, Kind: NodeImport, Name: say(name + "#2"),
			Import: &ImportFacts{Dataset: say(name), Sequence: 2, Actor: say("cat"), At: at(0), Given: items,
				Added: items,
				Root:  digest(name), Files: []ImportFile{{say(name + ".jsonl"), digest("file of " + name), 1234,
					items}}}})
		l.Link(Edge{From: digest(name), To: id, Role: RoleImported, Count: items})
	}
	person := func(kind, name, of string, role, guideline string, count, heldOut int) {
		l.Add(Node{ID: IDOf(kind, name), Kind: kind, Name: say(name)})
		l.Link(Edge{From: digest(of), To: IDOf(kind, name), Role: role, Count: count, HeldOut: heldOut,
			Guideline: say(guideline)})
	}
	l.Add(model("ppo", 43904))
	ppo := attempt("ppo", "ppo", 20)
	ppo.Decisions = []DecisionFacts{{"approve", say("the gate is too strict"), say("dan"), commonRole, at(22)}}
	id := made("ppo", ppo)
	for _, in := range []struct{ role, name string }{{"model", "sft"}, {"reward", "reward"}, {"prompts", "asked"},
		{RoleReference, "sft"}} {
		l.Link(Edge{From: id, To: digest(in.name), Role: in.role})
	}
	l.Add(Node{ID: digest("words"), Kind: NodeTokenizer, Name: "tokenizer"})
	for _, name := range []string{"ppo", "sft", "reward", "base"} {
		l.Link(Edge{From: digest(name), To: digest("words"), Role: RoleTokenizer})
	}
	l.Add(model("sft", 43904))
	sft := attempt("sft", "sft", 10)
	sft.Metrics = append(sft.Metrics,
		trimtab.FitMetrics([]trimtab.Fit{{Items: "demonstrations", Kept: 60, Cut: 2, LeftOut: 4}})...)
	id = made("sft", sft)
	l.Link(Edge{From: id, To: digest("base"), Role: "model"})
	l.Link(Edge{From: id, To: digest("demos"), Role: "demonstrations"})
	reward := model("reward", 43937)
	reward.Model.Kind = "reward"
	l.Add(reward)
	ranked := attempt("reward", "reward", 15)
	ranked.Metrics = append(ranked.Metrics, trimtab.FitMetrics([]trimtab.Fit{{Items: "rankings", Kept: 23, Equal: 1},
		{Items: "held_out", Kept: 8}, {Items: "demonstrations"}})...)
	id = made("reward", ranked)
	l.Link(Edge{From: id, To: digest("sft"), Role: "model"})
	l.Link(Edge{From: id, To: digest("votes"), Role: "rankings"})
	l.Add(set("asked", trimtab.KindPrompts, 96, 32, 0))
	base := model("base", 43904)
	when := at(0)
	base.Model.ImportedBy, base.Model.ImportedAt = say("ann"), &when
	l.Add(base)
	l.Add(set("demos", trimtab.KindDemonstrations, 64, 0, 0))
	person(NodeDemonstrator, "dora", "demos", RoleWrittenBy, "", 40, 0)
	person(NodeDemonstrator, "", "demos", RoleWrittenBy, "", 24, 0)
	imported("demos", 64)
	l.Add(set("votes", trimtab.KindRankings, 31, 8, 205))
	person(NodeLabeller, "lena", "votes", RoleRankedBy, "helpful/2", 31, 8)
	l.Link(Edge{From: digest("votes"), To: digest("sft"), Role: RoleSampledBy, Count: 138})
	imported("votes", 31)
	imported("asked", 96)
	l.Sort()
	v := func(x float64) *float64 { return &x }
	end := at(30)
	return &Facts{Lineage: l, Name: say("run1/ppo"), Parameters: 43904, Shape: &ModelShape{Layers: 2, Width: 32, Heads: 2, Context: 64, Vocab: 512},
		Files: []ModelFile{{"config.json", digest("config.json"), 600},
			{"model.safetensors", digest("weights"), 176000}},
		Evaluation: &EvaluationFacts{Document: digest("report"), Run: "run1", Stage: "evaluate", Number: 1,
			EndedAt: &end, As: "ppo", Report: eval.Report{Prompts: 32, Overlap: 1,
				Models: map[string]eval.Scores{"base": {Reward: v(-1), Length: v(15.5)},
					"sft": {Reward: v(0.25), Length: v(12)},
					"ppo": {Reward: v(1.125), KL: v(0.75), Length: v(10.5), Ended: v(1)}},
				Wins: &eval.Estimate{Value: 0.625, Low: 0.5, High: 0.75}}},
		Agreements: []AgreementFacts{{Dataset: digest("votes"), Share: 0.725, Common: 40}}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func same(s string) string { return s }

// papersOf makes every paper of facts under its file's name.
func papersOf(t *testing.T, f *Facts) map[string][]byte {
	t.Helper()
	provenance, err := Provenance(f)
	if err != nil {
		t.Fatal(err)
	}
	bom, err := BOM(f)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"card.md": Card(f), "provenance.json": provenance, "bom.json": bom,
		"lineage.svg": f.Lineage.SVG(),
		"lineage.txt": []byte(strings.Join(f.Lineage.Tree(), "\n") + "\n")}
}

// The same facts give the same bytes, and those are the golden ones.
func TestGolden(t *testing.T) {
	first, second := papersOf(t, example(same)), papersOf(t, example(same))
	for name, got := range first {
		if !bytes.Equal(got, second[name]) {
			t.Errorf("%s is another the second time", name)
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has changed; if that is right, go test ./papers -update\n%s", name, got)
		}
	}
}

// What names of people may hold that means something to a reader of text.
const hostile = "\x1b[2J</text></svg><script>alert(1)</script>\n# <img src=x> [a](javascript:b) - | `c` **d** " +
	"www.e.f http://g @h \u202e\u200b\xff&amp;\"'"

// Whatever names hold, each paper is still of its form, and says the names.
func TestHostileNames(t *testing.T) {
	for name, body := range papersOf(t, example(func(s string) string { return s + hostile })) {
		if name == "lineage.txt" {
			continue // it is escaped where it is printed
		}
		for _, bad := range []string{"\x1b", "\u202e", "\u200b", "\xff", "<script", "<img"} {
			// \< is a character of Markdown, not the beginning of a tag
			if bytes.Contains(bytes.ReplaceAll(body, []byte(`\<`), nil), []byte(bad)) {
				t.Errorf("%s holds %q", name, bad)
			}
		}
	}
	f := example(func(s string) string { return s + hostile })
	if err := wellFormed(f.Lineage.SVG()); err != nil {
		t.Errorf("the picture is no XML: %v", err)
	}
	checkProvenance(t, must(Provenance(f)))
	checkBOM(t, must(BOM(f)))
	plainLines, lines := strings.Count(string(Card(example(same))), "\n"), strings.Count(string(Card(f)), "\n")
	if lines != plainLines {
		t.Errorf("the card has %d lines in place of %d: a name made some", lines, plainLines)
	}
	escaped := regexp.MustCompile(`\\.`)
	meant := func(f *Facts) string { return escaped.ReplaceAllString(string(Card(f)), "") }
	for _, mark := range []string{"](", "**d", "`c", "www.", "http:", "@h", "|", "<", "&", "\n# <", "- |"} {
		if n := strings.Count(meant(f), mark) - strings.Count(meant(example(same)), mark); n != 0 {
			t.Errorf("names make %q mean something in the card, %d times", mark, n)
		}
	}
}

func wellFormed(body []byte) error {
	dec := xml.NewDecoder(bytes.NewReader(body))
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestProvenance(t *testing.T) {
	f := example(same)
	s := checkProvenance(t, must(Provenance(f)))
	if got := s.Subject[0].Digest["sha256"]; got != f.Lineage.Model.Hex() || len(s.Subject) != 3 {
		t.Errorf("the subjects are %v", s.Subject)
	}
	var names []string
	def := s.Predicate.GetFields()["buildDefinition"].GetStructValue().GetFields()
	for _, d := range def["resolvedDependencies"].GetListValue().GetValues() {
		names = append(names, d.GetStructValue().GetFields()["name"].GetStringValue())
	}
	if want := []string{"model", "reward", "prompts", "reference", "tokenizer", "trimtab"}; !slices.Equal(names, want) {
		t.Errorf("dependencies are %v, want %v", names, want)
	}
	if seed := def["internalParameters"].GetStructValue().GetFields()["seed"].GetStringValue(); seed != "18446744073709551615" {
		t.Errorf("the seed is %s", seed)
	}
	f.Lineage.Model = digest("base")
	if _, err := Provenance(f); trimtab.ExitCode(err) != 3 {
		t.Errorf("an imported model has provenance: %v", err)
	}
	f.Lineage.Model = digest("sft")
	checkProvenance(t, must(Provenance(f)))
}

// checkProvenance reads a statement with the library of in-toto, which refuses unknown fields.
func checkProvenance(t *testing.T, body []byte) *intoto.Statement {
	t.Helper()
	s := &intoto.Statement{}
	if err := protojson.Unmarshal(body, s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("the predicate is %s", s.PredicateType)
	}
	raw, err := s.Predicate.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	p := &slsa.Provenance{}
	if err := protojson.Unmarshal(raw, p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	return s
}

func TestBOM(t *testing.T) {
	f := example(same)
	b := checkBOM(t, must(BOM(f)))
	if b.SerialNumber == "" || b.Metadata.Timestamp != "2026-03-01T11:21:30Z" ||
		b.Metadata.Component.Version != string(digest("ppo")) {
		t.Errorf("the bill is %s of %s at %s", b.SerialNumber, b.Metadata.Component.Version, b.Metadata.Timestamp)
	}
	refs := map[string]bool{b.Metadata.Component.BOMRef: true}
	for _, c := range *b.Components {
		if refs[c.BOMRef] {
			t.Errorf("two components are %s", c.BOMRef)
		}
		refs[c.BOMRef] = true
	}
	for _, d := range *b.Dependencies {
		on := []string{d.Ref}
		if d.Dependencies != nil {
			on = append(on, *d.Dependencies...)
		}
		for _, ref := range on {
			if !refs[ref] {
				t.Errorf("the bill has no component %s", ref)
			}
		}
	}
	card := b.Metadata.Component.ModelCard
	if n := len(*card.ModelParameters.Datasets); n != 3 {
		t.Errorf("the card names %d datasets", n)
	}
	if m := *card.QuantitativeAnalysis.PerformanceMetrics; m[len(m)-1].ConfidenceInterval.LowerBound != "0.5" {
		t.Errorf("the metrics are %v", m)
	}
	f.Lineage.Model = digest("base")
	checkBOM(t, must(BOM(f)))
	f.Reward, f.Evaluation, f.Files, f.Shape = true, nil, nil, nil
	checkBOM(t, must(BOM(f)))
}

// The card says what of its data each stage read, and that the numbers of the
// datasets are those before; of stages that read all of it only the first.
func TestCardReportsCutData(t *testing.T) {
	const before = "the numbers of items under Data are those before."
	f := example(same)
	card := string(Card(f))
	for _, want := range []string{
		"\nData: 60 of 64 demonstrations read; 4 left out (the prompt fills the context); 2 demonstrations cut where " +
			"the context ends.\n",
		"\nData: 23 of 23 rankings read; 1 pair equal up to there.\n", "\nData: 8 of 8 held-out rankings read.\n",
		"\n- Some of the data did not fit", before,
	} {
		if !strings.Contains(card, want) {
			t.Errorf("the card does not say %q", want)
		}
	}
	if n := strings.Count(card, "\nData: "); n != 3 || strings.Contains(card, "left_out") {
		t.Errorf("the card has %d lines of data, and says counts as metrics:\n%s", n, card)
	}
	for i := range f.Lineage.Nodes {
		if a := f.Lineage.Nodes[i].Attempt; a != nil {
			a.Metrics = trimtab.FitMetrics([]trimtab.Fit{{Items: "text", Kept: 5, Cut: 5}, {Items: "prompts", Kept: 5}})
		}
	}
	if card := string(Card(f)); !strings.Contains(card, "Data: 5 of 5 prompts read.") ||
		strings.Contains(card, before) {
		t.Errorf("all was read, and the card says\n%s", card)
	}
}

// The card of an exported reward model says what became of the bias of its score, and of padding.
func TestCardOfARewardModel(t *testing.T) {
	const (
		folded = "The bias of the score is folded into transformer.ln_f.bias"
		kept   = "The bias of the score, score.bias in model.safetensors, could not be folded into other weights: a " +
			"class without a\nbias, as transformers' is, leaves it out, and all its scores are off by that constant."
		padded = "has one more token\nfor it, whose row of the embedding is zero."
		right  = "Padding stands on the right"
	)
	exported := []ModelFile{{"model.safetensors", digest("exported weights"), 176000}}
	for name, c := range map[string]struct {
		facts Facts
		want  []string
	}{
		"folded": {Facts{Reward: true, Exported: exported, Folded: true}, []string{folded, right}},
		"folded and padded": {Facts{Reward: true, Exported: exported, Padded: true, Folded: true},
			[]string{folded, padded, right}},
		"kept": {Facts{Reward: true, Exported: exported, Padded: true, KeepsBias: true},
			[]string{kept, padded, right}},
		"padded alone":          {Facts{Reward: true, Exported: exported, Padded: true}, []string{padded, right}},
		"as it is in the store": {Facts{Reward: true}, []string{right}},
		"a language model":      {Facts{}, nil},
	} {
		f := example(same)
		f.Lineage.Model = digest("reward")
		f.Reward, f.Exported = c.facts.Reward, c.facts.Exported
		f.Padded, f.Folded, f.KeepsBias = c.facts.Padded, c.facts.Folded, c.facts.KeepsBias
		card := string(Card(f))
		for _, text := range []string{folded, kept, padded, right} {
			if strings.Contains(card, text) != slices.Contains(c.want, text) {
				t.Errorf("%s: want %q: %v", name, text, slices.Contains(c.want, text))
			}
		}
		if strings.Contains(card, `padding_side="right"`) != f.Reward {
			t.Errorf("%s: the code that scores a batch is not as it should be", name)
		}
	}
}

// A model of which little is known has papers that say so.
func TestLittleKnown(t *testing.T) {
	when := at(0)
	f := &Facts{Name: "gpt2", Lineage: Lineage{Model: digest("base"),
		Nodes: []Node{{ID: digest("base"), Kind: NodeModel, Name: "gpt2",
			Model: &ModelFacts{Names: []string{"gpt2"}, ImportedBy: "ann", ImportedAt: &when, Absent: true}}}}}
	checkBOM(t, must(BOM(f)))
	for _, want := range []string{"by ann on 2026-03-01 11:00:30 UTC: the record knows nothing of how it was made",
		"has no evaluation", "are not in the store", "gpt2 was imported"} {
		if !strings.Contains(string(Card(f)), want) {
			t.Errorf("the card does not say %q:\n%s", want, Card(f))
		}
	}
	if tree := f.Lineage.Tree(); len(tree) != 1 || !strings.HasSuffix(tree[0], "not in this store") {
		t.Errorf("the tree is %q", tree)
	}
	if err := wellFormed(f.Lineage.SVG()); err != nil {
		t.Error(err)
	}
}

// checkBOM holds a bill against the published schema of its version, and decodes it.
func checkBOM(t *testing.T, body []byte) *cdx.BOM {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := bomSchema(t).Validate(doc); err != nil {
		t.Errorf("%v", err)
	}
	b := new(cdx.BOM)
	if err := cdx.NewBOMDecoder(bytes.NewReader(body), cdx.BOMFileFormatJSON).Decode(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// bomSchema is the schema of CycloneDX 1.6 that comes with its library.
func bomSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	const home = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	for name, file := range map[string]string{"bom-1.6.schema.json": "", "spdx.schema.json": "",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		if file == "" {
			file = name
		}
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		doc, err := jsonschema.UnmarshalJSON(f)
		if err == nil {
			err = c.AddResource(home+name, doc)
		}
		if err != nil {
			t.Fatal(fmt.Errorf("%s: %w", name, err))
		}
	}
	c.AssertFormat()
	s, err := c.Compile(home + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A person is shown under the name they gave. A database role of their own is
// added; the common one says nothing.
func TestDecidedBy(t *testing.T) {
	for _, c := range []struct{ role, want string }{{"", "dan"}, {commonRole, "dan"},
		{"dan_db", "dan as database role dan_db"}} {
		if got := (DecisionFacts{Actor: "dan", Role: c.role}).By(); got != c.want {
			t.Errorf("role %q: %q, want %q", c.role, got, c.want)
		}
	}
}
