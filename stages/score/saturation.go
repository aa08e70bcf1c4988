package score

import (
	"image"
	"image/color"
)

var saturation = metric{
	name: "saturation",
	doc: "mean saturation of HSV (Smith 1978), (max - min) / max of red, green and blue, and 0 for black. " +
		"0 for gray images, 1 for one pure colour; photographs lie about 0.1 to 0.6. Dark pixels count as much as bright ones.",
	begin: func(p picture) (gauge, error) { return &saturationGauge{p: p}, nil },
}

type saturationGauge struct {
	p   picture
	sum float64
}

func (g *saturationGauge) row(r *rows) {
	b := g.p.Bounds()
	y := b.Min.Y + r.y
	switch m := g.p.Image.(type) {
	case *image.Gray, *image.Gray16:
	case *image.RGBA:
		g.packed(m.Pix[m.PixOffset(b.Min.X, y):][:4*g.p.width])
	case *image.NRGBA:
		g.packed(m.Pix[m.PixOffset(b.Min.X, y):][:4*g.p.width])
	case *image.YCbCr:
		g.ycbcr(m, y)
	case *image.NYCbCrA:
		g.ycbcr(&m.YCbCr, y)
	default:
		for x := b.Min.X; x < b.Max.X; x++ {
			g.sum += saturationOfColor(m.At(x, y))
		}
	}
}

func (g *saturationGauge) packed(p []uint8) {
	for i := 0; i+4 <= len(p); i += 4 {
		g.sum += saturationOf(uint32(p[i]), uint32(p[i+1]), uint32(p[i+2]))
	}
}

func (g *saturationGauge) ycbcr(m *image.YCbCr, y int) {
	for x := m.Rect.Min.X; x < m.Rect.Max.X; x++ {
		c := m.YCbCrAt(x, y)
		red, green, blue := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
		g.sum += saturationOf(uint32(red), uint32(green), uint32(blue))
	}
}

// saturationOfColor takes the colour as it is, without alpha; premultiplied it
// is the same but for rounding.
func saturationOfColor(c color.Color) float64 {
	switch c := c.(type) {
	case color.NRGBA:
		return saturationOf(uint32(c.R), uint32(c.G), uint32(c.B))
	case color.NRGBA64:
		return saturationOf(uint32(c.R), uint32(c.G), uint32(c.B))
	}
	r, g, b, _ := c.RGBA()
	return saturationOf(r, g, b)
}

func saturationOf(r, g, b uint32) float64 {
	high := max(r, g, b)
	if high == 0 {
		return 0
	}
	return float64(high-min(r, g, b)) / float64(high)
}

func (g *saturationGauge) value() float64 { return g.sum / g.p.area() }
