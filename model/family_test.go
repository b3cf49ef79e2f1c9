package model_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/model"
)

// fixtures lists the folders that testdata/families/make.py wrote.
func fixtures(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/families/*/config.json")
	if err != nil || len(paths) < 15 {
		t.Fatalf("%d fixtures, %v", len(paths), err)
	}
	for i, p := range paths {
		paths[i] = filepath.Dir(p)
	}
	return paths
}

// readConfigFile reads a config.json.
func readConfigFile(t testing.TB, path string) model.ConfigFile {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := model.ReadConfig(raw)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// shapesOf reads the shapes of a safetensors file from its header.
func shapesOf(t *testing.T, path string) map[string][]int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var arrays map[string]struct{ Shape []int }
	if err := json.Unmarshal(raw[8:8+binary.LittleEndian.Uint64(raw)], &arrays); err != nil {
		t.Fatal(err)
	}
	shapes := make(map[string][]int)
	for name, a := range arrays {
		if name != "__metadata__" {
			shapes[name] = a.Shape
		}
	}
	return shapes
}

// TestFixtureNames: the arrays of a model are those that transformers saves of it, by name and shape.
func TestFixtureNames(t *testing.T) {
	for _, dir := range fixtures(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c := readConfigFile(t, filepath.Join(dir, "config.json")).Config
			want := shapesOf(t, filepath.Join(dir, "model.safetensors"))
			got := make(map[string][]int)
			family, _ := model.FamilyOf(c.Family)
			for _, p := range model.New(c, false).NamedParameters() {
				shape := slices.Clone(p.Shape)
				if strings.Contains(p.Name, "embed_positions") {
					shape[0] += family.PositionOffset
				}
				got[p.Name] = shape
			}
			if !maps.EqualFunc(got, want, slices.Equal) {
				t.Errorf("arrays\n%v, transformers saved\n%v", got, want)
			}
		})
	}
}

// TestOldSpelling: the older spelling of a config.json means the same model.
func TestOldSpelling(t *testing.T) {
	paths, err := filepath.Glob("testdata/families/*/config.old.json")
	if err != nil || len(paths) < 7 {
		t.Fatalf("%d fixtures, %v", len(paths), err)
	}
	for _, path := range paths {
		old := readConfigFile(t, path).Config
		now := readConfigFile(t, filepath.Join(filepath.Dir(path), "config.json")).Config
		if !old.Equal(now) {
			t.Errorf("%s\n%+v, in the new spelling\n%+v", path, old, now)
		}
	}
}

// TestConfigRoundTrip: what WriteConfig writes is read as the same Config, and Complete changes nothing in it.
func TestConfigRoundTrip(t *testing.T) {
	for _, dir := range fixtures(t) {
		f := readConfigFile(t, filepath.Join(dir, "config.json"))
		raw, err := model.WriteConfig(f)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		again, err := model.ReadConfig(raw)
		if err != nil || !again.Config.Equal(f.Config) {
			t.Errorf("%s: %v\n%+v, read again\n%+v\n%s", dir, err, f.Config, again.Config, raw)
		}
		if again.Architecture != f.Architecture || len(again.End) != len(f.End) || again.Scalar {
			t.Errorf("%s: %+v, read again %+v", dir, f, again)
		}
		if c := f.Config.Complete(); !c.Equal(f.Config) {
			t.Errorf("%s: Complete changes\n%+v to\n%+v", dir, f.Config, c)
		}
	}
}

// TestSpecs: a spec that names the family and sizes is a model of it, that a config.json can say.
func TestSpecs(t *testing.T) {
	for _, name := range model.FamilyNames() {
		if name == "any" { // for tests of shapes: no config.json says it
			continue
		}
		for _, layers := range []int{1, 2, 7} {
			c := model.Config{Family: name, Layers: layers, Width: 64, Heads: 4, KVHeads: 2, Context: 128, Vocab: 300}
			if slices.Contains([]string{"gpt2", "openai-gpt", "gpt_neox", "opt"}, name) {
				c.KVHeads = 0
			}
			c = c.Complete()
			if err := c.CheckFamily(); err != nil {
				t.Errorf("%s of %d layers: %v\n%+v", name, layers, err, c)
			}
			if again := c.Complete(); !again.Equal(c) {
				t.Errorf("%s: completed again\n%+v, was\n%+v", name, again, c)
			}
			raw, err := model.WriteConfig(model.ConfigFile{Config: c, Scalar: true})
			if err != nil {
				t.Fatal(err)
			}
			if f, err := model.ReadConfig(raw); err != nil || !f.Scalar {
				t.Errorf("%s: a reward model is read as %+v, %v", name, f, err)
			}
			model.New(c, true)
		}
	}
}

// TestConfigsAsPublished reads configs of published models, or their first lines with what is special about them.
func TestConfigsAsPublished(t *testing.T) {
	for _, tc := range []struct {
		name, json string
		want       func(c model.Config) bool
		note       string
	}{
		{"Llama 3.2", `"model_type":"llama","architectures":["LlamaForCausalLM"],"attention_bias":false,"mlp_bias":false,
			"head_dim":64,"hidden_act":"silu","hidden_size":2048,"intermediate_size":8192,"pretraining_tp":1,
			"max_position_embeddings":131072,"num_attention_heads":32,"num_hidden_layers":16,"num_key_value_heads":8,
			"rms_norm_eps":1e-05,"rope_theta":500000.0,"eos_token_id":[128001,128008,128009],"bos_token_id":128000,
			"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,
			"original_max_position_embeddings":8192,"rope_type":"llama3"},"tie_word_embeddings":true,
			"torch_dtype":"bfloat16","transformers_version":"4.45.0.dev0","use_cache":true,"vocab_size":128256`,
			func(c model.Config) bool {
				return !c.Untied && c.NoQKVBias && c.NoOutBias && c.NoMLPBias && c.RopeScaling.Factor == 32 && c.KVHeads == 8 &&
					c.RopeTheta == 500000 && c.Parameters() == 1235814400
			}, ""},
		{"Mistral 7B 0.1", `"model_type":"mistral","hidden_size":4096,"intermediate_size":14336,"sliding_window":4096,
			"num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,"rms_norm_eps":1e-05,
			"max_position_embeddings":32768,"rope_theta":10000.0,"tie_word_embeddings":false,"vocab_size":32000`,
			func(c model.Config) bool {
				return c.SlidingWindow == 4096 && c.Parameters() == 7241732096
			}, ""},
		{"Mistral 7B 0.3", `"model_type":"mistral","sliding_window":null,"vocab_size":32768`,
			func(c model.Config) bool { return c.SlidingWindow == 0 && c.KVHeads == 8 }, ""},
		{"Mistral by default", `"model_type":"mistral"`,
			func(c model.Config) bool { return c.SlidingWindow == 4096 && c.Untied }, ""},
		{"Qwen 2.5 0.5B", `"model_type":"qwen2","attention_dropout":0.0,"hidden_act":"silu","hidden_size":896,
			"intermediate_size":4864,"max_position_embeddings":32768,"max_window_layers":21,"num_attention_heads":14,
			"num_hidden_layers":24,"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,
			"sliding_window":32768,"tie_word_embeddings":true,"use_mrope":false,"use_sliding_window":false,
			"vocab_size":151936`,
			func(c model.Config) bool {
				return c.SlidingWindow == 0 && !c.NoQKVBias && c.NoOutBias && c.Parameters() == 494032768
			}, ""},
		{"Qwen 3 0.6B", `"model_type":"qwen3","attention_bias":false,"head_dim":128,"hidden_size":1024,
			"intermediate_size":3072,"max_position_embeddings":40960,"max_window_layers":28,"num_attention_heads":16,
			"num_hidden_layers":28,"num_key_value_heads":8,"rope_scaling":null,"rope_theta":1000000,
			"sliding_window":null,"tie_word_embeddings":true,"use_sliding_window":false,"vocab_size":151936`,
			func(c model.Config) bool { return c.HeadDim == 128 && c.Parameters() == 596049920 }, ""},
		{"Gemma 2B", `"model_type":"gemma","head_dim":256,"hidden_act":"gelu","hidden_activation":null,"hidden_size":2048,
			"intermediate_size":16384,"num_attention_heads":8,"num_hidden_layers":18,"num_key_value_heads":1,
			"vocab_size":256000`,
			func(c model.Config) bool {
				return c.Activation == "gelu_pytorch_tanh" && !c.Untied && c.Parameters() == 2506172416 && c.NormOffset == 1
			}, ""},
		{"Gemma 2 2B", `"model_type":"gemma2","attn_logit_softcapping":50.0,"cache_implementation":"hybrid",
			"final_logit_softcapping":30.0,"head_dim":256,"hidden_act":"gelu_pytorch_tanh",
			"hidden_activation":"gelu_pytorch_tanh","hidden_size":2304,"intermediate_size":9216,
			"num_attention_heads":8,"num_hidden_layers":26,"num_key_value_heads":4,"query_pre_attn_scalar":256,
			"sliding_window":4096,"vocab_size":256000`,
			func(c model.Config) bool {
				return c.AttentionScale == 1.0/16 && c.LogitCap == 30 && c.AttentionCap == 50 && len(c.FullLayers) == 13 &&
					c.FullLayers[0] == 1 && c.Parameters() == 2614341888
			}, ""},
		{"Gemma 2 without caps", `"model_type":"gemma2","attn_logit_softcapping":null,"final_logit_softcapping":null`,
			func(c model.Config) bool { return c.LogitCap == 0 && c.AttentionCap == 0 }, ""},
		{"Gemma 3 1B", `"model_type":"gemma3_text","architectures":["Gemma3ForCausalLM"],"attn_logit_softcapping":null,
			"final_logit_softcapping":null,"head_dim":256,"hidden_size":1152,"intermediate_size":6912,
			"num_attention_heads":4,"num_hidden_layers":26,"num_key_value_heads":1,"query_pre_attn_scalar":256,
			"rope_local_base_freq":10000,"rope_scaling":null,"rope_theta":1000000,"sliding_window":512,
			"sliding_window_pattern":6,"vocab_size":262144,"max_position_embeddings":32768`,
			func(c model.Config) bool {
				return c.RopeLocalTheta == 1e4 && c.RopeTheta == 1e6 && slices.Equal(c.FullLayers, []int{5, 11, 17, 23}) &&
					c.Parameters() == 999885952
			}, ""},
		{"Gemma 3's text", `"model_type":"gemma3","architectures":["Gemma3ForCausalLM"],"vision_config":{"a":1},
			"text_config":{"model_type":"gemma3_text","hidden_size":2560,"num_hidden_layers":34,"sliding_window":1024,
			"rope_scaling":{"factor":8.0,"rope_type":"linear"},"use_cache":true}`,
			func(c model.Config) bool { return c.Layers == 34 && c.RopeScaling.Factor == 8 }, ""},
		{"Phi 3 mini 128k", `"model_type":"phi3","auto_map":{"AutoConfig":"configuration_phi3.Phi3Config"},
			"attention_bias":false,"embd_pdrop":0.0,"hidden_size":64,"num_attention_heads":8,"num_hidden_layers":2,
			"num_key_value_heads":8,"original_max_position_embeddings":4096,"max_position_embeddings":131072,
			"rope_scaling":{"long_factor":[1.5,2,3,4],"short_factor":[1,1,1.25,1.5],"type":"su"},
			"rope_theta":10000.0,"sliding_window":262144,"tie_word_embeddings":false`,
			func(c model.Config) bool {
				return c.Context == 4096 && c.RopeScaling.Factor == 32 && c.RopeScaling.Type == "longrope" &&
					c.SlidingWindow == 262144
			}, "the longest sequence is original_max_position_embeddings, 4096"},
		{"Phi 4 mini", `"model_type":"phi3","partial_rotary_factor":0.75,"hidden_size":3072,"num_attention_heads":24,
			"num_key_value_heads":8,"full_attn_mod":1,"interpolate_factor":1,"lm_head_bias":false,"mlp_bias":false,
			"tie_word_embeddings":true,"sliding_window":262144`,
			func(c model.Config) bool { return c.RotaryDim == 96 && !c.Untied }, ""},
		{"OLMo 2 1B", `"model_type":"olmo2","attention_bias":false,"hidden_size":2048,"intermediate_size":8192,
			"max_position_embeddings":4096,"num_attention_heads":16,"num_hidden_layers":16,"num_key_value_heads":16,
			"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":500000,"tie_word_embeddings":false,
			"vocab_size":100352`,
			func(c model.Config) bool { return c.QKNorm == model.QKNormFull && c.Parameters() == 1484916736 }, ""},
		{"Pythia 70M", `"model_type":"gpt_neox","architectures":["GPTNeoXForCausalLM"],"hidden_act":"gelu",
			"hidden_size":512,"intermediate_size":2048,"layer_norm_eps":1e-05,"max_position_embeddings":2048,
			"num_attention_heads":8,"num_hidden_layers":6,"rotary_emb_base":10000,"rotary_pct":0.25,
			"tie_word_embeddings":false,"torch_dtype":"float16","use_cache":true,"use_parallel_residual":true,
			"vocab_size":50304`,
			func(c model.Config) bool {
				return c.RotaryDim == 16 && c.ParallelResidual && c.Activation == "gelu" && c.Parameters() == 70426624
			}, ""},
		{"OPT 125M", `"model_type":"opt","_remove_final_layer_norm":false,"activation_dropout":0.0,
			"activation_function":"relu","architectures":["OPTForCausalLM"],"attention_dropout":0.0,
			"do_layer_norm_before":true,"dropout":0.1,"ffn_dim":3072,"hidden_size":768,"init_std":0.02,
			"layerdrop":0.0,"max_position_embeddings":2048,"num_attention_heads":12,"num_hidden_layers":12,
			"prefix":"</s>","vocab_size":50272,"word_embed_proj_dim":768`,
			func(c model.Config) bool { return c.Parameters() == 125239296-2*768 }, "dropout"},
		{"GPT-1", `"model_type":"openai-gpt","architectures":["OpenAIGPTLMHeadModel"],"afn":"gelu","n_ctx":512,
			"n_special":0,"predict_special_tokens":true,"summary_type":"cls_index","attn_pdrop":0.1`,
			func(c model.Config) bool { return c.Parameters() == 116534784 }, "dropout"},
		{"GPT-2", `"model_type":"gpt2","architectures":["GPT2LMHeadModel"],"n_ctx":1024,"activation_function":"gelu_new",
			"task_specific_params":{"text-generation":{"do_sample":true,"max_length":50}}`,
			func(c model.Config) bool {
				return c.Equal(model.Config{Layers: 12, Width: 768, Heads: 12, Context: 1024, Vocab: 50257})
			}, ""},
	} {
		f, err := model.ReadConfig([]byte("{" + tc.json + "}"))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if !tc.want(f.Config) {
			t.Errorf("%s: %d parameters, %+v", tc.name, f.Config.Parameters(), f.Config)
		}
		if !strings.Contains(strings.Join(f.Notes, "\n"), tc.note) || tc.note == "" && len(f.Notes) > 0 {
			t.Errorf("%s: notes %q", tc.name, f.Notes)
		}
		raw, err := model.WriteConfig(f)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if again, err := model.ReadConfig(raw); err != nil || !again.Config.Equal(f.Config) {
			t.Errorf("%s: %v\n%+v, written and read\n%+v", tc.name, err, f.Config, again.Config)
		}
	}
}

// TestConfigsRefused: what may change the result and is not computed is refused by its name.
func TestConfigsRefused(t *testing.T) {
	for _, tc := range []struct{ json, want string }{
		{``, "model_type is \"\": want one of gpt2, openai-gpt, llama"},
		{`"model_type":"bloom"`, `model_type is "bloom"`},
		{`"model_type":7`, "model_type is a number, and should be a string"},
		{`"model_type":"llama","foo_scale":2`, `"foo_scale" is not known for llama`},
		{`"model_type":"gpt2","foo_scale":null`, `"foo_scale" is not known for gpt2`},
		{`"model_type":"gpt2","rope_theta":1`, `"rope_theta" is not known for gpt2`},
		{`"model_type":"llama","architectures":["MistralForCausalLM"]`, "architectures are [\"MistralForCausalLM\"]"},
		{`"model_type":"llama","architectures":["LlamaForSequenceClassification"],"num_labels":3`, "exactly one label"},
		{`"model_type":"llama","architectures":["LlamaForSequenceClassification"]`, "exactly one label"},
		{`"model_type":"llama","quantization_config":{"bits":4}`, "quantization_config is {\"bits\":4}"},
		{`"model_type":"llama","is_encoder_decoder":true`, "is_encoder_decoder is true"},
		{`"model_type":"llama","pruned_heads":{"0":[1]}`, "pruned_heads"},
		{`"model_type":"llama","hidden_act":"quick_gelu"`, "hidden_act is \"quick_gelu\""},
		{`"model_type":"llama","hidden_size":"64"`, "hidden_size is a string, and should be a whole number"},
		{`"model_type":"llama","hidden_size":64.5`, "hidden_size is a number 64.5, and should be a whole number"},
		{`"model_type":"llama","hidden_size":1e30`, "hidden_size is a number 1e30, and should be a whole number"},
		{`"model_type":"llama","num_hidden_layers":1000000000`, "num_hidden_layers: 1000000000 is outside 1 to 1024"},
		{`"model_type":"llama","num_hidden_layers":0`, "num_hidden_layers: 0 is outside 1 to 1024"},
		{`"model_type":"llama","num_hidden_layers":-1`, "num_hidden_layers: -1"},
		{`"model_type":"llama","num_key_value_heads":5`, "num_attention_heads: 32 is not a multiple"},
		{`"model_type":"llama","hidden_size":33`, "hidden_size: 33 is not a multiple"},
		{`"model_type":"llama","rms_norm_eps":0`, "rms_norm_eps: 0 is not above 0"},
		{`"model_type":"llama","rms_norm_eps":null,"sliding_window":4`, "sliding_window is 4: a llama has none"},
		{`"model_type":"llama","rope_interleaved":true`, "rope_interleaved is true"},
		{`"model_type":"llama","partial_rotary_factor":0.5`, "partial_rotary_factor is 0.5: a llama rotates all"},
		{`"model_type":"llama","rope_scaling":{"rope_type":"linear"}`, "rope_scaling.factor is absent"},
		{`"model_type":"llama","rope_scaling":{"rope_type":"linear","factor":0.5}`, "rope_scaling.factor: 0.5 is below 1"},
		{`"model_type":"llama","rope_scaling":{"rope_type":"axial","factor":2}`, "rope_scaling.rope_type: \"axial\""},
		{`"model_type":"llama","rope_scaling":{"rope_type":"linear","factor":2,"mrope_section":[1]}`,
			`"rope_scaling.mrope_section" is not known`},
		{`"model_type":"llama","rope_scaling":{"rope_type":"linear","factor":2},"rope_parameters":{"rope_type":"default"}`,
			"both given"},
		{`"model_type":"llama","rope_scaling":{"rope_type":"longrope","short_factor":[1],"long_factor":[1]}`,
			"a llama does not have it"},
		{`"model_type":"llama","rope_scaling":[1]`, "rope_scaling is a array, and should be an object"},
		{`"model_type":"llama","layer_types":["sliding_attention"],"num_hidden_layers":1`, "layer_types says that layers"},
		{`"model_type":"phi3","rope_scaling":{"rope_type":"linear","factor":2}`, "a phi3 does not have it"},
		{`"model_type":"phi3","rope_scaling":{"type":"longrope","short_factor":[1],"long_factor":[1]}`,
			"short_factor and long_factor have 1 and 1 numbers, and must have 48"},
		{`"model_type":"phi3","lm_head_bias":true`, "lm_head_bias is true"},
		{`"model_type":"mistral","attention_bias":true`, "attention_bias is true"},
		{`"model_type":"mistral","num_hidden_layers":2,"layer_types":["full_attention","sliding_attention"]`,
			"in a mistral they are alike"},
		{`"model_type":"qwen2","num_hidden_layers":1,"layer_types":["sliding_attention"]`, "use_sliding_window is false"},
		{`"model_type":"qwen2","num_hidden_layers":1,"layer_types":["chunked_attention"]`, "\"chunked_attention\""},
		{`"model_type":"qwen2","layer_types":["full_attention"]`, "layer_types names 1 layers of 32"},
		{`"model_type":"qwen2","use_mrope":true`, "use_mrope is true"},
		{`"model_type":"gemma","use_bidirectional_attention":true`, "use_bidirectional_attention is true"},
		{`"model_type":"gemma2","attn_logit_softcapping":0`, "attn_logit_softcapping: 0 is not above 0"},
		{`"model_type":"gemma2","num_hidden_layers":2,"layer_types":["sliding_attention","sliding_attention"]`,
			"every 2nd of a gemma2"},
		{`"model_type":"gemma3","architectures":["Gemma3ForConditionalGeneration"],"text_config":{}`, "architectures are"},
		{`"model_type":"gemma3_text","rope_parameters":{"sliding_attention":{"rope_type":"linear","factor":2}}`,
			"rope_parameters.sliding_attention.rope_type is \"linear\""},
		{`"model_type":"gpt_neox","head_dim":16`, `"head_dim" is not known for gpt_neox`},
		{`"model_type":"gpt_neox","rotary_pct":1.5`, "rotary_pct is 1.5: want at most 1"},
		{`"model_type":"opt","word_embed_proj_dim":512,"hidden_size":1024,"num_attention_heads":16`,
			"word_embed_proj_dim is 512 and hidden_size 1024"},
		{`"model_type":"opt","layer_norm_elementwise_affine":false`, "layer_norm_elementwise_affine is false"},
		{`"model_type":"openai-gpt","afn":"gelu_new"`, "afn is \"gelu_new\""},
		{`"model_type":"gpt2","scale_attn_by_inverse_layer_idx":true`, "scale_attn_by_inverse_layer_idx is true"},
		{`"model_type":"gpt2","scale_attn_weights":false`, "scale_attn_weights is false"},
		{`"model_type":"gpt2","add_cross_attention":true`, "add_cross_attention is true"},
		{`"model_type":"gpt2","eos_token_id":"x"`, "eos_token_id is \"x\": want an id, or a list of ids"},
		{`"model_type":"gpt2","n_positions":9999999`, "max_position_embeddings: 9999999 is outside"},
	} {
		_, err := model.ReadConfig([]byte("{" + tc.json + "}"))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("{%s}: %v; want %q in it", tc.json, err, tc.want)
		}
	}
	for _, raw := range []string{"", "null", "[]", "7", "{", `{"a":1}{`} {
		if _, err := model.ReadConfig([]byte(raw)); err == nil {
			t.Errorf("%q is no config.json", raw)
		}
	}
}

// TestCheckFamily: a shape that a family's config.json cannot say is refused by the field.
func TestCheckFamily(t *testing.T) {
	llama := model.Config{Family: "llama", Layers: 2, Width: 64, Heads: 4, Context: 128, Vocab: 300}.Complete()
	for _, tc := range []struct {
		field  string
		change func(c *model.Config)
	}{
		{"sliding_window", func(c *model.Config) { c.SlidingWindow = 8 }},
		{"qk_norm", func(c *model.Config) { c.QKNorm = model.QKNormHead }},
		{"norm_placement", func(c *model.Config) { c.NormAt = model.NormOutput }},
		{"norm_offset", func(c *model.Config) { c.NormOffset = 1 }},
		{"rotary_dim", func(c *model.Config) { c.RotaryDim = 8 }},
		{"logit_scale", func(c *model.Config) { c.LogitScale = 0.5 }},
		{"no_out_bias", func(c *model.Config) { c.NoOutBias = false }},
		{"positions", func(c *model.Config) { c.Positions = model.NoPositions }},
		{"gated_mlp", func(c *model.Config) { c.Gated = false }},
	} {
		c := llama
		tc.change(&c)
		if err := c.CheckFamily(); err == nil || !strings.HasPrefix(err.Error(), tc.field+": ") {
			t.Errorf("%s: %v", tc.field, err)
		}
	}
	biased := llama
	biased.NoQKVBias, biased.NoOutBias = false, false
	if err := biased.CheckFamily(); err != nil {
		t.Error(err)
	}
}

// TestRopeFields: every setting of the frequencies comes back.
func TestRopeFields(t *testing.T) {
	c := model.Config{Family: "llama", Layers: 1, Width: 64, Heads: 4, Context: 128, Vocab: 300}.Complete()
	for _, s := range []model.RopeScaling{
		{},
		{Type: "linear", Factor: 2.5},
		{Type: "dynamic", Factor: 4},
		{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, Original: 64},
		{Type: "yarn", Factor: 4, Original: 32},
		{Type: "yarn", Factor: 40, Original: 64, BetaFast: 16, BetaSlow: 2, MScale: 0.7, MScaleAllDim: 0.9},
		{Type: "yarn", Factor: 4, Original: 32, AttentionFactor: 1.25, NoTruncate: true},
	} {
		c.RopeScaling = s
		if err := c.CheckFamily(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestPartialRotation: the fraction that is written gives the number of elements that it was made of.
func TestPartialRotation(t *testing.T) {
	for d := 2; d <= 128; d++ {
		for n := 2; n <= d; n += 2 {
			c := model.Config{Family: "gpt_neox", Layers: 1, Width: d, Heads: 1, Context: 9, Vocab: 9, RotaryDim: n,
				QKVPerHead: true, Positions: model.RotaryPositions, RopeTheta: 100, Inner: 7}.Complete()
			if err := c.CheckFamily(); err != nil {
				t.Fatalf("%d of %d: %v", n, d, err)
			}
		}
	}
}

// TestGemmaScale: the scale of the embedding is what transformers keeps in a float32.
func TestGemmaScale(t *testing.T) {
	c := model.Config{Family: "gemma", Layers: 1, Width: 3072, Heads: 16, Context: 8, Vocab: 9}.Complete()
	if want := float64(float32(math.Sqrt(3072))); c.EmbeddingScale != want {
		t.Errorf("%v, want %v", c.EmbeddingScale, want)
	}
}

// FuzzReadConfig: no config.json makes ReadConfig panic, and what it accepts is written and read as the same Config.
func FuzzReadConfig(f *testing.F) {
	for _, dir := range fixtures(f) {
		for _, name := range []string{"config.json", "config.old.json"} {
			if raw, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				f.Add(raw)
			}
		}
	}
	for _, name := range model.FamilyNames() {
		if name == "any" { // for tests of shapes: no config.json says it
			continue
		}
		f.Add(fmt.Appendf(nil, `{"model_type":%q}`, name))
	}
	f.Add([]byte(`{"model_type":"gemma3","architectures":["Gemma3ForCausalLM"],"text_config":{"head_dim":3}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := model.ReadConfig(raw)
		if err != nil {
			return
		}
		written, err := model.WriteConfig(file)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if again, err := model.ReadConfig(written); err != nil || !again.Config.Equal(file.Config) {
			t.Fatalf("%s\nis %+v,\nwritten and read %+v, %v", raw, file.Config, again.Config, err)
		}
	})
}
