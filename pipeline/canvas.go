package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/memory"
)

// A picture that a stage makes may be larger than memory: a photograph of 100
// megapixels, four times as wide and as high, has 6 GB of samples. Such a picture lies
// in a file of the scratch folder, and what stages see is that file, mapped into memory.
// The system brings in the pages that are looked at, and the tender puts them out again,
// since they count as the process's memory as long as they are in. They stay in the page
// cache, which is everybody's, while there is room.

const (
	// canvasShare is the part of the host's limit, as its inverse, from which on a picture
	// lies in a file. Seven more may be there at once, so that with what is in memory calls
	// and queues still have room.
	canvasShare = 8
	// residentShare is that which counts as used by one of them, between the two bounds.
	residentShare = 32
	leastResident = 1 << 20
	mostResident  = 16 << 20
	// tendTick is how often is looked at how much of them is in memory. In that time a
	// core goes over some MiB.
	tendTick = 5 * time.Millisecond
	// diskTick is how often a call that has no room on the disk tries again.
	diskTick = 50 * time.Millisecond
	// mostGraves is how many pictures that have gone keep their addresses.
	mostGraves = 64
)

// residentBytes is what a picture of so many bytes occupies of memory where a run may
// use limit bytes: all, or, of one that lies in a file, what is in memory at a time. It
// does not depend on what is free now, so that plans and calls know it before.
func residentBytes(bytes, limit int64) int64 {
	if !fsys.CanMap || limit <= 0 || bytes <= limit/canvasShare {
		return bytes
	}
	return min(max(limit/residentShare, leastResident), mostResident)
}

func (r *run) residentBytes(bytes int64) int64 { return residentBytes(bytes, r.plan.HostLimit) }

// inFile tells whether a picture of so many bytes lies in a file.
func (r *run) inFile(bytes int64) bool { return r.residentBytes(bytes) < bytes }

// ImageBytes is what a picture of that size and so many bytes per pixel occupies of
// memory when Item.NewImage makes it: its samples, or a few MiB where they lie in a
// file. A stage's Cost.Output is made of it.
func (e Env) ImageBytes(size image.Point, pixel int64) int64 {
	bytes := int64(size.X) * int64(size.Y) * pixel
	if e.door == nil {
		return bytes
	}
	return residentBytes(bytes, e.door.hostLimit.Load())
}

// NewImage makes a picture of that size in pixels, to be drawn and then given to
// SetImage, SetImages, SetPair or FromImage, whole or in part. The model says of which
// type it is: color.GrayModel is *image.Gray, Gray16Model *image.Gray16, and so with
// RGBAModel, NRGBAModel, RGBA64Model and NRGBA64Model. All samples are 0.
//
// One that is larger than an eighth of memory.host.limit lies in a file of the run's
// scratch folder instead of in memory. It is used in the same way, best from the top to
// the bottom: what lies close together is in memory together. It is the call's until an
// item has it: neither it nor a part of it may be looked at when the call has ended, as
// with frames. Where the disk has no room beside other such pictures, NewImage waits
// until they have gone; where it has none at all, the run ends, whatever the stage does
// with the error.
func (it *Item) NewImage(ctx context.Context, model color.Model, size image.Point) (draw.Image, error) {
	c := it.call.Load()
	pixel := pixelBytes(model)
	if c == nil || pixel == 0 {
		return nil, fmt.Errorf("BUG: NewImage outside of a call, or of the unknown model %v", model)
	}
	r := it.fam.run
	if limit := r.pipe.Limits.MaxPixels; size.X < 1 || size.Y < 1 || int64(size.X) > limit/int64(size.Y) {
		return nil, fmt.Errorf("a picture of %d x %d pixels cannot be made: limits.pixels allows %d", size.X, size.Y, limit)
	}
	bytes := pixel * int64(size.X) * int64(size.Y)
	if !r.inFile(bytes) {
		return imageOver(model, size, make([]uint8, bytes)), nil
	}
	if r.dry != nil {
		return nil, errDryRun
	}
	return c.newCanvas(ctx, r, model, size)
}

// pixelBytes is how many a pixel has; 0 where the model is of no picture that NewImage
// makes.
func pixelBytes(model color.Model) int64 {
	switch model {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.RGBAModel, color.NRGBAModel:
		return 4
	case color.RGBA64Model, color.NRGBA64Model:
		return 8
	}
	return 0
}

// imageOver is the picture that has these samples.
func imageOver(model color.Model, size image.Point, pix []uint8) draw.Image {
	rect := image.Rectangle{Max: size}
	stride := size.X * int(pixelBytes(model))
	switch model {
	case color.GrayModel:
		return &image.Gray{Pix: pix, Stride: stride, Rect: rect}
	case color.Gray16Model:
		return &image.Gray16{Pix: pix, Stride: stride, Rect: rect}
	case color.RGBAModel:
		return &image.RGBA{Pix: pix, Stride: stride, Rect: rect}
	case color.NRGBAModel:
		return &image.NRGBA{Pix: pix, Stride: stride, Rect: rect}
	case color.RGBA64Model:
		return &image.RGBA64{Pix: pix, Stride: stride, Rect: rect}
	}
	return &image.NRGBA64{Pix: pix, Stride: stride, Rect: rect}
}

// samplesOf are those of a picture of a type that NewImage makes, with the distance of
// its rows; nil for others.
func samplesOf(img image.Image) (pix []uint8, stride int) {
	switch m := img.(type) {
	case *image.Gray:
		return m.Pix, m.Stride
	case *image.Gray16:
		return m.Pix, m.Stride
	case *image.RGBA:
		return m.Pix, m.Stride
	case *image.NRGBA:
		return m.Pix, m.Stride
	case *image.RGBA64:
		return m.Pix, m.Stride
	case *image.NRGBA64:
		return m.Pix, m.Stride
	}
	return nil, 0
}

// canvases are the pictures of a run that lie in files.
type canvases struct {
	count atomic.Int64 // of those that are there

	mu     sync.Mutex
	live   []*canvas
	names  int64 // of files, so far
	mapped int
	stop   chan struct{} // of the tender, while one is mapped
	tender sync.WaitGroup
}

// A canvas is one of them. The lock of all guards what changes.
type canvas struct {
	all      *canvases
	dir      fsys.Root
	name     string // of the file
	model    color.Model
	size     image.Point
	bytes    int64
	resident int64 // of them, that count as in memory

	users   int // calls and pictures: it stays mapped
	kept    int // parked items: its file stays
	mapping *fsys.Mapping
	img     draw.Image // over the mapping
}

// newCanvas makes a picture in a file, which is the call's.
func (c *call) newCanvas(ctx context.Context, r *run, model color.Model, size image.Point) (draw.Image, error) {
	bytes := pixelBytes(model) * int64(size.X) * int64(size.Y)
	v := &canvas{all: &r.canvases, model: model, size: size, bytes: bytes, resident: r.residentBytes(bytes)}
	var err error
	if v.dir, err = r.scratch(); err == nil {
		err = c.allocate(ctx, r, v)
	}
	if err != nil {
		if fsys.IsFatal(err) {
			r.noDisk.CompareAndSwap(nil, &err)
		}
		return nil, err
	}
	img, err := v.open()
	if err != nil || !c.own(v) {
		v.release()
		return nil, errors.Join(err, ctx.Err())
	}
	return img, nil
}

// allocate makes the file. While others have the disk it waits, and leaves room for
// what may be written of them; when nothing moves any more, it takes what there is.
func (c *call) allocate(ctx context.Context, r *run, v *canvas) error {
	moved := time.Now()
	for {
		others, all := v.all.others(c)
		free, err := v.dir.Free()
		still := time.Since(moved)
		if !others || err != nil || free >= all+2*v.bytes || still >= stuckAfter {
			err := v.all.add(v)
			if others, _ = v.all.others(c); !fsys.IsFull(err) || !others || still >= refuseAfter {
				return v.explain(err)
			}
		}
		r.rest(func() {
			select {
			case <-time.After(diskTick):
			case <-ctx.Done():
			}
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.working.Load() > 1 || r.paused.Load() > 0 || r.standsStill() { // beside this one
			moved = time.Now()
		}
	}
}

// add makes the file of a canvas, which then has a user. It is listed first, so that
// others that get no room know why.
func (s *canvases) add(v *canvas) error {
	s.mu.Lock()
	s.names++
	v.name, v.users = fmt.Sprintf("picture-%d.pixels", s.names), 1
	s.live = append(s.live, v)
	s.count.Add(1)
	s.mu.Unlock()
	err := v.dir.Allocate(v.name, v.bytes)
	if err != nil {
		v.release()
	}
	return err
}

// explain says what to do where the disk has no room.
func (v *canvas) explain(err error) error {
	var full *fsys.NoRoomError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &full):
		return fmt.Errorf("making a picture of %s in %s: %s are missing on the disk: make room and run again; it goes on where it stopped: %w",
			memory.FormatBytes(v.bytes), v.dir.Name(), memory.FormatBytes(max(full.Need-full.Free, 1)), full.Err)
	}
	return fmt.Errorf("making a picture of %s in %s: %w", memory.FormatBytes(v.bytes), v.dir.Name(), err)
}

// others reports whether somebody else than the call has one that will go, and how many
// bytes all have.
func (s *canvases) others(c *call) (some bool, bytes int64) {
	var own []*canvas
	for ; c != nil; c = c.inside {
		c.mu.Lock()
		own = append(own, c.canvases...)
		c.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		bytes += v.bytes
		parked := v.users == 0 && v.kept > 0
		some = some || !parked && !slices.Contains(own, v)
	}
	return some, bytes
}

// own makes the call a user of the canvas until it ends; false when it has ended.
func (c *call) own(v *canvas) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.canvases = append(c.canvases, v)
	return true
}

// end says that the call is over, and letGo lets go of what it made so far: what no item
// has got goes.
func (c *call) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.letGo()
}

func (c *call) letGo() {
	c.mu.Lock()
	all := c.canvases
	c.canvases = nil
	c.mu.Unlock()
	for _, v := range all {
		v.release()
	}
}

// open maps the file, if it is not, and returns the picture.
func (v *canvas) open() (draw.Image, error) {
	s := v.all
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.img != nil {
		return v.img, nil
	}
	m, err := v.dir.Map(v.name, v.bytes)
	if err != nil {
		return nil, fmt.Errorf("mapping a picture: %w", err)
	}
	v.mapping, v.img = m, imageOver(v.model, v.size, m.Bytes())
	mappings.add(m)
	if s.mapped++; s.mapped == 1 {
		stop := make(chan struct{})
		s.stop = stop
		s.tender.Go(func() { s.tend(stop, v.resident/2) })
	}
	return v.img, nil
}

// retain and release count the users, keep and unkeep the parked items.
func (v *canvas) retain()  { v.change(1, 0) }
func (v *canvas) release() { v.change(-1, 0) }
func (v *canvas) keep()    { v.change(0, 1) }
func (v *canvas) unkeep()  { v.change(0, -1) }

func (v *canvas) change(users, kept int) {
	s := v.all
	s.mu.Lock()
	v.users += users
	v.kept += kept
	if v.users < 0 || v.kept < 0 {
		s.mu.Unlock()
		panic("BUG: a picture in a file was released more often than it was shared")
	}
	if v.users == 0 {
		s.unmap(v)
	}
	gone := v.users == 0 && v.kept == 0
	s.mu.Unlock()
	if gone {
		s.remove(v)
	}
}

// unmap needs the lock.
func (s *canvases) unmap(v *canvas) {
	if v.mapping == nil {
		return
	}
	mappings.remove(v.mapping)
	bury(v.mapping)
	v.mapping, v.img = nil, nil
	if s.mapped--; s.mapped == 0 {
		close(s.stop)
		s.stop = nil
	}
}

// remove removes the file, without the lock: that of a large one takes a while, in which
// the others are to be tended. The canvas is listed until there is room on the disk.
func (s *canvases) remove(v *canvas) {
	_ = v.dir.Remove(v.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.live, v); i >= 0 {
		s.live = slices.Delete(s.live, i, i+1)
		s.count.Add(-1)
	}
}

// close lets go of all: a run that was stopped does not release what was on its way.
func (s *canvases) close() {
	s.mu.Lock()
	left := slices.Clone(s.live)
	for _, v := range left {
		s.unmap(v)
	}
	s.mu.Unlock()
	for _, v := range left {
		s.remove(v)
	}
	s.tender.Wait()
}

// share returns the canvas that a picture lies in, as one user more; nil when it lies
// in memory.
func (s *canvases) share(img image.Image) *canvas {
	if s.count.Load() == 0 {
		return nil
	}
	pix, _ := samplesOf(img)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if _, ok := v.offset(pix); ok {
			v.users++
			return v
		}
	}
	return nil
}

// offset is where samples begin in those of the canvas. It needs the lock, or a user.
func (v *canvas) offset(pix []uint8) (bytes int64, ok bool) {
	if v.mapping == nil || len(pix) == 0 {
		return 0, false
	}
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(v.mapping.Bytes())))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(pix)))
	return int64(at) - int64(begin), at >= begin && at < begin+uintptr(v.bytes)
}

// place is where a picture begins in the canvas that it is a part of; ok when it is one
// that the canvas's own picture has as well.
func (v *canvas) place(img image.Image) (at image.Point, ok bool) {
	pix, stride := samplesOf(img)
	offset, ok := v.offset(pix)
	pixel := pixelBytes(v.model)
	row := int64(v.size.X) * pixel
	if !ok || img.ColorModel() != v.model || int64(stride) != row {
		return image.Point{}, false
	}
	at = image.Pt(int(offset%row/pixel), int(offset/row))
	return at, img.Bounds().Sub(img.Bounds().Min).Add(at).In(image.Rectangle{Max: v.size})
}
