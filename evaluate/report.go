package evaluate

import (
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/starter"
)

// TrainingData is what the run's models were trained on, to count the held-out
// prompts in it. Each part may be empty.
type TrainingData struct {
	Texts          []trimtab.Text
	Demonstrations []trimtab.Demonstration // those with the split test are not counted as training data
	Prompts        []trimtab.Prompt
}

// judgedAnswer is one answer with what was measured of it.
type judgedAnswer struct {
	set     string           // the prompt's tag
	verdict *starter.Verdict // nil without a judge
	reward  *float64         // nil without a reward model
	tokens  int
	ended   bool // with a stop token
}

// Report measures the answers after the last step. RewardModel is left for the
// caller to fill, who has the rankings. Error: prompt_unknown.
func (t *Trainer) Report(data TrainingData) (*eval.Report, error) {
	r := &eval.Report{Models: map[string]eval.Scores{}, Prompts: len(t.prompts), Judge: t.config.Judge}
	gold := map[string][]float64{} // by model and prompt
	for i, m := range t.in.Models {
		answers, err := t.judge(i)
		if err != nil {
			return nil, err
		}
		scores := meanScores(answers)
		scores.KL = t.klFromSFT(i)
		scores.Sets = scoresBySet(answers)
		r.Models[m.Name] = scores
		for _, a := range answers {
			if a.verdict != nil {
				gold[m.Name] = append(gold[m.Name], a.verdict.Gold)
			}
		}
	}
	// Paired by prompt: both models answered the same ones.
	if t.config.Judge != "" && gold[sftModel] != nil && gold[ppoModel] != nil {
		wins := eval.WinRate(t.source("wins"), gold[ppoModel], gold[sftModel])
		r.Wins = &wins
	}
	r.Samples = t.sampleAnswers()
	isTest := func(d trimtab.Demonstration) bool { return d.Split == trimtab.SplitTest }
	demonstrations := slices.DeleteFunc(data.Demonstrations, isTest)
	r.Overlap = starter.Overlap(t.prompts, data.Texts, demonstrations, data.Prompts)
	return r, nil
}

// judge measures each of model i's answers.
func (t *Trainer) judge(i int) ([]judgedAnswer, error) {
	var world *starter.World
	if t.config.Judge != "" {
		world = starter.New(t.config.World)
	}
	var rewards []float32
	if t.in.Scorer != nil {
		rewards = t.in.Scorer.Scores(t.sequences(i))
	}
	answers := make([]judgedAnswer, len(t.prompts))
	for k, p := range t.prompts {
		ids := t.answers[i].At(k)
		a := judgedAnswer{set: p.Tag, tokens: len(ids), ended: t.in.Tokenizer.EndsWithStop(ids)}
		if world != nil {
			// An answer that was cut off is judged as such: ended counts for conciseness.
			v, ok := world.Judge(p.Text, t.in.Tokenizer.Decode(ids), a.ended)
			if !ok {
				return nil, trimtab.NewError(trimtab.Invalid, "prompt_unknown",
					"evaluate with prompts of the starter world",
					"the judge does not understand the prompt %q", p.Text)
			}
			a.verdict = &v
		}
		if rewards != nil {
			v := float64(rewards[k])
			a.reward = &v
		}
		answers[k] = a
	}
	return answers, nil
}

// klFromSFT estimates the KL divergence of model i from the SFT model, where
// PPO starts, from the answers that model i gave (Schulman's k1, summed over a
// response). It is nil for the SFT model itself, for the base model, and where
// the run has no SFT model.
func (t *Trainer) klFromSFT(i int) *float64 {
	ref := slices.IndexFunc(t.in.Models, func(m NamedModel) bool { return m.Name == sftModel })
	// The base model comes before SFT in training, so its distance is not reported.
	if ref < 0 || ref == i || t.in.Models[i].Name == baseModel {
		return nil
	}
	samples := make([]model.Sample, len(t.ids))
	for k := range samples {
		samples[k].Tokens = t.answers[i].At(k)
	}
	policy, reference := t.in.Models[i].Model, t.in.Models[ref].Model
	d := eval.MeanKL(t.pass, policy, reference, t.ids, samples, float32(t.config.Temperature))
	return &d.K1
}

// meanScores averages what was measured. Each term is divided before it is
// added: the order of operations is part of the stored bytes.
func meanScores(answers []judgedAnswer) eval.Scores {
	s := eval.Scores{Length: new(float64), Ended: new(float64)}
	n := float64(max(1, len(answers))) // no answers give no scores, and lengths of 0
	add := func(sum **float64, v float64) {
		if *sum == nil {
			*sum = new(float64)
		}
		**sum += v / n
	}
	for _, a := range answers {
		if v := a.verdict; v != nil {
			add(&s.Gold, v.Gold)
			add(&s.Followed, v.Followed)
			add(&s.True, v.True)
			add(&s.Polite, v.Polite)
			add(&s.Concise, v.Concise)
		}
		if a.reward != nil {
			add(&s.Reward, *a.reward)
		}
		add(&s.Length, float64(a.tokens))
		if a.ended {
			add(&s.Ended, 1)
		}
	}
	return s
}

// scoresBySet averages each test set by itself. With one set it returns nil,
// because its means would be those of the model.
func scoresBySet(answers []judgedAnswer) map[string]eval.Scores {
	sets := map[string][]judgedAnswer{} // by tag; within a set the order of prompts is kept
	for _, a := range answers {
		sets[a.set] = append(sets[a.set], a)
	}
	if len(sets) < 2 {
		return nil
	}
	scores := map[string]eval.Scores{}
	for name, list := range sets {
		scores[name] = meanScores(list)
	}
	return scores
}

// sampleAnswers picks config.Samples prompts, evenly spaced, with each model's answer.
func (t *Trainer) sampleAnswers() []eval.SampleAnswers {
	var list []eval.SampleAnswers
	n := min(t.config.Samples, len(t.prompts))
	for i := range n {
		k := i * len(t.prompts) / n
		s := eval.SampleAnswers{Prompt: t.prompts[k].Text, Set: t.prompts[k].Tag, Answers: map[string]string{}}
		for j, m := range t.in.Models {
			s.Answers[m.Name] = string(t.in.Tokenizer.Decode(t.answers[j].At(k)))
		}
		list = append(list, s)
	}
	return list
}

// Metrics lists a report's numbers under the names that gates and tables use:
// model/measure, in the order of names. Concise and ended are in the report
// alone: attempts of earlier builds were recorded without them, and the same
// version of a stage must give the same metrics.
func Metrics(r *eval.Report, names []string) []trimtab.Metric {
	var list []trimtab.Metric
	for _, name := range names {
		for _, m := range r.Models[name].Measures() {
			if m.Value != nil && m.Name != "concise" && m.Name != "ended" {
				list = append(list, trimtab.Metric{Name: name + "/" + m.Name, Value: *m.Value})
			}
		}
	}
	if a := r.RewardModel; a != nil {
		list = append(list,
			trimtab.Metric{Name: "reward_model/accuracy", Value: a.Accuracy},
			trimtab.Metric{Name: "reward_model/longer_wins", Value: a.LongerWins})
	}
	return append(list, trimtab.Metric{Name: "overlap", Value: float64(r.Overlap)})
}
