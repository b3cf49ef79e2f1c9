package papers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// The picture's measures, in pixels. Text is monospaced, so that its width is known without a font.
const (
	boxWidth   = 268
	boxPad     = 8
	lineHeight = 16
	gapAcross  = 130 // room for the roles at the ends of arrows
	gapDown    = 28
	margin     = 24
	boxPeople  = 5  // labellers or demonstrators that a box names
	roleChars  = 20 // of a role
	boxChars   = (boxWidth - 2*boxPad) * 10 / 73
)

// box is what a model, a dataset version or an import is drawn as, with the
// attempt that made it; or, without a node, the place where an arrow from from
// passes between the boxes of a column.
type box struct {
	n        *Node
	from     *box
	lines    []string
	column   int // from the right
	index    int // in its column
	incoming int // arrows that end here
	x, y     int
}

func (b *box) height() int { return len(b.lines)*lineHeight + 2*boxPad }

// diagram is a lineage with its boxes and arrows.
type diagram struct {
	l       *Lineage
	boxes   map[trimtab.Digest]*box // by node; an attempt has the box of what it made
	arrows  []arrow
	columns [][]*box // from the left
}

// arrow leads from an origin to what came of it, by places between.
type arrow struct {
	from, to  *box
	role      string
	slot      int    // of the arrows that end at to
	waypoints []*box // from the left
}

// SVG is a lineage as a picture: origins on the left, the model on the right.
// An attempt is drawn in the box of what it made; runs, configs, tokenizers
// and people are lines in the boxes that they belong to. It holds no script,
// no link and no font.
func (l *Lineage) SVG() []byte {
	p := &diagram{l: l, boxes: map[trimtab.Digest]*box{}}
	p.addBoxes()
	p.addArrows()
	p.assignColumns()
	p.orderColumns()
	width, height := p.position()
	var b strings.Builder
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, "<title>lineage of %s</title>\n", l.Model)
	b.WriteString(`<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#667085"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	for _, a := range p.arrows {
		a.draw(&b)
	}
	for _, c := range p.columns {
		for _, x := range c {
			x.draw(&b)
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// addBoxes makes the boxes.
func (p *diagram) addBoxes() {
	for i := range p.l.Nodes {
		switch n := &p.l.Nodes[i]; n.Kind {
		case NodeModel, NodeDataset, NodeImport:
			p.boxes[n.ID] = &box{n: n, lines: p.l.boxLines(n)}
		}
	}
	for i := range p.l.Nodes {
		n := &p.l.Nodes[i]
		for _, e := range p.l.From(n.ID) {
			made := e.Role == RoleMadeBy || e.Role == RoleCollectedBy || e.Role == RoleReused
			if made && p.boxes[e.From] != nil && p.boxes[e.To] == nil {
				p.boxes[e.To] = p.boxes[e.From]
				p.boxes[e.To].lines = append(p.boxes[e.To].lines, p.l.attemptLines(e)...)
			}
		}
		if n.Kind == NodeAttempt && p.boxes[n.ID] == nil { // an attempt whose checkpoint another went on from
			p.boxes[n.ID] = &box{n: n, lines: p.l.attemptLines(Edge{To: n.ID})}
		}
	}
	for i := range p.l.Nodes {
		if x := p.boxes[p.l.Nodes[i].ID]; x != nil && x.n.ID == p.l.Nodes[i].ID {
			for j, line := range x.lines {
				x.lines[j] = truncate(sanitize(line), boxChars)
			}
		}
	}
}

// addArrows makes the arrows. Several roles between two boxes are one arrow.
func (p *diagram) addArrows() {
	for _, e := range p.l.Edges {
		from, to := p.boxes[e.To], p.boxes[e.From]
		if from == nil || to == nil || from == to {
			continue
		}
		role := strings.ReplaceAll(e.Role, "_", " ")
		if e.Role == RoleReference {
			role = "KL reference"
		}
		i := slices.IndexFunc(p.arrows, func(a arrow) bool { return a.from == from && a.to == to })
		if i < 0 {
			p.arrows = append(p.arrows, arrow{from: from, to: to, role: role})
		} else if !strings.Contains(p.arrows[i].role, role) {
			p.arrows[i].role += ", " + role
		}
	}
}

// assignColumns puts each box left of everything that came of it, as near as can be,
// and makes places for arrows that pass a column.
func (p *diagram) assignColumns() {
	most := 0
	for moved := true; moved && most <= len(p.l.Nodes); { // without cycles it ends by itself
		moved = false
		for _, a := range p.arrows {
			if a.from.column <= a.to.column {
				a.from.column, moved = a.to.column+1, true
				most = max(most, a.from.column)
			}
		}
	}
	p.columns = make([][]*box, most+1)
	for i := range p.l.Nodes {
		if x := p.boxes[p.l.Nodes[i].ID]; x != nil && x.n.ID == p.l.Nodes[i].ID {
			p.columns[most-x.column] = append(p.columns[most-x.column], x)
		}
	}
	for i := range p.arrows {
		a := &p.arrows[i]
		for c := a.from.column - 1; c > a.to.column; c-- {
			a.waypoints = append(a.waypoints, p.waypoint(a.from, c, most))
		}
	}
}

// waypoint is the place where arrows from a box pass a column.
func (p *diagram) waypoint(from *box, column, most int) *box {
	c := &p.columns[most-column]
	i := slices.IndexFunc(*c, func(x *box) bool { return x.n == nil && x.from == from })
	if i >= 0 {
		return (*c)[i]
	}
	x := &box{from: from, column: column}
	*c = append(*c, x)
	return x
}

// orderColumns puts each box of a column near what it leads to, from the right.
func (p *diagram) orderColumns() {
	next := map[*box][]*box{}
	for _, a := range p.arrows {
		path := slices.Concat([]*box{a.from}, a.waypoints, []*box{a.to})
		for i := range path[1:] {
			next[path[i]] = append(next[path[i]], path[i+1])
		}
	}
	middle := func(x *box) float64 {
		sum := 0
		for _, to := range next[x] {
			sum += to.index
		}
		return float64(sum) / float64(max(1, len(next[x])))
	}
	for _, c := range slices.Backward(p.columns) {
		slices.SortStableFunc(c, func(a, b *box) int { return cmp.Compare(middle(a), middle(b)) })
		for i, x := range c {
			x.index = i
		}
	}
}

// boxLines is what a box says, the first line as its title.
func (l *Lineage) boxLines(n *Node) []string {
	switch n.Kind {
	case NodeModel:
		lines := n.modelBox()
		for _, e := range l.From(n.ID) {
			if e.Role == RoleTokenizer {
				lines = append(lines, "tokenizer "+e.To.Short())
			}
		}
		return lines
	case NodeDataset:
		return l.datasetBox(n)
	}
	return n.importBox()
}

func (n *Node) modelBox() []string {
	lines := []string{n.Name, n.ID.Short()}
	if n.Model.Parameters > 0 {
		lines = append(lines, fmt.Sprintf("%d parameters", n.Model.Parameters))
	}
	if n.Model.ImportedAt != nil {
		lines = append(lines, "imported by "+n.Model.ImportedBy, formatTime(*n.Model.ImportedAt))
	}
	return lines
}

// attemptLines tell of the attempt that an edge leads to.
func (l *Lineage) attemptLines(e Edge) []string {
	a := l.Node(e.To).Attempt
	lines := []string{fmt.Sprintf("%s, attempt %d, %s", a.Stage, a.Number, a.Status), "run " + a.Run}
	for _, r := range l.From(e.To) {
		if run := l.Node(r.To); r.Role == RoleRun && run.Run.Origin != "" {
			lines = append(lines, "reruns "+run.Run.Origin)
		}
		if r.Role == RoleReused { // that attempt's lines come next and say the rest
			return append(lines, "which reused")
		}
	}
	return append(lines, fmt.Sprintf("%s, seed %d, %s", a.Version(), a.Seed, a.Numerics), "config "+a.Config.Short(),
		"build "+shortBuild(a.Build),
		strings.TrimPrefix(endedClause(a.EndedAt), ", "))
}

func (l *Lineage) datasetBox(n *Node) []string {
	d := n.Dataset
	lines := []string{n.Name, n.ID.Short(), quantity(d.Items, "item") + " of " + string(d.DataKind)}
	if d.HeldOut > 0 {
		lines = append(lines, fmt.Sprintf("%d of them held out", d.HeldOut))
	}
	if d.Pairs > 0 {
		lines = append(lines, quantity(d.Pairs, "comparison"))
	}
	if d.Simulated {
		lines = append(lines, "simulated labellers:")
	}
	if d.Generated {
		lines = append(lines, "made by the program")
	}
	return append(lines, l.peopleLines(n.ID)...)
}

// peopleLines names the people behind a version, with how much each made.
func (l *Lineage) peopleLines(id trimtab.Digest) []string {
	var lines []string
	more := 0
	for _, e := range l.From(id) {
		if e.Role != RoleRankedBy && e.Role != RoleWrittenBy {
			continue
		}
		if len(lines) == boxPeople {
			more++
			continue
		}
		lines = append(lines, fmt.Sprintf("%4d by %s", e.Count, l.Node(e.To).personName()))
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return lines
}

func (n *Node) importBox() []string {
	lines := []string{"import", "by " + n.Import.Actor, formatTime(n.Import.At), quantity(n.Import.Given, "item") +
		" given"}
	for _, f := range n.Import.Files {
		lines = append(lines, f.Name+" "+f.Digest.Short())
	}
	return lines
}

// position gives every box its corner and returns the size of the picture.
func (p *diagram) position() (width, height int) {
	tall := func(c []*box) int {
		h := 0
		for _, x := range c {
			h += x.height() + gapDown
		}
		return h - gapDown
	}
	most := 0
	for _, c := range p.columns {
		most = max(most, tall(c))
	}
	for i, c := range p.columns {
		y := margin + (most-tall(c))/2
		for _, x := range c {
			x.x, x.y = margin+i*(boxWidth+gapAcross), y
			y += x.height() + gapDown
		}
	}
	p.assignArrowSlots()
	return 2*margin + len(p.columns)*(boxWidth+gapAcross) - gapAcross, 2*margin + most
}

// assignArrowSlots has arrows end from the top in the order in which they come.
func (p *diagram) assignArrowSlots() {
	last := func(a arrow) int { return slices.Concat([]*box{a.from}, a.waypoints)[len(a.waypoints)].index }
	slices.SortStableFunc(p.arrows, func(a, b arrow) int { return cmp.Compare(last(a), last(b)) })
	for i := range p.arrows {
		a := &p.arrows[i]
		a.to.incoming++
		a.slot = a.to.incoming
	}
}

// draw draws the arrow in curves from column to column, with its role at its end.
func (a arrow) draw(b *strings.Builder) {
	x, y := a.from.x+boxWidth, a.from.y+a.from.height()/2
	var path strings.Builder
	fmt.Fprintf(&path, "M%d %d", x, y)
	curve := func(tox, toy int) {
		half := (tox - x) / 2
		fmt.Fprintf(&path, "C%d %d %d %d %d %d", x+half, y, tox-half, toy, tox, toy)
		x, y = tox, toy
	}
	for _, between := range a.waypoints {
		curve(between.x, between.y+boxPad)
		x += boxWidth
		fmt.Fprintf(&path, "H%d", x)
	}
	curve(a.to.x, a.to.y+a.slot*a.to.height()/(a.to.incoming+1))
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="#98a2b3" stroke-width="1.3" marker-end="url(#end)"/>`+"\n",
		path.String())
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" font-size="10" fill="#475467">%s</text>`+"\n", x-8, y-4,
		escapeXML(truncate(sanitize(a.role), roleChars)))
}

// boxColours are the colours of boxes by kind.
var boxColours = map[string]string{NodeModel: "#dbeafe", NodeAttempt: "#f2f4f7", NodeDataset: "#dcfce7",
	NodeImport: "#fef3c7"}

func (x *box) draw(b *strings.Builder) {
	if x.n == nil {
		return
	}
	fmt.Fprintf(b, `<g><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="#475467"/>`, x.x, x.y,
		boxWidth, x.height(), boxColours[x.n.Kind])
	for i, line := range x.lines {
		weight := ""
		if i == 0 {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(b, `<text x="%d" y="%d"%s xml:space="preserve">%s</text>`, x.x+boxPad, x.y+boxPad+12+i*lineHeight,
			weight, escapeXML(line))
	}
	fmt.Fprintf(b, "<title>%s %s</title></g>\n", x.n.Kind, x.n.ID)
}

// truncate shortens a line to at most n characters.
func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// sanitize replaces what is no visible character: control characters, direction
// overrides, characters of no width, and bytes that are no text.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

var xmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

func escapeXML(s string) string { return xmlEscapes.Replace(s) }
