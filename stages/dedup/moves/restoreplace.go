package moves

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/wild"
)

// all restores what was asked for.
func (r *restoring) all(ctx context.Context) error {
	err := r.groups(ctx, func(ops []line) error {
		whole := r.wanted(&ops[0])
		for i := range ops {
			op := &ops[i]
			if !whole && (i == 0 || !r.wanted(op)) {
				continue
			}
			if !r.first(op) {
				if i == 0 && r.stays[keyOf(op.place())] {
					return nil
				}
				continue
			}
			done := Restored{Entry: r.entry(op)}
			err := r.restore(ctx, ops, op, &done)
			if err := r.count(ctx, &done, err); err != nil {
				return err
			}
			if i == 0 && done.Fault != "" {
				r.stays[keyOf(op.place())] = true
				return nil // what belongs to the picture stays with it, also of older lines
			}
		}
		if r.moved > 0 && r.moved%syncEvery == 0 && !r.o.DryRun {
			return r.rec.flush()
		}
		return nil
	})
	for i, found := range r.asked {
		if !found {
			r.report.Unknown = append(r.report.Unknown, r.o.Files[i])
		}
	}
	return err
}

// wanted tells whether a file was asked for.
func (r *restoring) wanted(op *line) bool {
	if r.o.All {
		return true
	}
	places := []string{op.place(), filepath.Join(real(filepath.Dir(op.place())), path.Base(op.Source))}
	if op.Action != Delete {
		places = append(places, r.path(op))
	}
	any := false
	for i, file := range r.o.Files {
		full := absolute(file)
		ok := slices.ContainsFunc(places, func(p string) bool { return stands(full, p) }) ||
			filepath.IsLocal(file) && stands(path.Clean(filepath.ToSlash(file)), op.Source)
		if ok {
			r.asked[i], any = true, true
		}
	}
	return any
}

// stands tells whether what somebody named stands for a file: its name, a folder that it
// lies below, a pattern.
func stands(named, file string) bool {
	below, ok := strings.CutPrefix(file, strings.TrimSuffix(named, "/"))
	return ok && (below == "" || below[0] == '/') || wild.Has(named) && wild.Match(named, file)
}

// shownFaults bounds the faults that the report tells.
const shownFaults = 100

// count puts down what became of a file; an error is one that ends it all.
func (r *restoring) count(ctx context.Context, done *Restored, err error) error {
	switch {
	case errors.Is(err, errNothing):
		return nil
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case fsys.IsFatal(err):
		return err
	default:
		if lost := r.folders.lost(); lost != nil {
			return lost
		}
		done.Fault = err.Error()
		if errors.Is(err, errTaken) {
			r.report.Taken++
		} else {
			r.report.Failed++
		}
		if len(r.report.Faults) < shownFaults {
			r.report.Faults = append(r.report.Faults, fmt.Sprintf("%s: %s", done.Place, done.Fault))
		}
	}
	switch {
	case err != nil:
	case done.Deleted:
		r.report.Deleted++
	case done.Copy:
		r.report.Copies++
	case done.Removed:
		r.report.Removed++
	case done.Same:
		r.report.Same++
	default:
		r.report.Restored++
		r.report.Bytes += done.Size
	}
	if r.o.OnFile != nil {
		r.o.OnFile(*done)
	}
	return nil
}

var (
	errTaken   = errors.New("something else is there already: it stays where it is; move that away, or restore to another folder")
	errNothing = errors.New("there is nothing to say of it")
)

// restore does it for one file.
func (r *restoring) restore(ctx context.Context, ops []line, op *line, done *Restored) error {
	place := keyOf(op.place())
	if op.Action != Move {
		return r.other(ctx, op, done)
	}
	_, err := r.from.Lstat(op.Target)
	if err != nil && !absent(err) {
		return err
	}
	gone := err != nil
	switch {
	case gone && (r.back[place] || r.left[keyOfNumber(op.Run, op.Job)]):
		return errNothing // a newer line has told of it, or it never went
	case r.back[place]:
		r.report.Older++
		return errNothing
	}
	root, name, err := r.destination(ops, op, done)
	if err != nil {
		return err
	}
	if gone {
		if root != nil && holds(ctx, root, name, op.Size, op.SHA256) {
			done.Same = true
			return nil
		}
		return errors.New("it is not where it went any more: " + r.path(op))
	}
	if _, _, err := read(ctx, r.from, op.Target, op.Size, op.SHA256); err != nil {
		var l *leftError
		if errors.As(err, &l) && l.text == notTheSame {
			return fmt.Errorf("%s is not the file that went there (%s): it stays; move it by hand", r.path(op), l.detail)
		}
		return err
	}
	if root != nil {
		_, err := root.Lstat(name)
		switch {
		case err == nil && holds(ctx, root, name, op.Size, op.SHA256):
			done.Same = true
			return nil
		case err == nil, errors.Is(err, syscall.ENOTDIR):
			return errTaken
		case !absent(err):
			return err
		}
	}
	if !r.o.DryRun {
		if err := r.put(ctx, root, name, op); err != nil {
			return err
		}
		l := line{Event: restored, Run: op.Run, N: op.N, Root: op.Root, Source: op.Source, To: done.To}
		if err := r.rec.add(l); err != nil {
			return err
		}
		r.moved++
	}
	r.back[place] = true
	return nil
}

// destination is where a file goes; no root in a dry run into a folder that is not there.
func (r *restoring) destination(ops []line, op *line, done *Restored) (fsys.Root, string, error) {
	done.To = op.place()
	if err := plausible(ops, op); err != nil {
		return nil, "", err
	}
	if r.o.To == "" {
		root, err := r.folders.existing(op.Root)
		if err != nil {
			return nil, "", fmt.Errorf("%w (make it again, or restore to another folder)", err)
		}
		return root, op.Source, nil
	}
	name := path.Join(op.Pair, op.Source)
	done.To = filepath.Join(absolute(r.o.To), filepath.FromSlash(name))
	return r.to, name, nil
}

// usual are the extensions of sidecars that may go to a hidden place, as sources have
// them by default.
var usual = []string{".txt", ".json", ".caption", ".xmp", ".npz"}

// plausible tells whether a run can have moved a file from its place: it was a picture,
// or had the name of one. A record that somebody else has written must not put a file
// with a meaning of its own somewhere, as a start-up script.
func plausible(ops []line, op *line) error {
	wrong := errors.New("no run has moved such a file: it stays; if you trust the record, move it by hand")
	parts := strings.Split(op.Source, "/")
	if slices.Contains(parts, stateDir) {
		return wrong
	}
	stem, ext := stemExt(op.Source)
	hidden := slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(p, ".") })
	if op.Kind != kindSidecar {
		if hidden && !imageio.KnownExtension(op.Source) {
			return wrong
		}
		return nil
	}
	besides := slices.ContainsFunc(ops, func(other line) bool {
		s, _ := stemExt(other.Source)
		return other.Kind != kindSidecar && other.Root == op.Root && s == stem
	})
	if !besides || ext == "" || hidden && !slices.Contains(usual, strings.ToLower(ext)) {
		return wrong
	}
	return nil
}

// put moves a file to its place.
func (r *restoring) put(ctx context.Context, root fsys.Root, name string, op *line) error {
	if err := root.MkdirAll(path.Dir(name)); err != nil {
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
			return errTaken
		}
		return fmt.Errorf("making its folder: %w", err)
	}
	err := fsys.MoveNew(r.from, op.Target, root, name)
	if errors.Is(err, syscall.EXDEV) {
		err = r.copy(ctx, root, name, op)
	}
	if errors.Is(err, fs.ErrExist) { // it came this moment
		return errTaken
	}
	if err == nil {
		r.tidy(path.Dir(op.Target))
	}
	return err
}

func (r *restoring) copy(ctx context.Context, root fsys.Root, name string, op *line) error {
	err := fsys.CopyNew(ctx, r.from, op.Target, root, name, temporary(name), op.SHA256)
	if err != nil {
		return err
	}
	if err := root.SyncFS(); err != nil {
		return fmt.Errorf("making the copy durable; the file is where it was as well: %w", err)
	}
	if _, _, err := read(ctx, r.from, op.Target, op.Size, op.SHA256); err != nil {
		return err
	}
	if err := r.from.Remove(op.Target); err != nil {
		return fmt.Errorf("removing it, after it was copied: %w", err)
	}
	return nil
}

// tidy removes folders that have become empty, upwards.
func (r *restoring) tidy(dir string) {
	for dir != "." && r.from.Remove(dir) == nil {
		dir = path.Dir(dir)
	}
}

// other is for what was not moved: a deleted file cannot come back, and a copy goes when
// that was asked for and what it was made of is there.
func (r *restoring) other(ctx context.Context, op *line, done *Restored) error {
	if op.Action == Delete {
		_, err := r.lookAt(op)
		switch {
		case err == nil || r.left[keyOfNumber(op.Run, op.Job)]:
			return errNothing // it was not deleted, or something is there again
		case absent(err):
			done.Deleted = true
			return nil
		}
		return err
	}
	_, err := r.from.Lstat(op.Target)
	switch {
	case absent(err):
		return errNothing
	case err != nil:
		return err
	case !r.o.Copies:
		done.Copy = true
		return nil
	}
	if _, _, err := read(ctx, r.from, op.Target, op.Size, op.SHA256); err != nil {
		return fmt.Errorf("%s is not the copy that was made (%w): it stays", r.path(op), err)
	}
	root, err := r.folders.existing(op.Root)
	if err == nil {
		_, _, err = read(ctx, root, op.Source, op.Size, op.SHA256)
	}
	if err != nil {
		return fmt.Errorf("it is not there any more as it was copied (%w): the copy stays", err)
	}
	one, err := oneName(op.place(), r.path(op))
	if err == nil && one {
		err = errors.New("the copy and the file are one: it stays")
	}
	if err != nil {
		return err
	}
	if !r.o.DryRun {
		if err := r.from.Remove(op.Target); err != nil {
			return err
		}
		r.tidy(path.Dir(op.Target))
		if err := r.rec.add(line{Event: restored, Run: op.Run, N: op.N, Root: op.Root, Source: op.Source}); err != nil {
			return err
		}
		r.moved++
	}
	done.Removed = true
	return nil
}

func (r *restoring) lookAt(op *line) (fs.FileInfo, error) {
	root, err := r.folders.existing(op.Root)
	if errors.As(err, new(*lostError)) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return root.Lstat(op.Source)
}

// settle makes durable what was done, and then what the record says of it.
func (r *restoring) settle() error {
	for _, root := range r.folders.open {
		if err := root.SyncFS(); err != nil {
			return fmt.Errorf("making it durable: %w", err)
		}
	}
	return r.rec.sync()
}
