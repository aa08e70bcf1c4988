package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
)

// family is one source file and what its items share.
type family struct {
	run      *run
	name     string // relative, raw
	path     string // absolute, empty for an Image
	size     int64
	mtime    int64 // ns
	hash     [32]byte
	header   imageio.Header
	sidecars []Sidecar
	keepExt  bool
	buf      *buffer
	pair     *family // of the low-quality companion

	isLQ     bool
	row      int64 // in the run store
	recorded bool  // the store has it as it is
	mu       sync.Mutex
	looked   bool                // earlier is filled
	earlier  []runstore.Decision // what earlier runs recorded
}

func (f *family) check() bool { return f.run.opts.Check }

func (f *family) pairBuffer() *buffer {
	if f.pair == nil {
		return nil
	}
	return f.pair.buf
}

// file is the source's picture if it can be decoded from its file again; nil for
// one that is not a file.
func (f *family) file() *buffer {
	if f == nil || f.path == "" {
		return nil
	}
	return f.buf
}

// buffers are those of the source and of its companion.
func (f *family) buffers() []*buffer {
	if f.pair == nil {
		return []*buffer{f.buf}
	}
	return []*buffer{f.buf, f.pair.buf}
}

// keep and let hold the pictures while nobody else may.
func (f *family) keep() {
	f.buf.retain()
	if f.pair != nil {
		f.pair.buf.retain()
	}
}

func (f *family) let() {
	f.buf.release()
	if f.pair != nil {
		f.pair.buf.release()
	}
}

// describe gives the item what its header tells.
func (f *family) describe(it *Item) {
	it.pic = picture{buf: f.buf, rect: image.Rect(0, 0, f.header.Width, f.header.Height)}
	it.grid = gridOf(f.header)
	it.weight = it.pic.weight()
	if it.pair != nil {
		it.weight += it.pair.pic.weight()
	}
	if f.hash != ([32]byte{}) {
		it.origin = sum([]byte("source"), f.hash[:], []byte(imageio.Decoder()))
		if f.pair != nil {
			it.origin = sum([]byte("pair"), it.origin[:], f.pair.hash[:])
		}
	}
}

// weight is what a picture counts for in queues: its share of the frame.
func (p picture) weight() int64 {
	if p.buf == nil || p.buf.area == 0 {
		return 0
	}
	return int64(float64(p.buf.bytes) * float64(p.rect.Dx()) * float64(p.rect.Dy()) / float64(p.buf.area))
}

// smallFile is the size up to which a file's bytes are kept between hashing and
// decoding.
const smallFile = 16 << 20

// openFile opens the file without waiting for a writer, should it have become a
// pipe.
func (f *family) openFile() (*os.File, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	return file, nil
}

// readFile reads the whole file, and makes sure that it is one file's content:
// not changed while being read, and the same as before if it was read before.
func (f *family) readFile(first bool) ([]byte, error) {
	file, err := f.openFile()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, f.size)
	if _, err := io.ReadFull(file, data); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, errChanged
		}
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	if info.Size() != f.size || info.ModTime().UnixNano() != f.mtime {
		return nil, errChanged
	}
	h := sha256.Sum256(data)
	if first {
		f.hash = h
	} else if h != f.hash {
		return nil, errChanged
	}
	return data, nil
}

var errChanged = errors.New("the file changed while it was being read: run again when nothing writes to it")

// admit waits until the source's decoded picture has room, its companion's
// included, and prepares decoding.
func (f *family) admit(ctx context.Context) error {
	need, pairNeed := f.room(), int64(0)
	if f.pair != nil {
		pairNeed = f.pair.room()
	}
	// One request for both: two sources that each hold one of two would wait for
	// each other.
	lease, err := f.run.acquire(ctx, memory.Request{Kind: memory.Residency, Bytes: need + pairNeed, Holder: "source"})
	if err != nil {
		return err
	}
	f.prepare(lease)
	if f.pair == nil {
		return nil
	}
	f.pair.prepare(lease.Split(pairNeed))
	return nil
}

// admitParked prepares decoding without any room: whoever looks asks for it.
func (f *family) admitParked() {
	for _, one := range []*family{f, f.pair} {
		if one == nil {
			continue
		}
		lease, _ := f.run.host.TryAcquire(memory.Request{Kind: memory.Residency, Holder: "source"})
		one.prepare(lease)
		one.buf.hold(0)
		one.buf.parked = true
	}
}

// inFile tells whether the decoded picture lies in a file.
func (f *family) inFile() bool {
	return f.path != "" && f.run.inFile(f.header.Bytes) && f.header.DecodesInto()
}

// room is what the source takes until it is decoded, and while.
func (f *family) room() int64 {
	switch {
	case f.path != "":
	case f.buf.img == nil: // restored: its items' pixels are in files of their own
		return 0
	default:
		return f.header.Bytes
	}
	peak := max(f.header.DecodePeak, f.header.Bytes)
	if f.inFile() {
		peak -= f.header.Bytes - f.run.residentBytes(f.header.Bytes)
	}
	return peak + f.size
}

// prepare readies the source's buffer for decoding.
func (f *family) prepare(lease *memory.Lease) {
	b := f.buf
	b.bytes, b.area = f.header.Bytes, int64(f.header.Width)*int64(f.header.Height)
	b.lease, b.room = lease, f.room()
	b.hold(b.room)
	if f.path == "" {
		return
	}
	b.load = func(ctx context.Context) (image.Image, []byte, error) {
		if f.run.dry != nil {
			return nil, nil, errDryRun
		}
		data, err := f.data(b.raw)
		if err != nil {
			return nil, nil, err
		}
		img, err := f.decode(ctx, data)
		if err != nil {
			return nil, nil, err
		}
		f.run.countDecoded(f.header)
		return img, imageio.ICCProfile(data), nil
	}
}

// callKey is the context's key of the call that looks at a picture.
type callKey struct{}

// decode decodes the file's bytes, into a file where the picture is larger than memory. It
// needs the buffer's lock.
func (f *family) decode(ctx context.Context, data []byte) (image.Image, error) {
	h, limits := f.header, f.run.pipe.Limits
	if !f.inFile() {
		return imageio.Decode(data, h, limits)
	}
	var c call
	c.inside, _ = ctx.Value(callKey{}).(*call)
	defer c.end()
	img, err := c.newCanvas(ctx, f.run, h.Model(), image.Pt(h.Width, h.Height))
	if err != nil {
		return nil, err
	}
	pix, _ := samplesOf(img)
	if _, err := imageio.DecodeInto(pix, data, h, limits); err != nil {
		return nil, err
	}
	f.buf.canvas = f.run.canvases.share(img)
	return img, nil
}

// data is the file's bytes: those kept from hashing, or read again.
func (f *family) data(raw []byte) ([]byte, error) {
	if raw != nil {
		return raw, nil
	}
	return f.readFile(false)
}

// eighths is at which n/8 scaled decodes; 8 is the frame that all share.
func (f *family) eighths(least image.Point) int {
	if f.run.dry != nil {
		return 8
	}
	return f.header.Eighths(least)
}

// scaled decodes the source's picture at a smaller scale, for one caller; nil
// when there is none that serves. It does so also when the whole picture is there
// already: the result must not depend on who looked before.
func (f *family) scaled(ctx context.Context, least image.Point) (*Frame, error) {
	b := f.buf
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil || f.eighths(least) == 8 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := f.data(b.raw)
	if err != nil {
		return nil, err
	}
	img, err := imageio.DecodeScaled(data, f.header, f.run.pipe.Limits, least)
	if err != nil {
		return nil, err
	}
	f.run.countDecoded(f.header)
	b.icc = imageio.ICCProfile(data)
	return &Frame{Image: img, ICC: b.icc}, nil
}

// register enters the source into the store.
func (f *family) register() error {
	r := f.run
	if r.store == nil {
		return nil
	}
	f.lookup()
	if !f.recorded && r.dry == nil {
		src := runstore.Source{ID: f.row, Path: f.key(), Size: f.size, MTime: f.mtime, Hash: f.hash, Header: appendHeader(binary.LittleEndian.AppendUint64(nil, decoderID()), f.header)}
		if err := r.store.PutSource(&src); err != nil {
			return &StageError{Stage: "source", Err: fmt.Errorf("recording %s: %w", EscapeID(f.name), err)}
		}
		f.row = src.ID
	}
	if f.row != 0 {
		if !r.sources.add(f.row) && !f.isLQ {
			return errors.New("another input of this run has the same name")
		}
		r.store.SeeSource(f.row)
	}
	if f.pair != nil {
		return f.pair.register()
	}
	return nil
}

// CopySource writes the bytes of the item's source file to w, and fails when
// the file is not the one that was read.
func (it *Item) CopySource(_ context.Context, w io.Writer) error { return it.fam.copy(w) }

func (f *family) copy(w io.Writer) error {
	f.buf.mu.Lock()
	data := f.buf.raw
	f.buf.mu.Unlock()
	if data != nil {
		_, err := w.Write(data)
		return err
	}
	file, err := f.openFile()
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(file, f.size+1)); err != nil {
		return fmt.Errorf("copying the file: %w", err)
	}
	if [32]byte(h.Sum(nil)) != f.hash {
		return errChanged
	}
	return nil
}

// encode writes down what a parked item needs of its source.
func (f *family) encode(b []byte) []byte {
	b = appendString(b, f.name)
	b = appendString(b, f.path)
	b = binary.AppendVarint(b, f.size)
	b = binary.AppendVarint(b, f.mtime)
	b = append(b, f.hash[:]...)
	b = appendHeader(b, f.header)
	b = append(b, boolByte(f.keepExt))
	b = appendSidecars(b, f.sidecars)
	b = binary.AppendVarint(b, f.row)
	if f.pair == nil {
		return append(b, 0)
	}
	return f.pair.encode(append(b, 1))
}

func decodeFamily(r *reader, run *run) *family {
	f := &family{run: run, name: r.string(), path: r.string(), size: r.varint(), mtime: r.varint(), buf: &buffer{}}
	copy(f.hash[:], r.take(32))
	f.header = readHeader(r)
	f.keepExt = r.byte() == 1
	f.sidecars = r.sidecars()
	f.row = r.varint()
	if r.byte() == 1 {
		f.pair = decodeFamily(r, run)
	}
	return f
}

func appendSidecars(b []byte, sidecars []Sidecar) []byte {
	b = binary.AppendUvarint(b, uint64(len(sidecars)))
	for _, s := range sidecars {
		b = appendString(b, s.Ext)
		b = appendString(b, s.Path)
		b = binary.AppendVarint(b, s.Size)
		b = binary.AppendVarint(b, s.Time)
	}
	return b
}

func (r *reader) sidecars() (all []Sidecar) {
	for range r.count() {
		all = append(all, Sidecar{Ext: r.string(), Path: r.string(), Size: r.varint(), Time: r.varint()})
	}
	return all
}
