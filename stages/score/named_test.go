package score_test

import (
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/score"
)

// inStore puts a network into a store under that name, of which the store's own registry
// says that it is an ONNX file: one with a map beside its score, the mean level of a
// picture.
func inStore(t *testing.T, dir, name string, size int) {
	t.Helper()
	g := onnx.NewGraph(name)
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, size, size)
	g.Output("map", x)
	g.Output("score", g.ReduceMean(g.ReduceMean(x, false, 2, 3), true, 1))
	own := fmt.Sprintf(`{"models": [{"name": %q, "format": "onnx", "file": "net.onnx", "licence": "unknown", "bring": "make it"}]}`, name)
	if err := os.WriteFile(filepath.Join(dir, "registry.json"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Add(t.Context(), saved(t, name+".onnx", g), name); err != nil {
		t.Fatal(err)
	}
}

// Metrics that are networks are found in the store by their names, are prepared for as
// they were trained, and have the output that is called score.
func TestNetworksAsMetrics(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(store.Variable, dir)
	lacking := stagetest.Err(t, metrics("ic9600", "hyperiqa"))
	if !errors.Is(lacking, pipeline.ErrLacking) || !strings.Contains(lacking.Error(), "forgepipe models fetch ic9600") {
		t.Errorf("of an empty store: %v", lacking)
	}
	if err := stagetest.Err(t, metrics("hyperiqa")); !errors.Is(err, pipeline.ErrLacking) || !strings.Contains(err.Error(), "then forgepipe models add koniq_pretrained.pkl --name hyperiqa") {
		t.Errorf("of an empty store: %v", err)
	}
	inStore(t, dir, "ic9600", 512)

	white := image.NewGray(image.Rect(0, 0, 300, 230))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	// The mean level of white, less ImageNet's mean and by its deviation.
	want := ((1-.485)/.229 + (1-.456)/.224 + (1-.406)/.225) / 3
	b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", white)}, metrics("ic9600", "brightness", "contrast"))
	var stages []string
	for _, s := range b.Graph(nil).Stages {
		stages = append(stages, fmt.Sprint(s.ID, s.Makes))
	}
	if got := strings.Join(stages, " "); got != "score0[brightness contrast] score0.ic9600[ic9600]" {
		t.Errorf("the stages are %s", got)
	}
	sum, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
	got := seen["p"].Attributes
	if v := got["ic9600"].Float(); len(got) != 3 || !(math.Abs(v-want) <= 1e-3) || got["brightness"].Float() != 255 {
		t.Errorf("%v, want ic9600 = %v", got, want)
	}
	if n := sum.Governed[0].Items; n != 1 {
		t.Errorf("%d pictures were looked at", n)
	}
	if got := scored(t, metrics("ic9600"), white); len(got) != 1 || !(math.Abs(got["ic9600"].Float()-want) <= 1e-3) {
		t.Errorf("alone: %v", got)
	}
}

func metrics(names ...string) stagetest.Step {
	return stagetest.Step{Info: score.Info(), Values: values{"metrics": names}}
}

func TestWrongMetrics(t *testing.T) {
	t.Setenv(store.Variable, t.TempDir())
	for name, tt := range map[string]struct {
		values values
		want   string
	}{
		"a name":          {values{"metrics": []string{"ic9600"}, "name": "complexity"}, "name: metrics says how ic9600 is measured: leave name out, or name the file of another network with model"},
		"a preset":        {values{"metrics": []string{"laplacian", "hyperiqa"}, "preset": "clip"}, "preset: metrics says how hyperiqa is measured"},
		"a network twice": {values{"metrics": []string{"ic9600", "laplacian", "ic9600"}}, "metrics: ic9600 is named twice"},
		"both":            {values{"metrics": []string{"ic9600"}, "model": "x.onnx"}, "metrics and model are two ways to score"},
		"threads":         {values{"metrics": []string{"ic9600"}, "threads": "2"}, "forgepipe models fetch ic9600"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := stagetest.Err(t, stagetest.Step{Info: score.Info(), Values: tt.values}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
		})
	}
}

// In its own size, IC9600 gets a picture as reflect padding (NumPy's) makes it: 32 px on
// all sides, and what is missing to multiples of 64 at the right and at the bottom.
func TestNativeMode(t *testing.T) {
	g := onnx.NewGraph("any size")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	g.Output("map", x)
	means := g.Mul(g.ReduceMean(x, false, 2, 3), g.Constant([]float32{1, 1, 1}, 1, 3)) // it has weights
	g.Output("score", g.ReduceMean(means, true, 1))
	net := saved(t, "any.onnx", g)
	mirrored := func(i, n int) int {
		for i < 0 || i >= n {
			if i < 0 {
				i = -i
			} else {
				i = 2*(n-1) - i
			}
		}
		return i
	}
	for _, size := range []image.Point{{70, 65}, {64, 128}, {9, 7}} {
		img := pattern(size.X, size.Y).(*image.NRGBA)
		width, height := (size.X+64+63)/64*64, (size.Y+64+63)/64*64
		var sum float64
		for y := range height {
			for x := range width {
				at := img.NRGBAAt(mirrored(x-32, size.X), mirrored(y-32, size.Y))
				sum += float64(at.R) + float64(at.G) + float64(at.B)
			}
		}
		want := sum / float64(3*255*width*height)
		s := stagetest.Step{Info: score.Info(), Values: values{"model": net, "preset": "ic9600", "name": "q", "mode": "native"}}
		if got := scored(t, s, img)["q"].Float(); !(math.Abs(got-want) <= 1e-5) {
			t.Errorf("%v: %v, want %v", size, got, want)
		}
	}
	step := stagetest.Step{Info: score.Info(), Values: values{"model": net, "preset": "ic9600", "name": "q", "mode": "native"}}
	cost := func(w, h int) int64 {
		one, _ := stagetest.Cost(t, step, stagetest.Picture("p", image.NewGray(image.Rect(0, 0, w, h))))
		return one.Work
	}
	if small, large := cost(1000, 1000), cost(6000, 4000); small < 300e6 || large < 2*small || large > 1600e6 {
		t.Errorf("a picture of a million pixels takes %d bytes, and one of 24 million %d", small, large)
	}
	if got := scored(t, step, image.NewGray(image.Rect(0, 0, 2500, 2000)))["q"].Float(); got != 0 {
		t.Errorf("a large picture that is black: %v", got)
	}
	for name, tt := range map[string]struct {
		more values
		want string
	}{
		"another network": {values{"preset": "clip"}, "mode: it is for IC9600"},
		"a size":          {values{"width": 64, "height": 64}, "mode: native says how pictures are prepared: leave"},
		"regions":         {values{"regions": "tiles"}, "regions: mode: native says how"},
		"a smaller scale": {values{"decode": "fast"}, "decode: mode: native takes pictures at their full scale"},
	} {
		t.Run(name, func(t *testing.T) {
			v := values{"model": net, "preset": "ic9600", "mode": "native"}
			for k, x := range tt.more {
				v[k] = x
			}
			if err := stagetest.Err(t, stagetest.Step{Info: score.Info(), Values: v}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
		})
	}
}
