package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// flow is what is known of a tensor of a network when a picture of one size goes
// through it.
type flow struct {
	elem ElementType
	dims []int     // nil: not known
	vals []float64 // of the elements, of small tensors that hang on no picture; nil: not known
	seen *trace    // what of the picture is in it; nil: nothing
	why  error     // that dims are not known
}

// trace tells where in a picture the numbers of a tensor come from: the element at
// the indices y and x of the picture's axes comes of the pixels from step y + lo to
// step y + hi, and the same for x.
type trace struct {
	axes   [][]factor // of each axis of the tensor, from the outermost
	lo, hi [2]float64 // in pixels of the picture, of rows and columns
	lost   string     // the node after which the elements come from anywhere; axes are nil then
}

// factor is what an axis runs through, or a part of it where several are joined.
type factor struct {
	size int
	role role
	step float64 // of a role: in pixels of the picture
}

// role is what an axis is of the picture.
type role int8

const (
	other   role = iota // channels, pictures, places within a block
	rows                // of the picture
	columns             // of the picture
)

// index is the role's place in lo and hi.
func (r role) index() int { return int(r) - 1 }

// spatial is the factor of an axis that is rows or columns of the picture and nothing
// else. mixed is true where it is something else too: pixels that lie beside each other
// along such an axis do not in the picture.
func (t *trace) spatial(axis int) (f factor, is, mixed bool) {
	if axis >= len(t.axes) {
		return factor{}, false, false
	}
	a := t.axes[axis]
	for _, f := range a {
		if f.role != other {
			return f, len(a) == 1, len(a) > 1
		}
	}
	return factor{}, false, false
}

// hasRole tells whether an axis goes through rows or columns of the picture.
func (t *trace) hasRole(axis int) bool {
	_, is, mixed := t.spatial(axis)
	return is || mixed
}

func (t *trace) clone() *trace {
	c := *t
	c.axes = slices.Clone(t.axes)
	return &c
}

// plain is an axis that is none of the picture's.
func plain(size int) []factor {
	if size == 1 {
		return nil
	}
	return []factor{{size: size}}
}

// call is a node with what goes into it.
type call struct {
	*netNode
	net *network
	in  []*flow // nil: not given
}

// arg is the input i; nil: not given.
func (c *call) arg(i int) *flow {
	if i >= len(c.in) {
		return nil
	}
	return c.in[i]
}

func (c *call) int(name string, otherwise int) int {
	if a, ok := c.attrs[name]; ok {
		return int(a.i)
	}
	return otherwise
}

func (c *call) text(name, otherwise string) string {
	if a, ok := c.attrs[name]; ok {
		return a.s
	}
	return otherwise
}

// list is a list of numbers that is an attribute, or an input in later versions of
// the operator; ok is false where it is not given.
func (c *call) list(name string, input int) (v []int, ok bool, err error) {
	if a, is := c.attrs[name]; is {
		return a.ints, true, nil
	}
	in := c.arg(input)
	if input < 0 || in == nil || slices.Equal(in.dims, []int{0}) {
		return nil, false, nil
	}
	if in.vals == nil {
		return nil, false, fmt.Errorf("its %s are computed in a way that is not followed", name)
	}
	return whole(in.vals), true, nil
}

// whole makes whole numbers of values, which fit into half of an int.
func whole(v []float64) []int {
	w := make([]int, len(v))
	for i, f := range v {
		w[i] = int(min(max(f, math.MinInt32), math.MaxInt32))
	}
	return w
}

// lost is the trace of a tensor whose elements come from anywhere in the picture; nil
// where nothing of it goes into the node.
func (c *call) lost() *trace {
	why := ""
	for _, in := range c.in {
		switch {
		case in == nil || in.seen == nil:
		case in.seen.lost != "":
			return in.seen
		default:
			why = c.String()
		}
	}
	if why == "" {
		return nil
	}
	return &trace{lost: why}
}

// out is one output of the first input's type.
func (c *call) out(dims []int, seen *trace) []*flow {
	return []*flow{{elem: c.in[0].elem, dims: dims, seen: seen}}
}

const (
	// maxElements bounds what tensors are thought to have: more is not possible.
	maxElements = 1 << 50
	// maxRank bounds their axes. Networks have up to eight.
	maxRank = 32
	// maxWork bounds the nodes that are followed and the values that are computed, for all
	// sizes together: networks have some 10^5.
	maxWork = 20_000_000
)

var errWork = errors.New("it has too many nodes to be followed")

// through computes what is known of all values of the network when the input is a
// tensor of those dimensions. The axis of its rows is rowAxis, and that of its columns
// the next.
func (net *network) through(input Port, dims []int, rowAxis int) []*flow {
	known := make([]*flow, len(net.ids))
	for id, w := range net.consts {
		known[id] = w
	}
	picture := &flow{elem: input.Type, dims: dims, seen: &trace{}}
	for i, d := range dims {
		axis := plain(d)
		if r := role(i - rowAxis + int(rows)); r == rows || r == columns {
			axis = []factor{{size: d, role: r, step: 1}}
		}
		picture.seen.axes = append(picture.seen.axes, axis)
	}
	for _, p := range net.Inputs {
		if p.Name != input.Name {
			if id, ok := net.ids[p.Name]; ok {
				known[id] = &flow{elem: p.Type, why: fmt.Errorf("its input %q is not given", p.Name)}
			}
		}
	}
	known[net.ids[input.Name]] = picture
	known[0] = nil
	for i := range net.nodes {
		n := &net.nodes[i]
		made, err := net.follow(n, known)
		for k, id := range n.out {
			if id == 0 {
				continue
			}
			switch {
			case err != nil:
				known[id] = &flow{why: err}
			case k < len(made):
				known[id] = made[k]
			default:
				known[id] = &flow{why: fmt.Errorf("an output of %v is not followed", n)}
			}
		}
	}
	return known
}

// follow gives the outputs of a node.
func (net *network) follow(n *netNode, known []*flow) ([]*flow, error) {
	c := &call{netNode: n, net: net, in: make([]*flow, len(n.in))}
	if net.work += 1 + len(n.in) + len(n.out); net.work > maxWork {
		return nil, errWork
	}
	for i, id := range n.in {
		if id == 0 {
			continue
		}
		in := known[id]
		switch {
		case in == nil:
			return nil, fmt.Errorf("%v needs what no node before it makes", n)
		case in.why != nil:
			return nil, in.why
		case len(in.dims) > maxRank:
			return nil, fmt.Errorf("%v gets a tensor of %d axes, which is not followed", n, len(in.dims))
		}
		c.in[i] = in
	}
	f, ok := operators[n.op]
	if !ok {
		return nil, fmt.Errorf("%v is of an operator that is not followed", n)
	}
	if f.least > len(n.in) || slices.Contains(c.in[:min(f.least, len(c.in))], nil) {
		return nil, fmt.Errorf("%v lacks an input", n)
	}
	made, err := f.shape(c)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", n, err)
	}
	for _, m := range made {
		if m.dims == nil {
			m.dims = []int{}
		}
		size := 1
		for _, d := range m.dims {
			if d < 0 || d > 0 && size > maxElements/d {
				return nil, fmt.Errorf("%v gives a tensor of an impossible shape, %v", n, m.dims)
			}
			size *= d
		}
	}
	if f.values != nil {
		c.compute(f.values, made)
	}
	for _, m := range made {
		if slices.Contains(m.dims, 0) {
			m.vals = []float64{} // all there are
		}
		net.work += len(m.vals)
	}
	return made, nil
}

// compute fills the values of what a node makes, where its inputs' are known.
func (c *call) compute(values func(*call, []*flow) bool, made []*flow) {
	for _, in := range c.in {
		if in != nil && in.vals == nil {
			return
		}
	}
	for _, m := range made {
		if n, ok := count(m.dims); !ok || n > maxValues {
			return
		}
	}
	if !values(c, made) {
		for _, m := range made {
			m.vals = nil
		}
	}
}

var errNoMatch = errors.New("the sizes of what goes in do not match")

// aligned gives the dimensions that come of an operator on elements of values that are
// broadcast, and what of the picture is in each.
func (c *call) aligned(in ...*flow) ([]int, *trace, error) {
	var dims []int
	for _, x := range in {
		if x == nil {
			continue
		}
		if dims == nil {
			dims = slices.Clone(x.dims)
			continue
		}
		var err error
		if dims, err = broadcastSizes(dims, x.dims); err != nil {
			return nil, nil, err
		}
	}
	if dims == nil {
		dims = []int{}
	}
	return dims, c.joined(dims, in...), nil
}

func broadcastSizes(a, b []int) ([]int, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i, d := range b {
		e := &out[len(a)-len(b)+i]
		switch {
		case *e == 1:
			*e = d
		case d != 1 && d != *e:
			return nil, fmt.Errorf("%w: %v and %v", errNoMatch, a, b)
		}
	}
	return out, nil
}

// joined is the trace of a tensor of those dimensions, each of whose elements is made
// of the elements at its place in all of in.
func (c *call) joined(dims []int, in ...*flow) *trace {
	var seen []*flow
	out := &trace{axes: make([][]factor, len(dims)), lo: [2]float64{math.Inf(1), math.Inf(1)}, hi: [2]float64{math.Inf(-1), math.Inf(-1)}}
	for _, x := range in {
		if x == nil || x.seen == nil {
			continue
		}
		if x.seen.lost != "" {
			return x.seen
		}
		seen = append(seen, x)
		for r := range 2 {
			out.lo[r], out.hi[r] = min(out.lo[r], x.seen.lo[r]), max(out.hi[r], x.seen.hi[r])
		}
	}
	if seen == nil {
		return nil
	}
	for a, d := range dims {
		var picture []factor
		something := false
		for _, x := range seen {
			i := a - (len(dims) - len(x.dims))
			switch {
			case i < 0:
			case !x.seen.hasRole(i):
				something = something || x.dims[i] > 1
			case x.dims[i] != d || picture != nil && !sameFactors(picture, x.seen.axes[i]):
				return c.lost() // it is repeated, or pixels meet others
			default:
				picture = x.seen.axes[i]
			}
		}
		if picture != nil && something {
			return c.lost()
		}
		if out.axes[a] = picture; picture == nil {
			out.axes[a] = plain(d)
		}
	}
	return out
}

func sameFactors(a, b []factor) bool {
	return slices.EqualFunc(a, b, func(x, y factor) bool {
		return x.size == y.size && x.role == y.role && near(x.step, y.step)
	})
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1) }

// reshaped is the trace of a tensor whose elements keep their order and get other
// dimensions. ok is false where rows or columns are cut in a way that is not followed.
func (t *trace) reshaped(dims []int) (*trace, bool) {
	out := &trace{lo: t.lo, hi: t.hi, axes: make([][]factor, len(dims))}
	var left []factor // what is not in an axis yet, from the outermost
	for _, axis := range t.axes {
		for _, f := range axis {
			if n := len(left); n > 0 && f.role == other && left[n-1].role == other {
				left[n-1].size *= f.size
			} else {
				left = append(left, f)
			}
		}
	}
	for i, d := range dims {
		for d > 1 {
			if len(left) == 0 {
				return nil, false
			}
			f := left[0]
			switch {
			case f.size > 0 && d%f.size == 0:
				out.add(i, f)
				left, d = left[1:], d/f.size
			case d > 0 && f.size%d == 0:
				inner := f.size / d
				if f.role != other {
					out.hi[f.role.index()] += f.step * float64(inner-1)
				}
				out.add(i, factor{size: d, role: f.role, step: f.step * float64(inner)})
				left = slices.Clone(left)
				left[0] = factor{size: inner}
				d = 1
			default:
				return nil, false
			}
		}
		// A picture of one row has an axis of rows all the same.
		for len(left) > 0 && left[0].size == 1 && (i == len(dims)-1 || len(out.axes[i]) == 0 && dims[i] == 1) {
			out.add(i, left[0])
			left = left[1:]
		}
	}
	return out, len(left) == 0
}

// add puts a factor inside of an axis. Places in a block that follow rows or columns
// make these finer: it is what a pixel shuffle is.
func (t *trace) add(axis int, f factor) {
	a := t.axes[axis]
	n := len(a)
	switch {
	case n > 0 && f.role == other && a[n-1].role == other:
		a[n-1].size *= f.size
	case n > 0 && f.role == other:
		last := &a[n-1]
		r, by := last.role.index(), float64(f.size)
		t.lo[r] -= last.step * (by - 1) / by
		last.size, last.step = last.size*f.size, last.step/by
	default:
		t.axes[axis] = append(a, f)
	}
}
