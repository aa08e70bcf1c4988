package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// What a random stage does to an item is a function of the stage's seed and the
// item's ID, so that a few lines of sequential code can tell what a run must
// come to, whatever the workers and batches.
type randomStage struct {
	seed uint64
	oom  int // batches larger than this run out of memory; 0: never
}

func (s randomStage) roll(id string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, s.seed, id)
	v := h.Sum64()
	return v ^ v>>29
}

const (
	doPass = iota
	doReject
	doFail
	doDerive
	doDeriveAndPass
	doDeriveSomeRejected
	doPanicInCompany
	doPanicAlways
	doKinds
)

func (s randomStage) Process(ctx context.Context, b []*pipeline.Item) (out []*pipeline.Item, _ error) {
	if s.oom > 0 && len(b) > s.oom {
		return nil, fmt.Errorf("too many: %w", memory.ErrOutOfMemory)
	}
	for _, it := range b {
		v := s.roll(it.ID())
		switch v % doKinds {
		case doPass:
		case doReject:
			it.Reject("rolled a reject")
			continue
		case doFail:
			it.Fail(errors.New("rolled a fail"))
			continue
		case doDerive, doDeriveAndPass, doDeriveSomeRejected:
			n := int(v / doKinds % 3)
			for i := range n + 1 {
				d := it.Derive(fmt.Sprint("d", s.seed, "-", i), pipeline.Crop(image.Rect(0, 0, 1, 1)))
				if v%doKinds == doDeriveSomeRejected && i == 0 {
					d.Reject("rolled a derived reject")
					continue
				}
				out = append(out, d)
			}
			if v%doKinds != doDeriveAndPass {
				continue
			}
		case doPanicInCompany:
			if len(b) > 1 {
				panic("rolled a panic")
			}
		case doPanicAlways:
			panic("rolled a lasting panic")
		}
		out = append(out, it)
	}
	return out, nil
}

// want is the sequential model: the IDs that leave the stage, and the counts.
func (s randomStage) want(ids []string, w *wanted) (out []string) {
	for _, id := range ids {
		v := s.roll(id)
		switch v % doKinds {
		case doReject:
			w.rejected++
		case doFail, doPanicAlways:
			w.failed++
		case doDerive, doDeriveAndPass, doDeriveSomeRejected:
			n := int64(v/doKinds%3) + 1
			w.derived += n
			for i := range n {
				if v%doKinds == doDeriveSomeRejected && i == 0 {
					w.rejected++
					continue
				}
				out = append(out, fmt.Sprint(id, "@d", s.seed, "-", i))
			}
			if v%doKinds == doDeriveAndPass {
				out = append(out, id)
			} else {
				w.consumed++
			}
		default:
			out = append(out, id)
		}
	}
	return out
}

type wanted struct{ rejected, failed, derived, consumed int64 }

// resident makes every phase as large as its stages say, so that a small budget
// splits the chain.
type resident struct {
	pipeline.Stage
	bytes int64
}

func (r resident) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: r.bytes}
}

func TestTheSumAlwaysHolds(t *testing.T) {
	var barriers, phases, repeats atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(rt, "inputs")
		p := pipeline.New("random", pipeline.Options{})
		p.HostLimit = pipeline.Amount{Bytes: 256 << 20}
		p.SetSource(inputs(n))
		var ids []string
		for i := range n {
			ids = append(ids, input(i).Name)
		}
		var w wanted
		stages := rapid.IntRange(1, 5).Draw(rt, "stages")
		for i := range stages {
			var s pipeline.Stage
			if rapid.IntRange(0, 4).Draw(rt, "kind") == 0 {
				s = &holder{}
				barriers.Add(1)
				slices.Sort(ids)
				kept := ids[:0:0]
				for j, id := range ids {
					if j%2 == 0 {
						kept = append(kept, id)
					} else {
						w.rejected++
					}
				}
				ids = kept
			} else {
				rs := randomStage{seed: uint64(i)<<32 + uint64(rapid.Uint32().Draw(rt, "seed"))}
				if rapid.Bool().Draw(rt, "tight") {
					rs.oom = rapid.IntRange(1, 5).Draw(rt, "oom")
				}
				ids = rs.want(ids, &w)
				s = resident{rs, int64(rapid.SampledFrom([]int{0, 100 << 20}).Draw(rt, "resident"))}
			}
			err := p.Add(pipeline.Step{
				ID: fmt.Sprint("s", i), Stage: s,
				Batch: rapid.IntRange(1, 20).Draw(rt, "batch"), Workers: rapid.IntRange(1, 8).Draw(rt, "workers"),
			})
			if err != nil {
				rt.Fatal(err)
			}
		}
		var mu sync.Mutex
		got := map[string]int{}
		err := p.Add(pipeline.Step{ID: "end", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			mu.Lock()
			defer mu.Unlock()
			got[it.ID()]++
			return nil
		})})
		if err != nil {
			rt.Fatal(err)
		}
		run, err := p.Start(context.Background(), pipeline.RunOptions{NoStore: true, Check: true, OnEvent: func(e pipeline.Event) {
			switch e.Kind {
			case pipeline.EventPhase:
				phases.Add(1)
			case pipeline.EventRepeated:
				repeats.Add(1)
			}
		}})
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(0, 3).Draw(rt, "pauses") {
			time.Sleep(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "until in us")) * time.Microsecond)
			run.Pause()
			time.Sleep(time.Millisecond)
			run.Resume()
		}
		s, err := run.Wait()
		if err != nil {
			rt.Fatal(err)
		}
		if err := s.Check(); err != nil {
			rt.Fatal(err)
		}
		if s.In != int64(n) || s.Derived != w.derived || s.Consumed != w.consumed || s.RejectedTotal() != w.rejected || s.Quarantined != w.failed || s.Out != int64(len(ids)) || s.Unfinished != 0 {
			rt.Fatalf("got in %d derived %d consumed %d rejected %d failed %d out %d unfinished %d, want %+v out %d",
				s.In, s.Derived, s.Consumed, s.RejectedTotal(), s.Quarantined, s.Out, s.Unfinished, w, len(ids))
		}
		slices.Sort(ids)
		if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, ids) {
			rt.Fatalf("items at the end differ:\n%v\n%v", have, ids)
		}
	})
	if barriers.Load() == 0 || phases.Load() == 0 || repeats.Load() == 0 {
		t.Errorf("the random chains had %d barriers, %d phases, %d repeated batches: the test is blind", barriers.Load(), phases.Load(), repeats.Load())
	}
}
