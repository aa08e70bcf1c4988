//go:build !cgo

package nvml_test

import (
	"errors"
	"testing"

	"github.com/forgepipe/forgepipe/memory/nvml"
)

func TestWithoutCgo(t *testing.T) {
	if d, err := nvml.Open(nvml.Options{}); !errors.Is(err, nvml.ErrNoCgo) || d != nil {
		t.Errorf("Open: %v, %v", d, err)
	}
}
