package dedup_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// counted is a source that can be counted.
type counted struct{ stagetest.Source }

func (c counted) Count(context.Context) (int64, error) { return int64(len(c.Source)), nil }

// What comparing takes on disk is foreseen in a dry run, with the lengths that networks tell.
func TestDiskIsForeseen(t *testing.T) {
	const n = 6
	src, _ := tinted(n)
	net := perceiver(t, true) // whose vectors have 3 numbers
	byVector := "\n- embed: {model: " + net + ", output: pooled, name: v}\n- dedup: {by: [{vector: {name: v, min_similarity: 0.9}}]"
	folder := filepath.Join(t.TempDir(), "index")
	if _, err := chain(t, src, byVector+", index: "+folder+"}").Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
		t.Fatal(err)
	}
	disk := func(stages string) int64 {
		run, err := chain(t, src, stages).Start(t.Context(), pipeline.RunOptions{DryRun: true, NoStore: true})
		if err == nil {
			_, err = run.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		held := run.Forecast().Held
		if len(held) != 1 || held[0].Items != n || held[0].Memory == 0 {
			t.Fatalf("foreseen is %+v", held)
		}
		return held[0].Disks[0].Bytes
	}
	items := disk("\n- dedup: {by: sha256}")
	entries := nearest.Spill(3, n) // of the index, of which the first is kept at least
	for name, tt := range map[string]struct {
		stages      string
		least, most int64
	}{
		"vectors":              {byVector + "}", nearest.Spill(3, n) + 4*3*n, nearest.Spill(3, n) + 4*3*n},
		"and those of indexes": {byVector + ", against: " + folder + "}", nearest.Spill(3, n+1) + 4*3*n, nearest.Spill(3, n) + entries + 4*3*n},
		"pictures":             {"\n- dedup: {by: [{lpips: {model: " + perceiver(t, false) + ", size: 32}}]}", 3 * 32 * 32 * n, 3 * 32 * 32 * n},
		"pictures of some":     {"\n- dedup: {by: [sha256, {lpips: {model: " + net + ", size: 32, confirm: true}}]}", 2 * 3 * 32 * 32, 2 * 3 * 32 * 32},
		"all for an index":     {"\n- dedup: {by: [sha256, {lpips: {model: " + net + ", size: 32, confirm: true}}], index: " + folder + "2}", n * 3 * 32 * 32, n * 3 * 32 * 32},
	} {
		if got := disk(tt.stages) - items; got < tt.least || got > tt.most {
			t.Errorf("%s: takes %d bytes more than items alone, want %d to %d", name, got, tt.least, tt.most)
		}
	}
}

// Memory and disk that the run does not have are said at its beginning: of LPIPS' network and
// vectors, too, and of the folder of an index.
func TestWhatIsShortIsForeseen(t *testing.T) {
	src, _ := tinted(8)
	folder := filepath.Join(t.TempDir(), "index")
	for name, tt := range map[string]struct {
		limit, dedup string
		want         []string
	}{
		"enough": {"1GiB", "{by: [{phash: {max_distance: 31}}, {lpips: {model: " + perceiver(t, false) + ", size: 32, confirm: true}}]}", nil},
		"memory": {"600MiB", "{by: [{phash: {max_distance: 31}}, {lpips: {model: " + perceiver(t, false) + ", size: 512, confirm: true}}]}",
			[]string{"dedup will take at least ", " of memory to decide about 8 items, and the run has "}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p, err := pipeline.Load(t.Context(), "p.yaml", []byte("memory: {host: {limit: "+tt.limit+"}}\nsource: {made: {}}\nstages:\n  - dedup: "+tt.dedup+"\n"), pipeline.Options{
				Registry: registry(counted{src}), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Run(t.Context(), pipeline.RunOptions{NoStore: true})
			if (err != nil) != (tt.want != nil) {
				t.Error(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("said %q, without %q", &log, want)
				}
			}
			if tt.want == nil && log.Len() > 0 {
				t.Errorf("said %s", &log)
			}
		})
	}
	run, err := chain(t, src, "\n- dedup: {by: sha256, index: "+folder+"}").Start(t.Context(), pipeline.RunOptions{DryRun: true, NoStore: true})
	if err == nil {
		_, err = run.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	if disks := run.Forecast().Held[0].Disks; len(disks) != 2 || disks[1].Folder != filepath.Dir(folder) || disks[1].Bytes < 8*(32+64) {
		t.Errorf("the disks are %+v", disks)
	}
}
