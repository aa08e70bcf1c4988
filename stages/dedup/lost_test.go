package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/infer"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

var errFault = errors.New("fault")

// rejecting runs a pipeline and tells what it rejects; it ends with the error of the run.
func rejecting(ctx context.Context, p *pipeline.Pipeline, state string, seen func()) (map[string]string, error) {
	said := map[string]string{}
	_, err := p.Run(ctx, pipeline.RunOptions{StateDir: state, OnEvent: func(e pipeline.Event) {
		if e.Kind == pipeline.EventRejected {
			said[e.Item] = e.Message
			seen()
		}
	}})
	return said, err
}

// within reports what was said that should not have been.
func within(t *testing.T, when string, said, want map[string]string) {
	t.Helper()
	for id, text := range said {
		if want[id] != text {
			t.Errorf("%s: %s: %q, want %q", when, id, text, want[id])
		}
	}
}

// clustered are items of which a third are duplicates, by a vector that a hash confirms.
func clustered() (c cascade, by []any) {
	c = cascade{given: given{}, embedded: embedded{}, vectors: []string{"v"}}
	for i := range 12 {
		id := fmt.Sprintf("%02d", i)
		c.given[id] = attrs{"phash": hash64(uint64(i % 4))}
		c.embedded[id] = map[string]pipeline.Vector{"v": vec(float32(1+i%3), float32(i%5), 2)}
	}
	return c, []any{option("vector", "name", "v", "min_similarity", 0.95), option("phash", "max_distance", 1, "confirm", true)}
}

// written is a pipeline of the items with all files that the stage writes, in dir.
func (c cascade) written(ctx context.Context, by []any, f pipeline.FS, dir string) (*pipeline.Pipeline, error) {
	p := pipeline.New("test", pipeline.Options{FS: f})
	p.SetSource(c.source(c.names()))
	for _, s := range []stagetest.Step{c.given.giver(), c.embedded.giver("v"), {Info: dedup.Info(), Values: config(
		"by", by, "prefer", []string{}, "groups", filepath.Join(dir, "groups.jsonl"), "decisions", filepath.Join(dir, "decisions.csv"), "index", filepath.Join(dir, "index"),
	)}} {
		if err := p.Use(ctx, pipeline.NewRegistry(s.Info), s.Info.Name, s.Info.Name, s.Values); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Wherever files fail, what is rejected has a keeper that is kept, and the run says so or
// is complete; the next one is right.
func TestNothingIsFalselyRemovedWhenFilesFail(t *testing.T) {
	c, by := clustered()
	want, _ := c.said(t, config("by", by, "prefer", []string{}))
	if len(want) < 2 {
		t.Fatalf("%d are rejected", len(want))
	}
	run := func(f pipeline.FS, dir string) (map[string]string, error) {
		p, err := c.written(t.Context(), by, f, dir)
		if err != nil {
			return nil, err
		}
		return rejecting(t.Context(), p, filepath.Join(dir, "state"), func() {})
	}
	clean := fsys.FailAt(fsys.OS, 0, errFault)
	if said, err := run(clean, t.TempDir()); err != nil || !maps.Equal(said, want) {
		t.Fatalf("without faults: %v, %v", said, err)
	}
	failed := 0
	for n := int64(1); n <= clean.Count(); n += 1 + clean.Count()/10 {
		dir := t.TempDir()
		faulty := fsys.FailAt(fsys.OS, n, errFault)
		said, err := run(faulty, dir)
		if err != nil {
			failed++
		}
		within(t, faulty.Failed(), said, want)
		if err == nil && len(said) != len(want) {
			t.Errorf("%s: the run is said to be complete with %d of %d", faulty.Failed(), len(said), len(want))
		}
		c.completes(t, faulty.Failed(), by, dir, want)
	}
	if failed < 3 {
		t.Errorf("only %d faults were noticed", failed)
	}
}

// completes runs once more, and looks at the index.
func (c cascade) completes(t *testing.T, when string, by []any, dir string, want map[string]string) {
	t.Helper()
	p, err := c.written(t.Context(), by, fsys.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	said, err := rejecting(t.Context(), p, filepath.Join(dir, "state"), func() {})
	if err != nil || !maps.Equal(said, want) {
		t.Errorf("%s: the next run: %v, %v", when, said, err)
	}
	x, err := index.Open(fsys.OS, filepath.Join(dir, "index"))
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	defer x.Close()
	if x.Len() != int64(len(c.given)-len(want)) {
		t.Errorf("%s: the index has %d entries", when, x.Len())
	}
}

// A run that is ended while it lets items go says nothing that the next one does not.
func TestARunThatIsEndedIsMadeUpFor(t *testing.T) {
	c, by := clustered()
	want, _ := c.said(t, config("by", by, "prefer", []string{}))
	dir := t.TempDir()
	p, err := c.written(t.Context(), by, fsys.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said, err := rejecting(ctx, p, filepath.Join(dir, "state"), cancel)
	if len(said) == 0 {
		t.Errorf("ended with %v before anything was said", err)
	}
	within(t, "ended", said, want)
	c.completes(t, "after the end", by, dir, want)
}

// The same for pictures that are measured.
func TestNothingIsFalselyRemovedWhenPicturesCannotBeKept(t *testing.T) {
	src, _ := tinted(8)
	net := perceiver(t, true)
	run := func(f pipeline.FS) (map[string]string, error) {
		yaml := fmt.Sprintf("source: {made: {}}\nstages:\n  - dedup: {prefer: [], by: {lpips: {model: %s, size: 32, max_distance: 0.05}}}\n", net)
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{FS: f, Registry: registry(src, embed.Info(), infer.Info())})
		if err != nil {
			return nil, err
		}
		return rejecting(t.Context(), p, t.TempDir(), func() {})
	}
	clean := fsys.FailAt(fsys.OS, 0, errFault)
	want, err := run(clean)
	if err != nil || len(want) == 0 {
		t.Fatalf("without faults: %v, %v", want, err)
	}
	for n := int64(1); n <= clean.Count(); n += 1 + clean.Count()/12 {
		faulty := fsys.FailAt(fsys.OS, n, errFault)
		said, err := run(faulty)
		within(t, faulty.Failed(), said, want)
		if err == nil && len(said) != len(want) {
			t.Errorf("%s: the run is said to be complete with %d of %d", faulty.Failed(), len(said), len(want))
		}
	}
}
