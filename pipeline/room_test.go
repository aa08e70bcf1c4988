package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// These tests run chains in so little room that items have to be parked, calls
// split and repeated. Each tells how items were lost or refused that fit alone.

// costly is a stage that says what an item of its batch takes.
type costly struct {
	pipeline.Stage
	each pipeline.Cost
}

func (c costly) Cost(_ pipeline.Device, b []*pipeline.Item) pipeline.Cost {
	n := int64(len(b))
	return pipeline.Cost{Work: c.each.Work * n, Output: c.each.Output * n}
}

// patient is one that waits for its batch to fill.
type patient struct {
	costly
	size int
}

func (p patient) Batch() pipeline.BatchSpec {
	return pipeline.BatchSpec{Size: p.size, Linger: time.Second}
}

var passBatch = batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) { return b, nil })

// The 36 MiB of 100 that are not the program's own hold three of eight.
const tight = 100 << 20

func wantAllOut(t *testing.T, s *pipeline.Summary, n int64) {
	t.Helper()
	if s.Out != n {
		t.Errorf("%d of %d came out: %+v", s.Out, n, s.Failed)
	}
}

// What the first half of a split batch made stayed with the worker while that
// waited for room for the second half, which was refused.
func TestSplitBatchDeliversItsFirstHalf(t *testing.T) {
	p := pipeline.New("split", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: tight}
	p.SetSource(inputs(8))
	add(t, p, pipeline.Step{ID: "enlarge", Workers: 1, Stage: patient{costly{batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		for _, it := range b {
			it.SetImage(image.NewGray(image.Rect(0, 0, 4096, 2048)))
		}
		return b, nil
	}), pipeline.Cost{Output: 8 << 20}}, 8}})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 8)
}

// stateful is a stage with state, whose calls are never repeated.
type stateful struct{ patient }

func (stateful) Stateful() {}

// A batch that is only together too large was lost in a stage with state, as if
// it had been called.
func TestStatefulStageGetsASmallerBatch(t *testing.T) {
	p := pipeline.New("stateful", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: tight}
	p.SetSource(inputs(8))
	add(t, p, pipeline.Step{ID: "count", Workers: 1, Stage: stateful{patient{costly{passBatch, pipeline.Cost{Work: 10 << 20}}, 8}}})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 8)
}

// A picture that has no file, once written to disk to make room, counted as one
// that can be had from its file, and was lost at the next barrier.
func TestSpilledPictureSurvivesABarrier(t *testing.T) {
	const n = 3
	p := pipeline.New("spill", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: tight}
	var in listed
	for i := range n {
		img := image.NewGray(image.Rect(0, 0, 4096, 2048))
		img.Pix[0] = byte(7 + i)
		in = append(in, pipeline.Input{Name: fmt.Sprint(i), Image: img})
	}
	p.SetSource(in)
	add(t, p, pipeline.Step{ID: "gather", Stage: gathering(n), Workers: n, Batch: 1})
	add(t, p, pipeline.Step{ID: "hungry", Stage: costly{passBatch, pipeline.Cost{Work: 24 << 20}}, Workers: 1, Batch: 1})
	add(t, p, pipeline.Step{ID: "hold", Stage: &all{}, Batch: 1})
	var sum atomic.Int64
	add(t, p, pipeline.Step{ID: "look", Batch: 1, Stage: pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			it.Fail(err)
			return nil
		}
		sum.Add(int64(f.Image.(*image.Gray).Pix[0]))
		return nil
	})})
	spilled := atomic.Bool{}
	s := mustRun(t, p, pipeline.RunOptions{NoStore: true, OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventParked {
			spilled.Store(true)
		}
	}})
	wantAllOut(t, s, n)
	if s.Parked.Pictures == 0 || s.Parked.Spilled < 8<<20 || s.Parked.Dropped != 0 {
		t.Errorf("parked: %+v", s.Parked)
	}
	if sum.Load() != 7+8+9 || !spilled.Load() {
		t.Errorf("the pictures sum up to %d, want 24; something was parked: %v", sum.Load(), spilled.Load())
	}
}

// A call that is repeated alone after a panic, and then runs out of memory, waited
// for the lease that it had itself.
func TestRepeatedCallDoesNotWaitForItself(t *testing.T) {
	p := pipeline.New("again", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: tight}
	p.SetSource(inputs(1))
	calls := 0
	add(t, p, pipeline.Step{ID: "s", Workers: 1, Batch: 1, Stage: costly{batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		switch calls++; calls {
		case 1:
			panic("once")
		case 2:
			return nil, memory.ErrOutOfMemory
		}
		return b, nil
	}), pipeline.Cost{Output: 16 << 20}}})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 1)
}

// What a failed attempt made stayed in memory while the batch was repeated, and
// through the clean-up that was to help.
func TestFailedAttemptKeepsNothing(t *testing.T) {
	p := pipeline.New("forget", pipeline.Options{})
	p.SetSource(inputs(8))
	var live, seen atomic.Int64
	failed := false
	add(t, p, pipeline.Step{ID: "oom", Workers: 1, Stage: patient{costly{batchStage(func(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		if failed {
			for range 2 { // what has a cleanup takes two collections
				runtime.GC()
				time.Sleep(20 * time.Millisecond)
			}
			seen.Add(live.Load())
			return b, nil
		}
		failed = true
		for _, it := range b {
			img := image.NewGray(image.Rect(0, 0, 1024, 1024))
			live.Add(1)
			runtime.AddCleanup(img, func(int) { live.Add(-1) }, 0)
			it.SetImage(img)
		}
		return nil, memory.ErrOutOfMemory
	}), pipeline.Cost{}}, 8}})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 8)
	if seen.Load() > 0 {
		t.Errorf("%d pictures of the failed attempt were still there", seen.Load())
	}
}

// Under a size that the host has, but not now, calls were granted by the one figure
// and taken back by the other, again and again. They wait until the others have
// gone.
func TestSizeBeyondWhatIsFreeIsNotGrantedAndTakenBack(t *testing.T) {
	root := t.TempDir()
	available := func(mib int) {
		name := filepath.Join(root, "proc/meminfo")
		put(t, name+".new", fmt.Appendf(nil, "MemTotal: %d kB\nMemAvailable: %d kB\n", 1024<<10, mib<<10))
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	available(200)
	put(t, filepath.Join(root, "proc/self/statm"), fmt.Appendf(nil, "%d %[1]d 0 0 0 0 0\n", 50<<20/os.Getpagesize()))
	p := pipeline.New("busy host", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: 600 << 20}
	// Those that come before let the run see what is free.
	p.SetSource(inputs(3))
	add(t, p, pipeline.Step{ID: "slow", Workers: 1, Batch: 1, Stage: pipeline.Func(func(context.Context, *pipeline.Item) error {
		time.Sleep(500 * time.Millisecond)
		return nil
	})})
	var begun atomic.Int64
	add(t, p, pipeline.Step{ID: "big", Workers: 1, Batch: 1, Stage: costly{batchStage(func(ctx context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
		begun.Add(1)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300 * time.Millisecond):
			return b, nil
		}
	}), pipeline.Cost{Work: 300 << 20}}})
	run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true, Host: memory.Host{Root: root}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	early := begun.Load()
	available(900)
	s, err := run.Wait()
	if err != nil {
		t.Fatal(err)
	}
	wantAllOut(t, s, 3)
	if early > 0 {
		t.Errorf("%d calls were begun without memory for them", early)
	}
}

// A run is part of a program that may have more memory of its own than the limit.
// That left the run so little that everything waited a minute and was refused.
func TestMemoryOfTheProgramDoesNotStopTheRun(t *testing.T) {
	ballast := make([]byte, 300<<20)
	for i := 0; i < len(ballast); i += os.Getpagesize() {
		ballast[i] = 1
	}
	p := pipeline.New("part", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: tight}
	p.SetSource(inputs(20))
	add(t, p, pipeline.Step{ID: "slow", Workers: 1, Batch: 1, Stage: pipeline.Func(func(context.Context, *pipeline.Item) error {
		time.Sleep(50 * time.Millisecond)
		return nil
	})})
	add(t, p, pipeline.Step{ID: "big", Workers: 2, Batch: 1, Stage: costly{passBatch, pipeline.Cost{Work: 30 << 20}}})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 20)
	runtime.KeepAlive(ballast)
}

// slowFlush thinks before its second item for longer than anybody is refused
// after.
type slowFlush struct{ all }

func (*slowFlush) Flush(_ context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	n := 0
	for it, err := range held {
		if err != nil {
			return err
		}
		if n++; n == 2 {
			time.Sleep(9 * time.Second)
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// A barrier that was at work counted as standing still, and whoever had to wait
// for it was refused.
func TestWhoWaitsForAWorkingBarrierIsNotRefused(t *testing.T) {
	p := pipeline.New("slow", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: tight}
	var in listed
	for i := range 2 {
		in = append(in, pipeline.Input{Name: fmt.Sprint(i), Image: image.NewGray(image.Rect(0, 0, 4096, 3072))})
	}
	p.SetSource(in)
	add(t, p, pipeline.Step{ID: "barrier", Workers: 1, Batch: 1, Stage: &slowFlush{}})
	add(t, p, pipeline.Step{ID: "hungry", Stage: costly{passBatch, pipeline.Cost{Work: 16 << 20}}, Workers: 1, Batch: 1})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 2)
}

// doubling makes pictures of twice the size, and its results are cached.
type doubling struct{}

func (doubling) Process(ctx context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		it.SetImage(image.NewGray(image.Rectangle{Max: it.Size().Mul(2)}))
		return nil
	}).Process(ctx, b)
}

func (doubling) Cost(_ pipeline.Device, b []*pipeline.Item) (c pipeline.Cost) {
	for _, it := range b {
		c.Output += 4 * int64(it.Size().X) * int64(it.Size().Y)
	}
	return c
}

// A second run refused items whose outputs were there: promised pictures, which
// nobody was going to look at, waited for room that their own sources held.
func TestSecondRunInLittleRoom(t *testing.T) {
	const n = 8
	var pictures [n][]byte
	for i := range pictures {
		img, b := image.NewGray(image.Rect(0, 0, 2000, 2000)), bytes.Buffer{}
		copy(img.Pix, bytes.Repeat([]byte{byte(i)}, len(img.Pix)))
		if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		pictures[i] = b.Bytes()
	}
	for name, last := range map[string]string{"write": "{write: {path: %[1]s/out}}", "look": "{look: {}}"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i, b := range pictures {
				put(t, filepath.Join(dir, "in", fmt.Sprintf("%d.png", i)), b)
			}
			r := standard.Registry().With(pipeline.Info{
				Name: "double", Short: "Doubles.", Version: 1, Pure: true,
				New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return doubling{}, nil },
			}, pipeline.Info{
				Name: "look", Short: "Looks.", Version: 1,
				New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
					return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
						if _, err := it.Frame(ctx); err != nil {
							it.Fail(err)
						}
						return nil
					}), nil
				},
			})
			for run := range 2 {
				yaml := fmt.Appendf(nil, "memory: {host: {limit: 100MiB}}\nsource: {images: {path: %[1]s/in}}\nstages:\n  - {workers: 1, batch: 1, double: {}}\n  - "+last+"\n%.0[1]s", dir)
				p, err := pipeline.Load(t.Context(), "p.yaml", yaml, pipeline.Options{Registry: r})
				if err != nil {
					t.Fatal(err)
				}
				s := mustRun(t, p, pipeline.RunOptions{StateDir: filepath.Join(dir, "state")})
				if s.Out != n {
					t.Errorf("run %d: %d of %d came out: %+v", run, s.Out, n, s.Failed)
				}
			}
		})
	}
}

// An item that a stage wants to see later comes again when all others are through,
// and fails if it is too early even then. What the first call said of it is
// forgotten.
func TestLater(t *testing.T) {
	dir := t.TempDir()
	const n = 40
	for i := range n {
		put(t, filepath.Join(dir, "in", fmt.Sprintf("%02d.png", i)), pngBytes(t, 8, 8, speckle(i)))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var order []string
	embed := batchStage(func(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		mu.Lock()
		defer mu.Unlock()
		for _, it := range batch {
			seen[it.ID()]++
			order = append(order, it.ID())
			it.SetAttr("calls", pipeline.Int(int64(seen[it.ID()])))
			switch name := it.ID(); {
			case strings.HasPrefix(name, "03"), strings.HasPrefix(name, "1") && seen[name] == 1:
				it.Later(errors.New("no room"))
			default:
				out = append(out, it)
			}
		}
		return out, nil
	})
	var again []int64
	look := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		mu.Lock()
		defer mu.Unlock()
		if v, ok := it.Attr("calls"); ok && strings.HasPrefix(it.ID(), "1") {
			again = append(again, v.Int())
		}
		return nil
	})
	info := func(name string, s pipeline.Stage) pipeline.Info {
		return pipeline.Info{Name: name, Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return s, nil }}
	}
	yaml := fmt.Sprintf("source: {images: {path: %s/in}}\nstages:\n  - embed: {}\n  - look: {}\n  - write: {path: %[1]s/out}\n", dir)
	p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry().With(info("embed", embed), info("look", look))})
	if err != nil {
		t.Fatal(err)
	}
	s := mustRun(t, p, pipeline.RunOptions{})
	if s.Out != n-1 || s.Quarantined != 1 || s.Failed[0].ID != "03.png" || !strings.Contains(s.Failed[0].Cause, "no room") {
		t.Errorf("%d out, failed %+v", s.Out, s.Failed)
	}
	if len(again) != 10 || slices.Min(again) != 2 || slices.Max(again) != 2 {
		t.Errorf("the ten that were put aside arrived after so many calls each: %v", again)
	}
	if first := order[n:]; len(first) != 11 || !slices.IsSorted(first) {
		t.Errorf("after all others came %v", first)
	}
}
