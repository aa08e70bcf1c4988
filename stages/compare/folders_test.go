package compare_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/compare"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plain is a picture of one gray.
func plain(w, h int, v uint8) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = v
	}
	return m
}

func pngOf(t *testing.T, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t *testing.T, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// folder makes a folder of files.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// names are those of all files below a folder, but for the state of runs.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".forgepipe" {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// compared are the results as lines: the state, the name, and what was measured.
func compared(t *testing.T, before, after string, o compare.Options) ([]string, *compare.Report) {
	t.Helper()
	var lines []string
	o.OnResult = func(r compare.Result) {
		line := string(r.State) + " " + r.Name
		if r.Max != nil {
			line += fmt.Sprintf(" %.4g", *r.Max)
		}
		if r.Enlarged {
			line += " enlarged"
		}
		if r.Output != "" {
			line += " > " + r.Output
		}
		if r.Kept {
			line += " kept"
		}
		if r.Fault != "" {
			line += ": " + strings.NewReplacer(before, "BEFORE", after, "AFTER").Replace(r.Fault)
		}
		lines = append(lines, line)
	}
	r, err := compare.Folders(t.Context(), before, after, o)
	if err != nil {
		t.Fatal(err)
	}
	return lines, r
}

func TestFolders(t *testing.T) {
	gray, lighter := plain(40, 30, 100), plain(40, 30, 110)
	colour := image.NewRGBA(gray.Rect)
	for i := range colour.Pix {
		colour.Pix[i] = 100
		if i%4 == 3 {
			colour.Pix[i] = 255
		}
	}
	a := map[string][]byte{
		"same.png": pngOf(t, gray), "equal.png": pngOf(t, gray), "differs.png": pngOf(t, gray), "x/small.png": pngOf(t, plain(10, 15, 100)),
		"gone.png": pngOf(t, gray), "x/y/gone.png": pngOf(t, gray), "cut.png": pngOf(t, gray)[:40], "extension.png": pngOf(t, gray),
		"two.png": pngOf(t, gray), "two.jpg": jpegOf(t, gray), "which.png": pngOf(t, gray), "which.gif": pngOf(t, gray), "empty.jpg": nil,
		"notes.txt": []byte("notes"), "odd\xe9.png": pngOf(t, gray),
	}
	b := map[string][]byte{
		"same.png": a["same.png"], "equal.png": pngOf(t, colour), "differs.png": pngOf(t, lighter), "x/small.png": pngOf(t, gray),
		"cut.png": pngOf(t, gray), "extension.jpg": jpegOf(t, gray), "two.png": pngOf(t, lighter), "two.jpg": jpegOf(t, gray),
		"which.jpg": jpegOf(t, gray), "new/z.png": pngOf(t, gray), "empty.jpg": nil, "odd\xe9.png": pngOf(t, gray),
	}
	before, after := folder(t, a), folder(t, b)
	which := "it cannot be told which files belong together, as several are called which.*: give those that do the same extension, or take away what is too many"
	want := []string{
		"failed cut: BEFORE/cut.png: decoding png: the file is truncated: 40 bytes are too few for 40 x 30 pixels: unexpected EOF",
		"different differs 10",
		"failed empty: BEFORE/empty.jpg: reading image header: the file is empty",
		"equal equal 0",
		"equal extension 0",
		"only_before gone",
		"identical odd%E9",
		"identical same",
		"identical two.jpg",
		"different two.png 10",
		"failed which.gif: " + which,
		"failed which.jpg: " + which,
		"failed which.png: " + which,
		"only_after new/z",
		"different x/small 0 enlarged",
		"only_before x/y/gone",
	}
	for _, workers := range []int{1, 3} {
		got, r := compared(t, before, after, compare.Options{Workers: workers})
		if !slices.Equal(got, want) {
			t.Errorf("%d workers: results\n%s\nwant\n%s", workers, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if want := (compare.Report{Pairs: 10, Identical: 3, Equal: 2, Different: 3, OnlyBefore: 2, OnlyAfter: 1, Failed: 5, Ignored: 1}); *r != want {
			t.Errorf("%d workers: %+v, want %+v", workers, *r, want)
		}
	}

	t.Run("list", func(t *testing.T) {
		got, r := compared(t, before, after, compare.Options{List: true})
		got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, "failed which") })
		if matched := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return !strings.HasPrefix(l, "matched") }); len(matched) != 10 || len(got) != 13 || r.Pairs != 10 {
			t.Errorf("%d results, of which %d have a counterpart: %q", len(got), len(matched), got)
		}
	})
	t.Run("drawn", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "new", "out")
		o := compare.Options{Out: out, Sheet: sheet.Options{Layout: sheet.Split, MaxSide: 64}}
		got, r := compared(t, before, after, o)
		drawn := []string{"differs.png", "equal.png", "extension.png", "odd\xe9.png", "same.png", "two.jpg.png", "two.png.png", "x/small.png"}
		if all := names(t, out); !slices.Equal(all, drawn) || r.Drawn != 8 {
			t.Errorf("%d were drawn: %q", r.Drawn, all)
		}
		if !slices.Contains(got, "different x/small 0 enlarged > x/small.png") {
			t.Errorf("results %q", got)
		}
		first, err := os.ReadFile(filepath.Join(out, "differs.png"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(bytes.NewReader(first)); err != nil {
			t.Error(err)
		}
		// What is there is left alone, and still compared.
		if err := os.WriteFile(filepath.Join(out, "same.png"), []byte("the user's"), 0o666); err != nil {
			t.Fatal(err)
		}
		got, r = compared(t, before, after, o)
		if r.Kept != 8 || r.Drawn != 0 || r.Different != 3 || !slices.Contains(got, "different differs 10 > differs.png kept") {
			t.Errorf("again: %+v, %q", r, got)
		}
		if b, _ := os.ReadFile(filepath.Join(out, "same.png")); string(b) != "the user's" {
			t.Error("a file was written over")
		}
		o.Overwrite = true
		if _, r = compared(t, before, after, o); r.Drawn != 8 || !slices.Equal(names(t, out), drawn) {
			t.Errorf("with overwrite: %+v, %q", r, names(t, out))
		}
		if again, err := os.ReadFile(filepath.Join(out, "differs.png")); err != nil || !bytes.Equal(again, first) {
			t.Errorf("the same sheet has other bytes (%v)", err)
		}
	})
	if got, _ := compared(t, before, after, compare.Options{Memory: 1000}); !slices.ContainsFunc(got, func(l string) bool {
		return strings.HasPrefix(l, "failed differs: comparison needs ")
	}) {
		t.Errorf("with memory for nothing: %q", got)
	}
}

func TestSuffix(t *testing.T) {
	p := pngOf(t, plain(8, 8, 1))
	before, after := folder(t, map[string][]byte{"0001x4.png": p, "0002x4.png": p, "0003.png": p}), folder(t, map[string][]byte{"0001.png": p, "0003.png": p, "0002.jpg": jpegOf(t, plain(8, 8, 1))})
	got, _ := compared(t, before, after, compare.Options{Suffix: "x4"})
	if want := []string{"identical 0001", "equal 0002 0", "identical 0003"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, _ = compared(t, before, after, compare.Options{}); len(got) != 5 {
		t.Errorf("suffixes are guessed: %q", got)
	}
}

// A suffix that is all of a name is that name.
func TestSuffixAlone(t *testing.T) {
	p := pngOf(t, plain(8, 8, 1))
	before, after, out := folder(t, map[string][]byte{"x4.png": p, "ax4.png": p}), folder(t, map[string][]byte{"x4.png": p, "a.png": p}), t.TempDir()
	got, _ := compared(t, before, after, compare.Options{Suffix: "x4", Out: out})
	if want := []string{"identical a 0 > a.png", "identical x4 0 > x4.png"}; !slices.Equal(got, want) || !slices.Equal(names(t, out), []string{"a.png", "x4.png"}) {
		t.Errorf("%q, want %q; drawn are %q", got, want, names(t, out))
	}
}

// Each pair has a sheet of its own, however alike names are.
func TestNamesThatAreAlike(t *testing.T) {
	p, j := pngOf(t, plain(8, 8, 1)), jpegOf(t, plain(8, 8, 1))
	all := map[string][]byte{"a.png": p, "a.jpg": j, "a.png.jpg": j, "a.png.jpg.png": p, "a.jpg.gif": p, "b/a.png": p, "c.png": p, "c.png.jpg": j}
	before, after := folder(t, all), folder(t, all)
	for range 3 {
		out := t.TempDir()
		got, r := compared(t, before, after, compare.Options{Suffix: "x4", Out: out, Workers: 3})
		want := []string{
			"identical a.jpg 0 > a.jpg.png", "identical a.jpg.gif 0 > a.jpg.gif.png", "identical a.png 0 > a.png.png",
			"identical a.png.jpg 0 > a.png.jpg.png", "identical a.png.jpg.png 0 > a.png.jpg.png.png",
			"identical c 0 > c.png", "identical c.png 0 > c.png.png", "identical b/a 0 > b/a.png",
		}
		if !slices.Equal(got, want) || r.Drawn != 8 || len(names(t, out)) != 8 {
			t.Fatalf("%q\nwant %q\ndrawn are %q", got, want, names(t, out))
		}
	}
}

// Where sheets could get among the pictures, nothing is written.
func TestPlacesOfFolders(t *testing.T) {
	p := pngOf(t, plain(8, 8, 1))
	base := folder(t, map[string][]byte{"hq/a.png": p, "lq/a.png": p, "file": nil})
	if err := os.Symlink("hq", base+"/link"); err != nil {
		t.Fatal(err)
	}
	all := names(t, base)
	for name, tt := range map[string]struct{ before, after, out, want string }{
		"in one":          {"lq", "hq", "hq/sheets", "lie in each other"},
		"the same":        {"lq", "hq", "lq", "lie in each other"},
		"around both":     {"lq", "hq", ".", "lie in each other"},
		"in one, by link": {"lq", "hq", "link/sheets", "lie in each other"},
		"a file":          {"lq", "hq", "file", "file"},
		"no folder":       {"lq", "file", "out", "is no folder"},
		"nothing":         {"lq", "nowhere", "out", "no such file"},
		"one folder":      {"hq", "link", "out", "are the same folder"},
	} {
		_, err := compare.Folders(t.Context(), base+"/"+tt.before, base+"/"+tt.after, compare.Options{Out: base + "/" + tt.out})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, new(*compare.OptionError)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if now := names(t, base); !slices.Equal(now, all) {
		t.Errorf("there are new files: %q", now)
	}
}

// An interruption leaves whole files only.
func TestInterrupted(t *testing.T) {
	files := map[string][]byte{}
	for i := range 40 {
		files[fmt.Sprintf("%02d.png", i)] = pngOf(t, plain(300, 200, uint8(i)))
	}
	before, after, out := folder(t, files), folder(t, files), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	r, err := compare.Folders(ctx, before, after, compare.Options{Out: out, OnResult: func(compare.Result) {
		if n++; n == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || r == nil || r.Drawn < 3 || r.Drawn > 20 || n != int(r.Drawn) {
		t.Fatalf("%+v after %d results, %v", r, n, err)
	}
	for _, name := range names(t, out) {
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(bytes.NewReader(data)); err != nil || !strings.HasSuffix(name, ".png") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiles(t *testing.T) {
	lighter := plain(40, 30, 100)
	lighter.SetGray(3, 3, color.Gray{Y: 140})
	dir := folder(t, map[string][]byte{"a.png": pngOf(t, plain(40, 30, 100)), "b.png": pngOf(t, lighter), "broken.png": []byte("no picture"), "taken.png": []byte("mine")})
	in := func(name string) string { return dir + "/" + name }
	o := compare.Options{Out: in("sheet.PNG")}
	r, err := compare.Files(t.Context(), in("a.png"), in("b.png"), o)
	if err != nil || r.State != compare.Different || *r.Max != 40 || r.Output != o.Out {
		t.Fatalf("%+v, %v", r, err)
	}
	if data, err := os.ReadFile(o.Out); err != nil || len(data) < 1000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	all := names(t, dir)
	for name, tt := range map[string]struct {
		a, b, out string
		overwrite bool
		want      string
	}{
		"taken":          {"a.png", "b.png", "taken.png", false, "a file is there already"},
		"an input":       {"a.png", "b.png", "b.png", true, "is one of the files that are compared"},
		"a folder":       {"a.png", "b.png", "../" + filepath.Base(dir) + "/x.png/..", true, "does not end in .png"},
		"another format": {"a.png", "b.png", "x.gif", true, "does not end in .png"},
		"broken":         {"a.png", "broken.png", "x.png", false, "broken.png: reading image header: this is not an image"},
		"nothing":        {"a.png", "none.png", "x.png", false, "no such file"},
		"a folder too":   {"a.png", ".", "x.png", false, "is a folder, not an image"},
	} {
		_, err := compare.Files(t.Context(), in(tt.a), in(tt.b), compare.Options{Out: in(tt.out), Overwrite: tt.overwrite})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if now := names(t, dir); !slices.Equal(now, all) {
		t.Errorf("there are new files: %q", now)
	}
	if b, _ := os.ReadFile(in("taken.png")); string(b) != "mine" {
		t.Error("a file was written over")
	}
	o = compare.Options{Out: in("taken.png"), Overwrite: true}
	if _, err := compare.Files(t.Context(), in("a.png"), in("b.png"), o); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(in("taken.png")); len(b) < 1000 {
		t.Error("with overwrite nothing was written")
	}
}

// What is said of limits can be done: a comparison has none that could be set.
func TestLimits(t *testing.T) {
	before, after := folder(t, map[string][]byte{"a.png": pngOf(t, plain(40, 30, 1))}), folder(t, map[string][]byte{"a.png": pngOf(t, plain(40, 30, 2))})
	animated := sheet.Options{Format: sheet.WebP, Seconds: 60, Speed: 0.1, FPS: 50}
	for name, tt := range map[string]struct {
		o    compare.Options
		want string
	}{
		"pixels": {compare.Options{Limits: pipeline.Limits{MaxPixels: 1000}}, "a.png: header says 40 x 30 = 1200 pixels, the limit is 1000 pixels: make it smaller, or take the stage compare, in a pipeline with limits.pixels"},
		"bytes":  {compare.Options{Limits: pipeline.Limits{MaxFileBytes: 20}}, "the limit is 20: make it smaller, or take the stage compare, in a pipeline with limits.file_bytes"},
		"frames": {compare.Options{Out: t.TempDir(), Memory: 16 << 20, Sheet: animated}, "comparison with 30000 frames needs "},
		"sheets": {compare.Options{Out: t.TempDir(), Memory: 1 << 20}, "comparison needs "},
	} {
		if _, err := imageio.WebPLibrary(); err != nil && tt.o.Sheet.Format == sheet.WebP {
			continue
		}
		if got, _ := compared(t, before, after, tt.o); len(got) != 1 || !strings.Contains(got[0], tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// What a killed comparison has left is removed by the next one, unless another one is at
// work there.
func TestLeftoversAreRemoved(t *testing.T) {
	p := pngOf(t, plain(8, 8, 1))
	before, after := folder(t, map[string][]byte{"a.png": p, "b/c.png": p}), folder(t, map[string][]byte{"a.png": p, "b/c.png": p})
	const left, mine, run = ".forgepipe-compare-ABCDEFGHIJKLMNOPQRSTUVWXYZ.tmp", ".forgepipe-compare-notes.tmp", ".forgepipe-ab12-1.tmp"
	out := folder(t, map[string][]byte{left: p, mine: p, run: p})
	other, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_SH); err != nil {
		t.Skip(err)
	}
	compared(t, before, after, compare.Options{Out: out})
	if got, want := names(t, out), []string{run, left, mine, "a.png", "b/c.png"}; !slices.Equal(got, want) {
		t.Errorf("beside another one, there are %q, want %q", got, want)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := compare.Files(t.Context(), before+"/a.png", after+"/a.png", compare.Options{Out: out + "/d.png"}); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, out), []string{run, mine, "a.png", "b/c.png", "d.png"}; !slices.Equal(got, want) {
		t.Errorf("then there are %q, want %q", got, want)
	}
}

// The distance of a network is a figure of its own, in results and on sheets.
func TestLPIPSIsMeasured(t *testing.T) {
	before := folder(t, map[string][]byte{"a.png": pngOf(t, plain(64, 48, 60)), "b.png": pngOf(t, plain(64, 48, 9)), "c.png": pngOf(t, plain(9, 9, 9))})
	after := folder(t, map[string][]byte{"a.png": pngOf(t, plain(64, 48, 90)), "b.png": pngOf(t, plain(64, 48, 9)), "c.png": pngOf(t, plain(9, 9, 10))})
	network := filepath.Join(t.TempDir(), "net.onnx")
	if err := testnet.Embedder(testnet.EmbedderOptions{}).WriteFile(network); err != nil {
		t.Fatal(err)
	}
	d, err := lpips.Open(t.Context(), lpips.Options{Threads: 1}, network)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want, err := d.Of(t.Context(), plain(64, 48, 60), plain(64, 48, 90))
	if err != nil {
		t.Fatal(err)
	}
	var all []compare.Result
	sheets := map[bool][]byte{}
	for _, with := range []bool{false, true} {
		o := compare.Options{Out: t.TempDir(), OnResult: func(r compare.Result) { all = append(all, r) }}
		if with {
			o.LPIPS = d
		}
		if _, err := compare.Folders(t.Context(), before, after, o); err != nil {
			t.Fatal(err)
		}
		if sheets[with], err = os.ReadFile(filepath.Join(o.Out, "a.png")); err != nil {
			t.Fatal(err)
		}
	}
	if a := all[3]; all[0].LPIPS != nil || a.LPIPS == nil || *a.LPIPS != want || !(want > 0) {
		t.Errorf("without and with LPIPS, which is %v, results are %+v", want, all)
	}
	if all[4].State != compare.Identical || all[4].LPIPS != nil {
		t.Errorf("of identical files it says %+v", all[4])
	}
	if all[5].State != compare.Failed || !strings.Contains(all[5].Fault, "9 x 9 pixels are too small") {
		t.Errorf("of small pictures it says %+v", all[5])
	}
	if bytes.Equal(sheets[false], sheets[true]) {
		t.Error("the figure is not on the sheet")
	}
	_, err = compare.Files(t.Context(), filepath.Join(before, "a.png"), filepath.Join(after, "a.png"), compare.Options{LPIPS: d, Sheet: sheet.Options{Region: image.Rect(0, 0, 9, 9)}})
	if wrong := (*compare.OptionError)(nil); !errors.As(err, &wrong) {
		t.Errorf("with a region, the error is %v", err)
	}
}
