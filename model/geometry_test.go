package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// chain is convolutions, one after the other, of these strides. What is made of a pixel
// is larger the larger it is, so that no influence is lost.
func chain(dilation int, strides ...int) *onnx.Graph {
	g := onnx.NewGraph("chain")
	y := g.Input("input", onnx.Float32, g.Dim("n"), 3, g.Dim("h"), g.Dim("w"))
	for i, s := range strides {
		in := 3
		if i > 0 {
			in = 1
		}
		w := make([]float32, in*9)
		for i := range w {
			w[i] = 0.2
		}
		y = g.Conv(y, g.Float32s("", w, 1, in, 3, 3), nil, onnx.ConvOptions{Pad: dilation, Dilation: dilation, Stride: s})
	}
	g.Output("output", y)
	return g
}

// loaded is a network that runs, and its geometry.
func loaded(t *testing.T, path string) (model.Session, onnx.Geometry) {
	t.Helper()
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	geometry, err := f.Geometry("output")
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, geometry
}

// noise is a picture of that size.
func noise(height, width int64) *ort.Tensor {
	x := ort.NewTensor(ort.Float32, 1, 3, height, width)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range x.Float32s() {
		x.Float32s()[i] = r.Float32()
	}
	return x
}

func ran(t *testing.T, s model.Session, x *ort.Tensor) *ort.Tensor {
	t.Helper()
	out, err := s.Run(t.Context(), []*ort.Tensor{x}, ort.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// The geometry of a network is what a real runtime does: the scale is that of the
// output's size, and a pixel has an influence on those within reach alone.
func TestGeometryIsWhatHappens(t *testing.T) {
	type network struct {
		path  string
		exact bool // the farthest pixels can be told to be influenced
	}
	exported := func(name string) string { return "onnx/testdata/" + name + ".onnx" }
	for name, tt := range map[string]network{
		"exported shuffle":         {exported("shuffle.legacy"), true},
		"exported rrdb unshuffled": {exported("rrdb_unshuffled.dynamo"), false},
		"exported unet":            {exported("unet.dynamo"), true},
		"exported views":           {exported("viewed.legacy"), true},
		"exported attention":       {exported("attention.legacy"), true},
		"one convolution":          {saved(t, chain(1, 1)), true},
		"three convolutions":       {saved(t, chain(1, 1, 1, 1)), true},
		"dilated convolutions":     {saved(t, chain(3, 1, 1)), true},
		"a strided convolution":    {saved(t, chain(1, 2)), true},
		"two strided convolutions": {saved(t, chain(1, 2, 2)), true},
		"compact":                  {saved(t, testnet.Compact(2, 8, 1)), true},
		"compact 4":                {saved(t, testnet.Compact(4, 8, 2)), true},
		"rrdb":                     {saved(t, testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1})), false},
		"rrdb unshuffled":          {saved(t, testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1, Unshuffle: 2})), false},
		"span":                     {saved(t, testnet.Span(3)), true},
		"unet":                     {saved(t, testnet.UNet()), true},
		"interpolated":             {saved(t, testnet.Interpolated()), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			happens(t, tt.path, tt.exact)
		})
	}
}

// happens runs a network to see whether its geometry is right.
func happens(t *testing.T, path string, exact bool) {
	t.Helper()
	s, g := loaded(t, path)
	if g.Unbounded != "" {
		t.Fatalf("%+v", g)
	}
	m := int64(g.Grid)
	if m%int64(g.Multiple) != 0 {
		t.Fatalf("%+v", g)
	}
	height, width := (2*int64(g.Reach)/m+5)*m, (2*int64(g.Reach)/m+6)*m
	before := ran(t, s, noise(height, width))
	if h, w := before.Shape[2], before.Shape[3]; h*int64(g.Down) != height*int64(g.Up) || w*int64(g.Down) != width*int64(g.Up) {
		t.Fatalf("%v of %d x %d with %+v", before.Shape, height, width, g)
	}
	// All places within a block of pixels that belong together are tried.
	far := 0
	for shift := range m {
		py, px := height/2+shift, width/2+shift
		changed := noise(height, width)
		for c := range int64(3) {
			changed.Float32s()[(c*height+py)*width+px] += 50
		}
		far = max(far, farthest(before, ran(t, s, changed), int(py), int(px), g))
	}
	if far > g.Reach || exact && far != g.Reach {
		t.Errorf("the farthest pixel is %d away: %+v", far, g)
	}
}

// Each operator that moves pixels, alone between two convolutions.
func TestGeometryOfOperatorsIsWhatHappens(t *testing.T) {
	type node = onnx.Node
	type values = []*onnx.Value
	resize := func(mode, where, nearest string, by float32) func(*onnx.Graph, *onnx.Value) *onnx.Value {
		return func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.Resize(x, onnx.ResizeOptions{Mode: mode, Coordinates: where, Nearest: nearest, Scales: []float32{1, 1, by, by}})
		}
	}
	of := func(op string, attrs ...onnx.Attr) func(*onnx.Graph, *onnx.Value) *onnx.Value {
		return func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.Node(node{Op: op, In: values{x}, Attrs: attrs, Out: []onnx.Out{{Type: onnx.Float32}}})[0]
		}
	}
	ints := onnx.Ints
	for name, tt := range map[string]struct {
		build func(g *onnx.Graph, x *onnx.Value) *onnx.Value
		exact bool
	}{
		"nearest 2, floor":         {resize("nearest", "asymmetric", "floor", 2), true},
		"nearest 3, half pixels":   {resize("nearest", "half_pixel", "round_prefer_floor", 3), true},
		"nearest 2, ceil":          {resize("nearest", "half_pixel", "ceil", 2), true},
		"nearest 3, asymmetric":    {resize("nearest", "asymmetric", "round_prefer_floor", 3), false},
		"nearest a half":           {resize("nearest", "asymmetric", "floor", 0.5), false},
		"linear 2":                 {resize("linear", "half_pixel", "", 2), true},
		"linear 3, torch":          {resize("linear", "pytorch_half_pixel", "", 3), true},
		"linear 2, asymmetric":     {resize("linear", "asymmetric", "", 2), true},
		"linear 2, aligned":        {resize("linear", "align_corners", "", 2), false},
		"linear a half":            {resize("linear", "half_pixel", "", 0.5), false},
		"cubic 2":                  {resize("cubic", "half_pixel", "", 2), true},
		"cubic 4":                  {resize("cubic", "half_pixel", "", 4), true},
		"mean of 2":                {of("AveragePool", ints("kernel_shape", 2, 2), ints("strides", 2, 2)), true},
		"mean of 3":                {of("AveragePool", ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1)), true},
		"largest of 3, rounded up": {of("MaxPool", ints("kernel_shape", 3, 3), ints("strides", 2, 2), onnx.Int("ceil_mode", 1)), false},
		"same padding":             {of("MaxPool", ints("kernel_shape", 4, 4), onnx.Text("auto_pad", "SAME_UPPER")), true},
		"turned twice": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.Transpose(g.Transpose(x, 0, 2, 3, 1), 0, 3, 1, 2)
		}, true},
		"mirrored and cut": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			y := g.Pad(x, onnx.PadOptions{Mode: "reflect", Before: []int{0, 0, 3, 3}, After: []int{0, 0, 1, 1}})
			return g.Slice(g.Slice(y, 2, 3, -1), 3, 3, -1)
		}, true},
		"every other pixel, joined": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			part := func(row, column int) *onnx.Value {
				return g.Node(node{Op: "Slice", In: values{x, g.List(row, column), g.List(1<<40, 1<<40), g.List(2, 3), g.List(2, 2)}, Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{g.Dim("n"), 3, onnx.Dynamic, onnx.Dynamic}}}})[0]
			}
			return g.DepthToSpace(g.Concat(1, part(0, 0), part(0, 1), part(1, 0), part(1, 1)), 2)
		}, true},
		"unshuffled twice": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.DepthToSpace(g.PixelUnshuffle(x, 4), 4)
		}, false}, // it is not followed which pixel of a block is which
		"shuffled in reshapes": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			shape := g.Shape(x)
			size := func(axis int) *onnx.Value { return g.Slice(shape, 0, axis, axis+1) }
			y := g.ReshapeTo(g.Concat(1, x, x, x, x), g.Concat(0, size(0), g.List(3, 2, 2), size(2), size(3)))
			y = g.Transpose(y, 0, 1, 4, 2, 5, 3)
			return g.ReshapeTo(y, g.Concat(0, size(0), g.List(3), g.Mul(size(2), g.List(2)), g.Mul(size(3), g.List(2))))
		}, true},
		"channels normalised": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.Softmax(x, 1)
		}, true},
		"matrices over channels": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			y := g.Reshape(g.Transpose(x, 0, 2, 3, 1), 0, 0, 0, 3)
			return g.Transpose(g.MatMul(y, g.Float32s("", []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}, 3, 3)), 0, 3, 1, 2)
		}, true},
		"the largest of channels": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.Node(node{Op: "TopK", In: values{x, g.List(3)}, Attrs: []onnx.Attr{onnx.Int("axis", 1)}, Out: []onnx.Out{{Type: onnx.Float32, Dims: x.Dims()}, {Type: onnx.Int64}}})[0]
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Moved by some pixels, one side reaches farther than the other.
			for _, shift := range []int{0, -3, 2, 3} {
				g := onnx.NewGraph("operator")
				x := g.Input("input", onnx.Float32, g.Dim("n"), 3, g.Dim("h"), g.Dim("w"))
				positive := func(n, side int) *onnx.Value {
					w := make([]float32, n*n*side*side)
					for i := range w {
						w[i] = 0.1 + 0.01*float32(i%7)
					}
					return g.Float32s("", w, n, n, side, side)
				}
				y := tt.build(g, g.Conv(x, positive(3, 3), nil, onnx.ConvOptions{Pad: 1}))
				if y.Dims() == nil {
					y = g.Node(node{Op: "Identity", In: values{y}, Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{g.Dim("n"), 3, onnx.Dynamic, onnx.Dynamic}}}})[0]
				}
				if before, after := max(shift, 0), max(-shift, 0); shift != 0 {
					y = g.Pad(y, onnx.PadOptions{Before: []int{0, 0, before, before}, After: []int{0, 0, after, after}})
					for axis := 2; axis < 4; axis++ {
						if y = g.Slice(y, axis, after, math.MaxInt32); before > 0 {
							y = g.Slice(y, axis, 0, -before)
						}
					}
				}
				g.Output("output", g.Conv(y, positive(3, 3), nil, onnx.ConvOptions{Pad: 1}))
				happens(t, saved(t, g), tt.exact)
			}
		})
	}
}

// farthest is how many pixels of the input lie between a pixel of it and the farthest
// of those at whose place the output has changed.
func farthest(before, after *ort.Tensor, py, px int, g onnx.Geometry) (far int) {
	channels, height, width := int(before.Shape[1]), int(before.Shape[2]), int(before.Shape[3])
	for c := range channels {
		for y := range height {
			for x := range width {
				i := (c*height+y)*width + x
				if before.Float32s()[i] == after.Float32s()[i] {
					continue
				}
				for _, at := range [][2]int{{y, py}, {x, px}} {
					first := at[0] * g.Down / g.Up // pixels of the input that lie there
					last := ((at[0]+1)*g.Down - 1) / g.Up
					far = max(far, at[1]-first, last-at[1])
				}
			}
		}
	}
	return far
}

// Where pixels hang on all of a picture, they really do.
func TestUnboundedReach(t *testing.T) {
	t.Parallel()
	s, g := loaded(t, saved(t, testnet.Excited()))
	if !strings.Contains(g.Unbounded, "GlobalAveragePool") || g.Up != 2 {
		t.Errorf("%+v", g)
	}
	x := noise(40, 40)
	before := ran(t, s, x)
	x.Float32s()[0] += 50
	if far := farthest(before, ran(t, s, x), 0, 0, onnx.Geometry{Up: 2, Down: 1}); far != 39 {
		t.Errorf("the farthest pixel is %d away", far)
	}
}

// What the tensors need is about what the runtime's arena has in use.
func TestPeakIsWhatTheRuntimeTakes(t *testing.T) {
	for name, graph := range map[string]*onnx.Graph{
		"compact":         testnet.Compact(4, 16, 4),
		"rrdb":            testnet.RRDB(testnet.RRDBOptions{Features: 16, Blocks: 2}),
		"rrdb unshuffled": testnet.RRDB(testnet.RRDBOptions{Features: 16, Blocks: 1, Unshuffle: 2}),
		"span":            testnet.Span(2),
		"unet":            testnet.UNet(),
		"excited":         testnet.Excited(),
		"interpolated":    testnet.Interpolated(),
	} {
		t.Run(name, func(t *testing.T) {
			var ratios []string
			for _, side := range []int64{64, 128} {
				s, g := loaded(t, saved(t, graph))
				weights, err := s.Stats()
				if err != nil {
					t.Fatal(err)
				}
				x := noise(side, side)
				ran(t, s, x)
				st, err := s.Stats()
				if err != nil {
					t.Fatal(err)
				}
				took := st.MaxInUse - weights.InUse + int64(len(x.Data)) // which is passed without a copy
				ratio := float64(g.Peak*side*side) / float64(took)
				ratios = append(ratios, fmt.Sprintf("%.2f", ratio))
				if math.Abs(math.Log(ratio)) > math.Log(1.3) {
					t.Errorf("%d x %d: %d bytes in use, and %d are said", side, side, took, g.Peak*side*side)
				}
			}
			t.Log(ratios)
		})
	}
}
