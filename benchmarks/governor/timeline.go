package main

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/memory/sim"
)

// panel is what happened on one card: memory over time, and below it the batches.
type panel struct {
	title, note string
	turns       []sim.Turn // of that card
	total       int64      // bytes of the card
	fixed       int64      // bytes beside the budget, of weights
	wants       sim.Trace  // what a neighbour wants
	networks    int
}

// Sizes in a picture, in pixels.
const (
	panelWidth  = 400
	memHeight   = 110
	batchHeight = 52
	panelGap    = 18
	leftMargin  = 66
	cellWidth   = leftMargin + panelWidth + 18
	cellHeight  = titleHeight + memHeight + panelGap + batchHeight + 40
	headHeight  = 80
	titleHeight = 30
	columns     = 2
)

// style has a ground of its own, so that what is around the picture does not matter.
const style = `
text { font: 11px system-ui, sans-serif; fill: #59636e }
.title { font-size: 13px; font-weight: 600; fill: #1f2328 }
.ground { fill: #ffffff }
.grid { fill: none; stroke: #d8dee4 }
.own { fill: #7fb2e5 }
.want { fill: #f4d58d }
.clash { fill: #c0392b }
.budget { fill: none; stroke: #1f2328; stroke-dasharray: 3 2 }
.batch { fill: none; stroke: #1a5fb4; stroke-width: 1.3 }
.second { stroke: #a2470f }
.oom { fill: #c0392b }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.title { fill: #e6edf3 }
.ground { fill: #0d1117 }
.grid { stroke: #30363d }
.own { fill: #2f6fb0 }
.want { fill: #7d6420 }
.clash, .oom { fill: #ff7b72 }
.budget { stroke: #e6edf3 }
.batch { stroke: #79c0ff }
.second { stroke: #ffa657 }
}
`

// picture draws panels side by side, over the same time.
func picture(title, says string, panels []panel, lasts time.Duration) string {
	rows := (len(panels) + columns - 1) / columns
	width, height := columns*cellWidth, headHeight+rows*cellHeight
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img"><title>%s</title><style>%s</style>`, width, height, width, height, html.EscapeString(title), style)
	fmt.Fprintf(&s, `<rect class="ground" width="%d" height="%d" rx="6"/><text class="title" x="%d" y="24">%s</text><text x="%d" y="42">%s</text>`+"\n",
		width, height, leftMargin, html.EscapeString(title), leftMargin, html.EscapeString(says))
	wanted, networks := false, 1
	most := 1
	for _, p := range panels {
		wanted = wanted || mostWanted(p.wants) > 0
		networks = max(networks, p.networks)
		for _, t := range p.turns {
			most = max(most, t.Batch)
		}
	}
	legend(&s, wanted, networks)
	if wanted { // the same of all, as is the card
		fmt.Fprintf(&s, `<defs><path id="wants" d="%s"/><clipPath id="wanted"><use href="#wants"/></clipPath></defs>`+"\n", panels[0].wanted(lasts))
	}
	for i, p := range panels {
		fmt.Fprintf(&s, `<g transform="translate(%d %d)">`, i%columns*cellWidth+leftMargin, headHeight+i/columns*cellHeight)
		p.draw(&s, i, lasts, most)
		s.WriteString("</g>\n")
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// legend says what the marks are, but for those that are not there.
func legend(s *strings.Builder, wanted bool, networks int) {
	x := leftMargin
	entry := func(mark, text string) {
		fmt.Fprintf(s, `<g transform="translate(%d 64)">%s<text x="20" y="0">%s</text></g>`, x, mark, text)
		x += 34 + 6*len(text)
	}
	area := func(class string) string { return `<rect class="` + class + `" y="-9" width="14" height="10"/>` }
	line := func(class string) string { return `<path class="` + class + `" d="M0 -4h14"/>` }
	entry(area("own"), "forgepipe has")
	if wanted {
		entry(area("want"), "the neighbour wants")
		entry(area("clash"), "both: it waits")
	}
	if networks == 1 {
		entry(line("budget"), "budget")
		entry(line("batch"), "batch")
	} else {
		entry(line("batch"), "batch of the first network")
		entry(line("batch second"), "of the second")
	}
	entry(`<path class="oom" d="M7 0l-5 -9h10z"/>`, "ran out of memory")
	s.WriteString("\n")
}

// xAt and y are where a time and a number of bytes are in a panel.
func xAt(at, lasts time.Duration) float64 { return panelWidth * min(at.Seconds()/lasts.Seconds(), 1) }

func (p *panel) y(bytes int64) float64 {
	return titleHeight + memHeight*(1-min(max(float64(bytes)/float64(p.total), 0), 1))
}

// wanted is the area of what the neighbour wants. It hangs from the top: what is below
// is free.
func (p *panel) wanted(lasts time.Duration) string {
	var wants steps
	for at := time.Duration(0); at < lasts; at += lasts / panelWidth {
		wants.to(xAt(at, lasts), p.y(p.total-p.wants.At(at)))
	}
	return wants.area(p.y(p.total))
}

// draw draws a panel from the origin on.
func (p *panel) draw(s *strings.Builder, id int, lasts time.Duration, mostBatch int) {
	x := func(at time.Duration) float64 { return xAt(at, lasts) }
	batchTop := titleHeight + memHeight + panelGap
	batchY := func(b int) float64 {
		share := math.Log2(float64(max(b, 1))) / math.Log2(float64(max(mostBatch, 2)))
		return float64(batchTop) + batchHeight*(1-share)
	}
	fmt.Fprintf(s, `<text class="title" y="20">%s</text><text x="%d" y="20" text-anchor="end">%s</text>`, html.EscapeString(p.title), panelWidth, html.EscapeString(p.note))

	p.grid(s, batchY, lasts, mostBatch)

	own, budget := steps{}, steps{}
	batches := make([]steps, p.networks)
	var marks strings.Builder
	marked := -1.0
	for _, t := range p.turns {
		own.to(x(t.At), p.y(t.Own))
		budget.to(x(t.At), p.y(t.Budget+p.fixed))
		switch {
		case t.OutOfMemory:
			if at := x(t.At); at >= marked+2 {
				fmt.Fprintf(&marks, "M%.0f %dl-3 -6h6z", at, batchTop-4)
				marked = at
			}
		case t.Batch > 0:
			batches[t.Network].to(x(t.At), batchY(t.Batch))
		}
	}
	fmt.Fprintf(s, `<defs><path id="own%d" d="%s"/></defs>`, id, own.area(p.y(0)))
	wanted := mostWanted(p.wants) > 0
	if wanted {
		s.WriteString(`<use href="#wants" class="want"/>`)
	}
	fmt.Fprintf(s, `<use href="#own%d" class="own"/>`, id)
	if wanted {
		fmt.Fprintf(s, `<use href="#own%d" class="clash" clip-path="url(#wanted)"/>`, id)
	}
	if p.networks == 1 {
		fmt.Fprintf(s, `<path class="budget" d="%s"/>`, budget.line())
	}
	for i := range batches {
		fmt.Fprintf(s, `<path class="%s" d="%s"/>`, []string{"batch", "batch second"}[i%2], batches[i].line())
	}
	fmt.Fprintf(s, `<path class="oom" d="%s"/>`, marks.String())
}

// grid draws the axes.
func (p *panel) grid(s *strings.Builder, batchY func(int) float64, lasts time.Duration, mostBatch int) {
	horizontal := func(y float64, label string) {
		fmt.Fprintf(s, `<path class="grid" d="M0 %.1fH%d"/><text x="-6" y="%.1f" text-anchor="end">%s</text>`, y, panelWidth, y+4, label)
	}
	unit, name := int64(gib), "GiB"
	if p.total < 4*gib {
		unit, name = mib, "MiB"
	}
	for i := range int64(5) {
		bytes := p.total * i / 4
		label := fmt.Sprint(bytes / unit)
		if i == 4 {
			label += " " + name
		}
		horizontal(p.y(bytes), label)
	}
	for b := 1; b <= mostBatch; b *= 8 {
		horizontal(batchY(b), fmt.Sprintf("batch %d", b))
	}
	every := 20 * time.Second
	if lasts < time.Minute {
		every = 5 * time.Second
	}
	bottom := batchY(1)
	for at := time.Duration(0); at <= lasts; at += every {
		label := fmt.Sprint(at.Seconds())
		if at+every > lasts {
			label += " s"
		}
		fmt.Fprintf(s, `<path class="grid" d="M%.1f %.1fv4"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, xAt(at, lasts), bottom, xAt(at, lasts), bottom+17, label)
	}
}

// steps is a line that goes over and then up or down. Of what lies within a pixel it
// keeps the least and the greatest y.
type steps struct {
	path         strings.Builder // up to y
	x, y         float64
	least, most  float64 // of the points at x that are not in the path yet
	last         float64 // of these
	begun, later bool    // there are points, and some that are not in the path yet
}

func (l *steps) to(x, y float64) {
	x, y = math.Floor(x), math.Round(2*y)/2
	if !l.begun {
		fmt.Fprintf(&l.path, "M%g %g", x, y)
		l.begun, l.x, l.y = true, x, y
		return
	}
	if x > l.x {
		l.flush()
		if y == l.y {
			return
		}
		fmt.Fprintf(&l.path, "H%g", x)
		l.x = x
	}
	if !l.later {
		l.least, l.most, l.later = y, y, true
	}
	l.least, l.most, l.last = min(l.least, y), max(l.most, y), y
}

// flush draws what lies within the last pixel.
func (l *steps) flush() {
	if !l.later {
		return
	}
	l.later = false
	for _, y := range []float64{l.least, l.most, l.last} {
		if y != l.y {
			fmt.Fprintf(&l.path, "V%g", y)
			l.y = y
		}
	}
}

// line ends at the right.
func (l *steps) line() string {
	if !l.begun {
		return ""
	}
	l.flush()
	return fmt.Sprintf("%sH%d", l.path.String(), panelWidth)
}

// area is what lies between the line and a base.
func (l *steps) area(base float64) string {
	d := l.line()
	if d == "" {
		return ""
	}
	from, _, _ := strings.Cut(d[1:], " ")
	return fmt.Sprintf("%sV%gH%sz", d, base, from)
}
