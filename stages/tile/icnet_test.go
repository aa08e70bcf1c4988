package tile_test

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/icnet"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
)

// patterned is a picture with edges, some of it with noise.
func patterned(width, height int) image.Image {
	noise := archtest.Uniform("noise", width*height*3)
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		x, y := i%width, i/width
		level := func(c int) uint8 { return uint8(float64(x+y)/2 + float64(x*y%97)*noise[3*i+c]) }
		img.SetNRGBA(x, y, color.NRGBA{level(0), level(1), level(2), 255})
	}
	return img
}

// outputs is what a network makes of a picture of that size with its margin.
func outputs(t testing.TB, f *model.File, img image.Image, scaled image.Point) []*model.Tensor {
	t.Helper()
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	size := icnet.WithMargin(scaled)
	in := &model.Tensor{Type: f.ElementType(), Shape: f.Spec.Shape(1, size), Data: make([]byte, f.Spec.TensorBytes(size))}
	if err := icnet.Fill(t.Context(), f.Spec, in.Data, img, scaled); err != nil {
		t.Fatal(err)
	}
	out, err := s.Run(t.Context(), []*model.Tensor{in}, model.SessionRun{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// scoreOf is what the head gives to the cells r of features, which it gets alone.
func scoreOf(t testing.TB, head model.Session, features *model.Tensor, r image.Rectangle) float64 {
	t.Helper()
	all, rows, columns := features.Numbers(), int(features.Shape[2]), int(features.Shape[3])
	in := &model.Tensor{Type: features.Type, Shape: []int64{1, 1, int64(512 * r.Dy()), int64(r.Dx())}}
	for c := range 512 {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				in.Data = binary.NativeEndian.AppendUint32(in.Data, math.Float32bits(all[(c*rows+y)*columns+x]))
			}
		}
	}
	out, err := head.Run(t.Context(), []*model.Tensor{in}, model.SessionRun{})
	if err != nil {
		t.Fatal(err)
	}
	return float64(out[0].Numbers()[0])
}

// With the network itself, tiles lie where a search through the whole network's map puts
// them, and have the score that the head gives to what is theirs of the features.
func TestTilesOfICNet(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	path := archtest.Read(t, "icnet").Save(t, "ic9600.safetensors", nil)
	open := func(o model.FileOptions) *model.File {
		f, err := model.Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	whole, body := open(model.FileOptions{Spec: icnet.Spec, Outputs: []string{"map"}}), open(model.FileOptions{Spec: icnet.Spec, Part: arch.Body, Outputs: []string{"features"}})
	head, err := open(model.FileOptions{Spec: model.Spec{Channels: model.Gray}, Part: arch.Head}).Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer head.Close()

	// The second picture is a tile. The third is made smaller.
	for _, tt := range []struct{ width, height, size, align, count, pixels, scaledX, scaledY int }{
		{150, 117, 24, 8, 4, 4 << 20, 150, 117},
		{24, 24, 24, 8, 1, 4 << 20, 24, 24},
		{150, 117, 50, 3, 2, 9000, 107, 83},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			img := patterned(tt.width, tt.height)
			scaled := image.Pt(tt.scaledX, tt.scaledY)
			features := outputs(t, body, img, scaled)[0]
			if s := features.Shape; s[1] != 512 {
				t.Fatalf("the features have the shape %v", s)
			}
			sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, mapStep(path, tt.size, map[string]any{"count": tt.count, "align": tt.align, "map_pixels": tt.pixels})).Run(t, pipeline.RunOptions{})
			if len(seen) != tt.count {
				t.Fatalf("there are %d tiles: %v", len(seen), sum.Failed)
			}
			if tt.pixels > tt.width*tt.height { // or it is interpolated
				drawn := outputs(t, whole, img, scaled)[0]
				values, stride := drawn.Numbers(), int(drawn.Shape[3])
				at := func(x, y int) int64 { return int64(math.Round(float64(values[(y/8+4)*stride+x/8+4]) * (1 << 20))) }
				corners, sums := bruteForce(image.Pt(tt.width, tt.height), at, tt.size, tt.align, tt.count)
				for i, c := range corners {
					tile, ok := seen[fmt.Sprintf("p@tile=%d,%d,%d", tt.size, c.X, c.Y)]
					want := float64(sums[i]) / float64(tt.size*tt.size<<20)
					if v := tile.Attributes["ic9600_map"].Float(); !ok || math.Abs(v-want) > 1e-5 {
						t.Errorf("the best tile %d is at %v with %v; there are %v, with %v", i, c, want, stagetest.IDs(seen), v)
					}
				}
			}
			scores := map[string]bool{}
			for id, one := range seen {
				var size, x, y int
				if _, err := fmt.Sscanf(id, "p@tile=%d,%d,%d", &size, &x, &y); err != nil {
					t.Fatal(err)
				}
				cell := func(px, scaled, picture int) int {
					return int(math.Round(float64(px) * float64(scaled) / float64(picture) / 8))
				}
				corner := image.Pt(4+cell(x, scaled.X, tt.width), 4+cell(y, scaled.Y, tt.height))
				r := image.Rectangle{Min: corner, Max: corner.Add(image.Pt(cell(size, scaled.X, tt.width), cell(size, scaled.Y, tt.height)))}
				want, got := scoreOf(t, head, features, r), one.Attributes["ic9600"].Float()
				if !(math.Abs(got-want) <= 1e-5) {
					t.Errorf("%s, of the cells %v, has the score %v, want %v", id, r, got, want)
				}
				scores[fmt.Sprintf("%.6f", got)] = true
			}
			if len(scores) != tt.count {
				t.Errorf("%d tiles have the scores %v", tt.count, scores)
			}
		})
	}

	t.Run("cost", func(t *testing.T) {
		const side = 256 // of a picture; with its margin 320
		work := func(model string, count int) int64 {
			one, _ := stagetest.Cost(t, mapStep(model, 64, map[string]any{"count": count}), stagetest.Picture("p", patterned(side, side)))
			return one.Work
		}
		one := work(path, 1)
		if features := one - work(brightness(t), 1); features < 320*320/64*512*4 {
			t.Errorf("with the features, the work is %d bytes more", features)
		}
		if tiles, want := work(path, 9)-one, int64(8*8*8*512*4); tiles != want {
			t.Errorf("for eight tiles more, the work is %d bytes more, want %d", tiles, want)
		}
		if all := work(path, 1000) - one; all != 15*8*8*512*4 {
			t.Errorf("for all tiles that have room, the work is %d bytes more", all)
		}
	})
}

// An ONNX file, whose head cannot be had, gives the map alone, and is declared so.
func TestONNXGivesNoScore(t *testing.T) {
	model := brightness(t)
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", patterned(40, 40))}, mapStep(model, 16, nil)).Run(t, pipeline.RunOptions{})
	for id, one := range seen {
		if _, ok := one.Attributes["ic9600"]; ok {
			t.Errorf("%s has %v", id, one.Attributes)
		}
	}
	for model, want := range map[string]string{model: "[ic9600_map]", "ic9600": "[ic9600_map ic9600]", filepath.Join("there", "is-no.pth"): "[ic9600_map ic9600]"} {
		step := mapStep(model, 16, nil)
		c, err := pipeline.NewConfig(tile.Info(), step.Values)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range tile.Info().Makes(c) {
			names = append(names, m.Name)
		}
		if got := fmt.Sprint(names); got != want {
			t.Errorf("with %s it makes %s, want %s", model, got, want)
		}
	}
}
