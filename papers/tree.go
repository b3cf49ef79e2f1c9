package papers

import (
	"fmt"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
)

// treePeople is how many labellers or demonstrators of a version the tree
// names.
const treePeople = 12

// Tree returns a lineage as lines of text, each node above what it came from:
//
//	run1/ppo 4ddfbae5f178, 43904 parameters
//	└─ made by: attempt 2 of ppo in run run1, completed
//	   ├─ seed 1, numerics v1, code ppo/3, build 44575cf5b285
//	   ├─ model: run1/sft 34aef458a17f, 43904 parameters
//	   │  └─ made by: …
//	   └─ reward: run1/reward 7696fff84f26, 43937 parameters
//
// A node that was shown is not expanded again. Names are unchanged from the
// record; the caller escapes them for the terminal.
func (l *Lineage) Tree() []string {
	t := &tree{l: l, shown: map[trimtab.Digest]bool{}}
	t.node(l.Model, "", "", "")
	return t.lines
}

// tree is a traversal that collects lines.
type tree struct {
	l     *Lineage
	lines []string
	// shown are the nodes that were expanded.
	shown map[trimtab.Digest]bool
}

// node writes a node after its label, and what it came from below it. first and
// rest are the indentation of its own line and of the lines below.
func (t *tree) node(id trimtab.Digest, label, first, rest string) {
	n := t.l.Node(id)
	if n == nil {
		return
	}
	above := ""
	edges := t.l.From(id)
	if t.shown[id] && len(edges) > 0 {
		above, edges = " (above)", nil
	}
	t.shown[id] = true
	t.lines = append(t.lines, first+label+n.summary()+above)
	rows := t.rows(n, edges)
	for i, r := range rows {
		branch, below := "├─ ", "│  "
		if i == len(rows)-1 {
			branch, below = "└─ ", "   "
		}
		if r.text != "" {
			t.lines = append(t.lines, rest+branch+r.text)
			continue
		}
		t.node(r.edge.To, r.edge.label(), rest+branch, rest+below)
	}
}

// row is what stands below a node: a line of text, or an edge to follow.
type row struct {
	text string
	edge Edge
}

// rows returns what stands below a node that is shown with those edges. Without
// edges the node was shown before, or is a leaf.
func (t *tree) rows(n *Node, edges []Edge) []row {
	var rows []row
	if n.Attempt != nil && edges != nil {
		for _, line := range n.Attempt.details() {
			rows = append(rows, row{text: line})
		}
	}
	if n.Import != nil && edges == nil {
		for _, f := range n.Import.Files {
			text := fmt.Sprintf("file %s, %s: %s", f.Name, quantity(f.Items, "item"), f.Digest.Short())
			rows = append(rows, row{text: text})
		}
	}
	// Past treePeople only a count is shown: crowd-sourced data has hundreds.
	people := 0
	for _, e := range edges {
		if e.Role == RoleRankedBy || e.Role == RoleWrittenBy {
			if people++; people > treePeople {
				continue
			}
		}
		rows = append(rows, row{edge: e})
	}
	if people > treePeople {
		rows = append(rows, row{text: fmt.Sprintf("and %d more; -o json has all", people-treePeople)})
	}
	return rows
}

// label returns what stands in front of the node that an edge leads to.
func (e Edge) label() string {
	under := ""
	if e.Guideline != "" {
		under = " under guideline " + e.Guideline
	}
	switch e.Role {
	case RoleRankedBy:
		return fmt.Sprintf("%s%s%s by ", quantity(e.Count, "ranking"), e.heldOut(), under)
	case RoleWrittenBy:
		return fmt.Sprintf("%s%s by ", quantity(e.Count, "demonstration"), e.heldOut())
	case RoleSampledBy:
		return fmt.Sprintf("%s sampled by ", quantity(e.Count, "response"))
	case RoleImported:
		return quantity(e.Count, "item") + " of "
	case RoleReference:
		return "KL reference: "
	case RoleTokenizer, RoleRun, RoleConfig:
		return ""
	}
	return strings.ReplaceAll(e.Role, "_", " ") + ": "
}

// heldOut returns the number of held-out items in parentheses, or "".
func (e Edge) heldOut() string {
	if e.HeldOut == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d held out)", e.HeldOut)
}

// summary describes a node in one line.
func (n *Node) summary() string {
	switch n.Kind {
	case NodeModel:
		return n.modelLine()
	case NodeAttempt:
		a := n.Attempt
		return fmt.Sprintf("attempt %d of %s in run %s, %s", a.Number, a.Stage, a.Run, a.Status)
	case NodeRun:
		return fmt.Sprintf("run %s (%s) by %s on %s%s", n.Run.ID, n.Name, n.Run.Actor, formatDate(n.Run.CreatedAt),
			withReason(n.Run.Reason))
	case NodeConfig:
		return "config " + n.ID.Short()
	case NodeDataset:
		return n.datasetLine()
	case NodeImport:
		return fmt.Sprintf("an import into %s by %s on %s", n.Import.Dataset, n.Import.Actor, formatTime(n.Import.At))
	case NodeTokenizer:
		return "tokenizer " + n.ID.Short()
	case NodeLabeller, NodeDemonstrator:
		return n.personName()
	}
	return n.Kind + " " + n.Name
}

// modelLine describes a model in one line.
func (n *Node) modelLine() string {
	m := n.Model
	text := fmt.Sprintf("%s %s", n.Name, n.ID.Short())
	if m.Parameters > 0 {
		text += fmt.Sprintf(", %d parameters", m.Parameters)
	}
	if m.ImportedAt != nil {
		text += fmt.Sprintf(", imported by %s on %s", m.ImportedBy, formatTime(*m.ImportedAt))
	}
	if m.AlsoMadeBy > 0 {
		text += fmt.Sprintf(", made %s more by others", quantity(m.AlsoMadeBy, "time"))
	}
	if m.Absent {
		text += ", not in this store"
	}
	return text
}

// datasetLine describes a dataset version in one line.
func (n *Node) datasetLine() string {
	d := n.Dataset
	text := fmt.Sprintf("%s %s, %s of %s", n.Name, n.ID.Short(), quantity(d.Items, "item"), d.DataKind)
	if d.HeldOut > 0 {
		text += fmt.Sprintf(" (%d held out)", d.HeldOut)
	}
	if d.Pairs > 0 {
		text += fmt.Sprintf(", %s", quantity(d.Pairs, "comparison"))
	}
	if d.Erased > 0 {
		text += fmt.Sprintf(", %s erased since", quantity(d.Erased, "item"))
	}
	if d.Simulated {
		text += ", by simulated labellers"
	}
	if d.Generated {
		text += ", made by the program"
	}
	return text
}

// personName returns a labeller or demonstrator; data without names has them
// too.
func (n *Node) personName() string {
	if n.Name == "" {
		return "unnamed"
	}
	return n.Name
}

// details are further facts about an attempt, one line each: what its result
// depends on, its steps, and the decisions of people.
func (a *AttemptFacts) details() []string {
	lines := []string{
		fmt.Sprintf("seed %d, numerics %s, code %s, build %s", a.Seed, a.Numerics, a.Version(), shortBuild(a.Build)),
		fmt.Sprintf("%s%s, begun by %s%s",
			quantity(a.Steps, "step"), endedClause(a.EndedAt), a.Actor, withReason(a.Reason)),
	}
	for _, d := range a.Decisions {
		lines = append(lines, fmt.Sprintf("%s by %s on %s%s",
			d.Decision, d.By(), formatTime(d.At), withReason(d.Reason)))
	}
	return lines
}

// withReason appends the reason that a person gave.
func withReason(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// endedClause says when an attempt ended, if it did.
func endedClause(at *time.Time) string {
	if at == nil {
		return ""
	}
	return ", ended " + formatTime(*at)
}

// shortBuild returns enough of a build's SHA-256 to distinguish builds.
func shortBuild(build string) string { return build[:min(12, len(build))] }

// formatDate and formatTime are in UTC, so that documents do not depend on the
// zone of the machine.
func formatDate(t time.Time) string { return t.UTC().Format(time.DateOnly) }
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// quantity returns a number of things in words: 1 item, 2 items.
func quantity(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
