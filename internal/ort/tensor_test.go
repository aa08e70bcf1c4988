package ort_test

import (
	"testing"
	"unsafe"

	"github.com/forgepipe/forgepipe/internal/ort"
)

func TestNewTensorIsAlignedAndZero(t *testing.T) {
	for kind, size := range map[ort.ElementType]int{ort.Float32: 4, ort.Float16: 2, ort.Float64: 8, ort.Int64: 8, ort.Uint8: 1, ort.Bool: 1} {
		x := ort.NewTensor(kind, 3, 5)
		if kind.Size() != size || len(x.Data) != 15*size || cap(x.Data) != len(x.Data) {
			t.Errorf("%v: %d bytes of %d, want %d", kind, len(x.Data), cap(x.Data), 15*size)
		}
		if at := uintptr(unsafe.Pointer(&x.Data[0])); at%64 != 0 {
			t.Errorf("%v: the data is at %#x, want a multiple of 64", kind, at)
		}
	}
	if x := ort.NewTensor(ort.Float32); len(x.Data) != 4 || len(x.Float32s()) != 1 {
		t.Errorf("a scalar has %d bytes", len(x.Data))
	}
	if got := ort.ElementType(8).String(); got != "ONNX type 8" || ort.ElementType(8).Size() != 0 {
		t.Errorf("texts are %s", got)
	}
}

func TestTensorsThatCannotBeAreBugs(t *testing.T) {
	for name, f := range map[string]func(){
		"negative":  func() { ort.NewTensor(ort.Float32, -1) },
		"too large": func() { ort.NewTensor(ort.Float32, 1<<40, 1<<40) },
		"no type":   func() { ort.NewTensor(0, 1) },
		"view":      func() { ort.NewTensor(ort.Int32, 1).Float32s() },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it does not panic")
				}
			}()
			f()
		})
	}
}
