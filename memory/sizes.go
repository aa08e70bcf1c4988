package memory

import "slices"

// beginSize puts what is seen of a batch size at its place in seen, and tells where that
// has come to. Where there are most already, the one goes whose last run is longest ago.
func beginSize[S any](seen []S, at, most int, run func(*S) int64, s S) ([]S, int) {
	if len(seen) == most {
		oldest := 0
		for i := range seen {
			if run(&seen[i]) < run(&seen[oldest]) {
				oldest = i
			}
		}
		seen = slices.Delete(seen, oldest, oldest+1)
		if oldest < at {
			at--
		}
	}
	return slices.Insert(seen, at, s), at
}
