package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// LoadCases reads a file of cases, NAME.test.yaml, and checks each of them against
// its pipeline: NAME.yaml beside the file, unless the file names another one. Both
// may end in .yml.
// Everything that can be told to be wrong before a run is; the error is then a
// *SpecError. The options are those of Load, for the pipelines of all cases; a
// variable that a case sets comes before one in Options.Vars.
func LoadCases(ctx context.Context, file string, o Options) ([]*Case, error) {
	data, err := readSpecFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the cases %s: %w", file, err)
	}
	root, problems := parseYAML(file, data, casesDocument)
	if len(problems) > 0 {
		return nil, &SpecError{problems}
	}
	p := caseParser{parser: parser{file: file, vars: o.Vars, used: map[string]bool{}}, options: o}
	p.expand(root)
	cases := p.document(root)
	if len(p.problems) > 0 {
		return nil, &SpecError{p.problems}
	}
	for _, c := range cases {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := p.check(ctx, c)
		var spec *SpecError
		switch {
		case errors.As(err, &spec):
			for _, problem := range spec.Problems {
				if !slices.Contains(p.problems, problem) { // several cases may share it
					p.problems = append(p.problems, problem)
				}
			}
		case err != nil:
			return nil, err
		}
	}
	if len(p.problems) > 0 {
		return nil, &SpecError{p.problems}
	}
	return cases, nil
}

// readSpecFile reads a file that has a limit. A longer one is refused when it is
// parsed, of which more than the limit is enough.
func readSpecFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 8*MaxSpecBytes))
}

// caseParser reads a file of cases.
type caseParser struct {
	parser
	options  Options
	pipeline string // its file
	data     []byte // of it
	settings        // of all cases
}

// settings can stand in the file for all cases, and in a case for this one.
type settings struct{ source, set *yamlNode }

func (p *caseParser) settingKeys(to *settings) map[string]func(*yamlNode) {
	return map[string]func(*yamlNode){
		"source": func(n *yamlNode) { to.source = p.mapping("source", n) },
		"set":    func(n *yamlNode) { to.set = p.mapping("set", n) },
	}
}

func (p *caseParser) mapping(what string, n *yamlNode) *yamlNode {
	if n.kind != mapNode {
		p.problem(n, "%s must be a mapping, not %s", what, n.what())
		return nil
	}
	return n
}

func (p *caseParser) document(root *yamlNode) (all []*Case) {
	if root.kind != mapNode {
		p.problem(root, "a test file must be a mapping with cases, not %s", root.what())
		return nil
	}
	var list, at *yamlNode
	p.pipeline = tested(p.file)
	known := p.settingKeys(&p.settings)
	known["cases"] = func(n *yamlNode) { list = n }
	known["pipeline"] = func(n *yamlNode) {
		at = n
		text(&p.parser, "pipeline", &p.pipeline, func(s string) (string, error) {
			if s == "" {
				return "", errors.New("must not be empty")
			}
			return beside(p.file, s), nil
		})(n)
	}
	p.fields(root, "a test file", known)
	p.readPipeline(at)
	switch {
	case list == nil || list.kind == nullNode:
		p.problem(root, "the file has no cases: add a list under cases:")
	case list.kind != listNode:
		p.problem(list, "cases must be a list, not %s", list.what())
	case len(list.items) == 0:
		p.problem(list, "the file has no cases: the list is empty")
	default:
		names := map[string]*yamlNode{}
		for _, n := range list.items {
			c := p.oneCase(n)
			if first := names[c.Name]; first != nil && c.Name != "" {
				p.problem(n, "two cases are called %q, the first in line %d", c.Name, first.line)
			}
			names[c.Name] = n
			all = append(all, c)
		}
	}
	return all
}

func (p *caseParser) readPipeline(at *yamlNode) {
	data, err := readSpecFile(p.pipeline)
	switch {
	case err == nil:
		p.data = data
	case at == nil && errors.Is(err, fs.ErrNotExist):
		p.problem(&yamlNode{line: 1, col: 1}, "there is no pipeline %s beside it: name the one that is tested (pipeline: FILE)", p.pipeline)
	case at == nil:
		p.problem(&yamlNode{line: 1, col: 1}, "reading the pipeline %s: %v", p.pipeline, err)
	default:
		p.problem(at, "reading the pipeline %s: %v", p.pipeline, err)
	}
}

func (p *caseParser) oneCase(n *yamlNode) *Case {
	c := &Case{File: p.file, Line: n.line, Pipeline: p.pipeline, data: p.data, options: p.options, at: n}
	if n.kind != mapNode {
		p.problem(n, "a case must be a mapping with name and expect, not %s", n.what())
		return c
	}
	var own settings
	known := p.settingKeys(&own)
	known["name"] = text(&p.parser, "name", &c.Name, parseWord)
	known["only"] = func(n *yamlNode) {
		for _, e := range p.elements("only", n) {
			var s selector
			text(&p.parser, "only", &s, parseSelector)(e)
			c.only = append(c.only, choice{at: e, selector: s})
		}
	}
	known["totals"] = func(n *yamlNode) {
		known := map[string]func(*yamlNode){}
		for _, name := range totalNames {
			known[name] = func(n *yamlNode) {
				c.totals = append(c.totals, total{at: n, name: name, want: p.bounds("totals."+name, n, parseWhole)})
			}
		}
		p.fields(n, "totals", known)
	}
	known["expect"] = func(n *yamlNode) {
		for _, e := range p.elements("expect", n) {
			c.expect = append(c.expect, p.expectation(e))
		}
	}
	before := len(p.problems)
	p.fields(n, "a case", known)
	switch {
	case len(p.problems) > before: // no second fault for the same
	case c.Name == "":
		p.problem(n, "the case has no name: say in a few words what it pins")
	case len(c.totals)+len(c.expect) == 0:
		p.problem(n, "the case expects nothing: add expect or totals")
	}
	p.vary(c, p.settings, own)
	return c
}

// elements are those of a list; one value is a list of one.
func (p *caseParser) elements(what string, n *yamlNode) []*yamlNode {
	switch {
	case n.kind == nullNode || n.kind == listNode && len(n.items) == 0:
		p.problem(n, "%s is empty", what)
		return nil
	case n.kind == listNode:
		return n.items
	}
	return []*yamlNode{n}
}

// vary says what the case changes in its pipeline: first what all cases do.
func (p *caseParser) vary(c *Case, all ...settings) {
	v := &changes{file: p.file, registry: p.options.Registry, set: map[string]*yamlNode{}, used: p.used}
	vars := maps.Clone(p.options.Vars.Set)
	if vars == nil {
		vars = map[string]string{}
	}
	for _, s := range all {
		if s.source != nil {
			v.source = append(v.source, s.source)
		}
		if s.set == nil {
			continue
		}
		for i, k := range s.set.keys {
			if !validVar(k.text) {
				p.problem(k, "%q is not a variable's name: letters, digits and _ only", k.text)
				continue
			}
			at := v.take(k, false)
			v.set[k.text], vars[k.text] = at, p.value(k.text, s.set.items[i])
		}
	}
	c.changes = v
	c.options.Vars.Set = vars
}

// value is what a variable is set to: text, or a path that is relative to the
// file of cases.
func (p *caseParser) value(name string, n *yamlNode) (value string) {
	switch n.kind {
	case scalarNode:
		return n.text
	case mapNode:
		p.fields(n, "set."+name, map[string]func(*yamlNode){"path": text(&p.parser, "set."+name+".path", &value, func(s string) (string, error) {
			return beside(p.file, s), nil
		})})
		return value
	}
	p.problem(n, "set.%s must be one value, or {path: FILE} for a path relative to this file, not %s", name, n.what())
	return ""
}

func (p *caseParser) expectation(n *yamlNode) *expectation {
	e := &expectation{at: n, count: quantity{word: countAll}}
	if n.kind != mapNode {
		p.problem(n, "an expectation must be a mapping such as {of: photo.jpg, is: kept}, not %s", n.what())
		return e
	}
	before := len(p.problems)
	p.fields(n, "an expectation", map[string]func(*yamlNode){
		"of": text(&p.parser, "of", &e.of, parseSelector),
		"is": text(&p.parser, "is", &e.is, parseEnd),
		"by": func(n *yamlNode) {
			e.byAt = n
			text(&p.parser, "by", &e.by, parseNonEmpty)(n)
		},
		"reason":       text(&p.parser, "reason", &e.reason, parseNonEmpty),
		"cause":        text(&p.parser, "cause", &e.cause, parseNonEmpty),
		"duplicate_of": text(&p.parser, "duplicate_of", &e.duplicateOf, parseSelector),
		"count": func(n *yamlNode) {
			if words := []string{countAll, countAny, countNone}; n.kind == scalarNode && slices.Contains(words, n.text) {
				e.count = quantity{word: n.text}
				return
			}
			e.counted = true
			e.count = quantity{bounds: p.bounds("count", n, parseCounted)}
		},
		"attributes": func(n *yamlNode) {
			if n = p.mapping("attributes", n); n == nil {
				return
			}
			for i, k := range n.keys {
				e.attributes = append(e.attributes, p.attribute(k, n.items[i]))
			}
		},
		"output":    func(n *yamlNode) { e.output = p.output("output", n) },
		"lq_output": func(n *yamlNode) { e.lqOutput = p.output("lq_output", n) },
	})
	if len(p.problems) > before {
		return e // no second fault for the same
	}
	p.agree(n, e)
	return e
}

// agree checks what the keys of an expectation say together.
func (p *caseParser) agree(n *yamlNode, e *expectation) {
	conflict := func(key, about string, end CaseEnd) {
		if e.is != "" && e.is != end {
			p.problem(n, "%s is of %s items, and is says %s", key, about, e.is)
		}
		e.is = end
	}
	if e.reason != "" {
		conflict("reason", "rejected", CaseRejected)
	}
	if e.duplicateOf != "" {
		conflict("duplicate_of", "rejected", CaseRejected)
	}
	if e.cause != "" {
		conflict("cause", "failed", CaseFailed)
	}
	if e.by != "" && e.is == CaseKept {
		p.problem(n, "by is the stage that rejected an item or in which it failed, and is says %s", e.is)
	}
	if e.is == "" && e.by == "" && len(e.attributes) == 0 && e.output == nil && e.lqOutput == nil && !e.counted {
		p.problem(n, "this expects nothing: say what the items are (is: kept, rejected or failed), their attributes, output, or count")
	}
}

func (p *caseParser) attribute(k, n *yamlNode) wantedAttribute {
	a := wantedAttribute{at: k, name: k.text}
	what := "attributes." + k.text
	switch {
	case n.kind == mapNode && slices.ContainsFunc(n.keys, func(k *yamlNode) bool { return k.text == "absent" }):
		p.fields(n, what, map[string]func(*yamlNode){"absent": text(&p.parser, what+".absent", &a.absent, parseTrue)})
	case n.kind == mapNode:
		a.bounds = new(p.bounds(what, n, parseNumber))
	case n.kind != scalarNode:
		p.problem(n, "%s must be a value, {min: 1, max: 2} or {absent: true}, not %s", what, n.what())
	default:
		a.text = n.text
	}
	return a
}

func (p *caseParser) output(what string, n *yamlNode) *wantedOutput {
	o := &wantedOutput{}
	before := len(p.problems)
	number := func(name string, to **bounds, parse func(string) (float64, error)) func(*yamlNode) {
		return func(n *yamlNode) { *to = new(p.bounds(what+"."+name, n, parse)) }
	}
	p.fields(n, what, map[string]func(*yamlNode){
		"format": text(&p.parser, what+".format", &o.format, parseFormat),
		"width":  number("width", &o.width, parseWhole),
		"height": number("height", &o.height, parseWhole),
		"bytes":  number("bytes", &o.bytes, parseSize),
	})
	if *o == (wantedOutput{}) && len(p.problems) == before {
		p.problem(n, "%s expects nothing: give format, width, height or bytes", what)
	}
	return o
}

// bounds reads a number, or {min: 1, max: 2} of which one may lack.
func (p *caseParser) bounds(what string, n *yamlNode, parse func(string) (float64, error)) bounds {
	b := bounds{min: math.Inf(-1), max: math.Inf(1)}
	if n.kind == mapNode {
		p.fields(n, what, map[string]func(*yamlNode){
			"min": text(&p.parser, what+".min", &b.min, parse),
			"max": text(&p.parser, what+".max", &b.max, parse),
		})
		switch {
		case len(n.keys) == 0:
			p.problem(n, "%s has neither min nor max", what)
		case b.min > b.max:
			p.problem(n, "%s: nothing is at least %s and at most %s", what, number(b.min), number(b.max))
		}
		return b
	}
	text(&p.parser, what, &b.min, parse)(n)
	b.max = b.min
	return b
}

// check builds the case's pipeline, and compares the names in the case with those
// that the pipeline has.
func (p *caseParser) check(ctx context.Context, c *Case) error {
	pipe, err := c.build(ctx)
	if err != nil {
		return err
	}
	b := parser{file: p.file}
	stages := []string{"source"}
	attributes, open := Builtins(), false
	for _, s := range pipe.steps {
		stages = append(stages, s.ID)
		open = open || s.Info.Name == "" // it declares nothing
		for _, m := range s.Info.makes(s.Config) {
			if !m.Vector {
				attributes[m.Name] = m.Type
			}
		}
	}
	known := slices.Sorted(maps.Keys(attributes))
	for _, e := range c.expect {
		if e.by != "" && !slices.Contains(stages, e.by) {
			b.problem(e.byAt, "by: %s has no stage %q%s (it has %s)", c.Pipeline, e.by, didYouMean(e.by, stages), strings.Join(stages, ", "))
		}
		for _, a := range e.attributes {
			if _, ok := attributes[a.name]; !ok && !open {
				b.problem(a.at, "no stage of %s makes the attribute %q%s (there are %s)", c.Pipeline, a.name, didYouMean(a.name, known), strings.Join(known, ", "))
			}
		}
	}
	if len(b.problems) > 0 {
		return &SpecError{b.problems}
	}
	return nil
}

// fields calls each key's function with its value.
func (p *parser) fields(n *yamlNode, what string, known map[string]func(*yamlNode)) {
	names := slices.Collect(maps.Keys(known))
	p.mapping(n, what, names, func(at int, value *yamlNode) { known[names[at]](value) })
}

// text takes a scalar through a parse function.
func text[T any](p *parser, what string, dst *T, parse func(string) (T, error)) func(*yamlNode) {
	return func(n *yamlNode) {
		if n.kind != scalarNode {
			p.problem(n, "%s must be one value, not %s", what, n.what())
			return
		}
		v, err := parse(n.text)
		if err != nil {
			p.problem(n, "%s: %v", what, err)
			return
		}
		*dst = v
	}
}
