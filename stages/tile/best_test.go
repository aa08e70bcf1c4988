package tile_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
)

// pickStep is tile with pick: best.
func pickStep(size int, more map[string]any) stagetest.Step {
	values := map[string]any{"size": size, "pick": "best"}
	maps.Copy(values, more)
	return stagetest.Step{Info: tile.Info(), Values: values}
}

// expected is what the description promises, by exhaustive search: the IDs of
// the tiles and, when there are none, why.
func expected(name string, img *image.Gray, size, align, count int, threshold float64) (ids []string, reason string) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if w < size || h < size {
		return nil, fmt.Sprintf("too small: width %d, height %d", w, h)
	}
	if count == 0 {
		count = 1
		if w*h > 4*size*size {
			count = w * h / (2 * size * size)
		}
	}
	corners, sums := tile.Exhaustive(img, size, align, count)
	for i, c := range corners {
		mean := float64(sums[i]) / float64(1000*size*size)
		if mean < threshold {
			if i == 0 {
				reason = fmt.Sprintf("below threshold: laplacian %v, threshold %v", mean, threshold)
			}
			break
		}
		ids = append(ids, fmt.Sprintf("%s@tile=%d,%d,%d", name, size, c.X, c.Y))
	}
	slices.Sort(ids)
	return ids, reason
}

func TestBestTilesEqualExhaustiveSearch(t *testing.T) {
	for config := range uint64(20) {
		rnd := rand.New(rand.NewPCG(config, 11))
		size := 16 + rnd.IntN(20)
		more, align, count, threshold := map[string]any{}, 8, 0, 0.0
		if rnd.IntN(2) == 0 {
			align = 1 + rnd.IntN(10)
			more["align"] = align
		}
		if rnd.IntN(3) == 0 {
			count = 1 + rnd.IntN(12)
			more["count"] = count
		}
		if rnd.IntN(2) == 0 {
			threshold = float64(rnd.IntN(150))
			more["threshold"] = threshold
		}
		t.Run(fmt.Sprint(size, more), func(t *testing.T) {
			var src stagetest.Source
			pictures := map[string]*image.Gray{}
			for i := range 10 {
				name := fmt.Sprint(config, "-", i)
				pictures[name] = tile.Painted(rnd, 12+rnd.IntN(180), 12+rnd.IntN(180))
				src = append(src, stagetest.Picture(name, pictures[name]))
			}
			b := stagetest.New(t, src, pickStep(size, more))
			_, seen := b.Run(t, pipeline.RunOptions{})
			rejected := b.Messages(pipeline.EventRejected)
			for name, img := range pictures {
				want, reason := expected(name, img, size, align, count, threshold)
				var got []string
				for _, id := range stagetest.IDs(seen) {
					if strings.HasPrefix(id, name+"@") {
						got = append(got, id)
					}
				}
				if !slices.Equal(got, want) || rejected[name] != reason {
					t.Errorf("tiles of %v: %v, rejected %q; want %v, %q", img.Rect.Size(), got, rejected[name], want, reason)
				}
			}
		})
	}
}

func TestNumberOfTiles(t *testing.T) {
	tests := map[string]struct {
		w, h int
		more map[string]any
		want int
	}{
		"one tile":                  {16, 16, nil, 1},
		"four times the area":       {32, 32, nil, 1},
		"a little more":             {40, 26, nil, 1040 / 512},
		"ten times":                 {160, 16, nil, 5},
		"count is less":             {160, 16, map[string]any{"count": 2}, 2},
		"count is more":             {32, 32, map[string]any{"count": 3}, 3},
		"count is more than fit":    {32, 32, map[string]any{"count": 100}, 4},
		"all are as good as needed": {32, 32, map[string]any{"count": 100, "threshold": 0}, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := stagetest.New(t, stagetest.Source{stagetest.Picture("flat", image.NewGray(image.Rect(0, 0, tt.w, tt.h)))}, pickStep(16, tt.more)).Run(t, pipeline.RunOptions{})
			if s.Derived != int64(tt.want) {
				t.Errorf("%d tiles, want %d", s.Derived, tt.want)
			}
		})
	}
}

// A tile whose mean is the threshold is kept.
func TestThresholdIsTheLeast(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	img.SetGray(8, 8, color.Gray{Y: 32}) // 8 * 32 over 256 pixels
	for threshold, want := range map[float64]int64{1: 1, math.Nextafter(1, 2): 0} {
		s, _ := stagetest.New(t, stagetest.Source{stagetest.Picture("dot", img)}, pickStep(16, map[string]any{"threshold": threshold})).Run(t, pipeline.RunOptions{})
		if s.Derived != want || s.Rejected["tile0"]["below threshold"] != 1-want {
			t.Errorf("threshold %v: %d tiles, rejected %v", threshold, s.Derived, s.Rejected)
		}
	}
}

// The same picture in any type, and as a crop, gives the same tiles.
func TestBestTilesOfAnyType(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	plain := tile.Painted(rnd, 150, 130)
	r := image.Rect(7, 9, 157, 139)
	copied := func(dst draw.Image) image.Image {
		draw.Draw(dst, r, plain, image.Point{}, draw.Src)
		return dst
	}
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.Gray{Y: uint8(i)}
	}
	around := image.NewNRGBA(image.Rect(0, 0, 200, 200))
	for i := range around.Pix {
		around.Pix[i] = uint8(rnd.Uint32())
	}
	draw.Draw(around, r, plain, image.Point{}, draw.Src)
	ycbcr := image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
	copy(ycbcr.Y, plain.Pix)
	tests := map[string]image.Image{
		"gray": copied(image.NewGray(r)), "gray16": copied(image.NewGray16(r)), "rgba": copied(image.NewRGBA(r)), "nrgba": copied(image.NewNRGBA(r)),
		"rgba64": copied(image.NewRGBA64(r)), "nrgba64": copied(image.NewNRGBA64(r)), "palette": copied(image.NewPaletted(r, palette)),
		"any other": copied(odd{image.NewRGBA64(r)}), "ycbcr": ycbcr, "view": around.SubImage(r),
	}
	for name, img := range tests {
		t.Run(name, func(t *testing.T) {
			_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, pickStep(24, map[string]any{"align": 1})).Run(t, pipeline.RunOptions{})
			want, _ := expected("p", plain, 24, 1, 0, 0)
			if got := stagetest.IDs(seen); !slices.Equal(got, want) {
				t.Errorf("tiles %v, want %v", got, want)
			}
			for id, s := range seen {
				var n, x, y int
				fmt.Sscanf(id, "p@tile=%d,%d,%d", &n, &x, &y)
				part := img.(interface {
					SubImage(image.Rectangle) image.Image
				}).SubImage(image.Rect(x, y, x+24, y+24).Add(img.Bounds().Min))
				if err := stagetest.Same(s.Image, part); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
}

func TestBestTilesOfPairs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 6))
	tests := map[string]struct {
		size, scale int
		more        map[string]any
		align       int
		cause       string
	}{
		"scale 4":               {32, 4, nil, 8, ""},
		"scale 3":               {30, 3, nil, 24, ""},
		"every pixel of the LQ": {30, 3, map[string]any{"align": 3}, 3, ""},
		"between pixels":        {30, 3, map[string]any{"align": 4}, 0, "align: 4 would place tiles between the pixels of the low-quality image of a pair with scale 3: make it a multiple of 3"},
		"size does not fit":     {32, 3, nil, 0, "make the size a multiple of 3"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			hq := tile.Painted(rnd, 132, 120)
			in, lq := stagetest.Picture("p", hq), stagetest.Picture("p", image.NewGray(image.Rect(0, 0, 132/tt.scale, 120/tt.scale)))
			in.LQ, in.Scale = &lq, tt.scale
			s, seen := stagetest.New(t, stagetest.Source{in}, pickStep(tt.size, tt.more)).Run(t, pipeline.RunOptions{})
			if tt.cause != "" {
				if len(s.Failed) != 1 || !strings.Contains(s.Failed[0].Cause, tt.cause) {
					t.Errorf("failed %v, want %q", s.Failed, tt.cause)
				}
				return
			}
			want, _ := expected("p", hq, tt.size, tt.align, 0, 0)
			if got := stagetest.IDs(seen); !slices.Equal(got, want) {
				t.Errorf("tiles %v, want %v", got, want)
			}
			for id, got := range seen {
				if !got.Paired {
					t.Errorf("%s has lost its companion", id)
				}
			}
		})
	}
}

// Neighbours outside of the tile count, so a tile that ends where an edge runs
// sees the edge.
func TestTheMeanKnowsTheSurroundings(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 48, 16))
	draw.Draw(img, image.Rect(32, 0, 48, 16), image.White, image.Point{}, draw.Src)
	b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, pickStep(16, map[string]any{"count": 1, "threshold": 1000}))
	b.Run(t, pipeline.RunOptions{})
	// The columns 31 and 32 have 255 in each of their 16 rows; the tile at 24 sees
	// both, the one at 16 its last column.
	if got, want := b.Messages(pipeline.EventRejected)["p"], fmt.Sprintf("below threshold: laplacian %v, threshold 1000", 2.0*16*255/256); got != want {
		t.Errorf("rejected with %q, want %q", got, want)
	}
}

func TestFieldsBelongToOneWayOfPicking(t *testing.T) {
	tests := map[string]struct {
		values map[string]any
		want   string
	}{
		"edge of the best":    {map[string]any{"size": 32, "pick": "best", "edge": "drop"}, "only pick: grid has edge"},
		"by of a grid":        {map[string]any{"size": 32, "by": "laplacian"}, "only pick: best has by"},
		"count of a grid":     {map[string]any{"size": 32, "pick": "grid", "count": 3}, "only pick: best has count"},
		"threshold of a grid": {map[string]any{"size": 32, "threshold": 4}, "only pick: best has threshold"},
		"align of a grid":     {map[string]any{"size": 32, "align": 8}, "only pick: best has align"},
		"no tiles":            {map[string]any{"size": 32, "pick": "best", "count": 0}, "count"},
		"unknown":             {map[string]any{"size": 32, "pick": "bset"}, `did you mean "best"?`},
		"unknown metric":      {map[string]any{"size": 32, "pick": "best", "by": "entropy"}, "laplacian"},
	}
	for name, tt := range tests {
		if err := stagetest.Err(t, stagetest.Step{Info: tile.Info(), Values: tt.values}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}

func TestCostOfPicking(t *testing.T) {
	c, err := pipeline.NewConfig(tile.Info(), map[string]any{"size": 32, "pick": "best"})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := tile.Info().New(t.Context(), c, pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	works := map[string]int64{}
	b := stagetest.New(t, stagetest.Source{stagetest.Picture("small", stagetest.Gray(31, 900)), stagetest.Picture("large", stagetest.Gray(900, 900))})
	if err := b.Add(pipeline.Step{ID: "cost", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		works[it.ID()] = stage.(pipeline.Coster).Cost(pipeline.Host, []*pipeline.Item{it}).Work
		return nil
	}), Workers: 1}); err != nil {
		t.Fatal(err)
	}
	b.Run(t, pipeline.RunOptions{})
	// At least the sums of the 109 x 109 positions.
	if works["small"] != 0 || works["large"] < 109*109*8 || works["large"] > 1<<20 {
		t.Errorf("work of %v bytes", works)
	}
	if c := stage.(pipeline.Coster).Cost(pipeline.Host, nil); c.Work < 400*300*8 {
		t.Errorf("for planning, the cost is %+v", c)
	}
}
