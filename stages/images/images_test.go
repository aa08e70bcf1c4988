package images_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/unprivileged"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// emitted runs a pipeline on the source, and tells what it emits.
func emitted(t *testing.T, values map[string]any) (stagetest.Emitted, *pipeline.Summary) {
	t.Helper()
	e, _, s := stagetest.Emit(t, images.Info(), values)
	return e, s
}

func TestWhatAFolderHolds(t *testing.T) {
	dir := stagetest.Tree(t,
		"a.jpg", "b.PNG", "c", "notes.md", "bare", "empty.dat", "sub/d.png", "sub/deeper/e.pic",
		".hidden.jpg", ".forgepipe/run.db", ".forgepipe/cache.png",
		"folder.jpg/in.png",
		"linked.png -> a.jpg", "linkeddir -> sub", "linkeddir.jpg -> sub",
		"gone.jpg -> nowhere.jpg", "gone -> nowhere", "loop.jpg -> loop.jpg", "up -> ..",
		"pipe.jpg |", "pipe |", "sock.png !", "pipelink.png -> pipe",
	)
	f, s := emitted(t, map[string]any{"path": dir})

	want := []string{
		"a.jpg", "b.PNG", "bare", "folder.jpg", "folder.jpg/in.png", "gone.jpg", "linked.png", "loop.jpg",
		"pipe.jpg", "pipelink.png", "sock.png", "sub/d.png", "sub/deeper/e.pic",
	}
	if !slices.Equal(f.Order, want) {
		t.Errorf("offered %q\nwant    %q", f.Order, want)
	}
	wantFailed := map[string]string{
		"folder.jpg":   "it is a folder, not an image",
		"gone.jpg":     "broken link to nowhere.jpg: no such file or directory",
		"loop.jpg":     "broken link to loop.jpg: too many levels of symbolic links",
		"pipe.jpg":     "it is a named pipe, not an image",
		"pipelink.png": "it is a named pipe, not an image",
		"sock.png":     "it is a socket, not an image",
	}
	if !maps.Equal(f.Failed, wantFailed) {
		t.Errorf("failed %q\nwant   %q", f.Failed, wantFailed)
	}
	wantIgnored := map[string]string{
		"c": "not an image", "notes.md": "not an image", "empty.dat": "not an image",
		".hidden.jpg": "hidden", ".forgepipe": "hidden",
		"linkeddir": "link to a folder, not followed", "linkeddir.jpg": "link to a folder, not followed", "up": "link to a folder, not followed",
		"gone": "broken link to nowhere: no such file or directory", "pipe": "a named pipe",
	}
	if !maps.Equal(f.Ignored, wantIgnored) {
		t.Errorf("ignored %q\nwant    %q", f.Ignored, wantIgnored)
	}
	if f.Counted != 13 || s.Inputs != 13 {
		t.Errorf("counted %d, and told of %d inputs; want 13", f.Counted, s.Inputs)
	}
	if s.In != 13 || s.Out != 7 || s.Quarantined != 6 || s.Ignored != 10 {
		t.Errorf("summary in %d, out %d, quarantined %d, ignored %d; want 13, 7, 6, 10", s.In, s.Out, s.Quarantined, s.Ignored)
	}
}

func TestOrderIsThatOfTheNames(t *testing.T) {
	names := []string{
		"a-b.png", "a.png", "a/z.png", "a/b/c.png", "a0.png", "A.png", "b @1%.png", "b/x y.png", "\xff\xfe.png", "d\xe9j\xe0/\xc3.png",
		"ä.png", "a b/1.png", "z/10.png", "z/9.png", "z-/1.png", "z.d/1.png", "emoji \U0001F600.png", "new\nline.png",
	}
	dir := stagetest.Tree(t, names...)
	f, s := emitted(t, map[string]any{"path": dir})
	want := slices.Sorted(slices.Values(names))
	if !slices.Equal(f.Order, want) {
		t.Errorf("order %q\nwant  %q", f.Order, want)
	}
	if s.Out != int64(len(names)) {
		t.Errorf("%d of %d items came through: %v", s.Out, len(names), s.Failed)
	}
	for _, in := range f.Inputs {
		if want := filepath.Join(dir, in.Name); in.Path != want {
			t.Errorf("path of %q is %q, want %q", in.Name, in.Path, want)
		}
	}
}

func TestFlatFolder(t *testing.T) {
	dir := stagetest.Tree(t, "a.png", "sub/b.png", "x.jpg/c.png")
	f, _ := emitted(t, map[string]any{"path": dir, "recursive": "false"})
	if !slices.Equal(f.Order, []string{"a.png", "x.jpg"}) || f.Failed["x.jpg"] == "" || f.Ignored["sub"] != "a folder, and recursive is false" {
		t.Errorf("offered %q, failed %q, ignored %q", f.Order, f.Failed, f.Ignored)
	}
}

func TestUnreadable(t *testing.T) {
	if unprivileged.Rerun(t) {
		return
	}
	dir := stagetest.Tree(t, "a.png", "shut/b.png", "shut.jpg/c.png", "secret")
	for _, name := range []string{"shut", "shut.jpg", "secret"} {
		if err := os.Chmod(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(dir, name), 0o700) })
	}
	f, s := emitted(t, map[string]any{"path": dir})
	if !slices.Equal(f.Order, []string{"a.png", "shut.jpg", "shut.jpg/", "shut/"}) {
		t.Errorf("offered %q", f.Order)
	}
	if got := f.Failed["shut/"]; got != "reading the folder: permission denied" {
		t.Errorf("the folder failed with %q", got)
	}
	if got := f.Ignored["secret"]; got != "not known to be an image, and cannot be opened: permission denied" {
		t.Errorf("the file was ignored because %q", got)
	}
	if s.Out != 1 || s.Quarantined != 3 {
		t.Errorf("out %d, quarantined %d", s.Out, s.Quarantined)
	}
}

func TestSidecars(t *testing.T) {
	names := []string{"a.jpg", "a.txt", "a.JSON", "a.md", "b.jpg", "b.png", "b.xmp", "orphan.txt", "sub/a.txt", "sub/c.png", "sub/c.npz", "d.txt/", "d.png", "a.b.txt", "e.png", "e.caption -> a.txt", "f.png", "f.txt -> nowhere"}
	tests := map[string]struct {
		values   map[string]any
		sidecars map[string][]string
		ignored  []string
	}{
		"default": {
			nil,
			map[string][]string{"a.jpg": {"a.JSON", "a.txt"}, "b.jpg": {"b.xmp"}, "b.png": {"b.xmp"}, "sub/c.png": {"c.npz"}, "e.png": {"e.caption"}},
			[]string{"a.b.txt", "a.md", "f.txt", "orphan.txt", "sub/a.txt"},
		},
		"one extension": {
			map[string]any{"sidecars": []string{".TXT"}},
			map[string][]string{"a.jpg": {"a.txt"}},
			[]string{"a.JSON", "a.b.txt", "a.md", "b.xmp", "e.caption", "f.txt", "orphan.txt", "sub/a.txt", "sub/c.npz"},
		},
		"none": {
			map[string]any{"sidecars": []string{}},
			map[string][]string{},
			[]string{"a.JSON", "a.b.txt", "a.md", "a.txt", "b.xmp", "e.caption", "f.txt", "orphan.txt", "sub/a.txt", "sub/c.npz"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{"path": stagetest.Tree(t, names...)}
			maps.Copy(values, tt.values)
			f, _ := emitted(t, values)
			if !maps.EqualFunc(f.Sidecars, tt.sidecars, slices.Equal) {
				t.Errorf("sidecars %q\nwant     %q", f.Sidecars, tt.sidecars)
			}
			if got := slices.Sorted(maps.Keys(f.Ignored)); !slices.Equal(got, tt.ignored) {
				t.Errorf("ignored %q\nwant    %q", got, tt.ignored)
			}
		})
	}
	t.Run("what is known of one", func(t *testing.T) {
		dir := stagetest.Tree(t, "a.png", "a.txt")
		f, _ := emitted(t, map[string]any{"path": dir})
		info, err := os.Stat(filepath.Join(dir, "a.txt"))
		if err != nil {
			t.Fatal(err)
		}
		want := pipeline.Sidecar{Ext: ".txt", Path: filepath.Join(dir, "a.txt"), Size: 1, Time: info.ModTime().UnixNano()}
		if len(f.Inputs) != 1 || len(f.Inputs[0].Sidecars) != 1 || f.Inputs[0].Sidecars[0] != want {
			t.Errorf("inputs %+v, want the sidecar %+v", f.Inputs, want)
		}
	})
}

func TestKeepExtension(t *testing.T) {
	tests := map[string]struct{ names, keep []string }{
		"one image of a stem":           {[]string{"a.jpg", "b.png"}, nil},
		"two":                           {[]string{"a.jpg", "a.png", "b.png"}, []string{"a.jpg", "a.png"}},
		"three":                         {[]string{"a.gif", "a.jpg", "a.png"}, []string{"a.gif", "a.jpg", "a.png"}},
		"in different folders":          {[]string{"a.jpg", "sub/a.png"}, nil},
		"a stem that is a name":         {[]string{"a.jpg", "a.jpg.gif"}, nil},
		"a stem that is a kept name":    {[]string{"a.jpg", "a.jpg.gif", "a.png"}, []string{"a.jpg", "a.jpg.gif", "a.png"}},
		"and so on":                     {[]string{"a.jpg", "a.jpg.gif", "a.jpg.gif.png", "a.png"}, []string{"a.jpg", "a.jpg.gif", "a.jpg.gif.png", "a.png"}},
		"an image without an extension": {[]string{"bare", "bare.png"}, []string{"bare", "bare.png"}},
		"a sidecar does not count":      {[]string{"a.jpg", "a.txt"}, nil},
		"nor a folder":                  {[]string{"a.jpg/", "a.png"}, nil},
		"a broken link does":            {[]string{"a.jpg -> nowhere", "a.png"}, []string{"a.jpg", "a.png"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := stagetest.Tree(t, tt.names...)
			f, _ := emitted(t, map[string]any{"path": dir})
			if !slices.Equal(f.Keep, tt.keep) {
				t.Errorf("keep their extension %q, want %q", f.Keep, tt.keep)
			}
			list := filepath.Join(t.TempDir(), "list")
			var lines []string
			for _, n := range tt.names {
				n, _, _ = strings.Cut(n, " -> ")
				if strings.HasSuffix(n, "/") || strings.HasSuffix(n, ".txt") {
					continue
				}
				lines = append(lines, n)
			}
			slices.Reverse(lines)
			if err := os.WriteFile(list, []byte(strings.Join(lines, "\n")), 0o666); err != nil {
				t.Fatal(err)
			}
			if f, _ = emitted(t, map[string]any{"path": dir, "list": list}); !slices.Equal(f.Keep, tt.keep) {
				t.Errorf("in a list, %q keep their extension, want %q", f.Keep, tt.keep)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	names := []string{"1.jpg", "2.png", "1.txt", "notes", "sub/3.jpg", "sub/4.png", "sub/deep/5.jpg", "sub/deep/6.JPG", "other/7.jpg", ".h/8.jpg", "sub/.h/9.jpg", "link -> sub", "x[1]/9.jpg", "pipe.jpg |", ".x"}
	tests := map[string]struct {
		pattern        string
		order, ignored []string
		root           string
	}{
		"in the folder":           {"*.jpg", []string{"1.jpg", "pipe.jpg"}, nil, ""},
		"a set":                   {"[2-9].*", []string{"2.png"}, nil, ""},
		"one character":           {"?.png", []string{"2.png"}, nil, ""},
		"one level":               {"*/*.jpg", []string{"other/7.jpg", "sub/3.jpg", "x[1]/9.jpg"}, []string{".h", "link"}, ""},
		"all levels":              {"**/*.jpg", []string{"1.jpg", "other/7.jpg", "pipe.jpg", "sub/3.jpg", "sub/deep/5.jpg", "x[1]/9.jpg"}, []string{".h", "link", "sub/.h"}, ""},
		"all levels of one":       {"sub/**/*.jpg", []string{"3.jpg", "deep/5.jpg"}, []string{".h"}, "sub"},
		"in the middle":           {"**/deep/*", []string{"sub/deep/5.jpg", "sub/deep/6.JPG"}, []string{".h", "link", "sub/.h"}, ""},
		"everything below":        {"sub/**", []string{"3.jpg", "4.png", "deep/5.jpg", "deep/6.JPG"}, []string{".h"}, "sub"},
		"twice":                   {"**/**/*.png", []string{"2.png", "sub/4.png"}, []string{".h", "link", "sub/.h"}, ""},
		"everything in it":        {"*", []string{"1.jpg", "2.png", "pipe.jpg"}, []string{".h", ".x", "link", "notes"}, ""},
		"something else":          {"*.txt", nil, []string{"1.txt"}, ""},
		"a folder with brackets":  {"x[1]", []string{"9.jpg"}, nil, "x[1]"},
		"a pattern below such":    {"x[1]/*.jpg", []string{"9.jpg"}, nil, "x[1]"},
		"a folder of a set":       {"[so]*/*.png", []string{"sub/4.png"}, nil, ""},
		"nothing can match above": {"sub/deep/*.png", nil, nil, "sub/deep"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := stagetest.Tree(t, names...)
			f, _ := emitted(t, map[string]any{"path": filepath.Join(dir, tt.pattern)})
			if !slices.Equal(f.Order, tt.order) {
				t.Errorf("offered %q, want %q", f.Order, tt.order)
			}
			if got := slices.Sorted(maps.Keys(f.Ignored)); !slices.Equal(got, tt.ignored) {
				t.Errorf("ignored %q, want %q", got, tt.ignored)
			}
			if slices.Contains(f.Order, "1.jpg") && !slices.Equal(f.Sidecars["1.jpg"], []string{"1.txt"}) {
				t.Errorf("sidecars %q: they need not match the pattern", f.Sidecars)
			}
			for _, in := range f.Inputs {
				if in.Path != "" && in.Path != filepath.Join(dir, tt.root, in.Name) {
					t.Errorf("%q is at %q: names are relative to %q", in.Name, in.Path, tt.root)
				}
			}
		})
	}
	t.Run("relative", func(t *testing.T) {
		dir := stagetest.Tree(t, "set[1]/a.png", "set[1]/sub/b.png")
		t.Chdir(filepath.Join(dir, "set[1]"))
		f, _ := emitted(t, map[string]any{"path": "*/*.png"})
		if !slices.Equal(f.Order, []string{"sub/b.png"}) {
			t.Errorf("offered %q", f.Order)
		}
	})
}

func TestOneFile(t *testing.T) {
	dir := stagetest.Tree(t, "a.png", "a.txt", "a.XMP", "b.png", "a.md")
	f, s := emitted(t, map[string]any{"path": filepath.Join(dir, "a.png")})
	if !slices.Equal(f.Order, []string{"a.png"}) || s.Out != 1 || s.Ignored != 0 {
		t.Errorf("offered %q, summary %+v", f.Order, s)
	}
	if !slices.Equal(f.Sidecars["a.png"], []string{"a.XMP", "a.txt"}) {
		t.Errorf("sidecars %q", f.Sidecars)
	}
}

func TestLists(t *testing.T) {
	dir := stagetest.Tree(t, "in/a.png", "in/sub/b.png", "in/sub/b.txt", "in/notes.txt", "in/folder/x.png", "out.png", "in/ spaced .png", "in/r\xe9.png", "in/.h.png")
	in := filepath.Join(dir, "in")
	tests := map[string]struct {
		text    string
		order   []string
		failed  []string // by the source; the engine finds out the rest
		ignored map[string]string
		out     int64
	}{
		"names":               {"sub/b.png\na.png\n", []string{"a.png", "sub/b.png"}, nil, nil, 2},
		"no last newline":     {"a.png", []string{"a.png"}, nil, nil, 1},
		"windows":             {"\xef\xbb\xbfa.png\r\nsub/b.png\r\n", []string{"a.png", "sub/b.png"}, nil, nil, 2},
		"comments":            {"# all\n\na.png\n#sub/b.png\n", []string{"a.png"}, nil, nil, 1},
		"spellings of a path": {"./a.png\nsub//b.png\nsub/../a.png\n", []string{"a.png", "sub/b.png"}, nil, map[string]string{"a.png": "listed twice"}, 2},
		"absolute":            {in + "/a.png\n", []string{"a.png"}, nil, nil, 1},
		"outside":             {"../out.png\n" + dir + "/out.png\na.png\n", []string{"a.png", "../out.png", dir + "/out.png"}, []string{"../out.png", dir + "/out.png"}, nil, 1},
		"missing":             {"a.png\nnot.png\n", []string{"a.png", "not.png"}, nil, nil, 1},
		"no image":            {"notes.txt\na.png\n", []string{"a.png", "notes.txt"}, nil, nil, 1},
		"a folder":            {"folder\na.png\n", []string{"a.png", "folder"}, []string{"folder"}, nil, 1},
		"raw bytes, spaces":   {" spaced .png\nr\xe9.png\n", []string{" spaced .png", "r\xe9.png"}, nil, nil, 2},
		"hidden":              {".h.png\n", []string{".h.png"}, nil, nil, 1},
		"thrice":              {"a.png\na.png\nsub/b.png\na.png\n", []string{"a.png", "sub/b.png"}, nil, map[string]string{"a.png": "listed twice"}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			list := filepath.Join(in, "list")
			if err := os.WriteFile(list, []byte(tt.text), 0o666); err != nil {
				t.Fatal(err)
			}
			f, s := emitted(t, map[string]any{"list": list})
			if !slices.Equal(f.Order, tt.order) {
				t.Errorf("offered %q, want %q", f.Order, tt.order)
			}
			if got := slices.Sorted(maps.Keys(f.Failed)); !slices.Equal(got, tt.failed) {
				t.Errorf("failed %q, want %q", got, tt.failed)
			}
			if !maps.Equal(f.Ignored, tt.ignored) {
				t.Errorf("ignored %q, want %q", f.Ignored, tt.ignored)
			}
			if s.Out != tt.out || s.Quarantined != int64(len(tt.order))-tt.out {
				t.Errorf("out %d, quarantined %d, want %d and the rest of %d", s.Out, s.Quarantined, tt.out, len(tt.order))
			}
			if slices.Contains(f.Order, "sub/b.png") && !slices.Equal(f.Sidecars["sub/b.png"], []string{"b.txt"}) {
				t.Errorf("sidecars %q", f.Sidecars)
			}
		})
	}
	t.Run("beside another folder", func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(list, []byte("a.png\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if f, s := emitted(t, map[string]any{"list": list, "path": in}); s.Out != 1 || f.Inputs[0].Path != filepath.Join(in, "a.png") {
			t.Errorf("offered %+v, out %d", f.Inputs, s.Out)
		}
	})
	t.Run("a line without an end", func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(list, []byte("a.png\n"+strings.Repeat("x", 70<<10)), 0o666); err != nil {
			t.Fatal(err)
		}
		b := stagetest.New(t, nil)
		if err := b.UseSource(t.Context(), pipeline.NewRegistry(images.Info()), "images", map[string]any{"list": list}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Try(t, pipeline.RunOptions{}); err == nil || !strings.Contains(err.Error(), "line 2 of") {
			t.Errorf("the run ended with %v", err)
		}
	})
}

func TestWrongConfigurations(t *testing.T) {
	dir := stagetest.Tree(t, "a.png", "list")
	tests := map[string]struct {
		values map[string]any
		field  string
		want   string
	}{
		"nothing":            {map[string]any{}, "path", "give the folder to read"},
		"missing":            {map[string]any{"path": dir + "/not"}, "path", "no such file"},
		"missing list":       {map[string]any{"list": dir + "/not"}, "list", "no such file"},
		"list is a folder":   {map[string]any{"list": dir}, "list", "is a folder"},
		"list below a file":  {map[string]any{"list": dir + "/list", "path": dir + "/a.png"}, "path", "not a folder"},
		"pattern's folder":   {map[string]any{"path": dir + "/not/*.png"}, "path", "no such file"},
		"pattern":            {map[string]any{"path": dir + "/[z"}, "path", "syntax error in pattern"},
		"two stars":          {map[string]any{"path": dir + "/a**"}, "path", "must be alone"},
		"extension":          {map[string]any{"path": dir, "sidecars": []string{"txt"}}, "sidecars", "with its dot"},
		"image as a sidecar": {map[string]any{"path": dir, "sidecars": []string{".png"}}, "sidecars", "an image's extension"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := pipeline.NewConfig(images.Info(), tt.values)
			if err != nil {
				t.Fatal(err)
			}
			_, err = images.Info().NewSource(t.Context(), c, pipeline.Env{})
			var fe *pipeline.FieldError
			if !errors.As(err, &fe) || fe.Field != tt.field || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %s with %q", err, tt.field, tt.want)
			}
		})
	}
}

func TestFolderGoneAfterConstruction(t *testing.T) {
	dir := stagetest.Tree(t, "sub/a.png")
	c, err := pipeline.NewConfig(images.Info(), map[string]any{"path": dir + "/sub"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := images.Info().NewSource(t.Context(), c, pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.(pipeline.Rooted).Roots(); !slices.Equal(got, []string{dir + "/sub"}) {
		t.Errorf("roots %q", got)
	}
	if err := os.RemoveAll(dir + "/sub"); err != nil {
		t.Fatal(err)
	}
	if err := s.Emit(t.Context(), func(pipeline.Input) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Emit gave %v", err)
	}
}

func TestEmitStopsWhenTold(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("%02d/a.png", i))
	}
	dir := stagetest.Tree(t, names...)
	c, err := pipeline.NewConfig(images.Info(), map[string]any{"path": dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := images.Info().NewSource(t.Context(), c, pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	n := 0
	if err := s.Emit(t.Context(), func(pipeline.Input) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("Emit gave %v after %d inputs", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	if err := s.Emit(ctx, func(pipeline.Input) error { n++; cancel(); return nil }); !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("Emit gave %v after %d inputs", err, n)
	}
}
