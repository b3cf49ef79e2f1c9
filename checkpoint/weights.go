package checkpoint

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// indexName is the file that says which file holds each array, where the weights
// are in several (shards).
const indexName = "model.safetensors.index.json"

// readIndex decodes an index: the name of the file by the name of the array.
func readIndex(index []byte) (map[string]string, error) {
	var x struct {
		Map map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(index, &x); err != nil {
		return nil, jsonError(err)
	}
	return x.Map, nil
}

// shardNames lists the files that an index names, in order of name. An index that
// names none, or a file in another folder, is refused.
func shardNames(index []byte) ([]string, error) {
	files, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	names := slices.Compact(slices.Sorted(maps.Values(files)))
	for _, name := range names {
		// The index comes from elsewhere: its names must not lead out of the folder.
		if name != path.Base(name) || strings.ContainsAny(name, `/\`) || !strings.HasSuffix(name, ".safetensors") {
			return nil, fmt.Errorf("%.80q is not the name of a .safetensors file in the same folder", name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("weight_map names no file")
	}
	return names, nil
}

// weights are the arrays of a folder, not decoded yet.
type weights struct {
	arrays   []rawArray        // in the order of the file, shards in order of name
	metadata map[string]string // of model.safetensors; nil for shards
	notes    []string          // for Folder.Notes
}

// readWeights reads model.safetensors, or the shards that an index names. The
// shards must hold exactly the arrays that the index says.
func readWeights(files []File) (*weights, error) {
	if raw := fileData(files, weightsName); raw != nil {
		arrays, metadata, err := parseSafetensors(raw)
		if err != nil {
			return nil, unsupportedError("%s: %w", weightsName, err)
		}
		return &weights{arrays: arrays, metadata: metadata}, nil
	}
	index := fileData(files, indexName)
	if index == nil {
		return nil, unsupportedError("%s is absent", weightsName)
	}
	names, err := shardNames(index)
	if err != nil {
		return nil, unsupportedError("%s: %w", indexName, err)
	}
	// Arrays that have not been found yet. shardNames has decoded the index without an error.
	missing, _ := readIndex(index)
	w := &weights{}
	for _, name := range names {
		arrays, _, err := parseSafetensors(fileData(files, name))
		if err != nil {
			return nil, unsupportedError("%s: %w", name, err)
		}
		for _, a := range arrays {
			if missing[a.name] != name {
				return nil, unsupportedError("%s holds the array %s, which %s does not list", name, a.name, indexName)
			}
			delete(missing, a.name)
		}
		w.arrays = append(w.arrays, arrays...)
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		return nil, unsupportedError("%s says that array %s is in %s, but it is not", indexName, name, missing[name])
	}
	w.notes = append(w.notes, fmt.Sprintf("the weights were read from %d files, as %s says", len(names), indexName))
	return w, nil
}

// dtypes lists the element types of the arrays, each once.
func (w *weights) dtypes() string {
	var names []string
	for _, a := range w.arrays {
		names = append(names, a.dtype)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// bodyPrefix begins the names of the body in models with a head. It is absent in
// a bare GPT2Model.
const bodyPrefix = "transformer."

// wrapperPrefixes are what other programs put in front of every name when they
// save a model that they have wrapped: torch.compile, DataParallel, PEFT's
// merged adapters, a trainer that holds it as its model, TRL's value head.
var wrapperPrefixes = []string{"_orig_mod.", "module.", "base_model.model.", "model.", "pretrained_model."}

// trimWrappers takes any sequence of wrapper prefixes off a name.
func trimWrappers(name string) (bare, taken string) {
	bare = name
	for { // wrappers can be nested: module._orig_mod.…
		i := slices.IndexFunc(wrapperPrefixes, func(p string) bool { return strings.HasPrefix(bare, p) })
		if i < 0 {
			return bare, name[:len(name)-len(bare)]
		}
		bare = bare[len(wrapperPrefixes[i]):]
	}
}

// maskBuffer matches the attention masks that old versions of transformers export.
var maskBuffer = regexp.MustCompile(`^transformer\.h\.\d+\.attn\.(bias|masked_bias)$`)

// valueHead matches the arrays that TRL's PPO adds to a language model.
var valueHead = regexp.MustCompile(`^v_head\.`)

// qualifiedName matches names that are complete; others are of a bare GPT2Model.
var qualifiedName = regexp.MustCompile(`^(transformer|score|lm_head|v_head)\.`)

// load returns a model of shape c with the weights. Every parameter must exist in
// its shape, except score.bias, which is 0 if it is absent. Masks, a value head,
// and an output head that equals the embedding are left out; any other array is
// refused. Errors: unsupported_model, vocabulary_mismatch, not_a_number.
func (w *weights) load(c model.Config, scalar bool) (*model.Model, error) {
	byName, err := w.byFullName(scalar)
	if err != nil {
		return nil, err
	}
	// A tokenizer that was extended without resizing the embedding, or the reverse, is
	// common enough for a message of its own.
	if rows := byName[bodyPrefix+"wte.weight"].shape; len(rows) == 2 && rows[1] == c.Width && rows[0] != c.Vocab {
		return nil, trimtab.NewError(trimtab.Invalid, "vocabulary_mismatch",
			"make them the same with model.resize_token_embeddings(len(tokenizer)) and save again",
			"%s says that vocab_size is %d, and the embedding in %s has %d rows", configName, c.Vocab, weightsName,
			rows[0])
	}
	// config.json may claim any size: compare it with what the file holds before
	// anything of that size is allocated.
	total := 0
	for _, a := range byName {
		total += elements(a.shape)
	}
	if c.Parameters() > total {
		return nil, unsupportedError("%s holds %d numbers, %s asks for %d", weightsName, total, configName,
			c.Parameters())
	}
	m := model.New(c, scalar)
	for _, p := range m.NamedParameters() {
		a, ok := byName[p.Name]
		if !ok && p.Name == "score.bias" { // absent in models of Hugging Face, and then 0
			continue
		}
		if err := a.fill(p, ok); err != nil {
			return nil, err
		}
		delete(byName, p.Name)
	}
	if err := w.checkUnused(byName, m); err != nil {
		return nil, err
	}
	return m, checkFinite(m.NamedParameters())
}

// fill decodes an array into a parameter, if it was found and has its shape.
func (a rawArray) fill(p tensor.NamedArray, found bool) error {
	if !found {
		return unsupportedError("%s: array %s must have the shape %v, and is absent", weightsName, p.Name, p.Shape)
	}
	if !slices.Equal(a.shape, p.Shape) {
		return unsupportedError("%s: array %s must have the shape %v, and has %v", weightsName, a.name, p.Shape,
			a.shape)
	}
	if err := a.floats(p.Data); err != nil {
		return trimtab.NewError(trimtab.Invalid, "unsupported_model",
			"save the model in float32: model.float().save_pretrained(…)",
			"%s: %w", weightsName, err)
	}
	return nil
}

// byFullName returns the arrays by their complete names, without wrapper
// prefixes, masks and value heads, which it adds to the notes. An array that is
// certainly of something else is refused, and so are two arrays that have the same
// complete name.
func (w *weights) byFullName(scalar bool) (map[string]rawArray, error) {
	byName := make(map[string]rawArray, len(w.arrays))
	off := make(map[string]int)
	var masks int
	var heads []string
	for _, a := range w.arrays {
		name, taken := trimWrappers(a.name)
		if what := foreignKind(name, a.dtype, scalar); what != "" {
			return nil, unknownArray(a.name, what)
		}
		if taken != "" {
			off[taken]++
		}
		// A bare GPT2Model saves the body without the prefix that a head adds.
		if !qualifiedName.MatchString(name) {
			name = bodyPrefix + name
		}
		switch other, twice := byName[name]; {
		case twice:
			return nil, unsupportedError("%s: arrays %s and %s are both %s", weightsName, other.name, a.name, name)
		case maskBuffer.MatchString(name):
			masks++
		case valueHead.MatchString(name):
			heads = append(heads, a.name)
		default:
			byName[name] = a
		}
	}
	for _, prefix := range slices.Sorted(maps.Keys(off)) {
		w.notes = append(w.notes, fmt.Sprintf("the prefix %s was taken off %s", prefix, number(off[prefix], "name")))
	}
	if masks > 0 {
		w.notes = append(w.notes, fmt.Sprintf("%s left out: this transformer computes its own",
			number(masks, "attention mask")))
	}
	if len(heads) > 0 {
		w.notes = append(w.notes, "left out, as the value head of a PPO trainer and not part of the language model: "+
			strings.Join(heads, ", "))
	}
	return byName, nil
}

// number is a count with its noun.
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// unknownArray refuses an array that is no parameter of this transformer. what
// says what it probably is; it may be empty.
func unknownArray(name, what string) error {
	remedy := "give a Hugging Face GPT-2 folder: config.json, model.safetensors, vocab.json, merges.txt"
	i := slices.IndexFunc(foreignPatterns, func(s foreignPattern) bool { return s.what == what })
	if i >= 0 && foreignPatterns[i].remedy != "" {
		remedy = foreignPatterns[i].remedy
	}
	if what != "" {
		what = ": it is probably " + what
	}
	return trimtab.NewError(trimtab.Invalid, "unsupported_model", remedy,
		"%s: array %s is not part of this transformer%s", weightsName, name, what)
}

// foreignPattern recognizes arrays that other programs save, by their names.
type foreignPattern struct {
	name   *regexp.Regexp // matches names without wrapper prefixes
	what   string         // continues "it is probably …"
	remedy string         // empty where giving another model is the only one
}

// foreignPatterns say what an array probably is; the first that matches counts.
var foreignPatterns = []foreignPattern{
	{
		name:   regexp.MustCompile(`lora_|(^|\.)base_layer\.|ia3_|prompt_encoder\.|modules_to_save\.`),
		what:   "of an adapter (LoRA or the like)",
		remedy: "merge the adapter into the model with peft's merge_and_unload(), and save what that gives",
	},
	{
		name: regexp.MustCompile(`\.(qweight|qzeros|scales|g_idx|absmax|quant_map|SCB|weight_format)$|` +
			`\.(weight_scale|weight_packed)$|` +
			`\.(weight_zero_point|input_scale)$|\.quant_state\.`),
		what:   "a quantized weight",
		remedy: "save the model in float32: model.dequantize() if it has that, or the model that it was made of",
	},
	{
		name:   regexp.MustCompile(`exp_avg|^optimizer\.|^state\.\d+\.|\.momentum_buffer$|^lr_scheduler\.`),
		what:   "an optimizer's state",
		remedy: "give the folder of the model, not that of a checkpoint's optimizer",
	},
	{
		name: regexp.MustCompile(`(^|\.)(layers\.\d+\.(self_attn|mlp|input_layernorm|post_attention_layernorm)|` +
			`embed_tokens|rotary_emb)`),
		what: "of another architecture, named as Llama's are",
	},
	{
		name: regexp.MustCompile(`^(gpt_neox|bert|roberta|model\.decoder|encoder|decoder|shared)\.|^embed_out\.`),
		what: "of another architecture",
	},
	{
		name: regexp.MustCompile(`crossattention\.|ln_cross_attn\.|\.q_attn\.`),
		what: "of attention to an encoder, which a language model does not have",
	},
	{
		name:   regexp.MustCompile(`multiple_choice_head\.`),
		what:   "the second head of GPT2DoubleHeadsModel",
		remedy: "save the language model alone: GPT2LMHeadModel.from_pretrained(…).save_pretrained(…)",
	},
}

// foreignKind says what an array is that is certainly no part of this
// transformer; it is empty for any other.
func foreignKind(name, dtype string, scalar bool) string {
	for _, s := range foreignPatterns {
		if s.name.MatchString(name) {
			return s.what
		}
	}
	switch { // what depends on more than the name
	case scalar && valueHead.MatchString(name):
		return "the value head of a PPO trainer, in a folder that config.json calls a classifier"
	case !scalar && strings.HasPrefix(name, "score."):
		return "the head of a reward model, in a folder that config.json calls a language model"
	case strings.HasPrefix(dtype, "F8_"):
		return "a quantized weight"
	}
	return ""
}

// checkUnused refuses arrays that are not parameters of m, except an output head
// that is the embedding.
func (w *weights) checkUnused(rest map[string]rawArray, m *model.Model) error {
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		a := rest[name]
		if name != "lm_head.weight" {
			return unknownArray(a.name, "")
		}
		if err := checkTied(a, m.NamedParameters()[0]); err != nil {
			return err
		}
		w.notes = append(w.notes,
			"lm_head.weight left out: it equals the embedding, to which the head is tied here too")
	}
	return nil
}

// checkTied accepts an output head that equals the embedding, bit for bit. A head
// that was trained apart would change what the model computes.
func checkTied(head rawArray, embedding tensor.NamedArray) error {
	if !slices.Equal(head.shape, embedding.Shape) {
		return unsupportedError("lm_head.weight has the shape %v, the embedding %v", head.shape, embedding.Shape)
	}
	data := make([]float32, len(embedding.Data))
	if err := head.floats(data); err != nil {
		return unsupportedError("%w", err)
	}
	// Some exports write the tied head out as an array of its own.
	for i, v := range data {
		if math.Float32bits(v) != math.Float32bits(embedding.Data[i]) {
			return unsupportedError("lm_head.weight differs from the embedding: only tied heads are supported")
		}
	}
	return nil
}
