package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/pipeline"
)

// placed is a stage that computes where it is told.
type placed struct{ pipeline.Func }

func (placed) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	for _, d := range have {
		if d == want {
			return []pipeline.Device{d}, nil
		}
	}
	if want != "" {
		return nil, fmt.Errorf("%w: there is no %s", pipeline.ErrLacking, want)
	}
	return []pipeline.Device{pipeline.Host}, nil
}

// An entry may stand for several stages, and each of these for others.
func TestEntriesThatStandForSeveral(t *testing.T) {
	nothing := pipeline.Func(func(context.Context, *pipeline.Item) error { return nil })
	name := pipeline.Field{Name: "name", Type: pipeline.FieldString, Doc: "Tests."}
	one := pipeline.Info{
		Name: "one", Short: "Tests.", Fields: []pipeline.Field{name}, Version: 1,
		Makes: func(c pipeline.Config) []pipeline.Made {
			return []pipeline.Made{{Name: c.String("name"), Type: pipeline.TypeInt}}
		},
		New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
			if c.String("name") == "bad" {
				return nil, c.Errorf("name", 0, "it is bad")
			}
			return placed{nothing}, nil
		},
	}
	needy := pipeline.Info{
		Name: "needy", Short: "Tests.", Version: 1, Needs: func(pipeline.Config) []string { return []string{"a"} },
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return nothing, nil },
	}
	both := pipeline.Info{
		Name: "both", Short: "Tests.", Fields: []pipeline.Field{name}, Version: 1,
		Expand: func(c pipeline.Config) ([]pipeline.Entry, error) {
			switch c.String("name") {
			case "itself":
				return nil, nil
			case "wrong":
				return nil, c.Errorf("name", 0, "it is wrong")
			case "unknown":
				return []pipeline.Entry{{Stage: "other"}}, nil
			case "field":
				return []pipeline.Entry{{Stage: "one", Values: map[string]any{"nome": "x"}}}, nil
			case "nested":
				return []pipeline.Entry{{ID: "in", Stage: "both", Values: map[string]any{"name": "a"}}}, nil
			}
			return []pipeline.Entry{{Stage: "one", Values: map[string]any{"name": c.String("name")}}, {ID: "then", Stage: "needy"}}, nil
		},
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return nothing, nil },
	}
	card, err := sim.New(sim.Config{Name: "sim:0", Total: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	source := pipeline.Info{
		Name: "none", Short: "Tests.",
		NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) { return noInputs{}, nil },
	}
	o := pipeline.Options{Registry: pipeline.NewRegistry(one, needy, both, source), Devices: []memory.Device{card}}
	for name, tt := range map[string]struct{ entry, stages, wrong string }{
		"several":          {entry: "both: {name: a}", stages: "both (one) both.then (needy)"},
		"under its own id": {entry: "{both: {name: a}, id: mine}", stages: "mine (one) mine.then (needy)"},
		"of others":        {entry: "both: {name: nested}", stages: "both.in (one) both.in.then (needy)"},
		"itself":           {entry: "both: {name: itself}", stages: "both (both)"},
		"on a device":      {entry: "{both: {name: a}, device: sim:0}", stages: "both (one) both.then (needy)"},
		"on none that is":  {entry: "{both: {name: a}, device: sim:7}", wrong: "there is no sim:7"},
		"itself on one":    {entry: "{both: {name: itself}, device: sim:0}", wrong: "p.yaml:3:6: stage both"},
		"a wrong field":    {entry: "both: {name: wrong}", wrong: "p.yaml:3:18: stage both: name: it is wrong"},
		"a wrong part":     {entry: "both: {name: bad}", wrong: "p.yaml:3:18: stage both: name: it is bad"},
		"a need":           {entry: "both: {name: b}", wrong: `p.yaml:3:5: needy needs the attribute "a"`},
		"no such stage":    {entry: "both: {name: unknown}", wrong: `p.yaml:3:5: stage both: both is made of the stage "other"`},
		"no such field":    {entry: "both: {name: field}", wrong: `one has no field "nome"`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {none: {}}\nstages:\n  - "+tt.entry+"\n"), o)
			var wrong *pipeline.SpecError
			switch {
			case tt.wrong != "":
				if !errors.As(err, &wrong) || !strings.Contains(wrong.Problems[0].String(), tt.wrong) {
					t.Errorf("%v, want %s", err, tt.wrong)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			var got []string
			for _, s := range p.Graph(nil).Stages {
				got = append(got, fmt.Sprintf("%s (%s)", s.ID, s.Stage))
			}
			if strings.Join(got, " ") != tt.stages {
				t.Errorf("stages %v, want %s", got, tt.stages)
			}
		})
	}

	// What is built in Go goes the same way.
	p := pipeline.New("p", o)
	if err := p.Use(t.Context(), o.Registry, "both", "mine", map[string]any{"name": "a"}); err != nil {
		t.Fatal(err)
	}
	if g := p.Graph(nil); len(g.Stages) != 2 || g.Stages[1].ID != "mine.then" {
		t.Errorf("stages %+v", g.Stages)
	}
	if err := p.Use(t.Context(), o.Registry, "both", "more", map[string]any{"name": "wrong"}); err == nil || err.Error() != "stage both: name: it is wrong" {
		t.Errorf("the error is %v", err)
	}
}

type noInputs struct{}

func (noInputs) Emit(context.Context, func(pipeline.Input) error) error { return nil }
