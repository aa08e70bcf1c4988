package score_test

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/filter"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/score"
)

type values = map[string]any

// scorer saves a network that gives the "means" of the channels of a picture and their
// mean "level". Its pictures have that size, or any for 0, and that many channels.
func scorer(t *testing.T, size, channels int) string {
	t.Helper()
	g := onnx.NewGraph("scorer")
	height, width := size, size
	if size == 0 {
		height, width = g.Dim("height"), g.Dim("width")
	}
	x := g.Input("input", onnx.Float32, g.Dim("batch"), channels, height, width)
	means := g.ReduceMean(x, false, 2, 3)
	g.Output("means", means)
	g.Output("level", g.ReduceMean(means, true, 1))
	return saved(t, "my-scorer.2.onnx", g)
}

func saved(t *testing.T, name string, g *onnx.Graph) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// with is a score with a network and these fields. The samples are those of the picture.
func with(path string, more values) stagetest.Step {
	v := values{"model": path, "range": "0..255"}
	for k, x := range more {
		v[k] = x
	}
	return stagetest.Step{Info: score.Info(), Values: v}
}

// pattern is a picture in which no two pieces are alike. It is what the numbers of
// TestRegions were computed of, with Pillow.
func pattern(w, h int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{uint8((7*x + 13*y) % 256), uint8((x*x*y + 31*x + 7*y*y) % 251), uint8((5*x + 11*y*y) % 256), uint8(128 + x*y%128)})
		}
	}
	return img
}

func scored(t *testing.T, s stagetest.Step, img image.Image) map[string]pipeline.Value {
	t.Helper()
	sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, s).Run(t, pipeline.RunOptions{})
	if len(seen) != 1 {
		t.Fatal(sum.Failed)
	}
	return seen["p"].Attributes
}

func TestWholePictures(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := 0; i < len(img.Pix); i += 4 {
		copy(img.Pix[i:], []uint8{51, 102, 204, 255})
	}
	path := scorer(t, 0, 3)
	odds := math.Exp(-153) + math.Exp(-102) + 1
	for name, tt := range map[string]struct {
		fields values
		attr   string
		want   float64
	}{
		"a name":             {values{"output": "level", "name": "quality"}, "quality", 119},
		"the file's name":    {values{"output": "level"}, "my_scorer_2", 119},
		"one of several":     {values{"output": "means[1]", "name": "q"}, "q", 102},
		"of classes":         {values{"output": "softmax(means)[1]", "name": "q"}, "q", math.Exp(-102) / odds},
		"the largest":        {values{"output": "argmax(means)", "name": "q"}, "q", 2},
		"prepared":           {values{"output": "means[2]", "name": "q", "mean": "4", "std": "100", "width": 8, "height": 8}, "q", 2},
		"scaled in decoding": {values{"output": "level", "name": "q", "decode": "fast", "width": 4, "height": 4}, "q", 119},
	} {
		t.Run(name, func(t *testing.T) {
			s := with(path, tt.fields)
			got := scored(t, s, img)
			if v := got[tt.attr]; len(got) != 1 || !(math.Abs(v.Float()-tt.want) <= 1e-4*tt.want) {
				t.Errorf("%v, want %s = %v", got, tt.attr, tt.want)
			}
			c, err := pipeline.NewConfig(s.Info, s.Values)
			if err != nil {
				t.Fatal(err)
			}
			if made := s.Info.Makes(c); len(made) != 1 || made[0].Name != tt.attr || made[0].Type != got[tt.attr].Type() {
				t.Errorf("declared is %+v", made)
			}
		})
	}
}

// Pieces lie where they should, and are what Pillow's convert, resize and crop make. The
// wanted means of green were computed with Pillow 13.
func TestRegions(t *testing.T) {
	net := scorer(t, 16, 3)
	for name, tt := range map[string]struct {
		w, h   int
		fields values
		want   float64
	}{
		"crops":                  {37, 23, values{"regions": "crops", "grid": 3}, 123.69748263888889},
		"the least of crops":     {37, 23, values{"regions": "crops", "grid": 3, "combine": "min"}, 111.703125},
		"the largest of crops":   {37, 23, values{"regions": "crops", "grid": 3, "combine": "max"}, 130.828125},
		"the median of crops":    {37, 23, values{"regions": "crops", "grid": 3, "combine": "median"}, 127.2578125},
		"the median of an even":  {37, 23, values{"regions": "crops", "grid": 2, "combine": "median"}, 122.779296875},
		"one crop":               {37, 23, values{"regions": "crops", "grid": 1}, 125.88671875},
		"of a piece's size":      {16, 16, values{"regions": "crops", "grid": 3}, 115.95703125},
		"of a piece's width":     {16, 29, values{"regions": "crops", "grid": 3}, 113.72135416666667},
		"a small picture":        {10, 7, values{"regions": "crops", "grid": 3}, 122.82552083333333},
		"a small one, otherwise": {10, 7, values{"regions": "crops", "grid": 3, "filter": "lanczos"}, 122.7421875},
		"a narrow picture":       {5, 90, values{"regions": "crops", "grid": 3}, 122.55078125},
		"tiles":                  {50, 37, values{"regions": "tiles"}, 126.078125},
		"the largest of tiles":   {50, 37, values{"regions": "tiles", "combine": "max"}, 132.609375},
		"a tile":                 {10, 7, values{"regions": "tiles"}, 114.765625},
		"a pixel":                {1, 1, values{"regions": "tiles"}, 0},
		"HyperIQA":               {37, 23, values{"preset": "hyperiqa", "width": 16, "height": 16, "mean": "0", "std": "1"}, 123.020625},
		"HyperIQA, exact":        {16, 16, values{"preset": "hyperiqa", "width": 16, "height": 16, "mean": "0", "std": "1"}, 114.703125},
		"HyperIQA, small":        {10, 7, values{"preset": "hyperiqa", "width": 16, "height": 16, "mean": "0", "std": "1"}, 121.725},
	} {
		t.Run(name, func(t *testing.T) {
			tt.fields["output"], tt.fields["name"] = "means[1]", "green"
			if got := scored(t, with(net, tt.fields), pattern(tt.w, tt.h))["green"].Float(); !(math.Abs(got-tt.want) <= 1e-4) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	gray := with(scorer(t, 16, 1), values{"regions": "crops", "grid": 3, "filter": "bilinear", "output": "level", "name": "gray"})
	if got := scored(t, gray, pattern(10, 7))["gray"].Float(); !(math.Abs(got-103.42578125) <= 1e-4) {
		t.Errorf("of a network for gray pictures: %v", got)
	}
	any := with(scorer(t, 0, 3), values{"regions": "crops", "grid": 3, "output": "means[1]", "name": "green", "width": 16, "height": 16})
	if got := scored(t, any, pattern(37, 23))["green"].Float(); !(math.Abs(got-123.69748263888889) <= 1e-4) {
		t.Errorf("of a network for any size: %v", got)
	}
}

// HyperIQA's own size is that of its crops.
func TestHyperIQA(t *testing.T) {
	for _, size := range []int{224, 0} {
		s := with(scorer(t, size, 3), values{"preset": "hyperiqa", "output": "level", "name": "q"})
		white := image.NewGray(image.Rect(0, 0, 300, 230))
		for i := range white.Pix {
			white.Pix[i] = 255
		}
		// The range of the preset is 0..1, and the mean and std are ImageNet's.
		delete(s.Values, "range")
		want := ((1-.485)/.229 + (1-.456)/.224 + (1-.406)/.225) / 3
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", white)}, s)
		sum, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
		if got := seen["p"].Attributes["q"].Float(); !(math.Abs(got-want) <= 1e-4) {
			t.Errorf("%v, want %v", got, want)
		}
		if n := sum.Governed[0].Items; n != 25 {
			t.Errorf("%d crops were taken", n)
		}
	}
}

// Crops of several pictures go through the network together, and each picture gets the
// score of its own.
func TestPiecesShareBatches(t *testing.T) {
	var src stagetest.Source
	for i := range 40 {
		flat := image.NewGray(image.Rect(0, 0, 17+i%3, 16+i%5))
		for p := range flat.Pix {
			flat.Pix[p] = uint8(3 * i)
		}
		src = append(src, stagetest.Picture(fmt.Sprint(i), flat))
	}
	s := with(scorer(t, 16, 3), values{"regions": "crops", "grid": 2, "output": "level", "name": "q", "infer_batch": 16})
	sum, seen := stagetest.New(t, src, s).Run(t, pipeline.RunOptions{NoStore: true})
	for i := range 40 {
		if got := seen[fmt.Sprint(i)].Attributes["q"].Float(); !(math.Abs(got-float64(3*i)) <= 1e-3) {
			t.Errorf("picture %d has the score %v", i, got)
		}
	}
	var runs, items int64
	for _, a := range sum.Governed {
		runs, items = runs+a.Runs, items+a.Items
	}
	// A side of a piece's length has one piece: eight pictures have two and the others four.
	if items != 8*2+32*4 || runs > items/8 {
		t.Errorf("%d pieces took %d runs", items, runs)
	}
}

func TestScoresFailAlone(t *testing.T) {
	torn := pipeline.Input{Name: "torn.png", Path: filepath.Join(t.TempDir(), "torn.png")}
	if err := stagetest.WritePicture(torn.Path, image.Pt(99, 99)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(torn.Path, 60); err != nil {
		t.Fatal(err)
	}
	long := stagetest.Picture("long", image.NewGray(image.Rect(0, 0, 1, 1000)))
	src := stagetest.Source{stagetest.Picture("a", pattern(20, 20)), torn, long}
	nan := saved(t, "nan.onnx", testnet.NaN())
	pieces := values{"regions": "crops", "width": 16, "height": 16, "output": "means[0]", "name": "q"}
	for name, tt := range map[string]struct {
		step stagetest.Step
		fail int64
		want string
	}{
		"whole":       {with(scorer(t, 0, 3), values{"output": "level", "name": "q"}), 1, "scoring: "},
		"pieces":      {with(scorer(t, 16, 3), pieces), 2, "it has 1 x 1000 pixels, and would have 16 x 16000 for a piece of 16 x 16 to fit: more than the 100000 pixels that limits.pixels allows"},
		"whole, NaN":  {with(nan, values{"output": "output[0]", "name": "q"}), 3, "not finite"},
		"pieces, NaN": {with(nan, values{"output": "output[0]", "name": "q", "regions": "tiles", "width": 4, "height": 4}), 3, "not finite"},
	} {
		t.Run(name, func(t *testing.T) {
			b := stagetest.New(t, src)
			b.Limits = imageio.Limits{MaxPixels: 100_000, MaxFileBytes: 1 << 20}
			if err := b.Use(t.Context(), pipeline.NewRegistry(score.Info()), "score", "score", tt.step.Values); err != nil {
				t.Fatal(err)
			}
			sum, seen := b.Run(t, pipeline.RunOptions{})
			if sum.Quarantined != tt.fail || len(seen) != 3-int(tt.fail) {
				t.Errorf("%d failed and %d arrived", sum.Quarantined, len(seen))
			}
			if text := fmt.Sprint(sum.Failed); !strings.Contains(text, tt.want) {
				t.Errorf("failed with %s, want %q", text, tt.want)
			}
		})
	}
}

// A second run asks no network.
func TestScoresAreCached(t *testing.T) {
	state := t.TempDir()
	path := scorer(t, 16, 3)
	for i, cached := range []int64{0, 2} {
		s := with(path, values{"regions": "tiles", "output": "level", "name": "q", "threads": i + 1})
		sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("a", pattern(20, 20)), stagetest.Picture("b", pattern(40, 40))}, s).
			Run(t, pipeline.RunOptions{StateDir: state})
		if len(seen) != 2 || sum.Cached != cached || (len(sum.Governed) == 0) != (i == 1) {
			t.Errorf("run %d took %d of the cache, and ran %+v", i, sum.Cached, sum.Governed)
		}
	}
}

// Calls of a network wait for others, so one more begins than there are cores; those that
// measure pixels do not.
func TestWorkers(t *testing.T) {
	b := stagetest.New(t, stagetest.Source{}, with(scorer(t, 0, 3), values{"output": "level"}), laplacian)
	plan, err := b.Plan(pipeline.RunOptions{NoStore: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.Phases[0]; got[0].Workers != runtime.GOMAXPROCS(0)+1 || got[1].Workers != runtime.GOMAXPROCS(0) {
		t.Errorf("%d and %d workers begin", got[0].Workers, got[1].Workers)
	}
}

// The parts count, and pictures that are made larger for them.
func TestCostOfPieces(t *testing.T) {
	path := scorer(t, 64, 3)
	cost := func(fields values, w, h int) pipeline.Cost {
		fields["output"] = "level"
		c, _ := stagetest.Cost(t, with(path, fields), stagetest.Picture("p", image.NewGray(image.Rect(0, 0, w, h))))
		return c
	}
	fits := cost(values{"regions": "crops", "infer_batch": 2}, 200, 100)
	if fits.Work != 2*(3*4*64*64+2*4) {
		t.Errorf("two pieces take %d bytes", fits.Work)
	}
	if small := cost(values{"regions": "crops", "infer_batch": 2}, 20, 10); small.Work < fits.Work+4*128*64 {
		t.Errorf("with a picture that becomes 128 x 64 they take %d bytes", small.Work)
	}
	if more := cost(values{"regions": "crops", "infer_batch": 6}, 200, 100); more.Work != 3*fits.Work {
		t.Errorf("six pieces take %d bytes", more.Work)
	}
}

// What is wrong is found before a run, with its place; the mark ^ is not in the file.
func TestLintOfModels(t *testing.T) {
	t.Chdir(t.TempDir())
	for from, to := range map[string]string{scorer(t, 16, 3): "sized.onnx", scorer(t, 0, 3): "any.onnx"} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("photos", 0o777); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ fields, want string }{
		"neither":            {`{}`, `metrics: say what to measure: name at least one metric, or a model`},
		"both":               {`{metrics: laplacian, model: ^any.onnx, output: level}`, `model: metrics and model are two ways to score: give each an entry of its own`},
		"a field of models":  {`{metrics: laplacian, regions: ^crops}`, `regions: it is for a network: name its file with model, or leave regions out`},
		"no file":            {`{model: ^none.onnx}`, `model: reading an ONNX model: stat none.onnx`},
		"which output":       {`{model: any.onnx}`, `output: the network has several outputs, so name the one that is meant: means (batch x 3), level (batch x 1)`},
		"an unknown output":  {`{model: any.onnx, output: ^quality}`, `output: the network has no output "quality"`},
		"several numbers":    {`{model: any.onnx, output: ^means}`, `output: the output means has 3 numbers for a picture, of which one is wanted`},
		"no such place":      {`{model: any.onnx, output: "^means[3]"}`, `output: the output means has 3 numbers for a picture, counted from 0`},
		"an odd name":        {`{model: any.onnx, output: level, name: ^a b}`, `name: an attribute cannot be called "a b": use letters, digits and _`},
		"a builtin":          {`{model: any.onnx, output: level, name: ^pixels}`, `name: every item has the attribute pixels: give this one another name`},
		"a grid of a whole":  {`{model: any.onnx, output: level, grid: ^3}`, `grid: it is for crops or tiles: set regions, or leave grid out`},
		"combined wholes":    {`{model: any.onnx, output: level, regions: whole, combine: ^min}`, `combine: it is for crops or tiles`},
		"a grid of tiles":    {`{model: sized.onnx, output: level, regions: tiles, grid: ^3}`, `grid: as many tiles are taken as there are`},
		"places of pieces":   {`{model: sized.onnx, output: ^argmax(means), regions: tiles}`, `output: each of several pieces has an argmax of its own: set regions: whole, or take a number that can be combined, as softmax(means)[0]`},
		"places of crops":    {`{model: sized.onnx, output: ^argmax(means), preset: hyperiqa, width: 16, height: 16}`, `output: each of several pieces has an argmax of its own`},
		"pieces of any size": {`{model: any.onnx, output: level, regions: ^crops}`, `regions: the network takes pictures of any size: say with width and height how large the pieces are`},
		"resized pieces":     {`{model: sized.onnx, output: level, regions: crops, resize: ^squash}`, `resize: crops are taken as they are: leave resize out`},
		"pieces, fast":       {`{model: sized.onnx, output: level, regions: tiles, decode: ^fast}`, `decode: tiles are taken from the picture at its full scale: leave decode out`},
		"another size":       {`{model: ^sized.onnx, output: level, regions: crops, width: 8, height: 8}`, `model: using the model sized.onnx: its input input takes pictures of one size (batch x 3 x 16 x 16)`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := linted(t, tt.fields, ""); !strings.HasPrefix(got, want+"stage score: "+tt.want) {
				t.Errorf("lint says\n%s\nwant\n%sstage score: %s", got, want, tt.want)
			}
		})
	}
	// A filter behind it knows the attribute, and its type.
	if got, _ := linted(t, "{model: any.onnx, output: level, name: quality}", "quality > 0.5"); got != "" {
		t.Error(got)
	}
	if got, _ := linted(t, "{model: any.onnx, output: level, name: quality}", "qualty > 0.5"); !strings.Contains(got, `no stage before this one makes the attribute "qualty"; did you mean "quality"?`) {
		t.Error(got)
	}
	if got, _ := linted(t, "{model: any.onnx, output: level, name: quality}", "quality == 'good'"); !strings.Contains(got, "mismatched types float64 and string") {
		t.Error(got)
	}
}

// linted is what lint says of a score with these fields and a filter behind it, and how a
// message begins that is about the place of the mark.
func linted(t *testing.T, fields, keep string) (got, place string) {
	t.Helper()
	line := "  - score: " + fields
	col := strings.Index(line, "^") + 1
	if col == 0 {
		col = strings.Index(line, "score") + 1
	}
	place = fmt.Sprintf("p.yaml:3:%d: ", col)
	if strings.Contains(fields, `"^`) {
		place = fmt.Sprintf("p.yaml:3:%d: ", col-1) // a text begins with its quote
	}
	file := "source: {images: {path: photos}}\nstages:\n" + strings.Replace(line, "^", "", 1) + "\n"
	if keep != "" {
		file += fmt.Sprintf("  - filter: {keep: %q}\n", keep)
	}
	_, err := pipeline.Load(t.Context(), "p.yaml", []byte(file), pipeline.Options{Registry: pipeline.NewRegistry(images.Info(), score.Info(), filter.Info())})
	var spec *pipeline.SpecError
	switch {
	case err == nil:
		return "", place
	case !errors.As(err, &spec) || len(spec.Problems) != 1:
		t.Fatalf("lint says %v", err)
	}
	return spec.Problems[0].String(), place
}
