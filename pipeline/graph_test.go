package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// twoPhases is a graph with everything that one can have.
func twoPhases() *pipeline.Graph {
	return &pipeline.Graph{
		Name: "vectors", Source: "images",
		Stages: []pipeline.GraphStage{
			{ID: "tile", Stage: "tile"},
			{ID: "one", Stage: "embed", Makes: []string{"clip"}},
			{ID: "own"},
			{ID: "score", Stage: "score", Makes: []string{"laplacian", "noise"}},
		},
		Plan: &pipeline.Plan{
			HostTotal: 16 << 30, HostSource: "cgroup", HostLimit: 8 << 30, HostBudget: 8<<30 - 64<<20, StateDir: "/out/.forgepipe",
			Phases: [][]pipeline.PlannedStage{
				{
					{ID: "tile", Stage: "tile", Devices: []pipeline.Device{"host"}, Workers: 4, Batch: 16, Work: 366 << 20},
					{ID: "one", Stage: "embed", Devices: []pipeline.Device{"sim:0", "sim:1"}, Workers: 5, Batch: 1, Resident: 11 << 20, Work: 1 << 10},
				},
				{
					{ID: "own", Devices: []pipeline.Device{"host"}, Workers: 2, Batch: 8},
					{ID: "score", Stage: "score", Devices: []pipeline.Device{"host"}, Workers: 2, Batch: 8},
				},
			},
		},
	}
}

// unplanned is the same chain without a plan.
func unplanned() *pipeline.Graph {
	g := twoPhases()
	g.Plan, g.Name = nil, ""
	return g
}

func TestGraphsAreDrawn(t *testing.T) {
	for _, tt := range []struct {
		name string
		got  string
		want string
	}{
		{"mermaid", twoPhases().Mermaid(), `---
title: "vectors"
---
flowchart TD
  %% memory: 8 GiB of 16 GiB (cgroup); 7.9 GiB of it for pictures and calls
  %% run store: /out/.forgepipe
  source(["images"])
  subgraph phase1["phase 1"]
    s1["tile<br/>host, workers 4, batch 16<br/>resident -, per call 366 MiB"]
    s2["one (embed)<br/>sim:0, sim:1, workers 5, batch 1<br/>resident 11 MiB, per call 1 KiB<br/>makes clip"]
  end
  subgraph phase2["phase 2"]
    s3["own<br/>host, workers 2, batch 8<br/>resident -, per call -"]
    s4["score<br/>host, workers 2, batch 8<br/>resident -, per call -<br/>makes laplacian, noise"]
  end
  source --> s1
  s1 --> s2
  s2 -.->|parked on disk| s3
  s3 --> s4
`},
		{"mermaid without a plan", unplanned().Mermaid(), `flowchart TD
  %% without the figures of a plan
  source(["images"])
  s1["tile"]
  s2["one (embed)<br/>makes clip"]
  s3["own"]
  s4["score<br/>makes laplacian, noise"]
  source --> s1
  s1 --> s2
  s2 --> s3
  s3 --> s4
`},
		{"dot", twoPhases().DOT(), `digraph "vectors" {
  // memory: 8 GiB of 16 GiB (cgroup); 7.9 GiB of it for pictures and calls
  // run store: /out/.forgepipe
  node [shape=box, style=rounded];
  source [label="images", shape=ellipse];
  subgraph cluster_1 {
    label="phase 1";
    s1 [label="tile\nhost, workers 4, batch 16\nresident -, per call 366 MiB"];
    s2 [label="one (embed)\nsim:0, sim:1, workers 5, batch 1\nresident 11 MiB, per call 1 KiB\nmakes clip"];
  }
  subgraph cluster_2 {
    label="phase 2";
    s3 [label="own\nhost, workers 2, batch 8\nresident -, per call -"];
    s4 [label="score\nhost, workers 2, batch 8\nresident -, per call -\nmakes laplacian, noise"];
  }
  source -> s1;
  s1 -> s2;
  s2 -> s3 [style=dashed, label="parked on disk"];
  s3 -> s4;
}
`},
		{"dot without a plan", unplanned().DOT(), `digraph "pipeline" {
  // without the figures of a plan
  node [shape=box, style=rounded];
  source [label="images", shape=ellipse];
  s1 [label="tile"];
  s2 [label="one (embed)\nmakes clip"];
  s3 [label="own"];
  s4 [label="score\nmakes laplacian, noise"];
  source -> s1;
  s1 -> s2;
  s2 -> s3;
  s3 -> s4;
}
`},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, tt.got, tt.want)
		}
	}
}

// hostile are names that would change a drawing if they were written as they are.
var hostile = []string{
	`"]; x["`, "a\nend\nb", `back\slash`, `back\\`, `"`, `\"`, "#quot;", "&quot;", "<script>alert(1)</script>", "`**md**`", "end", "subgraph",
	`%%{init: {"theme": "dark"}}%%`, "--> z", "]} -- {[", "// comment", "\u202eright to left", "---\nx: y", "a;b", "\x1b[31m\x00", "größe", "|pipe|", `label="x", shape="y`,
	"\xff\xfe", "",
}

// Whatever things are called, a drawing stays one: the same nodes and edges, and each
// name can be read from it.
func TestNamesDoNotChangeGraphs(t *testing.T) {
	for _, name := range hostile {
		t.Run(strconv.Quote(name), func(t *testing.T) {
			g := twoPhases()
			g.Name, g.Source, g.Plan.StateDir, g.Plan.HostSource = name, name, name, name
			g.Stages[1] = pipeline.GraphStage{ID: name, Stage: "embed", Makes: []string{name, name}}
			g.Plan.Phases[0][1].ID = name
			g.Plan.Phases[0][1].Devices = []pipeline.Device{pipeline.Device(name)}
			for language, chart := range map[string]func() (chart, error){
				"mermaid": func() (chart, error) { return readMermaid(g.Mermaid()) },
				"dot":     func() (chart, error) { return readDOT(g.DOT()) },
			} {
				c, err := chart()
				if err != nil {
					t.Errorf("%s: %v", language, err)
					continue
				}
				if want := []string{"source", "s1", "s2", "s3", "s4"}; !slices.Equal(c.chain, want) {
					t.Errorf("%s: the chain is %q", language, c.chain)
				}
				if want := []string{"s1 s2", "s3 s4"}; !slices.Equal(c.phases, want) {
					t.Errorf("%s: the phases are %q", language, c.phases)
				}
				head, source := printable(name)+" (embed)", printable(name)
				if name == "" {
					head, source = "embed", "source"
				}
				want := head + "\n" + printable(name) + ", workers 5, batch 1\nresident 11 MiB, per call 1 KiB\nmakes " + printable(name) + ", " + printable(name)
				if got := c.labels["s2"]; got != want {
					t.Errorf("%s: the stage reads\n%s\nwant\n%s", language, got, want)
				}
				if got := c.labels["source"]; got != source {
					t.Errorf("%s: the source reads %q", language, got)
				}
			}
		})
	}
}

// printable is how a name reads in a drawing.
func printable(name string) string {
	var b strings.Builder
	for _, r := range name {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// A chart is what a drawing says.
type chart struct {
	labels map[string]string // of nodes, as they read
	chain  []string          // nodes in their order
	phases []string          // the nodes of each
}

func (c *chart) node(id, label string, inside bool) error {
	if _, twice := c.labels[id]; twice {
		return fmt.Errorf("the node %s is there twice", id)
	}
	c.labels[id] = label
	if inside {
		last := len(c.phases) - 1
		c.phases[last] = strings.TrimSpace(c.phases[last] + " " + id)
	}
	return nil
}

func (c *chart) edge(from, to string) error {
	if len(c.chain) == 0 {
		c.chain = []string{from}
	}
	if _, ok := c.labels[to]; !ok || c.chain[len(c.chain)-1] != from || c.labels[from] == "" {
		return fmt.Errorf("there is an edge from %s to %s", from, to)
	}
	c.chain = append(c.chain, to)
	return nil
}

var (
	mermaidNode  = regexp.MustCompile(`^(\w+)(?:\["(.+)"\]|\(\["(.+)"\]\))$`)
	mermaidPhase = regexp.MustCompile(`^subgraph phase(\d+)\["phase (\d+)"\]$`)
	mermaidEdge  = regexp.MustCompile(`^(\w+) (?:-->|-\.->\|[\w ]+\|) (\w+)$`)
	mermaidLabel = regexp.MustCompile(`^(?:[\pL\d (),\-_.:;/=+]|#\d+;|<br/>)*$`)
	mermaidCode  = regexp.MustCompile(`#(\d+);`)
)

// readMermaid reads the part of Mermaid that graphs are drawn with.
func readMermaid(text string) (c chart, err error) {
	c.labels = map[string]string{}
	if head, rest, ok := strings.Cut(text, "\n---\n"); ok && strings.HasPrefix(head, "---\ntitle: ") {
		if _, err := strconv.Unquote(strings.TrimPrefix(head, "---\ntitle: ")); err != nil {
			return c, fmt.Errorf("the title is no text between quotes: %s", head)
		}
		text = rest
	}
	first, rest, _ := strings.Cut(text, "\n")
	if first != "flowchart TD" {
		return c, fmt.Errorf("it begins with %q", first)
	}
	inside := false
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(line, "%% "); ok {
			if !mermaidLabel.MatchString(comment) {
				return c, fmt.Errorf("the comment %q may be more than one", comment)
			}
			continue
		}
		if m := mermaidPhase.FindStringSubmatch(line); m != nil && !inside && m[1] == m[2] {
			inside = true
			c.phases = append(c.phases, "")
			continue
		}
		if line == "end" && inside {
			inside = false
			continue
		}
		if m := mermaidEdge.FindStringSubmatch(line); m != nil && !inside {
			if err := c.edge(m[1], m[2]); err != nil {
				return c, err
			}
			continue
		}
		m := mermaidNode.FindStringSubmatch(line)
		if m == nil || !mermaidLabel.MatchString(m[2]+m[3]) {
			return c, fmt.Errorf("the line %q is nothing", line)
		}
		label := mermaidCode.ReplaceAllStringFunc(strings.ReplaceAll(m[2]+m[3], "<br/>", "\n"), func(code string) string {
			n, _ := strconv.Atoi(code[1 : len(code)-1])
			return string(rune(n))
		})
		if err := c.node(m[1], label, inside); err != nil {
			return c, err
		}
	}
	if inside {
		return c, errors.New("a subgraph has no end")
	}
	return c, nil
}

var (
	dotString = `"((?:[^"\\\n]|\\.)*)"`
	dotNode   = regexp.MustCompile(`^(\w+) \[label=` + dotString + `(?:, shape=ellipse)?\];$`)
	dotEdge   = regexp.MustCompile(`^(\w+) -> (\w+)(?: \[style=dashed, label=` + dotString + `\])?;$`)
	dotPhase  = regexp.MustCompile(`^subgraph cluster_\d+ \{$`)
	dotHead   = regexp.MustCompile(`^digraph ` + dotString + ` \{$`)
	dotTitle  = regexp.MustCompile(`^label="phase \d+";$`)
	dotBare   = regexp.MustCompile(`&(?:[^a]|a[^m]|am[^p]|amp[^;]|$)`)
)

// readDOT reads the part of Graphviz's language that graphs are drawn with.
func readDOT(text string) (c chart, err error) {
	c.labels = map[string]string{}
	depth := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case depth == 0 && c.chain == nil && dotHead.MatchString(line), depth == 1 && dotPhase.MatchString(line):
			if depth++; depth == 2 {
				c.phases = append(c.phases, "")
			}
		case line == "}" && depth > 0:
			depth--
		case depth == 0:
			return c, fmt.Errorf("the line %q is outside of the graph", line)
		case strings.HasPrefix(line, "// "), line == "node [shape=box, style=rounded];", depth == 2 && dotTitle.MatchString(line):
		case dotEdge.MatchString(line):
			m := dotEdge.FindStringSubmatch(line)
			if err := c.edge(m[1], m[2]); err != nil {
				return c, err
			}
		default:
			m := dotNode.FindStringSubmatch(line)
			if m == nil || dotBare.MatchString(m[2]) {
				return c, fmt.Errorf("the line %q is nothing", line)
			}
			label := strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n", "&amp;", "&").Replace(m[2])
			if err := c.node(m[1], label, depth == 2); err != nil {
				return c, err
			}
		}
	}
	if depth != 0 {
		return c, errors.New("a brace is not closed")
	}
	return c, nil
}

func TestLoadGraph(t *testing.T) {
	lacks := pipeline.Info{
		Name: "lacks", Short: "needs a library",
		Fields: []pipeline.Field{{Name: "as", Type: pipeline.FieldString, Doc: "A name."}},
		Makes: func(c pipeline.Config) []pipeline.Made {
			return []pipeline.Made{{Name: c.String("as"), Vector: true}}
		},
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return nil, fmt.Errorf("%w: no library", pipeline.ErrLacking)
		},
	}
	o := pipeline.Options{Registry: fakes().With(lacks)}
	const head = "name: loaded\nsource: {images: {path: a}}\nstages:\n  - {make: , id: first}\n"

	t.Run("with its plan", func(t *testing.T) {
		g, err := pipeline.LoadGraph(t.Context(), "f.yaml", []byte(head+"  - cut:\n"), o)
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.Load(t.Context(), "f.yaml", []byte(head+"  - cut:\n"), o)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(pipeline.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := g.Mermaid(), p.Graph(plan).Mermaid(); got != want || !strings.Contains(got, "first (make)<br/>host, workers ") || !strings.Contains(got, "makes made") {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("where the machine lacks something", func(t *testing.T) {
		g, err := pipeline.LoadGraph(t.Context(), "f.yaml", []byte(head+"  - lacks: {as: '${AS:-clip}'}\n"), o)
		var wrong *pipeline.SpecError
		if !errors.As(err, &wrong) || !wrong.Lacking() || !strings.Contains(err.Error(), "f.yaml:5:5: ") {
			t.Errorf("the error is %v", err)
		}
		c, err := readMermaid(g.Mermaid())
		if err != nil {
			t.Fatal(err)
		}
		if c.labels["s1"] != "first (make)\nmakes made" || c.labels["s2"] != "lacks\nmakes clip" || c.phases != nil || g.Name != "loaded" {
			t.Errorf("it is drawn as\n%s", g.Mermaid())
		}
	})
	for name, text := range map[string]string{
		"a wrong field":               head + "  - cut: {x: 1}\n",
		"a wrong field beside a lack": head + "  - cut: {x: 1}\n  - lacks:\n",
		"no YAML":                     "a: [",
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := pipeline.LoadGraph(t.Context(), "f.yaml", []byte(text), o); g != nil || err == nil {
				t.Errorf("it gives %v, %v", g, err)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
	}{
		{"none", "a: b", "[]"},
		{"sorted, each once", "a: ${Z}${B:-x}\nb: ['${B:-y}', {c: \"${A}\"}]", "[{A true} {B false} {Z true}]"},
		{"required where a later place has no default", "a: ${A:-x}\nb: ${A}", "[{A true}]"},
		{"required where an earlier one has none", "a: ${A}\nb: ${A:-x}", "[{A true}]"},
		{"not what is meant literally", "a: $${A} ${B:-$}", "[{B false}]"},
		{"not in keys and comments", "${A}: x # ${B}", "[]"},
		{"those before a fault", "a: '${A:-x} ${9}'", "[{A false}]"},
		{"by an alias", "a: &a ${A}\nb: *a", "[{A true}]"},
	} {
		all, err := pipeline.Variables("f.yaml", []byte(tt.text))
		if got := fmt.Sprint(all); got != tt.want || err != nil {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	var wrong *pipeline.SpecError
	if _, err := pipeline.Variables("f.yaml", []byte("a: [")); !errors.As(err, &wrong) {
		t.Errorf("what is no YAML gives %v", err)
	}
}
