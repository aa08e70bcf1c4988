package imageio

import "image"

// A conversion of planes is how rows of Y', Cb and Cr become opaque RGBA, and how
// the sums of four chroma samples are rounded before.
type conversion struct {
	colours     func(dst, y, cb, cr []uint8)
	left, right int32 // sixteenths added to the left and the right of two samples
	narrowest   int   // chroma with fewer columns is repeated
}

var (
	jpegPlanes = conversion{jfifColours, 8, 7, 3}
	webpPlanes = conversion{webpColours, 8, 8, 1}
)

// planesToRGB converts planes to RGBA bytes without padding, for an image that
// begins at the origin. Chroma that two pixels share in a direction is
// interpolated, 3/4 of the nearer sample and 1/4 of the further one, as libjpeg's
// and libwebp's "fancy upsampling" do; other chroma is repeated.
func planesToRGB(m *image.YCbCr, c conversion) []uint8 {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	sx, sy := subsampling(m.SubsampleRatio)
	cw, ch := (w+sx-1)/sx, (h+sy-1)/sy
	pix := make([]uint8, 4*w*h)
	cb, cr := make([]uint8, cw*sx), make([]uint8, cw*sx)
	up := upsampler{conversion: c, sx: sx, sy: sy, w: cw, h: ch, stride: m.CStride, sums: make([]int32, cw)}
	for y := range h {
		up.row(cb, m.Cb, y)
		up.row(cr, m.Cr, y)
		c.colours(pix[4*w*y:][:4*w], m.Y[y*m.YStride:][:w], cb[:w], cr[:w])
	}
	return pix
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

// upsampler makes full rows of a chroma plane of w x h samples.
type upsampler struct {
	conversion
	sx, sy       int
	w, h, stride int
	sums         []int32
}

// row makes row y of the image.
func (u *upsampler) row(dst, plane []uint8, y int) {
	near := plane[y/u.sy*u.stride:][:u.w]
	fancy := u.sx <= 2 && u.sy <= 2 && (u.w >= u.narrowest || u.sx == 1)
	if !fancy {
		for x := range dst {
			dst[x] = near[x/u.sx]
		}
		return
	}
	if u.sy == 1 {
		if u.sx == 1 {
			copy(dst, near)
			return
		}
		for x, c := range near {
			u.sums[x] = int32(c)
		}
		widen(dst, u.sums, 1, 2, 2)
		return
	}
	// The further row is above the upper and below the lower of two rows.
	far := near
	upper := y%2 == 0
	if fy := y/2 + 1 - 2*((y+1)%2); fy >= 0 && fy < u.h {
		far = plane[fy*u.stride:][:u.w]
	}
	if u.sx == 1 {
		bias := int32(2)
		if upper {
			bias = 1
		}
		for x, c := range near {
			dst[x] = uint8((3*int32(c) + int32(far[x]) + bias) >> 2)
		}
		return
	}
	for x, c := range near {
		u.sums[x] = 3*int32(c) + int32(far[x])
	}
	widen(dst, u.sums, u.left, u.right, 4)
}

// widen makes two samples of each, left with one rounding and right with the
// other, to be shifted by bits.
func widen(dst []uint8, sums []int32, left, right int32, bits uint) {
	last := len(sums) - 1
	for x, c := range sums {
		l, r := c, c
		if x > 0 {
			l = sums[x-1]
		}
		if x < last {
			r = sums[x+1]
		}
		dst[2*x] = uint8((3*c + l + left) >> bits)
		dst[2*x+1] = uint8((3*c + r + right) >> bits)
	}
}

// jfifColours converts by JFIF's equations, with 16 bits of fraction.
func jfifColours(dst, y, cb, cr []uint8) {
	const half = 1 << 15
	cb, cr = cb[:len(y)], cr[:len(y)]
	for x, l := range y {
		p := dst[4*x : 4*x+4 : 4*x+4]
		yy, b, r := int32(l), int32(cb[x])-128, int32(cr[x])-128
		p[0] = clamp(yy + (91881*r+half)>>16)
		p[1] = clamp(yy + (-22554*b-46802*r+half)>>16)
		p[2] = clamp(yy + (116130*b+half)>>16)
		p[3] = 0xff
	}
}

// webpColours converts by ITU-R BT.601, where black is 16, white 235 and chroma
// has 224 levels, rounded as in libwebp: factors of 14 bits, 8 of which go at
// once.
func webpColours(dst, y, cb, cr []uint8) {
	cb, cr = cb[:len(y)], cr[:len(y)]
	for x, l := range y {
		p := dst[4*x : 4*x+4 : 4*x+4]
		yy, b, r := int32(l)*19077>>8, int32(cb[x]), int32(cr[x])
		p[0] = clamp((yy + r*26149>>8 - 14234) >> 6)
		p[1] = clamp((yy - b*6419>>8 - r*13320>>8 + 8708) >> 6)
		p[2] = clamp((yy + b*33050>>8 - 17685) >> 6)
		p[3] = 0xff
	}
}

func clamp(v int32) uint8 { return uint8(max(0, min(255, v))) }
