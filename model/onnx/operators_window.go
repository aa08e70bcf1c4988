package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// window is how an operator slides over one axis.
type window struct{ size, stride, dilation, before, after int }

// reach is how many elements a window goes over.
func (w window) reach() int { return w.dilation*(w.size-1) + 1 }

// windows reads the attributes of a node that slides windows of these sizes over the
// axes from the third on.
func (c *call) windows(sizes []int) ([]window, error) {
	x := c.in[0]
	n := len(x.dims) - 2
	if n < 1 || len(sizes) != n {
		return nil, fmt.Errorf("its window %v does not fit the shape %v", sizes, x.dims)
	}
	strides, dilations, pads := c.attrs["strides"].ints, c.attrs["dilations"].ints, c.attrs["pads"].ints
	ws := make([]window, n)
	for i := range ws {
		w := window{size: sizes[i], stride: 1, dilation: 1}
		if len(strides) == n {
			w.stride = strides[i]
		}
		if len(dilations) == n {
			w.dilation = dilations[i]
		}
		if len(pads) == 2*n {
			w.before, w.after = pads[i], pads[n+i]
		}
		for _, v := range []int{w.size, w.stride, w.dilation} {
			if v < 1 || v > math.MaxInt32 {
				return nil, errors.New("its window is not possible")
			}
		}
		if max(w.before, -w.before, w.after, -w.after) > math.MaxInt32 {
			return nil, errors.New("its padding is not possible")
		}
		switch c.text("auto_pad", "NOTSET") {
		case "SAME_UPPER", "SAME_LOWER":
			out := (x.dims[2+i] + w.stride - 1) / w.stride
			all := max((out-1)*w.stride+w.reach()-x.dims[2+i], 0)
			w.before, w.after = all/2, all-all/2
			if c.text("auto_pad", "") == "SAME_LOWER" {
				w.before, w.after = w.after, w.before
			}
		}
		ws[i] = w
	}
	return ws, nil
}

// slid is the axis of what comes of windows along an axis of the picture: the element q
// is made of those from stride q - before on. ok is false where the axis is rows or
// columns and something else.
func (t *trace) slid(axis, size int, stride, first, last float64) (ok bool) {
	f, is, mixed := t.spatial(axis)
	switch {
	case mixed:
		return false
	case !is:
		t.axes[axis] = plain(size)
		return true
	}
	r := f.role.index()
	t.lo[r] += f.step * first
	t.hi[r] += f.step * last
	t.axes[axis] = []factor{{size: size, role: f.role, step: f.step * stride}}
	return true
}

// sliding makes a tensor of channels channels and those sizes; each element of axis i
// is made of first[i] to last[i] from its place on, which moves by stride[i].
func (c *call) sliding(channels int, sizes []int, how func(axis int) (stride, first, last float64)) []*flow {
	x := c.in[0]
	dims := append([]int{x.dims[0], channels}, sizes...)
	for _, in := range c.in[1:] {
		if in != nil && in.seen != nil {
			return c.out(dims, c.lost()) // the weights hang on the picture
		}
	}
	if x.seen == nil || x.seen.lost != "" {
		return c.out(dims, x.seen)
	}
	t := x.seen.clone()
	if t.hasRole(1) {
		return c.out(dims, c.lost())
	}
	t.axes[1] = plain(channels)
	for i := range sizes {
		stride, first, last := how(i)
		if !t.slid(2+i, sizes[i], stride, first, last) {
			return c.out(dims, c.lost())
		}
	}
	return c.out(dims, t)
}

func conv(c *call) ([]*flow, error) {
	x, w := c.in[0], c.in[1]
	if len(w.dims) != len(x.dims) || len(w.dims) < 3 {
		return nil, fmt.Errorf("its weights %v do not fit the shape %v", w.dims, x.dims)
	}
	if groups := c.int("group", 1); w.dims[1]*groups != x.dims[1] {
		return nil, fmt.Errorf("its weights are for %d channels, and it gets %d", w.dims[1]*groups, x.dims[1])
	}
	ws, err := c.windows(w.dims[2:])
	if err != nil {
		return nil, err
	}
	sizes, err := slides(x.dims[2:], ws, false)
	if err != nil {
		return nil, err
	}
	return c.sliding(w.dims[0], sizes, slidingBy(ws)), nil
}

func slidingBy(ws []window) func(int) (stride, first, last float64) {
	return func(i int) (stride, first, last float64) {
		w := ws[i]
		return float64(w.stride), float64(-w.before), float64(w.reach() - 1 - w.before)
	}
}

// slides are the sizes of what comes out where windows slide over sizes in. up rounds
// up what does not go out evenly.
func slides(in []int, ws []window, up bool) ([]int, error) {
	out := make([]int, len(ws))
	for i, w := range ws {
		room := in[i] + w.before + w.after - w.reach()
		if room < 0 {
			return nil, fmt.Errorf("a window of %d does not fit into %d", w.reach(), in[i]+w.before+w.after)
		}
		out[i] = room/w.stride + 1
		// No window begins in the padding behind.
		if up && room%w.stride > 0 && out[i]*w.stride < in[i]+w.before {
			out[i]++
		}
	}
	return out, nil
}

func pool(c *call) ([]*flow, error) {
	x := c.in[0]
	ws, err := c.windows(c.attrs["kernel_shape"].ints)
	if err != nil {
		return nil, err
	}
	sizes, err := slides(x.dims[2:], ws, c.int("ceil_mode", 0) != 0)
	if err != nil {
		return nil, err
	}
	made := c.sliding(x.dims[1], sizes, slidingBy(ws))
	return append(made, &flow{elem: Int64, dims: made[0].dims, seen: c.lost()}), nil // MaxPool tells places too
}

func globalPool(c *call) ([]*flow, error) {
	x := c.in[0]
	if len(x.dims) < 3 {
		return nil, fmt.Errorf("the shape %v has no axes to pool", x.dims)
	}
	dims := slices.Clone(x.dims)
	for i := 2; i < len(dims); i++ {
		dims[i] = 1
	}
	made := c.mixing(x, dims, 2, len(dims))
	if t := made[0].seen; t != nil && t.lost == "" {
		t = t.clone()
		for i := 2; i < len(dims); i++ {
			t.axes[i] = nil
		}
		made[0].seen = t
	}
	return made, nil
}

func convTranspose(c *call) ([]*flow, error) {
	x, w := c.in[0], c.in[1]
	if len(w.dims) != len(x.dims) || len(w.dims) < 3 || w.dims[0] != x.dims[1] {
		return nil, fmt.Errorf("its weights %v do not fit the shape %v", w.dims, x.dims)
	}
	if _, ok := c.attrs["output_shape"]; ok || c.text("auto_pad", "NOTSET") != "NOTSET" {
		return nil, errors.New("its padding is told in a way that is not followed")
	}
	ws, err := c.windows(w.dims[2:])
	if err != nil {
		return nil, err
	}
	extra := c.attrs["output_padding"].ints
	sizes := make([]int, len(ws))
	for i, w := range ws {
		sizes[i] = w.stride*(x.dims[2+i]-1) + w.reach() - w.before - w.after
		if len(extra) == len(ws) {
			sizes[i] += extra[i]
		}
	}
	return c.sliding(w.dims[1]*c.int("group", 1), sizes, func(i int) (stride, first, last float64) {
		w := ws[i]
		s := float64(w.stride)
		return 1 / s, float64(w.before-(w.reach()-1)) / s, float64(w.before) / s
	}), nil
}

func depthToSpace(c *call) ([]*flow, error) {
	x, n := c.in[0], c.int("blocksize", 0)
	if len(x.dims) != 4 || n < 1 || n > math.MaxInt16 || x.dims[1]%(n*n) != 0 {
		return nil, fmt.Errorf("blocks of %d do not fit the shape %v", n, x.dims)
	}
	by := float64(n)
	return c.sliding(x.dims[1]/(n*n), []int{x.dims[2] * n, x.dims[3] * n}, func(int) (stride, first, last float64) {
		return 1 / by, -(by - 1) / by, 0
	}), nil
}

func spaceToDepth(c *call) ([]*flow, error) {
	x, n := c.in[0], c.int("blocksize", 0)
	if len(x.dims) != 4 || n < 1 || n > math.MaxInt16 || x.dims[2]%n != 0 || x.dims[3]%n != 0 {
		return nil, fmt.Errorf("blocks of %d do not fit the shape %v", n, x.dims)
	}
	by := float64(n)
	return c.sliding(x.dims[1]*n*n, []int{x.dims[2] / n, x.dims[3] / n}, func(int) (stride, first, last float64) {
		return by, 0, by - 1
	}), nil
}

// resize is Resize of all versions, and Upsample.
func resize(c *call) ([]*flow, error) {
	x := c.in[0]
	scales, sizes, err := c.resizing()
	if err != nil {
		return nil, err
	}
	n := len(x.dims)
	axes := c.attrs["axes"].ints
	if axes == nil {
		for i := range n {
			axes = append(axes, i)
		}
	}
	if len(scales) != len(axes) && len(sizes) != len(axes) {
		return nil, fmt.Errorf("it has %d scales and %d sizes for %d axes", len(scales), len(sizes), len(axes))
	}
	if policy := c.text("keep_aspect_ratio_policy", "stretch"); policy != "stretch" && sizes != nil {
		return nil, errors.New("it keeps the proportions, which is not followed")
	}
	dims := slices.Clone(x.dims)
	by := make([]float64, n)
	for i := range by {
		by[i] = 1
	}
	for i, a := range axes {
		at, err := axis(dims, a)
		if err != nil {
			return nil, err
		}
		switch {
		case sizes != nil:
			dims[at] = sizes[i]
			by[at] = float64(sizes[i]) / float64(x.dims[at])
		case !(scales[i] > 0 && scales[i] < 1<<20):
			return nil, fmt.Errorf("%v is no scale", scales[i])
		default:
			dims[at] = int(math.Floor(float64(x.dims[at]) * scales[i]))
			by[at] = scales[i]
		}
		if dims[at] < 1 {
			return nil, fmt.Errorf("it makes %d of %d", dims[at], x.dims[at])
		}
	}
	if x.seen == nil || x.seen.lost != "" {
		return c.out(dims, x.seen), nil
	}
	t := x.seen.clone()
	for i := range dims {
		if by[i] == 1 && dims[i] == x.dims[i] {
			continue
		}
		first, last, ok := c.resampling(by[i])
		if !ok || !t.slid(i, dims[i], 1/by[i], first, last) {
			return c.out(dims, c.lost()), nil
		}
	}
	return c.out(dims, t), nil
}

// resizing gives the scales of Resize or Upsample, or the sizes.
func (c *call) resizing() (scales []float64, sizes []int, err error) {
	if a, ok := c.attrs["scales"]; ok {
		return a.reals, nil, nil
	}
	at := 2
	if c.op == "Upsample" || c.net.opset < 11 {
		at = 1
	}
	if s := c.arg(at); s != nil && !slices.Equal(s.dims, []int{0}) {
		if s.vals == nil {
			return nil, nil, errors.New("its scales are computed in a way that is not followed")
		}
		return s.vals, nil, nil
	}
	sizes, ok, err := c.list("sizes", 3)
	if err == nil && !ok {
		err = errors.New("it has neither scales nor sizes")
	}
	return nil, sizes, err
}

// resampling tells from which elements on either side of q/by the element q is made,
// where an axis gets by times as large.
func (c *call) resampling(by float64) (first, last float64, ok bool) {
	mode := c.text("mode", "nearest")
	where := c.text("coordinate_transformation_mode", "half_pixel")
	nearest := c.text("nearest_mode", "round_prefer_floor")
	if c.op == "Upsample" || c.net.opset < 11 {
		where, nearest = "asymmetric", "floor"
	}
	even := by >= 1 && by == math.Trunc(by) // blocks of by elements are of one
	// The place in the source is q/by and from low to high.
	var low, high float64
	finest := 0.0 // places lie this far apart at least, or are the same
	switch where {
	case "asymmetric":
		if even {
			finest = 1 / by
		}
	case "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric":
		low = 0.5/by - 0.5
		high = low
		if where == "half_pixel_symmetric" {
			low, high = low-0.5, high+0.5
		} else if even {
			finest = 0.5 / by
		}
	case "align_corners":
		low, high = min(1/by-1, 0), max(1/by-1, 0)
	default:
		return 0, 0, false
	}
	taps := 0.0 // beside the two next to a place
	switch mode {
	case "nearest":
		if even && (where == "asymmetric" && nearest == "floor" || where != "align_corners" && where != "half_pixel_symmetric" && where != "asymmetric" && nearest != "floor" && nearest != "ceil") {
			return -(by - 1) / by, 0, true
		}
		switch nearest {
		case "floor":
			return low - 1 + finest, high, true
		case "ceil":
			return low, high + 1 - finest, true
		}
		return low - 0.5, high + 0.5, true
	case "linear", "bilinear", "trilinear":
	case "cubic", "bicubic":
		taps = 1
	default:
		return 0, 0, false
	}
	if c.int("antialias", 0) != 0 && by < 1 {
		wide := (taps + 1) / by
		return low - wide, high + wide, true
	}
	return low - 1 - taps + finest, high + 1 + taps - finest, true
}

func pad(c *call) ([]*flow, error) {
	x := c.in[0]
	pads, ok, err := c.list("pads", 1)
	if a, is := c.attrs["paddings"]; is {
		pads, ok = a.ints, true // its name before opset 2
	}
	if err != nil || !ok {
		return nil, errors.Join(err, errors.New("its padding is computed in a way that is not followed"))
	}
	axes, some, err := c.list("axes", 3)
	if err != nil {
		return nil, err
	}
	if !some {
		axes = nil
		for i := range x.dims {
			axes = append(axes, i)
		}
	}
	if len(pads) != 2*len(axes) {
		return nil, fmt.Errorf("it has %d paddings for %d axes", len(pads), len(axes))
	}
	mode := c.text("mode", "constant")
	dims := slices.Clone(x.dims)
	var t *trace
	lost := mode == "wrap"
	if x.seen != nil && x.seen.lost == "" {
		t = x.seen.clone()
	}
	for i, a := range axes {
		at, err := axis(dims, a)
		if err != nil {
			return nil, err
		}
		before, after := pads[i], pads[len(axes)+i]
		if dims[at] += before + after; dims[at] < 1 {
			return nil, fmt.Errorf("it leaves %d of %d", dims[at], x.dims[at])
		}
		if mode == "reflect" && max(before, after) >= x.dims[at] {
			return nil, fmt.Errorf("a mirrored border of %d does not fit %d", max(before, after), x.dims[at])
		}
		if t != nil && (before != 0 || after != 0) {
			lost = !t.slid(at, dims[at], 1, float64(-before), float64(-before)) || lost
		}
	}
	if x.seen == nil || x.seen.lost != "" {
		return c.out(dims, x.seen), nil
	}
	if lost {
		t = c.lost()
	}
	return c.out(dims, t), nil
}
