package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Geometry is how the pixels of a network's output lie to those of its input, for
// networks that make pictures of pictures.
type Geometry struct {
	// Up and Down tell the scale: for each Down rows of the input the output has Up, and
	// for columns the same. A network that enlarges four times has 4 and 1.
	Up, Down int
	// Reach is how many pixels of the input on each side of a pixel have an influence on
	// what the output has at its place, at most: what tiles must overlap, when they begin
	// at multiples of Grid. It counts as long as Unbounded is empty.
	Reach int
	// Unbounded names the first node after which each pixel hangs on the whole picture, as
	// behind a mean over it; "" where there is none.
	Unbounded string
	// Multiple is what rows and columns of the input must be multiples of; 1: they need
	// not.
	Multiple int
	// Grid is the side of the blocks of pixels that the network works in, as one that
	// halves pictures does, or attends within windows. A part of a picture gives the same
	// as the whole one where it begins at multiples of Grid. It is 1 where there are none.
	Grid int
	// Peak is about how many bytes the tensors of a run need at most for each pixel of a
	// picture, with its input and its outputs, and without weights and what operators need
	// while they compute. ONNX Runtime takes between 0.7 and 2.5 times as much.
	Peak int64
}

// Route is a way through a network.
type Route struct {
	Input, Output string // their names
	// Rows is the axis of the input's rows, and of the output's; the next one is that of
	// the columns. It is 2 for tensors [N C H W], and 1 for [N H W C].
	Rows int
}

// ReadGeometry follows a network from a picture to a picture that it makes of it. It
// reads the file as ReadHeader does, and no weights but small ones, which may tell a
// shape. The error names the node at which the scale cannot be followed any further.
//
// Shapes are computed for pictures of several sizes, through all that exporters make of
// them: so what is told holds for the network that the nodes describe, whatever made
// them.
func ReadGeometry(path string, r Route) (Geometry, error) {
	net, err := readNetwork(path)
	if err != nil {
		return Geometry{}, err
	}
	g, err := net.geometry(r)
	if err != nil {
		return Geometry{}, fmt.Errorf("following the picture through %s: %w", path, err)
	}
	return g, nil
}

// multiples are what the sides of pictures may have to be multiples of.
var multiples = []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256}

func (net *network) geometry(r Route) (Geometry, error) {
	in, err := port("input", net.Inputs, r.Input)
	if err != nil {
		return Geometry{}, err
	}
	if _, err := port("output", net.Outputs, r.Output); err != nil {
		return Geometry{}, err
	}
	if len(in.Shape) != 4 || r.Rows < 1 || r.Rows > 2 {
		return Geometry{}, fmt.Errorf("its input %q takes no pictures: it has the shape %v", in.Name, in.Shape)
	}
	f := &follower{net: net, in: in, route: r}
	height, width := int(in.Shape[r.Rows]), int(in.Shape[r.Rows+1])
	if height > 0 || width > 0 {
		if height < 0 {
			height = width
		}
		if width < 0 {
			width = height
		}
		return f.geometry([][2]int{{height, width}}, 1)
	}
	var last error
	for _, m := range multiples {
		sizes := primes(m)
		if last = f.fits(sizes); last == nil {
			return f.geometry(sizes, m)
		}
	}
	return Geometry{}, last
}

// fits tells what is wrong with pictures of these sizes.
func (f *follower) fits(sizes [][2]int) error {
	var up, down int
	for _, s := range sizes {
		p, err := f.picture(s[0], s[1])
		if err != nil {
			return err
		}
		u, d, err := f.scale(p, s)
		if err == nil && up > 0 && (u != up || d != down) {
			err = fmt.Errorf("the scale of its output %q hangs on the size of pictures: it is %d/%d and %d/%d", f.route.Output, up, down, u, d)
		}
		if err != nil {
			return err
		}
		up, down = u, d
	}
	return nil
}

// scale is that of the output of a picture.
func (f *follower) scale(p pictured, size [2]int) (up, down int, err error) {
	up, down, err = ratio(p.rows, size[0])
	if err == nil && p.columns*down != size[1]*up {
		err = errors.New("that is no scale")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("its output %q has %d x %d pixels for %d x %d: %w", f.route.Output, p.columns, p.rows, size[1], size[0], err)
	}
	return up, down, nil
}

// primes are sizes of pictures that are multiples of m and of little else: two of some
// hundred pixels.
func primes(m int) [][2]int {
	var p []int
	for n := max(300/m, 11); len(p) < 4; n++ {
		prime := true
		for d := 2; d*d <= n; d++ {
			prime = prime && n%d != 0
		}
		if prime {
			p = append(p, n*m)
		}
	}
	return [][2]int{{p[0], p[1]}, {p[3], p[2]}}
}

// port is that of a name.
func port(kind string, ports []Port, name string) (Port, error) {
	i := slices.IndexFunc(ports, func(p Port) bool { return p.Name == name })
	if i < 0 {
		var names []string
		for _, p := range ports {
			names = append(names, p.Name)
		}
		return Port{}, fmt.Errorf("it has no %s %q: it has %q", kind, name, names)
	}
	return ports[i], nil
}

// ratio is the scale of a side.
func ratio(out, in int) (up, down int, err error) {
	a := divisor(out, in)
	if out < 1 {
		return 0, 0, errors.New("that is no scale")
	}
	up, down = out/a, in/a
	if up > 64 || down > 64 {
		return 0, 0, errors.New("that is no scale; a border that is cut off is one reason")
	}
	return up, down, nil
}

// follower follows pictures of several sizes.
type follower struct {
	net   *network
	in    Port
	route Route
}

// pictured is what comes of a picture of one size.
type pictured struct {
	rows, columns int // of the output
	out           *flow
	known         []*flow
	batch         int
}

func (f *follower) picture(height, width int) (pictured, error) {
	dims := make([]int, 4)
	for i, d := range f.in.Shape {
		dims[i] = int(d)
		if d < 0 {
			dims[i] = 1
		}
	}
	channels := 1
	if f.route.Rows == 1 {
		channels = 3
	}
	if f.in.Shape[channels] < 0 {
		dims[channels] = 3
	}
	dims[f.route.Rows], dims[f.route.Rows+1] = height, width
	known := f.net.through(f.in, dims, f.route.Rows)
	id, ok := f.net.ids[f.route.Output]
	if !ok || known[id] == nil {
		return pictured{}, fmt.Errorf("nothing makes its output %q", f.route.Output)
	}
	out := known[id]
	switch {
	case out.why != nil:
		return pictured{}, out.why
	case len(out.dims) != 4:
		return pictured{}, fmt.Errorf("its output %q is no picture: it has the shape %v", f.route.Output, out.dims)
	}
	return pictured{rows: out.dims[f.route.Rows], columns: out.dims[f.route.Rows+1], out: out, known: known, batch: dims[0]}, nil
}

// geometry is that of pictures of these sizes, which are multiples of m.
func (f *follower) geometry(sizes [][2]int, m int) (Geometry, error) {
	g := Geometry{Multiple: m, Grid: 1}
	for i, s := range sizes {
		p, err := f.picture(s[0], s[1])
		if err != nil {
			return Geometry{}, err
		}
		if g.Up, g.Down, err = f.scale(p, s); err != nil {
			return Geometry{}, err
		}
		reach, lost := f.reach(p.out, g)
		if g.Unbounded == "" {
			g.Unbounded = lost
		}
		if i > 0 && reach != g.Reach && g.Unbounded == "" {
			g.Unbounded = "the network, whose reach hangs on the size of pictures"
		}
		g.Reach = reach
		if ok, why := grid(p.known, &g.Grid); !ok && g.Unbounded == "" {
			g.Unbounded = why
		}
		pixels := int64(s[0]) * int64(s[1]) * int64(p.batch)
		g.Peak = max(g.Peak, (f.net.peak(p.known)+pixels-1)/pixels)
	}
	if g.Unbounded != "" {
		g.Reach, g.Grid = 0, m
	}
	return g, nil
}

// most is a reach that no network has in which pixels are not lost.
const most = 1 << 20

// reach is how far pixels on either side have an influence, or the node where it is lost
// how far.
func (f *follower) reach(out *flow, g Geometry) (reach int, lost string) {
	if out.seen == nil {
		return 0, ""
	}
	if out.seen.lost != "" {
		return 0, out.seen.lost
	}
	for i, want := range []role{rows, columns} {
		at, is, _ := out.seen.spatial(f.route.Rows + i)
		if !is || at.role != want || !near(at.step, float64(g.Down)/float64(g.Up)) {
			return 0, "its output, whose rows and columns are not those of the picture"
		}
		// The pixels of the input whose places the element q covers lie from
		// step q - (Up-1)/Up to step q + (Down-1)/Up, in whole pixels of the finer one.
		before := -out.seen.lo[i] + float64(g.Down-1)/float64(g.Up)
		after := out.seen.hi[i] + float64(g.Up-1)/float64(g.Up)
		const rounding = 1e-6
		far := math.Floor(max(before, after, 0) + rounding)
		if !(far < most) {
			return 0, "its output, which hangs on pixels far away"
		}
		reach = max(reach, int(far))
	}
	return reach, ""
}

// mostGrid is beyond what blocks a network has.
const mostGrid = 4096

// grid makes to a multiple of the steps of all tensors, in whole pixels. ok is false
// where there is no such number that a network would have.
func grid(known []*flow, to *int) (ok bool, why string) {
	for _, f := range known {
		if f == nil || f.seen == nil {
			continue
		}
		for _, axis := range f.seen.axes {
			for _, f := range axis {
				if f.role == other {
					continue
				}
				step, whole := 0, false
				for parts := 1; parts <= 64 && !whole; parts++ {
					step = int(math.Round(f.step * float64(parts)))
					whole = step > 0 && near(f.step*float64(parts), float64(step))
				}
				if !whole || step > mostGrid {
					return false, "the network, whose blocks of pixels do not lie on a grid"
				}
				if *to = *to / divisor(*to, step) * step; *to > mostGrid {
					return false, "the network, whose blocks of pixels do not lie on a grid"
				}
			}
		}
	}
	return true, ""
}

// divisor is the greatest that two numbers have.
func divisor(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
