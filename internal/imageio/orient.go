package imageio

import (
	"image"
	"image/color"
)

// flips tells how orientation o reads the stored image: whether its columns and
// its rows run backwards, and whether they are exchanged afterwards (EXIF 2.32,
// tag 274).
func flips(o int) (x, y, swap bool) {
	switch o {
	case 2:
		return true, false, false
	case 3:
		return true, true, false
	case 4:
		return false, true, false
	case 5:
		return false, false, true
	case 6:
		return false, true, true
	case 7:
		return true, true, true
	case 8:
		return true, false, true
	}
	return false, false, false
}

// subsampling is how many pixels share a chroma sample in each direction.
func subsampling(r image.YCbCrSubsampleRatio) (x, y int) {
	switch r {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
}

// turnedRatio tells whether turning the planes of a stored w x h image gives
// exactly what turning its pixels gives, and in which ratio. It does not where a
// backwards direction ends in a chroma sample that covers fewer pixels than the
// others, nor where Go knows no ratio for the exchanged directions.
func turnedRatio(r image.YCbCrSubsampleRatio, w, h, o int) (image.YCbCrSubsampleRatio, bool) {
	sx, sy := subsampling(r)
	flipX, flipY, swap := flips(o)
	if flipX && w%sx != 0 || flipY && h%sy != 0 {
		return 0, false
	}
	if !swap {
		return r, true
	}
	switch r {
	case image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio420:
		return r, true
	case image.YCbCrSubsampleRatio422:
		return image.YCbCrSubsampleRatio440, true
	case image.YCbCrSubsampleRatio440:
		return image.YCbCrSubsampleRatio422, true
	}
	return 0, false
}

// turn makes an upright image of one that begins at the origin.
func turn(img image.Image, o int) image.Image {
	if o <= 1 || o > 8 {
		return img
	}
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	rect := image.Rect(0, 0, w, h)
	if _, _, swap := flips(o); swap {
		rect = image.Rect(0, 0, h, w)
	}
	switch m := img.(type) {
	case *image.YCbCr:
		if out, ok := turnPlanes(m, rect, o); ok {
			return out
		}
		return turnColors(m, nil, 0, rect, o)
	case *image.NYCbCrA:
		if planes, ok := turnPlanes(&m.YCbCr, rect, o); ok {
			out := &image.NYCbCrA{YCbCr: *planes, A: make([]uint8, w*h), AStride: rect.Dx()}
			turnPlane(out.A, out.AStride, m.A, m.AStride, w, h, o)
			return out
		}
		rgba := turnColors(&m.YCbCr, m.A, m.AStride, rect, o)
		return &image.NRGBA{Pix: rgba.Pix, Stride: rgba.Stride, Rect: rgba.Rect}
	}

	var out image.Image
	switch m := img.(type) {
	case *image.Gray:
		out = image.NewGray(rect)
	case *image.Gray16:
		out = image.NewGray16(rect)
	case *image.Paletted:
		out = image.NewPaletted(rect, m.Palette)
	case *image.RGBA:
		out = image.NewRGBA(rect)
	case *image.NRGBA:
		out = image.NewNRGBA(rect)
	case *image.CMYK:
		out = image.NewCMYK(rect)
	case *image.RGBA64:
		out = image.NewRGBA64(rect)
	case *image.NRGBA64:
		out = image.NewNRGBA64(rect)
	default:
		panic("BUG: imageio: a decoder gave an image of an unknown type")
	}
	src, _ := packedOf(img)
	dst, _ := packedOf(out)
	switch src.size {
	case 1:
		turnPlane(dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	case 2:
		turnPixels[[2]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	case 4:
		turnPixels[[4]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	case 8:
		turnPixels[[8]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	}
	return out
}

func turnPlanes(m *image.YCbCr, rect image.Rectangle, o int) (*image.YCbCr, bool) {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	ratio, ok := turnedRatio(m.SubsampleRatio, w, h, o)
	if !ok {
		return nil, false
	}
	out := image.NewYCbCr(rect, ratio)
	turnPlane(out.Y, out.YStride, m.Y, m.YStride, w, h, o)
	sx, sy := subsampling(m.SubsampleRatio)
	cw, ch := (w+sx-1)/sx, (h+sy-1)/sy
	turnPlane(out.Cb, out.CStride, m.Cb, m.CStride, cw, ch, o)
	turnPlane(out.Cr, out.CStride, m.Cr, m.CStride, cw, ch, o)
	return out, true
}

func turnPlane(dst []uint8, dstStride int, src []uint8, srcStride, w, h, o int) {
	turnPixels[[1]uint8](dst, dstStride, src, srcStride, w, h, o)
}

// tile is the edge of the squares in which directions are exchanged, so that
// the lines of the source that are read stay in the cache.
const tile = 32

// turnPixels turns a stored w x h plane.
func turnPixels[P [1]uint8 | [2]uint8 | [4]uint8 | [8]uint8](dst []uint8, dstStride int, src []uint8, srcStride, w, h, o int) {
	var p P
	size := len(p)
	flipX, flipY, swap := flips(o)
	startX, stepX := 0, size
	if flipX {
		startX, stepX = (w-1)*size, -size
	}
	startY, stepY := 0, srcStride
	if flipY {
		startY, stepY = (h-1)*srcStride, -srcStride
	}
	if !swap {
		for y := range h {
			at := startY + y*stepY + startX
			row := dst[y*dstStride : y*dstStride+w*size]
			if !flipX {
				copy(row, src[at:at+w*size])
				continue
			}
			for i := 0; i < len(row); i += size {
				copy(row[i:i+size], src[at:at+size])
				at += stepX
			}
		}
		return
	}
	// The result has h columns and w rows.
	for y0 := 0; y0 < w; y0 += tile {
		for x0 := 0; x0 < h; x0 += tile {
			for y := y0; y < min(y0+tile, w); y++ {
				at := startX + y*stepX + startY + x0*stepY
				row := dst[y*dstStride+x0*size : y*dstStride+min(x0+tile, h)*size]
				for i := 0; i < len(row); i += size {
					copy(row[i:i+size], src[at:at+size])
					at += stepY
				}
			}
		}
	}
}

// turnColors converts to RGBA, or with alpha to the bytes of NRGBA, on the way,
// so that there is never a second image of packed pixels.
func turnColors(m *image.YCbCr, alpha []uint8, alphaStride int, rect image.Rectangle, o int) *image.RGBA {
	out := image.NewRGBA(rect)
	w, h := m.Rect.Dx(), m.Rect.Dy()
	flipX, flipY, swap := flips(o)
	stepX, stepY := 4, out.Stride
	if swap {
		stepX, stepY = out.Stride, 4
	}
	start := 0
	if flipX {
		start += (w - 1) * stepX
		stepX = -stepX
	}
	if flipY {
		start += (h - 1) * stepY
		stepY = -stepY
	}
	for y := range h {
		at := start + y*stepY
		for x := range w {
			c := m.COffset(x, y)
			p := out.Pix[at : at+4 : at+4]
			p[0], p[1], p[2] = color.YCbCrToRGB(m.Y[y*m.YStride+x], m.Cb[c], m.Cr[c])
			p[3] = 0xff
			if alpha != nil {
				p[3] = alpha[y*alphaStride+x]
			}
			at += stepX
		}
	}
	return out
}
