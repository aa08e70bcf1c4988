package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// Problem is one fault in a pipeline file.
type Problem struct {
	File    string `json:"file"`    // as it was given to Load
	Line    int    `json:"line"`    // from 1
	Col     int    `json:"col"`     // from 1, in characters
	Message string `json:"message"` // what is wrong and what to do
	// Lacking says that the pipeline is right and the machine lacks something.
	Lacking bool `json:"lacking,omitempty"`
}

// ErrLacking is what a stage's constructor wraps when its configuration is in
// order and the machine lacks something: a library, a device.
var ErrLacking = errors.New("this machine lacks something")

// String writes the problem as file:line:col: message, or as file: message where it
// has no place in the file.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Message)
}

// SpecError says that a pipeline is wrong, with every fault that was found.
type SpecError struct {
	Problems []Problem // one or more, in the order of the file
}

// Lacking tells whether nothing is wrong but what this machine lacks.
func (e *SpecError) Lacking() bool {
	return len(e.Problems) > 0 && !slices.ContainsFunc(e.Problems, func(p Problem) bool { return !p.Lacking })
}

func (e *SpecError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// OnError says what a failed item does to the run.
type OnError string

// What a failed item does: it is quarantined and the run goes on, or the run
// stops. The empty value is the pipeline's, whose own default is Quarantine.
const (
	Quarantine OnError = "quarantine"
	Stop       OnError = "stop"
)

// Amount is a number of bytes or a share of what there is. The zero Amount is
// "not given".
type Amount struct {
	Bytes int64   // 0: Share counts
	Share float64 // of what there is, from 0 to 1
}

// parseAmount reads "512MiB" or "60%".
func parseAmount(text string) (Amount, error) {
	if strings.HasSuffix(strings.TrimSpace(text), "%") {
		s, err := memory.ParseShare(text)
		return Amount{Share: s}, err
	}
	b, err := memory.ParseBytes(text)
	return Amount{Bytes: b}, err
}

// of is the amount in bytes where total is all there is.
func (a Amount) of(total int64) int64 {
	if a.Bytes > 0 {
		return a.Bytes
	}
	return int64(a.Share * float64(total))
}

// spec is a pipeline file after parsing: names, text and places, nothing built
// yet.
type spec struct {
	File        string          // for messages
	Name        string          // of the pipeline
	HostLimit   Amount          // memory.host.limit
	GPUHeadroom int64           // memory.gpu.headroom, bytes of each GPU that stay free
	WhenBusy    memory.WhenBusy // memory.gpu.when_busy, what is done about others who compute there
	Strategy    string          // memory.strategy, decides about the batches of networks
	OnError     OnError         // what a failed item does where its stage does not say
	MaxFailed   MaxFailed       // how much may fail
	Limits      imageio.Limits  // of input images
	Source      stageSpec       // where items come from
	Stages      []stageSpec     // the chain

	strategyAt, sourceAt, stagesAt *yamlNode
}

// MaxFailed ends a run in which too much fails: more than Count items, or more
// than Share of the inputs once 100 have come. The zero value never does.
type MaxFailed struct {
	Count int64   // items
	Share float64 // from 0 to 1
}

// stageSpec is one entry of the chain.
type stageSpec struct {
	ID        string  // unique in the pipeline
	Name      string  // of the stage
	Workers   int     // 0: the engine decides
	BatchSize int     // 0: the stage decides
	Device    Device  // empty: the stage decides
	OnError   OnError // empty: the pipeline's

	at     *yamlNode // the stage's key
	config *yamlNode // mapping or nil
}

// Vars resolves ${NAME}: first Set, then Env.
type Vars struct {
	Set map[string]string                // values by name
	Env func(name string) (string, bool) // nil: none
}

func (v Vars) lookup(name string) (string, bool) {
	if s, ok := v.Set[name]; ok {
		return s, true
	}
	if v.Env != nil {
		return v.Env(name)
	}
	return "", false
}

// Expand replaces ${NAME} and ${NAME:-default} in text. "$${" stands for "${".
// The default is used when the variable is not set or empty. The names that
// occur are reported to used.
func (v Vars) Expand(text string, used func(name string)) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		end := strings.IndexByte(text[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("%q has no closing brace", clip(text[i:], 40))
		}
		name, def, hasDef := strings.Cut(text[i+2:i+end], ":-")
		if !validVar(name) {
			return "", fmt.Errorf("%q is not a variable's name: letters, digits and _ only (write $${ for a literal ${)", name)
		}
		if used != nil {
			used(name)
		}
		val, ok := v.lookup(name)
		switch {
		case ok && (val != "" || !hasDef):
			b.WriteString(val)
		case hasDef:
			b.WriteString(def)
		default:
			return "", fmt.Errorf("the variable %s is not set: give --set %s=VALUE, set it in the environment, or write ${%s:-default}", name, name, name)
		}
		text = text[i+end+1:]
	}
}

func validVar(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// parseSpec reads a pipeline file's bytes, with what a case changes, which may be
// nil; file is its name for messages. The error is a *SpecError.
func parseSpec(file string, data []byte, vars Vars, v *changes) (*spec, error) {
	root, problems := parseYAML(file, data, pipelineDocument)
	if len(problems) > 0 {
		return nil, &SpecError{problems}
	}
	p := parser{file: file, vars: vars, used: map[string]bool{}}
	v.apply(&p, root)
	p.expand(root)
	s := p.spec(root)
	for _, name := range slices.Sorted(mapKeys(vars.Set)) {
		if !p.used[name] && !v.uses(name) {
			at, who := v.setter(name)
			p.problem(at, "%s gives %s, but the pipeline has no ${%s}%s", who, name, name, didYouMean(name, slices.Sorted(mapKeys(p.used))))
		}
	}
	if len(p.problems) > 0 {
		return nil, &SpecError{p.problems}
	}
	return s, nil
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

type parser struct {
	file     string
	vars     Vars
	used     map[string]bool
	problems []Problem
}

func (p *parser) problem(n *yamlNode, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: cmp.Or(n.file, p.file), Line: n.line, Col: n.col, Message: fmt.Sprintf(format, args...)})
}

// expand replaces variables in every scalar value, after parsing, so that a
// value can hold '#', ':' or a newline without becoming YAML. What stands in
// another file was expanded there.
func (p *parser) expand(n *yamlNode) {
	if n.file != "" {
		return
	}
	if n.kind == scalarNode {
		text, err := p.vars.Expand(n.text, func(name string) {
			p.used[name] = true
			n.vars = append(n.vars, name)
		})
		if err != nil {
			p.problem(n, "%v", err)
		}
		n.text = text
	}
	for _, c := range n.items {
		p.expand(c)
	}
}

func (p *parser) spec(root *yamlNode) *spec {
	s := &spec{File: p.file, Limits: imageio.DefaultLimits()}
	if root.kind != mapNode {
		p.problem(root, "a pipeline must be a mapping with source and stages, not %s", root.what())
		return s
	}
	readKeys(p, root, "", fileKeys(), s)
	source, stages := s.sourceAt, s.stagesAt
	if source == nil {
		p.problem(root, "the pipeline has no source: add source: {images: {path: ./photos}}")
	} else {
		s.Source = p.entry(source, "source")
	}
	switch {
	case stages == nil || stages.kind == nullNode:
		p.problem(root, "the pipeline has no stages: add a list under stages:")
	case stages.kind == listNode && len(stages.items) == 0:
		p.problem(stages, "the pipeline has no stages: the list is empty")
	case stages.kind != listNode:
		p.problem(stages, "stages must be a list of stages, not %s", stages.what())
	default:
		ids := map[string]*yamlNode{}
		for _, n := range stages.items {
			e := p.entry(n, "stage")
			if e.at == nil {
				continue
			}
			if e.ID == "" {
				e.ID = e.Name
				for i := 2; ids[e.ID] != nil; i++ {
					e.ID = e.Name + "-" + strconv.Itoa(i)
				}
			}
			if first := ids[e.ID]; first != nil {
				p.problem(n, "two stages have the id %q, the first in line %d", e.ID, first.line)
			}
			ids[e.ID] = n
			s.Stages = append(s.Stages, e)
		}
	}
	return s
}

// entry reads one element of the chain: one stage key beside reserved keys.
func (p *parser) entry(n *yamlNode, what string) (e stageSpec) {
	if n.kind != mapNode {
		p.problem(n, "a %s must be a mapping such as {tile: {size: 512}}, not %s", what, n.what())
		return e
	}
	keys := entryKeys()
	for i, k := range n.keys {
		if at := slices.IndexFunc(keys, func(r key[stageSpec]) bool { return r.Name == k.text }); at >= 0 {
			readKey(p, n.items[i], "", keys[at], &e)
			continue
		}
		if e.at != nil {
			p.problem(k, "this entry has two stage keys, %s and %s: one stage per list entry", e.Name, k.text)
			continue
		}
		e.Name, e.at, e.config = k.text, k, n.items[i]
	}
	if e.at == nil {
		p.problem(n, "this entry names no %s", what)
	}
	if e.ID == "" && what == "source" {
		e.ID = "source"
	}
	return e
}

// configure reads a stage's fields from its node.
func (p *parser) configure(in Info, e stageSpec) (Config, bool) {
	c := Config{info: in, values: map[string]any{}, given: map[string][]string{}}
	before := len(p.problems)
	if e.config.kind != nullNode && e.config.kind != mapNode {
		p.problem(e.config, "%s wants a mapping of fields, not %s", in.Name, e.config.what())
		return c, false
	}
	for i, k := range e.config.keys {
		v := e.config.items[i]
		f, ok := in.field(k.text)
		if !ok {
			has := "none"
			if len(in.Fields) > 0 {
				has = strings.Join(in.fieldNames(), ", ")
			}
			if e.Name != "" && reserved(k.text) {
				p.problem(k, "%s has no field %q (it has %s): %s stands beside the stage's name, as in {%s: {...}, %s: ...}", in.Name, k.text, has, k.text, in.Name, k.text)
				continue
			}
			p.problem(k, "%s has no field %q%s (it has %s)", in.Name, k.text, didYouMean(k.text, in.fieldNames()), has)
			continue
		}
		if f.Type == FieldChoices {
			c.setChoices(f, p.choices(in, f, v))
			continue
		}
		var words []string
		switch {
		case v.kind == scalarNode:
			words = []string{v.text}
		case v.kind == listNode && f.Type == FieldStrings:
			for _, e := range v.items {
				if e.kind != scalarNode {
					p.problem(e, "%s.%s wants a list of text, and this element is %s", in.Name, f.Name, e.what())
					continue
				}
				words = append(words, e.text)
			}
		default:
			p.problem(v, "%s.%s wants %s, not %s", in.Name, f.Name, f.Type, v.what())
			continue
		}
		if err := c.assign(f, words...); err != nil {
			p.problem(v, "%s.%v", in.Name, err)
		}
	}
	if len(p.problems) > before {
		return c, false
	}
	if err := c.complete(); err != nil {
		p.problem(e.at, "%v", err)
		return c, false
	}
	return c, true
}

// choices reads a FieldChoices.
func (p *parser) choices(in Info, f Field, n *yamlNode) []Chosen {
	elements := []*yamlNode{n}
	if n.kind == listNode {
		elements = n.items
	}
	var all []Chosen
	for _, e := range elements {
		word, options := e, &yamlNode{kind: nullNode, line: e.line, col: e.col}
		if e.kind == mapNode && len(e.keys) == 1 {
			word, options = e.keys[0], e.items[0]
		}
		if word.kind != scalarNode {
			p.problem(e, "%s.%s: each element is a word or {word: {options}}, not %s", in.Name, f.Name, e.what())
			continue
		}
		sub, err := in.choice(f, word.text)
		if err != nil {
			p.problem(word, "%s.%s: %v", in.Name, f.Name, err)
			continue
		}
		if c, ok := p.configure(sub, stageSpec{at: word, config: options}); ok {
			all = append(all, Chosen{word.text, c})
		}
	}
	return all
}

// reserved tells whether a key stands beside the name of a stage or source.
func reserved(name string) bool {
	return slices.ContainsFunc(entryKeys(), func(k key[stageSpec]) bool { return k.Name == name })
}

// missing says, of an error about a file that is not there, which variable gives its
// name: the default in a pipeline to begin with is a folder that few have.
func missing(at *yamlNode, err error) string {
	if len(at.vars) == 0 || !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return fmt.Sprintf(" (the value is that of ${%s}: give another one with --set %[1]s=VALUE)", at.vars[0])
}

// place finds where in the file a constructor's error belongs.
func (p *parser) place(e stageSpec, err error) *yamlNode {
	var fe *FieldError
	if errors.As(err, &fe) && e.config.kind == mapNode {
		if n := e.config.get(fe.Field); n != nil {
			if n.kind == listNode && 0 < fe.Element && fe.Element <= len(n.items) {
				n = n.items[fe.Element-1]
			}
			at := *n
			at.col += fe.Offset
			if n.quoted && fe.Offset > 0 {
				at.col++
			}
			return &at
		}
	}
	return e.at
}
