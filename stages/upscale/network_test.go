package upscale_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// saved is the file of a network.
func saved(t testing.TB, g *onnx.Graph) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "net.onnx")
	if err := g.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// made is what a network made of a whole picture: samples from 0 to 1, of planes.
type made struct {
	size image.Point
	data []float32
}

// whole runs a network on a picture that it gets in one piece, with a mirrored border up
// to a multiple. It has nothing of what the stage does.
func whole(t testing.TB, file string, img image.Image, scale, multiple int) made {
	t.Helper()
	f, err := model.Open(file, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	size := img.Bounds().Size()
	w, h := (size.X+multiple-1)/multiple*multiple, (size.Y+multiple-1)/multiple*multiple
	mirror := func(i, n int) int {
		for i >= n {
			i = max(2*(n-1)-i, 0)
		}
		return i
	}
	in := make([]float32, 3*w*h)
	for y := range h {
		for x := range w {
			c := color.NRGBA64Model.Convert(img.At(mirror(x, size.X), mirror(y, size.Y))).(color.NRGBA64)
			for i, v := range []uint16{c.R, c.G, c.B} {
				in[i*w*h+y*w+x] = float32(v) / 65535
			}
		}
	}
	out, err := s.Run(t.Context(), []*model.Tensor{tensorOf(in, 1, 3, int64(h), int64(w))}, model.SessionRun{})
	if err != nil {
		t.Fatal(err)
	}
	return made{image.Pt(w*scale, h*scale), out[0].Numbers()}
}

// at is a sample.
func (m made) at(c, x, y int) float64 {
	return float64(m.data[c*m.size.X*m.size.Y+y*m.size.X+x])
}

// differ is by how much a picture differs from it at most, where it is not cut off.
func (m made) differ(img image.Image) (most float64) {
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			got := color.NRGBA64Model.Convert(img.At(x, y)).(color.NRGBA64)
			for c, v := range []uint16{got.R, got.G, got.B} {
				want := min(max(m.at(c, x, y), 0), 1)
				most = max(most, math.Abs(float64(v)/65535-want))
			}
		}
	}
	return most
}

// enlarged runs the stage on one picture.
func enlarged(t testing.TB, img image.Image, v values) image.Image {
	t.Helper()
	sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step(v)).Run(t, pipeline.RunOptions{NoStore: true})
	if len(sum.Failed) > 0 {
		t.Fatalf("%v %v: %v", img.Bounds(), v, sum.Failed[0].Cause)
	}
	return seen["p"].Image
}

func noise(w, h int) image.Image {
	img := stagetest.Noise(image.NewNRGBA64(image.Rect(0, 0, w, h))).(*image.NRGBA64)
	for i := 6; i < len(img.Pix); i += 8 {
		img.Pix[i], img.Pix[i+1] = 255, 255
	}
	return img
}

// What comes of tiles is what the network makes of the whole picture, as long as their
// overlap is as wide as the network looks far.
func TestTilesAreTheWhole(t *testing.T) {
	sizes := []image.Point{{131, 77}, {1, 90}, {90, 1}, {64, 64}, {33, 97}}
	for name, tt := range map[string]struct {
		net             *onnx.Graph
		scale, multiple int
		overlap         int
		tiles           []int
	}{
		"compact":         {testnet.Compact(4, 8, 2), 4, 1, 4, []int{32, 61, 64, 128, 512}},
		"compact, twice":  {testnet.Compact(2, 8, 2), 2, 1, 4, []int{32}},
		"span":            {testnet.Span(3), 3, 1, 6, []int{32, 96}},
		"rrdb":            {testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1}), 4, 1, 19, []int{64, 128}},
		"rrdb unshuffled": {testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1, Unshuffle: 2}), 2, 2, 38, []int{96}},
		"a U":             {testnet.UNet(), 1, 4, 16, []int{48}},
		"more than it sees": {testnet.Compact(4, 8, 2), 4, 1, 9, []int{40}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := saved(t, tt.net)
			for _, size := range sizes {
				img := noise(size.X, size.Y)
				want := whole(t, file, img, tt.scale, tt.multiple)
				for _, tile := range tt.tiles {
					got := enlarged(t, img, values{"model": file, "tile": tile, "overlap": tt.overlap})
					if got.Bounds().Size() != size.Mul(tt.scale) {
						t.Fatalf("%v becomes %v", size, got.Bounds())
					}
					if d := want.differ(got); d > 1e-4 {
						t.Errorf("%v in tiles of %d differs by %.6f", size, tile, d)
					}
				}
			}
		})
	}
}

func tensorOf(data []float32, shape ...int64) *model.Tensor {
	t := &model.Tensor{Type: float32Type, Shape: shape, Data: make([]byte, 4*len(data))}
	copy(t.Float32s(), data)
	return t
}

var float32Type = func() model.ElementType { var f model.File; return f.ElementType() }()

var _ = fmt.Sprint
var _ draw.Image
var _ context.Context
