//go:build cuda

package cuda_test

import (
	"errors"
	"testing"

	"github.com/forgepipe/forgepipe/memory/cuda"
)

// On a machine with a GPU, the life of a context on the first one. Nothing else
// of this process may be on it.
func TestOnAGPU(t *testing.T) {
	n, err := cuda.Count()
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Skip("CUDA shows no GPU")
	}
	d, err := cuda.Open(0, cuda.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(d.Name(), d.Description(), d.UUID())
	if _, err := d.Read(t.Context()); !errors.Is(err, cuda.ErrNoContext) {
		t.Errorf("a reading without a context: %v", err)
	}
	for range 2 {
		leave := use(t, d, "test")
		r, err := d.Read(t.Context())
		if err != nil || r.Total <= 0 || r.Free <= 0 || r.Used <= 0 || r.Used+r.Free != r.Total {
			t.Errorf("%+v, %v", r, err)
		}
		var used *cuda.InUseError
		if err := d.Reset(t.Context()); !errors.As(err, &used) {
			t.Errorf("Reset while it is used: %v", err)
		}
		leave()
		if err := d.Reset(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := d.Read(t.Context()); !errors.Is(err, cuda.ErrNoContext) {
			t.Errorf("a reading after the reset: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
