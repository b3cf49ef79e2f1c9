package starter

import (
	"math"
	"strings"
	"testing"
)

// known is a prompt of each kind with a true and a false answer.
func known(w *World) (prompts, right, wrong []string) {
	add := func(p, r, f string) { prompts, right, wrong = append(prompts, p), append(right, r), append(wrong, f) }
	n, x, y := w.people[0], w.animals[0], w.animals[1]
	town := w.facts[n+"/town"]
	other := towns[0]
	if other == town {
		other = towns[1]
	}
	add("Where does "+n+" live?", n+" lives in "+town+".", n+" lives in "+other+".")
	add("In which town is "+n+"'s home?", n+"'s home is in "+town+".", n+" has a house in "+other+".")
	add("Does "+n+" live in "+town+"?", "Yes, "+n+" lives in "+town+".", "No, "+n+" lives in "+town+".")
	add("Is it true that "+n+" lives in "+other+"?", "No, "+n+" lives in "+town+".", "Yes, "+n+" lives in "+other+".")
	add("What sound does the "+x+" make?", "The "+x+" "+w.facts[x+"/sound"]+".", "The "+x+" "+
		otherOf(sounds, w.facts[x+"/sound"])+".")
	big, small := w.bigger(x, y)
	add("Which is bigger, the "+x+" or the "+y+"?", "The "+big+" is bigger.", "The "+small+" is bigger than the "+big+
		".")
	add("What does a baker do?", "A baker makes bread.", "A baker grows wheat.")
	add("What is the opposite of hot?", "The opposite of hot is cold.", "The opposite of hot is wet.")
	add("Say hello to "+n+".", "Hello, "+n+"!", "Hello, "+w.people[1]+"!")
	add("Write one sentence about "+n+".", n+" has a house in "+town+".", n+" lives in "+other+".")
	return prompts, right, wrong
}

func otherOf(list []string, not string) string {
	if list[0] != not {
		return list[0]
	}
	return list[1]
}

func TestJudge(t *testing.T) {
	w := New(1)
	prompts, right, wrong := known(w)
	for i, prompt := range prompts {
		judge := func(response string) Verdict {
			v, ok := w.Judge(prompt, []byte(response), true)
			if !ok {
				t.Fatalf("%q is not known", prompt)
			}
			return v
		}
		for _, c := range []struct {
			response                 string
			followed, isTrue, polite float64
		}{
			{right[i], 1, 1, .5},
			{wrong[i], 1, 0, .5},
			{"Of course. " + right[i] + " Have a nice day.", 1, 1, 1},
			{"Listen, fool. " + right[i], 1, 1, 0},
			{right[i] + " That is all I can say about it.", 1, 1, .5},
			{right[i] + "\nWhere does the cow live?", 1, 1, .5},
			{"Gladly. Gladly. " + right[i], 0, 0, 1},
			{"Gladly. Gladly.", 0, 0, 1},
			{right[i] + " " + right[i], 0, 0, .5},
			{strings.TrimRight(right[i], ".!"), 0, 0, .5},
			{prompt, 0, 0, .5},
			{"You stupid idiot.", 0, 0, 0},
			{"", 0, 0, 0},
			{"\n" + right[i], 0, 0, .5},
		} {
			v := judge(c.response)
			if v.Followed != c.followed || v.True != c.isTrue || v.Polite != c.polite {
				t.Errorf("%s → %q: %+v, want followed %v, true %v, polite %v", prompt, c.response, v, c.followed,
					c.isTrue, c.polite)
			}
		}
		if v := judge(right[i]); math.Abs(v.Gold-.875) > 1e-12 {
			t.Errorf("%s: a plain right answer has gold %v, want .30 + .30 + .125 + .15", prompt, v.Gold)
		}
		if v := judge("Of course. " + right[i]); v.Gold != 1 {
			t.Errorf("%s: a courteous right answer has gold %v, want 1", prompt, v.Gold)
		}
	}
}

func TestJudgeConcise(t *testing.T) {
	w := New(1)
	n := w.people[0]
	prompt, plain := "Where does "+n+" live?", n+" lives in "+w.facts[n+"/town"]+"."
	last := 2.
	for extra := range 30 {
		v, _ := w.Judge(prompt, []byte(plain+strings.Repeat(" so", extra)), true)
		if extra <= spareWords && v.Concise != 1 || extra >= tooManyWords && v.Concise != 0 || v.Concise > last {
			t.Errorf("%d words more: concise %v", extra, v.Concise)
		}
		last = v.Concise
	}
	if v, _ := w.Judge(prompt, []byte(plain), false); v.Concise != 0 {
		t.Errorf("an answer that does not end is concise: %v", v.Concise)
	}
	if _, ok := w.Judge("What is love?", []byte(plain), true); ok {
		t.Error("an unknown prompt was judged")
	}
}

// Demonstrators err in 3 of 100 answers, by a value drawn at random.
func TestJudgeOfDemonstrations(t *testing.T) {
	w := New(2)
	demos := w.Demonstrations(3000)
	var isTrue float64
	for _, d := range demos {
		v, ok := w.Judge(d.Prompt, []byte(d.Response), true)
		if !ok {
			t.Fatalf("%q is not known", d.Prompt)
		}
		if v.Followed == 0 {
			t.Errorf("%s → %s: not followed", d.Prompt, d.Response)
		}
		isTrue += v.True
	}
	if share := isTrue / float64(len(demos)); share < .96 || share > .99 {
		t.Errorf("%.3f of demonstrations are true", share)
	}
}

// Every true answer to every instruction is judged true.
func TestJudgeOfEveryInstruction(t *testing.T) {
	w := New(5)
	s := w.stream("test")
	for i := range w.instructions {
		in := &w.instructions[i]
		if v, ok := w.Judge(in.text, []byte(w.answer(s, in, false)), true); !ok || v.True != 1 || v.Concise < .8 {
			t.Fatalf("%s: %+v", in.text, v)
		}
	}
}

func FuzzJudge(f *testing.F) {
	w := New(1)
	prompts, right, _ := known(w)
	f.Add([]byte{0xff, 0xfe, 0, '\n', 0xc3})
	f.Add([]byte("Hello, \x00!"))
	f.Add(bytesOf(' ', 10000))
	for _, r := range right {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		for _, p := range prompts {
			v, ok := w.Judge(p, response, true)
			if !ok {
				t.Fatal(p)
			}
			for _, q := range []float64{v.Followed, v.True, v.Polite, v.Concise, v.Gold} {
				if !(q >= 0 && q <= 1) {
					t.Fatalf("%q: %+v", response, v)
				}
			}
		}
	})
}

func bytesOf(b byte, n int) []byte { return []byte(strings.Repeat(string(b), n)) }
