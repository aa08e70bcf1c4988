//go:build soak

package main

import (
	"math/rand/v2"
	"testing"
)

func TestSoakDuplicatesAreTheSameAfterAKill(t *testing.T) {
	shares := []float64{2} // in Flush
	for range 5 {
		shares = append(shares, 0.05+0.9*rand.Float64())
	}
	duplicatesKilled(t, 200_000, shares...)
}
