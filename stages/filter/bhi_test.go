package filter_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// networks are the files that the preset measures with.
type networks struct{ ic9600, hyperiqa string }

// standIn saves a network whose score, 0 to 1, is made of the mean red, green and blue with
// these weights: it takes the place of one that takes long.
func standIn(t *testing.T, size int, weights ...float32) string {
	t.Helper()
	g := onnx.NewGraph("stand-in")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, size, size)
	g.Output("score", g.Sigmoid(g.ReduceMean(g.Mul(g.ReduceMean(x, false, 2, 3), g.Constant(weights, 1, 3)), true, 1)))
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tiles writes n pieces of the test photographs: of every other one the blocks of strong
// compression show, those of its photograph's own do not.
func tiles(t *testing.T, n, size int) string {
	t.Helper()
	photos, err := filepath.Glob("../../testdata/photos/*.jpg")
	if err != nil || len(photos) == 0 {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range n {
		img := decoded(t, photos[i%len(photos)])
		at := image.Pt(2+61*(i/len(photos)), 2+37*(i/len(photos)))
		piece := image.NewRGBA(image.Rect(0, 0, size, size))
		draw.Draw(piece, piece.Bounds(), img, at, draw.Src)
		var b bytes.Buffer
		name := fmt.Sprintf("%03d.png", i)
		if i%2 == 0 {
			err = png.Encode(&b, piece)
		} else {
			name = fmt.Sprintf("%03d.jpg", i)
			err = jpeg.Encode(&b, piece, &jpeg.Options{Quality: 30})
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func decoded(t *testing.T, path string) image.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := imageio.ReadHeader(data, imageio.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	img, err := imageio.Decode(data, h, imageio.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// plain is the published rule as a script has it: every metric of every picture, and then
// the limits.
type plain struct {
	names                        []string
	blockiness, ic9600, hyperiqa []float64
	forwards                     int
}

func script(t *testing.T, dir string, nets networks) plain {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ic, hyper := load(t, nets.ic9600, 512), load(t, nets.hyperiqa, 224)
	var p plain
	for _, f := range files {
		img := decoded(t, filepath.Join(dir, f.Name()))
		p.names = append(p.names, f.Name())
		p.blockiness = append(p.blockiness, blockiness(img))

		spec, _ := model.Preset("ic9600")
		in := make([]byte, 4*3*512*512)
		if err := spec.Fill(t.Context(), in, img); err != nil {
			t.Fatal(err)
		}
		p.ic9600 = append(p.ic9600, mean(ic(t, in, 1)))

		p.hyperiqa = append(p.hyperiqa, mean(hyper(t, crops(img), 25)))
		p.forwards += 1 + 25
	}
	return p
}

// kept are the pictures that pass, and what each other one fails first.
func (p plain) kept(blocky, complexity, quality float64) (kept []string, rejected map[string]string) {
	rejected = map[string]string{}
	for i, name := range p.names {
		switch {
		case !(p.blockiness[i] < blocky):
			rejected[name] = "blockiness"
		case !(p.ic9600[i] >= complexity):
			rejected[name] = "ic9600"
		case !(p.hyperiqa[i] >= quality):
			rejected[name] = "hyperiqa"
		default:
			kept = append(kept, name)
		}
	}
	return kept, rejected
}

// load opens a network for pictures of that size.
func load(t *testing.T, path string, size int64) func(t *testing.T, in []byte, n int64) []float32 {
	t.Helper()
	f, err := model.Open(path, model.FileOptions{Spec: model.Spec{Width: int(size), Height: int(size)}, Outputs: []string{"score"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return func(t *testing.T, in []byte, n int64) []float32 {
		t.Helper()
		out, err := s.Run(t.Context(), []*model.Tensor{{Type: f.ElementType(), Shape: []int64{n, 3, size, size}, Data: in}}, model.SessionRun{})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Numbers()
	}
}

// crops are the 25 of 224 pixels that HyperIQA looks at, of a picture that is larger.
func crops(img image.Image) []byte {
	mean, std := [3]float64{.485, .456, .406}, [3]float64{.229, .224, .225}
	size := img.Bounds().Size()
	samples := make([]float32, 3*size.X*size.Y)
	for i := range size.X * size.Y {
		r, g, b, _ := img.At(i%size.X, i/size.X).RGBA()
		for c, v := range [3]uint32{r, g, b} {
			samples[c*size.X*size.Y+i] = float32((float64(v>>8)/255 - mean[c]) / std[c])
		}
	}
	data := make([]byte, 0, 25*3*224*224*4)
	for i := range 25 {
		left, top := i%5*((size.X-224)/5), i/5*((size.Y-224)/5)
		for c := range 3 {
			for y := range 224 {
				from := (c*size.Y+top+y)*size.X + left
				for _, v := range samples[from : from+224] {
					data = binary.NativeEndian.AppendUint32(data, math.Float32bits(v))
				}
			}
		}
	}
	return data
}

func mean(all []float32) float64 {
	var sum float64
	for _, x := range all {
		sum += float64(x)
	}
	return sum / float64(len(all))
}

// blockiness is what its paper says, straight from the definitions.
func blockiness(img image.Image) float64 {
	size := img.Bounds().Size()
	gray := make([][]float64, size.Y)
	for y := range gray {
		gray[y] = make([]float64, size.X)
		for x := range gray[y] {
			r, g, b, _ := img.At(x, y).RGBA()
			gray[y][x] = math.Round((299*float64(r>>8) + 587*float64(g>>8) + 114*float64(b>>8)) / 1000)
		}
	}
	on, off := variation(gray, 0), variation(gray, 4)
	var d float64
	for i := range on {
		d += math.Abs(off[i]-on[i]) / (on[i] + 1e-8)
	}
	return d
}

// cosines are the DCT's.
var cosines = func() (c [8][8]float64) {
	for u := range 8 {
		for x := range 8 {
			c[u][x] = math.Cos(float64(2*x+1)*float64(u)*math.Pi/16) / 2
			if u == 0 {
				c[u][x] /= math.Sqrt2
			}
		}
	}
	return c
}()

func variation(gray [][]float64, first int) (v [64]float64) {
	rows, columns := (len(gray)-first)/8, (len(gray[0])-first)/8
	at := func(r, c int) (out [64]float64) {
		for u := range 8 {
			for w := range 8 {
				for y := range 8 {
					for x := range 8 {
						out[8*u+w] += cosines[u][y] * cosines[w][x] * gray[first+8*r+y][first+8*c+x]
					}
				}
			}
		}
		return out
	}
	blocks := make([][][64]float64, rows)
	for r := range blocks {
		for c := range columns {
			blocks[r] = append(blocks[r], at(r, c))
		}
	}
	for r := 1; r < rows-1; r++ {
		for c := 1; c < columns-1; c++ {
			for i := range v {
				across := blocks[r][c-1][i] + blocks[r][c+1][i] - 2*blocks[r][c][i]
				down := blocks[r-1][c][i] + blocks[r+1][c][i] - 2*blocks[r][c][i]
				v[i] += math.Hypot(across, down) / float64((rows-2)*(columns-2))
			}
		}
	}
	return v
}

// preset runs filter: {preset: bhi} over a folder.
func preset(t *testing.T, dir, state string, nets networks, limits string) (s *pipeline.Summary, kept []string, rejected map[string]string) {
	t.Helper()
	yaml := fmt.Sprintf("source: {images: {path: %s}}\nstages:\n  - filter: {preset: bhi, ic9600_model: %s, hyperiqa_model: %s%s}\n  - end: {}\n", dir, nets.ic9600, nets.hyperiqa, limits)
	var ends []string
	end := pipeline.Info{Name: "end", Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			ends = append(ends, it.ID())
			return nil
		}), nil
	}}
	p, err := pipeline.Load(t.Context(), "bhi.yaml", []byte(yaml+"    workers: 1\n"), pipeline.Options{Registry: standard.Registry().With(end)})
	if err != nil {
		t.Fatal(err)
	}
	rejected = map[string]string{}
	s, err = p.Run(t.Context(), pipeline.RunOptions{Check: true, StateDir: state, OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventRejected {
			rejected[e.Item] = e.Stage
		}
	}})
	if err = errors.Join(err, s.Check()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ends)
	return s, ends, rejected
}

// forwards are how many pictures and crops went through networks.
func forwards(s *pipeline.Summary) (n int) {
	for _, g := range s.Governed {
		n += int(g.Items)
	}
	return n
}

// asPlain compares the preset with the script: what is kept, and what is rejected by what.
func asPlain(t *testing.T, p plain, kept []string, rejected map[string]string, blocky, complexity, quality float64) {
	t.Helper()
	wantKept, wantRejected := p.kept(blocky, complexity, quality)
	if !slices.Equal(kept, wantKept) {
		t.Errorf("kept are %v, and by the script %v", kept, wantKept)
	}
	if len(rejected) != len(wantRejected) {
		t.Errorf("%d are rejected, and by the script %d", len(rejected), len(wantRejected))
	}
	for name, by := range wantRejected {
		if rejected[name] != "filter."+by {
			t.Errorf("%s is rejected by %q, and by the script for its %s", name, rejected[name], by)
		}
	}
}

// The preset decides as the published rule does, with less work; after a change of limits
// it measures only what had not come so far.
func TestBHI(t *testing.T) {
	nets := networks{standIn(t, 512, 1, 1, 1), standIn(t, 224, -1, 0, 1)}
	dir, state := tiles(t, 24, 232), t.TempDir()
	p := script(t, dir, nets)
	complexity, quality := between(p.ic9600, 1, 3), between(p.hyperiqa, 1, 2)
	limits := fmt.Sprintf(", ic9600: %v, hyperiqa: %v", complexity, quality)

	s, kept, rejected := preset(t, dir, state, nets, limits)
	asPlain(t, p, kept, rejected, 30, complexity, quality)
	by := map[string]int{}
	for _, stage := range rejected {
		by[strings.TrimPrefix(stage, "filter.")]++
	}
	if len(kept) == 0 || len(by) != 3 {
		t.Fatalf("%d are kept, and %v rejected: that tries nothing", len(kept), by)
	}
	left := len(p.names) - by["blockiness"]
	want := left + 25*(left-by["ic9600"])
	if n := forwards(s); n != want || n*100 > 55*p.forwards {
		t.Errorf("%d pictures and crops were looked at, want %d, and at most 55%% of %d", n, want, p.forwards)
	}

	// A looser limit lets some come to IC9600, and of these some to HyperIQA. (Flat pictures
	// that were compressed have more than a million.)
	s, kept, rejected = preset(t, dir, state, nets, limits+", blockiness: 1e6")
	asPlain(t, p, kept, rejected, 1e6, complexity, quality)
	want = 0
	for i, name := range p.names {
		switch {
		case p.blockiness[i] < 30 || rejected[name] == "filter.blockiness": // it came before, or does not now
		case rejected[name] == "filter.ic9600":
			want++
		default:
			want += 1 + 25
		}
	}
	if n := forwards(s); n != want || want == 0 {
		t.Errorf("with a looser limit %d pictures and crops were looked at, want %d", n, want)
	}

	// The same again, and a tighter one, measure nothing.
	if s, _, _ = preset(t, dir, state, nets, limits); forwards(s) != 0 {
		t.Errorf("again %d were looked at", forwards(s))
	}
}

// On a card that holds one of the networks, they run in phases; on a larger one and on the
// CPU, images stream through both.
func TestBHIInPhases(t *testing.T) {
	nets := networks{standIn(t, 512, 1, 1, 1), standIn(t, 224, 1, 1, 1)}
	for name, tt := range map[string]struct {
		total  int64
		phases int
	}{"a small card": {1400 << 20, 2}, "a large card": {8 << 30, 1}} {
		t.Run(name, func(t *testing.T) {
			card, err := sim.New(sim.Config{Name: "sim:0", Total: tt.total})
			if err != nil {
				t.Fatal(err)
			}
			yaml := fmt.Sprintf("source: {images: {path: .}}\nstages:\n  - {filter: {preset: bhi, ic9600_model: %s, hyperiqa_model: %s}, device: gpu}\n", nets.ic9600, nets.hyperiqa)
			p, err := pipeline.Load(t.Context(), "bhi.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry(), Devices: []memory.Device{card}})
			if err != nil {
				t.Fatal(err)
			}
			plan, err := p.Plan(pipeline.RunOptions{NoStore: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Phases) != tt.phases {
				t.Errorf("%d phases, want %d", len(plan.Phases), tt.phases)
			}
		})
	}
}

// What a preset does not take is refused, where it stands.
func TestWrongPresets(t *testing.T) {
	t.Setenv(store.Variable, t.TempDir())
	for name, tt := range map[string]struct{ fields, want string }{
		"neither":             {"{}", "p.yaml:3:5: stage filter: keep: say what to keep: a condition, or preset: bhi"},
		"both":                {`{preset: bhi, keep: "width > 3"}`, "p.yaml:3:33: stage filter: keep: preset and keep are two ways to filter"},
		"a limit alone":       {`{keep: "width > 3", ic9600: 0.5}`, "p.yaml:3:41: stage filter: ic9600: it is for a preset: add preset: bhi, or write the limit into keep"},
		"no such preset":      {"{preset: bih}", `"bih" is none of bhi; did you mean "bhi"?`},
		"a limit of 2":        {"{preset: bhi, hyperiqa: 2}", "p.yaml:3:37: filter.hyperiqa: "},
		"the first network":   {"{preset: bhi}", "stage filter.measure-ic9600: model: this machine lacks something: the model ic9600 is not in the store: it has not been fetched: forgepipe models fetch ic9600"},
		"the second, as well": {"{preset: bhi}", "stage filter.measure-hyperiqa: model: this machine lacks something: the model hyperiqa is not in the store"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {images: {path: .}}\nstages:\n  - filter: "+tt.fields+"\n"), pipeline.Options{Registry: standard.Registry()})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
		})
	}
}

// between is a limit that part of whole of the values do not meet.
func between(all []float64, part, whole int) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted) * part / whole
	return (sorted[n-1] + sorted[n]) / 2
}
