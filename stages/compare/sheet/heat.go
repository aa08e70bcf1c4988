package sheet

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"strconv"
)

// inferno are 9 colours of matplotlib's map of that name (N. Smith and S. van der Walt,
// CC0), between which others are mixed: from black over red to a light yellow, each
// brighter than the one before, so that it can be read also without seeing colours.
var inferno = [9]color.RGBA{
	{0, 0, 4, 255}, {33, 12, 74, 255}, {87, 16, 110, 255}, {138, 34, 106, 255}, {188, 55, 84, 255},
	{227, 89, 51, 255}, {249, 142, 9, 255}, {249, 203, 53, 255}, {252, 255, 164, 255},
}

// hot is the colour of a share of the scale. No difference is black, and none is as
// dark: the smallest one begins at a visible colour.
func hot(share float64) color.RGBA {
	if share <= 0 {
		return color.RGBA{0, 0, 0, 255}
	}
	const from = 0.12
	at := (from + (1-from)*min(share, 1)) * float64(len(inferno)-1)
	i := min(int(at), len(inferno)-2)
	f := at - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + f*(float64(b)-float64(a)))) }
	a, b := inferno[i], inferno[i+1]
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// draw draws the map with its upper left corner at p, each cell as a square.
func (h *heat) draw(dst *image.RGBA, p image.Point, zoom int) {
	for i, d := range h.most {
		at := p.Add(image.Pt(i%h.size.X, i/h.size.X).Mul(zoom))
		c := hot(float64(d) / float64(h.scale))
		if zoom == 1 {
			dst.SetRGBA(at.X, at.Y, c)
			continue
		}
		draw.Draw(dst, image.Rectangle{Max: image.Pt(zoom, zoom)}.Add(at), image.NewUniform(c), image.Point{}, draw.Src)
	}
}

// legend draws the scale: a bar of the colours, and below it what they mean.
func (h *heat) legend(dst *image.RGBA, p *pen, r image.Rectangle) {
	bar := image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+p.em)
	for x := range bar.Dx() {
		c := hot((float64(x) + 0.5) / float64(bar.Dx()))
		if x < p.em/2 {
			c = hot(0) // none is one colour only, which the eye would not find otherwise
		}
		draw.Draw(dst, image.Rect(bar.Min.X+x, bar.Min.Y, bar.Min.X+x+1, bar.Max.Y), image.NewUniform(c), image.Point{}, draw.Src)
	}
	const ticks = 4
	for i := range ticks + 1 {
		text := levelOf(float64(h.scale) / level * float64(i) / ticks)
		if i == ticks && h.over {
			text = "≥ " + text
		}
		w := width(p.regular, []rune(text))
		x := bar.Min.X + bar.Dx()*i/ticks
		switch { // the numbers at the ends stay within the bar, those between stand below their place
		case i == ticks:
			x -= w
		case i > 0:
			x -= w / 2
		}
		p.write(dst, image.Rect(x, bar.Max.Y, x+w, bar.Max.Y+p.line), p.regular, dim, text, false)
	}
}

// levelOf writes a number of the scale.
func levelOf(v float64) string {
	digits := 0
	for digits < 4 && math.Abs(v-math.Round(v*math.Pow10(digits))/math.Pow10(digits)) > v/50 {
		digits++
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
