//go:build soak

package nearest_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/model/nearest"
)

// The pairs of 20,000 vectors are those of comparing each with each, with most reduced
// vectors on the disk.
func TestSoakPairsOf20000AreThoseOfComparingAll(t *testing.T) {
	const n = 20000
	for name, tt := range map[string]struct {
		all     vectors
		measure nearest.Measure
		within  []float64
	}{
		"random":                  {random(n, 256, 1), nearest.Cosine, []float64{0.25, 0.95}},
		"clustered":               {clustered(n, 128, 1), nearest.Cosine, []float64{0.9, 0.95, 0.999}},
		"like pictures":           {likePictures(n, 128, 1), nearest.Cosine, []float64{0.95}},
		"at 0.95":                 {atThreshold(n, 128, 0.95), nearest.Cosine, []float64{0.95}},
		"at 0.95, among pictures": {append(likePictures(n-400, 128, 3), atThreshold(400, 128, 0.95)...), nearest.Cosine, []float64{0.95}},
		"distance":                {clustered(n, 128, 2), nearest.SquaredEuclidean, []float64{0.01, 10}},
		"lopsided, distance":      {lopsided(n, 64), nearest.SquaredEuclidean, []float64{1e-18, 1e-3}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, within := range tt.within {
				o := nearest.Options{Measure: tt.measure, Within: within, Threads: 2, Memory: 1 << 20}
				x := build(t, o, tt.all)
				found, err := search(t.Context(), x, o.Measure, inOrder(n), nearest.Block, 0)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("within %v: %d pairs, %+v", within, len(found), x.Stats())
				rows := make([][]float64, 64)
				for at := 0; at < n; at += len(rows) {
					var wg sync.WaitGroup
					for w := range runtime.GOMAXPROCS(0) {
						wg.Go(func() {
							for i := w; i < len(rows) && at+i < n; i += runtime.GOMAXPROCS(0) {
								rows[i] = row(o.Measure, tt.all, at+i)
							}
						})
					}
					wg.Wait()
					for i := 0; i < len(rows) && at+i < n; i++ {
						checkRow(t, x, o, at+i, rows[i], found)
					}
				}
			}
		})
	}
}
