//go:build !race

package ort_test

const raceDetector = false
