package imageio

import "image"

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
		turnPixels[[1]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	case 2:
		turnPixels[[2]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	case 4:
		turnPixels[[4]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	case 8:
		turnPixels[[8]uint8](dst.pix, dst.stride, src.pix, src.stride, w, h, o)
	}
	return out
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
