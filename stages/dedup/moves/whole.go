package moves

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// bring puts the files of a picture into the folder: all of them or, if that cannot be, none.
// The picture comes last, and nothing that must be copied goes from its place before all is
// copied and is on the disk.
func (a *applying) bring(ctx context.Context, ops []line) error {
	mine := make([]bool, len(ops))
	if err := a.put(ctx, ops, mine); err != nil {
		// To a process that is to end at once the same happens as to one that is killed.
		if ctx.Err() == nil {
			err = besides(err, a.undo(ctx, ops, mine))
		}
		return err
	}
	return a.did(ops)
}

func (a *applying) put(ctx context.Context, ops []line, mine []bool) error {
	roots, seen := make([]fsys.Root, len(ops)), make([]fs.FileInfo, len(ops))
	copied := false
	for i := len(ops) - 1; i >= 0; i-- {
		var both bool
		var err error
		if roots[i], err = a.folders.existing(ops[i].Root); err == nil {
			mine[i], both, err = a.into(ctx, roots[i], &ops[i])
		}
		if err != nil {
			return a.about(ctx, &ops[i], err)
		}
		if both && ops[i].Action == Move {
			copied = true
			continue
		}
		roots[i] = nil // it is where it should be
	}
	if !copied {
		return nil
	}
	if err := a.to.SyncFS(); err != nil {
		return a.fault(ctx, fmt.Errorf("making copies durable; the files are in their place as well: %w", err))
	}
	for i := range ops {
		if roots[i] == nil {
			continue
		}
		var err error
		if seen[i], _, err = read(ctx, roots[i], ops[i].Source, ops[i].Size, ops[i].SHA256); err != nil {
			return a.about(ctx, &ops[i], err)
		}
	}
	for i := len(ops) - 1; i >= 0; i-- {
		if roots[i] == nil {
			continue
		}
		now, err := look(roots[i], ops[i].Source, ops[i].Size)
		if err == nil && !unchanged(now, seen[i]) {
			err = leavef(notTheSame, "somebody is writing to it")
		}
		if err == nil {
			err = roots[i].Remove(ops[i].Source)
		}
		if err != nil {
			return a.about(ctx, &ops[i], err)
		}
	}
	return nil
}

// into puts a file into the folder: mine says that it was not there before, and both that it
// is in its place as well.
func (a *applying) into(ctx context.Context, root fsys.Root, op *line) (mine, both bool, err error) {
	if err := a.to.MkdirAll(path.Dir(op.Target)); err != nil {
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
			err = leavef(notDone, "a file is where its folder would be")
		}
		return false, false, err
	}
	switch op.Action {
	case Hardlink:
		return a.link(root, op)
	case Move:
		if err = fsys.MoveNew(root, op.Source, a.to, op.Target); err == nil {
			return true, false, nil
		}
	default:
		err = syscall.EXDEV // it is copied
	}
	if errors.Is(err, syscall.EXDEV) {
		err = fsys.CopyNew(ctx, root, op.Source, a.to, op.Target, temporary(op.Target), op.SHA256)
	}
	if err == nil {
		return true, true, nil
	}
	if !errors.Is(err, fs.ErrExist) || !holds(ctx, a.to, op.Target, op.Size, op.SHA256) {
		return false, false, err
	}
	// A process may have been killed when it had copied the file.
	if op.Action == Move {
		one, err := oneName(op.place(), filepath.Join(a.to.Name(), filepath.FromSlash(op.Target)))
		if err == nil && one {
			err = leavef(notDone, "it lies in the folder that it would go to")
		}
		if err != nil {
			return false, false, err
		}
	}
	return false, true, nil
}

// noLinkError says that a file cannot have a second name in the folder.
type noLinkError struct{ file, folder string }

func (e *noLinkError) Error() string {
	return fmt.Sprintf("%s cannot have a second name in %s, which may be on another file system: take action: copy", e.file, e.folder)
}

func (a *applying) link(root fsys.Root, op *line) (mine, both bool, err error) {
	err = fsys.LinkNew(root, op.Source, a.to, op.Target)
	switch {
	case err == nil:
		return true, true, nil
	case errors.Is(err, syscall.EXDEV):
		return false, false, &noLinkError{op.place(), a.to.Name()}
	case !errors.Is(err, fs.ErrExist):
		return false, false, err
	}
	// It may be one that an earlier run made.
	one, lerr := root.Lstat(op.Source)
	if lerr != nil {
		return false, false, lerr
	}
	if other, lerr := a.to.Lstat(op.Target); lerr == nil && sameFile(one, other) {
		return false, true, nil
	}
	return false, false, err
}

// undo leaves the files of a picture in their places, and takes away again what is mine in the
// folder. Where a file cannot be read any more, its copy stays.
func (a *applying) undo(ctx context.Context, ops []line, mine []bool) error {
	_, err := a.putBack(ctx, ops)
	if err != nil {
		err = leavef(notWhole, "%v", err)
	}
	for i := range ops {
		op := &ops[i]
		root, rerr := a.folders.existing(op.Root)
		if mine[i] && rerr == nil && holds(ctx, root, op.Source, op.Size, op.SHA256) && holds(ctx, a.to, op.Target, op.Size, op.SHA256) {
			_ = a.to.Remove(op.Target) // else it is there twice, and the next run knows it
		}
	}
	return err
}

// putBack brings what was moved of a picture back to its place, as the picture is in its own,
// and returns what came.
func (a *applying) putBack(ctx context.Context, ops []line) (came []line, first error) {
	for i := range ops {
		op := &ops[i]
		if op.Action != Move {
			continue
		}
		root, err := a.folders.existing(op.Root)
		if err == nil {
			if _, err = root.Lstat(op.Source); err == nil {
				continue
			}
		}
		_, _, there := read(ctx, a.to, op.Target, op.Size, op.SHA256)
		if says(there, notThere) || says(there, notTheSame) || says(there, isLink) {
			continue
		}
		switch {
		case root != nil && !absent(err): // nobody knows what is there
		case root != nil && there != nil:
			err = there
		case root != nil:
			if err = a.back(ctx, root, op); err == nil {
				came = append(came, *op)
			}
		}
		if err != nil && first == nil {
			first = fmt.Errorf("%s is in %s: %w", op.place(), a.to.Name(), err)
		}
	}
	return came, first
}

// besides is what to say of a picture when also undoing what was done of it failed.
func besides(err, undoing error) error {
	var why, l *leftError
	if !errors.As(err, &why) || !errors.As(undoing, &l) {
		return err
	}
	return leavef(l.text, "%s; at first %s", l.detail, why.Error())
}

func (a *applying) back(ctx context.Context, root fsys.Root, op *line) error {
	err := fsys.MoveNew(a.to, op.Target, root, op.Source)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := fsys.CopyNew(ctx, a.to, op.Target, root, op.Source, temporary(op.Source), op.SHA256); err != nil {
		return err
	}
	if err := root.SyncFS(); err != nil {
		return fmt.Errorf("making the copy durable: %w", err)
	}
	_ = a.to.Remove(op.Target) // else it is there twice, and the next run knows it
	return nil
}
