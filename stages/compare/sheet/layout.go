package sheet

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
	"math"
	"strings"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// A Picture is one of the two.
type Picture struct {
	Name  string      // what is written above it
	Image image.Image // not changed
	ICC   []byte      // its colour profile, or nil
	// Figures of the picture after are more that tell it from the one before, such as
	// "LPIPS 0.12": they are written beside those that a sheet measures itself.
	Figures []string
}

// Encode writes a sheet or an animation, and measures. An error of w is wrapped; when
// ctx ends, so does the work, with ctx's error.
func Encode(ctx context.Context, w io.Writer, before, after Picture, o Options) (Difference, error) {
	if err := o.Check(); err != nil {
		return Difference{}, err
	}
	o = o.WithDefaults()
	if o.Format.Animated() {
		return animate(ctx, w, before, after, o)
	}
	img, d, err := Draw(ctx, before, after, o)
	if err != nil {
		return Difference{}, err
	}
	png := pngOptions
	png.ICC = shared(before, after)
	return d, imageio.EncodePNG(w, img, png)
}

// shared is the profile that both pictures have: a sheet has but one.
func shared(before, after Picture) []byte {
	if bytes.Equal(before.ICC, after.ICC) {
		return before.ICC
	}
	return nil
}

// A cell is a picture on the sheet with what is written above it.
type cell struct {
	title  [2]string // on the left and on the right
	detail [2]string
	legend bool // the scale of the difference below
	draw   func(dst *image.RGBA, p image.Point) error
}

// A drawer draws a sheet.
type drawer struct {
	o             Options
	before, after Picture
	view          *view
	frame         frame
	pen           *pen
	heat          *heat
	columns       int
	column        int // width of one
}

// Draw draws a sheet of the layout, and measures.
func Draw(ctx context.Context, before, after Picture, o Options) (*image.RGBA, Difference, error) {
	if err := o.Check(); err != nil {
		return nil, Difference{}, err
	}
	o = o.WithDefaults()
	v, err := newView(ctx, before.Image, after.Image, o)
	if err != nil {
		return nil, Difference{}, err
	}
	d := &drawer{o: o, before: before, after: after, view: v, frame: fitted(v.size, o.MaxSide), columns: 1}
	if o.Layout == Side || o.Layout == All {
		d.columns = 2
	}
	grid := image.Point{}
	if o.Layout == Heat || o.Layout == All {
		grid = d.frame.size
	}
	if err := d.prepare(!o.NoLabels || grid != image.Point{}); err != nil {
		return nil, Difference{}, err
	}
	diff, heat, err := v.measure(ctx, grid)
	if err != nil {
		return nil, Difference{}, err
	}
	d.heat = heat
	img, err := d.sheet(d.cells(ctx), diff)
	return img, diff, err
}

// prepare chooses the size of letters and columns. Where there is text, a column has
// room for a few words also above a picture that is narrow.
func (d *drawer) prepare(text bool) (err error) {
	size := d.frame.drawn()
	if d.pen, err = newPen(d.columns * size.X); err != nil {
		return err
	}
	d.column = size.X
	if text {
		d.column = max(size.X, 16*d.pen.em)
	}
	return nil
}

func (d *drawer) cells(ctx context.Context) []cell {
	size := d.frame.drawn()
	side := func(s *side, name string) cell {
		return cell{
			title: [2]string{name}, detail: [2]string{d.about(s)},
			draw: func(dst *image.RGBA, p image.Point) error { return s.draw(ctx, dst, p, d.frame) },
		}
	}
	before, after := side(&d.view.before, d.before.Name), side(&d.view.after, d.after.Name)
	names := [2]string{before.title[0], after.title[0]}
	sizes := [2]string{before.detail[0], after.detail[0]}
	split := cell{title: names, detail: sizes, draw: func(dst *image.RGBA, p image.Point) error {
		if err := before.draw(dst, p); err != nil {
			return err
		}
		other := image.NewRGBA(image.Rectangle{Max: size})
		if err := after.draw(other, image.Point{}); err != nil {
			return err
		}
		divide(dst, image.Rectangle{Max: size}.Add(p), other, int(math.Round(d.o.Position*float64(size.X))))
		return nil
	}}
	heat := cell{legend: true, title: [2]string{"Difference"}, detail: [2]string{"largest of the channels, 0 to 255"},
		draw: func(dst *image.RGBA, p image.Point) error { d.heat.draw(dst, p, d.frame.zoom); return nil }}
	switch d.o.Layout {
	case Side:
		return []cell{before, after}
	case Split:
		return []cell{split}
	case Heat:
		heat.title = names
		heat.detail = [2]string{"difference: largest of the channels, 0 to 255"}
		return []cell{heat}
	}
	split.title, split.detail = [2]string{"Split"}, names
	return []cell{before, after, split, heat}
}

// about says how large a picture is, and what was done to it to be compared.
func (d *drawer) about(s *side) string {
	text := fmt.Sprintf("%d × %d px", s.full.X, s.full.Y)
	if whole := larger(d.view.before.full, d.view.after.full); s.full != whole {
		x, y := float64(whole.X)/float64(s.full.X), float64(whole.Y)/float64(s.full.Y)
		text += ", enlarged " + times(x)
		if times(x) != times(y) {
			text += " and " + times(y)
		}
		text += " (" + d.o.Filter + ")"
	}
	return text
}

func times(x float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0") + "×" }

// gap is what lies between pictures and around them.
func (d *drawer) gap() int { return max(d.pen.em*2/3, 8) }

// labels is how high what is written above a picture is.
func (d *drawer) labels() int {
	if d.o.NoLabels {
		return 0
	}
	return 2*d.pen.line + d.pen.em/4
}

// legend is how high the scale below the difference is.
func (d *drawer) legend() int { return d.pen.em/2 + d.pen.em + d.pen.line }

// sheet puts the cells together, with a line about both pictures above.
func (d *drawer) sheet(cells []cell, diff Difference) (*image.RGBA, error) {
	gap, size := d.gap(), d.frame.drawn()
	w := gap + d.columns*(d.column+gap)
	var heading []string
	if !d.o.NoLabels {
		heading = d.pen.flowed(d.pen.regular, d.heading(diff), w-2*gap)
	}
	rows := (len(cells) + d.columns - 1) / d.columns
	top := gap + len(heading)*d.pen.line
	row := d.labels() + size.Y + gap
	h := top + rows*row
	if cells[len(cells)-1].legend {
		h += d.legend()
	}
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(dst, dst.Rect, image.NewUniform(background), image.Point{}, draw.Src)
	for i, line := range heading {
		y := gap/2 + i*d.pen.line
		d.pen.write(dst, image.Rect(gap, y, w-gap, y+d.pen.line), d.pen.regular, bright, line, false)
	}
	for i, c := range cells {
		x, y := gap+i%d.columns*(d.column+gap), top+i/d.columns*row
		if !d.o.NoLabels {
			d.label(dst, image.Rect(x, y, x+d.column, y), c)
		}
		at := image.Pt(x+(d.column-size.X)/2, y+d.labels())
		if err := c.draw(dst, at); err != nil {
			return nil, err
		}
		if c.legend {
			d.heat.legend(dst, d.pen, image.Rect(x, at.Y+size.Y+d.pen.em/2, x+d.column, h))
		}
	}
	return dst, nil
}

// heading says how far the pictures are apart.
func (d *drawer) heading(diff Difference) []string {
	if diff.Max == 0 {
		if diff.Enlarged {
			return []string{"No difference but in size"}
		}
		return []string{"No difference"}
	}
	out := []string{"PSNR " + decibels(diff.PSNR), "mean difference " + levels(diff.Mean), "largest " + levels(diff.Max) + " of 255"}
	out = append(out, d.after.Figures...)
	if r := d.o.Region; !r.Empty() {
		out = append(out, fmt.Sprintf("in %d × %d px at %d, %d", d.view.size.X, d.view.size.Y, r.Min.X, r.Min.Y))
	}
	return out
}

// label writes what stands above a picture, from the upper edge of r on.
func (d *drawer) label(dst *image.RGBA, r image.Rectangle, c cell) {
	for i, text := range [][2]string{c.title, c.detail} {
		face, colour := d.pen.bold, bright
		if i == 1 {
			face, colour = d.pen.regular, dim
		}
		line := r
		line.Min.Y += i * d.pen.line
		line.Max.Y = line.Min.Y + d.pen.line
		if text[1] == "" {
			d.pen.write(dst, line, face, colour, text[0], false)
			continue
		}
		left, right := line, line
		left.Max.X -= line.Dx()/2 + d.pen.em/2
		right.Min.X += line.Dx()/2 + d.pen.em/2
		d.pen.write(dst, left, face, colour, text[0], false)
		d.pen.write(dst, right, face, colour, text[1], true)
	}
}

// divide draws the other picture on the right of the column x of r, and a line that is
// seen on any picture between the two.
func divide(dst *image.RGBA, r image.Rectangle, other *image.RGBA, x int) {
	right := image.Rect(r.Min.X+x, r.Min.Y, r.Max.X, r.Max.Y)
	draw.Draw(dst, right, other, image.Pt(x, 0), draw.Src)
	line(dst, r, x)
}

func line(dst *image.RGBA, r image.Rectangle, x int) {
	for i, c := range []color.RGBA{{0, 0, 0, 255}, {255, 255, 255, 255}, {255, 255, 255, 255}, {0, 0, 0, 255}} {
		at := r.Min.X + x - 2 + i
		draw.Draw(dst, image.Rect(at, r.Min.Y, at+1, r.Max.Y).Intersect(r), image.NewUniform(c), image.Point{}, draw.Src)
	}
}
