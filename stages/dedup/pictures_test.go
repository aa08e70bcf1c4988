package dedup_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"

	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/infer"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// perceiver saves a network that perceives as LPIPS does, in small: the squared length of
// a difference of what it gives for pictures of 32 x 32 is the mean of the squared
// differences of their samples. With pooled, it gives their means as a bound, too.
func perceiver(t testing.TB, pooled bool) string {
	t.Helper()
	g := onnx.NewGraph("perceiver")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, 32, 32)
	g.Output("output", g.Flatten(g.Mul(x, g.Scalar(onnx.Float32, 1./32)), 1))
	if pooled {
		g.Metadata(arch.OutputKey, "output")
		g.Output(lpips.PooledOutput, g.Flatten(g.GlobalAveragePool(x), 1))
	}
	path := filepath.Join(t.TempDir(), fmt.Sprintf("perceiver-%t.onnx", pooled))
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tinted are pictures of few kinds that differ by a little, around what decides.
func tinted(n int) (src stagetest.Source, all []image.Image) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		base := texture(uint64(i%5), 32, 32)
		img := image.NewNRGBA(base.Rect)
		shift := rnd.IntN(40)
		for y := range 32 {
			for x := range 32 {
				v := int(base.GrayAt(x, y).Y)
				img.SetNRGBA(x, y, color.NRGBA{R: uint8(min(255, v+shift)), G: uint8(v), B: uint8(max(0, v-shift)), A: 255})
			}
		}
		all = append(all, img)
		src = append(src, stagetest.Picture(fmt.Sprintf("%02d", i), img))
	}
	return src, all
}

// chain is a pipeline of the stages that dedup may stand for.
func chain(t testing.TB, src pipeline.Source, stages string, infos ...pipeline.Info) *pipeline.Pipeline {
	t.Helper()
	return load(t, src, stages, append(infos, embed.Info(), infer.Info())...)
}

// decided is what is rejected, and the note of the last stage.
func decided(t testing.TB, p *pipeline.Pipeline) (map[string]string, *pipeline.Summary) {
	t.Helper()
	said := map[string]string{}
	s, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true, OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventRejected {
			said[e.Item] = e.Message // one goroutine flushes
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return said, s
}

// byMeasuringAll is what goes, in whose favour and at which distance; and how many pairs are
// near what decides.
func byMeasuringAll(t *testing.T, d *lpips.Distance, src stagetest.Source, all []image.Image, within float64) (want map[string]string, close int) {
	t.Helper()
	want = map[string]string{}
	var kept []int
	for i := range all {
		nearest, least := -1, math.Inf(1)
		for _, k := range kept {
			v, err := d.Of(t.Context(), all[i], all[k])
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(v-within) < within/2 {
				close++
			}
			if v <= within && v < least {
				nearest, least = k, v
			}
		}
		if nearest < 0 {
			kept = append(kept, i)
			continue
		}
		want[src[i].Name] = fmt.Sprintf("%s at %.6g", src[nearest].Name, least)
	}
	return want, close
}

// checkPerceived compares what was rejected with what byMeasuringAll says. Where LPIPS only
// confirms, the nearest is that of the step before: it is near enough, and not always the same.
func checkPerceived(t *testing.T, said, want map[string]string, confirming bool) {
	t.Helper()
	form := regexp.MustCompile(`keeper (\d+), .*?(?:lpips_|by lpips, )distance ([^,]+)`)
	got := map[string]string{}
	for id, text := range said {
		m := form.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s: %s", id, text)
		}
		v, _ := strconv.ParseFloat(m[2], 64)
		got[id] = fmt.Sprintf("%s at %.6g", m[1], v)
	}
	same := maps.Equal(got, want)
	if confirming {
		same = slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if !same {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// Whether LPIPS proposes with a bound or without, or confirms what another step proposes,
// it says what measuring all pairs does.
func TestPerceived(t *testing.T) {
	const n, within = 40, 0.02
	src, all := tinted(n)
	net := perceiver(t, true)
	d, err := lpips.Open(t.Context(), lpips.Options{Size: 32, Threads: 1}, net)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want, close := byMeasuringAll(t, d, src, all, within)
	if len(want) < 10 || len(want) > 30 || close < 5 {
		t.Fatalf("%d of %d are duplicates, and %d pairs are near the threshold: the test sees little", len(want), n, close)
	}
	for name, tt := range map[string]struct {
		by   string
		note string // how many pairs were measured
	}{
		"with a bound":    {fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %g}}", net, within), `by lpips \d+\); lpips was computed of (\d+) of 780 pairs`},
		"without one":     {fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %g}}", perceiver(t, false), within), `by lpips \d+\); lpips was computed of (\d+) of 780 pairs`},
		"confirming":      {fmt.Sprintf("[{phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: %g, confirm: true}}]", net, within), ""},
		"decides nothing": {fmt.Sprintf("[{lpips: {model: %s, size: 32, max_distance: %g}}, {phash: {max_distance: 31, confirm: true}}]", net, within), `by lpips \d+\); lpips was computed of (\d+) of 780 pairs`},
	} {
		t.Run(name, func(t *testing.T) {
			said, s := decided(t, chain(t, src, "\n  - dedup: {prefer: [], by: "+tt.by+"}\n"))
			note := s.Stages[len(s.Stages)-1].Note
			checkPerceived(t, said, want, name == "confirming")
			if tt.note == "" {
				return
			}
			m := regexp.MustCompile(tt.note).FindStringSubmatch(note)
			if m == nil {
				t.Fatalf("the note is %q", note)
			}
			measured, _ := strconv.Atoi(m[1])
			if name == "with a bound" && measured > 400 {
				t.Errorf("of 780 pairs %d were measured: the bound is of no use", measured)
			}
		})
	}
}

// Pictures of an index are measured like those of the run: what is rejected is what a run
// with all of them rejects, also where they are nowhere else.
func TestPerceivedAgainstAnIndex(t *testing.T) {
	const n, within = 40, 0.02
	src, all := tinted(n)
	net := perceiver(t, true)
	d, err := lpips.Open(t.Context(), lpips.Options{Size: 32, Threads: 1}, net)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want, _ := byMeasuringAll(t, d, src, all, within)
	first, second := src[:n/2], src[n/2:]
	gone := 0
	for _, in := range first {
		if _, ok := want[in.Name]; ok {
			gone++
		}
		delete(want, in.Name)
	}
	if len(want) < 5 || len(want) > 15 {
		t.Fatalf("%d are duplicates", len(want))
	}
	for name, by := range map[string]string{
		"with a bound": fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %g}}", net, within),
		"without one":  fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %g}}", perceiver(t, false), within),
		"confirming":   fmt.Sprintf("[sha256, {phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: %g, confirm: true}}]", net, within),
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "index")
			dedup := func(src stagetest.Source, by string) (map[string]string, string) {
				said, s := decided(t, chain(t, src, "\n  - dedup: {prefer: [], by: "+by+", against: "+folder+", index: "+folder+"}\n"))
				return said, s.Stages[len(s.Stages)-1].Note
			}
			dedup(first, by)
			said, note := dedup(second, by)
			checkPerceived(t, said, want, name == "confirming")
			if text := fmt.Sprintf("; %d were added to %s", n/2-len(want), folder); !strings.HasSuffix(note, text) {
				t.Errorf("the note %q does not end in %q", note, text)
			}
			pairs := n/2*(n/2-1)/2 + n/2*(n/2-gone)
			if text := fmt.Sprintf(" of %d pairs (", pairs); !strings.Contains(note, text) {
				t.Errorf("the note %q does not have %q", note, text)
			}
			// What is there is not added again.
			if said, note := dedup(second, by); len(said) != len(want) || !strings.HasSuffix(note, "; 0 were added to "+folder) {
				t.Errorf("again %d are duplicates: %s", len(said), note)
			}
		})
	}
}

// An index that has other things than what is compared by is refused before the run.
func TestIndexOfOtherSteps(t *testing.T) {
	src, _ := tinted(4)
	net := perceiver(t, true)
	folder := filepath.Join(t.TempDir(), "index")
	lpips := func(more string) string { return "{lpips: {model: " + net + more + "}}" }
	if _, err := chain(t, src, "\n- dedup: {by: [sha256, phash, "+lpips(", size: 32, confirm: true")+"], index: "+folder+"}").Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
		t.Fatal(err)
	}
	deciding := folder + "2"
	if _, err := chain(t, src, "\n- dedup: {by: [phash, "+lpips(", size: 32")+"], index: "+deciding+"}").Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ stage, want string }{
		"the same":            {"{by: [sha256, phash, " + lpips(", size: 32, confirm: true") + "], index: " + folder + "}", ""},
		"some, against":       {"{by: sha256, against: " + folder + "}", ""},
		"some, to add":        {"{by: [sha256, phash], index: " + folder + "}", "index: the index " + folder + " has lpips, which is missing here: compare by lpips, too, or name another folder"},
		"pictures, to decide": {"{by: [" + lpips(", size: 32") + "], against: " + folder + "}", "against: the index " + folder + " has pictures for lpips and no vectors of them: it was made where lpips confirms; say confirm: true"},
		"confirming, to add":  {"{by: [phash, " + lpips(", size: 32, confirm: true") + "], index: " + deciding + "}", "index: the index " + deciding + " has vectors for lpips, which are not made where that confirms"},
		"another size":        {"{by: [phash, " + lpips(", size: 64, confirm: true") + "], against: " + folder + "}", "against: the index " + folder + " has pictures of 32 x 32 for lpips, and here they would have 64 x 64: give lpips the size of the index"},
		"more":                {"{by: [sha256, pdq], against: " + folder + "}", "against: the index " + folder + " has nothing of pdq"},
	} {
		_, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:\n- dedup: "+tt.stage), pipeline.Options{Registry: registry(src, embed.Info(), infer.Info())})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A damaged index that is added to ends the run, and nothing of it stays open: TestMain finds
// the goroutine that would.
func TestDamagedIndexIsClosed(t *testing.T) {
	src, _ := tinted(4)
	folder := filepath.Join(t.TempDir(), "index")
	run := func() error {
		_, err := chain(t, src, "\n- dedup: {by: [phash, {lpips: {model: "+perceiver(t, false)+", size: 32, confirm: true}}], index: "+folder+"}").Run(t.Context(), pipeline.RunOptions{NoStore: true})
		return err
	}
	if err := run(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(folder, "*.fpi"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err == nil {
		data[60] ^= 1 // in the header of the block
		err = os.WriteFile(segments[0], data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := run(); !errors.Is(err, index.ErrDamaged) {
		t.Errorf("the error is %v", err)
	}
}

// Without pairs no network is loaded, also where an index keeps the pictures.
func TestIndexWithoutPairsLoadsNoNetwork(t *testing.T) {
	src := stagetest.Source{stagetest.Picture("a", texture(1, 32, 32))}
	broken := filepath.Join(t.TempDir(), "broken.onnx")
	data, err := os.ReadFile(perceiver(t, false))
	if err == nil { // what it says of itself can be read, and the runtime refuses it
		err = os.WriteFile(broken, bytes.ReplaceAll(data, []byte("Flatten"), []byte("Flutten")), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(src stagetest.Source, o pipeline.RunOptions) (string, error) {
		folder := filepath.Join(t.TempDir(), "index")
		s, err := chain(t, src, "\n- dedup: {by: [{phash: {max_distance: 31}}, {lpips: {model: "+broken+", size: 32, confirm: true}}], index: "+folder+"}").Run(t.Context(), o)
		return strings.ReplaceAll(s.Stages[0].Note, folder, "FOLDER"), err
	}
	if note, err := run(src, pipeline.RunOptions{NoStore: true}); err != nil || !strings.HasSuffix(note, "; 1 was added to FOLDER") {
		t.Errorf("%s: %v", note, err)
	}
	if note, err := run(src, pipeline.RunOptions{StateDir: t.TempDir(), Sample: 1}); err != nil || strings.Contains(note, "added") {
		t.Errorf("a sample: %s: %v", note, err)
	}
	if _, err := run(append(src, stagetest.Picture("b", texture(1, 32, 32))), pipeline.RunOptions{NoStore: true}); err == nil {
		t.Error("a network that cannot be loaded measures pictures")
	}
}

// Of a network that is known, most pairs are told apart without their distances, which
// changes nothing of what is found; and what that takes on disk is said before.
func TestPerceivedByAKnownNetwork(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	src, all := tinted(20)
	net := archtest.Read(t, "lpips-alex").Save(t, "lpips.safetensors", nil)
	d, err := lpips.Open(t.Context(), lpips.Options{Size: 32, Threads: 1}, net)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var values []float64
	for i := range all {
		for k := range i {
			v, err := d.Of(t.Context(), all[i], all[k])
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
	}
	slices.Sort(values)
	within := (values[12] + values[13]) / 2
	want, _ := byMeasuringAll(t, d, src, all, within)
	if len(want) < 5 {
		t.Fatalf("only %d are duplicates", len(want))
	}
	// What is near in both ways is told with its distance, and what a bound told is not.
	said, _ := decided(t, chain(t, src, fmt.Sprintf("\n  - dedup: {prefer: [], by: [{phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: %.17g, confirm: true}}, {dhash: {max_distance: 31}}]}\n", net, within)))
	for id, text := range said {
		if m := regexp.MustCompile(`lpips_distance ([^,]+)`).FindStringSubmatch(text); (m != nil) != strings.Contains(text, "by phash") {
			t.Errorf("%s: %s", id, text)
		}
	}
	if len(said) <= len(want) {
		t.Errorf("only %d are duplicates by dHash, too", len(said))
	}
	for name, by := range map[string]string{
		"decides":  fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %.17g}}", net, within),
		"confirms": fmt.Sprintf("[{phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: %.17g, confirm: true}}]", net, within),
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:\n  - dedup: {prefer: [], by: "+by+"}\n"),
				pipeline.Options{Registry: registry(src, embed.Info(), infer.Info()), Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			said, s := decided(t, p)
			if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
				t.Errorf("rejected %v, want %v", said, want)
			}
			note := s.Stages[len(s.Stages)-1].Note
			m := regexp.MustCompile(`lpips was computed of (\d+) of 190 pairs \([^)]*\), a bound told that (\d+) more are too far apart$`).FindStringSubmatch(note)
			if m == nil {
				t.Fatalf("the note is %q", note)
			}
			computed, _ := strconv.Atoi(m[1])
			told, _ := strconv.Atoi(m[2])
			if computed < len(want) || computed > 60 || told < 1 {
				t.Errorf("%d were computed and %d told apart by a bound", computed, told)
			}
			if name == "decides" {
				return // the vector of its own has told most of them apart
			}
			if told < 30 {
				t.Errorf("only %d were told apart by a bound", told)
			}
			bytes := len(all) * int(d.PreparedBytes()+d.GridBytes())
			if want := "squashed to 32 x 32 for lpips, with what tells most of them apart, take " + memory.FormatBytes(int64(bytes)); !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		})
	}
}

// Two vectors are in memory at a time, whatever the limit; a run that has no room for them
// and for the network says so before.
func TestTwoVectorsHaveRoom(t *testing.T) {
	src, _ := tinted(8)
	text := fmt.Sprintf("memory: {host: {limit: 600MiB}}\nsource: {made: {}}\nstages:\n  - dedup: {by: [{phash: {max_distance: 31}}, {lpips: {model: %s, size: 512, confirm: true}}]}\n", perceiver(t, false))
	p, err := pipeline.Load(t.Context(), "p.yaml", []byte(text), pipeline.Options{Registry: registry(src)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
	var over *memory.OversizeError
	if !errors.As(err, &over) || !strings.Contains(err.Error(), "raise memory.host.limit, or let another step propose fewer") {
		t.Errorf("400 MiB for the network and two vectors of 122 MiB: %v", err)
	}
}

// A network without a bound is asked about every pair, which is refused where there are many.
func TestTooManyPairsForANetwork(t *testing.T) {
	src, _ := tinted(8)
	net := perceiver(t, false)
	try := func(by string) error {
		_, err := chain(t, src, "\n  - dedup: {by: "+by+"}\n").Run(t.Context(), pipeline.RunOptions{NoStore: true})
		return err
	}
	defer dedup.SetMostPairs(27, 1000)()
	alone := "{lpips: {model: " + net + ", size: 32}}"
	if err := try(alone); err == nil || !strings.Contains(err.Error(), `lpips would measure more than 27 pairs, as the network `+net+` has no output "pooled"`) {
		t.Errorf("28 pairs: %v", err)
	}
	if err := try("[{phash: {max_distance: 31}}, {lpips: {model: " + net + ", size: 32, confirm: true}}]"); err != nil {
		t.Errorf("what another step proposes: %v", err)
	}
	dedup.SetMostPairs(28, 1000)
	if err := try(alone); err != nil {
		t.Errorf("as many as are allowed: %v", err)
	}
}

// A vector bounds the distances of the network that made it, from its output pooled, and no
// others.
func TestVectorsThatBoundNothing(t *testing.T) {
	src, _ := tinted(4)
	net, other := perceiver(t, true), perceiver(t, false)
	no := "the vector x of 00 does not bound what lpips measures, as the output pooled of the network " + net + " does for pictures squashed to 32 x 32: make it with infer: "
	for name, tt := range map[string]struct{ made, want string }{
		"right":              {net + ", width: 32, height: 32, vectors: [x = pooled]", ""},
		"other network":      {other + ", width: 32, height: 32, vectors: x", no},
		"another output":     {net + ", width: 32, height: 32, vectors: [x = output]", no},
		"prepared otherwise": {net + ", width: 32, height: 32, filter: bicubic, vectors: [x = pooled]", no},
	} {
		t.Run(name, func(t *testing.T) {
			p := chain(t, src, fmt.Sprintf("\n  - infer: {model: %s, preset: lpips}\n  - dedup: {by: {lpips: {model: %s, size: 32, vector: x}}}\n", tt.made, net))
			_, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the error is %v, want %q", err, tt.want)
			}
		})
	}
}

// A picture that can be decoded at first and not later is never called a duplicate.
func TestWhatCannotBeMeasuredStays(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	var src stagetest.Source
	for i := range 4 {
		img := texture(1, 32, 32)
		img.Pix[i]++
		src = append(src, save(t, dir, fmt.Sprintf("%d.png", i), img))
	}
	more, net := "", perceiver(t, false)
	run := func() (map[string]string, string) {
		said := map[string]string{}
		p := chain(t, src, fmt.Sprintf("\n  - dedup: {prefer: [], by: [{phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: 10, confirm: true}}]%s}\n", net, more))
		s, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: state, OnEvent: func(e pipeline.Event) {
			if e.Kind == pipeline.EventRejected {
				said[e.Item] = e.Message
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		return said, s.Stages[0].Note
	}
	if said, note := run(); len(said) != 3 {
		t.Fatalf("at first: %v, %s", said, note)
	}
	// The hashes come from the cache, and the file is damaged without a sign of it.
	info, err := os.Stat(src[2].Path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(src[2].Path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 3; i < len(data); i++ {
		data[i] ^= 0xff
	}
	if err := os.WriteFile(src[2].Path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(src[2].Path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "index")
	more = ", index: " + folder
	said, note := run()
	if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, []string{"1.png", "3.png"}) || !strings.Contains(note, "(1 pictures could not be decoded for it: they are no duplicates by it)") ||
		!strings.HasSuffix(note, "; 1 was added to "+folder+", 1 was not, as a picture could not be decoded") {
		t.Errorf("rejected %v; %s", said, note)
	}
	// It is not in the index.
	first, second := texture(1, 32, 32), texture(1, 32, 32)
	first.Pix[2]++ // as in the damaged file
	second.Pix[9] ^= 1
	src = stagetest.Source{save(t, dir, "8.png", first), save(t, dir, "9.png", second)}
	more = ", against: " + folder
	if said, note = run(); len(said) != 2 {
		t.Errorf("against the index rejected %v; %s", said, note)
	}
	for id, text := range said {
		if !strings.Contains(text, "keeper 0.png, keeper_index "+folder) {
			t.Errorf("%s: %s", id, text)
		}
	}
}

// fullTable is a file system on which no more room can be had.
type fullTable struct{ fsys.FS }

func (f fullTable) OpenRoot(dir string) (fsys.Root, error) {
	r, err := f.FS.OpenRoot(dir)
	return fullRoot{r}, err
}

type fullRoot struct{ fsys.Root }

func (fullRoot) Allocate(name string, _ int64) error {
	return &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
}

// What is not a picture's own fault says nothing of it, and ends the run.
func TestPicturesThatHaveNoRoomEndTheRun(t *testing.T) {
	dir := t.TempDir()
	g := given{}
	var src stagetest.Source
	var file bytes.Buffer
	if err := jpeg.Encode(&file, image.NewGray(image.Rect(0, 0, 4600, 4600)), nil); err != nil { // decoded into a file
		t.Fatal(err)
	}
	for _, id := range []string{"a.jpg", "b.jpg"} {
		g[id] = attrs{"phash": hash64(0)}
		src = append(src, pipeline.Input{Name: id, Path: filepath.Join(dir, id)})
		if err := os.WriteFile(filepath.Join(dir, id), file.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, files := range map[string]pipeline.FS{"room": fsys.OS, "none": fullTable{fsys.OS}} {
		text := fmt.Sprintf("memory: {host: {limit: 160MiB}}\nsource: {made: {}}\nstages:\n  - give:\n  - dedup: {by: [phash, {lpips: {model: %s, size: 32, confirm: true}}]}\n", perceiver(t, false))
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(text), pipeline.Options{Registry: registry(src, g.giver().Info), FS: files})
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
		if name == "room" && (err != nil || len(s.Rejected) != 1) || name == "none" && (err == nil || !strings.Contains(err.Error(), "comparing a.jpg by lpips: making a picture of 20.2 MiB")) {
			t.Errorf("%s: %v, %v", name, s.Rejected, err)
		}
	}
}

// Where the network gives no numbers, there is no distance, and nothing is a duplicate.
func TestWhatIsNotFiniteStays(t *testing.T) {
	g := onnx.NewGraph("broken")
	x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, 32, 32)
	g.Output("output", g.Flatten(g.Div(x, g.Scalar(onnx.Float32, 0)), 1))
	net := filepath.Join(t.TempDir(), "broken.onnx")
	if err := g.WriteFile(net); err != nil {
		t.Fatal(err)
	}
	src, _ := tinted(8)
	for _, by := range []string{
		"{lpips: {model: " + net + ", size: 32, max_distance: 10}}",
		"[{phash: {max_distance: 31}}, {lpips: {model: " + net + ", size: 32, max_distance: 10, confirm: true}}]",
	} {
		said, s := decided(t, chain(t, src, "\n  - dedup: {by: "+by+"}\n"))
		if note := s.Stages[0].Note; len(said) != 0 || !strings.Contains(note, "; lpips was computed of ") {
			t.Errorf("rejected %v; %s", said, note)
		}
	}
}

// What costs nothing is asked first: pictures that came from no files have no SHA-256, and so
// none is measured.
func TestPicturesAreMeasuredLast(t *testing.T) {
	src, _ := tinted(8)
	by := "[{phash: {max_distance: 31}}, {lpips: {model: " + perceiver(t, false) + ", size: 32, confirm: true}}, {sha256: {confirm: true}}]"
	_, s := decided(t, chain(t, src, "\n  - dedup: {by: "+by+"}\n"))
	if note := s.Stages[0].Note; !strings.Contains(note, "; lpips was computed of 0 of 28 pairs") {
		t.Error(note)
	}
}

// Copies that were mirrored or turned are found on request, and only then.
func TestOrientations(t *testing.T) {
	dir := t.TempDir()
	base := texture(1, 96, 64)
	turned := image.NewGray(image.Rect(0, 0, 64, 96)) // clockwise
	flipped := image.NewGray(base.Rect)
	for y := range 64 {
		for x := range 96 {
			turned.SetGray(63-y, x, base.GrayAt(x, y))
			flipped.SetGray(95-x, y, base.GrayAt(x, y))
		}
	}
	src := stagetest.Source{save(t, dir, "a.png", base), save(t, dir, "b.png", flipped), save(t, dir, "c.png", turned), save(t, dir, "d.png", texture(2, 96, 64))}
	for _, by := range []string{"pixels", "pdq", "dhash"} {
		for _, tt := range []struct {
			orientations string
			want         []string
		}{{"upright", nil}, {"mirrored", []string{"b.png"}}, {"all", []string{"b.png", "c.png"}}} {
			state := t.TempDir()
			for range 2 { // the second time from the cache
				b := stagetest.New(t, src, stagetest.Step{Info: dedup.Info(), Values: config("by", by, "prefer", []string{}, "orientations", tt.orientations)})
				_, _ = b.Run(t, pipeline.RunOptions{StateDir: state})
				said := b.Messages(pipeline.EventRejected)
				if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, tt.want) {
					t.Errorf("by %s, %s: %v", by, tt.orientations, said)
				}
			}
		}
	}
}

// clip and sscd stand for embed and dedup, which lint, plan and cache see as such.
func TestVectorsOfItsOwn(t *testing.T) {
	net := onnx.NewGraph("means")
	x := net.Input("input", onnx.Float32, net.Dim("batch"), 3, 224, 224)
	net.Output("output", net.Flatten(net.GlobalAveragePool(x), 1))
	path := filepath.Join(t.TempDir(), "means.onnx")
	if err := net.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	src, _ := tinted(6)
	p := chain(t, src, fmt.Sprintf("\n  - dedup: {by: [sha256, {clip: {model: %s, min_similarity: 0.5}}], prefer: -width}\n", path))
	said, s := decided(t, p)
	var ids []string
	for _, st := range s.Stages {
		ids = append(ids, st.ID+" "+st.Stage)
	}
	if !slices.Equal(ids, []string{"dedup.clip embed", "dedup dedup"}) {
		t.Errorf("the stages are %v", ids)
	}
	if len(said) == 0 || !strings.Contains(said["05"], ", by clip, similarity ") {
		t.Errorf("rejected %v", said)
	}
}
