package upscale_test

import (
	"errors"
	"image"
	"image/color"
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
	sizes := []image.Point{{211, 77}, {1, 190}, {190, 1}, {64, 64}, {133, 97}}
	for name, tt := range map[string]struct {
		net             *onnx.Graph
		scale, multiple int
		overlap         int // as far as it looks
		tiles           []int
	}{
		"compact":         {testnet.Compact(4, 8, 2), 4, 1, 4, []int{32, 61, 64, 128, 512}},
		"compact, twice":  {testnet.Compact(2, 8, 2), 2, 1, 4, []int{32}},
		"span":            {testnet.Span(3), 3, 1, 6, []int{32, 96}},
		"rrdb":            {testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1}), 4, 1, 19, []int{64, 128}},
		"rrdb unshuffled": {testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1, Unshuffle: 2}), 2, 2, 38, []int{96}},
		"a U":             {testnet.UNet(), 1, 4, 16, []int{48}},
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
	t.Run("the test can fail", func(t *testing.T) {
		file, img := saved(t, testnet.Compact(4, 8, 2)), noise(211, 77)
		if d := whole(t, file, img, 4, 1).differ(enlarged(t, img, values{"model": file, "tile": 64, "overlap": 3})); d < 1e-3 {
			t.Errorf("with a smaller overlap it differs by %.6f", d)
		}
	})
}

// Where the network looks farther than tiles overlap, what they differ by from the whole
// picture changes slowly: no seam is seen. The stage's own overlap does, too.
func TestNoSeams(t *testing.T) {
	flat, gradient := image.NewNRGBA64(image.Rect(0, 0, 200, 150)), image.NewNRGBA64(image.Rect(0, 0, 200, 150))
	for y := range 150 {
		for x := range 200 {
			flat.SetNRGBA64(x, y, color.NRGBA64{40000, 30000, 20000, 65535})
			gradient.SetNRGBA64(x, y, color.NRGBA64{uint16(20000 + 100*x), uint16(20000 + 150*y), uint16(20000 + 50*(x+y)), 65535})
		}
	}
	for name, tt := range map[string]struct {
		net    *onnx.Graph
		scale  int
		values values
		most   float64
	}{
		"compact":                {testnet.Compact(2, 16, 16), 2, values{"tile": 64, "overlap": 12}, 0.0018}, // of 18
		"looks at all":           {testnet.Excited(), 2, values{"tile": 64}, 0.003},
		"the overlap is its own": {testnet.Compact(2, 16, 16), 2, values{"tile": 64}, 0.0005},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := saved(t, tt.net)
			tt.values["model"] = file
			for _, img := range []*image.NRGBA64{flat, gradient} {
				want := whole(t, file, img, tt.scale, 1)
				got := enlarged(t, img, tt.values).(*image.NRGBA64)
				off := func(c, x, y int) float64 {
					v := [3]uint16{got.NRGBA64At(x, y).R, got.NRGBA64At(x, y).G, got.NRGBA64At(x, y).B}[c]
					return float64(v)/65535 - min(max(want.at(c, x, y), 0), 1)
				}
				// A network that enlarges by a shuffle of pixels gives each of a block's pixels
				// an error of its own: the next one of the same kind is a scale away.
				var most float64
				for c := range 3 {
					const border = 16 // where the network has one of its own
					for y := border; y < want.size.Y-border; y++ {
						for x := border; x < want.size.X-border; x++ {
							here := off(c, x, y)
							most = max(most, math.Abs(here-off(c, x+tt.scale, y)), math.Abs(here-off(c, x, y+tt.scale)))
						}
					}
				}
				if most > tt.most {
					t.Errorf("there is a step of %.5f", most)
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

// fieldOf is the field that an error is about.
func fieldOf(err error) string {
	var fe *pipeline.FieldError
	if errors.As(err, &fe) {
		return fe.Field
	}
	return ""
}
