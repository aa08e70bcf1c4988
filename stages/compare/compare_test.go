package compare_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/compare"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/manifest"
	"github.com/forgepipe/forgepipe/stages/pair"
	"github.com/forgepipe/forgepipe/stages/tile"
	"github.com/forgepipe/forgepipe/stages/upscale"
	"github.com/forgepipe/forgepipe/stages/write"
)

func step(dir string, more ...any) stagetest.Step {
	v := map[string]any{"path": dir}
	for i := 0; i < len(more); i += 2 {
		v[more[i].(string)] = more[i+1]
	}
	return stagetest.Step{Info: compare.Info(), Values: v}
}

var (
	twice  = stagetest.Step{Info: upscale.Info(), Values: map[string]any{"scale": 2, "method": "nearest"}}
	paired = stagetest.Step{Info: pair.Info(), Values: map[string]any{"scale": 2}}
	cut    = stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 16}}
)

// bench is a pipeline over the images of a folder.
func bench(t *testing.T, dir string, steps ...stagetest.Step) *stagetest.Bench {
	t.Helper()
	b := stagetest.New(t, nil, steps...)
	if err := b.UseSource(t.Context(), pipeline.NewRegistry(images.Info()), "images", map[string]any{"path": dir}); err != nil {
		t.Fatal(err)
	}
	return b
}

// spotted is a gray picture in which one pixel is lighter.
func spotted(v uint8) image.Image {
	m := plain(64, 48, v)
	m.SetGray(10, 20, color.Gray{Y: v + 50})
	return m
}

// saw reads a sheet that is nothing but a map of differences, and tells whether it has
// some.
func saw(t *testing.T, path string) bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for y := range m.Bounds().Dy() * 3 / 4 { // above the scale
		for x := range m.Bounds().Dx() {
			if r, _, _, _ := m.At(x, y).RGBA(); r > 0x9000 {
				return true
			}
		}
	}
	return false
}

func TestWhatIsCompared(t *testing.T) {
	in := map[string][]byte{"x/a.png": pngOf(t, spotted(90)), "b.jpg": jpegOf(t, spotted(30))}
	heat := []any{"layout", "difference", "labels", false}
	for name, tt := range map[string]struct {
		steps   []stagetest.Step
		differs bool
	}{
		"nothing was done":             {nil, false},
		"enlarged, and seen as before": {[]stagetest.Step{twice}, false},
		"a pair":                       {[]stagetest.Step{paired}, true},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			s, seen := bench(t, folder(t, in), append(tt.steps, step(out, heat...))...).Run(t, pipeline.RunOptions{})
			if s.Quarantined > 0 || s.Written != 2 || !slices.Equal(stagetest.IDs(seen), []string{"b.jpg", "x/a.png"}) {
				t.Fatalf("%d written, failed %v", s.Written, s.Failed)
			}
			if got := names(t, out); !slices.Equal(got, []string{"b.png", "x/a.png"}) {
				t.Fatalf("files %q", got)
			}
			if got := saw(t, filepath.Join(out, "x/a.png")); got != tt.differs {
				t.Errorf("the sheet says that they differ: %v", got)
			}
		})
	}
	t.Run("tiles of pairs", func(t *testing.T) {
		out := t.TempDir()
		s, _ := bench(t, folder(t, in), paired, cut, step(out, heat...)).Run(t, pipeline.RunOptions{})
		if s.Quarantined > 0 || s.Written != 24 {
			t.Fatalf("%d written, failed %v", s.Written, s.Failed)
		}
		if !saw(t, filepath.Join(out, "x/a_x0_y16.png")) || saw(t, filepath.Join(out, "x/a_x48_y32.png")) {
			t.Error("the tile with the spot is not the one that differs")
		}
	})
	t.Run("tiles", func(t *testing.T) {
		out := t.TempDir()
		s, seen := bench(t, folder(t, in), cut, step(out)).Run(t, pipeline.RunOptions{})
		if s.Quarantined != 24 || len(seen) != 0 || len(names(t, out)) != 0 || !strings.Contains(s.Failed[0].Cause, "it was cut from its source file") {
			t.Errorf("%d failed, %v; files %q", s.Quarantined, s.Failed[0], names(t, out))
		}
	})
	t.Run("no file", func(t *testing.T) {
		out := t.TempDir()
		s, seen := stagetest.New(t, stagetest.Source{stagetest.Picture("a.png", spotted(9))}, twice, step(out)).Run(t, pipeline.RunOptions{})
		if s.Quarantined != 1 || len(seen) != 0 || !strings.Contains(s.Failed[0].Cause, "it does not come from a file") {
			t.Errorf("failed %v", s.Failed)
		}
	})
	t.Run("outside of the region", func(t *testing.T) {
		s, _ := bench(t, folder(t, in), step(t.TempDir(), "region", "64,0,5,5")).Run(t, pipeline.RunOptions{})
		if s.Quarantined != 2 || !strings.Contains(s.Failed[0].Cause, "the region 64,0,5,5 lies outside of the picture, which has 64 x 48 pixels") {
			t.Errorf("failed %v", s.Failed)
		}
	})
}

func TestFormats(t *testing.T) {
	dir := folder(t, map[string][]byte{"a.png": pngOf(t, spotted(90))})
	out := t.TempDir()
	bench(t, dir, paired, step(out, "format", "gif", "transition", "cut", "seconds", 1, "fps", 10, "speed", 2, "max_side", 64)).Run(t, pipeline.RunOptions{})
	data, err := os.ReadFile(filepath.Join(out, "a.gif"))
	if err != nil {
		t.Fatal(err)
	}
	if g, err := gif.DecodeAll(bytes.NewReader(data)); err != nil || len(g.Image) != 5 || g.Config.Height < 48 {
		t.Errorf("%d frames, %v", len(g.Image), err)
	}
	if _, err := imageio.WebPLibrary(); err != nil {
		t.Skip(err)
	}
	bench(t, dir, paired, step(out, "format", "webp")).Run(t, pipeline.RunOptions{})
	if data, err = os.ReadFile(filepath.Join(out, "a.webp")); err != nil || bytes.Count(data, []byte("ANMF")) != 60 {
		t.Errorf("%d frames, %v", bytes.Count(data, []byte("ANMF")), err)
	}
}

// Sheets are outputs as others: made once, made again after an edit, taken away when they
// are not wanted. They are not what a manifest means by an item's file.
func TestRunningAgain(t *testing.T) {
	dir := folder(t, map[string][]byte{"a.png": pngOf(t, spotted(90)), "b.png": pngOf(t, spotted(30))})
	out, state := t.TempDir(), t.TempDir()
	run := func(more ...any) *pipeline.Summary {
		t.Helper()
		list := stagetest.Step{Info: manifest.Info(), Values: map[string]any{"path": out + "/list.jsonl"}}
		write := stagetest.Step{Info: write.Info(), Values: map[string]any{"path": out + "/large"}}
		s, _ := bench(t, dir, twice, write, step(out+"/sheets", more...), list).Run(t, pipeline.RunOptions{StateDir: state})
		return s
	}
	if s := run(); s.Written != 5 {
		t.Errorf("%d written: %v", s.Written, s.Failed)
	}
	first, err := os.ReadFile(out + "/sheets/a.png")
	if err != nil {
		t.Fatal(err)
	}
	if s := run(); s.Written != 0 || s.Reused != 5 {
		t.Errorf("again: %d written, %d right already", s.Written, s.Reused)
	}
	if lines, err := os.ReadFile(out + "/list.jsonl"); err != nil || strings.Count(string(lines), `"path":"large/`) != 2 {
		t.Errorf("the manifest names other files: %v\n%s", err, lines)
	}
	if err := os.Remove(out + "/sheets/a.png"); err != nil {
		t.Fatal(err)
	}
	if s := run(); s.Written != 1 {
		t.Errorf("with one missing: %d written", s.Written)
	}
	if again, err := os.ReadFile(out + "/sheets/a.png"); err != nil || !bytes.Equal(again, first) {
		t.Errorf("it has other bytes (%v)", err)
	}
	if s := run("layout", "split"); s.Written != 2 {
		t.Errorf("after an edit: %d written", s.Written)
	}
	if err := os.Remove(dir + "/b.png"); err != nil {
		t.Fatal(err)
	}
	run("layout", "split")
	if got := names(t, out+"/sheets"); !slices.Equal(got, []string{"a.png"}) {
		t.Errorf("after one has gone there are %q", got)
	}
}

// A file that a run did not write is not written over.
func TestFilesThatAreThere(t *testing.T) {
	dir, out := folder(t, map[string][]byte{"a.png": pngOf(t, spotted(90))}), folder(t, map[string][]byte{"a.png": []byte("mine")})
	if s, _ := bench(t, dir, step(out)).Run(t, pipeline.RunOptions{}); s.Quarantined != 1 {
		t.Errorf("%d written", s.Written)
	}
	if b, _ := os.ReadFile(out + "/a.png"); string(b) != "mine" {
		t.Error("a file was written over")
	}
	if s, _ := bench(t, dir, step(out, "overwrite", true)).Run(t, pipeline.RunOptions{}); s.Written != 1 {
		t.Errorf("with overwrite: %v", s.Failed)
	}
}

func TestCost(t *testing.T) {
	dir := folder(t, map[string][]byte{"a.png": pngOf(t, plain(600, 400, 3))})
	info, err := os.Stat(dir + "/a.png")
	if err != nil {
		t.Fatal(err)
	}
	one, planned := stagetest.Cost(t, step("out"), pipeline.Input{Name: "a.png", Path: dir + "/a.png"})
	if one.Work < 600*400*4*4 || one.Work > 40<<20 || planned.Work < 12e6*8+info.Size() {
		t.Errorf("one takes %d bytes, an ordinary one %d", one.Work, planned.Work)
	}
}

func TestWrongConfigurations(t *testing.T) {
	file := folder(t, map[string][]byte{"f": nil}) + "/f"
	for name, tt := range map[string]struct {
		values []any
		want   string
	}{
		"layout of a gif":   {[]any{"format", "gif", "layout", "side"}, "layout: format gif has no layout: take it away, or set format: png"},
		"seconds of a png":  {[]any{"seconds", 2}, "seconds: format png has no seconds: take it away, or set format: gif"},
		"a line in none":    {[]any{"layout", "side", "position", 0.3}, "position: layout side has no line"},
		"region":            {[]any{"region", "1,2,3"}, `region: the region "1,2,3" is not x,y,width,height in pixels`},
		"too many frames":   {[]any{"format", "gif", "fps", 60}, "fps"},
		"a file":            {[]any{"path", file}, "is a file: name a folder"},
		"the same name":     {[]any{"name", "{stem}{ext}"}, "name: two sources could get the same name"},
		"an unknown filter": {[]any{"filter", "sharp"}, "filter"},
	} {
		err := stagetest.Err(t, step("out", tt.values...))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if err := stagetest.Err(t, step("out"), stagetest.Step{Info: write.Info(), Values: map[string]any{"path": "out"}}); err == nil {
		t.Error("sheets and pictures may be written to the same names")
	}
	if err := stagetest.Err(t, stagetest.Step{Info: compare.Info()}); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
}
