package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/tile"
)

// save writes a picture as PNG and returns the input that offers it.
func save(t testing.TB, dir, name string, img image.Image) pipeline.Input {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, img); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return pipeline.Input{Name: name, Path: path}
}

// texture is a picture with much to see, in even numbers.
func texture(seed uint64, w, h int) *image.Gray {
	rnd := rand.New(rand.NewPCG(seed, 9))
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range 60 {
		x, y, v := rnd.IntN(w), rnd.IntN(h), uint8(2*rnd.IntN(128))
		for dy := range 8 + i%9 {
			for dx := range 8 + i%7 {
				img.SetGray((x+dx)%w, (y+dy)%h, color.Gray{Y: v})
			}
		}
	}
	return img
}

// converted is img in another type, each pixel as change makes it.
func converted[I interface {
	image.Image
	Set(x, y int, c color.Color)
}](to I, img image.Image, change func(x, y int, c color.Color) color.Color) I {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			to.Set(x-b.Min.X, y-b.Min.Y, change(x-b.Min.X, y-b.Min.Y, img.At(x, y)))
		}
	}
	return to
}

func asIs(_, _ int, c color.Color) color.Color { return c }

func TestWhatEqualPixelsAre(t *testing.T) {
	base := texture(1, 40, 30)
	r := base.Rect
	grays := make(color.Palette, 256)
	for i := range grays {
		grays[i] = color.Gray{Y: uint8(i)}
	}
	larger := texture(2, 80, 70)
	part := larger.SubImage(image.Rect(17, 23, 57, 53)).(*image.Gray)
	for y := range 30 {
		for x := range 40 {
			part.SetGray(17+x, 23+y, base.GrayAt(x, y))
		}
	}
	at := func(px, py int, v color.Color) func(int, int, color.Color) color.Color {
		return func(x, y int, c color.Color) color.Color {
			if x == px && y == py {
				return v
			}
			return c
		}
	}
	ycc := image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
	for i := range ycc.Cb {
		ycc.Cb[i], ycc.Cr[i] = 128, 128
	}
	nycca := image.NewNYCbCrA(r, image.YCbCrSubsampleRatio444)
	for i := range nycca.Cb {
		nycca.Cb[i], nycca.Cr[i], nycca.A[i] = 128, 128, 255
	}
	cmyk := image.NewCMYK(r)
	for y := range 30 {
		for x := range 40 {
			v := base.GrayAt(x, y).Y
			ycc.Y[ycc.YOffset(x, y)], nycca.Y[nycca.YOffset(x, y)] = v, v
			cmyk.SetCMYK(x, y, color.CMYK{K: 255 - v})
		}
	}
	turned := image.NewGray(image.Rect(0, 0, 30, 40)) // the same bytes in another shape
	copy(turned.Pix, base.Pix)
	clear16, hidden := image.NewNRGBA64(r), image.NewNRGBA(r)
	for y := range 30 {
		for x := range 40 {
			hidden.SetNRGBA(x, y, color.NRGBA{R: uint8(x), G: 9, B: uint8(y), A: uint8(x % 3)})
			clear16.SetNRGBA64(x, y, color.NRGBA64{R: uint16(x) * 257, G: 9 * 257, B: uint16(y) * 257, A: uint16(x%3) * 257})
		}
	}
	half := image.NewNRGBA(r)
	for i := range half.Pix { // colours that survive the multiplication
		half.Pix[i] = uint8(255 * (i / 5 % 2))
		if i%4 == 3 {
			half.Pix[i] = 128
		}
	}
	premultiplied := converted(image.NewRGBA(r), half, asIs)
	tests := map[string]struct {
		a, b image.Image
		same bool
	}{
		"RGBA":                         {base, converted(image.NewRGBA(r), base, asIs), true},
		"NRGBA":                        {base, converted(image.NewNRGBA(r), base, asIs), true},
		"16 bits":                      {base, converted(image.NewGray16(r), base, asIs), true},
		"16 bits, RGBA":                {base, converted(image.NewRGBA64(r), base, asIs), true},
		"16 bits, NRGBA":               {base, converted(image.NewNRGBA64(r), base, asIs), true},
		"palette":                      {base, converted(image.NewPaletted(r, grays), base, asIs), true},
		"a part of a larger picture":   {base, part, true},
		"YCbCr":                        {base, ycc, true},
		"YCbCr with alpha":             {base, nycca, true},
		"CMYK":                         {base, cmyk, true},
		"premultiplied":                {half, premultiplied, true},
		"hidden colours":               {hidden, clear16, true},
		"hidden colours differ":        {hidden, converted(image.NewNRGBA(r), hidden, at(0, 5, color.NRGBA{R: 1, A: 0})), false},
		"one sample":                   {base, converted(image.NewGray(r), base, at(39, 29, color.Gray{Y: 1})), false},
		"one sample, one channel":      {base, converted(image.NewNRGBA(r), base, at(0, 0, color.NRGBA{R: 1, A: 255})), false},
		"one sample, a 16-bit nuance":  {base, converted(image.NewGray16(r), base, at(39, 29, color.Gray16{Y: 3})), false},
		"16-bit nuances of the colour": {converted(image.NewNRGBA64(r), base, at(3, 3, color.NRGBA64{G: 3, A: 0xffff})), converted(image.NewNRGBA64(r), base, at(3, 3, color.NRGBA64{B: 3, A: 0xffff})), false},
		"alpha":                        {base, converted(image.NewNRGBA(r), base, at(7, 0, color.NRGBA{A: 254})), false},
		"shape":                        {base, turned, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src := stagetest.Source{stagetest.Picture("a", tt.a), stagetest.Picture("b", tt.b)}
			b := stagetest.New(t, src, stagetest.Step{Info: dedup.Info(), Values: config("by", "pixels")})
			s, seen := b.Run(t, pipeline.RunOptions{})
			if got := s.Rejected["dedup0"]["duplicate"] == 1; got != tt.same {
				t.Errorf("a duplicate: %t", got)
			}
			if h := seen["a"].Attributes["pixels_sha256"]; len(h.Hash()) != 32 {
				t.Errorf("pixels_sha256 is %s %s", h.Type(), h)
			}
		})
	}
}

// Copies of a file, a picture saved anew, one made smaller, another one and two
// flat ones, by all methods together; and then cut into tiles.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	big := texture(3, 256, 192)
	small := image.NewGray(image.Rect(0, 0, 128, 96))
	for y := range 96 {
		for x := range 128 {
			sum := int(big.GrayAt(2*x, 2*y).Y) + int(big.GrayAt(2*x+1, 2*y).Y) + int(big.GrayAt(2*x, 2*y+1).Y) + int(big.GrayAt(2*x+1, 2*y+1).Y)
			small.SetGray(x, y, color.Gray{Y: uint8(sum / 4)})
		}
	}
	flat := func(v uint8) image.Image {
		img := image.NewGray(image.Rect(0, 0, 64, 64))
		for i := range img.Pix {
			img.Pix[i] = v
		}
		return img
	}
	src := stagetest.Source{
		save(t, dir, "b.png", big),
		save(t, dir, "a.png", big),
		save(t, dir, "colour.png", converted(image.NewNRGBA(big.Rect), big, asIs)),
		save(t, dir, "small.png", small),
		save(t, dir, "other.png", texture(4, 256, 192)),
		save(t, dir, "flat1.png", flat(100)),
		save(t, dir, "flat2.png", flat(120)),
		{Name: "broken.png", Path: filepath.Join(dir, "broken.png")},
	}
	whole, err := os.ReadFile(filepath.Join(dir, "b.png"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.png"), whole[:len(whole)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	all := stagetest.Step{Info: dedup.Info(), Values: config("by", []string{"sha256", "pixels", "pdq"}, "prefer", []string{"pixels", "-source.bytes"})}
	b := stagetest.New(t, src, all)
	s, seen := b.Run(t, pipeline.RunOptions{})
	if s.Quarantined != 1 || s.Failed[0].ID != "broken.png" || !strings.HasPrefix(s.Failed[0].Cause, "comparing by pixels: ") {
		t.Errorf("quarantined %+v", s.Failed)
	}
	if got := stagetest.IDs(seen); !slices.Equal(got, []string{"a.png", "flat1.png", "flat2.png", "other.png"}) {
		t.Errorf("kept %v", got)
	}
	got := withoutValues(b.Messages(pipeline.EventRejected))
	small1 := got["small.png"]
	delete(got, "small.png")
	want := map[string]string{
		"b.png":      "duplicate: keeper a.png, by sha256, distance 0, rule id",
		"colour.png": "duplicate: keeper a.png, by pixels, distance 0, rule -source.bytes",
	}
	if !maps.Equal(got, want) || !strings.HasPrefix(small1, "duplicate: keeper a.png, by pdq, distance ") || !strings.HasSuffix(small1, ", rule pixels") {
		t.Errorf("got %q and %q\nwant %q", got, small1, want)
	}
	if note, want := s.Stages[0].Note, "3 of 7 are duplicates in 1 group (by sha256 1, by pixels 1, by pdq 1); 2 had no verdict from pdq (flat pictures)"; note != want {
		t.Errorf("the note is %q, want %q", note, want)
	}
	for id, v := range seen {
		if len(v.Attributes["pdq"].Hash()) != 32 || v.Attributes["pdq_quality"].Type() != pipeline.TypeInt {
			t.Errorf("%s has the attributes %v", id, v.Attributes)
		}
	}

	b = stagetest.New(t, src[:3], stagetest.Step{Info: tile.Info(), Values: config("size", 64)}, all)
	s, seen = b.Run(t, pipeline.RunOptions{})
	// Every tile of a.png stays, save those that look like another one of its own.
	if len(seen) == 0 || len(seen) > 12 || int64(len(seen)) != 36-s.Rejected["dedup1"]["duplicate"] || !strings.Contains(s.Stages[1].Note, "36 had no verdict from sha256 (not whole source files)") {
		t.Errorf("%v stay; %s", stagetest.IDs(seen), s.Stages[1].Note)
	}
}

func TestOfAPairTheHighQualityPictureDecides(t *testing.T) {
	dir := t.TempDir()
	pair := func(name string, hq, lq uint64) pipeline.Input {
		in := save(t, dir, name+".png", texture(hq, 64, 64))
		low := save(t, dir, name+"-lq.png", texture(lq, 32, 32))
		in.LQ, in.Scale = &low, 2
		return in
	}
	for _, by := range []string{"sha256", "pixels", "pdq"} {
		src := stagetest.Source{pair("a", 1, 5), pair("b", 1, 6), pair("c", 2, 5)}
		b := stagetest.New(t, src, stagetest.Step{Info: dedup.Info(), Values: config("by", by)})
		_, seen := b.Run(t, pipeline.RunOptions{})
		if got := stagetest.IDs(seen); !slices.Equal(got, []string{"a.png", "c.png"}) || !seen["a.png"].Paired {
			t.Errorf("by %s: kept %v", by, got)
		}
	}
}

func TestSidecars(t *testing.T) {
	dir := t.TempDir()
	input := func(name string, picture uint64, sidecars ...string) pipeline.Input {
		in := save(t, dir, name+".png", texture(picture, 32, 32))
		for _, ext := range sidecars {
			path := filepath.Join(dir, name+ext)
			if err := os.WriteFile(path, []byte(path), 0o666); err != nil {
				t.Fatal(err)
			}
			in.Sidecars = append(in.Sidecars, pipeline.Sidecar{Ext: ext, Path: path, Size: int64(len(path)), Time: 7})
		}
		return in
	}
	src := stagetest.Source{
		input("a", 1, ".txt"),
		input("b", 1, ".TXT", ".json", ".xmp"), // a has a text already
		input("c", 1, ".json", ".npz"),         // and b's .json comes first
		input("d", 1),
		input("e", 2, ".caption"),
		input("f", 2),
	}
	prefer := given{}
	for i, in := range src {
		prefer[in.Name] = attrs{"q": whole(int64(-i))}
	}
	prefer["e.png"] = attrs{"q": whole(-9)} // f is kept, and comes after e
	run := func(mode string) (map[string][]string, string) {
		got := map[string][]string{}
		var mu sync.Mutex
		b := stagetest.New(t, src, prefer.giver(), stagetest.Step{Info: dedup.Info(), Values: config("by", "pixels", "prefer", "q", "sidecars", mode)})
		err := b.Add(pipeline.Step{ID: "look", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			mu.Lock()
			defer mu.Unlock()
			got[it.ID()] = []string{}
			for _, f := range it.Source().Sidecars {
				if f.Size == 0 || f.Time != 7 {
					it.Fail(fmt.Errorf("%+v", f))
				}
				got[it.ID()] = append(got[it.ID()], f.Ext+" "+filepath.Base(f.Path))
			}
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := b.Run(t, pipeline.RunOptions{})
		return got, s.Stages[1].Note
	}
	got, note := run("merge")
	want := map[string][]string{
		"a.png": {".txt a.txt", ".json b.json", ".xmp b.xmp", ".npz c.npz"},
		"f.png": {".caption e.caption"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("merged: %q", got)
	}
	if want := "4 of 6 are duplicates in 2 groups (by pixels 4); 2 of their sidecars were left, as the kept image has one with that extension"; note != want {
		t.Errorf("merged: the note is %q", note)
	}
	got, note = run("keep")
	want = map[string][]string{"a.png": {".txt a.txt"}, "f.png": {}}
	if !maps.EqualFunc(got, want, slices.Equal) || note != "4 of 6 are duplicates in 2 groups (by pixels 4)" {
		t.Errorf("kept: %q, %q", got, note)
	}
}

// Tiles of one image share its sidecars: that is no clash, also where the first of them has
// given it to the tile that is kept.
func TestTilesOfOneImageShareTheirSidecars(t *testing.T) {
	picture := func(name, sidecar string, tiles int) pipeline.Input {
		in := stagetest.Picture(name, image.NewGray(image.Rect(0, 0, 32*tiles, 32)))
		if sidecar != "" {
			in.Sidecars = []pipeline.Sidecar{{Ext: ".txt", Path: sidecar}}
		}
		return in
	}
	for want, src := range map[string]stagetest.Source{
		"1 of 2 is a duplicate in 1 group (by pixels 1)": {picture("a", "/a.txt", 2)},
		"3 of 4 are duplicates in 1 group (by pixels 3)": {picture("a", "", 2), picture("b", "/b.txt", 2)},
		"4 of 5 are duplicates in 1 group (by pixels 4); 1 of their sidecars was left, as the kept image has one with that extension": {
			picture("a", "", 2), picture("b", "/b.txt", 2), picture("c", "/c.txt", 1),
		},
	} {
		b := stagetest.New(t, src, stagetest.Step{Info: tile.Info(), Values: config("size", 32)},
			stagetest.Step{Info: dedup.Info(), Values: config("by", "pixels", "sidecars", "merge")})
		s, _ := b.Run(t, pipeline.RunOptions{})
		if note := s.Stages[1].Note; note != want {
			t.Errorf("the note is %q, want %q", note, want)
		}
	}
}

// A second run takes the hashes from the cache, also when only what is decided
// with them has changed, and not when a hash that a stage before sets has.
func TestHashesAreCached(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	var src stagetest.Source
	for i := range 8 {
		var img image.Image = texture(uint64(i/2), 64, 64)
		if i%2 == 0 { // the same picture in another file, which is larger
			img = converted(image.NewNRGBA(img.Bounds()), img, asIs)
		}
		src = append(src, save(t, dir, fmt.Sprintf("%d.png", i), img))
	}
	none := given{}
	run := func(g given, stage string) (kept []string, decoded int64) {
		p := load(t, src, "\n  - give:\n  - dedup: "+stage+"\n  - keep:\n", g.giver().Info, keep(&kept))
		s, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(kept)
		return kept, s.Decoded
	}
	first := []string{"0.png", "2.png", "4.png", "6.png"}
	last := []string{"1.png", "3.png", "5.png", "7.png"}
	steps := []struct {
		name    string
		given   given
		stage   string
		kept    []string
		decoded int64
	}{
		{"at first", none, "{by: pdq}", first, 8},
		{"again", none, "{by: pdq}", first, 0},
		{"another distance and preference", given{"1.png": {"q": yes}, "3.png": {"q": yes}, "5.png": {"q": yes}, "7.png": {"q": yes}}, "{by: [{pdq: {max_distance: 1}}], prefer: q}", last, 0},
		{"a distance for the stage", none, "{by: pdq, max_distance: 2, sidecars: merge}", first, 0},
		{"another method", none, "{by: pixels}", first, 8},
		// The hash comes from the stage before: no decoding, and it is believed.
		{"one hash is given", given{"1.png": {"pdq": ones(128)}}, "{by: pdq}", []string{"0.png", "1.png", "2.png", "4.png", "6.png"}, 0},
		// Now 3.png looks like 1.png instead of 2.png.
		{"another hash is given", given{"1.png": {"pdq": ones(129)}, "3.png": {"pdq": ones(130)}}, "{by: pdq}", []string{"0.png", "1.png", "2.png", "4.png", "6.png"}, 0},
		{"none is given any more", none, "{by: pdq}", first, 0},
	}
	for _, s := range steps {
		kept, decoded := run(s.given, s.stage)
		if !slices.Equal(kept, s.kept) || decoded != s.decoded {
			t.Errorf("%s: kept %v, decoded %d; want %v, %d", s.name, kept, decoded, s.kept, s.decoded)
		}
	}
}

// keep is a stage that notes down what arrives.
func keep(ids *[]string) pipeline.Info {
	var mu sync.Mutex
	return pipeline.Info{Name: "keep", Short: "notes down", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			mu.Lock()
			defer mu.Unlock()
			*ids = append(*ids, it.ID())
			return nil
		}), nil
	}}
}

func TestTooManyForTheMemory(t *testing.T) {
	var names []string
	for i := range 4000 {
		names = append(names, fmt.Sprintf("%s%04d", strings.Repeat("long/", 800), i))
	}
	g := given{}
	p := load(t, g.source(names), "\n  - dedup: {by: sha256}\n")
	p.HostLimit = pipeline.Amount{Bytes: 80 << 20}
	_, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
	var over *memory.OversizeError
	if !errors.As(err, &over) || over.Need < 4000*4004 || !strings.HasPrefix(err.Error(), "stage dedup: comparing 4000 items (raise memory.host.limit, or split the set): dedup needs ") {
		t.Errorf("got %v", err)
	}
}

func TestLint(t *testing.T) {
	const there = " (there are a, height, pixels, q, s, source.bytes, source.format, source.height, source.path, source.width, width)"
	tests := map[string]struct{ stage, want string }{
		"no method":            {"{}", "4:5: dedup needs by: What makes two items duplicates: a method or a list of methods."},
		"an empty list":        {"{by: []}", "4:17: stage dedup: by: name at least one method"},
		"an unknown method":    {"{by: [sha256, pdqq]}", `4:26: dedup.by: "pdqq" is none of sha256, pixels, pdq, phash, dhash, clip, sscd, vector, lpips; did you mean "pdq"?`},
		"an unknown option":    {"{by: {pdq: {distance: 3}}}", `4:24: dedup.by.pdq has no field "distance" (it has max_distance, confirm)`},
		"an option of none":    {"{by: {sha256: {max_distance: 3}}}", `4:27: dedup.by.sha256 has no field "max_distance" (it has confirm)`},
		"too far":              {"{by: [{pdq: {max_distance: 128}}]}", "4:39: dedup.by.pdq.max_distance: 128 is above the maximum, 127 bits"},
		"too far for 64 bits":  {"{by: phash, max_distance: 32}", "4:38: stage dedup: max_distance: 32 is not from 0 to 31 bits, the range of phash"},
		"negative":             {"{by: pdq, max_distance: -1}", "4:36: dedup.max_distance: -1 is below the minimum, 0 bits"},
		"a method twice":       {"{by: [pdq, sha256, {pdq: {max_distance: 3}}]}", "4:31: stage dedup: by: pdq is named twice"},
		"a distance for none":  {"{by: [sha256, pixels], max_distance: 3}", "4:49: stage dedup: max_distance: no method in by has a distance: leave it out"},
		"a distance for two":   {"{by: [pdq, phash], max_distance: 3}", "4:45: stage dedup: max_distance: by names several methods that have a distance: give each its own, as in {phash: {max_distance: 6}}"},
		"two distances":        {"{by: [{pdq: {max_distance: 3}}], max_distance: 3}", "4:59: stage dedup: max_distance: pdq has a max_distance of its own in by: leave one of them out"},
		"an unknown attribute": {"{by: pdq, prefer: [q, pixel]}", `4:34: stage dedup: prefer: no stage before this one makes the attribute "pixel"; did you mean "pixels"?` + strings.Replace(there, "pixels", "pdq, pdq_quality, pixels", 1)},
		"a reversed one":       {"{by: sha256, prefer: -nothing}", `4:33: stage dedup: prefer: no stage before this one makes the attribute "nothing"` + there},
		"text":                 {"{by: sha256, prefer: [a, s]}", "4:37: stage dedup: prefer: s is a string, and only numbers and true or false can be preferred"},
		"a hash":               {"{by: dhash, prefer: [dhash]}", "4:33: stage dedup: prefer: dhash is a hash, and only numbers and true or false can be preferred"},
		"an attribute twice":   {"{by: sha256, prefer: [a, q, -a]}", "4:40: stage dedup: prefer: a stands there twice"},
		"a minus alone":        {"{by: sha256, prefer: [a, '-']}", "4:37: stage dedup: prefer: a rule is the name of an attribute, with or without a minus before it"},
		"an unknown field":     {"{by: sha256, perfer: [a]}", `4:25: dedup has no field "perfer"; did you mean "prefer"? (it has by, max_distance, prefer, reference, orientations, sidecars, library, groups, pairs, decisions, against, index, action, to, record, delete_count)`},
		"sidecars":             {"{by: sha256, sidecars: drop}", `4:35: dedup.sidecars: "drop" is none of keep, merge`},
		"its own attribute":    {"{by: pdq, prefer: [pdq_quality, a, -q]}", ""},
	}
	g := given{"x": {"a": yes, "q": num(1), "s": pipeline.String("s")}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			yaml := "source: {made: {}}\nstages:\n  - give:\n  - dedup: " + tt.stage + "\n"
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: registry(nil, g.giver().Info)})
			got, want := "", tt.want
			if err != nil {
				got = err.Error()
			}
			if want != "" {
				want = "p.yaml:" + want
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
