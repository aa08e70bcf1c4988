// Package stagetest runs stages in real pipelines for their tests: pictures made
// in Go go in, and what arrives at the end of the chain is kept to be looked at.
package stagetest

import (
	"context"
	"image"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Source offers the given inputs, in their order.
type Source []pipeline.Input

// Emit offers the inputs.
func (s Source) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for _, in := range s {
		if err := emit(in); err != nil {
			return err
		}
	}
	return nil
}

// Picture is an input that is not a file. Its content is its name, so tests give
// different pictures different names.
func Picture(name string, img image.Image) pipeline.Input {
	return pipeline.Input{Name: name, Image: img, Content: []byte(name)}
}

// Step is a stage with its configuration.
type Step struct {
	Info   pipeline.Info
	Values map[string]any
}

// Seen is an item as it arrived at the end of the chain.
type Seen struct {
	Size       image.Point
	Attributes map[string]pipeline.Value
	Vectors    []pipeline.Vector
	Outputs    []string
	Image      image.Image // nil when it could not be decoded
	Grid       pipeline.Grid
	Paired     bool
}

// Bench is a pipeline whose end is watched.
type Bench struct {
	*pipeline.Pipeline
	mu     sync.Mutex
	seen   map[string]Seen
	events []pipeline.Event
}

// New builds a pipeline; steps that cannot be made fail the test.
func New(t testing.TB, src pipeline.Source, steps ...Step) *Bench {
	t.Helper()
	b := &Bench{Pipeline: pipeline.New("test", pipeline.Options{})}
	b.SetSource(src)
	for i, s := range steps {
		if err := b.Use(t.Context(), pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name+strconv.Itoa(i), s.Values); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// Err is why a step with this configuration cannot be made at the end of a chain
// of others; nil when it can.
func Err(t testing.TB, last Step, before ...Step) error {
	t.Helper()
	b := New(t, Source{}, before...)
	return b.Use(t.Context(), pipeline.NewRegistry(last.Info), last.Info.Name, "last", last.Values)
}

// Run runs the pipeline with checks on, into a state directory of its own unless
// the options or the pipeline say where. What arrives is kept, for the items'
// IDs.
func (b *Bench) Run(t testing.TB, o pipeline.RunOptions) (*pipeline.Summary, map[string]Seen) {
	t.Helper()
	s, err := b.Try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, b.seen
}

// Try is Run for runs that may end with an error.
func (b *Bench) Try(t testing.TB, o pipeline.RunOptions) (*pipeline.Summary, error) {
	t.Helper()
	if b.seen == nil {
		if err := b.Add(pipeline.Step{ID: "watch", Stage: pipeline.Func(b.watch)}); err != nil {
			t.Fatal(err)
		}
	}
	b.seen, b.events = map[string]Seen{}, nil
	o.Check = true
	if o.StateDir == "" && b.StateDir() == "" {
		o.StateDir = t.TempDir()
	}
	o.OnEvent = func(e pipeline.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}
	s, err := b.Pipeline.Run(t.Context(), o)
	if s != nil {
		if cerr := s.Check(); cerr != nil {
			t.Error(cerr)
		}
	}
	return s, err
}

func (b *Bench) watch(ctx context.Context, it *pipeline.Item) error {
	seen := Seen{Size: it.Size(), Attributes: map[string]pipeline.Value{}, Vectors: it.Vectors(), Outputs: it.Outputs(), Grid: it.Grid()}
	for _, a := range it.Attributes() {
		seen.Attributes[a.Name] = a.Value
	}
	_, seen.Paired = it.Pair()
	if f, err := it.Frame(ctx); err == nil {
		seen.Image = f.Image
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[it.ID()] = seen
	return nil
}

// Messages are those of the last run's events of one kind, by the item's ID.
func (b *Bench) Messages(kind pipeline.EventKind) map[string]string {
	m := map[string]string{}
	for _, e := range b.events {
		if e.Kind == kind {
			m[e.Item] = e.Message
		}
	}
	return m
}

// IDs are those of the items, sorted.
func IDs(seen map[string]Seen) []string { return slices.Sorted(maps.Keys(seen)) }
