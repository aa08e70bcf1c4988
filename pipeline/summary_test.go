package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/pipeline"
)

// listing is a source that counts as it is told.
type listing struct {
	inputs
	count func(context.Context) (int64, error)
}

func (c listing) Count(ctx context.Context) (int64, error) { return c.count(ctx) }

// waitUntil waits for a progress.
func waitUntil(t *testing.T, run *pipeline.Run, what string, ok func(*pipeline.Summary) bool) *pipeline.Summary {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		s := run.Progress()
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not so after 20 s: %+v", what, s)
		}
	}
}

func TestInputsAreCountedBesideTheRun(t *testing.T) {
	const n = 2000
	sound := func(context.Context) (int64, error) { return n, nil }
	for _, tt := range []struct {
		name  string
		asked bool
		count func(context.Context) (int64, error)
		early int64 // what is known while the first item is held up
	}{
		{"asked for", true, sound, n},
		{"not asked for", false, sound, 0},
		{"an error", true, func(context.Context) (int64, error) { return 7, errors.New("no") }, 0},
		{"a panic", true, func(context.Context) (int64, error) { panic("no") }, 0},
		{"it hangs", true, func(ctx context.Context) (int64, error) { <-ctx.Done(); return 7, ctx.Err() }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			goOn := make(chan struct{})
			p := chain(t, listing{n, tt.count}, pipeline.Func(func(ctx context.Context, _ *pipeline.Item) error {
				<-goOn
				return nil
			}))
			run, err := p.Start(t.Context(), pipeline.RunOptions{NoStore: true, Count: tt.asked})
			if err != nil {
				t.Fatal(err)
			}
			s := waitUntil(t, run, "the first queue is full", func(s *pipeline.Summary) bool {
				return s.Stages[0].Fill == 1 && s.Inputs == tt.early
			})
			if s.In >= n || s.Phase != 1 || s.Stages[0].Phase != 1 {
				t.Errorf("%d in, phase %d, the stage in phase %d", s.In, s.Phase, s.Stages[0].Phase)
			}
			close(goOn)
			if s, err = run.Wait(); err != nil || s.Inputs != n || s.In != n || s.Stages[0].Fill != 0 {
				t.Errorf("%d inputs, %d in, %v full: %v", s.Inputs, s.In, s.Stages[0].Fill, err)
			}
		})
	}
}

// A sample's total is what it has chosen.
func TestInputsOfASample(t *testing.T) {
	p := chain(t, listing{50, func(context.Context) (int64, error) { return 50, nil }}, passBatch)
	s, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: t.TempDir(), Sample: 7, Count: true})
	if err != nil || s.Inputs != 7 || s.In != 7 {
		t.Errorf("%d inputs, %d in: %v", s.Inputs, s.In, err)
	}
}

func TestJPEGsAreCounted(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		put(t, filepath.Join(dir, "in", fmt.Sprintf("%d.jpg", i)), jpegBytes(t, 32, 32, speckle(i)))
	}
	f, err := os.Create(filepath.Join(dir, "in", "x.png"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, image.NewGray(image.Rect(0, 0, 32, 32))), f.Close()); err != nil {
		t.Fatal(err)
	}
	p := fromYAML(t, "source: {images: {path: %s}}\nstages:\n  - score: {metrics: [laplacian]}\n  - write: {path: %s, format: png}\n", filepath.Join(dir, "in"), filepath.Join(dir, "out"))
	s, err := p.Run(t.Context(), pipeline.RunOptions{})
	if err != nil || s.Decoded != 4 || s.DecodedJPEG != 3 {
		t.Errorf("%d decoded, of them %d JPEG: %v", s.Decoded, s.DecodedJPEG, err)
	}
}
