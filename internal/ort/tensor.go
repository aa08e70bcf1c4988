package ort

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unsafe"

	"github.com/x448/float16"
)

// ElementType is what a tensor consists of. The values are ONNX's own
// (TensorProto.DataType).
type ElementType int

// The types that tensors can have here.
const (
	Float32  ElementType = 1
	Uint8    ElementType = 2
	Int8     ElementType = 3
	Uint16   ElementType = 4
	Int16    ElementType = 5
	Int32    ElementType = 6
	Int64    ElementType = 7
	Bool     ElementType = 9
	Float16  ElementType = 10
	Float64  ElementType = 11
	Uint32   ElementType = 12
	Uint64   ElementType = 13
	BFloat16 ElementType = 16
)

var elementTypes = map[ElementType]struct {
	name string
	size int
}{
	Float32: {"float32", 4}, Float16: {"float16", 2}, Float64: {"float64", 8}, BFloat16: {"bfloat16", 2},
	Int8: {"int8", 1}, Int16: {"int16", 2}, Int32: {"int32", 4}, Int64: {"int64", 8},
	Uint8: {"uint8", 1}, Uint16: {"uint16", 2}, Uint32: {"uint32", 4}, Uint64: {"uint64", 8},
	Bool: {"bool", 1},
}

func (t ElementType) String() string {
	if e, ok := elementTypes[t]; ok {
		return e.name
	}
	return "ONNX type " + strconv.Itoa(int(t))
}

// Size is an element's, in bytes; 0 for a type that tensors cannot have here.
func (t ElementType) Size() int { return elementTypes[t].size }

// Port is an input or an output of a model.
type Port struct {
	Name string
	Type ElementType
	// Shape has -1 where a dimension is free, and Axes the name that the model
	// gives to that dimension, or "". Dimensions of one name are equal.
	Shape []int64
	Axes  []string
}

// Tensor is a dense array, its last dimension running fastest.
type Tensor struct {
	Type  ElementType
	Shape []int64
	// Data has the elements in the machine's byte order. Its length is the product
	// of Shape, times Type.Size.
	Data []byte
}

// tensorAlignment suits the widest vector instructions, and is what the runtime
// gives to tensors of its own.
const tensorAlignment = 64

// NewTensor makes a tensor of zeros whose data begins at a multiple of 64 bytes.
// It panics for a type or shape that no tensor can have; a shape that is not the
// program's own is for the caller to check.
func NewTensor(t ElementType, shape ...int64) *Tensor {
	n, ok := byteSize(t, shape)
	if !ok || n > math.MaxInt-tensorAlignment {
		panic(fmt.Sprintf("BUG: no tensor is %v of %v", shape, t))
	}
	data := make([]byte, n+tensorAlignment)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(data))) % tensorAlignment
	return &Tensor{
		Type:  t,
		Shape: append([]int64(nil), shape...),
		Data:  data[skip : skip+uintptr(n) : skip+uintptr(n)],
	}
}

// byteSize is what a tensor's data takes. It is not ok when the type has no
// size, a dimension is negative, or the product is beyond an int64.
func byteSize(t ElementType, shape []int64) (n int64, ok bool) {
	n = int64(t.Size())
	if n == 0 {
		return 0, false
	}
	empty := false
	for _, d := range shape {
		if d < 0 {
			return 0, false
		}
		if d == 0 {
			empty = true
			continue
		}
		if n > math.MaxInt64/d {
			return 0, false
		}
		n *= d
	}
	if empty {
		return 0, true
	}
	return n, true
}

// Float32s is the data of a float32 tensor, not a copy of it. It panics for
// another type, and for data that Float32s cannot be read from where it lies.
func (t *Tensor) Float32s() []float32 {
	if t.Type != Float32 {
		panic(fmt.Sprintf("BUG: Float32s of a tensor of %v", t.Type))
	}
	if len(t.Data) == 0 {
		return nil
	}
	at := unsafe.Pointer(unsafe.SliceData(t.Data))
	if len(t.Data)%4 != 0 || uintptr(at)%4 != 0 {
		panic("BUG: Float32s of data that is not aligned to 4 bytes, or of a length that is not a multiple of 4")
	}
	return unsafe.Slice((*float32)(at), len(t.Data)/4)
}

// Numbers copies the elements of a float32 or float16 tensor. It panics for another
// type.
func (t *Tensor) Numbers() []float32 {
	if t.Type != Float16 {
		return append([]float32(nil), t.Float32s()...)
	}
	numbers := make([]float32, len(t.Data)/2)
	for i := range numbers {
		numbers[i] = float16.Frombits(binary.NativeEndian.Uint16(t.Data[2*i:])).Float32()
	}
	return numbers
}

// check tells what makes t no tensor for port p. The runtime trusts the length
// of the data, so it must be right.
func (t *Tensor) check(p Port) error {
	if t == nil {
		return fmt.Errorf("there is no tensor for input %q", p.Name)
	}
	if t.Type != p.Type {
		return fmt.Errorf("input %q is %v, and the tensor for it is %v", p.Name, p.Type, t.Type)
	}
	fits := len(t.Shape) == len(p.Shape)
	for i := 0; fits && i < len(p.Shape); i++ {
		fits = p.Shape[i] < 0 || p.Shape[i] == t.Shape[i]
	}
	if !fits {
		return fmt.Errorf("input %q has shape %v (-1 is free), and the tensor for it %v", p.Name, p.Shape, t.Shape)
	}
	n, ok := byteSize(t.Type, t.Shape)
	if !ok || n != int64(len(t.Data)) {
		return fmt.Errorf("the tensor for input %q has %d bytes of data, which are not %v of %v", p.Name, len(t.Data), t.Shape, t.Type)
	}
	return nil
}
