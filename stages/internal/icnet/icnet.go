// Package icnet gives IC9600 (ICNet, Feng et al. 2022) pictures in their own size, as its
// authors' tool for native sizes does: with a mirrored margin on all sides and, at the
// right and at the bottom, with what is missing to sides that the network takes.
package icnet

import (
	"context"
	"image"
	"math"

	"github.com/forgepipe/forgepipe/model"
)

// Margin is how wide the mirrored margin is, px.
const Margin = 32

// sides is what sides are made multiples of, px.
const sides = 64

// Spec is what a network is opened with. Unlike in the preset for scores, no mean is taken
// off.
var Spec = model.Spec{Layout: model.NCHW, Channels: model.RGB, Resize: model.NoResize, Multiple: sides}

// Scaled is the size in which a picture goes into the network: its own, or that of one
// with so many pixels.
func Scaled(src image.Point, pixels int) image.Point {
	area := float64(src.X) * float64(src.Y)
	if area <= float64(pixels) {
		return src
	}
	by := math.Sqrt(float64(pixels) / area)
	return image.Pt(max(int(float64(src.X)*by), 1), max(int(float64(src.Y)*by), 1))
}

// WithMargin is a size with the margin on all sides, before sides are made multiples.
func WithMargin(size image.Point) image.Point { return size.Add(image.Pt(2*Margin, 2*Margin)) }

// own is how the picture itself is prepared, without its margin.
func own(spec model.Spec, src, scaled image.Point) model.Spec {
	spec.Multiple, spec.Resize = 1, model.NoResize
	if scaled != src {
		spec.Resize, spec.Filter, spec.Width, spec.Height = model.Squash, "bilinear", scaled.X, scaled.Y
	}
	return spec
}

// Fill writes a picture with its margin into dst, the tensor of the network that was
// opened with Spec. The samples of the margin are those beyond the picture's border,
// which itself is not repeated.
func Fill(ctx context.Context, spec model.Spec, dst []byte, img image.Image, scaled image.Point) error {
	picture := img.Bounds().Size()
	plain := own(spec, picture, scaled)
	src := make([]byte, plain.TensorBytes(picture))
	if err := plain.Fill(ctx, src, img); err != nil {
		return err
	}
	size := spec.OutputSize(WithMargin(scaled))
	element := len(src) / (plain.Depth() * scaled.X * scaled.Y)
	columns := make([]int, size.X)
	for x := range columns {
		columns[x] = mirrored(x-Margin, scaled.X) * element
	}
	from, to := scaled.X*element, size.X*element
	inside := min(Margin+scaled.X, size.X)
	for c := range plain.Depth() {
		for y := range size.Y {
			row := src[(c*scaled.Y+mirrored(y-Margin, scaled.Y))*from:][:from]
			out := dst[(c*size.Y+y)*to:][:to]
			copy(out[Margin*element:], row)
			for x, at := range columns {
				if x < Margin || x >= inside {
					copy(out[x*element:][:element], row[at:])
				}
			}
		}
	}
	return nil
}

// Bytes is the tensor of a picture of that size, and what Fill takes beside it.
func Bytes(spec model.Spec, src, scaled image.Point) int64 {
	plain := own(spec, src, scaled)
	return spec.TensorBytes(WithMargin(scaled)) + plain.TensorBytes(src) + plain.Bytes(src)
}

// mirrored is which of n samples is shown at i, which may lie beyond either end: the
// outermost are not repeated.
func mirrored(i, n int) int {
	if n == 1 {
		return 0
	}
	period := 2 * (n - 1)
	i = (i%period + period) % period
	return min(i, period-i)
}
