package moves

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// begin writes all that is intended and that it is so now, makes that durable, and returns
// where it begins. With another number of pictures to delete than was said nothing is written.
func (a *applying) begin() (from int64, err error) {
	l := line{Event: begun, Run: a.run, Action: a.o.Action, Files: a.n, Images: a.images}
	if a.to != nil {
		l.Folder = a.to.Name()
	}
	if a.o.Action == Delete {
		if err := a.checkCount(); err != nil {
			return 0, err
		}
		l.Confirmed = &a.o.DeleteCount
	}
	if from, err = a.rec.take(a.intents); err != nil {
		return 0, err
	}
	if err := a.rec.add(l); err != nil {
		return 0, err
	}
	return from, a.durable()
}

// durable makes it so what the record says is going to happen.
func (a *applying) durable() error {
	if err := a.rec.sync(); err != nil {
		return err
	}
	if err := a.rec.root.SyncFS(); err != nil {
		return fmt.Errorf("making the record durable: %w", err)
	}
	if a.o.Action != Delete {
		return nil
	}
	// What is kept may be new, and not on the disk yet.
	for _, dir := range a.kept {
		root, err := a.folders.existing(dir)
		if err == nil {
			err = root.SyncFS()
		}
		if err != nil {
			return fmt.Errorf("making what is kept durable: %w", err)
		}
	}
	return nil
}

// checkCount finds that another number of pictures would be deleted than was said.
func (a *applying) checkCount() error {
	said := a.o.DeleteCount
	if a.o.Action != Delete || a.images == 0 || said < 0 || said == a.images || a.confirmed() {
		return nil
	}
	return &CountError{Would: a.images, Said: said}
}

// confirmed tells whether this is the rest of a run that was killed, which was given the
// same number: all that is deleted now, that run was about to delete.
func (a *applying) confirmed() bool {
	h := a.history
	return !h.ended && h.last.Action == Delete && h.last.Confirmed != nil && *h.last.Confirmed == a.o.DeleteCount && a.strange == 0
}

// syncEvery is how many pictures are done between two times that it is made durable
// what was done.
const syncEvery = 64

// act does what the record says from an offset on.
func (a *applying) act(ctx context.Context, from int64) error {
	tried := int64(0)
	err := a.groups(from, a.run, func(ops []line) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if a.o.Stop != nil && a.o.Stop() {
			return ErrStopped
		}
		if err := a.picture(ctx, ops); err != nil {
			return err
		}
		tried++
		if tried%syncEvery != 0 {
			return nil
		}
		return a.settle()
	})
	a.report.Undone = a.images - tried
	switch {
	case err == nil:
		return a.settle()
	case errors.Is(err, ErrStopped):
		return errors.Join(err, a.settle())
	}
	return err
}

// settle makes durable what was done, and then what the record says of it.
func (a *applying) settle() error {
	if a.to != nil {
		if err := a.to.SyncFS(); err != nil {
			return fmt.Errorf("making it durable: %w", err)
		}
	}
	return a.rec.sync()
}

// groups yields what a run intended with each picture.
func (a *applying) groups(from int64, run string, yield func(ops []line) error) error {
	var ops []line
	err := a.rec.lines(from, func(_ int64, l *line) error {
		if l.Run != run || l.Event == begun {
			return errEnough
		}
		if l.Event != intended {
			return nil
		}
		if len(ops) > 0 && ops[0].Job != l.Job {
			if err := yield(ops); err != nil {
				return err
			}
			ops = ops[:0]
		}
		ops = append(ops, *l)
		return nil
	})
	if err == nil && len(ops) > 0 {
		err = yield(ops)
	}
	return err
}

// picture does what is intended with a picture and all that belongs to it. An error is one
// that ends it all.
func (a *applying) picture(ctx context.Context, ops []line) error {
	err := a.look(ctx, ops)
	switch {
	case err != nil:
	case ops[0].Action == Delete:
		err = a.remove(ctx, ops)
	default:
		err = a.bring(ctx, ops)
	}
	if err == nil {
		return nil
	}
	if says(err, notWhole) {
		return a.staysApart(ops, err)
	}
	return a.settled(ops, err)
}

// remove deletes a picture, and what belongs to it after it: no caption goes whose picture
// stays.
func (a *applying) remove(ctx context.Context, ops []line) error {
	// Should this process be killed, what belongs to the picture has no picture.
	if err := a.rec.add(line{Event: doing, Run: a.run, N: ops[0].N, Job: ops[0].Job}); err != nil {
		return err
	}
	if err := a.rec.flush(); err != nil {
		return err
	}
	for i := range ops {
		err := a.removeFile(ctx, ops[i:i+1])
		if err != nil && i > 0 {
			return a.staysApart(ops, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settled puts down that a picture was left alone, or returns the error that ends it all.
func (a *applying) settled(ops []line, err error) error {
	var l *leftError
	if err == nil || !errors.As(err, &l) {
		return err
	}
	if lost := a.folders.lost(); lost != nil {
		return lost
	}
	a.left(ops[0].place(), err)
	return a.rec.add(line{Event: left, Run: ops[0].Run, N: ops[0].N, Job: ops[0].Job, Why: l.Error()})
}

// staysApart is settled for a picture from which something that belongs to it is apart. The line
// has no number, which would say that the picture is in its place.
func (a *applying) staysApart(ops []line, err error) error {
	if errors.As(err, new(*leftError)) {
		if a.apart[ops[0].place()] {
			return nil // several runs had begun with it
		}
		a.apart[ops[0].place()] = true
	}
	picture := ops[0]
	picture.N = 0
	return a.settled([]line{picture}, err)
}

// look makes sure that all files of a picture are still as they were when it was written
// down what is going to happen to them, and that its keeper is there.
func (a *applying) look(ctx context.Context, ops []line) error {
	for i := range ops {
		err := a.asBefore(ctx, &ops[i])
		if i > 0 && err != nil {
			err = ofIts("file", ops[i].place(), err)
		}
		if err != nil {
			return err
		}
	}
	return checkKeeper(ctx, &ops[0], true)
}

func (a *applying) asBefore(ctx context.Context, op *line) error {
	root, err := a.folders.existing(op.Root)
	if err != nil {
		return err
	}
	info, err := look(root, op.Source, op.Size)
	if err != nil {
		return err
	}
	if op.Action == Delete || info.ModTime().UnixNano() != op.Time {
		_, _, err = read(ctx, root, op.Source, op.Size, op.SHA256)
	}
	return err
}

// removeFile deletes one file.
func (a *applying) removeFile(ctx context.Context, op []line) error {
	root, err := a.folders.existing(op[0].Root)
	if err == nil {
		err = root.Remove(op[0].Source)
	}
	if err != nil {
		return a.about(ctx, &op[0], err)
	}
	return a.did(op)
}

// did counts what was done, and puts it down.
func (a *applying) did(ops []line) error {
	for i := range ops {
		op := &ops[i]
		a.report.Files++
		a.report.Bytes += op.Size
		if op.Kind == kindImage {
			a.report.Images++
		}
		if err := a.rec.add(line{Event: done, Run: op.Run, N: op.N}); err != nil {
			return err
		}
	}
	return nil
}

// about is fault, and says which file of a picture it is about.
func (a *applying) about(ctx context.Context, op *line, err error) error {
	if err = a.fault(ctx, err); op.Kind != kindImage {
		err = ofIts("file", op.place(), err)
	}
	return err
}

// fault makes of what the system says an error that ends it all, or one that leaves a
// picture alone.
func (a *applying) fault(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, new(*leftError)), errors.As(err, new(*lostError)), errors.As(err, new(*noLinkError)), fsys.IsFatal(err):
		return err
	case errors.Is(err, fs.ErrExist):
		return leave(nameTaken)
	case errors.Is(err, fsys.ErrDiffers):
		return leavef(notTheSame, "while it was copied its bytes were others")
	case absent(err):
		if lost := a.folders.lost(); lost != nil {
			return lost
		}
	}
	return leavef(notDone, "%v", err)
}

// temporary is the name that a file has until it is whole. It is always the same, so
// that what a killed process left is not in the way for ever.
func temporary(target string) string {
	id := sha256.Sum256([]byte(target))
	return path.Join(path.Dir(target), ".forgepipe-move-"+hex.EncodeToString(id[:8])+".tmp")
}
