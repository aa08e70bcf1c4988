package pipeline_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Tiles of a picture that a stage makes are parked each by itself. When the cache knows
// all of them, and their files have gone, the picture is made again once, for all.
func TestTilesOfAPictureThatIsMadeAgain(t *testing.T) {
	for _, c := range []struct {
		stages string
		calls  int64 // in the second run
	}{
		{"shrink tile gather", 1},
		{"shrink gather tile gather", 1},
		{"twins tile gather", 1},
		{"shrink shrink tile gather", 2},
		{"pairup tile gather", 1},
		{"twins shrink tile gather", 3},
		{"shrink tile shrink gather", 1 + 24},
	} {
		t.Run(c.stages, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put(t, filepath.Join(dir, "in", "a.png"), pngBytes(t, 192, 128, speckle(1)))
			var calls atomic.Int64
			var yaml strings.Builder
			fmt.Fprintf(&yaml, "source: {images: {path: %s/in}}\nstages:\n", dir)
			for i, name := range strings.Fields(c.stages) {
				options := "{}"
				if name == "tile" {
					options = "{size: 16}"
				}
				fmt.Fprintf(&yaml, "  - {id: s%d, %s: %s}\n", i, name, options)
			}
			fmt.Fprintf(&yaml, "  - write: {path: %s/out, format: png}\n", dir)
			run := func() (*pipeline.Summary, map[string][]byte) {
				t.Helper()
				calls.Store(0)
				p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml.String()), pipeline.Options{Registry: pictureStages(&calls)})
				if err != nil {
					t.Fatal(err)
				}
				s := mustRun(t, p, pipeline.RunOptions{Check: true})
				if s.Quarantined != 0 {
					t.Fatalf("%d were quarantined: %+v", s.Quarantined, s.Failed)
				}
				return s, outputs(t, filepath.Join(dir, "out"))
			}
			_, want := run()
			for name := range want {
				if err := os.Remove(filepath.Join(dir, "out", name)); err != nil {
					t.Fatal(err)
				}
			}
			_, got := run()
			if n := calls.Load(); n != c.calls {
				t.Errorf("%d calls, want %d", n, c.calls)
			}
			if len(want) < 5 || len(got) != len(want) {
				t.Errorf("%d files, and before %d", len(got), len(want))
			}
			for name := range want {
				if name != "manifest.jsonl" && !bytes.Equal(got[name], want[name]) {
					t.Errorf("%s is not what it was", name)
				}
			}
		})
	}
}

// Parts of a picture in a file are parked each by itself, and come back as users of one
// picture, which counts once.
func TestPartsOfALargePictureCountOnce(t *testing.T) {
	const n = 16
	divide := batchStage(func(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range batch {
			for i := range n {
				out = append(out, it.Derive(fmt.Sprint(i), pipeline.Crop(image.Rect(0, i, canvasSize.X, canvasSize.Y-n+i))))
			}
		}
		return out, nil
	})
	for name, c := range map[string]struct {
		stages   []pipeline.Stage
		resident int64
	}{
		"barrier": {[]pipeline.Stage{enlarge, divide, &all{}}, 0},
		"passes":  {[]pipeline.Stage{enlarge, divide, &looksFirst{}}, 0},
		"phases":  {[]pipeline.Stage{heavyPhase{enlarge}, divide, heavyPhase{passBatch}}, 9 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			var mu sync.Mutex
			most := 0
			looks := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				f, err := it.Frame(ctx)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				most = max(most, canvasFiles(t, state))
				id, key, _ := strings.Cut(it.ID(), "@")
				i, err := strconv.Atoi(key)
				if err != nil {
					return err
				}
				pix, _ := samples(f.Image)
				if w := canvasSize.X; !bytes.Equal(pix[:w], rowOf(id, i, make([]byte, w))) {
					return fmt.Errorf("part %d begins otherwise", i)
				}
				return nil
			})
			s := mustRun(t, inLittle(t, 1, pipeline.Options{}, append(c.stages, looks)...), pipeline.RunOptions{StateDir: state})
			wantAllOut(t, s, n)
			if left := canvasFiles(t, state); most != 1 || left != 0 {
				t.Errorf("%d files, and %d are left", most, left)
			}
			if peak := s.Devices[0].Peak - c.resident; peak > 3<<20 {
				t.Errorf("%s were leased for one picture", memory.FormatBytes(peak))
			}
		})
	}
}

// Who is done with a picture before anybody looked does not lose the file that it is in.
func TestDoneWithAParkedLargePicture(t *testing.T) {
	const n = 4
	p := inLittle(t, n, pipeline.Options{}, heavyPhase{enlarge}, heavyPhase{passBatch}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		it.Done()
		return look(ctx, it)
	}))
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{StateDir: t.TempDir()}), n)
}
