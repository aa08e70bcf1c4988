package runstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

// fill writes tiles of sources as a run does: a few sources at once, each tile
// appended when it is done.
func fill(t testing.TB, s *runstore.Store, sources, tiles int) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{})
	const together = 8
	for first := 0; first < sources; first += together {
		var ids []int64
		for i := first; i < min(first+together, sources); i++ {
			src := source(fmt.Sprintf("some-folder/of-photographs/IMG_%07d.jpg", i)) // 39 bytes
			random.Read(src.Hash[:])
			src.Header = make([]byte, 50)
			check(t, s.PutSource(&src))
			ids = append(ids, src.ID)
		}
		for i := range tiles {
			for _, id := range ids {
				d := written(id, fmt.Sprintf("tile=512,%d,%d", 1024+512*(i/10), 2048+512*(i%10)))
				random.Read(d.Hash[:])
				random.Read(d.Ident[:])
				check(t, s.Append([]runstore.Decision{d}))
			}
		}
	}
}

func size(t testing.TB, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "run.db"))
	check(t, err)
	return info.Size()
}

func TestBytesPerRow(t *testing.T) {
	cases := map[string]struct {
		sources, tiles int
		most           int64 // bytes per row
	}{
		"sources": {10_000, 0, 210},
		"tiles":   {200, 100, 72},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, runstore.Options{})
			empty := size(t, dir)
			fill(t, s, c.sources, c.tiles)
			check(t, s.Close())
			rows := int64(max(c.sources, c.sources*c.tiles))
			used := size(t, dir) - empty
			if c.tiles > 0 {
				used -= int64(c.sources) * 210
			}
			t.Logf("%d bytes a row", used/rows)
			if used/rows > c.most {
				t.Errorf("%d bytes a row, want at most %d", used/rows, c.most)
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, b.TempDir(), runstore.Options{})
	b.ResetTimer()
	fill(b, s, 1+b.N/100, 100)
	check(b, s.Close())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkRewrite is a run in which every row of the run before changes.
func BenchmarkRewrite(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, runstore.Options{})
	fill(b, s, 1+b.N/100, 100)
	check(b, s.Close())
	s = open(b, dir, runstore.Options{})
	b.ResetTimer()
	fill(b, s, 1+b.N/100, 100)
	check(b, s.Close())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkIntend(b *testing.B) {
	s := open(b, b.TempDir(), runstore.Options{})
	id := put(b, s, "a")
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ds := []runstore.Decision{written(id, fmt.Sprintf("tile=512,%d", rand.Int64()))}
			check(b, s.Intend(b.Context(), ds))
			s.Settled(ds[0].Seq)
		}
	})
	check(b, s.Close())
}

// BenchmarkSource reads sources of 100 tiles each, as a second run does.
func BenchmarkSource(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, runstore.Options{})
	fill(b, s, 1000, 100)
	check(b, s.Close())
	s = open(b, dir, runstore.Options{})
	b.ResetTimer()
	for i := range b.N {
		_, ds, ok, err := s.Source(b.Context(), fmt.Sprintf("some-folder/of-photographs/IMG_%07d.jpg", i%1000))
		if err != nil || !ok || len(ds) != 100 {
			b.Fatal(len(ds), ok, err)
		}
		for _, d := range ds {
			s.See(d)
		}
	}
}
