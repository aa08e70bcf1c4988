package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
	"github.com/forgepipe/forgepipe/stages/internal/files"
)

// A file is one that was read.
type file struct {
	path   string
	data   []byte
	header imageio.Header
}

// open reads two files, and waits until there is room for their pictures and what is
// made of them.
func (c *comparer) open(ctx context.Context, before, after string) (a, b *file, done func(), err error) {
	a, b = &file{path: before}, &file{path: after}
	sizes := int64(0)
	for _, f := range []*file{a, b} {
		n, err := regular(f.path, c.Limits)
		if err != nil {
			return nil, nil, nil, err
		}
		sizes += n
	}
	// First for the files, whose headers say what the rest takes: what a file says of
	// itself may lie at its end. Who waits for more holds no lease, so that two never
	// wait for each other.
	lease, err := c.ledger.Acquire(ctx, memory.Request{Kind: memory.Work, Bytes: sizes, Holder: "comparison"})
	if err != nil {
		return nil, nil, nil, err
	}
	need, err := c.readBoth(a, b)
	lease.Release()
	if err != nil {
		return nil, nil, nil, err
	}
	all := memory.Request{Kind: memory.Work, Bytes: need, Holder: "comparison"}
	if lease, ok := c.ledger.TryAcquire(all); ok {
		return a, b, lease.Release, nil
	}
	// Files that are kept while others have their memory would be counted nowhere.
	a.data, b.data = nil, nil
	if lease, err = c.ledger.Acquire(ctx, all); err != nil {
		return nil, nil, nil, c.oversize(err)
	}
	now, err := c.readBoth(a, b)
	if err == nil && now > need {
		err = fmt.Errorf("%s or %s has become larger while it was waited for memory: run again", a.path, b.path)
	}
	if err != nil {
		lease.Release()
		return nil, nil, nil, err
	}
	return a, b, lease.Release, nil
}

// readBoth reads two files, and tells what comparing them takes.
func (c *comparer) readBoth(a, b *file) (need int64, err error) {
	for _, f := range []*file{a, b} {
		if f.data, err = read(f.path, c.Limits); err == nil {
			f.header, err = imageio.ReadHeader(f.data, c.Limits)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.path, plainLimit(err))
		}
		need += int64(len(f.data)) + max(f.header.DecodePeak, f.header.Bytes)
	}
	need += c.Sheet.Bytes(sizeOf(a), sizeOf(b))
	if c.LPIPS != nil {
		need += c.LPIPS.Bytes(sizeOf(a), sizeOf(b))
	}
	return need, nil
}

// plainLimit says of a limit what there is to do outside of pipelines, which have settings.
func plainLimit(err error) error {
	if l := (*imageio.LimitError)(nil); errors.As(err, &l) {
		return fmt.Errorf("%s: make it smaller, or take the stage compare, in a pipeline with limits.%s", l.What, l.Setting)
	}
	return err
}

// oversize says of an animation that it is its frames that take the memory, where it is.
func (c *comparer) oversize(err error) error {
	over := (*memory.OversizeError)(nil)
	if c.root != nil && c.Sheet.Format == sheet.WebP && errors.As(err, &over) {
		return fmt.Errorf("%s with %d frames needs %s, but at most %s can ever be had: take fewer seconds, fewer frames a second, more speed, a smaller longest side, or smaller pictures", over.Holder, c.Sheet.Frames(), memory.FormatBytes(over.Need), memory.FormatBytes(over.Have))
	}
	return err
}

// regular is the size of a file that can be read.
func regular(path string, lim pipeline.Limits) (int64, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return 0, fmt.Errorf("looking at the file: %w", err)
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("%s is %s, not an image", path, fsys.KindOf(info.Mode().Type()))
	case info.Size() > lim.MaxFileBytes:
		return 0, fmt.Errorf("%s: %w", path, plainLimit(&imageio.LimitError{What: fmt.Sprintf("the file has %d bytes, the limit is %d", info.Size(), lim.MaxFileBytes), Setting: "file_bytes"}))
	}
	return info.Size(), nil
}

// read reads a file, which may have become a pipe in the meantime, or grow for ever.
func read(path string, lim pipeline.Limits) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, files.Plain(err)
	}
	defer f.Close()
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		b.Grow(int(min(info.Size(), lim.MaxFileBytes)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(f, lim.MaxFileBytes+1)); err != nil {
		return nil, files.Plain(err)
	}
	return b.Bytes(), nil
}

func sizeOf(f *file) image.Point { return image.Pt(f.header.Width, f.header.Height) }
