package recipes

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
)

// numbers are the settable integers and numbers of a value, found in structs and lists.
func numbers(v reflect.Value, each func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			numbers(v.Elem(), each)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			numbers(v.Field(i), each)
		}
	case reflect.Slice:
		for i := range v.Len() {
			numbers(v.Index(i), each)
		}
	case reflect.Int, reflect.Uint64, reflect.Float64:
		if v.CanSet() {
			each(v)
		}
	}
}

// Whatever numbers a spec has, it is refused in words or costed without an
// overflow, and neither takes memory.
func TestAbsurdNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	ints := []int64{0, 1, 2, 3, 64, 1000, 1 << 16, 1 << 20, 1e6, 1e8, 1e9, 1 << 31, 1 << 40, 1e12, math.MaxInt64,
		math.MinInt64, -1}
	floats := []float64{0, 1e-30, .5, 1, 10, 1e6, 1e30, math.Inf(1), math.NaN(), -1}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	valid := 0
	for range 3000 {
		s, err := Load([]string{Default, "debate"}[r.IntN(2)], "smallest", nil)
		if err != nil {
			t.Fatal(err)
		}
		changed := 1 + r.IntN(4)
		var all []reflect.Value
		numbers(reflect.ValueOf(&s), func(v reflect.Value) { all = append(all, v) })
		for range changed {
			switch v := all[r.IntN(len(all))]; v.Kind() {
			case reflect.Int:
				v.SetInt(ints[r.IntN(len(ints))])
			case reflect.Uint64:
				v.SetUint(uint64(ints[r.IntN(len(ints))]))
			default:
				v.SetFloat(floats[r.IntN(len(floats))])
			}
		}
		if s.Validate() != nil {
			continue
		}
		valid++
		k := Known{}
		for range s.Stages {
			v := Volume{Fit: trimtab.Fit{Kept: 1e6, LeftOut: 1e6}, Tokens: 1e12, Answers: 1e11, Texts: 1e7, Bytes: 1e12,
				Longest: 1 << 20}
			k = append(k, StageKnown{Volumes: map[string]Volume{"demonstrations": v, "rankings": v, "held_out": v,
				"prompts": v, "tests": v, "text": v}})
		}
		for _, known := range []Known{nil, k} {
			if wrong := sane(Estimate(s, known)); wrong != "" {
				y, _ := s.YAML()
				t.Fatalf("%s\n%s", wrong, y)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<30 || valid < 100 {
		t.Errorf("%d MB were taken in all; %d specs were valid", took>>20, valid)
	}
}

// sane says what of a cost cannot be.
func sane(c Cost) string {
	if c.Parameters < 0 || c.Memory <= 0 || c.Disk < 0 || !(c.FLOPs >= 0) || math.IsInf(c.FLOPs, 0) {
		return fmt.Sprintf("the sums are %+v", c)
	}
	for _, st := range c.Stages {
		if st.Memory <= 0 || st.Disk < 0 || !(st.FLOPs >= 0) || math.IsInf(st.FLOPs, 0) || st.Steps != nil &&
			*st.Steps < 0 {
			return fmt.Sprintf("a stage is %+v", st)
		}
	}
	return ""
}

// Counts have a most, and the error says it.
func TestCountsHaveAMost(t *testing.T) {
	for set, says := range map[string]string{
		"starter.words=10000000000":         "starter.words is 10000000000: want 100 to 100000000",
		"starter.demonstrations=1000000001": "starter.demonstrations is 1000000001: want 1 to 1000000",
		"starter.prompts=1000000001":        "starter.prompts is 1000000001: want 1 to 1000000",
		"starter.tests=1000000001":          "starter.tests is 1000000001: want 1 to 100000",
		"collect.prompts=1000000001":        "prompts is 1000000001: want 1 to 1000000",
		"collect.held_out=1000000001":       "held_out is 1000000001: want 0 to 1000000",
		"collect.batch_size=1000000001":     "batch_size is 1000000001: want 1 to 65536",
		"collect.max_new_tokens=1000000001": "max_new_tokens is 1000000001: want 1 to 65536",
		"evaluate.prompts=1000000001":       "prompts is 1000000001: want 0 to 1000000",
		"evaluate.samples=1000000001":       "samples is 1000000001: want 0 to 10000",
		"ppo.num_prompts=10000000001":       "num_prompts is 10000000001: want 0 (all prompts) to 1000000000",
		"ppo.batch_size=1000000":            "batch_size is 1000000: want 1 to 65536",
		"sft.segment_steps=10000000000":     "segment_steps is 10000000000: want 0 to 1000000000",
		"sft.checkpoint_steps=10000000000":  "checkpoint_steps is 10000000000: want 0 to 100000000",
		"sft.checkpoint_seconds=1000000001": "checkpoint_seconds is 1000000001: want 0 to 1000000",
		"pretrain.tokens=9000000000000":     "tokens is 9000000000000",
		"model.num_hidden_layers=100000":    "num_hidden_layers: 100000 is outside 1 to 1024",
		"ppo.max_new_tokens=64": "max_new_tokens is 64: in the model's context of 64 tokens it leaves no " +
			"room for a prompt: want at most 61",
		"evaluate.max_new_tokens=62": "max_new_tokens is 62: in the model's context of 64 tokens",
	} {
		_, err := Load(Default, "smallest", []string{set})
		refused(t, set, err, says, "")
	}
}

// What a stage takes follows from what is known of its data; without data it is not known.
func TestEstimateReadsTheData(t *testing.T) {
	s, err := Read("run.yaml",
		[]byte(minimal+"  - {kind: sft, num_train_epochs: 3, batch_size: 10}\n  - {kind: reward, num_train_epochs: 2, batch_size: 4}\n"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	shape := model.Config{Layers: 2, Width: 64, Heads: 2, Context: 64, Vocab: 512}
	c := Estimate(s,
		Known{{},
			{Shape: &shape, Volumes: map[string]Volume{"demonstrations": {Fit: trimtab.Fit{Kept: 105}, Tokens: 2000,
				Answers: 1000, Texts: 105}}}})
	sft, reward := c.Stages[1], c.Stages[2]
	if sft.Steps == nil || *sft.Steps != 32 || sft.Work.Trained != 6000 || !sft.Shape.Equal(shape) ||
		sft.FLOPs <= 3*2*6000*float64(shape.Parameters()) {
		t.Errorf("sft: %+v", sft)
	}
	if reward.Steps != nil || reward.Work.Known || reward.FLOPs != 0 || reward.Memory <= processBytes {
		t.Errorf("reward without rankings: %+v", reward)
	}
	if least := LeastMemory(s.Stages[1].Config, KindSFT, int64(shape.Parameters())); sft.Memory < least+processBytes {
		t.Errorf("the plan's %d bytes are less than the least, %d", sft.Memory, least)
	}
}
