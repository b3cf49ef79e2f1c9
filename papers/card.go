package papers

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// maxQuoted bounds the characters that a quotation of a person takes in a card.
const maxQuoted = 300

// Card returns the model card in Markdown, after Mitchell et al. 2019, with the
// metadata that the Hugging Face Hub reads: what the record knows of a model
// and, in plain words, what it does not know. The sections are
//
//	Model details                  shape, tokenizer, who made it and when
//	Intended use                   left to the owner
//	How to use it                  code that loads the exported folder
//	How it was made                each stage with settings and metrics
//	Data                           dataset versions and where they came from
//	Labellers and demonstrators    who, how much, and how far they agree
//	Evaluation                     measures with 95 % intervals
//	Limits                         what a reader must know
//	Files                          digests
func Card(f *Facts) []byte {
	c := &card{f: f}
	c.head()
	c.details()
	c.intendedUse()
	c.usage()
	c.training()
	c.trainingData()
	c.annotators()
	c.evaluation()
	c.limitations()
	c.fileDigests()
	return []byte(c.b.String())
}

// card is a model card that is being written.
type card struct {
	// f are the facts, b the Markdown so far.
	f *Facts
	b strings.Builder
}

// writef writes a formatted line.
func (c *card) writef(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

// table writes a table. Cells are Markdown already.
func (c *card) table(head []string, rows [][]string) {
	c.writef("| %s |", strings.Join(head, " | "))
	c.writef("|%s", strings.Repeat(" --- |", len(head)))
	for _, r := range rows {
		c.writef("| %s |", strings.Join(r, " | "))
	}
	c.writef("")
}

// head writes the metadata, the title and one sentence about the model.
func (c *card) head() {
	task := "text-generation"
	if c.f.Reward {
		task = "text-classification"
	}
	library := "transformers"
	if c.f.GGUF != "" {
		library = "gguf"
	}
	c.writef("---\nlibrary_name: %s\npipeline_tag: %s\ntags:\n- trimtab\n---\n", library, task)
	c.writef("# %s\n", markdown(c.f.Name))
	what := "A language model"
	if c.f.Reward {
		what = "A reward model: it gives a text a score, higher for texts that its labellers would prefer, and does " +
			"not generate text"
	}
	c.writef("%s. Its content has the digest `%s`.", what, c.f.Lineage.Model)
	c.writef("This card was written by the program that trained the model, from its record; every digest here can be " +
		"looked up there.\n")
}

// details writes what the model is: shape, tokenizer, and the attempt that made
// it or the import.
func (c *card) details() {
	c.writef("## Model details\n")
	var rows [][]string
	if s := c.f.Shape; s != nil {
		shape := fmt.Sprintf("%d layers, width %d, %d heads, context %d tokens, vocabulary %d",
			s.Layers, s.Width, s.Heads, s.Context, s.Vocab)
		architecture := "GPT-2 transformer, decoder only"
		if s.Class != "" {
			architecture = s.Class + " (transformer, decoder only)"
		}
		rows = append(rows, []string{"architecture", architecture}, []string{"shape", shape})
	}
	rows = append(rows, []string{"parameters", fmt.Sprint(c.f.Parameters)})
	for _, e := range c.f.Lineage.From(c.f.Lineage.Model) {
		if e.Role == RoleTokenizer {
			rows = append(rows, []string{"tokenizer", "`" + string(e.To) + "`"})
		}
	}
	if a := c.f.Lineage.Producer(c.f.Lineage.Model); a != nil {
		maker := fmt.Sprintf("stage %s, attempt %d of run %s", markdown(a.Stage), a.Number, markdown(a.Run))
		rows = append(rows,
			[]string{"made by", maker},
			[]string{"code", fmt.Sprintf("%s, build %s", markdown(a.Version()), markdown(a.Build))},
			[]string{"seed and numerics", fmt.Sprintf("%d, %s", a.Seed, markdown(a.Numerics))})
		if a.EndedAt != nil {
			rows = append(rows, []string{"finished", formatTime(*a.EndedAt)})
		}
	} else if m := c.f.Lineage.Node(c.f.Lineage.Model).Model; m.ImportedAt != nil {
		rows = append(rows, []string{"imported", fmt.Sprintf("by %s on %s: the record knows nothing of how it was made",
			markdown(m.ImportedBy), formatTime(*m.ImportedAt))})
	}
	c.table([]string{"", ""}, rows)
}

// intendedUse leaves that section to the owner, since the record cannot know
// it.
func (c *card) intendedUse() {
	c.writef("## Intended use\n")
	c.writef("*To be written by the owner of the model.* The record knows how the model was made, not what it is " +
		"for, who may use it,")
	c.writef("or for what it must not be used. Until the owner has said so here, take it as material for research.\n")
}

// languageUse and rewardUse are the code that loads an exported folder.
const languageUse = `from transformers import pipeline

answer = pipeline("text-generation", model="path/to/this/folder")
print(answer([{"role": "user", "content": "…"}])[0]["generated_text"][-1]["content"])`

const rewardUse = `import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
chats = [[{"role": "user", "content": "…"}, {"role": "assistant", "content": answer}] for answer in ("…", "…")]
texts = tokenizer.apply_chat_template(chats, tokenize=False)
batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
with torch.no_grad():
    scores = model(**batch).logits[:, 0]`

// ggufUse runs the file with llama.cpp.
const ggufUse = `llama-cli -m %s -p "…"`

// usage explains how other programs use the folder that contains the card.
func (c *card) usage() {
	c.writef("## How to use it\n")
	code := languageUse
	if c.f.Reward {
		code = rewardUse
	}
	if c.f.GGUF != "" {
		c.writef("%s is read by llama.cpp:\n\n```sh\n%s\n```\n", c.f.GGUF, fmt.Sprintf(ggufUse, c.f.GGUF))
	} else {
		c.writef("The exported folder is read by Hugging Face's transformers:\n\n```python\n%s\n```\n", code)
	}
	c.writef("Prompts have the form that the model was trained on: the token that begins a text, the prompt, a " +
		"newline. The chat")
	c.writef("template in chat_template.jinja writes them so, and refuses what it could not write to the same " +
		"token ids.")
	c.writef("generation_config.json, which only a language model has, samples as the run did.\n")
	if c.f.Reward {
		c.rewardUsage()
		return
	}
	if c.f.GGUF != "" {
		return
	}
	c.writef("For several prompts at once set tokenizer.padding_side to \"left\", so that every prompt ends where " +
		"its answer begins.\n")
}

// rewardUsage explains what is particular to a reward model: which token
// carries the score, the side of the padding, and what became of the bias.
func (c *card) rewardUsage() {
	c.writef("The score is read at the last token that is not padding. Padding stands on the right: on the left it " +
		"would move the")
	c.writef("positions of the text.")
	if c.f.Padded {
		c.writef("The vocabulary that the model was trained with has no padding token of its own; the folder " +
			"has one more token")
		c.writef("for it, whose row of the embedding is zero.")
	}
	switch {
	case c.f.KeepsBias:
		c.writef("The bias of the score, score.bias in model.safetensors, could not be folded into other weights: a " +
			"class without a")
		c.writef("bias, as transformers' is, leaves it out, and all its scores are off by that constant.")
	case c.f.Folded:
		c.writef("The bias of the score is folded into transformer.ln_f.bias, since transformers' class has none: " +
			"scores are those of")
		c.writef("the stored model up to rounding. Trimtab makes the stored model of the folder again, bit for bit.")
	}
	c.writef("")
}

// training lists the stages behind the model.
func (c *card) training() {
	stages := c.f.stages()
	if len(stages) == 0 {
		return
	}
	c.writef("## How it was made\n")
	c.writef("%s in this order. The same code, settings, data and seed give the same bytes.\n",
		quantity(len(stages), "stage"))
	for i, n := range stages {
		c.stage(i+1, n)
	}
}

// stage describes one attempt: who started it, decisions of people, what it
// read, its settings, its data and its final metrics. Everything that a person
// or a config wrote goes through markdown.
func (c *card) stage(i int, n *Node) {
	a := n.Attempt
	c.writef("### %d. %s\n", i, markdown(a.Stage))
	c.writef("Attempt %d of run %s, %s, begun by %s%s%s.",
		a.Number, markdown(a.Run), quantity(a.Steps, "step"), markdown(a.Actor),
		endedClause(a.EndedAt), reasonClause(a.Reason))
	c.writef("Code %s, seed %d, numerics %s, build %s, config `%s`.\n",
		markdown(a.Version()), a.Seed, markdown(a.Numerics), markdown(a.Build), a.Config)
	for _, d := range a.Decisions {
		c.writef("- A person decided: %s, by %s on %s%s.",
			markdown(d.Decision), markdown(d.By()), formatTime(d.At), reasonClause(d.Reason))
	}
	// What it read, and where it came from; its config follows below.
	for _, e := range c.f.Lineage.From(n.ID) {
		to := c.f.Lineage.Node(e.To)
		switch to.Kind {
		case NodeModel, NodeDataset:
			c.writef("- read %s: %s `%s`", markdown(strings.ReplaceAll(e.Role, "_", " ")), markdown(to.Name), to.ID)
		case NodeAttempt:
			c.writef("- resumed from a checkpoint of attempt %d (`%s`)", to.Attempt.Number, a.FromCheckpoint)
		case NodeRun:
			if to.Run.Origin != "" {
				c.writef("- its run is a rerun of run %s%s", markdown(to.Run.Origin), reasonClause(to.Run.Reason))
			}
		}
	}
	c.writef("")
	if raw := c.f.config(a); raw != nil {
		var list []string
		for _, s := range settings(raw) {
			path := s.path
			if c.f.SettingPath != nil {
				path = c.f.SettingPath(a.StageKind, path)
			}
			list = append(list, markdown(path)+" "+markdown(s.value))
		}
		c.writef("Settings: %s.\n", strings.Join(list, "; "))
	}
	for _, f := range trimtab.Fits(a.Metrics) {
		if f.Kept+f.LeftOut > 0 {
			c.writef("Data: %s.\n", markdown(f.String()))
		}
	}
	// Counts of data are metrics too; the sentences above have said them.
	var metrics []string
	for _, m := range a.Metrics {
		if !m.IsFit() {
			metrics = append(metrics, fmt.Sprintf("%s %.4g", markdown(m.Name), m.Value))
		}
	}
	if len(metrics) > 0 {
		c.writef("Metrics at its end: %s.\n", strings.Join(metrics, "; "))
	}
}

// lostData reports whether a stage cut or left out some of its data.
// Pretraining always cuts texts into rows, which is not a loss.
func lostData(n *Node) bool {
	return slices.ContainsFunc(trimtab.Fits(n.Attempt.Metrics),
		func(f trimtab.Fit) bool { return f.Items != "text" && !f.Whole() })
}

// trainingData lists the dataset versions and how their items were obtained.
func (c *card) trainingData() {
	sets := c.f.nodes(NodeDataset)
	if len(sets) == 0 {
		return
	}
	c.writef("## Data\n")
	c.writef("Each version is frozen under the Merkle root over its items. Held-out items measure and do not train.\n")
	var rows [][]string
	for _, n := range sets {
		d := n.Dataset
		rows = append(rows, []string{markdown(n.Name), string(d.DataKind),
			fmt.Sprint(d.Items), fmt.Sprint(d.HeldOut), "`" + string(n.ID) + "`"})
	}
	c.table([]string{"dataset", "kind", "items", "held out", "root"}, rows)
	for _, n := range sets {
		if n.Dataset.Erased > 0 {
			c.writef("- %s: the text of %s was erased since; their digests stay.", markdown(n.Name),
				quantity(n.Dataset.Erased, "item"))
		}
		if n.Dataset.Generated {
			c.writef("- %s was made by the program: texts of a small invented world.", markdown(n.Name))
		}
		for _, e := range c.f.Lineage.From(n.ID) {
			// Generated items are imported by the program itself, from no file.
			if to := c.f.Lineage.Node(e.To); e.Role == RoleImported && !n.Dataset.Generated {
				c.writef("- %s: %s came in by %s on %s%s.", markdown(n.Name), quantity(e.Count, "item"),
					markdown(to.Import.Actor), formatTime(to.Import.At), sourceFiles(to.Import))
			}
		}
	}
	c.writef("")
}

// sourceFiles lists the files of an import.
func sourceFiles(i *ImportFacts) string {
	if len(i.Files) == 0 {
		return "; its files were not recorded"
	}
	var names []string
	for _, f := range i.Files {
		names = append(names, fmt.Sprintf("%s (`%s`)", markdown(f.Name), f.Digest))
	}
	return " from " + strings.Join(names, ", ")
}

// annotators lists the people, or simulated people, behind the data, and how
// far the labellers agree. A model of preferences is a model of these people.
func (c *card) annotators() {
	var rows [][]string
	for _, n := range c.f.nodes(NodeDataset) {
		for _, e := range c.f.Lineage.From(n.ID) {
			to := c.f.Lineage.Node(e.To)
			if e.Role == RoleRankedBy || e.Role == RoleWrittenBy {
				who := to.Kind
				if n.Dataset.Simulated {
					who = "simulated " + who
				}
				rows = append(rows, []string{markdown(to.personName()), who, markdown(n.Name), fmt.Sprint(e.Count),
					fmt.Sprint(e.HeldOut), markdown(e.Guideline)})
			}
		}
	}
	if len(rows) == 0 {
		return
	}
	c.writef("## Labellers and demonstrators\n")
	c.writef("The model was fitted to what these preferred and wrote. Names are as the data has them.\n")
	c.table([]string{"who", "as", "dataset", "items", "held out", "guideline"}, rows)
	for _, n := range c.f.nodes(NodeDataset) {
		if n.Dataset.DataKind == "rankings" {
			c.writef("- %s: %s%s.", markdown(n.Name), quantity(n.Dataset.Pairs, "comparison"), c.agreementClause(n))
		}
	}
	c.writef("")
}

// agreementClause says how far the labellers of a version agree.
func (c *card) agreementClause(n *Node) string {
	a, ok := c.f.agreement(n.ID)
	switch {
	case !ok || !a.Unreadable && a.Common == 0 && a.Share == 0:
		return "; no two labellers ordered the same pair, so their agreement is not known"
	case a.Unreadable:
		return "; its items could not be read, so their agreement is not known"
	case a.Common == 0:
		return fmt.Sprintf("; two labellers order a pair alike in %.1f %% of cases, as the stage measured", 100*a.Share)
	}
	return fmt.Sprintf("; two labellers ordered a pair alike in %.1f %% of %d cases", 100*a.Share, a.Common)
}

// evaluation writes the measures of the evaluation that the facts hold.
func (c *card) evaluation() {
	c.writef("## Evaluation\n")
	e := c.f.Evaluation
	if e == nil {
		c.writef("The record has no evaluation of this model.\n")
		return
	}
	c.writef("By stage %s, attempt %d of run %s%s, on %s; the model is called %s there. "+
		"The report has the digest `%s`.\n",
		markdown(e.Stage), e.Number, markdown(e.Run), endedClause(e.EndedAt),
		quantity(e.Report.Prompts, "held-out prompt"), markdown(e.As), e.Document)
	if a := e.Report.RewardModel; c.f.Reward && a != nil {
		c.table([]string{"measure", "value", "95 % interval"}, c.measureRows(measures(e.Report, e.As, true)))
		c.writef("The accuracy is over %s%s.\n", quantity(a.Pairs, "comparison"), c.groupsClause())
		return
	}
	c.comparison(e)
}

// groupsClause says on how many independent groups the interval of the accuracy
// rests, and by how much the model beats the rule "the longer answer is
// better", both as its stage measured them.
func (c *card) groupsClause() string {
	producer := c.f.Lineage.Producer(c.f.Lineage.Model)
	if producer == nil {
		return ""
	}
	measured := trimtab.Report{Metrics: producer.Metrics}
	groups, ok := measured.Value("held_out/groups")
	// Models of older programs have no such count.
	if !ok {
		return ""
	}
	text := " in " + quantity(int(groups), "group") + ", which were resampled for the interval"
	if over, ok := measured.Value("held_out/over_longer"); ok && groups > 1 {
		low, _ := measured.Value("held_out/over_longer_low")
		high, _ := measured.Value("held_out/over_longer_high")
		text += fmt.Sprintf("; it is better than preferring the longer answer by %.3f (95 %%: %.3f … %.3f)",
			over, low, high)
	}
	return text
}

// measureRows returns measures as rows of a table, with their intervals.
func (c *card) measureRows(list []measure) [][]string {
	var rows [][]string
	for _, m := range list {
		between := ""
		if m.low != nil {
			between = fmt.Sprintf("%.3f … %.3f", *m.low, *m.high)
		}
		rows = append(rows, []string{m.name + ", " + m.unit, fmt.Sprintf("%.3f", m.value), between})
	}
	return rows
}

// comparison writes the model's measures beside those of the report's other
// models. A measure that only some of them have leaves cells empty.
func (c *card) comparison(e *EvaluationFacts) {
	names := []string{e.As}
	var others []string
	for name := range e.Report.Models {
		if name != e.As {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	names = append(names, others...)
	// cells are by measure, then by model.
	head, cells := []string{"measure"}, map[string]map[string]string{}
	for i, name := range names {
		title := markdown(name)
		if i == 0 {
			title = "**" + title + "**"
		}
		head = append(head, title)
		for _, m := range measures(e.Report, name, false) {
			text := fmt.Sprintf("%.3f", m.value)
			if m.low != nil {
				text += fmt.Sprintf(" (95 %%: %.3f … %.3f)", *m.low, *m.high)
			}
			row := m.name + ", " + m.unit
			if cells[row] == nil {
				cells[row] = map[string]string{}
			}
			cells[row][name] = text
		}
	}
	// The rows come in the order of the first model that has the measure: this
	// model's measures first.
	var rows [][]string
	seen := map[string]bool{}
	for _, name := range names {
		for _, m := range measures(e.Report, name, false) {
			row := m.name + ", " + m.unit
			if seen[row] {
				continue
			}
			seen[row] = true
			line := []string{row}
			for _, n := range names {
				line = append(line, cells[row][n])
			}
			rows = append(rows, line)
		}
	}
	c.table(head, rows)
	c.writef("Of the held-out prompts, %d also stand in a training text. Means without an interval are over all "+
		"prompts, one answer each.\n", e.Report.Overlap)
}

// limitations writes what a reader must know before relying on the model. Each
// sentence is there because of a fact, except for the last two, which hold for
// every model.
func (c *card) limitations() {
	c.writef("## Limits\n")
	if c.f.hasSimulatedLabels() {
		c.writef("- **The rankings are by simulated labellers**, which the program plays by a rubric with noise. No " +
			"person preferred anything here, and the model")
		c.writef("  says nothing about what people want.")
	}
	if e := c.f.Evaluation; e != nil && e.Report.Judge != "" {
		c.writef("- The judge of the evaluation is the invented world's own rubric (%s), not a person.",
			markdown(e.Report.Judge))
	}
	if slices.ContainsFunc(c.f.nodes(NodeDataset), func(n *Node) bool { return n.Dataset.Generated }) {
		c.writef("- Some of the data is of a small invented world: outside of it the model knows nothing.")
	}
	if slices.ContainsFunc(c.f.stages(), func(n *Node) bool { return len(n.Attempt.Decisions) > 0 }) {
		c.writef("- A person let a stage pass against the machine's judgement; see the decisions above.")
	}
	if slices.ContainsFunc(c.f.stages(), lostData) {
		c.writef("- Some of the data did not fit into the model's context and was cut or left out, as the stages say " +
			"above: the numbers of items under Data are those before.")
	}
	for _, n := range c.f.nodes(NodeModel) {
		if n.Model.ImportedAt != nil {
			c.writef("- %s was imported: what it was trained on is not in the record, and its faults are in this "+
				"model too.", markdown(n.Name))
		}
	}
	if slices.ContainsFunc(c.f.Lineage.Edges, func(e Edge) bool { return e.Role == RoleRankedBy }) {
		c.writef("- The preferences are those of the labellers named above, under their guideline; others would have " +
			"ranked otherwise.")
	}
	c.writef("- The record has no test for harmful, biased or private output, nor for use in any language or field " +
		"but that of the data.")
	c.writef("- What is not in the tables above was not measured.\n")
}

// fileDigests lists the model's files with their digests, so that a download
// can be checked without Trimtab.
func (c *card) fileDigests() {
	c.writef("## Files\n")
	if len(c.f.Files) == 0 {
		c.writef("The files of the model are not in the store where this card was written.")
		return
	}
	c.writef("The model's digest is the SHA-256 of the lines `sha256 size name` of these files, in order.\n")
	var rows [][]string
	for _, f := range c.f.Files {
		rows = append(rows, []string{markdown(f.Name), fmt.Sprint(f.Bytes), "`" + f.Digest.Hex() + "`"})
	}
	c.table([]string{"file", "bytes", "SHA-256"}, rows)
	if len(c.f.Exported) == 0 {
		return
	}
	c.writef("An exported folder holds these in another form, for other programs:\n")
	rows = nil
	for _, f := range c.f.Exported {
		rows = append(rows, []string{markdown(f.Name), fmt.Sprint(f.Bytes), "`" + f.Digest.Hex() + "`"})
	}
	c.table([]string{"exported file", "bytes", "SHA-256"}, rows)
}

// reasonClause appends the reason that a person gave.
func reasonClause(reason string) string {
	if reason == "" {
		return ""
	}
	return ", because: " + markdown(reason)
}

// markdown returns text of a person as Markdown that renders as exactly that
// text. Every character that could have a meaning where it stands is escaped,
// so that it makes no heading, list, link, image, table, code or HTML, and no
// address becomes a link.
func markdown(s string) string {
	if utf8.RuneCountInString(s) > maxQuoted {
		s = truncate(s, maxQuoted)
	}
	var b strings.Builder
	last := ' '
	for _, r := range sanitize(s) {
		digit := last >= '0' && last <= '9'
		switch {
		// Characters that have a meaning anywhere in a line.
		case strings.ContainsRune("\\`*_[]<>|&~:@$", r),
			// Headings and lists: only at the start of a word.
			strings.ContainsRune("#+-=", r) && last == ' ',
			// "1." starts a list, and "www." a link.
			strings.ContainsRune(".)", r) && (last == 'w' || last == 'W' || digit):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
		last = r
	}
	return b.String()
}
