package tile_test

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// With the network itself, tiles lie where a search through its map puts them.
func TestTilesOfICNet(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	path := archtest.Read(t, "icnet").Save(t, "ic9600.safetensors", nil)
	const width, height, size, count = 150, 117, 24, 4
	noise := archtest.Uniform("noise", width*height*3)
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		x, y := i%width, i/width
		level := func(c int) uint8 { return uint8(float64(x+y)/2 + float64(x*y%97)*noise[3*i+c]) }
		img.SetNRGBA(x, y, color.NRGBA{level(0), level(1), level(2), 255})
	}

	// The map of the picture with its margins, 256 x 192.
	f, err := model.Open(path, model.FileOptions{Spec: model.Spec{Multiple: 64}, Outputs: []string{"map"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := &model.Tensor{Type: f.ElementType(), Shape: []int64{1, 3, 192, 256}}
	mirror := func(i, n int) int {
		for i < 0 || i >= n {
			if i = max(i, -i); i >= n {
				i = 2*(n-1) - i
			}
		}
		return i
	}
	for c := range 3 {
		for y := range 192 {
			for x := range 256 {
				v := img.Pix[img.PixOffset(mirror(x-32, width), mirror(y-32, height))+c]
				in.Data = binary.NativeEndian.AppendUint32(in.Data, math.Float32bits(float32(v)/255))
			}
		}
	}
	out, err := s.Run(t.Context(), []*model.Tensor{in}, model.SessionRun{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(out[0].Shape); got != "[1 1 24 32]" {
		t.Fatalf("the map has the shape %s", got)
	}
	values := out[0].Numbers()
	at := func(x, y int) int64 { return int64(math.Round(float64(values[(y/8+4)*32+x/8+4]) * (1 << 20))) }
	corners, sums := bruteForce(image.Pt(width, height), at, size, 8, count)

	sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, mapStep(path, size, map[string]any{"count": count})).Run(t, pipeline.RunOptions{})
	if len(seen) != count {
		t.Fatalf("there are %d tiles: %v", len(seen), sum.Failed)
	}
	for i, c := range corners {
		tile, ok := seen[fmt.Sprintf("p@tile=%d,%d,%d", size, c.X, c.Y)]
		want := float64(sums[i]) / (size * size << 20)
		if v := tile.Attributes["ic9600_map"].Float(); !ok || math.Abs(v-want) > 1e-5 {
			t.Errorf("the best tile %d is at %v with %v; there are %v, with %v", i, c, want, stagetest.IDs(seen), v)
		}
	}
}
