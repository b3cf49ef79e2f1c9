package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// ConfigReader reads the fields of a config.json by name and remembers which of them were asked for. A field that is
// null counts as absent. The first error is kept, and every later read gives the default.
type ConfigReader struct {
	*configErrors
	family string // model_type, for errors
	within string // names the object that the fields are in, with a dot; "" is the file itself
	fields map[string]json.RawMessage
	used   map[string]bool
	inner  []*ConfigReader // objects that were read
}

// configErrors is what a ConfigReader and the readers of objects inside of it share.
type configErrors struct {
	err   error
	notes []string // what was read otherwise than it stands, in phrases for people
}

// newConfigReader returns a reader of a JSON object.
func newConfigReader(raw []byte) (*ConfigReader, error) {
	r := &ConfigReader{configErrors: &configErrors{}, used: make(map[string]bool)}
	if err := json.Unmarshal(raw, &r.fields); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, fmt.Errorf("it is a %s, and should be an object", wrong.Value)
		}
		return nil, err
	}
	if r.fields == nil {
		return nil, errors.New("it is null, and should be an object")
	}
	return r, nil
}

// fail keeps an error, if it is the first one.
func (r *ConfigReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// note adds a note.
func (r *ConfigReader) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// Has reports whether a field is there and not null.
func (r *ConfigReader) Has(key string) bool {
	raw, ok := r.fields[key]
	return ok && string(raw) != "null"
}

// Null reports whether a field is there, and null: for the few of which that is another thing than to be absent.
func (r *ConfigReader) Null(key string) bool { return string(r.fields[key]) == "null" }

// Ignore marks fields as known, whatever they say.
func (r *ConfigReader) Ignore(keys ...string) {
	for _, k := range keys {
		r.used[k] = true
	}
}

// read decodes a field into a T, and returns absent where it is not there or not of that type.
func read[T any](r *ConfigReader, key string, absent T) T {
	r.used[key] = true
	if !r.Has(key) || r.err != nil {
		return absent
	}
	var v T
	if err := json.Unmarshal(r.fields[key], &v); err != nil {
		r.fail("%s", wrongType(r.within+key, err))
		return absent
	}
	return v
}

// wrongType says in plain words that a value has another type than it should.
func wrongType(key string, err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return key + ": " + err.Error()
	}
	if wrong.Field != "" { // inside of a list or an object
		key += "." + wrong.Field
	}
	return fmt.Sprintf("%s is a %s, and should be %s", key, wrong.Value, typeWord(wrong.Type))
}

// typeWord names the JSON type that decodes into a Go type, for people who edit config.json and do not know Go.
func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number that fits in " + strconv.Itoa(t.Bits()) + " bits"
}

// Int returns a whole number.
func (r *ConfigReader) Int(key string, absent int) int { return read(r, key, absent) }

// Size returns a whole number of at least one and at most limit.
func (r *ConfigReader) Size(key string, absent, limit int) int {
	n := r.Int(key, absent)
	if r.Has(key) && (n < 1 || n > limit) {
		r.fail("%s%s: %d is outside 1 to %d", r.within, key, n, limit)
		return absent
	}
	return n
}

// Float returns a number.
func (r *ConfigReader) Float(key string, absent float64) float64 { return read(r, key, absent) }

// Positive returns a number above zero.
func (r *ConfigReader) Positive(key string, absent float64) float64 {
	x := r.Float(key, absent)
	if r.Has(key) && !(x > 0) {
		r.fail("%s%s: %g is not above 0", r.within, key, x)
		return absent
	}
	return x
}

// Bool returns true or false.
func (r *ConfigReader) Bool(key string, absent bool) bool { return read(r, key, absent) }

// String returns a string.
func (r *ConfigReader) String(key, absent string) string { return read(r, key, absent) }

// Strings returns a list of strings.
func (r *ConfigReader) Strings(key string) []string { return read[[]string](r, key, nil) }

// Floats returns a list of numbers.
func (r *ConfigReader) Floats(key string) []float64 { return read[[]float64](r, key, nil) }

// Raw returns a field as it stands, or nil.
func (r *ConfigReader) Raw(key string) json.RawMessage {
	r.used[key] = true
	if !r.Has(key) {
		return nil
	}
	return r.fields[key]
}

// Object returns a reader of an object, or nil where there is none.
func (r *ConfigReader) Object(key string) *ConfigReader {
	fields := read[map[string]json.RawMessage](r, key, nil)
	if fields == nil {
		return nil
	}
	in := &ConfigReader{
		configErrors: r.configErrors, family: r.family, within: r.within + key + ".", fields: fields,
		used: make(map[string]bool),
	}
	r.inner = append(r.inner, in)
	return in
}

// Must refuses a field that says something else than one of values, which are JSON, or absent. why continues "is X: ".
func (r *ConfigReader) Must(key, why string, values ...string) {
	raw := r.Raw(key)
	if raw == nil || slices.Contains(values, string(raw)) {
		return
	}
	r.fail("%s%s is %.80s: %s", r.within, key, raw, why)
}

// finish refuses fields that nothing has read, by their names in order.
func (r *ConfigReader) finish() error {
	if r.err != nil {
		return r.err
	}
	for _, key := range slices.Sorted(maps.Keys(r.fields)) {
		if !r.used[key] && !(r.within == "" && harmless[key]) {
			return fmt.Errorf("%q is not known for %s, and may change what the model computes; remove it from the "+
				"file if it "+
				"does not", r.within+key, r.family)
		}
	}
	for _, in := range r.inner {
		if err := in.finish(); err != nil {
			return err
		}
	}
	return nil
}

// harmless lists the fields of config.json that change nothing in what a model computes: how it was initialised and
// trained, how it is loaded, how other programs sample from it, and notes of the programs that wrote it.
var harmless = setOf(
	"_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled",
	"_model_name_or_path", "_name_or_path", "attn_implementation", "auto_map", "base_model_tp_plan",
	"cache_implementation", "finetuning_task", "gradient_checkpointing", "license", "model_max_length", "n_ctx",
	"name_or_path", "prefix", "problem_type", "task_specific_params", "tf_legacy_loss", "tie_last_hidden_states",
	"tokenizer_class", "torchscript", "transformers.js_config", "transformers_version", "unsloth_fixed",
	"unsloth_version", "use_bfloat16", "use_cache",
	// initialisation and training
	"init_std", "initializer_factor", "initializer_range", "pretraining_tp", "reorder_and_upcast_attn",
	"summary_activation", "summary_first_dropout", "summary_last_dropout",
	"summary_proj_to_labels", "summary_type", "summary_use_proj",
	// what a call returns beside its result
	"chunk_size_feed_forward", "output_attentions", "output_hidden_states", "output_scores", "return_dict",
	"return_dict_in_generate",
	// tokens that this package does not read; those that begin, end and pad a text are read
	"cls_token_id", "decoder_start_token_id", "mask_token_id", "sep_token_id", "unk_token_id",
	// generation, which generation_config.json says today
	"bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
	"encoder_no_repeat_ngram_size", "epsilon_cutoff", "eta_cutoff", "exponential_decay_length_penalty",
	"forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
	"num_beam_groups", "num_beams", "num_return_sequences", "remove_invalid_values", "repetition_penalty",
	"suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
)

// dropouts lists the fields that are dropouts: training here has none.
var dropouts = []string{
	"activation_dropout", "attention_dropout", "attn_pdrop", "classifier_dropout", "dropout", "embd_pdrop",
	"embed_dropout", "hidden_dropout", "layerdrop", "resid_pdrop",
}

// setOf returns a set of names.
func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}
