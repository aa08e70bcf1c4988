package write_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	stdpng "image/png"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/webp"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/standard"
	"github.com/forgepipe/forgepipe/stages/tile"
	"github.com/forgepipe/forgepipe/stages/write"
)

// need skips what the libraries on this machine cannot do.
func need(t *testing.T, values map[string]any) {
	t.Helper()
	switch values["format"] {
	case "webp":
		if _, err := imageio.WebPLibrary(); err != nil {
			t.Skip(err)
		}
	case "jpeg":
		if _, _, err := imageio.JPEGLibrary(); err != nil && values["subsampling"] != "4:2:0" {
			t.Skip(err)
		}
	}
}

// with is a format and options.
func with(format string, more ...any) map[string]any {
	v := map[string]any{"format": format}
	for i := 0; i < len(more); i += 2 {
		v[more[i].(string)] = more[i+1]
	}
	return v
}

// read decodes a file by a decoder that has nothing to do with its encoder.
func read(t *testing.T, name string, data []byte) image.Image {
	t.Helper()
	decoders := map[string]func(io.Reader) (image.Image, error){".png": stdpng.Decode, ".jpg": jpeg.Decode, ".webp": webp.Decode}
	m, err := decoders[filepath.Ext(name)](bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// profileOf finds a colour profile in a file that has no more than one chunk or
// segment of it.
func profileOf(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	marker := map[string]string{".png": "iCCP", ".jpg": "ICC_PROFILE\x00\x01\x01", ".webp": "ICCP"}[filepath.Ext(name)]
	at := bytes.Index(data, []byte(marker))
	if at < 0 {
		return nil
	}
	rest := data[at+len(marker):]
	switch filepath.Ext(name) {
	case ".jpg":
		return rest[:int(binary.BigEndian.Uint16(data[at-2:]))-2-len(marker)]
	case ".webp":
		return rest[4:][:binary.LittleEndian.Uint32(rest)]
	}
	_, rest, _ = bytes.Cut(rest, []byte{0, 0}) // a name, its end, the method
	z, err := zlib.NewReader(bytes.NewReader(rest))
	if err != nil {
		t.Fatal(err)
	}
	icc, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return icc
}

// profile is the header of a colour profile, and nothing that makes it useful.
func profile(colours string) []byte {
	p := make([]byte, 300)
	binary.BigEndian.PutUint32(p, uint32(len(p)))
	copy(p[12:], "mntr"+colours+"XYZ ")
	copy(p[36:], "acsp")
	return p
}

// scene is a photograph's piece, in 8 bits.
func scene(t *testing.T) *image.RGBA {
	t.Helper()
	data, err := os.ReadFile("../../testdata/photos/stream.jpg")
	if err != nil {
		t.Fatal(err)
	}
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewRGBA(image.Rect(0, 0, 96, 64))
	draw.Draw(out, out.Rect, m, image.Pt(400, 300), draw.Src)
	return out
}

func drawn[T draw.Image](dst T, src image.Image) T {
	draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	return dst
}

// psnr compares colours, in dB over 8 bits; the same pixels give infinity.
func psnr(a, b image.Image) float64 {
	sum, n := 0.0, 0
	p, q := a.Bounds().Min, b.Bounds().Min
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			ar, ag, ab, _ := a.At(p.X+x, p.Y+y).RGBA()
			br, bg, bb, _ := b.At(q.X+x, q.Y+y).RGBA()
			for _, d := range []float64{float64(ar) - float64(br), float64(ag) - float64(bg), float64(ab) - float64(bb)} {
				sum += d * d / (257 * 257)
				n++
			}
		}
	}
	return 10 * math.Log10(255*255*float64(n)/sum)
}

// whole is a stage that makes a picture changed by name alone: one tile.
var whole = stagetest.Step{Info: tile.Info(), Values: map[string]any{"size": 64, "edge": "partial"}}

// Pictures of every kind, under every format, come back as what they should be:
// in the kind's own colours, as close as promised, with their profile.
func TestFormats(t *testing.T) {
	photo := scene(t)
	gray := drawn(image.NewGray(photo.Rect), photo)
	deep, deepGray := drawn(image.NewRGBA64(photo.Rect), photo), drawn(image.NewGray16(photo.Rect), photo)
	for i := range deep.Pix { // below what 8 bits can tell
		if i%2 == 1 && i%8 != 7 {
			deep.Pix[i] = byte(i * i)
		}
	}
	palette := drawn(image.NewPaletted(photo.Rect, color.Palette{color.Black, color.White, color.NRGBA{200, 10, 10, 255}}), photo)
	translucent := image.NewNRGBA(photo.Rect)
	for i := range translucent.Pix {
		translucent.Pix[i] = byte(i * 3)
	}
	exact := math.Inf(1)
	for name, tt := range map[string]struct {
		img    image.Image
		values map[string]any
		file   string
		model  string  // of what is read back
		least  float64 // dB
		fails  string
	}{
		"png photo":              {photo, with("png"), "a_x0_y0.png", "*image.RGBA", exact, ""},
		"png level 9":            {photo, with("png", "level", 9), "a_x0_y0.png", "*image.RGBA", exact, ""},
		"keep level 6":           {photo, with("keep", "level", 6), "a_x0_y0.png", "*image.RGBA", exact, ""},
		"png gray":               {gray, with("png"), "a_x0_y0.png", "*image.Gray", exact, ""},
		"png 16 bits":            {deep, with("png"), "a_x0_y0.png", "*image.RGBA64", exact, ""},
		"png gray 16":            {deepGray, with("png"), "a_x0_y0.png", "*image.Gray16", exact, ""},
		"png palette":            {palette, with("png"), "a_x0_y0.png", "*image.Paletted", exact, ""},
		"png alpha":              {translucent, with("png"), "a_x0_y0.png", "*image.NRGBA", exact, ""},
		"jpeg photo":             {photo, with("jpeg"), "a_x0_y0.jpg", "*image.YCbCr", 35, ""},
		"jpeg poor":              {photo, with("jpeg", "quality", 20), "a_x0_y0.jpg", "*image.YCbCr", 20, ""},
		"jpeg gray":              {gray, with("jpeg", "subsampling", "4:2:0"), "a_x0_y0.jpg", "*image.Gray", 38, ""},
		"jpeg 16 bits":           {deep, with("jpeg"), "a_x0_y0.jpg", "*image.YCbCr", 35, ""},
		"jpeg gray 16":           {deepGray, with("jpeg"), "a_x0_y0.jpg", "*image.Gray", 38, ""},
		"jpeg palette":           {palette, with("jpeg"), "a_x0_y0.jpg", "*image.YCbCr", 25, ""},
		"jpeg alpha":             {translucent, with("jpeg", "subsampling", "4:2:0"), "", "", 0, "jpeg has no alpha"},
		"webp photo":             {photo, with("webp"), "a_x0_y0.webp", "*image.YCbCr", 28, ""},
		"webp lossless":          {photo, with("webp", "lossless", true), "a_x0_y0.webp", "*image.NRGBA", exact, ""},
		"webp gray":              {gray, with("webp", "lossless", true), "a_x0_y0.webp", "*image.NRGBA", exact, ""},
		"webp palette":           {palette, with("webp", "lossless", true), "a_x0_y0.webp", "*image.NRGBA", exact, ""},
		"webp alpha":             {translucent, with("webp", "lossless", true), "a_x0_y0.webp", "*image.NRGBA", exact, ""},
		"webp 16 bits":           {deep, with("webp"), "a_x0_y0.webp", "*image.YCbCr", 28, ""},
		"webp 16 bits, lossless": {deep, with("webp", "lossless", true), "", "", 0, "the picture has 16 bits a sample and WebP has 8"},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, tt.values)
			icc := profile("RGB ")
			if tt.img == gray || tt.img == deepGray {
				icc = profile("GRAY")
			}
			var file bytes.Buffer
			if err := imageio.EncodePNG(&file, tt.img, imageio.PNGOptions{ICC: icc}); err != nil {
				t.Fatal(err)
			}
			dir := files(t, map[string][]byte{"a.png": file.Bytes()})
			run := func() (*pipeline.Summary, map[string][]byte) {
				out := t.TempDir()
				s, _ := stagetest.New(t, source(t, dir), whole, step(out, tt.values)).Run(t, pipeline.RunOptions{})
				return s, tree(t, out)
			}
			s, got := run()
			if tt.fails != "" {
				if s.Out != 0 || len(got) != 0 || !strings.Contains(s.Failed[0].Cause, tt.fails) {
					t.Errorf("passed on %d, wrote %d, failed %v, want %q", s.Out, len(got), s.Failed, tt.fails)
				}
				return
			}
			data, ok := got[tt.file]
			if !ok {
				t.Fatalf("files %q, failed %v", slices.Sorted(maps.Keys(got)), s.Failed)
			}
			m := read(t, tt.file, data)
			cut := tt.img.(interface {
				SubImage(image.Rectangle) image.Image
			}).SubImage(image.Rect(0, 0, 64, 64))
			if d := psnr(cut, m); m.Bounds().Size() != image.Pt(64, 64) || d < tt.least {
				t.Errorf("%v with %.1f dB, want %.1f", m.Bounds(), d, tt.least)
			}
			if model := typeOf(m); model != tt.model {
				t.Errorf("read back as %s, want %s", model, tt.model)
			}
			for y := range 64 {
				for x := range 64 {
					_, _, _, a := m.At(x, y).RGBA()
					if _, _, _, want := tt.img.At(x, y).RGBA(); a != want {
						t.Fatalf("alpha at %d, %d is %d, want %d", x, y, a, want)
					}
				}
			}
			if strings.HasPrefix(name, "webp") && strings.Contains(name, "gray") {
				icc = nil // WebP makes RGB of it, for which the profile is not
			}
			if p := profileOf(t, tt.file, data); !bytes.Equal(p, icc) {
				t.Errorf("a profile of %d bytes, want %d", len(p), len(icc))
			}
			if !strings.HasSuffix(name, "photo") {
				return // one of a format tells
			}
			if _, again := run(); !maps.EqualFunc(got, again, bytes.Equal) {
				t.Error("another run gives other bytes")
			}
		})
	}
}

func typeOf(m image.Image) string {
	switch m.(type) {
	case *image.RGBA:
		return "*image.RGBA"
	case *image.NRGBA:
		return "*image.NRGBA"
	case *image.RGBA64:
		return "*image.RGBA64"
	case *image.Gray:
		return "*image.Gray"
	case *image.Gray16:
		return "*image.Gray16"
	case *image.Paletted:
		return "*image.Paletted"
	case *image.YCbCr:
		return "*image.YCbCr"
	}
	return "another"
}

// Subsampling is what the file says: how many samples of chroma there are.
func TestSubsampling(t *testing.T) {
	for word, want := range map[string]image.YCbCrSubsampleRatio{
		"": image.YCbCrSubsampleRatio444, "4:4:4": image.YCbCrSubsampleRatio444,
		"4:2:2": image.YCbCrSubsampleRatio422, "4:2:0": image.YCbCrSubsampleRatio420,
	} {
		values := with("jpeg", "subsampling", word)
		if word == "" {
			values = with("jpeg")
		}
		t.Run(word, func(t *testing.T) {
			need(t, values)
			out := t.TempDir()
			stagetest.New(t, stagetest.Source{stagetest.Picture("a.png", scene(t))}, step(out, values)).Run(t, pipeline.RunOptions{})
			m := read(t, "a.jpg", tree(t, out)["a.jpg"]).(*image.YCbCr)
			if m.SubsampleRatio != want {
				t.Errorf("%v, want %v", m.SubsampleRatio, want)
			}
		})
	}
}

// A file that has the format already is copied, and its name says so.
func TestCopiesInTheFormatAskedFor(t *testing.T) {
	var w bytes.Buffer
	in := map[string][]byte{"a.jpeg": encodeJPEG(t, scene(t)), "b.png": encodePNG(t, scene(t))}
	if _, err := imageio.WebPLibrary(); err == nil {
		if err := imageio.EncodeWebP(&w, scene(t), imageio.WebPOptions{Quality: 40}); err != nil {
			t.Fatal(err)
		}
		in["c.webp"] = w.Bytes()
	}
	for format, tt := range map[string]struct{ from, to string }{
		"jpeg": {"a.jpeg", "a.jpg"}, "png": {"b.png", "b.png"}, "webp": {"c.webp", "c.webp"},
	} {
		t.Run(format, func(t *testing.T) {
			need(t, with(format))
			out := t.TempDir()
			stagetest.New(t, source(t, files(t, in)), step(out, with(format))).Run(t, pipeline.RunOptions{})
			got := tree(t, out)
			if len(got) != len(in) || !bytes.Equal(got[tt.to], in[tt.from]) {
				t.Errorf("files %q, and %s is a copy: %v", slices.Sorted(maps.Keys(got)), tt.to, bytes.Equal(got[tt.to], in[tt.from]))
			}
			for name, data := range got {
				read(t, name, data)
			}
		})
	}
}

// Options that say what is the default anyway rewrite nothing.
func TestSpelledOutDefaultsIdentifyTheSameFiles(t *testing.T) {
	dir := files(t, map[string][]byte{"a.png": encodePNG(t, scene(t))})
	for name, spelled := range map[string]map[string]any{
		"jpeg": with("jpeg", "quality", 95, "subsampling", "4:4:4"),
		"webp": with("webp", "quality", 90),
	} {
		t.Run(name, func(t *testing.T) {
			need(t, spelled)
			out := t.TempDir()
			stagetest.New(t, source(t, dir), cut, step(out, with(name))).Run(t, pipeline.RunOptions{})
			if s, _ := stagetest.New(t, source(t, dir), cut, step(out, spelled)).Run(t, pipeline.RunOptions{}); s.Written != 0 {
				t.Errorf("wrote %d files again", s.Written)
			}
		})
	}
}

// Another option rewrites what an earlier run wrote, the same one does not.
func TestOptionsIdentifyFiles(t *testing.T) {
	dir := files(t, map[string][]byte{"a.png": encodePNG(t, scene(t))})
	for name, tt := range map[string]struct{ first, second map[string]any }{
		"level":       {with("png"), with("png", "level", 5)},
		"quality":     {with("jpeg"), with("jpeg", "quality", 80)},
		"subsampling": {with("jpeg"), with("jpeg", "subsampling", "4:2:2")},
		"webp":        {with("webp"), with("webp", "quality", 50)},
		"lossless":    {with("webp"), with("webp", "lossless", true)},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, tt.first)
			need(t, tt.second)
			out := t.TempDir()
			var trees []map[string][]byte
			for i, values := range []map[string]any{tt.first, tt.first, tt.second, tt.second} {
				s, _ := stagetest.New(t, source(t, dir), cut, step(out, values)).Run(t, pipeline.RunOptions{})
				if want := int64((i + 1) % 2 * 24); s.Written != want {
					t.Errorf("run %d wrote %d files, want %d", i, s.Written, want)
				}
				trees = append(trees, tree(t, out))
			}
			fresh := t.TempDir()
			stagetest.New(t, source(t, dir), cut, step(fresh, tt.second)).Run(t, pipeline.RunOptions{})
			if maps.EqualFunc(trees[0], trees[2], bytes.Equal) || !maps.EqualFunc(trees[2], tree(t, fresh), bytes.Equal) {
				t.Error("the second run does not leave what a fresh one would")
			}
		})
	}
}

func TestOptionsOfOtherFormats(t *testing.T) {
	for name, tt := range map[string]struct {
		values      map[string]any
		field, want string
	}{
		"quality of keep":     {with("keep", "quality", 90), "quality", "format keep has no quality"},
		"quality of png":      {with("png", "quality", 90), "quality", "format png has no quality"},
		"quality 0":           {with("jpeg", "quality", 0), "quality", "below the minimum, 1"},
		"quality 101":         {with("jpeg", "quality", 101), "quality", "above the maximum, 100"},
		"quality of lossless": {with("webp", "lossless", true, "quality", 90), "quality", "a lossless WebP has no quality"},
		"level of jpeg":       {with("jpeg", "level", 3, "subsampling", "4:2:0"), "level", "format jpeg has no level: take it away, or set format: png"},
		"level 0":             {with("png", "level", 0), "level", "below the minimum, 1"},
		"level 10":            {with("png", "level", 10), "level", "above the maximum, 9"},
		"subsampling of webp": {with("webp", "subsampling", "4:2:0"), "subsampling", "format webp has no subsampling"},
		"subsampling of png":  {with("png", "subsampling", "4:4:4"), "subsampling", "format png has no subsampling"},
		"lossless jpeg":       {with("jpeg", "lossless", true), "lossless", "format jpeg has no lossless: take it away, or set format: webp"},
		"unknown subsampling": {with("jpeg", "subsampling", "420"), "subsampling", "none of"},
		"unknown format":      {with("jpg"), "format", "none of"},
		"format not yet":      {with("avif"), "format", "none of"},
	} {
		if name == "quality of lossless" {
			if _, err := imageio.WebPLibrary(); err != nil {
				continue
			}
		}
		err := stagetest.Err(t, step(t.TempDir(), tt.values))
		var fe *pipeline.FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s: %q", name, err, tt.field, tt.want)
		}
	}
}

// YAML 1.1 would read 4:2:0 as a number.
func TestSubsamplingInYAML(t *testing.T) {
	for _, text := range []string{"4:2:0", `"4:2:0"`} {
		yaml := "source:\n  images: {path: .}\nstages:\n  - write: {path: " + t.TempDir() + ", format: jpeg, subsampling: " + text + "}\n"
		if _, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: standard.Registry()}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// makePair gives every picture a low-quality one of half its size.
var makePair = stagetest.Step{Info: pipeline.Info{
	Name: "makepair", Short: "Makes pairs.",
	New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			it.SetPair(gradient(it.Size().X/2, it.Size().Y/2), 2)
			return nil
		}), nil
	},
}}

// flatten replaces both pictures of a pair.
var flatten = stagetest.Step{Info: pipeline.Info{
	Name: "flatten", Short: "Flattens.",
	New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			whole := image.Rectangle{Max: it.Size()}
			it.SetImages(image.NewGray(whole), image.NewGray(image.Rectangle{Max: whole.Max.Div(2)}))
			return nil
		}), nil
	},
}}

func TestPairsAreCopiedOrEncoded(t *testing.T) {
	in := map[string][]byte{"hq.jpg": encodeJPEG(t, gradient(32, 32)), "lq.jpg": encodeJPEG(t, gradient(16, 16))}
	for name, m := range map[string]image.Image{"hq.png": gradient(32, 32), "lq.png": gradient(16, 16)} {
		var b bytes.Buffer
		if err := stdpng.Encode(&b, m); err != nil { // other bytes than ours
			t.Fatal(err)
		}
		in[name] = b.Bytes()
	}
	for _, name := range []string{"hq", "lq"} { // EXIF orientation 3: upside down
		exif := "\xff\xe1\x00\x22Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00"
		in[name+"-turned.jpg"] = slices.Concat([]byte("\xff\xd8"+exif), in[name+".jpg"][2:])
	}
	dir := files(t, in)
	pair := func(hq, lq string) pipeline.Input {
		i := pipeline.Input{Name: "x/p" + filepath.Ext(hq), Path: filepath.Join(dir, hq)}
		if lq != "" {
			i.LQ, i.Scale = &pipeline.Input{Name: "x/p" + filepath.Ext(lq), Path: filepath.Join(dir, lq)}, 2
		}
		return i
	}
	const encoded = ""
	for name, tt := range map[string]struct {
		pair   pipeline.Input
		values map[string]any
		before []stagetest.Step
		want   map[string]string // the file whose bytes it has, or encoded
	}{
		"keep":                 {pair("hq.png", "lq.png"), with("keep"), nil, map[string]string{"hq/x/p.png": "hq.png", "lq/x/p.png": "lq.png"}},
		"keep jpeg":            {pair("hq.jpg", "lq.jpg"), with("keep"), nil, map[string]string{"hq/x/p.jpg": "hq.jpg", "lq/x/p.jpg": "lq.jpg"}},
		"keep, two formats":    {pair("hq.jpg", "lq.png"), with("keep"), nil, map[string]string{"hq/x/p.jpg": "hq.jpg", "lq/x/p.png": "lq.png"}},
		"keep, changed":        {pair("hq.jpg", "lq.png"), with("keep"), []stagetest.Step{invert}, map[string]string{"hq/x/p.png": encoded, "lq/x/p.png": "lq.png"}},
		"keep, both changed":   {pair("hq.png", "lq.png"), with("keep"), []stagetest.Step{flatten}, map[string]string{"hq/x/p.png": encoded, "lq/x/p.png": encoded}},
		"keep, new companion":  {pair("hq.jpg", ""), with("keep"), []stagetest.Step{makePair}, map[string]string{"hq/x/p.png": encoded, "lq/x/p.png": encoded}},
		"keep, png, companion": {pair("hq.png", ""), with("keep"), []stagetest.Step{makePair}, map[string]string{"hq/x/p.png": "hq.png", "lq/x/p.png": encoded}},
		"keep, tiled":          {pair("hq.png", "lq.png"), with("keep"), []stagetest.Step{{Info: tile.Info(), Values: map[string]any{"size": 32}}}, map[string]string{"hq/x/p_x0_y0.png": encoded, "lq/x/p_x0_y0.png": encoded}},
		"png":                  {pair("hq.jpg", "lq.png"), with("png"), nil, map[string]string{"hq/x/p.png": encoded, "lq/x/p.png": "lq.png"}},
		"jpeg":                 {pair("hq.jpg", "lq.png"), with("jpeg", "subsampling", "4:2:0"), nil, map[string]string{"hq/x/p.jpg": "hq.jpg", "lq/x/p.jpg": encoded}},
		"turned, companion":    {pair("hq-turned.jpg", ""), with("jpeg", "subsampling", "4:2:0"), []stagetest.Step{makePair}, map[string]string{"hq/x/p.jpg": encoded, "lq/x/p.jpg": encoded}},
		"turned, jpeg":         {pair("hq-turned.jpg", "lq.jpg"), with("jpeg", "subsampling", "4:2:0"), nil, map[string]string{"hq/x/p.jpg": encoded, "lq/x/p.jpg": "lq.jpg"}},
		"both turned, keep":    {pair("hq-turned.jpg", "lq-turned.jpg"), with("keep"), nil, map[string]string{"hq/x/p.png": encoded, "lq/x/p.png": encoded}},
		"webp":                 {pair("hq.jpg", "lq.png"), with("webp"), nil, map[string]string{"hq/x/p.webp": encoded, "lq/x/p.webp": encoded}},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, tt.values)
			out := t.TempDir()
			steps := append(slices.Clone(tt.before), step(out, tt.values))
			s, seen := stagetest.New(t, stagetest.Source{tt.pair}, steps...).Run(t, pipeline.RunOptions{})
			got := tree(t, out)
			if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(tt.want)); !slices.Equal(a, b) {
				t.Fatalf("files %q, want %q; failed %v", a, b, s.Failed)
			}
			for file, from := range tt.want {
				copied := ""
				for name, data := range in {
					if bytes.Equal(data, got[file]) && strings.HasPrefix(name, file[:2]) {
						copied = name
					}
				}
				if copied != from {
					t.Errorf("%s is a copy of %q, want %q", file, copied, from)
				}
				size := image.Pt(32, 32)
				if strings.HasPrefix(file, "lq") {
					size = size.Div(2)
				}
				if m := read(t, file, got[file]); m.Bounds().Size() != size {
					t.Errorf("%s is %v", file, m.Bounds())
				}
			}
			for _, item := range seen {
				if len(item.Outputs) != 1 || !strings.HasPrefix(item.Outputs[0], out+"/hq/") {
					t.Errorf("outputs %q: the item's picture is the high-quality one", item.Outputs)
				}
			}
		})
	}
}

// A file that changes while the run goes is not copied: the pair fails whole.
func TestACompanionThatChanges(t *testing.T) {
	dir := files(t, map[string][]byte{"hq.png": encodePNG(t, gradient(32, 32)), "lq.png": encodePNG(t, gradient(16, 16))})
	in := pipeline.Input{Name: "p.png", Path: dir + "/hq.png", LQ: &pipeline.Input{Name: "p.png", Path: dir + "/lq.png"}, Scale: 2}
	out := t.TempDir()
	look := stagetest.Step{Info: pipeline.Info{Name: "look", Short: "Looks.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			// Once it is decoded, the file's bytes are no longer in memory.
			if _, err := it.PairFrame(ctx); err != nil {
				it.Fail(err)
			}
			return nil
		}), nil
	}}}
	change := meddle(func() error { return os.WriteFile(dir+"/lq.png", encodePNG(t, gradient(8, 8)), 0o666) })
	s, _ := stagetest.New(t, stagetest.Source{in}, look, change, step(out, nil)).Run(t, pipeline.RunOptions{})
	if s.Quarantined != 1 || len(tree(t, out)) != 0 || !strings.Contains(s.Failed[0].Cause, "changed") {
		t.Errorf("failed %v, wrote %d", s.Failed, len(tree(t, out)))
	}
}

func TestCostOfFormats(t *testing.T) {
	for name, tt := range map[string]struct {
		values map[string]any
		want   int64 // for 12 megapixels
	}{
		"png":  {with("png"), 2<<20 + 32*4000},
		"jpeg": {with("jpeg", "subsampling", "4:2:0"), 1<<20 + 8*12_000_000},
		"webp": {with("webp"), 1<<20 + 36*12_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, tt.values)
			v := map[string]any{"path": "out"}
			maps.Copy(v, tt.values)
			c, err := pipeline.NewConfig(write.Info(), v)
			if err != nil {
				t.Fatal(err)
			}
			stage, err := write.Info().New(t.Context(), c, pipeline.Env{})
			if err != nil {
				t.Fatal(err)
			}
			if got := stage.(pipeline.Coster).Cost(pipeline.Host, nil).Work; got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
