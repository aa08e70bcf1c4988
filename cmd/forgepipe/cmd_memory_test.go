package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// holdPatience is for a test that has failed and does not let its run go on.
const holdPatience = time.Minute

// held is the command with three more stages: hold keeps a run running for as
// long as a test wants, trip panics, vast says that it needs much memory.
func held() {
	registry := standard.Registry().With(
		pipeline.Info{
			Name: "hold", Short: "Waits.", Version: 1,
			Fields: []pipeline.Field{
				{Name: "mark", Type: pipeline.FieldString, Required: true, Doc: "The file that says that it waits."},
				{Name: "until", Type: pipeline.FieldString, Required: true, Doc: "The file that it waits for."},
			},
			New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
				return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
					if _, err := it.Frame(ctx); err != nil {
						return err
					}
					if err := os.WriteFile(c.String("mark"), nil, 0o666); err != nil {
						return err
					}
					for end := time.Now().Add(holdPatience); ; {
						if time.Now().After(end) {
							return errors.New("nobody lets it go on")
						}
						if _, err := os.Stat(c.String("until")); !errors.Is(err, fs.ErrNotExist) {
							return err
						}
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(5 * time.Millisecond):
						}
					}
				}), nil
			},
		},
		pipeline.Info{
			Name: "trip", Short: "Panics.", Version: 1,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return trip{}, nil },
		},
		pipeline.Info{
			Name: "vast", Short: "Needs much.", Version: 1,
			Fields: []pipeline.Field{
				{Name: "resident", Type: pipeline.FieldSize, Default: "0", Doc: "As long as it is there."},
				{Name: "work", Type: pipeline.FieldSize, Default: "0", Doc: "For a call."},
			},
			New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
				return vast{pipeline.Cost{Resident: c.Int("resident"), Work: c.Int("work")}}, nil
			},
		},
	)
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, registry, "test"))
}

// trip has state, so that its panic ends the run.
type trip struct{}

func (trip) Stateful() {}

func (trip) Process(context.Context, []*pipeline.Item) ([]*pipeline.Item, error) { panic("tripped") }

var _ pipeline.Coster = vast{}

type vast struct{ cost pipeline.Cost }

func (v vast) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost { return v.cost }

func (vast) Process(_ context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return batch, nil
}

// What is not known is null, never a zero or -1.
func TestUnknownFiguresAreNull(t *testing.T) {
	now := time.Now()
	unknown := memory.Reading{
		Physical: memory.Unknown, Total: 100, Used: memory.Unknown, Free: memory.Unknown,
		Reserved: memory.Unknown, Own: memory.Unknown, Stalled: memory.Unknown, Busy: memory.Unknown,
	}
	for _, tt := range []struct {
		name  string
		state memory.DeviceState
		want  string
	}{
		{
			"never read", memory.DeviceState{Sample: memory.Sample{Device: "gpu:0", Err: errors.New("it hangs")}},
			`{"device":"gpu:0","physical":null,"total":null,"used":null,"free":null,"reserved":null,"own":null,"stalled":null,"busy":null,` +
				`"age_seconds":null,"error":"it hangs","leased":null,"limit":null,"waiting":0,"holders":[]}`,
		},
		{
			"read, with gaps, and leased", memory.DeviceState{
				Sample: memory.Sample{Device: "gpu:0", Reading: unknown, At: now.Add(-2 * time.Second)},
				Leased: true, Usage: memory.Usage{Residency: 1, Work: 2, Limit: 9, Waiting: 1},
			},
			`{"device":"gpu:0","physical":null,"total":100,"used":null,"free":null,"reserved":null,"own":null,"stalled":null,"busy":null,` +
				`"age_seconds":2,"leased":3,"limit":9,"waiting":1,"holders":[]}`,
		},
	} {
		got, err := json.Marshal(deviceOf(tt.state, now))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.name, err, got, tt.want)
		}
	}
}

// A holder's leases are added up by kind, the largest first.
func TestHoldersAreAddedUp(t *testing.T) {
	early, late := time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()
	got := holdersOf([]memory.Holding{
		{Holder: "tile", Kind: memory.Work, Bytes: 5, Since: late},
		{Holder: "source", Kind: memory.Residency, Bytes: 4, Since: late},
		{Holder: "source", Kind: memory.Residency, Bytes: 3, Since: early},
		{Holder: "source", Kind: memory.Work, Bytes: 1, Since: late},
	})
	if len(got) != 3 || got[0].Bytes != 7 || got[0].Leases != 2 || !got[0].Since.Equal(early) || got[1].Holder != "tile" || got[2].Kind != "work" {
		t.Errorf("%+v", got)
	}
}

// Every means has something to write or to run.
func TestEveryAdviceCanBeFollowed(t *testing.T) {
	for _, m := range []memory.Means{
		memory.SetLimit, memory.SetWorkers, memory.SetBatch, memory.RaiseCgroup,
		memory.RaiseGoLimit, memory.FindPressure, memory.FindSwap, memory.AddMemory,
	} {
		if text := do(memory.Advice{Means: m, Bytes: 1 << 30, Count: 2, Name: "stage x"}); strings.TrimSpace(text) == "" {
			t.Errorf("%s: nothing to do", m)
		}
	}
}

// What must not be left behind is released once, the newest first.
func TestReleaseAtTheEnd(t *testing.T) {
	var a app
	var order []string
	done := a.release(func() { order = append(order, "first") })
	a.release(func() { order = append(order, "second") })
	a.release(func() { order = append(order, "third") })
	done()
	a.releaseAll()
	if got := strings.Join(order, " "); got != "first third second" {
		t.Errorf("released: %s", got)
	}
}
