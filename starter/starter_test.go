package starter

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tokenizer"
)

// canonical is the bytes of items, one after the other.
func canonical[T trimtab.Item](items []T) []byte {
	var b bytes.Buffer
	for _, item := range items {
		b.Write(item.Canonical())
	}
	return b.Bytes()
}

func everything(w *World) []byte {
	return slices.Concat(canonical(w.Documents(8000)), canonical(w.Demonstrations(200)), canonical(w.Prompts(100)),
		canonical(w.TestPrompts(100)))
}

func TestSameSeedSameBytes(t *testing.T) {
	first := everything(New(1))
	if !bytes.Equal(first, everything(New(1))) {
		t.Error("seed 1 gave two worlds")
	}
	if bytes.Equal(first, everything(New(2))) {
		t.Error("seeds 1 and 2 gave one world")
	}
}

func TestMoreIsTheSameAndMore(t *testing.T) {
	w := New(3)
	if few, many := w.Documents(1500), w.Documents(2500); !slices.Equal(few, many[:len(few)]) {
		t.Error("documents change with their number")
	}
	if few, many := w.Prompts(50), w.Prompts(80); !slices.Equal(few, many[:50]) {
		t.Error("prompts change with their number")
	}
	if few, many := w.Demonstrations(50), w.Demonstrations(80); !slices.Equal(few, many[:50]) {
		t.Error("demonstrations change with their number")
	}
}

func TestItemsAreValid(t *testing.T) {
	w := New(4)
	var items []trimtab.Item
	for _, x := range w.Documents(50_000) {
		items = append(items, x)
	}
	for _, x := range w.Demonstrations(500) {
		items = append(items, x)
	}
	for _, x := range slices.Concat(w.Prompts(500), w.TestPrompts(200)) {
		items = append(items, x)
	}
	for _, item := range items {
		if err := item.Validate(); err != nil {
			t.Fatalf("%s: %v", item.Canonical(), err)
		}
	}
}

// No training text holds a test prompt, however much is generated.
func TestOverlap(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		w := New(seed)
		test := w.TestPrompts(1 << 20)
		docs, demos, prompts := w.Documents(200_000), w.Demonstrations(3000), w.Prompts(1<<20)
		if n := Overlap(test, docs, demos, prompts); n != 0 {
			t.Errorf("seed %d: %d test prompts occur in training texts", seed, n)
		}
		docs[7].Body += "\n" + test[0].Text
		demos[3].Prompt = test[1].Text
		prompts[5] = test[len(test)-1]
		if n := Overlap(test, docs, demos, prompts); n != 3 {
			t.Errorf("seed %d: found %d of 3 planted test prompts", seed, n)
		}
	}
}

// TestHeldOut checks what each pool of instructions may hold.
func TestHeldOut(t *testing.T) {
	for seed := range uint64(5) {
		w := New(seed)
		for _, p := range []instructionPool{inDemonstrations, inTraining, inSubjects, inWordings} {
			for k, list := range w.pools[p] {
				if len(list) == 0 {
					t.Errorf("seed %d: pool %d has no instruction of kind %d", seed, p, k)
				}
				for _, i := range list {
					checkPool(t, w, p, &w.instructions[i])
				}
			}
		}
	}
}

func checkPool(t *testing.T, w *World, p instructionPool, in *instruction) {
	t.Helper()
	of := w.parts[in.subject]
	if in.kind == askCompare {
		of = max(of, w.parts[in.other])
	}
	bad := false
	switch p {
	case inDemonstrations:
		bad = of != demonstrated || isLast(in)
	case inTraining:
		bad = of == tested || isLast(in)
	case inSubjects:
		bad = of != tested || isLast(in)
	case inWordings:
		bad = of == tested || !isLast(in)
	}
	if bad {
		t.Errorf("%q (part %d) must not be in pool %d", in.text, of, p)
	}
}

// isLast reports whether in has the last wording of its kind.
func isLast(in *instruction) bool {
	wordings := map[instructionKind][]string{askCompare: compareWordings, askJob: jobWordings,
		askOpposite: oppositeWordings, askGreet: greetWordings, askAbout: aboutWordings}[in.kind]
	switch in.kind {
	case askPerson, askAnimal:
		wordings = in.attr.questions
	case askYes, askNo:
		wordings = in.attr.yesNo
	}
	return in.text == fill(wordings[len(wordings)-1], in.subject, in.other)
}

// An instruction's text says all there is to know about it.
func TestInstructionsAreDistinct(t *testing.T) {
	w := New(1)
	if len(w.index) != len(w.instructions) {
		t.Errorf("%d texts for %d instructions", len(w.index), len(w.instructions))
	}
	for p, distinct := range map[string][]trimtab.Prompt{"training": w.Prompts(1 << 20),
		"test": w.TestPrompts(1 << 20)} {
		seen := map[string]bool{}
		for _, prompt := range distinct {
			if seen[prompt.Text] {
				t.Errorf("%s: %q twice", p, prompt.Text)
			}
			seen[prompt.Text] = true
		}
	}
	if n := len(w.TestPrompts(200)); n != 400 {
		t.Errorf("%d test prompts, want 200 of each tag", n)
	}
}

// TestDocumentShares recognises the kinds of document by their lines.
func TestDocumentShares(t *testing.T) {
	w := New(1)
	documents := w.Documents(200_000)
	n := float64(len(documents))
	var worksheets, answers, opened, facts int
	for _, d := range documents {
		lines := strings.Split(d.Body, "\n")
		asked := 0
		for _, line := range lines {
			if _, ok := w.index[line]; ok {
				asked++
			}
		}
		switch _, bare := w.index[lines[0]]; {
		case asked == len(lines):
			worksheets++
		case asked > 0:
			answers++
			if !bare {
				opened++
			}
		default:
			facts++
		}
	}
	near(t, "worksheets", float64(worksheets)/n, .26)
	near(t, "answers", float64(answers)/n, .36)
	near(t, "answers opened by a statement", float64(opened)/float64(answers), .70)
	near(t, "facts and gossip", float64(facts)/n, .38)
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if got < want-.02 || got > want+.02 {
		t.Errorf("%s: %.3f, want %.2f", what, got, want)
	}
}

func TestWordsTakeA(t *testing.T) {
	for _, word := range slices.Concat(jobs, pets, animals) {
		if strings.ContainsRune("aeiou", rune(word[0])) {
			t.Errorf("a %s", word)
		}
	}
	for _, j := range jobs {
		if jobDescriptions[j] == "" {
			t.Errorf("what does a %s do?", j)
		}
	}
}

// A byte-level BPE of 1,024 is to hold most of the world's words whole.
func TestVocabulary(t *testing.T) {
	w := New(1)
	var texts []string
	count := map[string]int{}
	total := 0
	for _, d := range w.Documents(200_000) {
		texts = append(texts, d.Body)
		for _, word := range strings.FieldsFunc(d.Body,
			func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') }) {
			count[word]++
			total++
		}
	}
	bpe, err := tokenizer.Train(texts, 1024)
	if err != nil {
		t.Fatal(err)
	}
	whole, occurrences, tokens := 0, 0, 0
	for word, n := range count {
		if len(bpe.Encode(" "+word)) == 1 || len(bpe.Encode(word)) == 1 {
			whole++
			occurrences += n
		}
	}
	for _, text := range texts {
		tokens += len(bpe.Encode(text))
	}
	t.Logf("%.1f words a document", float64(200_000)/float64(len(texts)))
	t.Logf("%d word forms, %d of them whole, which are %.1f%% of all words; %.1f tokens a document",
		len(count), whole, 100*float64(occurrences)/float64(total), float64(tokens)/float64(len(texts)))
	if len(count) < 320 || len(count) > 450 {
		t.Errorf("%d word forms", len(count))
	}
	if whole*10 < len(count)*9 {
		t.Errorf("only %d of %d word forms are whole", whole, len(count))
	}
}

func TestDemonstratorsDiffer(t *testing.T) {
	w := New(1)
	length := map[string][]int{}
	for _, d := range w.Demonstrations(3000) {
		length[d.Demonstrator] = append(length[d.Demonstrator], len(d.Response))
	}
	if len(length) != demonstratorCount {
		t.Fatalf("%d demonstrators", len(length))
	}
	var means []int
	for _, l := range length {
		sum := 0
		for _, n := range l {
			sum += n
		}
		means = append(means, sum/len(l))
	}
	if slices.Max(means) < slices.Min(means)+3 {
		t.Errorf("demonstrators' mean lengths %v are all alike", means)
	}
}

func TestDocumentsHaveSoManyWords(t *testing.T) {
	w := New(1)
	for _, want := range []int{0, 1, 1000, 20_000} {
		got := 0
		for _, d := range w.Documents(want) {
			got += len(strings.Fields(d.Body))
		}
		if got < want || got > want+200 {
			t.Errorf("%d words were asked for, %d came", want, got)
		}
	}
}

// TestGolden holds the bytes of world 1. A world that changes makes every run
// on it another run.
func TestGolden(t *testing.T) {
	const want = "sha256:b4e540f9ffe0384b49b86cd6706c1b9c193764a6c6a96228a71bfd441a1ee05b"
	if got := string(trimtab.DigestOf(everything(New(1)))); got != want {
		t.Errorf("world 1 is %s, was %s", got, want)
	}
}
