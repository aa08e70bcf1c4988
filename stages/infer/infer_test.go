package infer_test

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/infer"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/score"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

// saved writes a network to a file of that name.
func saved(t *testing.T, name string, g *onnx.Graph) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// several is a network without weights, of which everything can be computed by hand. Of
// pictures in 0..1 of any size it gives their "means" by channel, their "level", the
// means "loud", a million times as large, the "negative", its mean "gray", and the
// picture "twice" as large.
func several(t *testing.T) string {
	t.Helper()
	g := onnx.NewGraph("several")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	means := g.ReduceMean(x, false, 2, 3)
	g.Output("means", means)
	g.Output("level", g.ReduceMean(x, true, 1, 2, 3))
	g.Output("loud", g.Mul(means, g.Scalar(onnx.Float32, 1e6)))
	negative := g.Sub(g.Scalar(onnx.Float32, 1), x)
	g.Output("negative", negative)
	g.Output("gray", g.ReduceMean(negative, true, 1))
	g.Output("twice", g.Resize(x, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 1, 2, 2}}))
	g.Output("mean:0", g.ReduceMean(x, false, 1, 2, 3))
	return saved(t, "several.onnx", g)
}

// step is an infer with these fields; "model" is the network's path.
func step(path string, more values) stagetest.Step {
	v := values{"model": path}
	for k, x := range more {
		v[k] = x
	}
	return stagetest.Step{Info: infer.Info(), Values: v}
}

// flat is a picture of one colour: 0.2, 0.4 and 0.8.
func flat() image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := 0; i < len(img.Pix); i += 4 {
		copy(img.Pix[i:], []uint8{51, 102, 204, 255})
	}
	return img
}

func run(t *testing.T, s stagetest.Step, src ...pipeline.Input) (map[string]stagetest.Seen, *pipeline.Summary) {
	t.Helper()
	sum, seen := stagetest.New(t, stagetest.Source(src), s).Run(t, pipeline.RunOptions{})
	return seen, sum
}

func TestNumbers(t *testing.T) {
	path := several(t)
	odds := math.Exp(.2) + math.Exp(.4) + math.Exp(.8)
	tests := []struct {
		text, name string
		want       float64
	}{
		{"level", "level", 1.4 / 3},
		{"a = level", "a", 1.4 / 3},
		{"b = level[0]", "b", 1.4 / 3},
		{"c=means[0]", "c", .2},
		{"d = means[2]", "d", .8},
		{" e  =  softmax( means ) [ 1 ] ", "e", math.Exp(.4) / odds},
		{"f = softmax(loud)[2]", "f", 1}, // the powers themselves are infinite
		{"g = argmax(means)", "g", 2},
		{"h = mean(means)", "h", 1.4 / 3},
		{"i = min(negative)", "i", .2},
		{"j = max(negative)", "j", .8},
		{"k = mean:0", "k", 1.4 / 3},
	}
	var texts []string
	for _, tt := range tests {
		texts = append(texts, tt.text)
	}
	s := step(path, values{"attributes": texts})
	seen, sum := run(t, s, stagetest.Picture("p", flat()))
	if len(seen) != 1 || len(seen["p"].Attributes) != len(tests) {
		t.Fatalf("%v, failed %v", seen, sum.Failed)
	}
	c, err := pipeline.NewConfig(s.Info, s.Values)
	if err != nil {
		t.Fatal(err)
	}
	made := infer.Info().Makes(c)
	for i, tt := range tests {
		v := seen["p"].Attributes[tt.name]
		if !(math.Abs(v.Float()-tt.want) <= 1e-6) {
			t.Errorf("%s is %v, want %v", tt.text, v, tt.want)
		}
		if whole := strings.Contains(tt.text, "argmax"); (v.Type() == pipeline.TypeInt) != whole {
			t.Errorf("%s is a %v", tt.text, v.Type())
		}
		if made[i].Name != tt.name || made[i].Type != v.Type() {
			t.Errorf("%s is declared as %+v", tt.text, made[i])
		}
	}
}

// A network of one output lends it to whatever name is given.
func TestTheOnlyOutputNeedsNoName(t *testing.T) {
	path := saved(t, "means.onnx", testnet.Hog(12)) // its output is called "output"
	seen, sum := run(t, step(path, values{"vectors": "colour", "attributes": []string{"blue = output[2]"}}), stagetest.Picture("p", flat()))
	it := seen["p"]
	if len(it.Vectors) != 1 || it.Vectors[0].Name != "colour" || !(math.Abs(it.Attributes["blue"].Float()-.8) <= 1e-6) {
		t.Errorf("%+v, failed %v", it, sum.Failed)
	}
}

// Vectors are what the network gives, in the order of the pipeline and not of the file,
// and not of length 1.
func TestVectors(t *testing.T) {
	path := several(t)
	seen, _ := run(t, step(path, values{"vectors": []string{"big = loud", "means", "one = level"}, "attributes": "level"}), stagetest.Picture("p", flat()))
	it := seen["p"]
	want := []struct {
		name string
		data []float64
	}{{"big", []float64{2e5, 4e5, 8e5}}, {"means", []float64{.2, .4, .8}}, {"one", []float64{1.4 / 3}}}
	if len(it.Vectors) != len(want) || !(math.Abs(it.Attributes["level"].Float()-1.4/3) <= 1e-6) {
		t.Fatalf("%+v", it)
	}
	for i, w := range want {
		v := it.Vectors[i]
		if v.Name != w.name || v.Half || len(v.Model) != 64 || v.Dim() != len(w.data) {
			t.Errorf("%+v, want %+v", v, w)
			continue
		}
		for j, x := range v.Data {
			if !(math.Abs(float64(x)/w.data[j]-1) <= 1e-5) {
				t.Errorf("%s[%d] is %v, want %v", v.Name, j, x, w.data[j])
			}
		}
	}

	// What float16 rounds is a value of it, and what it cannot hold fails.
	seen, _ = run(t, step(path, values{"vectors": "means", "dtype": "float16"}), stagetest.Picture("p", flat()))
	if v := seen["p"].Vectors[0]; !v.Half || v.Data[0] != 0.199951171875 {
		t.Errorf("as float16: %+v", v)
	}
	_, sum := run(t, step(path, values{"vectors": "loud", "dtype": "float16"}), stagetest.Picture("p", flat()))
	if text := fmt.Sprint(sum.Failed); !strings.Contains(text, "float16 holds no more than 65504: store the vector as float32") {
		t.Errorf("failed with %s", text)
	}
}

// look is the picture that comes out, with what comes of every pixel of what went in.
// Samples may be off by so many levels, for what lies between two.
func look(t *testing.T, got image.Image, in image.Image, times, off int, what func(r, g, b uint8) (uint8, uint8, uint8)) {
	t.Helper()
	size := in.Bounds().Size()
	if got == nil || got.Bounds().Size() != size.Mul(times) {
		t.Fatalf("the picture is %v, want %v times %d", got, size, times)
	}
	for y := range size.Y * times {
		for x := range size.X * times {
			p := color.NRGBA64Model.Convert(in.At(x/times, y/times)).(color.NRGBA64)
			narrow := func(v uint16) uint8 { return uint8(math.Round(float64(v) / 257)) }
			r, g, b := what(narrow(p.R), narrow(p.G), narrow(p.B))
			q := color.NRGBAModel.Convert(got.At(got.Bounds().Min.X+x, got.Bounds().Min.Y+y)).(color.NRGBA)
			if far(q.R, r) > off || far(q.G, g) > off || far(q.B, b) > off || q.A != 255 {
				t.Fatalf("at %d, %d: %v, want %v", x, y, q, [3]uint8{r, g, b})
			}
		}
	}
}

func far(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }

func TestImage(t *testing.T) {
	path := several(t)
	odd := image.Rect(0, 0, 13, 7)
	gray16 := stagetest.Noise(image.NewGray16(odd))
	alpha := stagetest.Noise(image.NewNRGBA(odd))
	same := func(r, g, b uint8) (uint8, uint8, uint8) { return r, g, b }
	negative := func(r, g, b uint8) (uint8, uint8, uint8) { return 255 - r, 255 - g, 255 - b }
	// The network gives 1 - x, and x is -1..1: what comes out is -v, and 1 more.
	shifted := func(v uint8) uint8 { return uint8(min(max(127.5*(1-(float64(v)/127.5-1))+127.5, 0), 255) + .5) }
	for name, tt := range map[string]struct {
		in     image.Image
		fields values
		times  int
		off    int
		want   func(r, g, b uint8) (uint8, uint8, uint8)
		gray   bool
	}{
		"negative":            {flat(), values{"image": "negative"}, 1, 0, negative, false},
		"alpha is dropped":    {alpha, values{"image": "negative"}, 1, 0, negative, false},
		"gray of 16 bits":     {gray16, values{"image": "negative"}, 1, 0, negative, false},
		"a border":            {alpha, values{"image": "negative", "multiple": 8}, 1, 0, negative, false},
		"larger":              {alpha, values{"image": "twice"}, 2, 0, same, false},
		"larger and a border": {alpha, values{"image": "twice", "multiple": 8}, 2, 0, same, false},
		"one channel": {flat(), values{"image": "gray"}, 1, 0, func(r, g, b uint8) (uint8, uint8, uint8) {
			v := uint8(math.Round(255 - (float64(r)+float64(g)+float64(b))/3))
			return v, v, v
		}, true},
		"as it went in": {alpha, values{"image": "twice", "mean": "0.3", "std": []string{"0.1", "0.2", "0.4"}, "range": "-1..1"}, 2, 0, same, false},
		"BGR":           {alpha, values{"image": "twice", "channels": "bgr"}, 2, 0, same, false},
		"-1..1":         {alpha, values{"image": "negative", "range": "-1..1"}, 1, 1, func(r, g, b uint8) (uint8, uint8, uint8) { return shifted(r), shifted(g), shifted(b) }, false},
		"another range": {alpha, values{"image": "twice", "mean": "0.25", "std": "0.5", "image_range": "0..1"}, 2, 1, func(r, g, b uint8) (uint8, uint8, uint8) {
			f := func(v uint8) uint8 { return uint8(min(max((float64(v)/255-.25)/.5, 0), 1)*255 + .5) }
			return f(r), f(g), f(b)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			seen, sum := run(t, step(path, tt.fields), stagetest.Picture("p", tt.in))
			if len(seen) != 1 {
				t.Fatal(sum.Failed)
			}
			look(t, seen["p"].Image, tt.in, tt.times, tt.off, tt.want)
			if _, gray := seen["p"].Image.(*image.Gray); gray != tt.gray {
				t.Errorf("it is a %T", seen["p"].Image)
			}
		})
	}
}

// A new picture takes the attributes of the old one away, and not those that come with
// it.
func TestImageAndAttributes(t *testing.T) {
	before := stagetest.Step{Info: score.Info(), Values: values{"metrics": []string{"entropy"}}}
	after := step(several(t), values{"image": "negative", "attributes": "level", "vectors": "means"})
	_, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("p", flat())}, before, after).Run(t, pipeline.RunOptions{})
	it := seen["p"]
	if len(it.Attributes) != 1 || !(math.Abs(it.Attributes["level"].Float()-1.4/3) <= 1e-6) || len(it.Vectors) != 1 {
		t.Errorf("%+v", it)
	}
}

// Pixels may come with their channels together, and as float16.
func TestImageOfPixels(t *testing.T) {
	g := onnx.NewGraph("pixels")
	x := g.Input("input", onnx.Float16, g.Dim("batch"), 7, 13, 3)
	g.Output("output", g.Sub(g.Scalar(onnx.Float16, 1), x))
	in := stagetest.Noise(image.NewNRGBA(image.Rect(0, 0, 13, 7)))
	seen, sum := run(t, step(saved(t, "pixels.onnx", g), values{"image": "output", "vectors": "all"}), stagetest.Picture("p", in))
	if len(seen) != 1 || seen["p"].Vectors[0].Dim() != 3*7*13 {
		t.Fatal(sum.Failed)
	}
	look(t, seen["p"].Image, in, 1, 0, func(r, g, b uint8) (uint8, uint8, uint8) { return 255 - r, 255 - g, 255 - b })
}

// What the sides must be multiples of is read from the file.
func TestMultiple(t *testing.T) {
	g := onnx.NewGraph("unshuffled")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	g.Output("output", g.DepthToSpace(g.PixelUnshuffle(x, 4), 4))
	in := stagetest.Noise(image.NewNRGBA(image.Rect(0, 0, 13, 7)))
	seen, sum := run(t, step(saved(t, "four.onnx", g), values{"image": "output"}), stagetest.Picture("p", in))
	if len(seen) != 1 {
		t.Fatal(sum.Failed)
	}
	look(t, seen["p"].Image, in, 1, 0, func(r, g, b uint8) (uint8, uint8, uint8) { return r, g, b })
}

func TestPairs(t *testing.T) {
	in, lq := stagetest.Picture("p", stagetest.Gray(16, 8)), stagetest.Picture("lq", stagetest.Gray(8, 4))
	in.LQ, in.Scale = &lq, 2
	path := several(t)
	seen, sum := run(t, step(path, values{"image": "negative"}), in)
	if !seen["p"].Paired {
		t.Errorf("failed %v", sum.Failed)
	}
	if _, sum = run(t, step(path, values{"image": "twice"}), in); sum.Quarantined != 1 {
		t.Error("a pair of which one picture was enlarged did not fail")
	}
}

// A network may give pictures of a size that its file does not tell.
func unknownScale(t *testing.T) string {
	g := onnx.NewGraph("unknown")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	// How often it is repeated is the product of two numbers that stand in the weights as
	// float32, so nobody follows it to the shape.
	n := g.Cast(g.Mul(g.Float32s("a", []float32{1, 1, 2, 3}, 4), g.Float32s("b", []float32{1, 1, 1, 1}, 4)), onnx.Int64)
	y := g.Node(onnx.Node{Op: "Tile", In: []*onnx.Value{x, n}, Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{g.Dim("batch"), 3, onnx.Dynamic, onnx.Dynamic}}}})
	g.Output("output", y[0])
	return saved(t, "unknown.onnx", g)
}

func TestScale(t *testing.T) {
	path := unknownScale(t)
	_, sum := run(t, step(path, values{"image": "output"}), stagetest.Picture("p", flat()))
	if text := fmt.Sprint(sum.Failed); !strings.Contains(text, "gives 60 x 20 pixels for 20 x 10, more than were planned for: set scale: 3") {
		t.Errorf("failed with %s", text)
	}
	seen, sum := run(t, step(path, values{"image": "output", "scale": 3}), stagetest.Picture("p", flat()))
	if got := seen["p"].Size; got != image.Pt(60, 20) {
		t.Errorf("%v, failed %v", got, sum.Failed)
	}
}

// Items of which nothing can be made fail, and no others.
func TestItemsFailAlone(t *testing.T) {
	torn := pipeline.Input{Name: "torn.png", Path: filepath.Join(t.TempDir(), "torn.png")}
	if err := stagetest.WritePicture(torn.Path, image.Pt(99, 99)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(torn.Path, 60); err != nil {
		t.Fatal(err)
	}
	src := []pipeline.Input{stagetest.Picture("a", flat()), stagetest.Picture("b", stagetest.Gray(9, 9)), torn}
	nan := saved(t, "nan.onnx", testnet.NaN())
	for name, tt := range map[string]struct {
		step stagetest.Step
		fail int64
		want string
	}{
		"a torn file": {step(several(t), values{"attributes": "level"}), 1, "running several.onnx: "},
		"a number":    {step(nan, values{"attributes": []string{"x = output[0]"}}), 3, "x: the network gives numbers that are not finite"},
		"a function":  {step(nan, values{"attributes": []string{"x = argmax(output)"}}), 3, "x: the network gives numbers that are not finite"},
		"a vector":    {step(nan, values{"vectors": "v"}), 3, "v: the network gives numbers that are not finite"},
		"a shape":     {step(several(t), values{"attributes": []string{"x = gray"}}), 3, "x: the output gray has 200 numbers for a picture"},
		"a place":     {step(several(t), values{"attributes": []string{"x = gray[150]"}}), 2, "x: the output gray has 81 numbers for a picture, counted from 0: there is no gray[150]"},
	} {
		t.Run(name, func(t *testing.T) {
			seen, sum := run(t, tt.step, src...)
			if sum.Quarantined != tt.fail || len(seen) != 3-int(tt.fail) {
				t.Errorf("%d failed and %d arrived", sum.Quarantined, len(seen))
			}
			if text := fmt.Sprint(sum.Failed); !strings.Contains(text, tt.want) {
				t.Errorf("failed with %s, want %q", text, tt.want)
			}
		})
	}
}

// A second run asks no network, also when it wants the picture of the first one.
func TestResultsAreCached(t *testing.T) {
	state := t.TempDir()
	path := several(t)
	for i, cached := range []int64{0, 2} {
		s := step(path, values{"attributes": "level", "vectors": "means", "image": "negative"})
		sum, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("a", flat()), stagetest.Picture("b", stagetest.Gray(9, 9))}, s).
			Run(t, pipeline.RunOptions{StateDir: state})
		it := seen["a"]
		if sum.Cached != cached || !(math.Abs(it.Attributes["level"].Float()-1.4/3) <= 1e-6) || len(it.Vectors) != 1 {
			t.Errorf("run %d took %d of the cache: %+v", i, sum.Cached, it)
		}
		look(t, it.Image, flat(), 1, 0, func(r, g, b uint8) (uint8, uint8, uint8) { return 255 - r, 255 - g, 255 - b })
	}
}

// What takes part in a picture that is made counts.
func TestCost(t *testing.T) {
	path := several(t)
	in := stagetest.Picture("p", image.NewGray(image.Rect(0, 0, 100, 50)))
	numbers, _ := stagetest.Cost(t, step(path, values{"attributes": "level"}), in)
	same, _ := stagetest.Cost(t, step(path, values{"image": "negative"}), in)
	large, _ := stagetest.Cost(t, step(path, values{"image": "twice"}), in)
	if numbers.Output != 0 || same.Output != 4*100*50 || large.Output != 4*200*100 {
		t.Errorf("new pixels: %d, %d and %d bytes", numbers.Output, same.Output, large.Output)
	}
	if numbers.Work >= same.Work || same.Work >= large.Work {
		t.Errorf("a call works with %d, %d and %d bytes", numbers.Work, same.Work, large.Work)
	}
}

// Everything that the file of the network tells is found before a run, with its place.
func TestLint(t *testing.T) {
	t.Chdir(t.TempDir())
	for from, to := range map[string]string{several(t): "several.onnx", saved(t, "n", testnet.NoImage()): "words.onnx", saved(t, "h", testnet.Hog(12)): "one.onnx"} {
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
	const outputs = "means (batch x 3), level (batch x 1 x 1 x 1), loud (batch x 3), negative (batch x 3 x height x width), gray (batch x 1 x height x width), "
	for name, tt := range map[string]struct{ fields, want string }{
		"nothing":             {`{model: several.onnx}`, `attributes: say what becomes of what the network gives: attributes, vectors or image`},
		"no file":             {`{model: ^none.onnx, image: x}`, `model: reading an ONNX model: stat none.onnx: no such file`},
		"no pictures":         {`{model: ^words.onnx, vectors: output}`, `model: using the model words.onnx: it has no input for pictures`},
		"an unknown output":   {`{model: several.onnx, attributes: [level, "a = ^mark"]}`, `attributes: the network has no output "mark": there are ` + outputs},
		"an unknown name":     {`{model: several.onnx, attributes: ^quality}`, `attributes: the network has no output "quality": there are ` + outputs + `twice (batch x 3 x ? x ?), mean:0 (batch); quality can be the name of one: write quality = OUTPUT`},
		"no such place":       {`{model: several.onnx, attributes: ["a=^means[3]"]}`, `attributes: the output means has 3 numbers for a picture, counted from 0: there is no means[3]`},
		"below 0":             {`{model: several.onnx, attributes: ["a=^means[-1]"]}`, `attributes: [-1] is no place among the numbers of an output: they are counted from 0, as in means[0]`},
		"several numbers":     {`{model: several.onnx, attributes: ^means}`, `attributes: the output means has 3 numbers for a picture, of which one is wanted: say which, as in means[0], or what of all of them, as in mean(means)`},
		"a place of one":      {`{model: several.onnx, attributes: "a = ^mean(means)[1]"}`, `attributes: mean(means) is one number, and has no place 1: leave [1] out`},
		"no place":            {`{model: several.onnx, attributes: "a = ^softmax(means)"}`, `attributes: softmax(means) are as many numbers as the output has: say which one`},
		"no function":         {`{model: several.onnx, attributes: "a = ^median(means)"}`, `attributes: there is no function median: there are softmax, argmax, mean, min, max`},
		"softmax of too many": {`{model: several.onnx, attributes: "a = ^softmax(means)[7]"}`, `attributes: the output means has 3 numbers`},
		"no right side":       {`{model: several.onnx, attributes: "a =^"}`, `attributes: "" names no output`},
		"no name":             {`{model: several.onnx, attributes: [^"means[2]"]}`, `attributes: means[2] needs a name: write NAME = means[2]`},
		"an odd name":         {`{model: several.onnx, attributes: [^"my-score = level"]}`, `attributes: an attribute cannot be called "my-score": give it a name of letters, digits and _, as in NAME = level`},
		"an odd output":       {`{model: several.onnx, attributes: [^"mean:0"]}`, `attributes: an attribute cannot be called "mean:0": give it a name of letters, digits and _, as in NAME = mean:0`},
		"a builtin":           {`{model: several.onnx, attributes: [^"width = level"]}`, `attributes: every item has the attribute width: give this one another name`},
		"twice":               {`{model: several.onnx, attributes: [level, ^"level = means[0]"]}`, `attributes: two attributes are called level`},
		"an unknown vector":   {`{model: several.onnx, vectors: ["clip = ^embeds"]}`, `vectors: the network has no output "embeds"`},
		"vectors twice":       {`{model: several.onnx, vectors: [means, ^"means = loud"]}`, `vectors: two vectors are called means`},
		"no vector":           {`{model: several.onnx, vectors: [^"= loud"]}`, `vectors: "= loud" is no vector: write NAME, or NAME = OUTPUT`},
		"an unknown image":    {`{model: several.onnx, image: ^output}`, `image: the network has no output "output"`},
		"no picture":          {`{model: several.onnx, image: ^means}`, `image: the output means has 2 axes, and a picture has 4`},
		"a wrong scale":       {`{model: several.onnx, image: twice, scale: ^4}`, `scale: the network makes pictures 2 times as large, as its file tells: leave scale out`},
		"a range of nothing":  {`{model: several.onnx, attributes: level, image_range: ^0..1}`, `image_range: it is for a network whose picture is taken`},
		"no std":              {`{model: several.onnx, attributes: level, std: [^0]}`, `std: samples are divided by it: give a number above 0, or leave std out`},
		"one std below 0":     {`{model: several.onnx, attributes: level, std: [1, ^-2, 1]}`, `std: samples are divided by it`},
		"two means":           {`{model: several.onnx, attributes: level, mean: ^[1, 2]}`, `mean: one number is wanted, or three`},
	} {
		t.Run(name, func(t *testing.T) {
			line := "  - infer: " + tt.fields
			col := strings.Index(line, "^") + 1 // the mark is taken out
			if col == 0 {
				col = strings.Index(line, "infer") + 1
			}
			file := "source: {images: {path: photos}}\nstages:\n" + strings.Replace(line, "^", "", 1) + "\n"
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte(file), pipeline.Options{Registry: pipeline.NewRegistry(images.Info(), infer.Info())})
			var spec *pipeline.SpecError
			if !errors.As(err, &spec) || len(spec.Problems) != 1 {
				t.Fatalf("lint says %v", err)
			}
			want := fmt.Sprintf("p.yaml:3:%d: stage infer: %s", col, tt.want)
			if got := spec.Problems[0].String(); !strings.HasPrefix(got, want) {
				t.Errorf("lint says\n%s\nwant\n%s", got, want)
			}
		})
	}
}
