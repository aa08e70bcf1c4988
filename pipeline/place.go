package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

// hashFile is the hash of a file's bytes, as the run store has it.
func hashFile(root fsys.Root, name string) (out [16]byte, err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return out, err
	}
	// Opening a named pipe would wait for somebody who writes to it.
	if m := info.Mode(); !m.IsRegular() && m&fs.ModeSymlink == 0 {
		return out, errors.New("it is not a regular file")
	}
	f, err := root.Open(name)
	if err != nil {
		return out, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return out, err
	}
	copy(out[:], h.Sum(nil))
	return out, nil
}

// reuse leaves a file of an earlier run as it is.
func (r *run) reuse(p *publishing, d runstore.Decision) {
	r.store.See(d)
	if r.rebooted && r.dry == nil && r.store.Unsynced(d) {
		r.store.Settled(d.Seq) // its bytes were just compared: no doubt is left
	}
	r.reused.Add(1)
	p.finished()
}

func (p *publishing) finished() {
	p.done = true
	if p.Item != nil && p.Part == "" {
		p.Item.next.outputs = append(p.Item.next.outputs, p.shown())
	}
}

// hashWriter counts and hashes what passes.
type hashWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (w *hashWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.h.Write(b[:n])
	w.n += int64(n)
	return n, err
}

// writeTemp writes the file under a temporary name beside its place.
func (r *run) writeTemp(ctx context.Context, p *publishing) error {
	dir := path.Dir(p.path)
	if err := r.mkdir(p.root, dir); err != nil {
		return err
	}
	temp := path.Join(dir, r.tempName())
	f, err := p.root.Create(temp)
	if err != nil {
		return err
	}
	p.temp = temp
	w := &hashWriter{w: f, h: sha256.New()}
	err = p.Encode(ctx, w)
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if info.Size() != w.n {
		return fmt.Errorf("the file has %d bytes after %d were written", info.Size(), w.n)
	}
	p.row.Size, p.row.MTime = info.Size(), info.ModTime().UnixNano()
	copy(p.row.Hash[:], w.h.Sum(nil))

	if p.old != nil && p.old.Size == p.row.Size && p.old.Hash == p.row.Hash && r.inspect(p.root, p.path, *p.old) == fileRight {
		// The same bytes by another way (an edit that changes nothing for this
		// file): keep the file, and record the way.
		if p.old.Ident != p.row.Ident {
			p.row.MTime = p.old.MTime
			if err := r.store.Append([]runstore.Decision{p.row}); err != nil {
				return err
			}
		} else {
			r.store.See(*p.old)
		}
		r.reused.Add(1)
		p.finished()
		return nil
	}
	info, err = p.root.Lstat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.replace = false
		return nil
	case err != nil:
		return err
	case p.isSource(info):
		return errSource
	case p.replace:
		return nil
	case p.Overwrite && info.Mode().IsRegular():
		r.replaced.Add(1)
		return r.trash(p.root, p.path)
	}
	return r.mayReplace(p, info)
}

// place renames the temporary file to its place, unless something is there that
// no run wrote.
func (r *run) place(p *publishing) error {
	claim := p.root.Name() + "\x00" + p.path
	if _, busy := r.placing.LoadOrStore(claim, true); busy {
		return errors.New("another item of this run is written to the same path: give the stage a name template that tells them apart")
	}
	if !p.Overwrite { // otherwise nothing else tells two items of one path apart
		defer r.placing.Delete(claim)
	}

	// Whether a file that is there may be replaced was settled before the row
	// was recorded, since a resume replaces what a recorded row names. So where
	// none was to be replaced, one that is there has come since: somebody's own, or
	// one that was just restored.
	move := func() error { return fsys.MoveNew(p.root, p.temp, p.root, p.path) }
	if p.replace {
		move = func() error { return p.root.Rename(p.temp, p.path) }
	}
	err := move()
	if r.store != nil {
		// Also after a failure: the row and the file then differ, and the next
		// run sees that and writes the file again.
		r.store.Settled(p.row.Seq)
	}
	if errors.Is(err, fs.ErrExist) {
		err = errForeign
		if r.store != nil {
			err = errors.Join(err, r.store.Delete(context.WithoutCancel(r.ctx), []runstore.Decision{p.row}))
		}
	}
	if err != nil {
		return err
	}
	p.temp = ""
	r.written.Add(1)
	r.bytes.Add(p.row.Size)
	p.finished()
	return nil
}

// mayReplace decides about a file that this item's row does not explain. It may
// be what an earlier run wrote for another item (a source was renamed from a.jpg
// to a.png); then it may be replaced, unless that item has it in this run as
// well. Anything else is the user's and stays; if it has the very bytes that
// were to be written, it does as it is, and remains theirs.
func (r *run) mayReplace(p *publishing, info fs.FileInfo) error {
	d, ok, err := r.old.at(p.root.Name(), p.path)
	if err != nil {
		return err
	}
	if ok {
		if r.store.Seen(d) {
			return errForeign
		}
		r.old.supersede(d.Seq)
		switch r.inspect(p.root, p.path, d) {
		case fileRight:
			p.replace = true
			return nil
		case fileChanged:
			r.replaced.Add(1)
		}
		return r.trash(p.root, p.path)
	}
	if info.Mode().IsRegular() && info.Size() == p.row.Size {
		if h, err := hashFile(p.root, p.path); err == nil && h == p.row.Hash {
			r.reused.Add(1)
			p.finished()
			return r.recordTheirs(p)
		}
	}
	return errForeign
}

// theirs begins the stage of a row of an item whose file was there already. What
// follows is the stage that a row of the file would have.
const theirs = "\x00theirs\x00"

// recordTheirs records that an item has come to its file: no row of the file says
// so, as it is not ours.
func (r *run) recordTheirs(p *publishing) error {
	if p.Item == nil || p.Part != "" {
		return nil
	}
	return r.record(p.Item, runstore.Decision{Kind: runstore.Passed, Stage: theirs + p.stage})
}

// isSource reports whether a file is one that the item was read from.
func (p *publishing) isSource(info fs.FileInfo) bool {
	if p.Item == nil {
		return false
	}
	f := p.Item.fam
	names := []string{f.path}
	if f.pair != nil {
		names = append(names, f.pair.path)
	}
	for _, s := range f.sidecars {
		names = append(names, s.Path)
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if src, err := os.Stat(name); err == nil && os.SameFile(src, info) {
			return true
		}
	}
	return false
}

var errSource = errors.New("the file there is the source itself: write to another folder")

var errForeign = errors.New("a file is there already that this pipeline did not write, or wrote for another item of this run: move it away, choose another folder or name, or set overwrite: true")
