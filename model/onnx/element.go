package onnx

import (
	"fmt"
	"math"
)

// ElementType is the type of a tensor's elements, by the number that ONNX gives
// it (TensorProto.DataType).
type ElementType int32

// The types that image networks use. A file may hold others: they keep their
// number, and their Bits are 0.
const (
	Undefined  ElementType = 0 // what is no tensor
	Float32    ElementType = 1
	Uint8      ElementType = 2
	Int8       ElementType = 3
	Uint16     ElementType = 4
	Int16      ElementType = 5
	Int32      ElementType = 6
	Int64      ElementType = 7
	String     ElementType = 8
	Bool       ElementType = 9
	Float16    ElementType = 10
	Float64    ElementType = 11
	Uint32     ElementType = 12
	Uint64     ElementType = 13
	Complex64  ElementType = 14
	Complex128 ElementType = 15
	BFloat16   ElementType = 16
)

// elements are names and sizes in bits by number, up to the end of what ONNX 1.23
// knows.
var elements = [...]struct {
	name string
	bits int
}{
	{"undefined", 0}, {"float32", 32}, {"uint8", 8}, {"int8", 8}, {"uint16", 16}, {"int16", 16}, {"int32", 32},
	{"int64", 64}, {"string", 0}, {"bool", 8}, {"float16", 16}, {"float64", 64}, {"uint32", 32}, {"uint64", 64},
	{"complex64", 64}, {"complex128", 128}, {"bfloat16", 16}, {"float8e4m3fn", 8}, {"float8e4m3fnuz", 8},
	{"float8e5m2", 8}, {"float8e5m2fnuz", 8}, {"uint4", 4}, {"int4", 4}, {"float4e2m1", 4}, {"float8e8m0", 8},
	{"uint2", 2}, {"int2", 2}, {"float6e2m3", 6}, {"float6e3m2", 6},
}

// String is the type's name, "float32".
func (t ElementType) String() string {
	if t < 0 || int(t) >= len(elements) {
		return fmt.Sprintf("element type %d", int32(t))
	}
	return elements[t].name
}

// Bits is the size of an element; 0 for strings and for types that are not known.
// Elements of less than a byte are packed.
func (t ElementType) Bits() int {
	if t < 0 || int(t) >= len(elements) {
		return 0
	}
	return elements[t].bits
}

// Half is f as the bits of a float16, rounded to the nearest, to even between
// two. What is too large becomes infinite.
func Half(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	exp := int(b>>23&0xff) - 127 + 15
	frac := b & 0x7fffff
	switch {
	case exp == 0xff-127+15: // infinite, or no number
		if frac != 0 {
			return sign | 0x7e00
		}
		return sign | 0x7c00
	case exp >= 31:
		return sign | 0x7c00
	case exp < -10:
		return sign
	case exp <= 0: // subnormal: the leading one becomes visible and everything moves down
		return sign | uint16(roundEven(frac|0x800000, uint(14-exp)))
	}
	// A carry out of the fraction raises the exponent, up to infinity, as it should.
	return sign | uint16(uint32(exp)<<10+roundEven(frac, 13))
}

// roundEven shifts v down by n bits and rounds to the nearest, to even between
// two.
func roundEven(v uint32, n uint) uint32 {
	q, rest, half := v>>n, v&(1<<n-1), uint32(1)<<(n-1)
	if rest > half || rest == half && q&1 == 1 {
		q++
	}
	return q
}

// fromHalf is the number whose bits as a float16 are h.
func fromHalf(h uint16) float32 {
	sign, exp, frac := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch {
	case exp == 0x1f: // infinite, or no number
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
	}
	f := float32(frac) / (1 << 24) // subnormal
	if sign != 0 {
		f = -f
	}
	return f
}
