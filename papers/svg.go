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

// The measures of the picture, in pixels. Text is monospaced, so that its width
// is known without a font: 7.3 pixels per character at size 12.
const (
	boxWidth   = 268
	boxPad     = 8
	lineHeight = 16
	// Room for the roles at the ends of arrows.
	gapAcross = 130
	gapDown   = 28
	margin    = 24
	// boxPeople is how many labellers or demonstrators a box names.
	boxPeople = 5
	// roleChars is where the role of an arrow is truncated.
	roleChars = 20
	boxChars  = (boxWidth - 2*boxPad) * 10 / 73
)

// box is a model, a dataset version or an import, drawn with the attempt that
// made it. Without a node it is a waypoint: the place where arrows from the box
// from pass between the boxes of a column.
type box struct {
	n     *Node
	from  *box
	lines []string
	// column is counted from the right, where the model is; index is the
	// position in the column, from the top.
	column int
	index  int
	// incoming counts the arrows that end here.
	incoming int
	x, y     int
}

// height returns the height of the box in pixels.
func (b *box) height() int { return len(b.lines)*lineHeight + 2*boxPad }

// diagram is a lineage laid out as a layered graph, after Sugiyama et al. 1981:
// assign columns, insert waypoints for arrows that skip a column, order each
// column by the mean position of the neighbours, then place the boxes.
type diagram struct {
	l *Lineage
	// boxes are by node. An attempt shares the box of what it made.
	boxes  map[trimtab.Digest]*box
	arrows []arrow
	// columns are from the left.
	columns [][]*box
}

// arrow leads from an origin to its result, through waypoints.
type arrow struct {
	from, to *box
	role     string
	// slot is the arrow's place among those that end at to, from the top.
	slot int
	// waypoints are from the left.
	waypoints []*box
}

// SVG returns a lineage as a picture: origins on the left, the model on the
// right. An attempt is drawn in the box of what it made; runs, configs,
// tokenizers and people are lines in the boxes that they belong to. The picture
// contains no script, link or font, so that it is safe to open and the same
// everywhere.
func (l *Lineage) SVG() []byte {
	p := &diagram{l: l, boxes: map[trimtab.Digest]*box{}}
	p.addBoxes()
	p.addArrows()
	p.assignColumns()
	p.orderColumns()
	width, height := p.position()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"`+
		` font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, "<title>lineage of %s</title>\n", l.Model)
	// The arrow head.
	b.WriteString(`<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"` +
		` orient="auto"><path d="M0 0L8 4L0 8z" fill="#667085"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	for _, arrow := range p.arrows {
		arrow.draw(&b)
	}
	for _, column := range p.columns {
		for _, box := range column {
			box.draw(&b)
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// addBoxes makes the boxes and writes the lines of their attempts into them.
func (p *diagram) addBoxes() {
	for i := range p.l.Nodes {
		switch n := &p.l.Nodes[i]; n.Kind {
		case NodeModel, NodeDataset, NodeImport:
			p.boxes[n.ID] = &box{n: n, lines: p.l.boxLines(n)}
		}
	}
	// An attempt joins the box of its result. One that reused another attempt's
	// result is followed by that one: nodes come in order of their distance.
	for i := range p.l.Nodes {
		n := &p.l.Nodes[i]
		for _, e := range p.l.From(n.ID) {
			made := e.Role == RoleMadeBy || e.Role == RoleCollectedBy || e.Role == RoleReused
			if made && p.boxes[e.From] != nil && p.boxes[e.To] == nil {
				p.boxes[e.To] = p.boxes[e.From]
				p.boxes[e.To].lines = append(p.boxes[e.To].lines, p.l.attemptLines(e)...)
			}
		}
		// An attempt without a result of its own: another one resumed from its
		// checkpoint.
		if n.Kind == NodeAttempt && p.boxes[n.ID] == nil {
			p.boxes[n.ID] = &box{n: n, lines: p.l.attemptLines(Edge{To: n.ID})}
		}
	}
	for i := range p.l.Nodes {
		if b := p.boxes[p.l.Nodes[i].ID]; b != nil && b.n.ID == p.l.Nodes[i].ID {
			for j, line := range b.lines {
				b.lines[j] = truncate(sanitize(line), boxChars)
			}
		}
	}
}

// addArrows makes the arrows. Several roles between two boxes share one arrow.
func (p *diagram) addArrows() {
	for _, e := range p.l.Edges {
		// Edges point to the origin, arrows to the result.
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

// assignColumns puts each box left of everything made from it, as near as
// possible (longest path from the right), and adds the waypoints of arrows that
// skip a column. The rounds are bounded, should the graph have a cycle.
func (p *diagram) assignColumns() {
	leftmost := 0
	for moved := true; moved && leftmost <= len(p.l.Nodes); {
		moved = false
		for _, a := range p.arrows {
			if a.from.column <= a.to.column {
				a.from.column, moved = a.to.column+1, true
				leftmost = max(leftmost, a.from.column)
			}
		}
	}
	p.columns = make([][]*box, leftmost+1)
	for i := range p.l.Nodes {
		// An attempt has the box of its result, which is entered once.
		if b := p.boxes[p.l.Nodes[i].ID]; b != nil && b.n.ID == p.l.Nodes[i].ID {
			p.columns[leftmost-b.column] = append(p.columns[leftmost-b.column], b)
		}
	}
	for i := range p.arrows {
		a := &p.arrows[i]
		for c := a.from.column - 1; c > a.to.column; c-- {
			a.waypoints = append(a.waypoints, p.waypoint(a.from, &p.columns[leftmost-c]))
		}
	}
}

// waypoint returns the place where the arrows from a box pass a column; they
// share it.
func (p *diagram) waypoint(from *box, column *[]*box) *box {
	i := slices.IndexFunc(*column, func(b *box) bool { return b.n == nil && b.from == from })
	if i >= 0 {
		return (*column)[i]
	}
	waypoint := &box{from: from}
	*column = append(*column, waypoint)
	return waypoint
}

// orderColumns moves each box of a column near what it leads to, from the
// right, which keeps crossings few.
func (p *diagram) orderColumns() {
	next := map[*box][]*box{}
	for _, a := range p.arrows {
		path := slices.Concat([]*box{a.from}, a.waypoints, []*box{a.to})
		for i := range path[1:] {
			next[path[i]] = append(next[path[i]], path[i+1])
		}
	}
	// mean is the barycentre of the next boxes, whose column has its order already.
	mean := func(b *box) float64 {
		sum := 0
		for _, to := range next[b] {
			sum += to.index
		}
		return float64(sum) / float64(max(1, len(next[b])))
	}
	for _, column := range slices.Backward(p.columns) {
		slices.SortStableFunc(column, func(a, b *box) int { return cmp.Compare(mean(a), mean(b)) })
		for i, b := range column {
			b.index = i
		}
	}
}

// boxLines returns the text of a box; the first line is its title.
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

// modelBox returns the lines of a model.
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

// attemptLines returns the lines of the attempt that an edge leads to.
func (l *Lineage) attemptLines(e Edge) []string {
	a := l.Node(e.To).Attempt
	lines := []string{fmt.Sprintf("%s, attempt %d, %s", a.Stage, a.Number, a.Status), "run " + a.Run}
	for _, r := range l.From(e.To) {
		if run := l.Node(r.To); r.Role == RoleRun && run.Run.Origin != "" {
			lines = append(lines, "reruns "+run.Run.Origin)
		}
		// The lines of the attempt that did the work come next and say the rest.
		if r.Role == RoleReused {
			return append(lines, "which reused")
		}
	}
	return append(lines,
		fmt.Sprintf("%s, seed %d, %s", a.Version(), a.Seed, a.Numerics),
		"config "+a.Config.Short(),
		"build "+shortBuild(a.Build),
		strings.TrimPrefix(endedClause(a.EndedAt), ", "))
}

// datasetBox returns the lines of a dataset version.
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

// peopleLines names the people behind a version and how much each contributed.
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

// importBox returns the lines of an import.
func (n *Node) importBox() []string {
	lines := []string{"import", "by " + n.Import.Actor, formatTime(n.Import.At),
		quantity(n.Import.Given, "item") + " given"}
	for _, f := range n.Import.Files {
		lines = append(lines, f.Name+" "+f.Digest.Short())
	}
	return lines
}

// position gives every box its top left corner, columns centred vertically, and
// returns the size of the picture.
func (p *diagram) position() (width, height int) {
	columnHeight := func(column []*box) int {
		height := 0
		for _, b := range column {
			height += b.height() + gapDown
		}
		return height - gapDown
	}
	tallest := 0
	for _, column := range p.columns {
		tallest = max(tallest, columnHeight(column))
	}
	for i, column := range p.columns {
		y := margin + (tallest-columnHeight(column))/2
		for _, b := range column {
			b.x, b.y = margin+i*(boxWidth+gapAcross), y
			y += b.height() + gapDown
		}
	}
	p.assignArrowSlots()
	return 2*margin + len(p.columns)*(boxWidth+gapAcross) - gapAcross, 2*margin + tallest
}

// assignArrowSlots spreads the ends of the arrows over the side of their box,
// in the order in which they arrive, so that they do not cross there.
func (p *diagram) assignArrowSlots() {
	// last is the position of the arrow in the column before its end.
	last := func(a arrow) int { return slices.Concat([]*box{a.from}, a.waypoints)[len(a.waypoints)].index }
	slices.SortStableFunc(p.arrows, func(a, b arrow) int { return cmp.Compare(last(a), last(b)) })
	for i := range p.arrows {
		a := &p.arrows[i]
		a.to.incoming++
		a.slot = a.to.incoming
	}
}

// draw draws the arrow as curves from column to column, with its role at its
// end.
func (a arrow) draw(b *strings.Builder) {
	// x, y is the end of the path so far: it starts in the middle of the right side.
	x, y := a.from.x+boxWidth, a.from.y+a.from.height()/2
	var path strings.Builder
	fmt.Fprintf(&path, "M%d %d", x, y)
	// curve continues the path horizontally at both ends (a cubic Bézier curve).
	curve := func(toX, toY int) {
		half := (toX - x) / 2
		fmt.Fprintf(&path, "C%d %d %d %d %d %d", x+half, y, toX-half, toY, toX, toY)
		x, y = toX, toY
	}
	for _, waypoint := range a.waypoints {
		curve(waypoint.x, waypoint.y+boxPad)
		x += boxWidth
		fmt.Fprintf(&path, "H%d", x)
	}
	curve(a.to.x, a.to.y+a.slot*a.to.height()/(a.to.incoming+1))
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="#98a2b3" stroke-width="1.3" marker-end="url(#end)"/>`+"\n",
		path.String())
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" font-size="10" fill="#475467">%s</text>`+"\n", x-8, y-4,
		escapeXML(truncate(sanitize(a.role), roleChars)))
}

// boxColours are the fill colours of boxes by kind.
var boxColours = map[string]string{NodeModel: "#dbeafe", NodeAttempt: "#f2f4f7", NodeDataset: "#dcfce7",
	NodeImport: "#fef3c7"}

// draw draws the box. A waypoint is only passed.
func (b *box) draw(out *strings.Builder) {
	if b.n == nil {
		return
	}
	fmt.Fprintf(out, `<g><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="#475467"/>`,
		b.x, b.y, boxWidth, b.height(), boxColours[b.n.Kind])
	for i, line := range b.lines {
		weight := ""
		if i == 0 {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(out, `<text x="%d" y="%d"%s xml:space="preserve">%s</text>`,
			b.x+boxPad, b.y+boxPad+12+i*lineHeight, weight, escapeXML(line))
	}
	fmt.Fprintf(out, "<title>%s %s</title></g>\n", b.n.Kind, b.n.ID)
}

// truncate shortens a line to at most n characters.
func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// sanitize replaces what is not a visible character: control characters,
// direction overrides, zero-width characters, and bytes that are not UTF-8.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// xmlEscapes covers text and attribute values.
var xmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// escapeXML escapes a text for XML.
func escapeXML(s string) string { return xmlEscapes.Replace(s) }
