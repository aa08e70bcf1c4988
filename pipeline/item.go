package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// Item is one image on its way: identity, pixels, attributes, vectors and
// lineage. A stage may read it and call its methods during the Process or
// Flush call that it was given to, from one goroutine at a time, and must not
// keep it afterwards (see Hold).
//
// A call of Process is an attempt: what SetAttr, SetVector, SetImage, Derive,
// Reject and Fail say is taken over when Process returns nil, and forgotten
// when it returns an error or panics.
type Item struct {
	id      string
	fam     *family
	origin  origin
	pic     picture
	grid    Grid
	pair    *pairing
	attrs   []Attribute
	vectors []Vector
	outputs []string  // absolute paths of the files written from it
	taken   []Sidecar // of other items (AddSidecar)
	weight  int64     // bytes it counts for in queues
	maybe   bool      // in a dry run: what happens from here on is not known

	call atomic.Pointer[call] // the attempt it is in
	next change               // what this attempt has said so far
}

// pairing is the low-quality companion of an item.
type pairing struct {
	pic   picture
	scale int
}

// change is what an attempt wants to do to an item.
type change struct {
	attrs    []Attribute
	vectors  []Vector
	outputs  []string
	taken    []Sidecar
	crop     *image.Rectangle // of the parent, for a Derive with Crop
	hq, lq   *made
	scale    int // of a companion that is new
	rejected bool
	reason   string
	values   []Attribute
	err      error
	later    error
	stack    []byte
	derived  []*Item
	held     bool
	returned bool
	known    bool  // replayed from the cache
	redo     *redo // makes the pictures of a replayed result
	parent   *Item // set on derived items
}

// made is a picture that a stage made. img is nil when the result was replayed
// from the cache: then it is made again when somebody wants to see it.
type made struct {
	img   image.Image
	size  image.Point
	bytes int64
}

func newMade(img image.Image) *made {
	return &made{img: img, size: img.Bounds().Size(), bytes: imageio.Bytes(img)}
}

func (c *change) terminal() bool { return c.rejected || c.err != nil || c.later != nil || c.held }

// ID is the item's stable name: the source's path relative to the source's
// root, then one "@key" for each derivation ("a/b.jpg@tile=512,1024,0").
func (it *Item) ID() string { return it.id }

// Lineage is the part of the ID after the source: the derivation keys, joined
// by '@'. It is empty for the source's own item.
func (it *Item) Lineage() string {
	_, l := splitID(it.id)
	return l
}

// Source describes the file the item comes from.
func (it *Item) Source() SourceInfo {
	f := it.fam
	return SourceInfo{
		Name: f.name, Path: f.path, Size: f.size, Format: string(f.header.Format),
		Width: f.header.Width, Height: f.header.Height,
		Turned:   f.header.Orientation > 1,
		Sidecars: it.sidecars(), KeepExtension: f.keepExt, SHA256: f.hash,
	}
}

// Size is the item's width and height in pixels, upright.
func (it *Item) Size() image.Point {
	if it.next.hq != nil {
		return it.next.hq.size
	}
	return it.pic.rect.Size()
}

// PixelBytes is how many bytes a pixel of the item's picture occupies once it is
// decoded, from 1 to 8. Those of a palette count as the 4 that they become when
// somebody changes them. It is for estimates: see Coster.
func (it *Item) PixelBytes() int64 {
	var bytes, area int64
	switch b := it.pic.buf; {
	case it.next.hq != nil:
		bytes, area = it.next.hq.bytes, int64(it.next.hq.size.X)*int64(it.next.hq.size.Y)
	case b == it.fam.buf && it.fam.header.Palette:
		return 4
	case b != nil:
		bytes, area = b.bytes, b.area
	}
	if area <= 0 {
		return 8
	}
	return min(max(1, (bytes+area-1)/area), 8)
}

// Grid tells where the item lies on the source's 8x8 block lattice.
func (it *Item) Grid() Grid {
	if it.next.hq != nil && it.next.hq.size != it.pic.rect.Size() {
		return Grid{}
	}
	return it.grid
}

// Unchanged reports whether the item still is the source file's picture, whole
// and with the samples it was decoded with, so that copying the file keeps it.
func (it *Item) Unchanged() bool {
	return it.next.hq == nil && it.fam.path != "" && it.pic.buf == it.fam.buf && it.Lineage() == ""
}

// Frame decodes the picture, once for all items that share it, and returns the
// item's part of it. The pixels are shared: a stage that wants to change them
// makes a copy and calls SetImage. Errors are the item's: pass them to Fail.
func (it *Item) Frame(ctx context.Context) (*Frame, error) {
	if it.next.hq != nil {
		from := it
		if it.pic.buf == nil {
			from = it.next.parent
		}
		return &Frame{Image: it.next.hq.img, ICC: from.pic.buf.profile()}, nil
	}
	if c := it.call.Load(); c != nil && it.fam.inFile() {
		ctx = context.WithValue(ctx, callKey{}, c)
	}
	return it.pic.frame(ctx, it.fam.check())
}

// Done says that the stage has no use for the item's picture any more, neither in
// this call nor for what it kept of it: frames of it must not be looked at. Where no
// later stage looks at pictures either, and it can be decoded from its file again
// should somebody want it after all, its memory serves the next picture now and not
// when the item has left the chain: a stage that decodes a whole batch before it
// computes then holds one picture and not all of them.
func (it *Item) Done() {
	if c := it.call.Load(); c != nil && c.last && it.next.hq == nil && it.pic.buf != nil {
		it.pic.buf.letGo()
	}
}

// ScaledFrame is Frame for a stage that is going to make the picture smaller:
// an unchanged JPEG is decoded at the smallest of the scales n/8 at which both
// sides are still at least those of least, which takes a fraction of the time
// and gives other samples than decoding and filtering. For others it is what
// Frame gives. The Part says where the item's pixels are in it.
func (it *Item) ScaledFrame(ctx context.Context, least image.Point) (*Frame, Part, error) {
	if it.Unchanged() {
		f, err := it.fam.scaled(ctx, least)
		if err != nil {
			return nil, Part{}, err
		}
		if f != nil {
			return f, partOf(it.fam.header, it.fam.eighths(least)), nil
		}
	}
	f, err := it.Frame(ctx)
	return f, Part{Scale: 1}, err
}

// ScaledSize is the size of what ScaledFrame decodes for one caller, for
// estimates: see Coster. It is zero when that shares Frame's picture.
func (it *Item) ScaledSize(least image.Point) image.Point {
	if it.Unchanged() {
		if n := it.fam.eighths(least); n < 8 {
			return it.fam.header.Scaled(n)
		}
	}
	return image.Point{}
}

// Pair reports the integer scale of the item's low-quality companion, and
// whether it has one.
func (it *Item) Pair() (scale int, ok bool) {
	switch {
	case it.next.lq != nil && it.next.scale > 0:
		return it.next.scale, true
	case it.pair == nil:
		return 0, false
	}
	return it.pair.scale, true
}

// PairFrame decodes the low-quality companion's picture.
func (it *Item) PairFrame(ctx context.Context) (*Frame, error) {
	if it.next.lq != nil {
		return &Frame{Image: it.next.lq.img, ICC: it.pic.buf.profile()}, nil
	}
	if it.pair == nil {
		return nil, errors.New("the item has no low-quality companion")
	}
	return it.pair.pic.frame(ctx, it.fam.check())
}

// SetImage replaces the picture. The image belongs to the engine from then on.
// Attributes and vectors describe pixels, so those set before are gone; of the
// block lattice nothing is left unless the size stays the same. The colour
// profile stays. The picture of a pair must keep its size; see SetImages.
func (it *Item) SetImage(img image.Image) { it.next.hq = newMade(img) }

// SetImages replaces both pictures of a pair, as SetImage does the one of a
// single item. The scale between them must stay.
func (it *Item) SetImages(hq, lq image.Image) {
	it.next.hq, it.next.lq = newMade(hq), newMade(lq)
}

// SetPair gives an item that has none a low-quality companion, scale times
// smaller than its picture in both directions. It may be called together with
// SetImage, whose picture it then belongs to. Attributes and vectors stay: they
// describe the item's own picture.
func (it *Item) SetPair(lq image.Image, scale int) {
	it.next.lq, it.next.scale = newMade(lq), scale
}

// AddSidecar makes a file of another item's travel with this one, as the
// caption of a duplicate that goes.
func (it *Item) AddSidecar(s Sidecar) { it.next.taken = append(it.next.taken, s) }

func (it *Item) sidecars() []Sidecar {
	if len(it.taken)+len(it.next.taken) == 0 {
		return it.fam.sidecars
	}
	return slices.Concat(it.fam.sidecars, it.taken, it.next.taken)
}

// Derive makes a new item from this one, to be returned from Process beside or
// instead of it. The key names the derivation within this item and becomes
// part of the new ID; it must be unique among the item's derivations. A crop of
// an item with a low-quality companion crops the companion at the same place:
// its edges must be multiples of the pair's scale.
//
// The new item has none of its parent's attributes and vectors, since they
// described other pixels, but its source, its sidecars and its source.*
// attributes.
func (it *Item) Derive(key string, px Pixels) *Item {
	d := it.derive(key)
	switch {
	case key == "":
		d.next.err = errors.New("a derivation needs a key")
		return d
	case px.img != nil && it.pair != nil:
		d.next.err = errors.New("a new picture cannot be derived from a pair: its companion would be left behind")
		return d
	}
	if px.img != nil {
		d.pic = picture{rect: image.Rectangle{Max: px.img.Bounds().Size()}}
		d.next.hq = newMade(px.img)
		return d
	}
	if whole := (image.Rectangle{Max: it.Size()}); !px.rect.In(whole) || px.rect.Empty() {
		d.next.err = fmt.Errorf("the crop %v does not lie inside the picture %v", px.rect, whole)
		return d
	}
	if it.next.hq != nil {
		d.next.err = errors.New("a crop of a picture that this call replaced is not possible: derive with FromImage")
		return d
	}
	crop := px.rect
	d.next.crop = &crop
	d.pic = it.pic.crop(px.rect)
	d.origin = it.origin.crop(px.rect)
	d.grid = it.grid.shift(px.rect.Min.X, px.rect.Min.Y)
	d.weight = it.weight * int64(px.rect.Dx()) * int64(px.rect.Dy()) / max(1, int64(it.pic.rect.Dx())*int64(it.pic.rect.Dy()))
	if p := it.pair; p != nil {
		s := p.scale
		if r := px.rect; r.Min.X%s != 0 || r.Min.Y%s != 0 || r.Dx()%s != 0 || r.Dy()%s != 0 {
			d.next.err = fmt.Errorf("the crop %v is not aligned to the pair's scale %d: use sizes and positions that are multiples of it", px.rect, s)
			return d
		}
		r := image.Rect(px.rect.Min.X/s, px.rect.Min.Y/s, px.rect.Max.X/s, px.rect.Max.Y/s)
		if !r.In(image.Rectangle{Max: p.pic.rect.Size()}) {
			d.next.err = fmt.Errorf("the crop %v lies outside of the low-quality companion", px.rect)
			return d
		}
		d.pair = &pairing{pic: p.pic.crop(r), scale: s}
	}
	return d
}

func (it *Item) derive(key string) *Item {
	d := &Item{id: it.id + "@" + EscapeID(key), fam: it.fam, maybe: it.maybe}
	d.call.Store(it.call.Load())
	d.next.parent = it
	it.next.derived = append(it.next.derived, d)
	return d
}

// Reject ends the item's way on purpose: it does not meet what the pipeline
// asks. The reason groups rejections in the summary and should be one of a few
// fixed phrases; the values say why for this item.
func (it *Item) Reject(reason string, values ...Attribute) {
	it.next.rejected, it.next.reason, it.next.values = true, reason, values
}

// Fail ends the item's way because something is wrong with it. It is
// quarantined with the stage, the cause and its source; the run goes on.
func (it *Item) Fail(err error) {
	if err == nil {
		err = errors.New("failed without a cause")
	}
	it.next.err = err
}

// Later says that there is no room for the item now, though there may be when
// others have given back what they have: it is put aside, and comes again, alone,
// when all others have been through the stage. Should the stage say so once more, it
// fails with err, as does a derived item at once. What else the call said of the item
// is forgotten.
func (it *Item) Later(err error) {
	if err == nil {
		err = errors.New("there was no room for it")
	}
	it.next.later = err
}

// Hold keeps the item back until the barrier's Flush, where it comes again
// with the others, in ID order. Only a Barrier may hold, and it must not return
// what it holds.
func (it *Item) Hold() { it.next.held = true }

// Outputs returns the absolute paths of the files written from this item so
// far.
func (it *Item) Outputs() []string {
	if len(it.next.outputs) == 0 {
		return it.outputs
	}
	return append(it.outputs[:len(it.outputs):len(it.outputs)], it.next.outputs...)
}

// Sidecar is a file that travels with an image: same stem, a listed extension.
type Sidecar struct {
	Ext  string // with its dot, as spelled in the file's name
	Path string // absolute path of the file
	Size int64  // bytes
	Time int64  // modification time, ns
}

// SourceInfo describes the file that an item comes from.
type SourceInfo struct {
	Name          string    // path relative to the source's root, slash-separated, raw bytes
	Path          string    // absolute path, empty for an item that is not from a file
	Size          int64     // bytes
	Format        string    // jpeg, png, ...
	Width, Height int       // pixels, upright
	Turned        bool      // the file stores it otherwise and says so (EXIF orientation)
	Sidecars      []Sidecar // files that travel with it
	// KeepExtension says that another source has the same stem, so that both
	// keep their extension in the names of what is made of them.
	KeepExtension bool
	// SHA256 is the hash of the file's bytes; zero when it is not known.
	SHA256 [32]byte
}

// retain counts the item as a user of the pictures it shares, release takes it
// off again.
func (it *Item) retain() {
	if it.pic.buf != nil {
		it.pic.buf.retain()
	}
	if it.pair != nil {
		it.pair.pic.buf.retain()
	}
}

func (it *Item) release() {
	if it.pic.buf != nil {
		it.pic.buf.release()
	}
	if it.pair != nil {
		it.pair.pic.buf.release()
	}
}
