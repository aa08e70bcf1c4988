package dedup_test

import (
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
)

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
		return held[0].Disk
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
		"pictures of some":     {"\n- dedup: {by: [sha256, {lpips: {model: " + net + ", size: 32, confirm: true}}]}", 0, 0},
	} {
		if got := disk(tt.stages) - items; got < tt.least || got > tt.most {
			t.Errorf("%s: takes %d bytes more than items alone, want %d to %d", name, got, tt.least, tt.most)
		}
	}
}
