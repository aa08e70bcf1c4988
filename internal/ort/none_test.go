//go:build !linux || !cgo || noort

package ort_test

import (
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
)

func TestLoadSaysHowToBuildTheRuntimeIn(t *testing.T) {
	if _, err := ort.Load(""); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("error %v, want how to build it in", err)
	}
}
