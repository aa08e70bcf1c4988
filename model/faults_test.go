package model_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

// What a session on trial had is for the others once the trial is over, also while all
// lanes have something to do.
func TestTrialLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, device := &doubler{}, make(chan struct{}, 1)
		ledger := memory.NewLedger("gpu:0", 10000)
		var open, opened atomic.Int64
		var atOnce []int64 // sessions, seen at runs after the first trial
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 4, Devices: []model.RunnerDevice{{
			Device: "gpu:0", MostLanes: 2, Ledger: ledger, Weights: 1000,
			Open: func(context.Context) (model.Session, error) {
				opened.Add(1)
				open.Add(1)
				return secondSession{doubler: d, open: &open, device: device}, nil
			},
		}}})
		defer r.Close()
		for range 60 { // trials get rarer: between them, all is as before
			calls(t, r, 8, 200)
			atOnce = append(atOnce, ledger.Usage().Residency/1000)
		}
		if opened.Load() < 2 {
			t.Fatal("there was no trial")
		}
		if alone := len(slices.DeleteFunc(slices.Clone(atOnce), func(n int64) bool { return n > 1 })); alone < 40 {
			t.Errorf("sessions leased for after each of 60 rounds: %v", atOnce)
		}
	})
}

// A session on trial that works no more costs no item: the first session takes them.
func TestTrialBreaks(t *testing.T) {
	for name, refuse := range map[string]bool{"opens again": false, "opens once": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &doubler{}
				var open, opened atomic.Int64
				r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 4, Devices: []model.RunnerDevice{{
					Device: "gpu:0", MostLanes: 2,
					Open: func(context.Context) (model.Session, error) {
						n := opened.Add(1)
						if n > 2 && refuse {
							return nil, errors.New("CUDA failure 999")
						}
						open.Add(1)
						return breaking{secondSession{doubler: d, open: &open}, n > 1}, nil
					},
				}}})
				defer r.Close()
				calls(t, r, 8, 3000)
				if opened.Load() < 2 {
					t.Error("there was no trial")
				}
			})
		})
	}
}

// breaking is a session whose runs fail.
type breaking struct {
	secondSession
	broken bool
}

func (s breaking) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	if s.broken {
		return nil, errors.New("CUDNN_STATUS_INTERNAL_ERROR")
	}
	return s.secondSession.Run(ctx, in, o)
}

// A device whose sessions can be opened and whose runs fail, which is quick, does not
// swallow the items that another one can compute. An item that fails on both fails.
func TestDeviceOnWhichAllFails(t *testing.T) {
	for _, batch := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			well := timed{&doubler{bad: 1000}, time.Millisecond, time.Millisecond}
			bad := timed{&doubler{bad: 1000}, 0, 10 * time.Microsecond}
			bad.fail = func(run, _ int) error { return only(run > 20, errors.New("CUDA error 700")) }
			r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: batch, Devices: []model.RunnerDevice{
				{Device: "gpu:0", Open: bad.open}, {Device: "gpu:1", Open: well.open},
			}})
			defer r.Close()
			calls(t, r, 6, 200)
			before := len(bad.runs)
			calls(t, r, 6, 200)
			if len(bad.runs) != before {
				t.Errorf("batches of %d: %d more runs on a device on which all fails", batch, len(bad.runs)-before)
			}
			if res := r.Infer(t.Context(), []model.Input{item(1000, 3)}); res[0].Err == nil {
				t.Error("an odd item has a result")
			}
		})
	}
}

// An odd item is no reason to give a device up.
func TestOddItemsTakeNoDeviceOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := timed{&doubler{bad: 1000}, time.Millisecond, time.Millisecond}, timed{&doubler{bad: 1000}, time.Millisecond, time.Millisecond}
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 4, Devices: []model.RunnerDevice{
			{Device: "gpu:0", Open: a.open}, {Device: "gpu:1", Open: b.open},
		}})
		defer r.Close()
		for range 20 {
			in := append(items(3, 3), item(1000, 3))
			res := r.Infer(t.Context(), in)
			check(t, res[:3])
			if res[3].Err == nil {
				t.Error("an odd item has a result")
			}
		}
		before := []int{len(a.runs), len(b.runs)}
		calls(t, r, 6, 100)
		if len(a.runs) == before[0] || len(b.runs) == before[1] {
			t.Errorf("%d and %d runs, and before %v: both devices are well", len(a.runs), len(b.runs), before)
		}
	})
}

// With batches of one item, none is lost with the device either.
func TestLostDeviceWithBatchesOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, bad := timed{&doubler{}, time.Millisecond, time.Millisecond}, timed{&doubler{}, time.Millisecond, time.Millisecond}
		var lost atomic.Bool
		bad.fail = func(run, _ int) error {
			if run > 20 {
				lost.Store(true)
				return errors.New("CUDA error 700")
			}
			return nil
		}
		r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 1, Devices: []model.RunnerDevice{
			{Device: "gpu:0", Open: func(ctx context.Context) (model.Session, error) {
				if lost.Load() {
					return nil, errors.New("lost")
				}
				return bad.open(ctx)
			}}, {Device: "gpu:1", Open: well.open},
		}})
		defer r.Close()
		calls(t, r, 6, 100)
	})
}

// A network of a fixed batch is given whole batches, also after one had no room, and
// whatever a strategy says.
func TestFixedBatchesAreWhole(t *testing.T) {
	many := memory.Strategies{"many": func(int) memory.Strategy { return wants(64) }}
	for name, o := range map[string]memory.GovernorOptions{
		"adaptive": {}, "halving": {Strategy: memory.Halving}, "a strategy that wants 64": {Strategy: "many", Strategies: many},
	} {
		synctest.Test(t, func(t *testing.T) {
			g, err := memory.NewGovernor(o)
			if err != nil {
				t.Fatal(err)
			}
			d := &doubler{}
			d.fail = func(run, items int) error {
				if items != 8 {
					return errors.New("the network takes 8")
				}
				return only(run == 2, &ort.OutOfMemoryError{Text: "no room"})
			}
			r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 8, Fixed: true, Governor: g, Devices: at(d.open)})
			defer r.Close()
			for range 10 {
				check(t, r.Infer(t.Context(), items(16, 3)))
			}
			if len(d.runs) > 22 {
				t.Errorf("%s: %d runs for 160 items in batches of 8", name, len(d.runs))
			}
		})
	}
}

// wants always wants so many items.
type wants int

func (w wants) Next(memory.Situation) memory.Choice {
	return memory.Choice{Batch: int(w), Rule: "whim"}
}
func (wants) Ran(memory.Situation, memory.Ran) {}

// When one lane gives up the CPU's session that all share, the others' items are
// computed in the next one.
func TestFallbackIsGivenUpBesideOthers(t *testing.T) {
	n := &network{run: func(*netSession, int, *ort.Tensor) error { return &ort.OutOfMemoryError{Text: "no room"} }}
	cpu := &network{run: func(s *netSession, run int, _ *ort.Tensor) error {
		s.dead.CompareAndSwap(false, run == 20)
		time.Sleep(time.Millisecond)
		return only(s.dead.Load(), errors.New("dead"))
	}}
	r := model.NewRunner(model.RunnerOptions{Name: "net", Type: ort.Float32, Batch: 1, Fallback: model.Shared(cpu.load), Devices: []model.RunnerDevice{
		{Device: "gpu:0", Open: n.load}, {Device: "gpu:1", Open: n.load},
	}})
	defer r.Close()
	for range 10 {
		for i, res := range r.Infer(t.Context(), items(10, 3)) {
			if res.Err != nil && res.Err.Error() != "running net: dead" {
				t.Errorf("item %d: %v", i+1, res.Err)
			}
		}
	}
}
