package network_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/network"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// saved writes a network to a file of that name.
func saved(t *testing.T, name string, g *onnx.Graph) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// info declares a stage of the network in that file.
func info(path string, spec model.Spec, o network.Options, take func(f *model.File) network.Take) pipeline.Info {
	return pipeline.Info{
		Name: "net", Short: "Tests.", Waits: true,
		New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			f, err := model.Open(path, model.FileOptions{Spec: spec})
			if err != nil {
				return nil, err
			}
			return network.New(e, f, o, take(f))
		},
	}
}

// upscaler declares a stage that enlarges pictures.
func upscaler(path string, scale int) pipeline.Info {
	return info(path, model.Spec{}, network.Options{Scale: scale}, func(f *model.File) network.Take {
		return func(it *pipeline.Item, out *model.Tensor) error {
			img, err := f.Spec.Picture(out, it.Size().Mul(scale))
			if err == nil {
				it.SetImage(img)
			}
			return err
		}
	})
}

// flat is a picture of one colour.
func flat(level uint8) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := range img.Pix {
		img.Pix[i] = level
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	return img
}

// What Take says of an item is what becomes of it.
func TestTakeDecides(t *testing.T) {
	src := stagetest.Source{
		stagetest.Picture("bright", flat(204)), stagetest.Picture("middle", flat(102)), stagetest.Picture("dark", flat(51)),
		{Name: "torn", Content: []byte("torn"), Path: filepath.Join(t.TempDir(), "torn.png")},
	}
	if err := os.WriteFile(src[3].Path, []byte("\x89PNG\r\n\x1a\nnothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	means := saved(t, "means.onnx", testnet.Hog(12)) // the mean of each channel
	sum, seen := stagetest.New(t, src, stagetest.Step{Info: info(means, model.Spec{}, network.Options{Doing: "looking"}, func(*model.File) network.Take {
		return func(it *pipeline.Item, out *model.Tensor) error {
			switch red := float64(out.Float32s()[0]); {
			case red < 0.3:
				it.Reject("too dark", pipeline.Attribute{Name: "red", Value: pipeline.Float(red)})
			case red < 0.6:
				return errors.New("it is neither")
			default:
				it.SetAttr("red", pipeline.Float(red))
			}
			return nil
		}
	})}).Run(t, pipeline.RunOptions{})
	if v := seen["bright"].Attributes["red"].Float(); len(seen) != 1 || math.Abs(v-0.8) > 1e-4 {
		t.Errorf("what arrived is %+v", seen)
	}
	if n := sum.Rejected["net0"]["too dark"]; n != 1 || sum.RejectedTotal() != 1 {
		t.Errorf("rejected are %v", sum.Rejected)
	}
	causes := fmt.Sprint(sum.Failed)
	if sum.Quarantined != 2 || !strings.Contains(causes, "looking: it is neither") {
		t.Errorf("failed are %v", causes)
	}
}

// Of a batch, each item gets what the network made of it.
func TestEachItemGetsItsOwn(t *testing.T) {
	var src stagetest.Source
	for i := range 64 {
		src = append(src, stagetest.Picture(fmt.Sprint(4*i), flat(uint8(4*i))))
	}
	means := info(saved(t, "means.onnx", testnet.Hog(12)), model.Spec{Width: 8, Height: 8}, network.Options{}, func(*model.File) network.Take {
		return func(it *pipeline.Item, out *model.Tensor) error {
			it.SetAttr("level", pipeline.Int(int64(255*out.Numbers()[0]+0.5)))
			return nil
		}
	})
	b := stagetest.New(t, src)
	if err := b.UseStep(t.Context(), pipeline.NewRegistry(means), "net", pipeline.Step{ID: "net", Workers: 1, Batch: 16}, nil); err != nil {
		t.Fatal(err)
	}
	sum, seen := b.Run(t, pipeline.RunOptions{})
	if calls := sum.Stages[0].Calls; len(seen) != 64 || calls == 64 {
		t.Errorf("%d items arrived of %d calls", len(seen), calls)
	}
	for id, it := range seen {
		if got := it.Attributes["level"].String(); got != id {
			t.Errorf("%s has the level %s", id, got)
		}
	}
}

// A network that cannot be loaded ends the run: it is the same for all. One that cannot
// be run with these pictures fails them.
func TestNetworkThatDoesNotWork(t *testing.T) {
	nothing := func(*model.File) network.Take {
		return func(*pipeline.Item, *model.Tensor) error { return nil }
	}
	src := stagetest.Source{stagetest.Picture("a", flat(1)), stagetest.Picture("b", flat(2))}
	odd := stagetest.Step{Info: info(saved(t, "odd.onnx", testnet.UnknownOp()), model.Spec{}, network.Options{}, nothing)}
	if _, err := stagetest.New(t, src, odd).Try(t, pipeline.RunOptions{}); err == nil || !strings.Contains(err.Error(), "odd.onnx") {
		t.Errorf("the run ended with %v", err)
	}
	eight := stagetest.Step{Info: info(saved(t, "eight.onnx", testnet.MultipleOf8()), model.Spec{}, network.Options{}, nothing)}
	sum, _ := stagetest.New(t, src, eight).Run(t, pipeline.RunOptions{})
	if sum.Quarantined != 2 || !strings.Contains(sum.Failed[0].Cause, "running eight.onnx: ") {
		t.Errorf("failed are %+v", sum.Failed)
	}
}

// Pictures that a network makes are about the pictures enlarged, on the host and on a
// card, with a border that the network wants and without.
func TestNetworkThatMakesPictures(t *testing.T) {
	const scale = 4
	enlarge := upscaler(saved(t, "x4.onnx", testnet.Compact(scale, 8, 1)), scale)
	in := map[string]image.Point{"a": {40, 30}, "b": {33, 21}, "c": {40, 30}}
	for _, device := range []pipeline.Device{pipeline.Host, pipeline.GPU} {
		t.Run(string(device), func(t *testing.T) {
			card, err := sim.New(sim.Config{Name: "sim:0", Total: 512 << 20})
			if err != nil {
				t.Fatal(err)
			}
			p := pipeline.New("test", pipeline.Options{Devices: []memory.Device{card}})
			var src stagetest.Source
			for name, size := range in {
				src = append(src, stagetest.Picture(name, stagetest.Noise(image.NewGray(image.Rectangle{Max: size}))))
			}
			p.SetSource(src)
			if err := p.UseStep(t.Context(), pipeline.NewRegistry(enlarge), "net", pipeline.Step{ID: "net", Device: device}, nil); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			seen := 0
			if err := p.Add(pipeline.Step{ID: "see", Stage: pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				f, err := it.Frame(ctx)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				seen++
				if want := in[it.ID()].Mul(scale); it.Size() != want {
					t.Errorf("%s has the size %v, want %v", it.ID(), it.Size(), want)
				}
				before := stagetest.Noise(image.NewGray(image.Rectangle{Max: in[it.ID()]}))
				var off float64
				b := f.Image.Bounds()
				for y := range b.Dy() {
					for x := range b.Dx() {
						got := color.GrayModel.Convert(f.Image.At(b.Min.X+x, b.Min.Y+y)).(color.Gray)
						off += math.Abs(float64(got.Y) - float64(color.GrayModel.Convert(before.At(x/scale, y/scale)).(color.Gray).Y))
					}
				}
				if off /= float64(b.Dx() * b.Dy()); off > 12 {
					t.Errorf("%s is %.1f levels off the picture enlarged, in the mean", it.ID(), off)
				}
				return nil
			})}); err != nil {
				t.Fatal(err)
			}
			sum, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
			if err != nil || seen != len(in) {
				t.Fatalf("%d pictures arrived, failed are %+v: %v", seen, sum.Failed, err)
			}
			if ran := sum.Governed[0].Device; (ran == "sim:0") != (device == pipeline.GPU) {
				t.Errorf("it ran on %s", ran)
			}
		})
	}
}

// What comes out is part of the stage's cost, whatever it is and whatever Take makes of
// it: in the runtime's arena, as a tensor, and as numbers.
func TestCostOfWhatComesOut(t *testing.T) {
	const channels = 120
	g := onnx.NewGraph("wide")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	g.Output("map", g.Conv(x, g.Float32s("w", make([]float32, channels*3), channels, 3, 1, 1), nil, onnx.ConvOptions{}))
	g.Output("mean", g.ReduceMean(x, false, 2, 3))
	wide := saved(t, "wide.onnx", g)
	x4 := saved(t, "x4.onnx", testnet.Compact(4, 8, 1))
	unknown := onnx.NewGraph("unknown")
	x = unknown.Input("input", onnx.Float32, unknown.Dim("batch"), 3, unknown.Dim("height"), unknown.Dim("width"))
	unknown.Output("map", unknown.Node(onnx.Node{Op: "Frobnicate", In: []*onnx.Value{x}, Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{unknown.Dim("batch"), 50, unknown.Dim("rows"), unknown.Dim("columns")}}}})[0])
	odd := saved(t, "odd.onnx", unknown)
	const pixels, in = 100 * 50, 3 * 4 * 100 * 50
	for name, tt := range map[string]struct {
		path   string
		output string
		spec   model.Spec
		scale  int
		out    int64 // bytes for a picture
		others int64 // of other tensors that a run has at once, at most
		sized  bool
	}{
		"a wide map":                 {path: wide, output: "map", out: channels * 4 * pixels},
		"a number of the same":       {path: wide, output: "mean", others: 128 * 4 * pixels},
		"a wide map of one size":     {path: wide, output: "map", spec: model.Spec{Width: 40, Height: 30}, out: channels * 4 * 40 * 30, sized: true},
		"a larger picture":           {path: x4, output: "output", out: 16 * in, others: 48 * 4 * pixels},
		"one that Take makes":        {path: x4, output: "output", scale: 4, out: 16 * in, others: 48 * 4 * pixels},
		"a map that is not followed": {path: odd, output: "map", out: 50 * 4 * pixels},
	} {
		t.Run(name, func(t *testing.T) {
			step := stagetest.Step{Info: pipeline.Info{
				Name: "net", Short: "Tests.",
				New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
					f, err := model.Open(tt.path, model.FileOptions{Spec: tt.spec, Outputs: []string{tt.output}})
					if err != nil {
						return nil, err
					}
					return network.New(e, f, network.Options{Scale: tt.scale, Threads: 1}, nil)
				},
			}}
			got, planned := stagetest.Cost(t, step, stagetest.Picture("p", image.NewGray(image.Rect(0, 0, 100, 50))))
			least := 3 * tt.out // a run, a tensor, a copy
			if tt.sized {
				least = 2 * tt.out
				if got.Resident < 8*tt.out {
					t.Errorf("%d bytes stay, and a batch gives %d", got.Resident, 8*tt.out)
				}
			}
			most := least + 2*(tt.out+tt.others) + 20*in + 1<<20
			if got.Work < least || got.Work > most {
				t.Errorf("a call works with %d bytes, and %d come out", got.Work, tt.out)
			}
			if want := int64(tt.scale*tt.scale) * 4 * pixels; got.Output != want {
				t.Errorf("it returns %d bytes of pixels, want %d", got.Output, want)
			}
			host, err := memory.Host{}.Memory()
			if err != nil {
				t.Fatal(err)
			}
			if planned.Work > host.Total/4 { // small pictures may have room
				t.Errorf("the plan wants %d bytes", planned.Work)
			}
		})
	}
}

func newStage(t *testing.T, path string, spec model.Spec, o network.Options) *network.Stage {
	t.Helper()
	f, err := model.Open(path, model.FileOptions{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	s, err := network.New(pipeline.Env{}, f, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
