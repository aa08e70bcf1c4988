package onnx

import (
	"fmt"
	"slices"
)

// merge is the dimension that is both a and b, which are equal when the network
// runs. It fails when both are numbers and differ.
func merge(a, b int) (int, bool) {
	switch {
	case a >= 0 && b >= 0:
		return a, a == b
	case a >= 0:
		return a, true
	case b >= 0 || a == Dynamic:
		return b, true
	}
	return a, true
}

// broadcast gives the dimensions of what an operator on elements of a and b makes.
func broadcast(a, b []int) ([]int, error) {
	if a == nil || b == nil {
		return nil, errUnknown
	}
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i, d := range b {
		e := &out[len(a)-len(b)+i]
		switch {
		case *e == 1:
			*e = d
		case d == 1, d == *e:
		case *e > 1 && d > 1:
			return nil, fmt.Errorf("dimensions of %d and %d do not go together", *e, d)
		case d > 1: // the other one is the same or 1
			*e = d
		case *e <= 0:
			*e = Dynamic
		}
	}
	return out, nil
}

// sameType is the type that all values have.
func sameType(in ...*Value) (ElementType, error) {
	t := in[0].elem
	for _, v := range in {
		if v != absent && v.elem != t {
			return t, fmt.Errorf("element types %v and %v are mixed", t, v.elem)
		}
	}
	return t, nil
}

// rank checks the number of dimensions; it gives errUnknown where that is not
// known.
func rank(v *Value, n int) error {
	if v.dims == nil {
		return errUnknown
	}
	if len(v.dims) != n {
		return fmt.Errorf("%d dimensions are needed, not %d", n, len(v.dims))
	}
	return nil
}

// axis is an axis of dims that is counted from the front.
func axis(dims []int, a int) (int, error) {
	at := a
	if at < 0 {
		at += len(dims)
	}
	if at < 0 || at >= len(dims) {
		return 0, fmt.Errorf("there is no axis %d of %d dimensions", a, len(dims))
	}
	return at, nil
}

// vector checks that a value, where it is given, is a list of n numbers.
func vector(what string, v *Value, n int) error {
	if v == absent || v.dims == nil {
		return nil
	}
	if len(v.dims) != 1 {
		return fmt.Errorf("the %s needs 1 dimension, not %d", what, len(v.dims))
	}
	if _, ok := merge(v.dims[0], n); !ok {
		return fmt.Errorf("the %s needs %d numbers, not %d", what, n, v.dims[0])
	}
	return nil
}

// slide is the size of what comes out along an axis where a window slides.
func slide(in, window, stride, dilation, before, after int) (int, error) {
	reach := dilation*(window-1) + 1
	if in < 0 {
		if stride == 1 && before+after == reach-1 {
			return in, nil // it stays, name and all
		}
		return Dynamic, nil
	}
	if in+before+after < reach {
		return 0, fmt.Errorf("a window of %d does not fit into %d", reach, in+before+after)
	}
	return (in+before+after-reach)/stride + 1, nil
}

// times is a dimension that becomes n times as large.
func times(d, n int) int {
	if n == 1 {
		return d
	}
	if d < 0 {
		return Dynamic
	}
	return d * n
}

// count is the number of elements, and whether it is known.
func count(dims []int) (int, bool) {
	n := 1
	for _, d := range dims {
		if d < 0 {
			return 0, false
		}
		n *= d
	}
	return n, dims != nil
}
