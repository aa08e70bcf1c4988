package pipeline

import (
	"context"
	"errors"
	"hash/maphash"
	"image"
	"image/draw"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// Frame is an item's decoded picture. Its pixels are shared with other items
// cut from the same source and must not be changed.
type Frame struct {
	// Image holds the samples as decoded: YCbCr stays YCbCr, 16 bits stay 16
	// bits, gray stays gray. Bounds().Min is not (0, 0) in general, because a
	// crop is a view of its source and not a copy.
	Image image.Image
	// ICC is the colour profile of the samples, as the source file carries it;
	// nil means sRGB, or that nothing is known. It must not be changed.
	ICC []byte
}

// Grid is the place of an item's pixel (0, 0) on the 8x8 block lattice of the
// decoded source: block edges lie at columns x with (x + X) % 8 == 0, rows
// likewise. Known is false once the samples were resampled, when no lattice is
// left.
type Grid struct {
	X, Y  int  // 0 to 7, in pixels
	Known bool // false: there is no lattice
}

func (g Grid) shift(x, y int) Grid {
	return Grid{X: (g.X + x) % 8, Y: (g.Y + y) % 8, Known: g.Known}
}

// gridOf is the lattice of an upright frame: a picture that EXIF turned or
// mirrored has its blocks counted from the other edge.
func gridOf(h imageio.Header) Grid {
	g := Grid{Known: true}
	flipX, flipY := false, false
	switch h.Orientation {
	case 2, 3:
		flipX = true
	case 6, 7:
		flipX = true
	}
	switch h.Orientation {
	case 3, 4:
		flipY = true
	case 7, 8:
		flipY = true
	}
	if flipX {
		g.X = (8 - h.Width%8) % 8
	}
	if flipY {
		g.Y = (8 - h.Height%8) % 8
	}
	return g
}

// Part says where an item lies in a scaled frame: what is at (x, y) of the item
// is at (X + x*Scale, Y + y*Scale) of the frame, counted from its upper left
// corner. The frame's sides are rounded up, so that up to a pixel at its borders
// lies outside of the item.
type Part struct{ X, Y, Scale float64 }

// partOf is the part at n/8. The decoder rounds up at the file's right and lower
// border, which are others in a picture that EXIF turned.
func partOf(h imageio.Header, n int) Part {
	p := Part{Scale: float64(n) / 8}
	size := h.Scaled(n)
	flipX, flipY := h.Flipped()
	if flipX {
		p.X = float64(size.X) - float64(h.Width)*p.Scale
	}
	if flipY {
		p.Y = float64(size.Y) - float64(h.Height)*p.Scale
	}
	return p
}

// Pixels says where a derived item's picture comes from: Crop or FromImage.
type Pixels struct {
	rect image.Rectangle
	img  image.Image
}

// Crop is a rectangle of the parent, in pixels from the parent's upper left
// corner (0, 0). It copies nothing.
func Crop(r image.Rectangle) Pixels { return Pixels{rect: r} }

// FromImage is a new picture, which from then on belongs to the engine.
func FromImage(img image.Image) Pixels { return Pixels{img: img} }

// A buffer is one decoded picture, shared by all items that are crops of it.
// The engine counts the items; with the last one the memory and its lease go.
type buffer struct {
	load  func(ctx context.Context) (image.Image, []byte, error) // nil: img is all there is
	bytes int64                                                  // decoded size, from the header: read without the lock, so never changed
	area  int64                                                  // pixels
	refs  atomic.Int32
	redo  *remaking // of a picture that is made again when it is wanted

	mu     sync.Mutex
	img    image.Image
	icc    []byte // colour profile, once it was decoded
	raw    []byte // the file's bytes, kept from hashing until decoding
	fault  error  // a decoding error: the file will not get better
	lease  *memory.Lease
	held   int64   // bytes of the lease, so that nobody has to ask the ledger
	shown  int64   // bytes of img
	room   int64   // bytes of the lease until it is decoded
	parked bool    // the lease was given back for others
	pins   int     // calls that may be looking at it
	spill  *spill  // where the samples are while it is parked; nil: it can be had otherwise
	canvas *canvas // in which the samples lie, or will; nil: in memory
	sum    uint64  // of the samples, when Options.Check is on
}

func (b *buffer) retain() { b.refs.Add(1) }

func (b *buffer) release() {
	n := b.refs.Add(-1)
	if n > 0 {
		return
	}
	if n < 0 {
		panic("BUG: a picture was released more often than it was shared")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.redo != nil && b.img == nil {
		b.redo.drop()
	}
	if b.img != nil && b.load != nil && b.canvas == nil {
		abandoned.add(b.bytes)
	}
	b.raw = nil
	b.show(nil)
	b.hold(0)
	if b.spill != nil {
		b.spill.remove()
		b.spill = nil
	}
	if b.canvas != nil {
		b.canvas.release()
		b.canvas = nil
	}
	if b.lease != nil {
		b.lease.Release()
		b.lease = nil
	}
}

// abandoned counts the bytes of pictures that nobody has any more. The collector
// would let as many of them gather as there is memory in use, unseen by the
// ledger, which takes them for free.
var abandoned garbage

type garbage struct{ bytes atomic.Int64 }

// collectAfter is how much garbage may gather. A collection costs a few
// milliseconds, since pictures hold no pointers; decoding so much costs hundreds.
const collectAfter = 32 << 20

func (g *garbage) add(n int64) {
	if g.bytes.Add(n) >= collectAfter && g.bytes.Swap(0) >= collectAfter {
		go runtime.GC()
	}
}

// profile is the colour profile, nil until the picture was decoded.
func (b *buffer) profile() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.icc
}

// promised is what a picture that nobody has looked at yet is made again with.
func (b *buffer) promised() *remaking {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.img != nil || b.fault != nil {
		return nil
	}
	return b.redo
}

// frame returns the decoded picture, decoding it if nobody has. Others who
// want the same picture wait here for the one who decodes.
func (b *buffer) frame(ctx context.Context, check bool) (image.Image, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.img != nil {
		if b.parked { // it lies in a file, and stayed there
			b.resize(b.room)
			b.parked = false
		}
		return b.img, nil
	}
	if b.fault != nil {
		return nil, b.fault
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b.lease != nil && b.parked {
		// Its room was given to others while it waited. It may not wait again:
		// whoever asks is inside a call.
		b.resize(b.room)
		b.parked = false
	}
	img, icc, err := b.load(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errDryRun) {
			b.fault = err
		}
		return nil, err
	}
	b.icc, b.raw = icc, nil
	b.show(img)
	if b.redo != nil { // what it was made from has gone
		b.redo, b.load = nil, nil
	}
	if b.lease != nil {
		b.resize(b.occupies(img))
	}
	if check {
		b.sum = pixelSum(img)
	}
	return img, nil
}

// occupies is what the picture takes of memory, now that it is there.
func (b *buffer) occupies(img image.Image) int64 {
	if b.canvas != nil {
		return b.canvas.resident
	}
	return imageio.Bytes(img)
}

// inFile returns the canvas that the picture lies in, where, and the colour profile; nil
// when it lies in memory, or otherwise than its canvas's own picture does.
func (b *buffer) inFile() (c *canvas, at image.Point, icc []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.canvas == nil {
		return nil, at, nil
	}
	if b.img == nil { // parked before, and nobody has looked since
		return b.canvas, at, b.icc
	}
	at, ok := b.canvas.place(b.img)
	if !ok {
		return nil, at, nil
	}
	return b.canvas, at, b.icc
}

// resize corrects the lease; it needs the lock, or a buffer that nobody else has.
func (b *buffer) resize(bytes int64) {
	b.hold(bytes)
	b.lease.Resize(bytes)
}

// pictures counts the bytes that all buffers of the process have leased, and
// those that lie in memory. Of pictures in files nothing is in memory once they are
// left, which who measures sees to.
var pictures struct{ held, shown atomic.Int64 }

// hold and show set what the buffer has, and keep count.
func (b *buffer) hold(bytes int64) {
	pictures.held.Add(bytes - b.held)
	b.held = bytes
}

func (b *buffer) show(img image.Image) {
	bytes := int64(0)
	if img != nil && b.canvas == nil {
		bytes = imageio.Bytes(img)
	}
	pictures.shown.Add(bytes - b.shown)
	b.img, b.shown = img, bytes
}

// parkResult answers park.
type parkResult struct {
	freed   int64
	decoded bool // the samples were there: that is work to be done again
	busy    bool // somebody is looking at it or making it
	err     error
}

// park gives back the room of a picture that nobody is looking at: one that can
// be had again, decoded or not yet, or any, when keep writes its samples down.
func (b *buffer) park(keep func(image.Image) (*spill, error)) parkResult {
	if !b.mu.TryLock() { // somebody is decoding or reading: not idle
		return parkResult{busy: true}
	}
	defer b.mu.Unlock()
	switch {
	case b.lease == nil || b.parked:
		return parkResult{}
	case b.pins > 0:
		return parkResult{busy: true}
	case b.canvas != nil && b.img != nil: // it stays where it is, and comes back page by page
		freed := b.held
		b.room, b.parked = freed, true
		b.resize(0)
		return parkResult{freed: freed}
	case b.load != nil:
	case b.img == nil || keep == nil:
		return parkResult{}
	default:
		s, err := keep(b.img)
		if err != nil {
			return parkResult{err: err}
		}
		icc := b.icc
		b.spill = s
		b.load = func(context.Context) (image.Image, []byte, error) {
			img, err := s.read()
			return img, icc, err
		}
		b.room = b.held
	}
	freed, decoded := b.held, b.img != nil
	if decoded {
		abandoned.add(freed)
	}
	b.raw, b.parked = nil, true
	b.show(nil)
	b.resize(0)
	return parkResult{freed: freed, decoded: decoded}
}

// letGo gives the memory of a picture back that only the calling call has, if it
// can be decoded again.
func (b *buffer) letGo() {
	if !b.mu.TryLock() {
		return
	}
	defer b.mu.Unlock()
	if b.lease == nil || b.load == nil || b.parked || b.pins > 1 || b.refs.Load() > 1 {
		return
	}
	if b.canvas != nil && b.img == nil { // parked in its file, which is all there is of it
		return
	}
	if b.canvas != nil {
		b.canvas.release()
		b.canvas = nil
	} else if b.img != nil && !imageio.Recycle(b.img) {
		abandoned.add(b.held)
	}
	b.raw, b.parked = nil, true
	b.show(nil)
	b.resize(0)
}

// intact reports whether the samples are still those that were decoded.
func (b *buffer) intact() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.img == nil || b.sum == 0 || pixelSum(b.img) == b.sum
}

var pixelSeed = maphash.MakeSeed()

func pixelSum(img image.Image) uint64 {
	var h maphash.Hash
	h.SetSeed(pixelSeed)
	switch m := img.(type) {
	case *image.YCbCr:
		h.Write(m.Y)
		h.Write(m.Cb)
		h.Write(m.Cr)
	case *image.RGBA:
		h.Write(m.Pix)
	case *image.NRGBA:
		h.Write(m.Pix)
	case *image.Gray:
		h.Write(m.Pix)
	case *image.Gray16:
		h.Write(m.Pix)
	case *image.RGBA64:
		h.Write(m.Pix)
	case *image.NRGBA64:
		h.Write(m.Pix)
	default:
		c := image.NewRGBA64(img.Bounds())
		draw.Draw(c, c.Rect, img, c.Rect.Min, draw.Src)
		h.Write(c.Pix)
	}
	return h.Sum64() | 1
}

// A picture is a view of a buffer: a rectangle in the buffer's own
// coordinates, counted from its upper left corner.
type picture struct {
	buf  *buffer
	rect image.Rectangle
}

func (p picture) crop(r image.Rectangle) picture {
	return picture{buf: p.buf, rect: r.Add(p.rect.Min)}
}

func (p picture) frame(ctx context.Context, check bool) (*Frame, error) {
	img, err := p.buf.frame(ctx, check)
	if err != nil {
		return nil, err
	}
	if img, err = imageio.Crop(img, p.rect); err != nil {
		return nil, err
	}
	return &Frame{Image: img, ICC: p.buf.profile()}, nil
}
