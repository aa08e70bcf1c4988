package upscale_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/upscale"
)

// However a side is cut, every pixel is shown by one tile, or by two neighbours that pass
// into each other, each of which saw as much beyond it as the overlap is wide.
func TestSidesAreCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		multiple := rapid.SampledFrom([]int{1, 2, 3, 8, 16, 100, 512}).Draw(t, "multiple")
		tile, overlap, room := 0, rapid.IntRange(-1, 300).Draw(t, "any overlap"), int64(1)<<rapid.IntRange(8, 22).Draw(t, "room")
		if rapid.Bool().Draw(t, "asked") {
			tile = rapid.IntRange(2, 40).Draw(t, "blocks") * max(multiple, 4)
			tile = (tile + multiple - 1) / multiple * multiple
			overlap = rapid.IntRange(0, (tile-multiple)/2).Draw(t, "overlap")
		}
		reach := rapid.IntRange(-1, 50).Draw(t, "reach")
		step := rapid.SampledFrom([]int{0, 16}).Draw(t, "step")
		n := rapid.IntRange(1, 4000).Draw(t, "n")
		whole := (n + multiple - 1) / multiple * multiple
		pieces, tile, overlap := upscale.Cut(n, tile, overlap, multiple, reach, step, room)
		shown := 0
		for i, p := range pieces {
			at, size, from, to, in, out := p[0], p[1], p[2], p[3], p[4], p[5]
			first, last := i == 0, i == len(pieces)-1
			switch {
			case at%multiple != 0 || size%multiple != 0 || at+size > whole || size > tile:
				t.Fatalf("tile %d lies at %d, %d long, in %d", i, at, size, whole)
			case from != shown-in || in > 0 && first || out > 0 && last || from+in > to-out:
				t.Fatalf("tile %d shows %d to %d, %d and %d of it with others, and %d were shown", i, from, to, in, out, shown)
			case !first && from+in/2 < at+overlap || !last && to-(out+1)/2 > at+size-overlap:
				t.Fatalf("tile %d, from %d to %d, does not see %d beyond %d to %d", i, at, at+size, overlap, from, to)
			case reach >= 0 && overlap >= reach && in+out > 0:
				t.Fatalf("tile %d passes into others without need", i)
			}
			shown = to
		}
		if shown != n {
			t.Fatalf("%d of %d are shown", shown, n)
		}
	})
}

// Small pictures of one size go through the network together.
func TestSmallPicturesShareBatches(t *testing.T) {
	file := saved(t, testnet.Compact(2, 8, 1))
	var src stagetest.Source
	for i := range 200 {
		img := image.NewGray(image.Rect(0, 0, 64, 64))
		for k := range img.Pix {
			img.Pix[k] = uint8(i)
		}
		src = append(src, stagetest.Picture(fmt.Sprint(i), img))
	}
	sum, seen := stagetest.New(t, src, step(values{"model": file})).Run(t, pipeline.RunOptions{NoStore: true})
	if len(seen) != 200 || len(sum.Governed) != 1 {
		t.Fatalf("%d arrived, %v, %v", len(seen), sum.Failed, sum.Governed)
	}
	if a := sum.Governed[0]; a.Items != 200 || a.Runs > 200/8 {
		t.Errorf("%d items in %d runs", a.Items, a.Runs)
	}
	for id, s := range seen {
		var level int
		fmt.Sscan(id, &level)
		if got := s.Image.(*image.Gray).GrayAt(64, 64).Y; level > 20 && level < 230 && (int(got) < level-20 || int(got) > level+20) {
			t.Errorf("picture %s got %d", id, got)
		}
	}
}

// Tiles are as large as the memory limit allows, and what they are belongs to what is
// cached; a picture larger than memory is that which much memory gives.
func TestMemoryDecidesAboutTiles(t *testing.T) {
	file := saved(t, testnet.Compact(4, 16, 2))
	img := stagetest.Gray(600, 400)
	colours := image.NewNRGBA(img.Bounds())
	for y := range 400 {
		for x := range 600 {
			c := img.At(x, y)
			r, _, _, _ := c.RGBA()
			colours.Pix[colours.PixOffset(x, y)], colours.Pix[colours.PixOffset(x, y)+1], colours.Pix[colours.PixOffset(x, y)+3] = uint8(r), uint8(x), 255
		}
	}
	run := func(limit pipeline.Amount) (image.Image, string) {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", colours)})
		b.HostLimit = limit
		if err := b.Use(t.Context(), pipeline.NewRegistry(upscale.Info()), "upscale", "upscale", values{"model": file}); err != nil {
			t.Fatal(err)
		}
		var large image.Image
		keep := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			f, err := it.Frame(ctx)
			if err == nil {
				large = resample.Resize(f.Image, f.Image.Bounds().Size(), resample.Named("nearest")) // which is a copy
			}
			return err
		})
		if err := b.Add(pipeline.Step{ID: "keep", Stage: keep}); err != nil {
			t.Fatal(err)
		}
		sum, _ := b.Run(t, pipeline.RunOptions{})
		if len(sum.Failed) > 0 {
			t.Fatal(sum.Failed)
		}
		return large, sum.Stages[0].Note
	}
	much, note := run(pipeline.Amount{Bytes: 2 << 30})
	if !strings.Contains(note, "tiles of up to 256 x 256 with an overlap of 4 px: overlaps and borders took") {
		t.Error(note)
	}
	little, note := run(pipeline.Amount{Bytes: 100 << 20}) // the result has 15 MB
	if !strings.Contains(note, "tiles of up to 64 x 64") {
		t.Error(note)
	}
	if err := near(little, much, 257); err != nil {
		t.Error(err)
	}
}

// What was made in tiles is made anew only when they are others.
func TestTilesBelongToWhatIsCached(t *testing.T) {
	dir, file, img := t.TempDir(), saved(t, testnet.Compact(2, 4, 1)), stagetest.Gray(80, 60)
	for i, tt := range []struct {
		tile   int
		cached int64
	}{{32, 0}, {32, 1}, {64, 0}} {
		sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step(values{"model": file, "tile": tt.tile})).
			Run(t, pipeline.RunOptions{StateDir: dir})
		if sum.Cached != tt.cached || seen["p"].Size != image.Pt(160, 120) {
			t.Errorf("run %d took %d from the cache: %v", i, sum.Cached, seen["p"].Size)
		}
	}
}

// The memory limit alone makes other tiles, and so another fingerprint.
func TestTilesBelongToTheFingerprint(t *testing.T) {
	file := saved(t, testnet.Compact(4, 16, 2))
	of := func(limit int64, threads int) string {
		b := stagetest.New(t, stagetest.Source{})
		b.HostLimit = pipeline.Amount{Bytes: limit}
		if err := b.Use(t.Context(), pipeline.NewRegistry(upscale.Info()), "upscale", "upscale", values{"model": file, "threads": threads}); err != nil {
			t.Fatal(err)
		}
		return b.Fingerprint()
	}
	if of(100<<20, 1) == of(2<<30, 1) {
		t.Error("other tiles have the same fingerprint")
	}
	if of(2<<30, 1) != of(2<<30, 4) {
		t.Error("the number of threads has an influence on tiles")
	}
}

// mute is a card that does not say how much memory it has.
type mute struct{ memory.Device }

func (mute) Read(context.Context) (memory.Reading, error) {
	return memory.Reading{}, errors.New("it does not answer")
}

// A card that does not answer when tiles are chosen is an error: they would be others than
// when it does.
func TestCardThatDoesNotAnswer(t *testing.T) {
	card, err := sim.New(sim.Config{Name: "sim:0", Total: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p := pipeline.New("test", pipeline.Options{Devices: []memory.Device{mute{card}}})
	p.SetSource(stagetest.Source{})
	s := step(nil)
	err = p.UseStep(t.Context(), pipeline.NewRegistry(s.Info), "upscale", pipeline.Step{ID: "upscale", Device: pipeline.GPU}, values{"model": saved(t, testnet.Compact(2, 4, 1))})
	if err == nil || !strings.Contains(err.Error(), "reading how much memory sim:0 has") || !strings.Contains(err.Error(), "it does not answer") {
		t.Errorf("the error is %v", err)
	}
}
