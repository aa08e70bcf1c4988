package filter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "filter",
		Short: "Keeps the items for which a condition is true.",
		Long: `Keeps the items for which a condition over their attributes is true and rejects the others; the reason is the condition, and the values that it read are recorded with every item.

A condition compares attributes (laplacian >= 4), joins comparisons with && (and), || (or) and ! (not), looks into lists (source.format in ["jpeg", "png"]) and texts (source.path contains "/raw/"; startsWith, endsWith and matches work likewise), and calculates (width / height < 2). It may choose (width > height ? laplacian > 4 : laplacian > 6) and call ` + strings.Join(functions, ", ") + `. Whole numbers and others can be compared with each other.

Attributes are those that the stages before have set, and width, height, pixels, source.path, source.format, source.width, source.height and source.bytes, which every item has. Hashes are texts of hexadecimal digits. An item that lacks an attribute the condition names fails, whatever the other parts of the condition say.

` + presetLong,
		Examples: []pipeline.Example{
			{Doc: "Keep what has detail and shows little of JPEG compression.", YAML: `filter: {keep: "laplacian >= 4 && blockiness < 100"}`},
			{Doc: "Keep large photographs. A condition with quotes in it has the other kind around it.", YAML: `filter: {keep: 'pixels >= 1000000 && source.format in ["jpeg", "webp"]'}`},
			{Doc: "Keep what is fit to train super-resolution with, by the rule of BHI.", YAML: "filter: {preset: bhi}"},
			{Doc: "The same with other limits, and with weights that are not in the store.", YAML: "filter: {preset: bhi, blockiness: 50, hyperiqa: 0.3, hyperiqa_model: ./hyperiqa.pth}"},
		},
		Fields: append([]pipeline.Field{{
			Name: "keep", Type: pipeline.FieldExpr,
			Doc:      "The condition under which an item is kept; it, or else preset, is needed.",
			Examples: []string{"laplacian >= 4", "width >= 1024 && height >= 1024", `source.format != "gif"`},
		}}, presetFields()...),
		Needs: func(c pipeline.Config) []string {
			uses, err := analyse(c.String("keep"))
			if err != nil {
				return nil // New says what is wrong
			}
			names := make([]string, len(uses))
			for i, u := range uses {
				names[i] = u.name
			}
			return names
		},
		Expand:  expand,
		Blind:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// Stage keeps or rejects items.
type Stage struct {
	reason  string
	uses    []use
	program *vm.Program
	free    sync.Pool // of *evaluator
}

var _ pipeline.Stage = (*Stage)(nil)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	text := c.String("keep")
	if !c.IsSet("keep") {
		return nil, c.Errorf("keep", 0, "say what to keep: a condition, or preset: %s", bhi)
	}
	program, uses, err := compile(text, e.Attributes, e.Undeclared)
	if err != nil {
		var f *fault
		if errors.As(err, &f) {
			return nil, c.Errorf("keep", f.offset, "%w", err)
		}
		return nil, err
	}
	return &Stage{reason: strings.Join(strings.Fields(text), " "), uses: uses, program: program}, nil
}

// evaluator is what one goroutine reuses from item to item.
type evaluator struct {
	vm  vm.VM
	env map[string]any
}

// Process keeps the items for which the condition is true.
func (s *Stage) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	e, _ := s.free.Get().(*evaluator)
	if e == nil {
		e = &evaluator{env: make(map[string]any, len(s.uses)), vm: vm.VM{MemoryBudget: maxArrays}}
	}
	defer s.free.Put(e)
	out := make([]*pipeline.Item, 0, len(batch))
	for _, it := range batch {
		keep, err := s.decide(e, it)
		switch {
		case err != nil:
			it.Fail(err)
		case keep:
			out = append(out, it)
		default:
			it.Reject(s.reason, s.values(it)...)
		}
	}
	return out, nil
}

func (s *Stage) decide(e *evaluator, it *pipeline.Item) (bool, error) {
	for _, u := range s.uses {
		v, ok := it.Attr(u.name)
		if !ok {
			return false, fmt.Errorf("the condition reads %s, and the item has no attribute %s: put the stage that sets it before this one", u.name, u.name)
		}
		e.env[u.name] = valueOf(v)
	}
	result, err := e.vm.Run(s.program, e.env)
	if err != nil {
		var fe *file.Error
		if errors.As(err, &fe) {
			err = errors.New(fe.Message)
		}
		return false, fmt.Errorf("evaluating %s: %w", s.reason, err)
	}
	keep, ok := result.(bool)
	if !ok {
		return false, fmt.Errorf("evaluating %s: the condition gives %v, which is neither true nor false", s.reason, result)
	}
	return keep, nil
}

// values are the attributes that the condition read, for the record.
func (s *Stage) values(it *pipeline.Item) []pipeline.Attribute {
	out := make([]pipeline.Attribute, 0, len(s.uses))
	for _, u := range s.uses {
		if v, ok := it.Attr(u.name); ok {
			out = append(out, pipeline.Attribute{Name: u.name, Value: v})
		}
	}
	return out
}
