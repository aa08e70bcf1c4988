package embed_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// Two networks, of which the second enlarges pictures four times, run in phases on a card
// that holds only one of them, with nothing of the first left on it when the second
// comes; on a card that holds both, items stream through both. Vectors and pictures are
// the same.
func TestTwoNetworksOnOneCard(t *testing.T) {
	in := noisePictures(t, 6, 40, 30)
	net := saved(t, "net.onnx", testnet.ResNet18(100))
	enlarge := upscalerInfo(saved(t, "x4.onnx", testnet.Compact(4, 64, 2)), 4)
	run := func(size int64) (made map[string][]float32, phases int, left []int64) {
		card, err := sim.New(sim.Config{Name: "sim:0", Total: size})
		if err != nil {
			t.Fatal(err)
		}
		m := memory.NewManager(memory.Options{Devices: []memory.Device{card}})
		defer func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}()
		var mu sync.Mutex
		made = map[string][]float32{}
		see := pipeline.Info{Name: "see", Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				f, err := it.Frame(ctx)
				if err != nil {
					return err
				}
				defer it.Done()
				mu.Lock()
				defer mu.Unlock()
				for _, v := range it.Vectors() {
					made[it.ID()+" "+v.Name] = v.Data
				}
				made[fmt.Sprint(it.ID(), " ", it.Size())] = levels(f.Image)
				return nil
			}), nil
		}}
		o := pipeline.Options{Registry: standard.Registry().With(enlarge, see), Devices: []memory.Device{card}}
		yaml := fmt.Sprintf("source: {images: {path: %s}}\nstages:\n  - {embed: {model: %s}, device: gpu}\n  - see: {}\n  - {enlarge: {}, device: gpu}\n  - see: {}\n", in, net)
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), o)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(pipeline.RunOptions{NoStore: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true, Memory: m, OnEvent: func(e pipeline.Event) {
			if e.Kind != pipeline.EventPhase {
				return
			}
			for _, d := range m.State() {
				if d.Device == "sim:0" {
					left = append(left, d.Usage.Residency+d.Usage.Work)
				}
			}
		}}); err != nil {
			t.Fatal(err)
		}
		return made, len(plan.Phases), left
	}
	apart, phases, left := run(350 * mib)
	if phases != 2 || fmt.Sprint(left) != "[0 0]" {
		t.Errorf("%d phases, and when they began %v bytes were leased", phases, left)
	}
	together, phases, _ := run(2048 * mib)
	if phases != 1 {
		t.Errorf("%d phases on a card that holds both", phases)
	}
	if len(apart) != 18 || len(together) != 18 {
		t.Fatalf("%d and %d vectors and pictures, want 18", len(apart), len(together))
	}
	// What the network makes is about the picture with each pixel four times as large.
	for id, large := range apart {
		name, isLarge := strings.CutSuffix(id, " (160,120)")
		if !isLarge {
			continue
		}
		small := apart[name+" (40,30)"]
		if len(small) != 40*30*3 || len(large) != 160*120*3 {
			t.Fatalf("%s: %d numbers of a picture with %d", id, len(large), len(small))
		}
		var off float64
		for i, x := range large {
			off += math.Abs(float64(x - small[3*(i/3/160/4*40+i/3%160/4)+i%3]))
		}
		if off /= float64(len(large)); off > 8 {
			t.Errorf("%s is %.1f levels off the picture enlarged, in the mean", name, off)
		}
	}
	for id, v := range apart {
		tolerance := 1e-5
		switch len(v) {
		case 160 * 120 * 3:
			tolerance = 1 // what is nearly between two levels
		case 40 * 30 * 3:
			tolerance = 0
		case 100:
		default:
			t.Fatalf("%s has %d numbers: neither a vector nor a picture", id, len(v))
		}
		if len(together[id]) != len(v) {
			t.Fatalf("%s: %d numbers in phases and %d at once", id, len(v), len(together[id]))
		}
		for i, x := range v {
			if math.Abs(float64(x-together[id][i])) > tolerance {
				t.Fatalf("%s: number %d is %v in phases and %v at once", id, i, x, together[id][i])
			}
		}
	}
}

// levels are the red, green and blue of all pixels.
func levels(img image.Image) (all []float32) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			all = append(all, float32(c.R), float32(c.G), float32(c.B))
		}
	}
	return all
}

// A card that can never hold the network is left out beside one that can, and refused
// alone or by name.
func TestSmallCardBesideALargeOne(t *testing.T) {
	net := saved(t, "net.onnx", testnet.ResNet18(100))
	plan := func(device string, sizes ...int64) (*pipeline.Plan, error) {
		o := pipeline.Options{Registry: standard.Registry()}
		for i, n := range sizes {
			card, err := sim.New(sim.Config{Name: fmt.Sprintf("sim:%d", i), Total: n})
			if err != nil {
				t.Fatal(err)
			}
			o.Devices = append(o.Devices, card)
		}
		yaml := fmt.Sprintf("source: {images: {path: %s}}\nstages:\n  - {embed: {model: %s}, device: %s}\n", t.TempDir(), net, device)
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), o)
		if err != nil {
			t.Fatal(err)
		}
		return p.Plan(pipeline.RunOptions{NoStore: true})
	}
	p, err := plan("gpu", 40*mib, 4096*mib, 20*mib)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Phases[0][0].Devices); got != "[sim:1]" {
		t.Errorf("it is placed on %s, want [sim:1]", got)
	}
	var oversize *memory.OversizeError
	for _, refused := range []func() (*pipeline.Plan, error){
		func() (*pipeline.Plan, error) { return plan("gpu", 40*mib, 20*mib) },
		func() (*pipeline.Plan, error) { return plan("gpu:1", 4096*mib, 20*mib) },
	} {
		if _, err := refused(); !errors.As(err, &oversize) {
			t.Errorf("%v, want that it is too large", err)
		}
	}
}
