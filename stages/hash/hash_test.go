package hash_test

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/hash"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func by(kinds ...string) stagetest.Step {
	return stagetest.Step{Info: hash.Info(), Values: map[string]any{"by": kinds}}
}

func boats(t testing.TB) *image.RGBA {
	t.Helper()
	f, err := os.Open("../internal/phash/testdata/boats.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewRGBA(img.Bounds())
	draw.Draw(out, out.Rect, img, image.Point{}, draw.Src)
	return out
}

// ofBoats are the attributes of boats.png, recorded from pdqhash and imagededup.
var ofBoats = map[string]string{
	"pdq":         "450f5b83bc9186f176923cce866f7f47584667633b2388716f31731b80d88cdc",
	"pdq_quality": "100",
	"phash":       "d49d0d6c4ec76267",
	"dhash":       "e4f4fce0a0a470f0",
}

func strs(attrs map[string]pipeline.Value) map[string]string {
	out := map[string]string{}
	for name, v := range attrs {
		out[name] = v.String()
	}
	return out
}

func TestAttributes(t *testing.T) {
	types := map[string]pipeline.Type{"pdq": pipeline.TypeHash, "pdq_quality": pipeline.TypeInt, "phash": pipeline.TypeHash, "dhash": pipeline.TypeHash}
	tests := map[string]struct {
		values map[string]any
		want   []string
	}{
		"default":  {nil, []string{"pdq", "pdq_quality"}},
		"one text": {map[string]any{"by": "dhash"}, []string{"dhash"}},
		"two":      {map[string]any{"by": []string{"phash", "pdq"}}, []string{"pdq", "pdq_quality", "phash"}},
		"all":      {map[string]any{"by": []string{"pdq", "phash", "dhash"}}, []string{"dhash", "pdq", "pdq_quality", "phash"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			step := stagetest.Step{Info: hash.Info(), Values: tt.values}
			_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", boats(t))}, step).Run(t, pipeline.RunOptions{})
			got := seen["p"].Attributes
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, tt.want) {
				t.Fatalf("attributes %v, want %v", names, tt.want)
			}
			for name, v := range got {
				if v.Type() != types[name] || v.String() != ofBoats[name] {
					t.Errorf("%s is the %v %v, want the %v %s", name, v.Type(), v, types[name], ofBoats[name])
				}
			}
		})
	}
}

// Decoded at a smaller scale, photographs have nearly the same hashes, and parts of
// them, which are decoded in full, the same.
func TestFastDecoding(t *testing.T) {
	var files stagetest.Source
	for _, name := range []string{"facade.jpg", "hills.jpg"} {
		files = append(files, pipeline.Input{Name: name, Path: filepath.Join("../../testdata/photos", name)})
	}
	hashes := func(decode string, before ...stagetest.Step) map[string]stagetest.Seen {
		step := stagetest.Step{Info: hash.Info(), Values: map[string]any{"by": []string{"pdq", "phash", "dhash"}, "decode": decode}}
		_, seen := stagetest.New(t, files, append(before, step)...).Run(t, pipeline.RunOptions{})
		return seen
	}
	exact, fast := hashes("exact"), hashes("fast")
	apart := map[string]int{}
	for id, seen := range exact {
		for name, most := range map[string]int{"pdq": 12, "phash": 4, "dhash": 4} {
			d := 0
			for i, b := range seen.Attributes[name].Hash() {
				d += bits.OnesCount8(b ^ fast[id].Attributes[name].Hash()[i])
			}
			if d > most {
				t.Errorf("%s: %s is %d bits from the exact one", id, name, d)
			}
			apart[name] += d
		}
	}
	if apart["pdq"] == 0 {
		t.Error("fast is as exact as exact")
	}
	cut := stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 900}}
	exact, fast = hashes("exact", cut), hashes("fast", cut)
	if len(exact) != 3 {
		t.Fatalf("tiles %v", stagetest.IDs(exact))
	}
	for id, seen := range exact {
		if got, want := strs(fast[id].Attributes), strs(seen.Attributes); !maps.Equal(got, want) {
			t.Errorf("the tile %s has %v, want %v", id, got, want)
		}
	}
}

func TestFlatImagesPassWithoutAVerdict(t *testing.T) {
	flat := image.NewGray(image.Rect(0, 0, 64, 64))
	s, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", flat)}, by("pdq")).Run(t, pipeline.RunOptions{})
	if q, ok := seen["p"].Attributes["pdq_quality"]; !ok || q.Int() != 0 || s.Out != 1 {
		t.Errorf("quality %v, %d images at the end", q, s.Out)
	}
}

func TestTilesAreHashedByThemselves(t *testing.T) {
	img := boats(t)
	wide := image.NewRGBA(image.Rect(0, 0, 80, 100))
	draw.Draw(wide, wide.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(wide, img.Rect, img, image.Point{}, draw.Src)
	cut := stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 40}}
	_, tiles := stagetest.New(t, stagetest.Source{stagetest.Picture("p", wide)}, cut, by("pdq", "phash", "dhash")).Run(t, pipeline.RunOptions{})
	if len(tiles) != 4 {
		t.Fatalf("tiles %v", stagetest.IDs(tiles))
	}
	part := image.NewRGBA(image.Rect(0, 0, 40, 40))
	draw.Draw(part, part.Rect, wide, image.Pt(40, 40), draw.Src)
	_, whole := stagetest.New(t, stagetest.Source{stagetest.Picture("part", part)}, by("pdq", "phash", "dhash")).Run(t, pipeline.RunOptions{})
	if got, want := strs(tiles["p@tile=40,40,40"].Attributes), strs(whole["part"].Attributes); !maps.Equal(got, want) {
		t.Errorf("the tile has %v, the same picture %v", got, want)
	}
}

func TestResultsAreCached(t *testing.T) {
	dir := t.TempDir()
	for run, cached := range []int64{0, 1} {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", boats(t))}, by("pdq", "phash", "dhash"))
		s, seen := b.Run(t, pipeline.RunOptions{StateDir: dir})
		if got := strs(seen["p"].Attributes); s.Cached != cached || !maps.Equal(got, ofBoats) {
			t.Errorf("run %d: %d from the cache, want %d; attributes %v", run, s.Cached, cached, got)
		}
	}
}

func TestPictureThatCannotBeDecoded(t *testing.T) {
	data, err := os.ReadFile("../internal/phash/testdata/boats.png")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "half.png")
	if err := os.WriteFile(file, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s, seen := stagetest.New(t, stagetest.Source{{Name: "half.png", Path: file}, stagetest.Picture("whole", boats(t))}, by("pdq")).Run(t, pipeline.RunOptions{})
	if s.Quarantined != 1 || !slices.Equal(stagetest.IDs(seen), []string{"whole"}) || !strings.HasPrefix(s.Failed[0].Cause, "hashing: decoding") {
		t.Errorf("seen %v, failed %v", stagetest.IDs(seen), s.Failed)
	}
}

func TestCost(t *testing.T) {
	cost := func(kinds ...string) (planned, small int64) {
		one, plan := stagetest.Cost(t, by(kinds...), stagetest.Picture("p", boats(t)))
		return plan.Work, one.Work
	}
	pdq, pdqSmall := cost("pdq")
	both, bothSmall := cost("pdq", "dhash")
	if pdqSmall <= 0 || pdq <= pdqSmall || both <= pdq || bothSmall <= 0 || both <= bothSmall {
		t.Errorf("PDQ costs %d and %d bytes, with dHash %d and %d", pdq, pdqSmall, both, bothSmall)
	}
}

// TestCostFollowsThePixels hashes pictures of one size, of 1 and of 8 bytes a
// pixel: the deep one may need a copy without alpha.
func TestCostFollowsThePixels(t *testing.T) {
	r := image.Rect(0, 0, 1000, 1000)
	for name, tt := range map[string]struct {
		img         image.Image
		least, most int64
	}{
		"gray": {image.NewGray(r), 1, 1 << 20}, "deep": {image.NewNRGBA64(r), 8e6, 9e6},
	} {
		cost, _ := stagetest.Cost(t, by("dhash"), stagetest.Picture(name, tt.img))
		work := cost.Work
		if work < tt.least || work > tt.most {
			t.Errorf("%s: work %d bytes, want %d to %d", name, work, tt.least, tt.most)
		}
	}
}

func TestWrongConfigurations(t *testing.T) {
	tests := map[string]struct {
		values map[string]any
		want   string
	}{
		"empty":   {map[string]any{"by": []string{}}, "at least one"},
		"unknown": {map[string]any{"by": "phsh"}, `did you mean "phash"?`},
		"twice":   {map[string]any{"by": []string{"pdq", "pdq"}}, "named twice"},
	}
	for name, tt := range tests {
		err := stagetest.Err(t, stagetest.Step{Info: hash.Info(), Values: tt.values})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}
