package phash

import (
	"image"
	"image/color"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
)

// gray resizes a picture as Pillow does with its Lanczos filter, makes it gray
// with Pillow's weights for mode L, and returns the pixels row by row.
//
// The horizontal pass comes first, as in Pillow up to 12. Pillow 13 begins with
// the vertical one where the height shrinks by more than twice the pixels by
// which the width does: means are then rounded otherwise, and imagededup's
// hashes of pictures about twice as high as wide change by a few bits.
func gray(img image.Image, w, h int) []uint8 {
	small := resample.Resize(opaque(img), image.Pt(w, h), imaging.Lanczos)
	g := make([]uint8, 0, w*h)
	for y := range h {
		for x := range w {
			switch m := small.(type) {
			case *image.Gray:
				g = append(g, m.GrayAt(x, y).Y)
			case *image.Gray16:
				g = append(g, uint8(m.Gray16At(x, y).Y>>8))
			case *image.RGBA:
				c := m.RGBAAt(x, y)
				g = append(g, luma(c.R, c.G, c.B))
			default:
				r, gr, b, _ := small.At(x, y).RGBA()
				g = append(g, luma(uint8(r>>8), uint8(gr>>8), uint8(b>>8)))
			}
		}
	}
	return g
}

func luma(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// opaque is img without its alpha, so that transparent pixels have the colour
// that they have in the file: Resize would leave them out of its means. It is
// a copy only where some are transparent.
func opaque(img image.Image) image.Image {
	switch m := img.(type) {
	case *image.NRGBA:
		if imageio.Opaque(m) {
			return m
		}
		out := image.NewRGBA(image.Rectangle{Max: m.Rect.Size()})
		for y := range out.Rect.Dy() {
			row := out.Pix[y*out.Stride:][:4*out.Rect.Dx()]
			copy(row, m.Pix[y*m.Stride:])
			for i := 3; i < len(row); i += 4 {
				row[i] = 255
			}
		}
		return out
	case *image.NRGBA64:
		if imageio.Opaque(m) {
			return m
		}
		out := image.NewRGBA64(image.Rectangle{Max: m.Rect.Size()})
		for y := range out.Rect.Dy() {
			row := out.Pix[y*out.Stride:][:8*out.Rect.Dx()]
			copy(row, m.Pix[y*m.Stride:])
			for i := 6; i < len(row); i += 8 {
				row[i], row[i+1] = 255, 255
			}
		}
		return out
	case *image.NYCbCrA:
		return &m.YCbCr
	case *image.Paletted:
		colours := make(color.Palette, len(m.Palette))
		for i, c := range m.Palette {
			n := color.NRGBAModel.Convert(c).(color.NRGBA)
			n.A = 255
			colours[i] = n
		}
		return &image.Paletted{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect, Palette: colours}
	}
	return img
}

// Bytes is what PHash and DHash allocate at most for a picture of that size
// whose pixels take that many bytes, also for all orientations, for which DHash
// resizes it twice. A picture without alpha, which gray ones never have, needs no
// copy.
func Bytes(size image.Point, pixel int64, alpha bool) int64 {
	result, work := resample.Bytes(size, image.Pt(32, 32), imaging.Lanczos, pixel)
	total := 2 * (result + work)
	if alpha && pixel > 2 {
		total += int64(size.X) * int64(size.Y) * pixel
	}
	return total
}
