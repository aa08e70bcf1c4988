package infer

import (
	"cmp"
	"fmt"
	"image"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
)

// A painter makes the picture that an output shows.
type painter struct {
	output    int        // among those that the network is asked for
	in        model.Spec // how pictures go in
	out       model.Spec // how they come out, without the channels
	scale     int        // how many times as wide and as high they are, at most
	maxPixels int64
}

func newPainter(c pipeline.Config, f *model.File, output int, maxPixels int64) (*painter, error) {
	p := &painter{output: output, maxPixels: maxPixels}
	known := p.read(f, f.Outputs[output])
	p.in, p.out = f.Spec, f.Spec
	if r := c.String("image_range"); r != "" {
		p.out.Range, p.out.Mean, p.out.Std = model.Range(r), [3]float64{}, [3]float64{}
	}
	port := f.Outputs[output]
	if port.Shape != nil {
		if len(port.Shape) != 4 {
			return nil, c.Errorf("image", 0, "the output %s has %d axes, and a picture has 4: pictures, channels, rows, columns", port.Name, len(port.Shape))
		}
		if depth, _, _ := axes(p.in, port.Shape[1:]); depth >= 0 && depth != 1 && depth != 3 {
			return nil, c.Errorf("image", 0, "the output %s has %d channels, and a picture has 1 or 3: set layout if they are on another axis", port.Name, depth)
		}
	}
	p.scale = max(1, int(c.Int("scale")))
	if known > 0 {
		if c.IsSet("scale") && p.scale != known {
			return nil, c.Errorf("scale", 0, "the network makes pictures %d times as large, as its file tells: leave scale out", known)
		}
		p.scale = known
	}
	return p, nil
}

// read is the scale that the file tells, rounded up; 0 where it does not. What sides must
// be multiples of becomes a part of how pictures are prepared, unless that says it.
func (p *painter) read(f *model.File, port onnx.Port) int {
	if len(port.Shape) == 4 {
		_, _, in := axes(f.Spec, f.Input.Shape[1:])
		_, _, out := axes(f.Spec, port.Shape[1:])
		if in > 0 && out > 0 {
			return int((out + in - 1) / in)
		}
	}
	g, err := f.Geometry(port.Name)
	if err != nil {
		return 0
	}
	if f.Spec.Multiple == 0 && g.Multiple > 1 {
		f.Spec.Multiple = g.Multiple
	}
	return (g.Up + g.Down - 1) / g.Down
}

// axes takes a shape apart, that of one picture.
func axes(s model.Spec, shape []int64) (depth, height, width int64) {
	if s.Layout == model.NHWC {
		return shape[2], shape[0], shape[1]
	}
	return shape[0], shape[1], shape[2]
}

// picture is what the output shows of a picture that had the size src.
func (p *painter) picture(out *model.Tensor, src image.Point) (image.Image, error) {
	if len(out.Shape) != 3 {
		return nil, fmt.Errorf("the network gives no picture: its output has the shape %v, and three axes are wanted", out.Shape)
	}
	depth, height, width := axes(p.in, out.Shape)
	spec := p.out
	switch {
	case depth == 1:
		spec.Channels = model.Gray
	case depth == 3 && spec.Channels != model.BGR:
		spec.Channels = model.RGB
	}
	whole := p.in
	whole.Multiple = 0
	in, content := p.in.OutputSize(src), whole.OutputSize(src) // with the border of multiple, and without
	size := image.Pt(part(width, content.X, in.X), part(height, content.Y, in.Y))
	if allowed := in.Mul(p.scale); int(width) > allowed.X || int(height) > allowed.Y {
		return nil, fmt.Errorf("the network gives %d x %d pixels for %d x %d, more than were planned for: set scale: %d", width, height, in.X, in.Y,
			max((int(width)+in.X-1)/in.X, (int(height)+in.Y-1)/in.Y))
	}
	if most := cmp.Or(p.maxPixels, int64(size.X)*int64(size.Y)); int64(size.X)*int64(size.Y) > most {
		return nil, fmt.Errorf("the network gives %d x %d pixels, more than the %d that limits.pixels allows", size.X, size.Y, most)
	}
	return spec.Picture(out, size)
}

// part is how much of a side is the picture, where content of in pixels was.
func part(side int64, content, in int) int {
	return int((side*int64(content) + int64(in) - 1) / int64(in))
}
