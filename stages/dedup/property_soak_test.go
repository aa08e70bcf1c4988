//go:build soak

package dedup_test

import "testing"

func TestSoakItDecidesAsComparingEverythingDoes(t *testing.T) {
	checks(t, 1000)
	everythingCompared(t)
}

func TestSoakPicturesAreComparedAsMeasuringAllDoes(t *testing.T) { allMeasured(t, 60) }
