package sheet

import (
	"fmt"
	"image"
	"image/color"
	"sync"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// Every colour of a label is one that the palettes of GIFs have exactly.
var (
	background = color.RGBA{24, 24, 24, 255}
	bright     = color.RGBA{235, 235, 235, 255}
	dim        = color.RGBA{170, 170, 170, 255}
)

// fonts are the Go fonts, which have the characters of Latin, Greek and Cyrillic.
var fonts = sync.OnceValue(func() (f struct{ regular, bold *sfnt.Font }) {
	for _, x := range []struct {
		to   **sfnt.Font
		data []byte
	}{{&f.regular, goregular.TTF}, {&f.bold, gobold.TTF}} {
		font, err := opentype.Parse(x.data)
		if err != nil {
			panic(fmt.Sprintf("BUG: sheet: a font that comes with the program: %v", err))
		}
		*x.to = font
	}
	return f
})

// Sizes of letters, in pixels.
const (
	leastLetters = 13
	mostLetters  = 36
)

// A pen writes text of one size. It is for one goroutine.
type pen struct {
	em            int // px
	line          int // from one line to the next
	ascent        int
	regular, bold font.Face
	buffer        sfnt.Buffer
}

// newPen makes letters that can be read also when a sheet of that width is shown
// smaller, on a screen.
func newPen(width int) (*pen, error) {
	p := &pen{em: min(max(width/72, leastLetters), mostLetters)}
	o := &opentype.FaceOptions{Size: float64(p.em), DPI: 72, Hinting: font.HintingFull}
	var err error
	if p.regular, err = opentype.NewFace(fonts().regular, o); err != nil {
		return nil, fmt.Errorf("making letters: %w", err)
	}
	if p.bold, err = opentype.NewFace(fonts().bold, o); err != nil {
		return nil, fmt.Errorf("making letters: %w", err)
	}
	m := p.regular.Metrics()
	p.ascent = m.Ascent.Ceil()
	p.line = m.Ascent.Ceil() + m.Descent.Ceil() + p.em/6
	return p, nil
}

// known replaces what the fonts have no picture of.
func (p *pen) known(text string) []rune {
	const none = '□'
	out := []rune(text)
	for i, r := range out {
		if g, err := fonts().regular.GlyphIndex(&p.buffer, r); err != nil || g == 0 || !unicode.IsPrint(r) {
			out[i] = none
		}
	}
	return out
}

func width(f font.Face, text []rune) int { return font.MeasureString(f, string(text)).Ceil() }

// shortened takes as much out of the middle as does not fit.
func (p *pen) shortened(f font.Face, text string, most int) string {
	all := p.known(text)
	if width(f, all) <= most {
		return string(all)
	}
	with := func(n int) []rune { // n of its characters
		out := append([]rune(nil), all[:n-n/2]...)
		return append(append(out, '…'), all[len(all)-n/2:]...)
	}
	least, beyond := 0, len(all)
	for least+1 < beyond {
		if n := (least + beyond) / 2; width(f, with(n)) <= most {
			least = n
		} else {
			beyond = n
		}
	}
	return string(with(least))
}

// write writes a line within r, from its upper edge on: from the left, or to the right
// border.
func (p *pen) write(dst *image.RGBA, r image.Rectangle, f font.Face, c color.RGBA, text string, right bool) {
	text = p.shortened(f, text, r.Dx())
	x := r.Min.X
	if right {
		x = r.Max.X - font.MeasureString(f, text).Ceil()
	}
	d := font.Drawer{Dst: dst, Src: image.NewUniform(c), Face: f, Dot: fixed.P(x, r.Min.Y+p.ascent)}
	d.DrawString(text)
}

// flowed breaks text into lines at the commas that end its parts.
func (p *pen) flowed(f font.Face, parts []string, most int) (lines []string) {
	line := ""
	for _, part := range parts {
		longer := part
		if line != "" {
			longer = line + ", " + part
		}
		if line != "" && width(f, p.known(longer)) > most {
			lines = append(lines, line)
			longer = part
		}
		line = longer
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
