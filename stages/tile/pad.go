package tile

import (
	"fmt"
	"image"
	"image/color"
)

// replicate returns the rectangle r of img, in img's coordinates, as a picture
// of its own whose pixels beyond img's border are those at the border. It keeps
// the type of the pixels. r begins inside of img and reaches beyond its right or
// lower border.
//
// The new picture has r as its bounds, so that subsampled chroma lies as in the
// source also where r begins at an odd pixel.
func replicate(img image.Image, r image.Rectangle) (image.Image, error) {
	in := r.Intersect(img.Bounds())
	if in.Empty() || in.Min != r.Min {
		return nil, fmt.Errorf("BUG: the tile %v does not begin inside of the picture %v", r, img.Bounds())
	}
	switch m := img.(type) {
	case *image.YCbCr:
		out := image.NewYCbCr(r, m.SubsampleRatio)
		replicateYCbCr(out, m, in)
		return out, nil
	case *image.NYCbCrA:
		out := image.NewNYCbCrA(r, m.SubsampleRatio)
		replicateYCbCr(&out.YCbCr, &m.YCbCr, in)
		plane(out.A, out.AStride, r.Size(), m.A[m.AOffset(in.Min.X, in.Min.Y):], m.AStride, in.Size(), 1)
		return out, nil
	case *image.Gray:
		out := image.NewGray(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 1)
		return out, nil
	case *image.Gray16:
		out := image.NewGray16(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 2)
		return out, nil
	case *image.Paletted:
		out := image.NewPaletted(r, m.Palette)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 1)
		return out, nil
	case *image.RGBA:
		out := image.NewRGBA(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 4)
		return out, nil
	case *image.NRGBA:
		out := image.NewNRGBA(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 4)
		return out, nil
	case *image.CMYK:
		out := image.NewCMYK(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 4)
		return out, nil
	case *image.RGBA64:
		out := image.NewRGBA64(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 8)
		return out, nil
	case *image.NRGBA64:
		out := image.NewNRGBA64(r)
		plane(out.Pix, out.Stride, r.Size(), m.Pix[m.PixOffset(in.Min.X, in.Min.Y):], m.Stride, in.Size(), 8)
		return out, nil
	}
	out := image.NewNRGBA64(r)
	model := color.NRGBA64Model
	for y := in.Min.Y; y < in.Max.Y; y++ {
		for x := in.Min.X; x < in.Max.X; x++ {
			out.SetNRGBA64(x, y, model.Convert(img.At(x, y)).(color.NRGBA64))
		}
	}
	extend(out.Pix, out.Stride, r.Size(), in.Size(), 8)
	return out, nil
}

// replicateYCbCr fills the planes of out from the part in of m.
func replicateYCbCr(out, m *image.YCbCr, in image.Rectangle) {
	plane(out.Y, out.YStride, out.Rect.Size(), m.Y[m.YOffset(in.Min.X, in.Min.Y):], m.YStride, in.Size(), 1)
	dst := chromaSize(out.SubsampleRatio, out.Rect)
	src := chromaSize(m.SubsampleRatio, in)
	at := m.COffset(in.Min.X, in.Min.Y)
	plane(out.Cb, out.CStride, dst, m.Cb[at:], m.CStride, src, 1)
	plane(out.Cr, out.CStride, dst, m.Cr[at:], m.CStride, src, 1)
}

// chromaSize is how many chroma samples cover r.
func chromaSize(ratio image.YCbCrSubsampleRatio, r image.Rectangle) image.Point {
	sx, sy := 1, 1
	switch ratio {
	case image.YCbCrSubsampleRatio422:
		sx = 2
	case image.YCbCrSubsampleRatio420:
		sx, sy = 2, 2
	case image.YCbCrSubsampleRatio440:
		sy = 2
	case image.YCbCrSubsampleRatio411:
		sx = 4
	case image.YCbCrSubsampleRatio410:
		sx, sy = 4, 2
	}
	return image.Pt(ceil(r.Max.X, sx)-r.Min.X/sx, ceil(r.Max.Y, sy)-r.Min.Y/sy)
}

// plane copies src, of srcSize samples of n bytes, into the upper left corner of
// dst and fills dst up with the samples at the border.
func plane(dst []uint8, dstStride int, dstSize image.Point, src []uint8, srcStride int, srcSize image.Point, n int) {
	for y := range srcSize.Y {
		copy(dst[y*dstStride:][:srcSize.X*n], src[y*srcStride:])
	}
	extend(dst, dstStride, dstSize, srcSize, n)
}

// extend repeats the last column and the last row of the part of dst that is
// filled.
func extend(dst []uint8, stride int, size, filled image.Point, n int) {
	for y := range filled.Y {
		row := dst[y*stride:][:size.X*n]
		for x := filled.X * n; x < len(row); x++ {
			row[x] = row[x-n]
		}
	}
	last := dst[(filled.Y-1)*stride:][:size.X*n]
	for y := filled.Y; y < size.Y; y++ {
		copy(dst[y*stride:][:size.X*n], last)
	}
}
