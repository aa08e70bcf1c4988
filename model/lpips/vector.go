package lpips

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// PooledOutput is the output of converted networks that bounds LPIPS from below: [batch
// values], of each channel of each layer the mean and the standard deviation over the
// picture: 2944 with VGG-16, 2304 with AlexNet. The squared length of a difference of two
// is never more than the distance of the pictures, but for what PooledSlack is for. Of
// photographs, versions and parts of them, it left 15% of the pairs where a distance of 0.2
// is looked for with VGG-16 at 224 pixels; the means alone would leave 91%.
const PooledOutput = "pooled"

// PooledSlack is what rounding can add to the root of a bound from below, or take from
// that of a distance: both are computed in float32 (or float16), maybe in batches of other
// sizes and on other devices. It is not proven but measured: between a network in float16
// and the same in float32, on the CPU, both roots differ by up to 1e-4 (VGG-16 and AlexNet
// with random weights, photographs and flat pictures of 64 x 64, at roots of up to 0.7).
// Sessions on CUDA have TF32 switched off, which would round to 10 bits, so that a GPU adds
// the same numbers in other orders; but nothing was measured on one, nor with weights of 8
// bits.
const PooledSlack = 2e-3

// PooledWithin is how much the squared length of a difference of two vectors of
// PooledOutput may be where the pictures are at most distance apart.
func PooledWithin(distance float64) float64 {
	root := math.Sqrt(distance) + PooledSlack
	return root * root
}

// errNoSize is that of pictures that are to have vectors, which only those of one size can
// be compared by.
var errNoSize = errors.New("preparing a picture for LPIPS: open it with a size, to which all pictures of a set are squashed")

// PreparedVersion is that of what Prepare makes: it is another one where the same picture
// would give other bytes, so that what was stored is not compared with it.
const PreparedVersion = "1"

// Prepare is the picture as the network sees it: Size x Size pixels of 3 bytes, red, green
// and blue, rows from the top, which Vector takes. It may be called by several goroutines,
// and while the network runs. The Distance must have been opened with a Size.
func (d *Distance) Prepare(ctx context.Context, img image.Image) ([]byte, error) {
	if d.o.Size == 0 {
		return nil, errNoSize
	}
	spec := d.spec
	// Samples of 8 bits as resizing rounds them, so that Of and Vector see the same.
	spec.Layout, spec.Element, spec.Range, spec.Mean, spec.Std = model.NHWC, model.Float32, model.ZeroTo255, [3]float64{}, [3]float64{}
	src := img.Bounds().Size()
	t := &model.Tensor{Type: ort.Float32, Shape: spec.Shape(1, src), Data: make([]byte, spec.TensorBytes(src))}
	if err := spec.Fill(ctx, t.Data, img); err != nil {
		return nil, fmt.Errorf("preparing a picture for LPIPS: %w", err)
	}
	prepared := make([]byte, d.PreparedBytes())
	for i, v := range t.Float32s() {
		prepared[i] = uint8(v)
	}
	return prepared, nil
}

// check refuses what Prepare has not made.
func (d *Distance) check(prepared []byte) error {
	switch {
	case d.o.Size == 0:
		return errNoSize
	case int64(len(prepared)) != d.PreparedBytes():
		return fmt.Errorf("measuring LPIPS: a prepared picture has %d bytes, and not %d", d.PreparedBytes(), len(prepared))
	}
	return nil
}

// PreparedBytes are those of one picture of Prepare.
func (d *Distance) PreparedBytes() int64 { return 3 * int64(d.o.Size) * int64(d.o.Size) }

// Vector is what the network makes of a picture of Prepare. SquaredDistance of two vectors
// is the distance of the pictures, and the same number that Of gives.
func (d *Distance) Vector(ctx context.Context, prepared []byte) ([]float32, error) {
	if err := d.check(prepared); err != nil {
		return nil, err
	}
	img := image.NewNRGBA(image.Rect(0, 0, d.o.Size, d.o.Size))
	for from, to := 0, 0; from < len(prepared); from, to = from+3, to+4 {
		copy(img.Pix[to:], prepared[from:from+3])
		img.Pix[to+3] = 255
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.vector(ctx, d.spec, img)
	if err != nil {
		return nil, fmt.Errorf("measuring LPIPS: %w", err)
	}
	return v, nil
}

// VectorBytes are those of one vector of Vector.
func (d *Distance) VectorBytes() int64 { return d.vectorBytes }

// GridBytes are those of what a Set keeps of a vector; 0 for a network that was not
// converted by forgepipe: of that it has none.
func (d *Distance) GridBytes() int64 { return 4 * int64(gridNumbers(d.layers)) }

// vectorBytesOf follows the network; where it cannot be followed, the vector has what that
// of VGG-16 has, the longer one.
func vectorBytesOf(f *model.File, size int) int64 {
	bytes := f.Sizes([]int64{3, int64(size), int64(size)}).Outputs[0]
	if bytes <= 0 {
		return vectorBytes * int64(size) * int64(size)
	}
	return bytes * 4 / int64(f.ElementType().Size()) // vectors are float32 here
}

// vector runs the network for one picture. The caller holds mu.
func (d *Distance) vector(ctx context.Context, spec model.Spec, img image.Image) ([]float32, error) {
	out, err := d.run(ctx, spec, img)
	if err != nil {
		return nil, err
	}
	if out[0].Type == ort.Float32 {
		return out[0].Float32s(), nil // its own: no copy of some megabytes
	}
	return out[0].Numbers(), nil
}

func (d *Distance) run(ctx context.Context, spec model.Spec, img image.Image) ([]*model.Tensor, error) {
	src := img.Bounds().Size()
	shape := spec.Shape(1, src)
	if d.o.Infer != nil {
		in := model.Input{Shape: shape[1:], Fill: func(ctx context.Context, dst []byte) error { return spec.Fill(ctx, dst, img) }}
		r := d.o.Infer(ctx, []model.Input{in})[0]
		return r.Outputs, r.Err
	}
	in := &model.Tensor{Type: d.element, Shape: shape, Data: make([]byte, spec.TensorBytes(src))}
	if err := spec.Fill(ctx, in.Data, img); err != nil {
		return nil, err
	}
	return d.session.Run(ctx, []*model.Tensor{in}, model.SessionRun{Shrink: d.o.Size == 0})
}

// SquaredDistance is the squared length of the difference of two vectors of one length, in
// float64 and always in the same order of terms.
func SquaredDistance(a, b []float32) float64 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("BUG: the distance of vectors of %d and %d numbers", len(a), len(b)))
	}
	var sums [4]float64 // so that additions need not wait for each other
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		d0, d1 := float64(x[0])-float64(y[0]), float64(x[1])-float64(y[1])
		d2, d3 := float64(x[2])-float64(y[2]), float64(x[3])-float64(y[3])
		// The conversions keep a compiler from fusing: the sum is the same everywhere.
		sums[0] += float64(d0 * d0)
		sums[1] += float64(d1 * d1)
		sums[2] += float64(d2 * d2)
		sums[3] += float64(d3 * d3)
	}
	for ; i < len(a); i++ {
		d := float64(a[i]) - float64(b[i])
		sums[0] += float64(d * d)
	}
	return (sums[0] + sums[1]) + (sums[2] + sums[3])
}
