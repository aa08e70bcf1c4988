package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Graph is the chain of a pipeline as it is drawn, with the figures of its plan.
type Graph struct {
	Name   string       `json:"name"`   // of the pipeline; may be empty
	Source string       `json:"source"` // name of the source; empty where it declares none
	Stages []GraphStage `json:"stages"` // in the order of the chain
	Plan   *Plan        `json:"-"`      // nil: drawn without its figures
}

// GraphStage is one stage of a Graph.
type GraphStage struct {
	ID    string   `json:"id"`    // the stage's id in the pipeline
	Stage string   `json:"stage"` // its name in the registry; empty where it declares nothing
	Makes []string `json:"makes"` // the attributes and vectors that it sets, as far as it declares them
}

// LoadGraph reads a pipeline file's bytes as Load does, and plans the pipeline. Where
// nothing is wrong but that this machine lacks something, the graph has no plan, and
// comes together with the *SpecError that says what is lacking.
func LoadGraph(ctx context.Context, file string, data []byte, o Options) (*Graph, error) {
	p, err := Load(ctx, file, data, o)
	var wrong *SpecError
	switch {
	case errors.As(err, &wrong) && wrong.Lacking():
		spec, err := parseSpec(file, data, o.Vars, nil)
		if err != nil {
			return nil, err
		}
		return spec.graph(o.Registry), wrong
	case err != nil:
		return nil, err
	}
	plan, err := p.Plan(RunOptions{})
	if err != nil {
		return nil, err
	}
	return p.Graph(plan), nil
}

// Graph is the pipeline's chain with the figures of its plan, or without where plan
// is nil.
func (p *Pipeline) Graph(plan *Plan) *Graph {
	g := &Graph{Name: p.Name, Source: p.origin.Name, Stages: []GraphStage{}, Plan: plan}
	for _, s := range p.steps {
		g.Stages = append(g.Stages, graphStage(s.ID, s.Info, s.Config))
	}
	return g
}

// graph is the chain as it is written, of which nothing can be built.
func (s *spec) graph(r Registry) *Graph {
	g := &Graph{Name: s.Name, Source: s.Source.Name, Stages: []GraphStage{}}
	for _, e := range s.Stages {
		in, _ := r.Stage(e.Name)
		c, _ := (&parser{file: s.File}).configure(in, e)
		parts, err := r.expand(in, c, Step{ID: e.ID})
		if err != nil {
			parts = []Step{{ID: e.ID, Info: in, Config: c}}
		}
		for _, s := range parts {
			g.Stages = append(g.Stages, graphStage(s.ID, s.Info, s.Config))
		}
	}
	return g
}

func graphStage(id string, in Info, c Config) GraphStage {
	s := GraphStage{ID: id, Stage: in.Name, Makes: []string{}}
	for _, m := range in.makes(c) {
		s.Makes = append(s.Makes, m.Name)
	}
	return s
}

// parked is what is said of the step from one phase to the next.
const parked = "parked on disk"

// Mermaid draws the graph as a Mermaid flowchart (https://mermaid.js.org), which GitHub
// and GitLab show in Markdown. Phases are subgraphs; the plan's memory is in comments.
func (g *Graph) Mermaid() string {
	var b strings.Builder
	if g.Name != "" {
		fmt.Fprintf(&b, "---\ntitle: %s\n---\n", yamlText(g.Name))
	}
	b.WriteString("flowchart TD\n")
	for _, l := range g.head() {
		fmt.Fprintf(&b, "  %%%% %s\n", mermaidText(l))
	}
	fmt.Fprintf(&b, "  source([\"%s\"])\n", mermaidText(cmp.Or(g.Source, "source")))
	g.draw(&b, drawing{
		text: mermaidText, newline: "<br/>",
		stage: "%[1]s[\"%[2]s\"]\n", edge: "%s --> %s\n", parked: "%s -.->|" + parked + "| %s\n",
		phase: "subgraph phase%[1]d[\"phase %[1]d\"]\n", end: "end\n",
	})
	return b.String()
}

// DOT draws the graph in the language of Graphviz (https://graphviz.org). Phases are
// clusters; the plan's memory is in comments.
func (g *Graph) DOT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph \"%s\" {\n", dotText(cmp.Or(g.Name, "pipeline")))
	for _, l := range g.head() {
		fmt.Fprintf(&b, "  // %s\n", visible(l))
	}
	b.WriteString("  node [shape=box, style=rounded];\n")
	fmt.Fprintf(&b, "  source [label=\"%s\", shape=ellipse];\n", dotText(cmp.Or(g.Source, "source")))
	g.draw(&b, drawing{
		text: dotText, newline: `\n`,
		stage: "%[1]s [label=\"%[2]s\"];\n", edge: "%s -> %s;\n", parked: "%s -> %s [style=dashed, label=\"" + parked + "\"];\n",
		phase: "subgraph cluster_%[1]d {\n    label=\"phase %[1]d\";\n", end: "}\n",
	})
	b.WriteString("}\n")
	return b.String()
}

// drawing is how a language says what a graph is made of.
type drawing struct {
	text         func(string) string // a text between quotes
	newline      string              // within it
	stage        string              // node, text
	edge, parked string              // from, to
	phase, end   string              // number
}

// draw writes the stages and how they follow each other. Nodes have names of their own,
// since a stage may be called like a word of the language.
func (g *Graph) draw(b *strings.Builder, d drawing) {
	var edges strings.Builder
	from, number := "source", 0
	node := func(indent, edge string, lines []string) {
		for i, l := range lines {
			lines[i] = d.text(l)
		}
		number++
		to := fmt.Sprintf("s%d", number)
		fmt.Fprintf(b, indent+d.stage, to, strings.Join(lines, d.newline))
		fmt.Fprintf(&edges, "  "+edge, from, to)
		from = to
	}
	if g.Plan == nil {
		for _, s := range g.Stages {
			node("  ", d.edge, s.lines(nil))
		}
		b.WriteString(edges.String())
		return
	}
	for i, phase := range g.Plan.Phases {
		fmt.Fprintf(b, "  "+d.phase, i+1)
		edge := d.edge
		if i > 0 {
			edge = d.parked
		}
		for _, e := range phase {
			s := GraphStage{ID: e.ID, Stage: e.Stage}
			if k := slices.IndexFunc(g.Stages, func(s GraphStage) bool { return s.ID == e.ID }); k >= 0 {
				s.Makes = g.Stages[k].Makes
			}
			node("    ", edge, s.lines(&e))
			edge = d.edge
		}
		b.WriteString("  " + d.end)
	}
	b.WriteString(edges.String())
}

// head is what the plan says of all stages.
func (g *Graph) head() []string {
	p := g.Plan
	if p == nil {
		return []string{"without the figures of a plan"}
	}
	return []string{
		"memory: " + p.Memory(),
		"run store: " + cmp.Or(p.StateDir, "none"),
	}
}

// lines are what is said of a stage; e are its figures, which may be nil.
func (s GraphStage) lines(e *PlannedStage) []string {
	name := cmp.Or(s.ID, s.Stage, "stage") // Mermaid refuses a box that says nothing
	if s.Stage != "" && s.Stage != name {
		name += " (" + s.Stage + ")"
	}
	lines := []string{name}
	if e != nil {
		var devices []string
		for _, d := range e.Devices {
			devices = append(devices, string(d))
		}
		resident, work := e.Memory()
		lines = append(lines,
			fmt.Sprintf("%s, workers %d, batch %d", strings.Join(devices, ", "), e.Workers, e.Batch),
			fmt.Sprintf("resident %s, per call %s", resident, work))
	}
	if len(s.Makes) > 0 {
		lines = append(lines, "makes "+strings.Join(s.Makes, ", "))
	}
	return lines
}

// visible writes out what is not printable, line ends among it: names may be anything,
// and must neither end a line nor turn the direction of writing.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// mermaidText is a text between Mermaid's quotes, or in a comment. Letters, digits and
// harmless signs stay; of everything else, such as quotes, tags and "%%{init", it has
// the codes that Mermaid shows as the characters.
func mermaidText(text string) string {
	var b strings.Builder
	for _, r := range visible(text) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" -_.,:;/=+()", r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}

// yamlText is a text as the YAML above a Mermaid chart has it, between quotes.
func yamlText(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(visible(text)) + `"`
}

// dotText is a text between Graphviz's quotes. It would take "&amp;" for a code.
func dotText(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", "&amp;").Replace(visible(text))
}
