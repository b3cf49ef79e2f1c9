package checkpoint

import (
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
	metadata map[string]string // of model.safetensors, or of the last shard
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
		arrays, metadata, err := parseSafetensors(fileData(files, name))
		if err != nil {
			return nil, unsupportedError("%s: %w", name, err)
		}
		w.metadata = metadata
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

// wrapperPrefixes are what other programs put in front of every name when they save a model that they have wrapped:
// torch.compile, DataParallel, PEFT's merged adapters, a trainer that holds it as its model, TRL's value head, a
// model of text and images.
var wrapperPrefixes = []string{
	"_orig_mod.", "module.", "base_model.model.", "model.", "pretrained_model.", "language_model.",
}

// trimWrappers takes any sequence of wrapper prefixes off a name.
func trimWrappers(name string) (bare, taken string) {
	bare = name
	for { // wrappers can be nested: module._orig_mod.…
		rest, ok := trimWrapper(bare)
		if !ok {
			return bare, name[:len(name)-len(bare)]
		}
		bare = rest
	}
}

// trimWrapper takes one wrapper prefix off a name.
func trimWrapper(name string) (rest string, ok bool) {
	i := slices.IndexFunc(wrapperPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	if i < 0 {
		return name, false
	}
	return name[len(wrapperPrefixes[i]):], true
}

// buffer matches what versions of transformers save that is no parameter, after the prefix of the body: masks of
// attention, and frequencies of rotary positions.
var buffer = regexp.MustCompile(`^(decoder\.)?((h|layers)\.\d+\.(attn|attention|self_attn)\.` +
	`(bias|masked_bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq|position_ids)$`)

// valueHead matches the arrays that TRL's PPO adds to a language model.
var valueHead = regexp.MustCompile(`^v_head\.`)

// naming finds the parameters of a model by the names that other programs give them.
type naming struct {
	prefix string          // of the names of the body, which is absent in a bare body
	known  map[string]bool // names of parameters
}

// newNaming returns the naming of a model of shape c. The output head has a name also where it is the embedding, since
// some programs save it then.
func newNaming(c model.Config, scalar bool) naming {
	family, _ := model.FamilyOf(c.Family)
	n := naming{prefix: family.Prefix, known: map[string]bool{family.HeadName(): true}}
	for _, p := range c.StoredArrays(scalar) {
		n.known[p.Name] = true
	}
	return n
}

// resolve returns the complete name of a parameter or a buffer, and the wrapper prefixes that were taken off it.
func (n naming) resolve(name string) (full, taken string, ok bool) {
	for rest := name; ; {
		for _, full := range []string{rest, n.prefix + rest} {
			if n.known[full] || n.isBuffer(full) {
				return full, name[:len(name)-len(rest)], true
			}
		}
		if rest, ok = trimWrapper(rest); !ok {
			return name, "", false
		}
	}
}

// isBuffer reports whether a complete name is that of a buffer.
func (n naming) isBuffer(full string) bool {
	rest, ok := strings.CutPrefix(full, n.prefix)
	return ok && !n.known[full] && buffer.MatchString(rest)
}

// load returns a model of shape c with the weights. Every parameter must exist in its shape, except score.bias,
// which is 0 if it is absent. Buffers, a value head, and an output head that equals the embedding are left out; any
// other array is refused. Errors: unsupported_model, vocabulary_mismatch, not_a_number.
func (w *weights) load(c model.Config, scalar bool) (*model.Model, error) {
	if c.Layers > len(w.arrays) { // before a list is made of so many
		return nil, unsupportedError("%s says that there are %d blocks, and %s holds %s in all", configName, c.Layers,
			weightsName, number(len(w.arrays), "array"))
	}
	arrays := c.StoredArrays(scalar)
	byName, err := w.byFullName(c, scalar)
	if err != nil {
		return nil, err
	}
	w.takeHead(c, byName, arrays[0].Name)
	// A tokenizer that was extended without resizing the embedding, or the reverse, is
	// a fault that people make, and the general message does not say it.
	if rows := byName[arrays[0].Name].shape; len(rows) == 2 && rows[1] == c.Width && rows[0] != c.Vocab {
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
		return nil, w.tooFew(c, byName, arrays, total)
	}
	m := model.New(c, scalar)
	params := m.NamedParameters()
	for i, p := range arrays {
		a, ok := byName[p.Name]
		if !ok && p.Name == "score.bias" { // absent in models of Hugging Face, and then 0
			continue
		}
		if err := a.fill(p, params[i].Data, ok); err != nil {
			return nil, err
		}
		delete(byName, p.Name)
		if p.Spare > 0 {
			w.notes = append(w.notes, fmt.Sprintf("the first %s of %s left out: they belong to no position",
				number(p.Spare/c.Width, "row"), p.Name))
		}
	}
	if err := w.checkUnused(byName, m); err != nil {
		return nil, err
	}
	return m, checkRead(m)
}

// checkRead refuses weights that hold NaN or an infinity. Error: not_a_number.
func checkRead(m *model.Model) error {
	err := checkFinite(m.NamedParameters())
	if err == nil {
		return nil
	}
	e := trimtab.AsError(err)
	return trimtab.NewError(e.Class, e.Type, "get the folder again, or save the model before it diverged", "%s",
		e.Message)
}

// tooFew says what is missing where the files hold fewer numbers than config.json asks for: the first array that is
// absent or has another shape.
func (w *weights) tooFew(
	c model.Config, byName map[string]rawArray, arrays []model.StoredArray, total int,
) error {
	err := unsupportedError("%s holds %d numbers, %s asks for %d", weightsName, total, configName, c.Parameters())
	for _, p := range arrays {
		a, ok := byName[p.Name]
		if wrong := a.misfit(p, ok); wrong != nil {
			return annotate(wrong, "%s holds %d numbers, %s asks for %d", weightsName, total, configName,
				c.Parameters())
		}
	}
	return err
}

// takeHead takes an output head for the embedding that it is tied to, where that alone was saved.
func (w *weights) takeHead(c model.Config, byName map[string]rawArray, embedding string) {
	family, _ := model.FamilyOf(c.Family)
	head, ok := byName[family.HeadName()]
	if _, there := byName[embedding]; there || !ok || c.Untied {
		return
	}
	byName[embedding] = head
	delete(byName, family.HeadName())
	w.notes = append(w.notes, fmt.Sprintf("%s is taken for the embedding, to which it is tied", family.HeadName()))
}

// misfit refuses an array that is not what it must be: absent, or of another shape.
func (a rawArray) misfit(p model.StoredArray, found bool) error {
	switch {
	case !found && (p.Name == "lm_head.weight" || p.Name == "embed_out.weight"):
		return trimtab.NewError(trimtab.Invalid, "unsupported_model",
			`if the head is the embedding, say "tie_word_embeddings": true in config.json; `+
				"get the whole folder otherwise",
			"%s: array %s must have the shape %v, and is absent", weightsName, p.Name, p.Shape)
	case !found:
		return unsupportedError("%s: array %s must have the shape %v, and is absent", weightsName, p.Name, p.Shape)
	case !slices.Equal(a.shape, p.Shape):
		return unsupportedError("%s: array %s must have the shape %v, and has %v", weightsName, a.name, p.Shape,
			a.shape)
	}
	return nil
}

// fill decodes an array into a parameter, if it was found and has its shape.
func (a rawArray) fill(p model.StoredArray, data []float32, found bool) error {
	if err := a.misfit(p, found); err != nil {
		return err
	}
	if size := dtypeSize[a.dtype]; p.Spare > 0 {
		a.raw = a.raw[uint64(p.Spare)*size:]
	}
	if err := a.floats(data); err != nil {
		return trimtab.NewError(trimtab.Invalid, "unsupported_model",
			"save the model in float32: model.float().save_pretrained(…)",
			"%s: %w", weightsName, err)
	}
	return nil
}

// byFullName returns the arrays by their complete names, without wrapper
// prefixes, buffers and value heads, which it adds to the notes. An array that is
// certainly of something else is refused, and so are two arrays that have the same
// complete name.
func (w *weights) byFullName(c model.Config, scalar bool) (map[string]rawArray, error) {
	names := newNaming(c, scalar)
	byName := make(map[string]rawArray, len(w.arrays))
	off := make(map[string]int)
	var masks, frequencies int
	var heads []string
	for _, a := range w.arrays {
		name, taken, known := names.resolve(a.name)
		if !known {
			name, taken = trimWrappers(a.name)
			if what := foreignKind(name, a.dtype, names, scalar); what != "" {
				return nil, unknownArray(a.name, what)
			}
		}
		if taken != "" {
			off[taken]++
		}
		switch other, twice := byName[name]; {
		case twice:
			return nil, unsupportedError("%s: arrays %s and %s are both %s", weightsName, other.name, a.name, name)
		case names.isBuffer(name) && strings.HasSuffix(name, "bias"):
			masks++
		case names.isBuffer(name):
			frequencies++
		case valueHead.MatchString(name):
			heads = append(heads, a.name)
		default:
			byName[name] = a
		}
	}
	for _, prefix := range slices.Sorted(maps.Keys(off)) {
		w.notes = append(w.notes, fmt.Sprintf("the prefix %s was taken off %s", prefix, number(off[prefix], "name")))
	}
	w.leftOut(masks, "attention mask")
	w.leftOut(frequencies, "array of positions or their frequencies")
	if len(heads) > 0 {
		w.notes = append(w.notes, "left out, as the value head of a PPO trainer and not part of the language model: "+
			strings.Join(heads, ", "))
	}
	return byName, nil
}

// leftOut notes that n buffers of a kind were left out.
func (w *weights) leftOut(n int, what string) {
	if n > 0 {
		w.notes = append(w.notes, number(n, what)+" left out: this transformer computes its own")
	}
}

// number is a count with its noun.
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	head, tail, _ := strings.Cut(what, " of ")
	if tail != "" {
		tail = " of " + tail
	}
	return fmt.Sprintf("%d %ss%s", n, head, tail)
}

// unknownArray refuses an array that is no parameter of this transformer. what
// says what it probably is; it may be empty.
func unknownArray(name, what string) error {
	remedy := wholeFolder
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
	// but is a family of which it is no foreign name, by the prefix of its body.
	but string
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
		but:  "model.",
	},
	{
		name: regexp.MustCompile(`^(gpt_neox|embed_out)\.`),
		what: "of another architecture",
		but:  "gpt_neox.",
	},
	{
		name: regexp.MustCompile(`^decoder\.`),
		what: "of another architecture",
		but:  "model.",
	},
	{
		name: regexp.MustCompile(`^(bert|roberta|encoder|shared)\.`),
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

// blockNumber finds the number of a block in a name.
var blockNumber = regexp.MustCompile(`\.(\d+)\.`)

// foreignKind says what an array is that is certainly no part of this
// transformer; it is empty for any other.
func foreignKind(name, dtype string, names naming, scalar bool) string {
	for _, s := range foreignPatterns {
		if s.name.MatchString(name) && s.but != names.prefix {
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
	full := blockNumber.ReplaceAllString(names.prefix+strings.TrimPrefix(name, names.prefix), ".0.")
	if names.known[full] && strings.Contains(full, ".0.") {
		return "of a block that config.json does not count"
	}
	return ""
}

// checkUnused refuses arrays that are not parameters of m, except an output head
// that is the embedding, or that of a classifier's.
func (w *weights) checkUnused(rest map[string]rawArray, m *model.Model) error {
	family, _ := model.FamilyOf(m.Config.Family)
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		a := rest[name]
		if name != family.HeadName() {
			return unknownArray(a.name, "")
		}
		err := checkTied(a, m.NamedParameters()[0])
		switch {
		case err == nil:
			w.notes = append(w.notes, name+" left out: it equals the embedding, to which the head is tied here too")
		case m.Scalar:
			w.notes = append(w.notes, name+" left out: a reward model has no use for the head of a language model")
		default:
			return err
		}
	}
	return nil
}

// checkTied accepts an output head that equals the embedding, bit for bit. A head
// that was trained apart would change what the model computes.
func checkTied(head rawArray, embedding tensor.NamedArray) error {
	if !slices.Equal(head.shape, embedding.Shape) {
		return unsupportedError("%s has the shape %v, the embedding %v", head.name, head.shape, embedding.Shape)
	}
	data := make([]float32, len(embedding.Data))
	if err := head.floats(data); err != nil {
		return unsupportedError("%w", err)
	}
	// Some exports write the tied head out as an array of its own.
	for i, v := range data {
		if math.Float32bits(v) != math.Float32bits(embedding.Data[i]) {
			return trimtab.NewError(trimtab.Invalid, "unsupported_model",
				`say "tie_word_embeddings": false in config.json if the head is one of its own`,
				"%s differs from the embedding, and %s says that they are tied", head.name, configName)
		}
	}
	return nil
}
