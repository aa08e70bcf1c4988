package network_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/network"
)

// rows declares a stage whose parts are the rows of a picture; what is in row y of the
// item named n is n + y/100. fill and take may be nil, or break something.
type rows struct {
	file  string
	batch int
	fill  func(id string, y int) error
	take  func(id string, y int) error

	open, most atomic.Int64 // parts that were filled and not taken
}

func (r *rows) info() pipeline.Info {
	call := func(f func(string, int) error, id string, y int) error {
		if f == nil {
			return nil
		}
		return f(id, y)
	}
	return pipeline.Info{
		Name: "rows", Short: "Tests.", Waits: true,
		New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			f, err := model.Open(r.file, model.FileOptions{})
			if err != nil {
				return nil, err
			}
			return network.NewParts(e, f, network.Options{Part: image.Pt(20, 1), Batch: r.batch, Doing: "reading rows"}, func(_ context.Context, it *pipeline.Item) (network.Job, error) {
				if it.ID() == "unwanted" {
					return network.Job{}, errors.New("it cannot begin")
				}
				var seen []string
				id, size := it.ID(), it.Size()
				part := func(y int) network.Part {
					p := network.Part{Take: func(out []*model.Tensor) error {
						r.open.Add(-1)
						seen = append(seen, fmt.Sprintf("%.2f", out[0].Numbers()[0]))
						return call(r.take, id, y)
					}}
					p.Shape = []int64{3, 1, int64(size.X)}
					p.Fill = func(_ context.Context, dst []byte) error {
						n := r.open.Add(1)
						for old := r.most.Load(); n > old && !r.most.CompareAndSwap(old, n); old = r.most.Load() {
						}
						var level float32
						if _, err := fmt.Sscan(id, &level); err != nil {
							return err
						}
						for i := 0; i < len(dst); i += 4 {
							binary.NativeEndian.PutUint32(dst[i:], math.Float32bits(level+float32(y)/100))
						}
						return call(r.fill, id, y)
					}
					return p
				}
				return network.Job{
					Parts: func(yield func(network.Part) bool) {
						for y := range size.Y {
							if !yield(part(y)) {
								return
							}
						}
					},
					Done: func() error {
						it.SetAttr("rows", pipeline.String(strings.Join(seen, " ")))
						return nil
					},
				}, nil
			})
		},
	}
}

// run puts n items of ten rows through.
func (r *rows) run(t *testing.T, workers, batch, n int, more ...pipeline.Input) (*pipeline.Summary, map[string]stagetest.Seen) {
	t.Helper()
	r.file = saved(t, "means.onnx", testnet.Hog(12))
	src := stagetest.Source(more)
	for i := range n {
		src = append(src, stagetest.Picture(fmt.Sprint(i), flat(0)))
	}
	b := stagetest.New(t, src)
	if err := b.UseStep(t.Context(), pipeline.NewRegistry(r.info()), "rows", pipeline.Step{ID: "rows", Workers: workers, Batch: batch}, nil); err != nil {
		t.Fatal(err)
	}
	return b.Run(t, pipeline.RunOptions{})
}

// rowsOf is what an item has to have seen.
func rowsOf(n int) string {
	var s []string
	for y := range 10 {
		s = append(s, fmt.Sprintf("%.2f", float64(n)+float64(y)/100))
	}
	return strings.Join(s, " ")
}

// Whatever shares batches with what, an item gets what the network made of its own
// parts, in their order, and no more parts wait than the network can use.
func TestParts(t *testing.T) {
	for name, tt := range map[string]struct{ workers, items, batch int }{
		"one worker, item by item":     {1, 1, 4},
		"one worker, several items":    {1, 8, 4},
		"several workers":              {3, 4, 4},
		"batches larger than any item": {2, 8, 64},
		"one part after the other":     {2, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rows{batch: tt.batch}
			sum, seen := r.run(t, tt.workers, tt.items, 24)
			if len(seen) != 24 {
				t.Fatalf("%d items arrived: %v", len(seen), sum.Failed)
			}
			for id, it := range seen {
				var n int
				fmt.Sscan(id, &n)
				if got := it.Attributes["rows"].String(); got != rowsOf(n) {
					t.Errorf("item %s saw %s", id, got)
				}
			}
			// Each thread has a batch and one more is filled; beside that each call may have
			// one under way and one that it fills.
			if most, allowed := r.most.Load(), int64(tt.batch*(runtime.GOMAXPROCS(0)+1+2*tt.workers)); most > allowed {
				t.Errorf("%d parts were under way at once, more than %d", most, allowed)
			}
		})
	}
}

// What is wrong with one part fails its item, whichever goroutine meets it, and no other.
func TestPartsFailTheirItem(t *testing.T) {
	broken := errors.New("row 5 is broken")
	torn := tornFile(t)
	five := func(f func() error) func(string, int) error {
		return func(id string, y int) error {
			if id == "7" && y == 5 {
				return f()
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		r     *rows
		cause string
	}{
		"Fill":        {&rows{fill: five(func() error { return broken })}, "reading rows: row 5 is broken"},
		"Take":        {&rows{take: five(func() error { return broken })}, "reading rows: row 5 is broken"},
		"Fill panics": {&rows{fill: five(func() error { panic("row 5 panics") })}, "row 5 panics"},
		"Take panics": {&rows{take: five(func() error { panic("row 5 panics") })}, "row 5 panics"},
		// As where the disk fails under a picture that lies in a file.
		"Fill faults": {&rows{fill: five(func() error { return fmt.Errorf("%d is no fault", torn[5000]) })}, "panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.r.batch = 3
			sum, seen := tt.r.run(t, 2, 4, 12, stagetest.Picture("unwanted", flat(0)))
			if len(seen) != 11 || sum.Quarantined != 2 {
				t.Errorf("%d items arrived, %d failed: %v", len(seen), sum.Quarantined, sum.Failed)
			}
			for _, f := range sum.Failed {
				want := map[string]string{"7": tt.cause, "unwanted": "reading rows: it cannot begin"}[f.ID]
				if want == "" || !strings.Contains(f.Cause, want) {
					t.Errorf("%s failed: %s", f.ID, f.Cause)
				}
			}
		})
	}
}

// tornFile is a file in memory whose disk has lost what is after its first page.
func tornFile(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	root, err := fsys.OS.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	if err := root.Allocate("torn", 8192); err != nil {
		t.Fatal(err)
	}
	m, err := root.Map("torn", 8192)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	if err := os.Truncate(filepath.Join(dir, "torn"), 0); err != nil {
		t.Fatal(err)
	}
	return m.Bytes()
}

// A run that is cancelled while parts are under way ends, and leaves nothing behind.
func TestPartsAreCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var once sync.Once
	r := &rows{batch: 2, take: func(string, int) error { once.Do(func() { cancel(enough) }); return nil }}
	r.file = saved(t, "means.onnx", testnet.Hog(12))
	p := pipeline.New("cancelled", pipeline.Options{})
	var src stagetest.Source
	for i := range 12 {
		src = append(src, stagetest.Picture(fmt.Sprint(i), flat(0)))
	}
	p.SetSource(src)
	if err := p.Use(ctx, pipeline.NewRegistry(r.info()), "rows", "rows", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(ctx, pipeline.RunOptions{NoStore: true}); !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Errorf("the run ended with %v", err)
	}
}
