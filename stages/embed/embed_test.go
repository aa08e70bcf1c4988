package embed_test

import (
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// saved writes a network to a file of that name.
func saved(t *testing.T, name string, g *onnx.Graph) string {
	t.Helper()
	data, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// means is a network that gives the mean of each channel, so that what it saw can
// be computed by hand.
func means(t *testing.T) string { return saved(t, "means.onnx", testnet.Hog(12)) }

// step is an embed with these fields; "model" is the network's path.
func step(path string, more map[string]any) stagetest.Step {
	values := map[string]any{"model": path}
	for k, v := range more {
		values[k] = v
	}
	return stagetest.Step{Info: embed.Info(), Values: values}
}

// flat is a picture of one colour.
func flat(r, g, b uint8) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := 0; i < len(img.Pix); i += 4 {
		copy(img.Pix[i:], []uint8{r, g, b, 255})
	}
	return img
}

// noise are pictures that differ, of sizes that do.
func noise(n int) (src stagetest.Source) {
	for i := range n {
		src = append(src, stagetest.Picture(fmt.Sprintf("n%02d", i), stagetest.Noise(image.NewNRGBA(image.Rect(0, 0, 40+i%3*17, 30+i%5*11)))))
	}
	return src
}

func vectors(t *testing.T, src stagetest.Source, s stagetest.Step, o pipeline.RunOptions) (map[string]pipeline.Vector, *pipeline.Summary) {
	t.Helper()
	sum, seen := stagetest.New(t, src, s).Run(t, o)
	out := map[string]pipeline.Vector{}
	for id, it := range seen {
		if len(it.Vectors) != 1 {
			t.Fatalf("%s has %d vectors", id, len(it.Vectors))
		}
		out[id] = it.Vectors[0]
	}
	return out, sum
}

func TestVectorIsThatOfThePreparedPicture(t *testing.T) {
	path := means(t)
	for name, tt := range map[string]struct {
		fields map[string]any
		want   [3]float64 // before it gets length 1
	}{
		"nothing known": {nil, [3]float64{51. / 255, 102. / 255, 204. / 255}},
		"BGR":           {map[string]any{"channels": "bgr"}, [3]float64{204. / 255, 102. / 255, 51. / 255}},
		"-1..1":         {map[string]any{"range": "-1..1"}, [3]float64{-.6, -.2, .6}},
		"one mean":      {map[string]any{"mean": "0.5"}, [3]float64{.2 - .5, .4 - .5, .8 - .5}},
		"mean and std":  {map[string]any{"mean": []string{"0.1", "0.2", "0.3"}, "std": []string{"1", "2", "4"}}, [3]float64{.1, .1, .125}},
		"a preset":      {map[string]any{"preset": "imagenet"}, [3]float64{(.2 - .485) / .229, (.4 - .456) / .224, (.8 - .406) / .225}},
		"part of one":   {map[string]any{"preset": "imagenet", "mean": "0", "std": "1"}, [3]float64{.2, .4, .8}},
		"fast":          {map[string]any{"decode": "fast", "width": 8, "height": 8}, [3]float64{.2, .4, .8}},
		"multiple":      {map[string]any{"multiple": 16}, [3]float64{.2, .4, .8}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := vectors(t, stagetest.Source{stagetest.Picture("p", flat(51, 102, 204))}, step(path, tt.fields), pipeline.RunOptions{})
			v := got["p"]
			length := math.Sqrt(tt.want[0]*tt.want[0] + tt.want[1]*tt.want[1] + tt.want[2]*tt.want[2])
			if v.Name != "means" || v.Dim() != 3 || v.Half || len(v.Model) != 64 {
				t.Fatalf("%+v", v)
			}
			for i, x := range v.Data {
				if want := tt.want[i] / length; math.Abs(float64(x)-want) > 1e-4 { // a sum of 50,000 float32s
					t.Errorf("component %d is %v, want %v", i, x, want)
				}
			}
		})
	}
}

// Networks of other element types, fixed batches and sizes give what the ordinary
// one gives, to their precision.
func TestNetworksOfAllKinds(t *testing.T) {
	src := noise(11)
	want, _ := vectors(t, src, step(saved(t, "net.onnx", testnet.Embedder(testnet.EmbedderOptions{Size: 32})), nil), pipeline.RunOptions{})
	for name, tt := range map[string]struct {
		options testnet.EmbedderOptions
		fields  map[string]any
		exact   float64
	}{
		"one at a time":       {testnet.EmbedderOptions{Size: 32, Batch: 1}, nil, 1e-5},
		"four, neither fewer": {testnet.EmbedderOptions{Size: 32, Batch: 4}, nil, 1e-5},
		"any size":            {testnet.EmbedderOptions{}, map[string]any{"width": 32, "height": 32}, 1e-5},
		"batches of three":    {testnet.EmbedderOptions{Size: 32}, map[string]any{"infer_batch": 3}, 1e-5},
		"two batches at once": {testnet.EmbedderOptions{Size: 32}, map[string]any{"infer_batch": 2, "threads": 2}, 1e-5},
		"four at once":        {testnet.EmbedderOptions{Size: 32, Batch: 2}, map[string]any{"threads": 4}, 1e-5},
		"one thread":          {testnet.EmbedderOptions{Size: 32}, map[string]any{"threads": 1}, 1e-5},
		"a float16 network":   {testnet.EmbedderOptions{Size: 32, Type: onnx.Float16}, nil, 1e-2},
		"float16 vectors":     {testnet.EmbedderOptions{Size: 32}, map[string]any{"dtype": "float16"}, 5e-4},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := vectors(t, src, step(saved(t, "net.onnx", testnet.Embedder(tt.options)), tt.fields), pipeline.RunOptions{})
			if len(got) != len(src) {
				t.Fatalf("%d of %d items", len(got), len(src))
			}
			for id, v := range got {
				var length float64
				for i, x := range v.Data {
					length += float64(x) * float64(x)
					if math.Abs(float64(x-want[id].Data[i])) > tt.exact {
						t.Errorf("%s, component %d: %v, want %v", id, i, x, want[id].Data[i])
					}
				}
				if math.Abs(length-1) > 1e-3 {
					t.Errorf("%s has length %v", id, math.Sqrt(length))
				}
			}
		})
	}
}

// A second run computes nothing; one with another network of the same name does.
func TestResultsBelongToTheContent(t *testing.T) {
	state := t.TempDir()
	path := saved(t, "net.onnx", testnet.Embedder(testnet.EmbedderOptions{Size: 32}))
	run := func() int64 {
		_, sum := vectors(t, noise(5), step(path, nil), pipeline.RunOptions{StateDir: state})
		return sum.Cached
	}
	if run() != 0 || run() != 5 {
		t.Error("the second run did not take the first one's results")
	}
	data, err := os.ReadFile(saved(t, "other.onnx", testnet.Embedder(testnet.EmbedderOptions{Size: 48})))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if cached := run(); cached != 0 {
		t.Errorf("%d results of the network that was there before were taken", cached)
	}
}

// A picture of which no vector can be made fails, and no other.
func TestItemsFailAlone(t *testing.T) {
	torn := pipeline.Input{Name: "torn.png", Content: []byte("\x89PNG\r\n\x1a\nnothing")}
	src := append(noise(4), torn)
	for name, tt := range map[string]struct {
		net  *onnx.Graph
		fail int64
		want string
	}{
		"a torn file": {testnet.Embedder(testnet.EmbedderOptions{Size: 32}), 1, "torn.png"},
		"NaN":         {testnet.NaN(), 5, "not finite"},
	} {
		t.Run(name, func(t *testing.T) {
			sum, seen := stagetest.New(t, src, step(saved(t, "net.onnx", tt.net), nil)).Run(t, pipeline.RunOptions{})
			if sum.Quarantined != tt.fail || len(seen) != 5-int(tt.fail) {
				t.Errorf("%d failed and %d arrived", sum.Quarantined, len(seen))
			}
			if text := fmt.Sprint(sum.Failed); !strings.Contains(text, tt.want) {
				t.Errorf("failed with %s, want %q", text, tt.want)
			}
		})
	}
}

// A network that cannot be loaded ends the run: it is the same for all.
func TestNetworkThatCannotBeLoaded(t *testing.T) {
	b := stagetest.New(t, noise(3), step(saved(t, "odd.onnx", testnet.UnknownOp()), nil))
	if _, err := b.Try(t, pipeline.RunOptions{}); err == nil || !strings.Contains(err.Error(), "odd.onnx") {
		t.Errorf("the run ended with %v", err)
	}
}

func TestRefused(t *testing.T) {
	path := means(t)
	for name, tt := range map[string]struct {
		path   string
		fields map[string]any
		want   string
	}{
		"no model":      {filepath.Join(t.TempDir(), "none.onnx"), nil, "none.onnx"},
		"no pictures":   {saved(t, "words.onnx", testnet.NoImage()), nil, "no input for pictures"},
		"two means":     {path, map[string]any{"mean": []string{"1", "2"}}, "one number is wanted, or three"},
		"no number":     {path, map[string]any{"std": []string{"1", "x", "2"}}, `"x" is no number`},
		"odd filter":    {path, map[string]any{"filter": "sinc"}, "filter"},
		"no such":       {path, map[string]any{"output": "map"}, `no output "map"`},
		"one dimension": {path, map[string]any{"width": 8}, "height"},
	} {
		t.Run(name, func(t *testing.T) {
			err := stagetest.Err(t, step(tt.path, tt.fields))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// Two stages of one network share its session, also with vectors of other names.
func TestTwoStagesOfOneNetwork(t *testing.T) {
	path := saved(t, "net.onnx", testnet.Embedder(testnet.EmbedderOptions{Size: 32}))
	_, seen := stagetest.New(t, noise(20), step(path, nil), step(path, map[string]any{"name": "again"})).Run(t, pipeline.RunOptions{})
	for id, it := range seen {
		if len(it.Vectors) != 2 || it.Vectors[0].Name != "net" || it.Vectors[1].Name != "again" {
			t.Fatalf("%s: %+v", id, it.Vectors)
		}
		for i, x := range it.Vectors[0].Data {
			if math.Abs(float64(x-it.Vectors[1].Data[i])) > 1e-5 {
				t.Errorf("%s: %v and %v", id, x, it.Vectors[1].Data[i])
			}
		}
	}
}
