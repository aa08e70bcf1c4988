package onnx

import (
	"math"
	"slices"
)

// Numbers are computed as float64, which holds all sizes that there are.

var unaries = map[string]func(float64) float64{
	"Floor": math.Floor, "Ceil": math.Ceil, "Round": math.RoundToEven, "Abs": math.Abs, "Sqrt": math.Sqrt,
	"Neg": func(a float64) float64 { return -a },
	"Not": func(a float64) float64 { return bit(a == 0) },
}

var binaries = map[string]func(a, b float64) float64{
	"Add": func(a, b float64) float64 { return a + b },
	"Sub": func(a, b float64) float64 { return a - b },
	"Mul": func(a, b float64) float64 { return a * b },
	"Div": func(a, b float64) float64 { return a / b },
	"Mod": modulo,
	"Pow": math.Pow,
	"Max": math.Max,
	"Min": math.Min,
	"And": func(a, b float64) float64 { return bit(a != 0 && b != 0) },
	"Or":  func(a, b float64) float64 { return bit(a != 0 || b != 0) },
	"Xor": func(a, b float64) float64 { return bit((a != 0) != (b != 0)) },
	"Sum": func(a, b float64) float64 { return a + b },
}

var comparisons = map[string]func(a, b float64) float64{
	"Equal":          func(a, b float64) float64 { return bit(a == b) },
	"Less":           func(a, b float64) float64 { return bit(a < b) },
	"LessOrEqual":    func(a, b float64) float64 { return bit(a <= b) },
	"Greater":        func(a, b float64) float64 { return bit(a > b) },
	"GreaterOrEqual": func(a, b float64) float64 { return bit(a >= b) },
}

var reductions = map[string]func(a, b float64) float64{
	"ReduceProd": func(a, b float64) float64 { return a * b },
	"ReduceMax":  math.Max,
	"ReduceMin":  math.Min,
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// modulo has the sign of b, as Python's.
func modulo(a, b float64) float64 {
	m := math.Mod(a, b)
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m
}

// finite tells whether all are numbers.
func finite(v []float64) bool {
	return !slices.ContainsFunc(v, func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) })
}

func unaryValues(f func(float64) float64) func(*call, []*flow) bool {
	return func(c *call, made []*flow) bool {
		for _, v := range c.in[0].vals {
			made[0].vals = append(made[0].vals, f(v))
		}
		return finite(made[0].vals)
	}
}

func binaryValues(f func(a, b float64) float64) func(*call, []*flow) bool {
	return func(c *call, made []*flow) bool {
		out := made[0]
		acc := broadcastValues(c.in[0], out.dims)
		for _, in := range c.in[1:] {
			if in == nil {
				return false
			}
			b := broadcastValues(in, out.dims)
			for i := range acc {
				acc[i] = f(acc[i], b[i])
				if c.op == "Div" && isWhole(c.in[0].elem) {
					acc[i] = math.Trunc(acc[i])
				}
			}
		}
		out.vals = acc
		return finite(acc)
	}
}

// isWhole tells whether a type is one of whole numbers.
func isWhole(t ElementType) bool {
	switch t {
	case Int64, Int32, Int16, Int8, Uint64, Uint32, Uint16, Uint8:
		return true
	}
	return false
}

// strides are the distances of elements along each axis.
func strides(dims []int) []int {
	s := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = n
		n *= dims[i]
	}
	return s
}

// each calls visit with the place of every element of a tensor of these dimensions, in
// order. The place is valid during the call.
func each(dims []int, visit func(i int, at []int)) {
	n, _ := count(append([]int{}, dims...))
	at := make([]int, len(dims))
	for i := range n {
		visit(i, at)
		for a := len(dims) - 1; a >= 0; a-- {
			if at[a]++; at[a] < dims[a] {
				break
			}
			at[a] = 0
		}
	}
}

// broadcastValues repeats the values of x until they have these dimensions.
func broadcastValues(x *flow, dims []int) []float64 {
	if slices.Equal(x.dims, dims) {
		return slices.Clone(x.vals)
	}
	var out []float64
	step, skip := strides(x.dims), len(dims)-len(x.dims)
	each(dims, func(_ int, at []int) {
		from := 0
		for a, d := range x.dims {
			if d > 1 {
				from += at[skip+a] * step[a]
			}
		}
		out = append(out, x.vals[from])
	})
	return out
}

func identityValues(c *call, made []*flow) bool {
	made[0].vals = c.in[0].vals
	return len(made) == 1
}

func castValues(c *call, made []*flow) bool {
	out := slices.Clone(c.in[0].vals)
	for i, v := range out {
		switch {
		case made[0].elem == Bool:
			out[i] = bit(v != 0)
		case isWhole(made[0].elem):
			out[i] = math.Trunc(v)
		case made[0].elem == Float16:
			out[i] = float64(fromHalf(Half(float32(v))))
		case made[0].elem == Float32:
			out[i] = float64(float32(v))
		}
	}
	made[0].vals = out
	return finite(out)
}

func clipValues(c *call, made []*flow) bool {
	out := slices.Clone(c.in[0].vals)
	for i, bound := range []func(a, b float64) float64{math.Max, math.Min} {
		if in := c.arg(1 + i); in != nil {
			if len(in.vals) != 1 {
				return false
			}
			for k := range out {
				out[k] = bound(out[k], in.vals[0])
			}
		} else if a, ok := c.attrs[[]string{"min", "max"}[i]]; ok {
			for k := range out {
				out[k] = bound(out[k], a.f)
			}
		}
	}
	made[0].vals = out
	return true
}

func whereValues(c *call, made []*flow) bool {
	dims := made[0].dims
	which, a, b := broadcastValues(c.in[0], dims), broadcastValues(c.in[1], dims), broadcastValues(c.in[2], dims)
	for i := range which {
		if which[i] == 0 {
			a[i] = b[i]
		}
	}
	made[0].vals = a
	return true
}

func transposeValues(c *call, made []*flow) bool {
	perm, err := c.order()
	if err != nil {
		return false
	}
	step := strides(c.in[0].dims)
	each(made[0].dims, func(_ int, at []int) {
		from := 0
		for i, p := range perm {
			from += at[i] * step[p]
		}
		made[0].vals = append(made[0].vals, c.in[0].vals[from])
	})
	return true
}

func concatValues(c *call, made []*flow) bool {
	at, err := axis(made[0].dims, c.int("axis", 0))
	if err != nil {
		return false
	}
	each(made[0].dims, func(_ int, place []int) {
		place = slices.Clone(place)
		for _, x := range c.in {
			if place[at] < x.dims[at] {
				made[0].vals = append(made[0].vals, x.vals[offset(x.dims, place)])
				return
			}
			place[at] -= x.dims[at]
		}
	})
	return true
}

// offset is where the element at a place lies.
func offset(dims, place []int) int {
	n := 0
	for i, s := range strides(dims) {
		n += s * place[i]
	}
	return n
}

func splitValues(c *call, made []*flow) bool {
	at, sizes, err := c.sizes()
	if err != nil || len(made) > len(sizes) {
		return false
	}
	start := 0
	for i, m := range made {
		each(m.dims, func(_ int, place []int) {
			place = slices.Clone(place)
			place[at] += start
			m.vals = append(m.vals, c.in[0].vals[offset(c.in[0].dims, place)])
		})
		start += sizes[i]
	}
	return true
}

func sliceValues(c *call, made []*flow) bool {
	pieces, err := c.pieces()
	if err != nil {
		return false
	}
	seen := map[int]bool{}
	for _, p := range pieces {
		if seen[p.axis] {
			return false
		}
		seen[p.axis] = true
	}
	each(made[0].dims, func(_ int, place []int) {
		place = slices.Clone(place)
		for _, p := range pieces {
			place[p.axis] = p.start + place[p.axis]*p.step
		}
		made[0].vals = append(made[0].vals, c.in[0].vals[offset(c.in[0].dims, place)])
	})
	return true
}

func gatherValues(c *call, made []*flow) bool {
	x, index := c.in[0], c.in[1]
	at, err := axis(x.dims, c.int("axis", 0))
	if err != nil {
		return false
	}
	n := len(index.dims)
	ok := true
	each(made[0].dims, func(_ int, place []int) {
		i := int(index.vals[offset(index.dims, place[at:at+n])])
		if i < 0 {
			i += x.dims[at]
		}
		if i < 0 || i >= x.dims[at] {
			ok = false
			return
		}
		from := slices.Concat(place[:at], []int{i}, place[at+n:])
		made[0].vals = append(made[0].vals, x.vals[offset(x.dims, from)])
	})
	return ok
}

func expandValues(c *call, made []*flow) bool {
	made[0].vals = broadcastValues(c.in[0], made[0].dims)
	return true
}

func reduceValues(f func(a, b float64) float64) func(*call, []*flow) bool {
	return func(c *call, made []*flow) bool {
		if len(c.in[0].dims) > 1 || len(c.in[0].vals) == 0 || len(made[0].dims) > 0 && made[0].dims[0] != 1 {
			return false // shapes are lists
		}
		v := c.in[0].vals[0]
		for _, w := range c.in[0].vals[1:] {
			v = f(v, w)
		}
		made[0].vals = []float64{v}
		return finite(made[0].vals)
	}
}
