package onnx

import (
	"errors"
	"fmt"
	"slices"
)

// operator is what is known of one.
type operator struct {
	least int // inputs that must be given
	shape func(*call) ([]*flow, error)
	// values computes those of what comes out, where those of all inputs are known; it
	// says false where it cannot. Nil: never.
	values func(c *call, made []*flow) bool
}

// operators are those that are followed, with their domain, unless it is ONNX's own.
var operators map[string]operator

func init() {
	operators = map[string]operator{
		"Constant":        {0, constant, nil},
		"ConstantOfShape": {1, constantOfShape, nil},
		"Shape":           {1, shapeOf, nil},
		"Size":            {1, sizeOf, nil},
		"Range":           {3, numberRange, nil},
		"Where":           {3, where, whereValues},
		"Cast":            {1, cast, castValues},
		"CastLike":        {2, castLike, castValues},
		"Identity":        {1, pointwise, identityValues},
		"Dropout":         {1, dropout, identityValues},
		"Clip":            {1, pointwise, clipValues},
		"PRelu":           {2, elementwise, nil},

		"Conv":                    {2, conv, nil},
		"com.microsoft.FusedConv": {2, conv, nil},
		"DeformConv":              {2, everywhere(conv), nil},
		"ConvTranspose":           {2, convTranspose, nil},
		"MaxPool":                 {1, pool, nil},
		"AveragePool":             {1, pool, nil},
		"LpPool":                  {1, pool, nil},
		"GlobalAveragePool":       {1, globalPool, nil},
		"GlobalMaxPool":           {1, globalPool, nil},
		"GlobalLpPool":            {1, globalPool, nil},
		"DepthToSpace":            {1, depthToSpace, nil},
		"SpaceToDepth":            {1, spaceToDepth, nil},
		"Resize":                  {1, resize, nil},
		"Upsample":                {1, resize, nil},
		"Pad":                     {1, pad, nil},

		"BatchNormalization":           {1, batchNorm, nil},
		"LRN":                          {1, pointwise, nil},
		"InstanceNormalization":        {1, everywhere(pointwise), nil},
		"GroupNormalization":           {1, everywhere(pointwise), nil},
		"MeanVarianceNormalization":    {1, everywhere(pointwise), nil},
		"LayerNormalization":           {1, fromAxis, nil},
		"SimplifiedLayerNormalization": {1, fromAxis, nil},
		"RMSNormalization":             {1, fromAxis, nil},
		"LpNormalization":              {1, alongAxis, nil},
		"Softmax":                      {1, softmax, nil},
		"LogSoftmax":                   {1, softmax, nil},
		"Hardmax":                      {1, softmax, nil},
		"CumSum":                       {2, everywhere(pointwise), nil},
		"GridSample":                   {2, gridSample, nil},
		"MatMul":                       {2, matMul, nil},
		"Gemm":                         {2, gemm, nil},

		"Reshape":   {2, reshapeTo, identityValues},
		"Flatten":   {1, flatten, identityValues},
		"Squeeze":   {1, squeeze, identityValues},
		"Unsqueeze": {1, unsqueeze, identityValues},
		"Transpose": {1, transpose, transposeValues},
		"Concat":    {1, concat, concatValues},
		"Split":     {1, split, splitValues},
		"Slice":     {1, slice, sliceValues},
		"Gather":    {2, gather, gatherValues},
		"Expand":    {2, expand, expandValues},
		"Tile":      {2, tile, nil},

		"ScatterND":       {3, scatter, nil},
		"ScatterElements": {3, scatter, nil},
		"GatherElements":  {2, gatherElements, nil},
		"GatherND":        {2, gatherND, nil},
		"TopK":            {1, topK, nil},
		"OneHot":          {3, oneHot, nil},
		"Trilu":           {1, everywhere(pointwise), nil},
		"Einsum":          {1, einsum, nil},
	}
	for _, op := range []string{"Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
		"Softplus", "Softsign", "Mish", "Gelu", "ThresholdedRelu", "Erf", "Exp", "Log", "Sin", "Cos", "Tan", "Swish",
		"Reciprocal", "Sign", "BitShift", "QuantizeLinear", "DequantizeLinear",
		"com.microsoft.Gelu", "com.microsoft.FastGelu", "com.microsoft.QuickGelu"} {
		operators[op] = operator{1, pointwise, nil}
	}
	for op, f := range unaries {
		operators[op] = operator{1, pointwise, unaryValues(f)}
	}
	for op, f := range binaries {
		operators[op] = operator{1, elementwise, binaryValues(f)}
	}
	for op, f := range comparisons {
		operators[op] = operator{2, compare, binaryValues(f)}
	}
	for _, op := range []string{"ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
		"ReduceSumSquare", "ArgMax", "ArgMin"} {
		operators[op] = operator{1, reduced, nil}
	}
	for op, f := range reductions {
		operators[op] = operator{1, reduced, reduceValues(f)}
	}
}

func pointwise(c *call) ([]*flow, error) { return c.out(c.in[0].dims, c.in[0].seen), nil }

func elementwise(c *call) ([]*flow, error) {
	dims, seen, err := c.aligned(c.in...)
	return c.out(dims, seen), err
}

// everywhere is an operator each of whose elements hangs on the whole picture.
func everywhere(f func(*call) ([]*flow, error)) func(*call) ([]*flow, error) {
	return func(c *call) ([]*flow, error) {
		made, err := f(c)
		for _, m := range made {
			m.seen = c.lost()
		}
		return made, err
	}
}

func compare(c *call) ([]*flow, error) {
	made, err := elementwise(c)
	made[0].elem = Bool
	return made, err
}

func where(c *call) ([]*flow, error) {
	made, err := elementwise(c)
	made[0].elem = c.in[1].elem
	return made, err
}

func cast(c *call) ([]*flow, error) {
	made, err := pointwise(c)
	made[0].elem = ElementType(c.int("to", 0))
	return made, err
}

func castLike(c *call) ([]*flow, error) {
	made, err := pointwise(c)
	made[0].elem = c.in[1].elem
	return made, err
}

func dropout(c *call) ([]*flow, error) {
	x := c.in[0]
	return []*flow{{elem: x.elem, dims: x.dims, seen: x.seen}, {elem: Bool, dims: x.dims, seen: x.seen}}, nil
}

func batchNorm(c *call) ([]*flow, error) {
	x := c.in[0]
	if x.seen != nil && x.seen.hasRole(1) {
		return c.out(x.dims, c.lost()), nil
	}
	return pointwise(c)
}

// fromAxis is a normalisation along all axes from one on.
func fromAxis(c *call) ([]*flow, error) {
	x := c.in[0]
	at, err := axis(x.dims, c.int("axis", -1))
	if err != nil {
		return nil, err
	}
	return c.mixing(x, x.dims, at, len(x.dims)), nil
}

func alongAxis(c *call) ([]*flow, error) {
	x := c.in[0]
	at, err := axis(x.dims, c.int("axis", -1))
	if err != nil {
		return nil, err
	}
	return c.mixing(x, x.dims, at, at+1), nil
}

func softmax(c *call) ([]*flow, error) {
	if c.net.opset >= 13 {
		return alongAxis(c)
	}
	x := c.in[0] // it took all axes from one on for one
	at, err := axis(x.dims, c.int("axis", 1))
	if err != nil {
		return nil, err
	}
	return c.mixing(x, x.dims, at, len(x.dims)), nil
}

// mixing is one output of x's size whose elements hang on all along some axes.
func (c *call) mixing(x *flow, dims []int, from, to int) []*flow {
	for a := from; x.seen != nil && a < to; a++ {
		if x.seen.hasRole(a) {
			return c.out(dims, c.lost())
		}
	}
	return c.out(dims, x.seen)
}

func reduced(c *call) ([]*flow, error) {
	x := c.in[0]
	var axes []int
	var ok bool
	var err error
	if op := c.op; op == "ArgMax" || op == "ArgMin" {
		axes, ok = []int{c.int("axis", 0)}, true
	} else if axes, ok, err = c.list("axes", 1); err != nil {
		return nil, err
	}
	if !ok || len(axes) == 0 {
		if c.int("noop_with_empty_axes", 0) != 0 {
			return pointwise(c)
		}
		axes = nil
		for i := range x.dims {
			axes = append(axes, i)
		}
	}
	keep := c.int("keepdims", 1) != 0
	gone := make([]bool, len(x.dims))
	for _, a := range axes {
		at, err := axis(x.dims, a)
		if err != nil {
			return nil, err
		}
		gone[at] = true
	}
	dims := []int{}
	seen := x.seen
	if seen != nil && seen.lost == "" {
		seen = seen.clone()
		seen.axes = nil
	}
	for i, d := range x.dims {
		if gone[i] && x.seen != nil && x.seen.hasRole(i) {
			seen = c.lost()
		}
		if gone[i] && !keep {
			continue
		}
		axis := []factor(nil)
		if gone[i] {
			d = 1
		} else if x.seen != nil && x.seen.lost == "" {
			axis = x.seen.axes[i]
		}
		dims = append(dims, d)
		if seen != nil && seen.lost == "" {
			seen.axes = append(seen.axes, axis)
		}
	}
	made := c.out(dims, seen)
	if c.op == "ArgMax" || c.op == "ArgMin" {
		made[0].elem = Int64
	}
	return made, nil
}

func constant(c *call) ([]*flow, error) {
	for name, a := range c.attrs {
		switch name {
		case "value":
			if a.t != nil {
				return []*flow{a.t}, nil
			}
		case "value_float":
			return []*flow{{elem: Float32, dims: []int{}, vals: []float64{a.f}}}, nil
		case "value_floats":
			return []*flow{{elem: Float32, dims: []int{len(a.reals)}, vals: a.reals}}, nil
		case "value_int":
			return []*flow{{elem: Int64, dims: []int{}, vals: []float64{float64(a.i)}}}, nil
		case "value_ints":
			return []*flow{{elem: Int64, dims: []int{len(a.ints)}, vals: reals(a.ints)}}, nil
		}
	}
	return nil, errors.New("its value is of a kind that is not followed")
}

func reals(v []int) []float64 {
	r := make([]float64, len(v))
	for i, n := range v {
		r[i] = float64(n)
	}
	return r
}

func constantOfShape(c *call) ([]*flow, error) {
	dims, err := c.dims(0)
	if err != nil {
		return nil, err
	}
	f := &flow{elem: Float32, dims: dims}
	value := 0.0
	if a := c.attrs["value"]; a.t != nil {
		f.elem = a.t.elem
		if len(a.t.vals) != 1 {
			return []*flow{f}, nil
		}
		value = a.t.vals[0]
	}
	if n, ok := count(dims); ok && n <= maxValues {
		f.vals = slices.Repeat([]float64{value}, n)
	}
	return []*flow{f}, nil
}

// dims is an input that is a list of dimensions.
func (c *call) dims(input int) ([]int, error) {
	in := c.arg(input)
	if in == nil || in.vals == nil || len(in.dims) > 1 {
		return nil, errors.New("the shape that it makes is computed in a way that is not followed")
	}
	return whole(in.vals), nil
}

func shapeOf(c *call) ([]*flow, error) {
	dims := c.in[0].dims
	n := len(dims)
	place := func(i int) int {
		if i < 0 {
			i += n
		}
		return min(max(i, 0), n)
	}
	from, to := place(c.int("start", 0)), place(c.int("end", n))
	dims = dims[from:max(from, to)]
	return []*flow{{elem: Int64, dims: []int{len(dims)}, vals: reals(dims)}}, nil
}

func sizeOf(c *call) ([]*flow, error) {
	n, _ := count(c.in[0].dims)
	return []*flow{{elem: Int64, dims: []int{}, vals: []float64{float64(n)}}}, nil
}

func numberRange(c *call) ([]*flow, error) {
	var v [3]float64
	for i := range v {
		if len(c.in[i].vals) != 1 {
			return nil, errors.New("its length is computed in a way that is not followed")
		}
		v[i] = c.in[i].vals[0]
	}
	n := (v[1] - v[0]) / v[2]
	if !(n >= 0 && n < maxElements) {
		return nil, fmt.Errorf("it goes from %v to %v by %v", v[0], v[1], v[2])
	}
	size := int(n)
	if float64(size) < n {
		size++
	}
	f := &flow{elem: c.in[0].elem, dims: []int{size}}
	if size <= maxValues {
		for i := range size {
			f.vals = append(f.vals, v[0]+float64(i)*v[2])
		}
	}
	return []*flow{f}, nil
}

func gridSample(c *call) ([]*flow, error) {
	x, grid := c.in[0], c.in[1]
	if len(x.dims) < 3 || len(grid.dims) != len(x.dims) {
		return nil, errors.New("its inputs have other axes than it needs")
	}
	dims := append(slices.Clone(x.dims[:2]), grid.dims[1:len(grid.dims)-1]...)
	return c.out(dims, c.lost()), nil
}

func matMul(c *call) ([]*flow, error) {
	a, b := c.in[0], c.in[1]
	m, n := len(a.dims), len(b.dims)
	if m < 2 || n < 2 {
		return nil, errors.New("it multiplies vectors, which is not followed")
	}
	if a.dims[m-1] != b.dims[n-2] {
		return nil, fmt.Errorf("%w: %v and %v", errNoMatch, a.dims, b.dims)
	}
	dims, err := broadcastSizes(a.dims[:m-2], b.dims[:n-2])
	if err != nil {
		return nil, err
	}
	dims = append(slices.Clone(dims), a.dims[m-2], b.dims[n-1])
	if mixesOn(a, m-1) || mixesOn(b, n-2) || mixesOn(a, m-2) && b.seen != nil || mixesOn(b, n-1) && a.seen != nil {
		return c.out(dims, c.lost()), nil
	}
	// What is left of each matrix is broadcast along the other's axis.
	left := &flow{dims: slices.Concat(a.dims[:m-1], []int{1}), seen: a.seen}
	right := &flow{dims: slices.Concat(b.dims[:n-2], []int{1, b.dims[n-1]}), seen: b.seen}
	if a.seen != nil && a.seen.lost == "" {
		left.seen = a.seen.clone()
		left.seen.axes[m-1] = nil
	}
	if b.seen != nil && b.seen.lost == "" {
		right.seen = b.seen.clone()
		right.seen.axes[n-2] = nil
	}
	return c.out(dims, c.joined(dims, left, right)), nil
}

// mixesOn tells whether an axis goes through the picture.
func mixesOn(x *flow, axis int) bool { return x.seen != nil && x.seen.hasRole(axis) }

func gemm(c *call) ([]*flow, error) {
	a, b := c.in[0], c.in[1]
	if len(a.dims) != 2 || len(b.dims) != 2 {
		return nil, errors.New("matrices need 2 dimensions")
	}
	row, k := 0, 1
	if c.int("transA", 0) != 0 {
		row, k = 1, 0
	}
	bk, column := 0, 1
	if c.int("transB", 0) != 0 {
		bk, column = 1, 0
	}
	if a.dims[k] != b.dims[bk] {
		return nil, fmt.Errorf("%w: %v and %v", errNoMatch, a.dims, b.dims)
	}
	dims := []int{a.dims[row], b.dims[column]}
	seen := c.lost()
	if x := a.seen; x != nil && x.lost == "" && b.seen == nil && (c.arg(2) == nil || c.in[2].seen == nil) && !x.hasRole(k) {
		seen = x.clone()
		seen.axes = [][]factor{x.axes[row], plain(dims[1])}
	}
	return c.out(dims, seen), nil
}
