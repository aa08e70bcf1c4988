package ort_test

import (
	"encoding/binary"
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
		"numbers":   func() { ort.NewTensor(ort.Int32, 1).Numbers() },
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

func TestNumbersAreACopy(t *testing.T) {
	x := ort.NewTensor(ort.Float32, 2)
	copy(x.Float32s(), []float32{1.5, -2})
	half := ort.NewTensor(ort.Float16, 2)
	binary.NativeEndian.PutUint16(half.Data, 0x3e00) // 1.5
	binary.NativeEndian.PutUint16(half.Data[2:], 0xc000)
	for _, x := range []*ort.Tensor{x, half} {
		numbers := x.Numbers()
		if len(numbers) != 2 || numbers[0] != 1.5 || numbers[1] != -2 {
			t.Errorf("%v: %v", x.Type, numbers)
		}
		numbers[0] = 7
		if again := x.Numbers(); again[0] != 1.5 {
			t.Errorf("%v: who changes the copy changes the tensor", x.Type)
		}
	}
	if numbers := ort.NewTensor(ort.Float16, 0).Numbers(); len(numbers) != 0 {
		t.Errorf("of an empty tensor: %v", numbers)
	}
}
