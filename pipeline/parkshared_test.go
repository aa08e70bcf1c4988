package pipeline_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

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
