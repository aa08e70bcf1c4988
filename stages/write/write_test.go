package write_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	stdpng "image/png"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
	"github.com/forgepipe/forgepipe/stages/write"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files makes a folder of files with the given contents.
func files(t *testing.T, contents map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range contents {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree reads a folder back, without the run store.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".forgepipe":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		rel, _ := filepath.Rel(dir, file)
		out[rel], err = os.ReadFile(file)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

func gradient(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{R: uint8(7 * x), G: uint8(5 * y), B: uint8(x ^ y), A: 255})
		}
	}
	return m
}

func encodePNG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := imageio.EncodePNG(&b, img, imageio.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeJPEG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decode reads a PNG, and fails when it is something else.
func decode(t *testing.T, data []byte) image.Image {
	t.Helper()
	h, err := imageio.ReadHeader(data, imageio.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if h.Format != imageio.PNG {
		t.Errorf("written as %s", h.Format)
	}
	img, err := imageio.Decode(data, h, imageio.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// source is the images source on a folder.
func source(t *testing.T, dir string) pipeline.Source {
	t.Helper()
	c, err := pipeline.NewConfig(images.Info(), map[string]any{"path": dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := images.Info().NewSource(t.Context(), c, pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func step(dir string, values map[string]any) stagetest.Step {
	v := map[string]any{"path": dir}
	maps.Copy(v, values)
	return stagetest.Step{Info: write.Info(), Values: v}
}

var cut = stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 16}}

// invert is a stage that changes every picture.
var invert = stagetest.Step{Info: pipeline.Info{
	Name: "invert", Short: "Inverts.",
	New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			f, err := it.Frame(ctx)
			if err != nil {
				it.Fail(err)
				return nil
			}
			b := f.Image.Bounds()
			m := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
			for y := range b.Dy() {
				for x := range b.Dx() {
					c := color.NRGBAModel.Convert(f.Image.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
					m.SetNRGBA(x, y, color.NRGBA{R: 255 - c.R, G: 255 - c.G, B: 255 - c.B, A: c.A})
				}
			}
			it.SetImage(m)
			return nil
		}), nil
	},
}}

func TestWhatIsCopiedAndWhatIsEncoded(t *testing.T) {
	img := gradient(20, 18)
	jpg, png := encodeJPEG(t, img), encodePNG(t, img)
	// The same pixels in a file that our encoder would not write.
	var other bytes.Buffer
	if err := (&stdpng.Encoder{CompressionLevel: stdpng.BestCompression}).Encode(&other, img); err != nil || bytes.Equal(other.Bytes(), png) {
		t.Fatal("the two files must differ", err)
	}
	otherPNG := other.Bytes()
	in := map[string][]byte{"a.jpg": jpg, "sub/b.png": otherPNG, "sub/c.JPEG": jpg, "really-a-png.jpg": otherPNG, "bare": jpg, "data.bin": png}
	const encoded = "" // stands for: a PNG of the source's pixels
	tests := map[string]struct {
		values map[string]any
		before []stagetest.Step
		want   map[string]string // the source whose bytes a file has, or encoded
	}{
		"keep":          {nil, nil, map[string]string{"a.jpg": "a.jpg", "sub/b.png": "sub/b.png", "sub/c.JPEG": "sub/c.JPEG", "really-a-png.jpg": "really-a-png.jpg", "bare.jpg": "bare", "data.png": "data.bin"}},
		"png":           {map[string]any{"format": "png"}, nil, map[string]string{"a.png": encoded, "sub/b.png": "sub/b.png", "sub/c.png": encoded, "really-a-png.png": "really-a-png.jpg", "bare.png": encoded, "data.png": "data.bin"}},
		"keep, changed": {nil, []stagetest.Step{invert}, map[string]string{"a.png": encoded, "sub/b.png": encoded, "sub/c.png": encoded, "really-a-png.png": encoded, "bare.png": encoded, "data.png": encoded}},
		"keep, tiled":   {nil, []stagetest.Step{cut}, map[string]string{"a_x0_y0.png": encoded, "sub/b_x0_y0.png": encoded, "sub/c_x0_y0.png": encoded, "really-a-png_x0_y0.png": encoded, "bare_x0_y0.png": encoded, "data_x0_y0.png": encoded}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			b := stagetest.New(t, source(t, files(t, in)), append(slices.Clone(tt.before), step(out, tt.values))...)
			s, seen := b.Run(t, pipeline.RunOptions{})
			if s.Out != 6 || s.Written != 6 {
				t.Errorf("out %d, written %d: %v", s.Out, s.Written, s.Failed)
			}
			got := tree(t, out)
			if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(tt.want)); !slices.Equal(a, b) {
				t.Fatalf("files %q\nwant  %q", a, b)
			}
			for name, from := range tt.want {
				if from != encoded && !bytes.Equal(got[name], in[from]) {
					t.Errorf("%s is no copy of %s", name, from)
				}
			}
			for id, item := range seen {
				if len(item.Outputs) != 1 || !filepath.IsAbs(item.Outputs[0]) {
					t.Fatalf("%s was written to %q", id, item.Outputs)
				}
				rel, err := filepath.Rel(out, item.Outputs[0])
				if err != nil {
					t.Fatal(err)
				}
				if tt.want[rel] != encoded {
					continue
				}
				m := decode(t, got[rel])
				for _, at := range []image.Point{{}, {X: 15, Y: 3}, {X: 7, Y: 15}} {
					b := item.Image.Bounds().Min
					w, g := color.NRGBAModel.Convert(item.Image.At(b.X+at.X, b.Y+at.Y)), color.NRGBAModel.Convert(m.At(at.X, at.Y))
					if w != g {
						t.Errorf("%s has %v at %v, the item %v", rel, g, at, w)
					}
				}
			}
		})
	}
}

func TestNothingIsLostInPNG(t *testing.T) {
	gray16, nrgba64 := image.NewGray16(image.Rect(0, 0, 5, 4)), image.NewNRGBA64(image.Rect(0, 0, 5, 4))
	for i := range gray16.Pix {
		gray16.Pix[i] = byte(37 * i)
	}
	for i := range nrgba64.Pix {
		nrgba64.Pix[i] = byte(41 * i)
	}
	src := stagetest.Source{stagetest.Picture("gray16.png", gray16), stagetest.Picture("nrgba64.png", nrgba64)}
	out := t.TempDir()
	stagetest.New(t, src, step(out, nil)).Run(t, pipeline.RunOptions{})
	got := tree(t, out)
	if m, ok := decode(t, got["gray16.png"]).(*image.Gray16); !ok || !bytes.Equal(m.Pix, gray16.Pix) {
		t.Errorf("16-bit gray came back as %T", m)
	}
	if m, ok := decode(t, got["nrgba64.png"]).(*image.NRGBA64); !ok || !bytes.Equal(m.Pix, nrgba64.Pix) {
		t.Errorf("16-bit colour with alpha came back as %T", m)
	}
}

func TestNames(t *testing.T) {
	jpg := encodeJPEG(t, gradient(40, 20))
	png := encodePNG(t, gradient(40, 20))
	tests := map[string]struct {
		in     []string
		values map[string]any
		tiles  bool
		want   []string
	}{
		"tree":                   {[]string{"a.jpg", "x/a.jpg", "x/y z/b.jpg"}, nil, false, []string{"a.png", "x/a.png", "x/y z/b.png"}},
		"tiles":                  {[]string{"x/a.jpg"}, nil, true, []string{"x/a_x0_y0.png", "x/a_x16_y0.png"}},
		"same stem":              {[]string{"a.jpg", "a.png", "b.jpg"}, nil, false, []string{"a.jpg.png", "a.png.png", "b.png"}},
		"tiles of the same stem": {[]string{"a.jpg", "a.png"}, nil, true, []string{"a.jpg_x0_y0.png", "a.jpg_x16_y0.png", "a.png_x0_y0.png", "a.png_x16_y0.png"}},
		"same stem twice over":   {[]string{"a.jpg", "a.png", "a.jpg.jpg"}, nil, false, []string{"a.jpg.jpg.png", "a.jpg.png", "a.png.png"}},
		"a folder for each":      {[]string{"x/a.jpg"}, map[string]any{"name": "{dir}{stem}/{stem}{suffix}{ext}"}, true, []string{"x/a/a_x0_y0.png", "x/a/a_x16_y0.png"}},
		"odd bytes":              {[]string{"d\xe9j\xe0.jpg", "50%@home.jpg"}, nil, false, []string{"50%@home.png", "d\xe9j\xe0.png"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := map[string][]byte{}
			for _, n := range tt.in {
				in[n] = jpg
				if strings.HasSuffix(n, ".png") {
					in[n] = png
				}
			}
			out := t.TempDir()
			values := map[string]any{"format": "png"}
			maps.Copy(values, tt.values)
			steps := []stagetest.Step{step(out, values)}
			if tt.tiles {
				steps = []stagetest.Step{cut, steps[0]}
			}
			s, _ := stagetest.New(t, source(t, files(t, in)), steps...).Run(t, pipeline.RunOptions{})
			if s.Quarantined > 0 {
				t.Errorf("failed: %v", s.Failed)
			}
			if got := slices.Sorted(maps.Keys(tree(t, out))); !slices.Equal(got, tt.want) {
				t.Errorf("files %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("hash", func(t *testing.T) {
		out := t.TempDir()
		in := map[string][]byte{"a.jpg": jpg, "x/a.jpg": jpg}
		s, _ := stagetest.New(t, source(t, files(t, in)), cut, step(out, map[string]any{"name": "{hash}{ext}"})).Run(t, pipeline.RunOptions{})
		if got := tree(t, out); len(got) != 4 || s.Written != 4 {
			t.Errorf("%d files, %d written, want 4", len(got), s.Written)
		}
	})
}

func TestTemplatesThatCollideAreRefused(t *testing.T) {
	tests := map[string]struct {
		name   string
		before []stagetest.Step
		ok     bool
	}{
		"stem alone":            {"{stem}{ext}", nil, false},
		"folder alone":          {"{dir}x{ext}", nil, false},
		"whole images":          {"{dir}{stem}{ext}", nil, true},
		"tiles without a place": {"{dir}{stem}{ext}", []stagetest.Step{cut}, false},
		"tiles with one":        {"{dir}{stem}{suffix}{ext}", []stagetest.Step{cut}, true},
		"tiles with a hash":     {"{hash}{ext}", []stagetest.Step{cut}, true},
		"no extension":          {"{dir}{stem}", nil, false},
		"upwards":               {"../{dir}{stem}{ext}", nil, false},
		"unknown":               {"{dir}{name}{ext}", nil, false},
	}
	for name, tt := range tests {
		err := stagetest.Err(t, step(t.TempDir(), map[string]any{"name": tt.name}), tt.before...)
		var fe *pipeline.FieldError
		if tt.ok != (err == nil) || err != nil && (!errors.As(err, &fe) || fe.Field != "name") {
			t.Errorf("%s: %q gives %v", name, tt.name, err)
		}
	}
}

func TestSidecars(t *testing.T) {
	img := encodePNG(t, gradient(40, 20))
	in := map[string][]byte{"x/a.png": img, "x/a.txt": []byte("a caption"), "x/a.NPZ": {1, 2, 3}, "b.png": img, "b.jpg": encodeJPEG(t, gradient(20, 20)), "b.json": []byte("{}")}
	t.Run("beside the whole image", func(t *testing.T) {
		out := t.TempDir()
		stagetest.New(t, source(t, files(t, in)), step(out, map[string]any{"format": "png"})).Run(t, pipeline.RunOptions{})
		got := tree(t, out)
		want := []string{"b.jpg.json", "b.jpg.png", "b.png.json", "b.png.png", "x/a.NPZ", "x/a.png", "x/a.txt"}
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
			t.Fatalf("files %q, want %q", names, want)
		}
		for name, from := range map[string]string{"x/a.txt": "x/a.txt", "x/a.NPZ": "x/a.NPZ", "b.jpg.json": "b.json", "b.png.json": "b.json"} {
			if !bytes.Equal(got[name], in[from]) {
				t.Errorf("%s is %q", name, got[name])
			}
		}
	})
	t.Run("beside every tile", func(t *testing.T) {
		out := t.TempDir()
		stagetest.New(t, source(t, files(t, map[string][]byte{"a.png": img, "a.txt": []byte("a caption")})), cut, step(out, nil)).Run(t, pipeline.RunOptions{})
		want := []string{"a_x0_y0.png", "a_x0_y0.txt", "a_x16_y0.png", "a_x16_y0.txt"}
		if names := slices.Sorted(maps.Keys(tree(t, out))); !slices.Equal(names, want) {
			t.Errorf("files %q, want %q", names, want)
		}
	})
	t.Run("dropped", func(t *testing.T) {
		out := t.TempDir()
		stagetest.New(t, source(t, files(t, in)), step(out, map[string]any{"sidecars": "drop"})).Run(t, pipeline.RunOptions{})
		if got := tree(t, out); len(got) != 3 {
			t.Errorf("files %q, want three pictures", slices.Sorted(maps.Keys(got)))
		}
	})
}

// meddle is a stage that does something to a file before the next one runs.
func meddle(f func() error) stagetest.Step {
	return stagetest.Step{Info: pipeline.Info{
		Name: "meddle", Short: "Meddles.",
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(context.Context, *pipeline.Item) error { return f() }), nil
		},
	}}
}

func TestFilesThatChangeWhileTheRunGoes(t *testing.T) {
	tests := map[string]struct {
		change func(dir string) error
		want   string
	}{
		"sidecar grows":     {func(dir string) error { return os.WriteFile(dir+"/a.txt", []byte("longer than before"), 0o666) }, "changed while the run was going"},
		"sidecar shrinks":   {func(dir string) error { return os.Truncate(dir+"/a.txt", 1) }, "changed while the run was going"},
		"sidecar is edited": {func(dir string) error { return os.Chtimes(dir+"/a.txt", time.Time{}, time.Unix(1, 0)) }, "changed while the run was going"},
		"sidecar is gone":   {func(dir string) error { return os.Remove(dir + "/a.txt") }, "opening the sidecar: "},
		"sidecar is a pipe": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/a.txt"), syscall.Mkfifo(dir+"/a.txt", 0o666))
		}, "changed while the run was going"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := files(t, map[string][]byte{"a.png": encodePNG(t, gradient(8, 8)), "a.txt": []byte("caption")})
			out := t.TempDir()
			s, seen := stagetest.New(t, source(t, dir), meddle(func() error { return tt.change(dir) }), step(out, nil)).Run(t, pipeline.RunOptions{})
			if s.Quarantined != 1 || len(seen) != 0 || !strings.Contains(s.Failed[0].Cause, tt.want) {
				t.Errorf("passed on %d, failed %v, want %q", len(seen), s.Failed, tt.want)
			}
			if got := tree(t, out); len(got) != 0 {
				t.Errorf("half of a failed item was written: %q", slices.Sorted(maps.Keys(got)))
			}
		})
	}
}

func TestPairs(t *testing.T) {
	dir := files(t, map[string][]byte{"hq.png": encodePNG(t, gradient(32, 32)), "hq.jpg": encodeJPEG(t, gradient(32, 32)), "lq.png": encodePNG(t, gradient(16, 16)), "hq.txt": []byte("caption")})
	pair := func(ext string) pipeline.Input {
		info, err := os.Stat(dir + "/hq.txt")
		if err != nil {
			t.Fatal(err)
		}
		return pipeline.Input{
			Name: "x/p." + ext, Path: dir + "/hq." + ext,
			LQ: &pipeline.Input{Name: "x/p.png", Path: dir + "/lq.png"}, Scale: 2,
			Sidecars: []pipeline.Sidecar{{Ext: ".txt", Path: dir + "/hq.txt", Size: info.Size(), Time: info.ModTime().UnixNano()}},
		}
	}
	for _, ext := range []string{"png", "jpg"} {
		t.Run(ext, func(t *testing.T) {
			out := t.TempDir()
			_, seen := stagetest.New(t, stagetest.Source{pair(ext)}, step(out, map[string]any{"format": "png"})).Run(t, pipeline.RunOptions{})
			got := tree(t, out)
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"hq/x/p.png", "hq/x/p.txt", "lq/x/p.png"}) {
				t.Fatalf("files %q", names)
			}
			if hq, lq := decode(t, got["hq/x/p.png"]).Bounds().Size(), decode(t, got["lq/x/p.png"]).Bounds().Size(); hq != lq.Mul(2) {
				t.Errorf("sizes %v and %v", hq, lq)
			}
			if o := seen["x/p."+ext].Outputs; !slices.Equal(o, []string{out + "/hq/x/p.png"}) {
				t.Errorf("outputs %q: the item's picture is the high-quality one", o)
			}
		})
	}
	t.Run("tiles", func(t *testing.T) {
		out := t.TempDir()
		stagetest.New(t, stagetest.Source{pair("png")}, cut, step(out, map[string]any{"sidecars": "drop"})).Run(t, pipeline.RunOptions{})
		got := tree(t, out)
		want := []string{"hq/x/p_x0_y0.png", "hq/x/p_x0_y16.png", "hq/x/p_x16_y0.png", "hq/x/p_x16_y16.png", "lq/x/p_x0_y0.png", "lq/x/p_x0_y16.png", "lq/x/p_x16_y0.png", "lq/x/p_x16_y16.png"}
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
			t.Fatalf("files %q", names)
		}
		if m := decode(t, got["lq/x/p_x16_y0.png"]); m.Bounds().Size() != image.Pt(8, 8) || color.NRGBAModel.Convert(m.At(0, 0)) != gradient(16, 16).At(8, 0) {
			t.Errorf("the companion's tile is %v and begins with %v", m.Bounds(), m.At(0, 0))
		}
	})
}

func TestFilesThatAreThere(t *testing.T) {
	in := map[string][]byte{"a.png": encodePNG(t, gradient(8, 8)), "a.txt": []byte("caption"), "b.png": encodePNG(t, gradient(9, 9))}
	for name, theirs := range map[string]string{"the picture's place": "a.png", "the sidecar's place": "a.txt"} {
		t.Run(name, func(t *testing.T) {
			out := files(t, map[string][]byte{theirs: []byte("the user's")})
			s, seen := stagetest.New(t, source(t, files(t, in)), step(out, nil)).Run(t, pipeline.RunOptions{})
			if s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, "a file is there already") || len(seen) != 1 {
				t.Errorf("passed on %q, failed %v", stagetest.IDs(seen), s.Failed)
			}
			got := tree(t, out)
			if names := slices.Sorted(maps.Keys(got)); string(got[theirs]) != "the user's" || !slices.Equal(names, []string{theirs, "b.png"}) {
				t.Errorf("files %q, the user's is %q", names, got[theirs])
			}
		})
	}
	t.Run("overwrite", func(t *testing.T) {
		out := files(t, map[string][]byte{"a.png": []byte("the user's")})
		s, _ := stagetest.New(t, source(t, files(t, in)), step(out, map[string]any{"overwrite": true})).Run(t, pipeline.RunOptions{})
		if got := tree(t, out); s.Out != 2 || !bytes.Equal(got["a.png"], in["a.png"]) {
			t.Errorf("out %d, failed %v", s.Out, s.Failed)
		}
	})
}

func TestASecondRunWritesNothing(t *testing.T) {
	dir := files(t, map[string][]byte{"a.jpg": encodeJPEG(t, gradient(40, 40)), "a.txt": []byte("caption"), "b.png": encodePNG(t, gradient(20, 20))})
	out := t.TempDir()
	run := func() *pipeline.Summary {
		s, _ := stagetest.New(t, source(t, dir), cut, step(out, nil)).Run(t, pipeline.RunOptions{})
		return s
	}
	first := run()
	before := tree(t, out)
	second := run()
	if first.Written != 9 || second.Written != 0 || second.Reused != 9 {
		t.Errorf("first wrote %d, second wrote %d and reused %d; want 9, 0 and 9", first.Written, second.Written, second.Reused)
	}
	if !maps.EqualFunc(before, tree(t, out), bytes.Equal) {
		t.Error("the tree has changed")
	}
}

func TestADryRunCountsAndWritesNothing(t *testing.T) {
	dir := files(t, map[string][]byte{"a.jpg": encodeJPEG(t, gradient(40, 40)), "a.txt": []byte("caption")})
	out := filepath.Join(t.TempDir(), "out")
	p := pipeline.New("", pipeline.Options{})
	p.SetSource(source(t, dir))
	if err := p.Use(t.Context(), pipeline.NewRegistry(write.Info()), "write", "write", map[string]any{"path": out, "format": "png"}); err != nil {
		t.Fatal(err)
	}
	run, err := p.Start(t.Context(), pipeline.RunOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(); err != nil {
		t.Fatal(err)
	}
	if f := run.Forecast(); f.Write != 2 {
		t.Errorf("forecast %+v, want 2 files", f)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

// A full disk ends the run; a disk that cannot read one source does not.
func TestWhatEndsTheRun(t *testing.T) {
	dir := files(t, map[string][]byte{"a.png": encodePNG(t, gradient(8, 8)), "b.png": encodePNG(t, gradient(9, 9))})
	p := pipeline.New("", pipeline.Options{FS: full{fsys.OS}})
	p.SetSource(source(t, dir))
	if err := p.Use(t.Context(), pipeline.NewRegistry(write.Info()), "write", "write", map[string]any{"path": t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: t.TempDir()}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("with a full disk the run ended with %v", err)
	}

	// Reading the first byte of this file is an I/O error.
	const broken = "/proc/self/mem"
	info, err := os.Stat(broken)
	if err != nil {
		t.Fatal("no file to stand for a broken disk:", err)
	}
	in := stagetest.Picture("bad.png", gradient(4, 4))
	in.Sidecars = []pipeline.Sidecar{{Ext: ".txt", Path: broken, Size: info.Size(), Time: info.ModTime().UnixNano()}}
	s, seen := stagetest.New(t, stagetest.Source{in, stagetest.Picture("good.png", gradient(4, 4))}, step(t.TempDir(), nil)).Run(t, pipeline.RunOptions{})
	if !slices.Equal(stagetest.IDs(seen), []string{"good.png"}) || !strings.Contains(s.Failed[0].Cause, syscall.EIO.Error()) {
		t.Errorf("passed on %q, failed %v", stagetest.IDs(seen), s.Failed)
	}
}

// full is a file system without room for pictures.
type full struct{ fsys.FS }

func (f full) OpenRoot(dir string) (fsys.Root, error) {
	r, err := f.FS.OpenRoot(dir)
	return fullRoot{r}, err
}

type fullRoot struct{ fsys.Root }

func (r fullRoot) Create(name string) (fsys.File, error) {
	f, err := r.Root.Create(name)
	if strings.HasSuffix(name, ".tmp") {
		return fullFile{f}, err
	}
	return f, err
}

type fullFile struct{ fsys.File }

func (fullFile) Write([]byte) (int, error) {
	return 0, fmt.Errorf("writing: %w", syscall.ENOSPC)
}

func TestCost(t *testing.T) {
	dir := files(t, map[string][]byte{"a.png": encodePNG(t, gradient(100, 50)), "b.jpg": encodeJPEG(t, gradient(30, 30))})
	c, err := pipeline.NewConfig(write.Info(), map[string]any{"path": "out", "format": "png"})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := write.Info().New(t.Context(), c, pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	costs := map[string]int64{}
	p := pipeline.New("", pipeline.Options{})
	p.SetSource(source(t, dir))
	if err := p.Add(pipeline.Step{ID: "cost", Workers: 1, Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		costs[it.ID()] = stage.(pipeline.Coster).Cost(pipeline.Host, []*pipeline.Item{it}).Work
		return nil
	})}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
		t.Fatal(err)
	}
	size, err := os.Stat(dir + "/a.png")
	if err != nil {
		t.Fatal(err)
	}
	if costs["a.png"] != size.Size() || costs["b.jpg"] != 2<<20+4*8*30 {
		t.Errorf("costs %v: a copy takes the file, an encoding the encoder and some rows", costs)
	}
}

func TestWrongConfigurations(t *testing.T) {
	file := filepath.Join(files(t, map[string][]byte{"x": nil}), "x")
	for name, values := range map[string]map[string]any{
		"no folder": {}, "a file": {"path": file}, "format": {"path": "out", "format": "jpg"}, "sidecars": {"path": "out", "sidecars": "merge"},
	} {
		if err := stagetest.Err(t, stagetest.Step{Info: write.Info(), Values: values}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
