package embed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/standard"
)

const (
	mib     = 1 << 20
	hogItem = 16 * mib // of a picture in the network that deviceRun runs
	total   = 160 * mib
	// small is what neighbours have when there is room for half a picture beside what
	// stays free.
	small = total - total/16 - hogItem/2
)

// deviceRun embeds pictures on a device with a network that takes hogItem bytes for
// each.
type deviceRun struct {
	device   string
	options  string          // of embed, beside the network and the size
	none     bool            // there is no simulated card
	others   sim.Trace       // on it
	when     func(n int) int // seconds on the card's clock after so many pictures; nil: none pass
	events   func(e pipeline.Event, clock *atomic.Int64)
	pictures int
	memory   *memory.Manager // nil: the run's own

	vectors map[string]pipeline.Vector
	kinds   map[pipeline.EventKind][]string // messages
	log     bytes.Buffer
	sum     *pipeline.Summary
}

// noisePictures makes a folder with so many pictures, no two of which are equal.
func noisePictures(t *testing.T, n, w, h int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := range n {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%04d.png", i)))
		if err != nil {
			t.Fatal(err)
		}
		img := image.NewGray(image.Rect(0, 0, w, h))
		stagetest.Noise(img)
		img.Pix[0], img.Pix[1] = uint8(i), uint8(i>>8)
		if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (d *deviceRun) run(t *testing.T) error {
	t.Helper()
	dir := noisePictures(t, d.pictures, 24, 24)
	var clock atomic.Int64 // seconds
	began := time.Now()
	card, err := sim.New(sim.Config{Name: "sim:0", Total: total, Others: d.others, Clock: func() time.Time {
		return began.Add(time.Duration(clock.Load()) * time.Second)
	}})
	if err != nil {
		t.Fatal(err)
	}
	o := pipeline.Options{Devices: []memory.Device{card}, Logger: slog.New(slog.NewTextHandler(&d.log, nil))}
	if d.none {
		o.Devices = nil
	}
	var mu sync.Mutex
	d.vectors, d.kinds = map[string]pipeline.Vector{}, map[pipeline.EventKind][]string{}
	see := pipeline.Info{Name: "see", Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			mu.Lock()
			defer mu.Unlock()
			if _, twice := d.vectors[it.ID()]; twice {
				return fmt.Errorf("%s came twice", it.ID())
			}
			d.vectors[it.ID()] = it.Vectors()[0]
			if d.when != nil {
				clock.Store(max(clock.Load(), int64(d.when(len(d.vectors)))))
			}
			return nil
		}), nil
	}}
	o.Registry = standard.Registry().With(see)
	yaml := fmt.Sprintf("source: {images: {path: %s}}\nstages:\n  - embed: {model: %s, width: 24, height: 24%s}\n    device: %s\n  - see: {}\n",
		dir, saved(t, "hog.onnx", testnet.Hog(hogItem)), d.options, d.device)
	p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), o)
	if err != nil {
		return err
	}
	d.sum, err = p.Run(t.Context(), pipeline.RunOptions{NoStore: true, Memory: d.memory, OnEvent: func(e pipeline.Event) {
		mu.Lock()
		defer mu.Unlock()
		d.kinds[e.Kind] = append(d.kinds[e.Kind], e.Item+": "+e.Message)
		if d.events != nil {
			d.events(e, &clock)
		}
	}})
	return err
}

// same demands that all pictures have the vectors that they have on the host.
func (d *deviceRun) same(t *testing.T) {
	t.Helper()
	host := deviceRun{device: "host", pictures: d.pictures}
	if err := host.run(t); err != nil {
		t.Fatal(err)
	}
	if len(d.vectors) != d.pictures || d.sum.Out != int64(d.pictures) {
		t.Errorf("%d vectors of %d pictures, %d out", len(d.vectors), d.pictures, d.sum.Out)
	}
	for id, v := range d.vectors {
		for i, x := range v.Data {
			if math.Abs(float64(x-host.vectors[id].Data[i])) > 1e-5 {
				t.Fatalf("%s: component %d is %v, and %v without a limit", id, i, x, host.vectors[id].Data[i])
			}
		}
	}
}

// A card has room for eight at a time, which are asked for; then neighbours take most
// of it, and one picture at a time is what is left; then they go.
func TestTheCardBecomesSmallerWhileItRuns(t *testing.T) {
	d := deviceRun{
		device: "gpu", pictures: 150, options: ", infer_batch: 8",
		others: sim.Trace{Points: []sim.Point{{}, {At: 10 * time.Second, Bytes: total - 2*hogItem}, {At: 20 * time.Second}}},
		when: func(n int) int {
			switch {
			case n < 50:
				return 0
			case n < 100:
				return 10
			}
			return 20
		},
	}
	if err := d.run(t); err != nil {
		t.Fatal(err)
	}
	d.same(t)
	if n := len(d.kinds[pipeline.EventLimit]); n < 1 {
		t.Error("nobody noticed that the card became smaller")
	}
	if !strings.Contains(d.log.String(), "the batch is split") {
		t.Errorf("no batch was too large: %s", d.log.String())
	}
}

// Where not even one picture has room, the CPU takes over if it may.
func TestTheCPUTakesWhatHasNoRoom(t *testing.T) {
	d := deviceRun{device: "auto", pictures: 12, others: sim.Constant(small)}
	if err := d.run(t); err != nil {
		t.Fatal(err)
	}
	d.same(t)
	if !strings.Contains(d.log.String(), "on the CPU") {
		t.Errorf("nobody says that it runs on the CPU: %s", d.log.String())
	}
}

// If it may not, pictures wait until all others are through, and are done then if
// there is room by then.
func TestPicturesWithoutRoomComeAgain(t *testing.T) {
	d := deviceRun{
		device: "gpu", pictures: 20,
		others: sim.Trace{Points: []sim.Point{{Bytes: small}, {At: 10 * time.Second}}},
	}
	d.events = func(_ pipeline.Event, clock *atomic.Int64) {
		if len(d.kinds[pipeline.EventPostponed]) == d.pictures {
			clock.Store(10)
		}
	}
	if err := d.run(t); err != nil {
		t.Fatal(err)
	}
	d.same(t)
	if n := len(d.kinds[pipeline.EventPostponed]); n != d.pictures {
		t.Errorf("%d pictures were put aside, want %d", n, d.pictures)
	}
}

// Otherwise they fail, each once, with what they need and what there is.
func TestPicturesWithoutRoomAreQuarantined(t *testing.T) {
	d := deviceRun{device: "sim:0", pictures: 5, others: sim.Constant(small)}
	if err := d.run(t); err != nil {
		t.Fatal(err)
	}
	if d.sum.Quarantined != 5 || d.sum.Out != 0 {
		t.Fatalf("%d are quarantined, and %d came out", d.sum.Quarantined, d.sum.Out)
	}
	for _, f := range d.sum.Failed {
		for _, want := range []string{"no room for one item", "it needs", "are left", "device: auto"} {
			if !strings.Contains(f.Cause, want) {
				t.Errorf("the cause does not say %q: %s", want, f.Cause)
			}
		}
	}
}

func TestDevicesThatAreNotThere(t *testing.T) {
	for _, tt := range []struct {
		device string
		none   bool
		want   string
	}{
		{"gpu", true, "FORGEPIPE_ORT_LIB"},
		{"gpu:0", true, "CUDAExecutionProvider"},
		{"sim:0", true, "--simulate"},
		{"sim:1", false, "there are sim:0"},
		{"gpu:1", false, "there are sim:0"},
	} {
		d := deviceRun{device: tt.device, none: tt.none, pictures: 1}
		err := d.run(t)
		var spec *pipeline.SpecError
		if !errors.As(err, &spec) || len(spec.Problems) != 1 || !spec.Problems[0].Lacking || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.device, err)
		}
	}
	m := memory.NewManager(memory.Options{})
	defer func() { _ = m.Close() }()
	blind := deviceRun{device: "gpu", pictures: 1, memory: m}
	if err := blind.run(t); err == nil || !strings.Contains(err.Error(), "RunOptions.Memory does not watch sim:0") {
		t.Errorf("a manager that does not know the card: %v", err)
	}
	d := deviceRun{device: "auto", none: true, pictures: 1}
	if err := d.run(t); err != nil {
		t.Fatal(err)
	}
	if n := d.sum.Stages[0].Note; !strings.Contains(n, "CPU") {
		t.Errorf("auto without a GPU says %q", n)
	}
}
