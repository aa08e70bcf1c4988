package dedup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/infer"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// An index takes the vectors of one network, of one of its outputs, and of pictures that are
// prepared in one way, whichever stage makes them.
func TestIndexTakesVectorsThatCanBeCompared(t *testing.T) {
	src, _ := tinted(4)
	net, folder := perceiver(t, true), filepath.Join(t.TempDir(), "index")
	run := func(maker string) error {
		_, err := chain(t, src, "\n- "+maker+"\n- dedup: {by: [{vector: {name: v, min_similarity: 0.9}}], index: "+folder+"}").
			Run(t.Context(), pipeline.RunOptions{NoStore: true})
		return err
	}
	if err := run("embed: {model: " + net + ", output: pooled, name: v}"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		maker string
		taken bool
	}{
		"the same":            {"embed: {model: " + net + ", output: pooled, name: v, dtype: float16}", true},
		"another stage":       {"infer: {model: " + net + ", vectors: [v = pooled]}", true},
		"another network":     {"infer: {model: " + perceiver(t, false) + ", vectors: [v]}", false},
		"another output":      {"infer: {model: " + net + ", vectors: [v = output]}", false},
		"another preparation": {"embed: {model: " + net + ", output: pooled, name: v, mean: 0.5}", false},
		"cropped":             {"embed: {model: " + net + ", output: pooled, name: v, width: 32, height: 32, crop: centre}", false},
	} {
		err := run(tt.maker)
		refused := err != nil && strings.Contains(err.Error(), "mixed models: column v of the index "+folder)
		if refused == tt.taken || err != nil && !refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A dry run searches among no vectors and measures no pictures, and says that it does not
// know; by hashes it knows.
func TestDryRunComparesWhatIsKnown(t *testing.T) {
	folder, net := t.TempDir(), perceiver(t, true)
	var src stagetest.Source
	for i, picture := range []uint64{1, 1, 2} {
		src = append(src, save(t, folder, fmt.Sprintf("%d.png", i), texture(picture, 32, 32)))
	}
	for name, tt := range map[string]struct {
		stages string
		known  bool
		files  bool // the run makes some
	}{
		"hashes":            {"\n- dedup: {by: [sha256, phash]}", true, false},
		"vectors":           {"\n- embed: {model: " + net + ", output: output, name: v}\n- dedup: {by: [sha256, {vector: {name: v, min_similarity: 0.999}}]}", false, true},
		"LPIPS of all":      {"\n- dedup: {by: [{lpips: {model: " + perceiver(t, false) + ", size: 32}}]}", false, true},
		"LPIPS that is led": {"\n- dedup: {by: [phash, {lpips: {model: " + net + ", size: 32, confirm: true}}]}", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			state, files := t.TempDir(), 0
			run := func(o pipeline.RunOptions) (*pipeline.Summary, *pipeline.Forecast) {
				files = 0
				p, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:"+tt.stages), pipeline.Options{
					Registry: registry(src, embed.Info(), infer.Info()),
					FS: &hooked{FS: fsys.OS, hook: func(_ int64, op string) error {
						if strings.HasPrefix(op, "create dedup-") {
							files++ // one goroutine flushes
						}
						return nil
					}},
				})
				if err != nil {
					t.Fatal(err)
				}
				o.StateDir = state
				r, err := p.Start(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				s, err := r.Wait()
				if err != nil {
					t.Fatal(err)
				}
				return s, r.Forecast()
			}
			s, _ := run(pipeline.RunOptions{})
			if s.Rejected["dedup"]["duplicate"] != 1 || files > 0 != tt.files {
				t.Fatalf("the run rejects %v, and makes %d files", s.Rejected, files)
			}
			note := s.Stages[len(s.Stages)-1].Note
			if !tt.known {
				note = "what is a duplicate is not known before the run: a dry run compares no vectors and no pictures"
			}
			s, f := run(pipeline.RunOptions{DryRun: true})
			last := s.Stages[len(s.Stages)-1]
			if last.Note != note || f.Compute != 0 || files != 0 || (s.Rejected["dedup"]["duplicate"] == 1) != tt.known {
				t.Errorf("rejected are %v, %d files, %+v\n%s", s.Rejected, files, f, last.Note)
			}
		})
	}
}

// The search among vectors has the threads of the run, as far as there is work for them.
func TestVectorsAreSearchedByAllThreads(t *testing.T) {
	for n, want := range map[int]int{4: 1, nearest.Block + 1: min(2, runtime.GOMAXPROCS(0))} {
		e := embedded{}
		c := cascade{given: given{}, embedded: e, vectors: []string{"v"}}
		for i := range n {
			id := fmt.Sprintf("%04d", i)
			c.given[id], e[id] = nil, map[string]pipeline.Vector{"v": vec(1, float32(i))}
		}
		var log bytes.Buffer
		p := pipeline.New("test", pipeline.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		p.SetSource(c.source(c.names()))
		for _, s := range []stagetest.Step{e.giver("v"), {Info: dedup.Info(), Values: config("by", []any{option("vector", "name", "v", "min_similarity", 1.)})}} {
			if err := p.Use(t.Context(), pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name, s.Values); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
			t.Fatal(err)
		}
		if said := fmt.Sprintf("vectors=%d numbers=2 reduced=2 threads=%d", n, want); !strings.Contains(log.String(), said) {
			t.Errorf("there is no %q in\n%s", said, log.String())
		}
	}
}

// A run that is ended counts no further what an index has.
func TestEndedRunReadsNoIndex(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "index")
	c := hashed(map[string]uint64{"a": 0, "b": 0xffff})
	c.runIn(t, t.TempDir(), config("by", "phash", "index", folder))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started, reads := false, 0
	p := pipeline.New("test", pipeline.Options{FS: &hooked{FS: fsys.OS, hook: func(_ int64, op string) error {
		switch {
		case strings.HasPrefix(op, "open segment"):
			reads = 0
			if started {
				cancel()
			}
		case strings.HasPrefix(op, "read segment"):
			reads++
		}
		return nil
	}}})
	p.SetSource(c.source(c.names()))
	for _, s := range []stagetest.Step{c.given.giver(), {Info: dedup.Info(), Values: config("by", "phash", "against", folder)}} {
		if err := p.Use(t.Context(), pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name, s.Values); err != nil {
			t.Fatal(err)
		}
	}
	started = true // what built it looked at the index, too
	_, err := p.Run(ctx, pipeline.RunOptions{NoStore: true})
	if !errors.Is(err, context.Canceled) || reads != 1 {
		t.Errorf("%d reads after the end: %v", reads, err)
	}
}

// A run has one ONNX Runtime. Steps that compare vectors or pictures have the one that is
// named, as do the stages that are made for them.
func TestLibraryIsThatOfTheRun(t *testing.T) {
	net, src := perceiver(t, true), stagetest.Source{}
	for stages, want := range map[string]string{
		"\n- embed: {model: " + net + ", output: pooled, name: v}\n- dedup: {by: [{vector: {name: v, min_similarity: 0.9}}], library: ./none.so}": "stage dedup: library: ",
		"\n- dedup: {by: [phash, {lpips: {model: " + net + ", size: 32, confirm: true}}], library: ./none.so}":                                    "stage dedup: library: ",
		"\n- dedup: {by: [{lpips: {model: " + net + ", size: 32}}], library: ./none.so}":                                                          "stage dedup.lpips: library: ",
		"\n- dedup: {by: [phash], library: ./none.so}":                                                                                            "",
	} {
		_, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:"+stages), pipeline.Options{Registry: registry(src, embed.Info(), infer.Info())})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "none.so")) {
			t.Errorf("%s: %v, want %q", stages, err, want)
		}
	}
}

// Thresholds that make duplicates of unrelated pictures are remarked on, where no other step
// confirms what they propose.
func TestThresholdsThatAreTooWide(t *testing.T) {
	src, _ := tinted(2)
	net := perceiver(t, true)
	for by, want := range map[string]string{
		"{pdq: {max_distance: 64}}":                                             "",
		"{pdq: {max_distance: 65}}":                                             "pdq has max_distance: 65 of 256 bits",
		"{phash: {max_distance: 16}}":                                           "",
		"{phash: {max_distance: 17}}":                                           "phash has max_distance: 17 of 64 bits",
		"{vector: {name: v, min_similarity: 0.3}}":                              "",
		"{vector: {name: v, min_similarity: 0}}":                                "v has min_similarity: 0:",
		"{lpips: {model: " + net + ", size: 32, max_distance: 0.8}}":            "lpips has max_distance: 0.8:",
		"{pdq: {max_distance: 99}}, {dhash: {confirm: true}}":                   "",
		"{pdq: {max_distance: 20}}, sha256, {dhash: {max_distance: 20}}":        "dhash has max_distance: 20 of 64 bits",
		"{pdq: {max_distance: 20}}, {dhash: {max_distance: 20, confirm: true}}": "",
	} {
		var log bytes.Buffer
		_, err := pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:\n- embed: {model: "+net+", output: pooled, name: v}\n- dedup: {by: ["+by+"]}"), pipeline.Options{
			Registry: registry(src, embed.Info(), infer.Info()),
			Logger:   slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		if err != nil {
			t.Errorf("%s: %v", by, err)
		}
		if got := log.String(); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: said %q, want %q", by, got, want)
		}
	}
}
