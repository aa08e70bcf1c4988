package tile_test

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// brightness saves a network whose "map" is the picture's own brightness, in 256ths: the
// largest of each 8 x 8 pixels.
func brightness(t testing.TB) string {
	t.Helper()
	g := onnx.NewGraph("brightness")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	y := g.MaxPool(g.ReduceMean(x, true, 1), onnx.PoolOptions{Size: 8, Stride: 8})
	g.Output("map", g.Mul(y, g.Scalar(onnx.Float32, 255.0/256)))
	path := filepath.Join(t.TempDir(), "brightness.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// mapStep is tile with by: ic9600.
func mapStep(model string, size int, more map[string]any) stagetest.Step {
	values := map[string]any{"by": "ic9600", "model": model, "threads": 1}
	for k, v := range more {
		values[k] = v
	}
	return pickStep(size, values)
}

// cells is a picture that a map is painted into: 8 x 8 pixels of a gray for each value.
// Some maps have few values, and so many equals. Of the cells at the right and at the
// bottom that the picture's border cuts, the rest is mirrored.
func cells(rnd *rand.Rand, width, height int) (*image.Gray, func(x, y int) int64) {
	img := image.NewGray(image.Rect(0, 0, width, height))
	levels := []int{2, 5, 256}[rnd.IntN(3)]
	columns, rows := (width+7)/8, (height+7)/8
	values := make([]uint8, columns*rows)
	for i := range values {
		values[i] = uint8(rnd.IntN(levels) * 255 / (levels - 1))
	}
	for y := range height {
		for x := range width {
			img.SetGray(x, y, color.Gray{Y: values[y/8*columns+x/8]})
		}
	}
	for i := range values {
		x0, y0 := i%columns*8, i/columns*8
		for y := y0; y < y0+8; y++ {
			for x := x0; x < x0+8; x++ {
				values[i] = max(values[i], img.GrayAt(min(x, 2*(width-1)-x), min(y, 2*(height-1)-y)).Y)
			}
		}
	}
	return img, func(x, y int) int64 { return int64(values[y/8*columns+x/8]) }
}

// bruteForce looks at every square, for each tile, and adds up all that it covers.
func bruteForce(size image.Point, at func(x, y int) int64, tile, align, count int) (corners []image.Point, sums []int64) {
	for len(corners) < count {
		best, found := int64(-1), image.Point{}
		for y := 0; y+tile <= size.Y; y += align {
			for x := 0; x+tile <= size.X; x += align {
				r := image.Rect(x, y, x+tile, y+tile)
				if slices.ContainsFunc(corners, func(c image.Point) bool { return r.Overlaps(image.Rect(c.X, c.Y, c.X+tile, c.Y+tile)) }) {
					continue
				}
				var sum int64
				for v := y; v < y+tile; v++ {
					for u := x; u < x+tile; u++ {
						sum += at(u, v)
					}
				}
				if sum > best {
					best, found = sum, image.Pt(x, y)
				}
			}
		}
		if best < 0 {
			break
		}
		corners, sums = append(corners, found), append(sums, best)
	}
	return corners, sums
}

// Tiles lie where a search through the whole map puts them, and have its mean.
func TestMappedTilesEqualBruteForce(t *testing.T) {
	model := brightness(t)
	for config := range uint64(10) {
		rnd := rand.New(rand.NewPCG(config, 3))
		size, align := []int{16, 24, 32, 20, 27}[config%5], 8
		more := map[string]any{}
		if config%2 == 1 {
			align = 1 + rnd.IntN(12)
			more["align"] = align
		}
		count := 1 + rnd.IntN(6)
		more["count"] = count
		threshold := float64(rnd.IntN(150)) / 256
		more["threshold"] = threshold
		t.Run(fmt.Sprint(size, more), func(t *testing.T) {
			var src stagetest.Source
			want, means := map[string][]string{}, map[string]float64{}
			rejected := map[string]string{}
			for i := range 5 {
				name := fmt.Sprint(config, "-", i)
				img, at := cells(rnd, 32+rnd.IntN(80), 32+rnd.IntN(80))
				src = append(src, stagetest.Picture(name, img))
				corners, sums := bruteForce(img.Rect.Size(), at, size, align, count)
				for j, c := range corners {
					mean := float64(sums[j]) / 256 / float64(size*size)
					if mean < threshold {
						if j == 0 {
							rejected[name] = fmt.Sprintf("below threshold: ic9600_map %v, threshold %v", mean, threshold)
						}
						break
					}
					id := fmt.Sprintf("%s@tile=%d,%d,%d", name, size, c.X, c.Y)
					want[name], means[id] = append(want[name], id), mean
				}
				slices.Sort(want[name])
			}
			b := stagetest.New(t, src, mapStep(model, size, more))
			sum, seen := b.Run(t, pipeline.RunOptions{})
			if len(sum.Failed) > 0 {
				t.Fatal(sum.Failed)
			}
			reasons := b.Messages(pipeline.EventRejected)
			for _, in := range src {
				var got []string
				for _, id := range stagetest.IDs(seen) {
					if strings.HasPrefix(id, in.Name+"@") {
						got = append(got, id)
						if v := seen[id].Attributes["ic9600_map"].Float(); math.Abs(v-means[id]) > 1e-9 && slices.Contains(want[in.Name], id) {
							t.Errorf("%s has the mean %v, want %v", id, v, means[id])
						}
					}
				}
				if !slices.Equal(got, want[in.Name]) || reasons[in.Name] != rejected[in.Name] {
					t.Errorf("tiles of %s %v: %v, rejected %q; want %v, %q", in.Name, in.Image.Bounds().Size(), got, reasons[in.Name], want[in.Name], rejected[in.Name])
				}
			}
		})
	}
}

// A picture that is scaled down for the map has its best tile where it has it otherwise.
func TestMappedTilesOfLargePictures(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 400, 240))
	for y := 96; y < 160; y++ {
		for x := 248; x < 312; x++ {
			img.SetGray(x, y, color.Gray{Y: 255})
		}
	}
	for pixels, about := range map[int]float64{96000: 0, 24000: 0.02, 8192: 0.3} {
		_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, mapStep(brightness(t), 64, map[string]any{"map_pixels": pixels, "count": 1})).Run(t, pipeline.RunOptions{})
		v := seen["p@tile=64,248,96"].Attributes["ic9600_map"].Float()
		if math.Abs(v-255.0/256) > about+1e-6 {
			t.Errorf("with %d pixels, tiles are %v and the mean is %v", pixels, stagetest.IDs(seen), v)
		}
	}
	// However little is left of it, all positions of a flat picture are equals.
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("flat", image.NewGray(image.Rect(0, 0, 397, 241)))}, mapStep(brightness(t), 30, map[string]any{"map_pixels": 5000, "count": 2, "align": 1})).Run(t, pipeline.RunOptions{})
	if got := fmt.Sprint(stagetest.IDs(seen)); got != "[flat@tile=30,0,0 flat@tile=30,30,0]" {
		t.Errorf("tiles of a flat picture are %s", got)
	}
}

func TestMappedIsRefused(t *testing.T) {
	t.Setenv(store.Variable, t.TempDir())
	for name, tt := range map[string]struct {
		values map[string]any
		want   string
	}{
		"no network":        {map[string]any{"by": "ic9600"}, "forgepipe models fetch ic9600"},
		"levels of gray":    {map[string]any{"by": "ic9600", "model": brightness(t), "threshold": 4}, "the map of ic9600 is in 0..1"},
		"for laplacian":     {map[string]any{"model": brightness(t)}, "say pick: best and by: ic9600"},
		"size of no map":    {map[string]any{"map_pixels": 5000}, "say pick: best and by: ic9600"},
		"a network for all": {map[string]any{"by": "ic9600", "model": scores(t)}, `has no output "map"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := stagetest.Err(t, pickStep(64, tt.values))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, and should say %q", err, tt.want)
			}
		})
	}
}

// scores saves a network without a map.
func scores(t testing.TB) string {
	t.Helper()
	g := onnx.NewGraph("scores")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	g.Output("score", g.ReduceMean(x, false, 1, 2, 3))
	path := filepath.Join(t.TempDir(), "scores.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}
