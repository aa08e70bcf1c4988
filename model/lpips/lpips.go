// Package lpips measures how different two pictures look: LPIPS, the perceptual distance
// of Zhang et al. 2018, version 0.1, on the features of VGG-16 or AlexNet. 0 is no
// difference; what is more is a scale of each network's own.
//
// A network makes a vector of each picture, and the squared length of a difference of two
// is their distance: so a picture of a set goes through the network once, whatever the
// number of pairs that it is in. Its output PooledOutput is a much shorter vector, of
// which that is never more than the distance: with it most pairs need not be looked at. A
// network of which linear layers have a weight below 0 is refused, as no vector has such a
// distance; the published ones have none.
package lpips

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"runtime"
	"sync"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/store"
)

const (
	// DefaultMaxPixels is that of Options: a picture of 1920 x 1080 is less.
	DefaultMaxPixels = 1 << 21
	// Least is how many pixels the sides of pictures must have for AlexNet, after
	// resizing; it is asked for whichever network there is.
	Least = 32
	// bytesPerPixel is what a run of VGG-16 takes at its peak, the vector included:
	// measured 1024 at 384 x 384.
	bytesPerPixel = 1100
	// vectorBytes is what the other picture's vector takes for each pixel meanwhile.
	vectorBytes = 488
)

// ErrTooLarge says that pictures have more pixels than Options allow.
var ErrTooLarge = errors.New("too large for LPIPS")

// Options say how pictures are measured. The zero value is ready.
type Options struct {
	// Size squashes both pictures to Size x Size pixels first, such as 224: quick, in
	// little memory, and another measure than that of whole pictures. 0: pictures keep
	// their size, and the smaller of two comes to that of the larger one (bicubic).
	Size int
	// MaxPixels is how many pixels a picture may have where it keeps its size, as
	// features take much memory: with VGG-16 about 2 kB for each. 0:
	// DefaultMaxPixels.
	MaxPixels int
	// Infer runs the network, on a GPU: that of a model.Runner whose devices load what
	// File gives for the same Size and files. The Runner stays the caller's, who closes it
	// after the Distance, and leases, what happens when memory runs out and the way to the
	// CPU are its own: where there is no room, the errors of Of and Vector are a
	// *model.NoRoomError. Nil: the network runs on the CPU, in a session of the Distance.
	Infer func(ctx context.Context, inputs []model.Input) []model.Result
	// Threads compute, on the CPU; 0 is one for each core. It is not for Infer.
	Threads int
	// Library is another ONNX Runtime than the one that forgepipe brings: a path. It is not
	// for Infer either.
	Library string
	// Log gets the runtime's warnings; nil is silence.
	Log *slog.Logger
}

// Distance measures pairs of pictures. Its methods may be called by several goroutines:
// one pair is measured at a time.
type Distance struct {
	o    Options
	spec model.Spec // with Size, without a size otherwise

	// Of the vector of a picture of Size x Size pixels: how many bytes it has, and its
	// layers, where the network is known.
	vectorBytes int64
	layers      []layer

	mu      sync.Mutex
	session model.Session // nil with Infer
	element model.ElementType
}

// Find turns names of the store of models, and paths, into the files that Open wants.
// With lpips-vgg alone comes vgg16, and with lpips-alex alexnet. An error that is
// store.ErrMissing says what brings a model that is known.
func Find(namesOrPaths ...string) (files []string, err error) {
	for _, name := range namesOrPaths {
		found, err := store.Find(name)
		switch {
		case len(namesOrPaths) > 1 && found.Path != "": // the other file is said
			files = append(files, found.Path)
		case err != nil:
			return nil, err
		default:
			files = append(append(files, found.Path), found.Beside...)
		}
	}
	return files, nil
}

// File looks at the network that Open loads, with how its pictures are prepared; size is
// that of Options. It is what a model.Runner runs that is to measure LPIPS: see Infer.
func File(size int, files ...string) (*model.File, error) {
	if len(files) == 0 || len(files) > 2 {
		return nil, fmt.Errorf("LPIPS wants a file, or two: those of the network and of its linear layers; there are %d", len(files))
	}
	if size != 0 && size < Least {
		return nil, fmt.Errorf("LPIPS wants pictures of at least %d pixels a side, and the size is %d", Least, size)
	}
	spec, _ := model.Preset("lpips")
	spec.Width, spec.Height = size, size
	if size == 0 {
		spec.Resize = model.NoResize
	}
	spec.Layout = model.NCHW
	f, err := model.Open(files[0], model.FileOptions{Spec: spec, Beside: files[1:]})
	if err != nil {
		return nil, err
	}
	if made := f.Header.Metadata["architecture"]; made != "" && made != "LPIPS" {
		return nil, fmt.Errorf("%s is the network %s, and LPIPS is wanted", files[0], made)
	}
	return f, nil
}

// Open loads a network: a checkpoint or an ONNX file that has all of it, or the
// checkpoints of the backbone and of the linear layers, in any order. An ONNX file must
// give for a picture the vector of which the squared length of a difference is the
// distance, as forgepipe models convert makes it. Close unloads it.
func Open(ctx context.Context, o Options, files ...string) (*Distance, error) {
	f, err := File(o.Size, files...)
	if err != nil {
		return nil, err
	}
	o.MaxPixels = cmp.Or(o.MaxPixels, DefaultMaxPixels)
	d := &Distance{o: o, spec: f.Spec, element: f.ElementType()}
	if o.Infer == nil {
		d.session, err = f.Load(ctx, model.SessionOptions{
			Threads: cmp.Or(o.Threads, runtime.GOMAXPROCS(0)), Library: o.Library, Log: o.Log,
		})
		if err != nil {
			return nil, fmt.Errorf("loading LPIPS: %w", err)
		}
	}
	if o.Size > 0 {
		d.vectorBytes = vectorBytesOf(f, o.Size)
		if all := layersOf(f.Header.Metadata["details"], o.Size); 4*int64(numbersOf(all)) == d.vectorBytes {
			d.layers = all
		}
	}
	return d, nil
}

// Close unloads the network, but for one that Infer runs.
func (d *Distance) Close() error {
	if d.session == nil {
		return nil
	}
	return d.session.Close()
}

// prepared is how two pictures of these sizes come to one.
func (d *Distance) prepared(a, b image.Point) (spec model.Spec, size image.Point) {
	spec, size = d.spec, a
	switch {
	case d.o.Size > 0:
		return spec, image.Pt(d.o.Size, d.o.Size)
	case a != b:
		if b.X*b.Y > a.X*a.Y {
			size = b
		}
		spec.Resize, spec.Filter, spec.Width, spec.Height = model.Squash, "bicubic", size.X, size.Y
	}
	return spec, size
}

// Bytes is about what Of takes for pictures of these sizes, beside these and the network.
func (d *Distance) Bytes(a, b image.Point) int64 {
	spec, size := d.prepared(a, b)
	pixels := int64(size.X) * int64(size.Y)
	return pixels*(bytesPerPixel+vectorBytes) + max(spec.Bytes(a), spec.Bytes(b)) + spec.TensorBytes(size)
}

// Of is the distance of two pictures, 0 or more; alpha is left out. An error that is
// ErrTooLarge tells the limit.
func (d *Distance) Of(ctx context.Context, a, b image.Image) (float64, error) {
	spec, size := d.prepared(a.Bounds().Size(), b.Bounds().Size())
	switch {
	case size.X < Least || size.Y < Least:
		return 0, fmt.Errorf("measuring LPIPS: pictures of %d x %d pixels are too small: it wants %d a side; set a size to enlarge them", size.X, size.Y, Least)
	case d.o.Size == 0 && size.X*size.Y > d.o.MaxPixels:
		return 0, fmt.Errorf("measuring LPIPS: %w: %d x %d pixels are more than %d; set a size to which pictures are made smaller, such as 512", ErrTooLarge, size.X, size.Y, d.o.MaxPixels)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var vectors [2][]float32
	for i, img := range []image.Image{a, b} {
		// One after the other: both at once would take twice the memory.
		v, err := d.vector(ctx, spec, img)
		if err != nil {
			return 0, fmt.Errorf("measuring LPIPS: %w", err)
		}
		vectors[i] = v
	}
	if len(vectors[0]) != len(vectors[1]) {
		return 0, errors.New("measuring LPIPS: the network gives two pictures of one size vectors of different lengths")
	}
	return SquaredDistance(vectors[0], vectors[1]), nil
}

// Name is that of the measure, for headings: "LPIPS", with the size that pictures were
// squashed to.
func (d *Distance) Name() string {
	if d.o.Size > 0 {
		return fmt.Sprintf("LPIPS at %d px", d.o.Size)
	}
	return "LPIPS"
}
