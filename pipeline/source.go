package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/sourcegraph/conc/pool"
)

// Input is what a source offers: a file, or a picture made in Go.
type Input struct {
	// Name becomes the item's ID: a path relative to the source's root,
	// slash-separated, raw bytes, unique within the run.
	Name string
	// Path is the file to read. It is empty when Image is set.
	Path string
	// Image is the picture of an input that is not a file. Content identifies
	// its pixels, so that results can be cached; empty, nothing is.
	Image   image.Image
	Content []byte
	// Sidecars travel with the image.
	Sidecars []Sidecar
	// KeepExtension says that another input has the same folder and stem.
	KeepExtension bool
	// LQ is the low-quality companion, Scale times smaller.
	LQ    *Input
	Scale int
	// Ignored, if not empty, says why this is passed over: it is counted and
	// reported, and nothing else.
	Ignored string
	// Err is the cause for which this candidate cannot be an image: it is
	// quarantined.
	Err error
}

// intake reads the source: one goroutine lists, several open and hash the files
// and wait until their pictures will have room.
func (r *run) intake(p *pool.ContextPool, q *queue) {
	inputs := make(chan Input, 64)
	p.Go(func(ctx context.Context) error {
		defer close(inputs)
		candidates := 0
		err := emitAll(ctx, r.source(), func(in Input) error {
			if in.Ignored == "" {
				candidates++
			}
			select {
			case inputs <- in:
				return nil
			case <-r.drain:
				return errDraining
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if errors.Is(err, errDraining) || err != nil && r.draining() {
			return nil
		}
		if err != nil {
			return &StageError{Stage: "source", Err: err}
		}
		if candidates == 0 && r.dry == nil {
			return &StageError{Stage: "source", Err: ErrNoImages}
		}
		r.total.Store(int64(candidates))
		r.listed.Store(true)
		return nil
	})
	readers := min(runtime.GOMAXPROCS(0), 8)
	var active atomic.Int32
	active.Store(int32(readers))
	for range readers {
		p.Go(func(ctx context.Context) error {
			for in := range inputs {
				if err := r.mayBegin(ctx); err != nil {
					return err
				}
				if r.draining() {
					r.listed.Store(false)
					continue
				}
				if err := r.offer(ctx, in, q); err != nil {
					return err
				}
			}
			if active.Add(-1) == 0 {
				q.close()
			}
			return nil
		})
	}
}

// count has a source that can do so count its inputs, beside the run. What it cannot
// count now is known when all is listed. The returned function ends it.
func (r *run) count(ctx context.Context) (stop func()) {
	c, ok := r.source().(Counter)
	asked := r.dry == nil && slices.ContainsFunc(r.nodes, func(n *node) bool { _, ok := n.Stage.(HeldCoster); return ok })
	if !ok || !r.opts.Count && !asked {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var counting sync.WaitGroup
	counting.Go(func() {
		doing, level := "counting the inputs", slog.LevelDebug // listing them tells what is wrong
		defer func() {
			if p := recover(); p != nil {
				r.pipe.log.Log(ctx, level, doing, "cause", fmt.Sprint("panic: ", p))
			}
		}()
		n, err := c.Count(ctx)
		if err != nil {
			r.pipe.log.Debug(doing, "cause", err)
			return
		}
		r.total.CompareAndSwap(0, n)
		if asked {
			doing, level = "foreseeing what the run takes", slog.LevelWarn
			r.warnOfNeed(n)
		}
	})
	return func() {
		cancel()
		counting.Wait()
	}
}

// offer puts an input into the first queue, or records why it cannot be.
func (r *run) offer(ctx context.Context, in Input, q *queue) error {
	r.working.Add(1)
	it, err := r.open(ctx, in)
	r.working.Add(-1)
	if err != nil || it == nil {
		return err
	}
	r.src.out.Add(1)
	if _, err := q.put(ctx, []*Item{it}); err != nil {
		it.release()
		return err
	}
	return nil
}

// emitAll is Emit, with a panic as its error.
func emitAll(ctx context.Context, s Source, emit func(Input) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.Emit(ctx, emit)
}

// countDecoded takes in that a source's picture was decoded.
func (r *run) countDecoded(h imageio.Header) {
	r.decoded.Add(1)
	if h.Format == imageio.JPEG {
		r.decodedJPEG.Add(1)
	}
}

// ErrNoImages is the error of a run whose source offers none: nothing is done then,
// and what earlier runs made stays.
var ErrNoImages = errors.New("it has no images: nothing was done, and what earlier runs made was not touched")

var errDraining = errors.New("draining")

// open turns an input into an item, or records why it cannot be one.
func (r *run) open(ctx context.Context, in Input) (*Item, error) {
	if in.Ignored != "" {
		r.ignored.Add(1)
		r.event(EventIgnored, "source", EscapeID(in.Name), in.Ignored)
		return nil, nil
	}
	r.src.in.Add(1)
	if in.KeepExtension {
		r.renamed.Add(1)
	}
	f := &family{
		run: r, name: in.Name, path: in.Path, sidecars: in.Sidecars, keepExt: in.KeepExtension,
		buf: &buffer{},
	}
	it := &Item{id: EscapeID(in.Name), fam: f, pic: picture{buf: f.buf}}
	it.retain()
	err := f.identify(ctx, in)
	if err == nil && in.LQ != nil {
		it.pair, err = f.identifyPair(ctx, in)
	}
	if err == nil {
		err = f.admit(ctx)
	}
	if ctx.Err() != nil {
		it.release()
		return nil, ctx.Err()
	}
	if err != nil {
		f.hash = [32]byte{} // looked at again next time
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) || strings.HasSuffix(in.Name, "/") {
			r.cannotRead(in.Name)
		}
	}
	if rerr := f.register(); rerr != nil {
		err = rerr
	}
	var se *StageError
	switch {
	case errors.As(err, &se):
		it.release()
		return nil, err
	case err != nil:
		it.next.err = err
		return nil, r.finish(ctx, it, end{kind: endFailed})
	}
	f.describe(it)
	return it, nil
}

// identify reads and hashes an input's file, unless the store knows it unchanged,
// and its header.
func (f *family) identify(ctx context.Context, in Input) error {
	if in.Err != nil {
		return in.Err
	}
	if in.Image != nil {
		f.identifyImage(in)
		return nil
	}
	info, err := os.Stat(in.Path)
	if err != nil {
		return fmt.Errorf("looking at the file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is %s, not a regular file", fsys.KindOf(info.Mode()))
	}
	f.size, f.mtime = info.Size(), info.ModTime().UnixNano()
	if f.known() {
		return nil
	}
	if f.size == 0 {
		return errors.New("the file is empty")
	}
	if max := f.run.pipe.Limits.MaxFileBytes; f.size > max {
		return fmt.Errorf("the file has %s, the limit is %s: raise limits.file_bytes", memory.FormatBytes(f.size), memory.FormatBytes(max))
	}
	read, err := f.run.acquire(ctx, memory.Request{Kind: memory.Work, Bytes: f.size, Holder: "source"})
	if err != nil {
		return err
	}
	defer read.Release()
	data, err := f.readFile(true)
	if err != nil {
		return err
	}
	if f.header, err = imageio.ReadHeader(data, f.run.pipe.Limits); err != nil {
		return err
	}
	if f.size <= smallFile {
		// A larger file is read again when it is decoded, rather than kept while
		// waiting for room.
		f.buf.raw = data
	}
	return nil
}

func (f *family) identifyImage(in Input) {
	b := in.Image.Bounds()
	f.header = imageio.Header{Width: b.Dx(), Height: b.Dy(), Orientation: 1, Bytes: imageio.Bytes(in.Image)}
	if len(in.Content) > 0 {
		f.hash = sha256.Sum256(in.Content)
	}
	f.buf.show(in.Image)
	if f.check() {
		f.buf.sum = pixelSum(in.Image)
	}
}

func (f *family) identifyPair(ctx context.Context, in Input) (*pairing, error) {
	f.pair = &family{run: f.run, name: in.LQ.Name, path: in.LQ.Path, isLQ: true, buf: &buffer{}}
	f.pair.buf.retain()
	p := &pairing{pic: picture{buf: f.pair.buf}, scale: in.Scale}
	if err := f.pair.identify(ctx, *in.LQ); err != nil {
		return p, fmt.Errorf("low-quality companion %s: %w", EscapeID(in.LQ.Name), err)
	}
	lq, hq := f.pair.header, f.header
	if in.Scale < 1 || lq.Width*in.Scale != hq.Width || lq.Height*in.Scale != hq.Height {
		return p, fmt.Errorf("the pair does not fit: %d x %d is not %d times %d x %d", hq.Width, hq.Height, in.Scale, lq.Width, lq.Height)
	}
	p.pic.rect = image.Rect(0, 0, lq.Width, lq.Height)
	return p, nil
}

// known reports whether the store has this very file, by size and time, and
// takes over what it says.
func (f *family) known() bool {
	src, ok := f.lookup()
	if !ok || src.Size != f.size || src.MTime != f.mtime || src.Hash == ([32]byte{}) {
		return false
	}
	r := reader{b: src.Header}
	if r.uint64() != decoderID() { // headers are as the decoder sees them
		return false
	}
	h := readHeader(&r)
	lim := f.run.pipe.Limits
	if r.err != nil || f.size > lim.MaxFileBytes || int64(h.Width)*int64(h.Height) > lim.MaxPixels {
		return false
	}
	f.hash, f.header, f.recorded = src.Hash, h, true
	return true
}

// lookup asks the store for the source, once, and keeps what earlier runs
// recorded of its items.
func (f *family) lookup() (src runstore.Source, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.looked || f.run.store == nil {
		return src, false
	}
	f.looked = true
	src, decisions, ok, err := f.run.store.Source(context.Background(), f.key())
	if err != nil {
		f.run.warnOnce("lookup", "reading the run store: %v", err)
		return src, false
	}
	if ok {
		f.earlier = decisions
		if f.row == 0 { // one that was parked has it, and others read it
			f.row = src.ID
		}
	}
	return src, ok
}

const lqPrefix = "\x00lq/"

// key is the source's name in the store. A low-quality companion has a name of
// its own there, as its path may be that of another source.
func (f *family) key() string {
	if f.isLQ {
		return lqPrefix + f.name
	}
	return f.name
}

// decoderID tells one version of the decoders from another.
var decoderID = sync.OnceValue(func() uint64 {
	h := sum([]byte(imageio.Decoder()))
	return binary.LittleEndian.Uint64(h[:])
})

func appendHeader(b []byte, h imageio.Header) []byte {
	b = appendString(b, string(h.Format))
	b = append(b, boolByte(h.Palette))
	for _, v := range [5]int64{int64(h.Width), int64(h.Height), int64(h.Orientation), h.Bytes, h.DecodePeak} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return b
}

func readHeader(r *reader) imageio.Header {
	h := imageio.Header{Format: imageio.Format(r.string()), Palette: r.byte() == 1}
	h.Width, h.Height, h.Orientation = int(r.uvarint()), int(r.uvarint()), int(r.uvarint())
	h.Bytes, h.DecodePeak = int64(r.uvarint()), int64(r.uvarint())
	return h
}

// absolute makes a path independent of the working directory.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}
