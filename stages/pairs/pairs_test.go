package pairs_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/internal/unprivileged"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/pairs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// set makes a data set of scale 4 with stagetest.Tree: pictures are 8x4 below
// hq/ and 2x1 elsewhere.
func set(t *testing.T, names ...string) string {
	t.Helper()
	dir := stagetest.Tree(t, append(names, "hq/", "lq/")...)
	for _, name := range names {
		file := filepath.Join(dir, name)
		if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() || info.Size() < 8 {
			continue // no picture
		}
		size := image.Pt(2, 1)
		if strings.HasPrefix(name, "hq/") {
			size = image.Pt(8, 4)
		}
		if err := stagetest.WritePicture(file, size); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// emitted runs a pipeline on the source, and tells what it emits and which pairs
// arrive.
func emitted(t *testing.T, dir string, more map[string]any) (stagetest.Emitted, map[string]string, *stagetest.Bench, *pipeline.Summary) {
	t.Helper()
	values := map[string]any{"hq": filepath.Join(dir, "hq"), "lq": filepath.Join(dir, "lq"), "scale": 4}
	maps.Copy(values, more)
	e, b, s := stagetest.Emit(t, pairs.Info(), values)
	found := map[string]string{}
	for _, in := range e.Inputs {
		if in.LQ == nil {
			continue
		}
		if !strings.HasSuffix(in.LQ.Path, filepath.Join(filepath.Base(dir), "lq", in.LQ.Name)) || !strings.HasSuffix(in.Path, filepath.Join(filepath.Base(dir), "hq", in.Name)) || in.Scale != 4 {
			t.Errorf("%q is at %q, its companion %q at %q with scale %d", in.Name, in.Path, in.LQ.Name, in.LQ.Path, in.Scale)
		}
		found[in.Name] = in.LQ.Name
	}
	return e, found, b, s
}

func TestWhatBelongsTogether(t *testing.T) {
	const (
		noneCalled = "it has no low-quality companion: no image in DIR/lq is called "
		noImage    = "it is a low-quality companion without its image: no high-quality image is called "
		others     = "it has no low-quality companion of its own: the image called a.* in DIR/lq belongs to another"
		unclear    = "it cannot be told which low-quality companion belongs to which image "
		advice     = ": give them the same extensions, or remove what is too many"
		tooMany    = "it is one low-quality companion too many: that of the same extension as the image is used"
	)
	tests := map[string]struct {
		names  []string
		suffix string
		pairs  map[string]string
		failed map[string]string
	}{
		"same names":                      {[]string{"hq/a.png", "lq/a.png", "hq/s/b.png", "lq/s/b.png"}, "", map[string]string{"a.png": "a.png", "s/b.png": "s/b.png"}, nil},
		"other extensions":                {[]string{"hq/a.png", "lq/a.jpg", "hq/b.JPG", "lq/b.jpg"}, "", map[string]string{"a.png": "a.jpg", "b.JPG": "b.jpg"}, nil},
		"no extension":                    {[]string{"hq/bare", "lq/bare"}, "", map[string]string{"bare": "bare"}, nil},
		"a suffix":                        {[]string{"hq/1.png", "lq/1x4.png", "hq/s/2.png", "lq/s/2x4.jpg"}, "x4", map[string]string{"1.png": "1x4.png", "s/2.png": "s/2x4.jpg"}, nil},
		"a suffix with a dot":             {[]string{"hq/1.png", "lq/1.lr.png"}, ".lr", map[string]string{"1.png": "1.lr.png"}, nil},
		"a name that ends in the suffix":  {[]string{"hq/1.png", "hq/1x4.png", "lq/1x4.png", "lq/1x4x4.png"}, "x4", map[string]string{"1.png": "1x4.png", "1x4.png": "1x4x4.png"}, nil},
		"bytes, not text":                 {[]string{"hq/\xff @%.png", "lq/\xff @%.png"}, "", map[string]string{"\xff @%.png": "\xff @%.png"}, nil},
		"names that sort between":         {[]string{"hq/a.png", "hq/a-.png", "hq/a/a.png", "lq/a.jpg", "lq/a-.jpg", "lq/a/a.jpg"}, "", map[string]string{"a.png": "a.jpg", "a-.png": "a-.jpg", "a/a.png": "a/a.jpg"}, nil},
		"upper and lower case":            {[]string{"hq/A.png", "lq/a.png"}, "", nil, map[string]string{"A.png": noneCalled + "A.*", "../lq/a.png": noImage + "a.*"}},
		"no companion":                    {[]string{"hq/a.png", "hq/b.png", "lq/b.png"}, "", map[string]string{"b.png": "b.png"}, map[string]string{"a.png": noneCalled + "a.*"}},
		"no image":                        {[]string{"hq/b.png", "lq/a.png", "lq/b.png", "lq/c.png"}, "", map[string]string{"b.png": "b.png"}, map[string]string{"../lq/a.png": noImage + "a.*", "../lq/c.png": noImage + "c.*"}},
		"a folder of each":                {[]string{"hq/s/a.png", "lq/t/a.png"}, "", nil, map[string]string{"s/a.png": noneCalled + "s/a.*", "../lq/t/a.png": noImage + "t/a.*"}},
		"a companion elsewhere":           {[]string{"hq/s/a.png", "lq/a.png"}, "", nil, map[string]string{"s/a.png": noneCalled + "s/a.*", "../lq/a.png": noImage + "a.*"}},
		"a forgotten suffix":              {[]string{"hq/s/1.png", "lq/s/1x4.png"}, "", nil, map[string]string{"s/1.png": noneCalled + "s/1.*, but one is called s/1x4.*: set lq_suffix to x4", "../lq/s/1x4.png": noImage + "s/1x4.*"}},
		"a suffix that is not there":      {[]string{"hq/1.png", "lq/1.png"}, "x4", nil, map[string]string{"1.png": noneCalled + "1x4.*", "../lq/1.png": "it is no low-quality companion: its name does not end in x4, which is lq_suffix"}},
		"several of one stem":             {[]string{"hq/a.png", "hq/a.jpg", "lq/a.jpg", "lq/a.png"}, "", map[string]string{"a.png": "a.png", "a.jpg": "a.jpg"}, nil},
		"the last of one stem":            {[]string{"hq/a.png", "hq/a.jpg", "lq/a.jpg", "lq/a.gif"}, "", map[string]string{"a.png": "a.gif", "a.jpg": "a.jpg"}, nil},
		"one companion of two extensions": {[]string{"hq/a.png", "hq/a.jpg", "lq/a.png"}, "", map[string]string{"a.png": "a.png"}, map[string]string{"a.jpg": others}},
		"one companion too many":          {[]string{"hq/a.png", "lq/a.png", "lq/a.jpg"}, "", map[string]string{"a.png": "a.png"}, map[string]string{"../lq/a.jpg": tooMany}},
		"two that one could have":         {[]string{"hq/a.png", "lq/a.gif", "lq/a.jpg"}, "", nil, map[string]string{"a.png": unclear + "(a.gif, a.jpg to a.png)" + advice, "../lq/a.gif": unclear + "(a.gif, a.jpg to a.png)" + advice, "../lq/a.jpg": unclear + "(a.gif, a.jpg to a.png)" + advice}},
		"one that two could have":         {[]string{"hq/a.png", "hq/a.jpg", "lq/a.gif"}, "", nil, map[string]string{"a.png": unclear + "(a.gif to a.jpg, a.png)" + advice, "a.jpg": unclear + "(a.gif to a.jpg, a.png)" + advice, "../lq/a.gif": unclear + "(a.gif to a.jpg, a.png)" + advice}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := set(t, tt.names...)
			e, found, _, s := emitted(t, dir, map[string]any{"lq_suffix": tt.suffix})
			if !maps.Equal(found, tt.pairs) {
				t.Errorf("pairs %q\nwant  %q", found, tt.pairs)
			}
			for name, cause := range e.Failed {
				e.Failed[name] = strings.ReplaceAll(cause, dir, "DIR")
			}
			if !maps.Equal(e.Failed, tt.failed) {
				t.Errorf("failed %q\nwant   %q", e.Failed, tt.failed)
			}
			if len(e.Ignored) > 0 {
				t.Errorf("ignored %q", e.Ignored)
			}
			if s.Out != int64(len(tt.pairs)) || s.Quarantined != int64(len(tt.failed)) {
				t.Errorf("out %d, quarantined %d (%v), want %d and %d", s.Out, s.Quarantined, s.Failed, len(tt.pairs), len(tt.failed))
			}
		})
	}
}

// Everything that can be wrong with the entries of either folder.
func TestWhatFoldersHold(t *testing.T) {
	dir := set(t,
		"hq/a.png", "lq/a.png", "hq/sub/b.png", "lq/sub/b.png",
		"hq/notes.md", "lq/notes.md", "hq/.h.png", "lq/.h.png",
		"hq/a.txt", "lq/a.txt", "hq/orphan.txt",
		"hq/linked.png -> a.png", "lq/linked.png -> a.png", "hq/dir -> sub", "lq/dir -> sub", "hq/up -> ..",
		"hq/gone.png -> nowhere", "lq/gone.png", "hq/lost.png", "lq/lost.png -> lost.png",
		"hq/pipe.png |", "lq/pipe.png |", "lq/pipe2.png |", "hq/pipe3.png", "lq/pipe3.png |",
		"hq/sock.png", "lq/sock.png !",
		"hq/folder.png/x.png", "lq/folder.png/x.png", "hq/half.png/", "lq/half.png",
		"hq/real/r.png", "lq/real -> sub", "hq/link -> sub", "lq/link/l.png",
	)
	e, found, b, s := emitted(t, dir, nil)
	if want := map[string]string{"a.png": "a.png", "sub/b.png": "sub/b.png", "linked.png": "linked.png", "folder.png/x.png": "folder.png/x.png"}; !maps.Equal(found, want) {
		t.Errorf("pairs %q\nwant  %q", found, want)
	}
	for name, cause := range e.Failed {
		e.Failed[name] = strings.ReplaceAll(cause, dir, "DIR")
	}
	wantFailed := map[string]string{
		"gone.png":         "broken link to nowhere: no such file or directory",
		"lost.png":         "low-quality companion lost.png: broken link to lost.png: too many levels of symbolic links",
		"pipe.png":         "it is a named pipe, not an image",
		"../lq/pipe2.png":  "it is a named pipe, not an image",
		"pipe3.png":        "low-quality companion pipe3.png: it is a named pipe, not an image",
		"sock.png":         "low-quality companion sock.png: it is a socket, not an image",
		"folder.png":       "it is a folder, not an image",
		"../lq/folder.png": "it is a folder, not an image",
		"half.png":         "it is a folder, not an image",
		"../lq/half.png":   "it is a low-quality companion without its image: no high-quality image is called half.*",
		"real/r.png":       "it has no low-quality companion: no image in DIR/lq is called real/r.*",
		"../lq/link/l.png": "it is a low-quality companion without its image: no high-quality image is called link/l.*",
	}
	if !maps.Equal(e.Failed, wantFailed) {
		t.Errorf("failed %q\nwant   %q", e.Failed, wantFailed)
	}
	const hidden, noImage, notFollowed = "hidden", "not an image", "link to a folder, not followed"
	wantIgnored := map[string]string{
		"notes.md": noImage, ".h.png": hidden, "orphan.txt": "a sidecar without an image", "dir": notFollowed, "up": notFollowed, "link": notFollowed,
		"../lq/notes.md": noImage, "../lq/.h.png": hidden, "../lq/a.txt": noImage, "../lq/dir": notFollowed, "../lq/real": notFollowed,
	}
	if !maps.Equal(e.Ignored, wantIgnored) {
		t.Errorf("ignored %q\nwant    %q", e.Ignored, wantIgnored)
	}
	if want := map[string][]string{"a.png": {"a.txt"}}; !maps.EqualFunc(e.Sidecars, want, slices.Equal) {
		t.Errorf("sidecars %q, want those of the high-quality image, %q", e.Sidecars, want)
	}
	if s.Out != int64(len(found)) || s.Quarantined != int64(len(wantFailed)) || s.Ignored != int64(len(wantIgnored)) {
		t.Errorf("out %d, quarantined %d, ignored %d; want %d, %d, %d", s.Out, s.Quarantined, s.Ignored, len(found), len(wantFailed), len(wantIgnored))
	}
	record := b.Messages(pipeline.EventFailed)
	for name, cause := range wantFailed {
		if got := record[pipeline.EscapeID(name)]; !strings.Contains(strings.ReplaceAll(got, dir, "DIR"), cause) {
			t.Errorf("the record says %q of %q", got, name)
		}
	}
}

func TestOrder(t *testing.T) {
	dir := set(t, "hq/b.png", "hq/a/z.png", "hq/a.png", "hq/a-.png", "hq/c/d.png", "lq/x.png", "lq/a/y.png", "lq/b.png", "lq/0/1.png")
	want := []string{"a-.png", "a.png", "a/z.png", "../lq/a/y.png", "b.png", "c/d.png", "../lq/0/1.png", "../lq/x.png"}
	for range 3 {
		if e, _, _, _ := emitted(t, dir, nil); !slices.Equal(e.Order, want) {
			t.Errorf("order %q\nwant  %q", e.Order, want)
		}
	}
}

func TestKeepExtension(t *testing.T) {
	dir := set(t, "hq/a.jpg", "hq/a.png", "hq/b.png", "lq/a.jpg", "lq/a.png", "lq/b.gif", "lq/b.png", "lq/c.gif -> nowhere", "lq/c.png -> nowhere")
	if e, _, _, _ := emitted(t, dir, nil); !slices.Equal(e.Keep, []string{"a.jpg", "a.png"}) {
		t.Errorf("keep their extension %q", e.Keep)
	}
}

func TestPairsThatDoNotFit(t *testing.T) {
	tests := map[string]struct {
		hq, lq image.Point
		want   string
	}{
		"fits":              {image.Pt(20, 12), image.Pt(5, 3), ""},
		"too wide":          {image.Pt(21, 12), image.Pt(5, 3), "21 x 12 is not 4 times 5 x 3"},
		"too low":           {image.Pt(20, 11), image.Pt(5, 3), "20 x 11 is not 4 times 5 x 3"},
		"another scale":     {image.Pt(10, 6), image.Pt(5, 3), "10 x 6 is not 4 times 5 x 3"},
		"the wrong way":     {image.Pt(5, 3), image.Pt(20, 12), "5 x 3 is not 4 times 20 x 12"},
		"turned":            {image.Pt(12, 20), image.Pt(5, 3), "12 x 20 is not 4 times 5 x 3"},
		"a corrupt partner": {image.Pt(20, 12), image.Point{}, "low-quality companion a.png: reading image header"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := set(t, "hq/a.png", "lq/a.png")
			if err := stagetest.WritePicture(filepath.Join(dir, "hq/a.png"), tt.hq); err != nil {
				t.Fatal(err)
			}
			var err error
			if tt.lq == (image.Point{}) {
				err = os.WriteFile(filepath.Join(dir, "lq/a.png"), []byte("no picture"), 0o666)
			} else {
				err = stagetest.WritePicture(filepath.Join(dir, "lq/a.png"), tt.lq)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _, b, s := emitted(t, dir, nil)
			got := b.Messages(pipeline.EventFailed)["a.png"]
			if tt.want == "" && s.Out != 1 || tt.want != "" && s.Quarantined != 1 || !strings.Contains(got, tt.want) {
				t.Errorf("out %d, failed with %q, want %q", s.Out, got, tt.want)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	if unprivileged.Rerun(t) {
		return
	}
	dir := set(t, "hq/a.png", "lq/a.png", "hq/h/b.png", "lq/h/b.png", "hq/l/c.png", "lq/l/c.png")
	for _, name := range []string{"hq/h", "lq/l"} {
		if err := os.Chmod(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(dir, name), 0o700) })
	}
	e, _, _, s := emitted(t, dir, nil)
	want := map[string]string{
		"h/": "reading the folder: permission denied", "../lq/h/b.png": "reading the folder of its high-quality image: open " + dir + "/hq/h: permission denied",
		"../lq/l/": "reading the folder: permission denied", "l/c.png": "reading the folder of its low-quality companion: open " + dir + "/lq/l: permission denied",
	}
	if !maps.Equal(e.Failed, want) || s.Out != 1 {
		t.Errorf("out %d, failed %q\nwant %q", s.Out, e.Failed, want)
	}
}

func TestWrongConfigurations(t *testing.T) {
	dir := set(t, "hq/a.png", "lq/a.png", "hq/in/b.png", "again -> hq", "hqx/a.png")
	tests := map[string]struct {
		hq, lq string
		more   map[string]any
		field  string
		want   string
	}{
		"missing hq":         {"no", "lq", nil, "hq", "no such file"},
		"missing lq":         {"hq", "no", nil, "lq", "no such file"},
		"a file":             {"hq", "lq/a.png", nil, "lq", "is not a folder"},
		"the same":           {"hq", "hq", nil, "lq", "the same folder"},
		"the same, by a way": {"hq", "lq/../hq/", nil, "lq", "the same folder"},
		"the same, linked":   {"hq", "again", nil, "lq", "the same folder"},
		"lq in hq":           {"hq", "hq/in", nil, "lq", "lies in the folder hq"},
		"lq in a link to hq": {"again", "hq/in", nil, "lq", "lies in the folder hq"},
		"hq in lq":           {"hq/in", "hq", nil, "hq", "lies in the folder lq"},
		"suffix":             {"hq", "lq", map[string]any{"lq_suffix": "x/4"}, "lq_suffix", "cannot be part"},
		"sidecars":           {"hq", "lq", map[string]any{"sidecars": []string{"txt"}}, "sidecars", "with its dot"},
		"scale 0":            {"hq", "lq", map[string]any{"scale": 0}, "scale", "below the minimum"},
		"scale 17":           {"hq", "lq", map[string]any{"scale": 17}, "scale", "above the maximum"},
		"fine":               {"hq", "hqx", nil, "", ""}, // one name begins with the other
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{"hq": filepath.Join(dir, tt.hq), "lq": dir + "/" + tt.lq, "scale": 4}
			maps.Copy(values, tt.more)
			c, err := pipeline.NewConfig(pairs.Info(), values)
			if err == nil {
				_, err = pairs.Info().NewSource(t.Context(), c, pipeline.Env{})
			}
			if tt.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("error %v, want one about %s with %q", err, tt.field, tt.want)
			}
		})
	}
	for _, field := range []string{"hq", "lq", "scale"} {
		values := map[string]any{"hq": dir + "/hq", "lq": dir + "/lq", "scale": 4}
		delete(values, field)
		if _, err := pipeline.NewConfig(pairs.Info(), values); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("without %s: %v", field, err)
		}
	}
}

func newSource(t *testing.T, dir string) pipeline.Source {
	t.Helper()
	c, err := pipeline.NewConfig(pairs.Info(), map[string]any{"hq": dir + "/hq", "lq": dir + "/lq", "scale": 4})
	if err != nil {
		t.Fatal(err)
	}
	s, err := pairs.Info().NewSource(t.Context(), c, pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFoldersGoneAfterConstruction(t *testing.T) {
	for _, gone := range []string{"hq", "lq"} {
		dir := set(t, "hq/a.png", "lq/a.png")
		s := newSource(t, dir)
		if got := s.(pipeline.Rooted).Roots(); !slices.Equal(got, []string{dir + "/hq", dir + "/lq"}) {
			t.Errorf("roots %q", got)
		}
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		if err := s.Emit(t.Context(), func(pipeline.Input) error { return nil }); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without %s, Emit gave %v", gone, err)
		}
	}
}

func TestEmitStopsWhenTold(t *testing.T) {
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("hq/%02d/a.png", i), fmt.Sprintf("lq/%02d/a.png", 5+i))
	}
	s := newSource(t, set(t, names...))
	for stop := 1; stop <= 15; stop++ { // ten images, the first five without a companion, and five companions without an image
		enough := errors.New("enough")
		n := 0
		err := s.Emit(t.Context(), func(pipeline.Input) error {
			if n++; n == stop {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || n != stop {
			t.Errorf("Emit gave %v after %d inputs of %d", err, n, stop)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if err := s.Emit(ctx, func(pipeline.Input) error { n++; cancel(); return nil }); !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("Emit gave %v after %d inputs", err, n)
	}
}

// The pairs of the test data, whole and broken.
func TestTestdata(t *testing.T) {
	const testdata = "../../testdata"
	e, found, _, s := emitted(t, testdata+"/pairs", nil)
	want := map[string]string{"0001.jpg": "0001.png", "0002.jpg": "0002.png", "0003.png": "0003.png", "more/0004.jpg": "more/0004.png"}
	if !maps.Equal(found, want) || s.Out != 4 || s.Quarantined != 0 || !slices.Equal(e.Sidecars["0001.jpg"], []string{"0001.txt"}) {
		t.Errorf("pairs %q, out %d, failed %v, sidecars %q", found, s.Out, s.Failed, e.Sidecars)
	}
	_, _, b, s := emitted(t, testdata+"/pairs-broken", nil)
	failed := b.Messages(pipeline.EventFailed)
	for name, cause := range map[string]string{"mismatch.png": "64 x 44 is not 4 times 15 x 11", "alone.png": "no low-quality companion", "../lq/orphan.png": "without its image"} {
		if !strings.Contains(failed[name], cause) {
			t.Errorf("%s failed with %q, want %q", name, failed[name], cause)
		}
	}
	if s.Out != 1 || s.Quarantined != 3 {
		t.Errorf("out %d, quarantined %d, want 1 and 3", s.Out, s.Quarantined)
	}
}
