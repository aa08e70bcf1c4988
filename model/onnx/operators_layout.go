package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// laid is one output of x's elements in the same order, of other dimensions.
func (c *call) laid(dims []int) ([]*flow, error) {
	x := c.in[0]
	have, _ := count(x.dims)
	want, ok := count(dims)
	if !ok || have != want {
		return nil, fmt.Errorf("the shape %v does not become %v", x.dims, dims)
	}
	if x.seen == nil || x.seen.lost != "" {
		return c.out(dims, x.seen), nil
	}
	t, ok := x.seen.reshaped(dims)
	if !ok {
		t = c.lost()
	}
	return c.out(dims, t), nil
}

func reshapeTo(c *call) ([]*flow, error) {
	to, err := c.dims(1)
	if err != nil {
		return nil, err
	}
	from := c.in[0].dims
	for i, d := range to {
		if d == 0 && c.int("allowzero", 0) == 0 && i < len(from) {
			to[i] = from[i]
		}
	}
	rest, known := -1, 1
	for i, d := range to {
		switch {
		case d == -1:
			rest = i
		case d == 0: // of an empty tensor
		case d > 0 && known <= maxElements/d:
			known *= d
		default:
			return nil, fmt.Errorf("the shape %v does not become %v", from, to)
		}
	}
	if n, _ := count(from); rest >= 0 && n%known == 0 {
		to[rest] = n / known
	}
	return c.laid(to)
}

func flatten(c *call) ([]*flow, error) {
	x := c.in[0]
	at := c.int("axis", 1)
	if at < 0 {
		at += len(x.dims)
	}
	if at < 0 || at > len(x.dims) {
		return nil, fmt.Errorf("there is no axis %d of %d dimensions", at, len(x.dims))
	}
	before, _ := count(x.dims[:at:at])
	after, _ := count(append([]int{}, x.dims[at:]...))
	return c.laid([]int{before, after})
}

func squeeze(c *call) ([]*flow, error) {
	x := c.in[0]
	axes, ok, err := c.list("axes", 1)
	if err != nil {
		return nil, err
	}
	gone := make([]bool, len(x.dims))
	for i, d := range x.dims {
		gone[i] = !ok && d == 1
	}
	for _, a := range axes {
		at, err := axis(x.dims, a)
		if err != nil {
			return nil, err
		}
		if x.dims[at] != 1 {
			return nil, fmt.Errorf("axis %d has a size of %d, not 1", a, x.dims[at])
		}
		gone[at] = true
	}
	dims := []int{}
	for i, d := range x.dims {
		if !gone[i] {
			dims = append(dims, d)
		}
	}
	return c.laid(dims)
}

func unsqueeze(c *call) ([]*flow, error) {
	x := c.in[0]
	axes, ok, err := c.list("axes", 1)
	if err != nil || !ok {
		return nil, errors.Join(err, errors.New("it does not tell its axes"))
	}
	n := len(x.dims) + len(axes)
	isNew := make([]bool, n)
	for _, a := range axes {
		if a < 0 {
			a += n
		}
		if a < 0 || a >= n || isNew[a] {
			return nil, fmt.Errorf("there is no place %d in %d dimensions", a, n)
		}
		isNew[a] = true
	}
	dims := make([]int, n)
	next := 0
	for i := range dims {
		if isNew[i] {
			dims[i] = 1
		} else {
			dims[i] = x.dims[next]
			next++
		}
	}
	return c.laid(dims)
}

// order is that of the axes of Transpose.
func (c *call) order() ([]int, error) {
	n := len(c.in[0].dims)
	perm := c.attrs["perm"].ints
	if perm == nil {
		for i := range n {
			perm = append(perm, n-1-i)
		}
	}
	sorted := slices.Sorted(slices.Values(perm))
	for i, p := range sorted {
		if p != i {
			return nil, fmt.Errorf("%v is no order of %d axes", perm, n)
		}
	}
	if len(perm) != n {
		return nil, fmt.Errorf("%v is no order of %d axes", perm, n)
	}
	return perm, nil
}

func transpose(c *call) ([]*flow, error) {
	x := c.in[0]
	perm, err := c.order()
	if err != nil {
		return nil, err
	}
	dims := make([]int, len(perm))
	t := x.seen
	if t != nil && t.lost == "" {
		t = t.clone()
	}
	for i, p := range perm {
		dims[i] = x.dims[p]
		if t != nil && t.lost == "" {
			t.axes[i] = x.seen.axes[p]
		}
	}
	return c.out(dims, t), nil
}

func concat(c *call) ([]*flow, error) {
	first := c.in[0]
	at, err := axis(first.dims, c.int("axis", 0))
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(first.dims)
	dims[at] = 0
	var seen []*flow
	before := 0 // the first that has something of the picture
	for _, x := range c.in {
		if x == nil || len(x.dims) != len(dims) {
			return nil, errNoMatch
		}
		for i, d := range x.dims {
			if i != at && d != dims[i] {
				return nil, fmt.Errorf("%w: %v and %v", errNoMatch, first.dims, x.dims)
			}
		}
		if x.seen != nil {
			if seen == nil {
				before = dims[at]
			}
			seen = append(seen, x)
		}
		dims[at] += x.dims[at]
	}
	switch {
	case seen == nil:
		return c.out(dims, nil), nil
	case seen[0].seen.lost != "" || !seen[0].seen.hasRole(at):
		// Along channels, all are laid out alike beside that axis.
		parts := make([]*flow, len(seen))
		for i, x := range seen {
			part := &flow{dims: slices.Clone(x.dims), seen: x.seen}
			part.dims[at] = 1
			if x.seen.lost == "" {
				if x.seen.hasRole(at) {
					return c.out(dims, c.lost()), nil
				}
				part.seen = x.seen.clone()
				part.seen.axes[at] = nil
			}
			parts[i] = part
		}
		one := slices.Clone(dims)
		one[at] = 1
		t := c.joined(one, parts...)
		if t.lost == "" {
			t.axes[at] = plain(dims[at])
		}
		return c.out(dims, t), nil
	case len(seen) == 1: // a border of numbers that do not hang on the picture
		t := seen[0].seen.clone()
		if !t.slid(at, dims[at], 1, float64(-before), float64(-before)) {
			t = c.lost()
		}
		return c.out(dims, t), nil
	}
	return c.out(dims, c.lost()), nil
}

// sizes are those of the parts of Split.
func (c *call) sizes() (at int, sizes []int, err error) {
	x := c.in[0]
	if at, err = axis(x.dims, c.int("axis", 0)); err != nil {
		return 0, nil, err
	}
	sizes, ok, err := c.list("split", 1)
	if err != nil {
		return 0, nil, err
	}
	if n := len(c.netNode.out); !ok && n > 0 {
		each := (x.dims[at] + n - 1) / n
		sizes = nil
		for left := x.dims[at]; left > 0; left -= each {
			sizes = append(sizes, min(each, left))
		}
	}
	sum := 0
	for _, s := range sizes {
		if s < 0 {
			return 0, nil, fmt.Errorf("parts of %v are not possible", sizes)
		}
		sum += s
	}
	if sum != x.dims[at] || len(sizes) < len(c.netNode.out) {
		return 0, nil, fmt.Errorf("parts of %v are not %d", sizes, x.dims[at])
	}
	return at, sizes, nil
}

func split(c *call) ([]*flow, error) {
	at, sizes, err := c.sizes()
	if err != nil {
		return nil, err
	}
	var made []*flow
	start := 0
	for _, s := range sizes {
		made = append(made, c.cut(c.in[0], at, start, s, 1))
		start += s
	}
	return made, nil
}

// cut is a part of x along an axis: n elements from start on, each step from the one
// before.
func (c *call) cut(x *flow, at, start, n, step int) *flow {
	dims := slices.Clone(x.dims)
	dims[at] = n
	f := &flow{elem: x.elem, dims: dims, seen: x.seen}
	if x.seen == nil || x.seen.lost != "" || n == x.dims[at] && step == 1 {
		return f
	}
	f.seen = x.seen.clone()
	if step < 1 && x.seen.hasRole(at) || !f.seen.slid(at, n, float64(step), float64(start), float64(start)) {
		f.seen = c.lost()
	}
	return f
}

// piece is what Slice takes along one axis.
type piece struct{ axis, start, n, step int }

// pieces reads what Slice takes.
func (c *call) pieces() ([]piece, error) {
	x := c.in[0]
	var lists [4][]int
	var given [4]bool
	for i, name := range []string{"starts", "ends", "axes", "steps"} {
		var err error
		if lists[i], given[i], err = c.list(name, i+1); err != nil {
			return nil, err
		}
	}
	starts, ends, axes, steps := lists[0], lists[1], lists[2], lists[3]
	if !given[2] {
		for i := range starts {
			axes = append(axes, i)
		}
	}
	if len(starts) != len(ends) || len(axes) != len(starts) || given[3] && len(steps) != len(starts) {
		return nil, errors.New("its starts, ends, axes and steps differ in number")
	}
	var all []piece
	for i, a := range axes {
		at, err := axis(x.dims, a)
		if err != nil {
			return nil, err
		}
		p := piece{axis: at, step: 1}
		if given[3] {
			p.step = steps[i]
		}
		d := x.dims[at]
		place := func(v, low, high int) int {
			if v < 0 {
				v += d
			}
			return min(max(v, low), high)
		}
		switch {
		case p.step > 0:
			p.start = place(starts[i], 0, d)
			p.n = max((place(ends[i], 0, d)-p.start+p.step-1)/p.step, 0)
		case p.step < 0 && p.step > math.MinInt32:
			p.start = place(starts[i], 0, d-1)
			end := -1
			if ends[i] > -d-1 {
				end = place(ends[i], -1, d)
			}
			p.n = max((p.start-end-p.step-1)/-p.step, 0)
		default:
			return nil, errors.New("it has a step of 0")
		}
		all = append(all, p)
	}
	return all, nil
}

func slice(c *call) ([]*flow, error) {
	pieces, err := c.pieces()
	if err != nil {
		return nil, err
	}
	x := c.in[0]
	for _, p := range pieces {
		x = c.cut(x, p.axis, p.start, p.n, p.step)
	}
	return c.out(x.dims, x.seen), nil
}

func gather(c *call) ([]*flow, error) {
	x, index := c.in[0], c.in[1]
	at, err := axis(x.dims, c.int("axis", 0))
	if err != nil {
		return nil, err
	}
	dims := slices.Concat(x.dims[:at], index.dims, x.dims[at+1:])
	t := x.seen
	switch {
	case index.seen != nil, t != nil && t.lost == "" && t.hasRole(at):
		t = c.lost()
	case t != nil && t.lost == "":
		t = t.clone()
		t.axes = slices.Clone(x.seen.axes[:at])
		for _, d := range index.dims {
			t.axes = append(t.axes, plain(d))
		}
		t.axes = append(t.axes, x.seen.axes[at+1:]...)
	}
	return c.out(dims, t), nil
}

func expand(c *call) ([]*flow, error) {
	to, err := c.dims(1)
	if err != nil {
		return nil, err
	}
	dims, seen, err := c.aligned(c.in[0], &flow{dims: to})
	return c.out(dims, seen), err
}

func tile(c *call) ([]*flow, error) {
	x := c.in[0]
	by, err := c.dims(1)
	if err != nil {
		return nil, err
	}
	if len(by) != len(x.dims) {
		return nil, errNoMatch
	}
	dims := slices.Clone(x.dims)
	t := x.seen
	if t != nil && t.lost == "" {
		t = t.clone()
	}
	for i, n := range by {
		if n < 1 || dims[i] > maxElements/n {
			return nil, fmt.Errorf("it repeats %d times", n)
		}
		dims[i] *= n
		if n == 1 || t == nil || t.lost != "" {
			continue
		}
		if t.hasRole(i) {
			t = c.lost()
		} else {
			t.axes[i] = plain(dims[i])
		}
	}
	return c.out(dims, t), nil
}
