package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

var errTaken = errors.New("something else is there already: it stays in the trash; move that away, or restore to another folder")

// place moves one file. to is nil in a dry run into a folder that is not there.
func (r *restoring) place(ctx context.Context, root, to fsys.Root, done *Restored) error {
	if slices.Contains(strings.Split(done.Name, "/"), stateDirName) {
		return errors.New("its place would be in a state directory: it was not forgepipe that moved it to the trash")
	}
	if r.o.To == "" && r.history != nil {
		_, row, ok, err := r.history.byOutput(ctx, done.To, false)
		if err != nil {
			return err
		}
		if ok && row.Kind == runstore.Written {
			done.Wanted = true
			if done.regular {
				h, err := hashFile(root, done.moved)
				done.Wanted = err != nil || h != row.Hash
			}
			done.Recorded = !done.Wanted
		}
	}
	taken := false
	if to != nil {
		_, err := to.Lstat(done.at)
		switch {
		case err == nil:
			taken = true
		case errors.Is(err, syscall.ENOTDIR): // a file is where its folder was
			return errTaken
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if taken {
		return r.compare(root, to, done)
	}
	if r.o.DryRun {
		return nil
	}
	if err := to.MkdirAll(path.Dir(done.at)); err != nil {
		return fmt.Errorf("making its folder: %w", err)
	}
	err := fsys.MoveNew(root, done.moved, to, done.at)
	if errors.Is(err, syscall.EXDEV) {
		err = r.copy(ctx, root, to, done)
	}
	if errors.Is(err, fs.ErrExist) { // it came this moment
		return errTaken
	}
	if err != nil {
		return err
	}
	leave(root, path.Dir(done.moved))
	return nil
}

// compare finds out whether what is in a file's place is the same.
func (r *restoring) compare(root, to fsys.Root, done *Restored) error {
	there, err := to.Lstat(done.at)
	if err != nil {
		return err
	}
	if !done.regular || !there.Mode().IsRegular() || done.Size != there.Size() {
		return errTaken
	}
	h, err := hashFile(root, done.moved)
	if err != nil {
		return err
	}
	other, err := hashFile(to, done.at)
	if err != nil {
		return err
	}
	if h != other {
		return errTaken
	}
	done.Same = true
	return nil
}

// leave removes folders of the trash that have become empty, upwards.
func leave(root fsys.Root, dir string) {
	for dir != trashName && strings.HasPrefix(dir, trashName+"/") && root.Remove(dir) == nil {
		dir = path.Dir(dir)
	}
}

// copy is for a folder on another file system: the file is there under another
// name, durable and compared, before it gets its own, and before the one in the
// trash goes.
func (r *restoring) copy(ctx context.Context, root, to fsys.Root, done *Restored) error {
	if !done.regular {
		return errors.New("it is no regular file, and the folder is on another file system")
	}
	// The name is always the same, so that what a killed process left is not in the
	// way for ever.
	id := sha256.Sum256([]byte(done.at))
	temp := path.Join(path.Dir(done.at), tempPrefix+"restore-"+hex.EncodeToString(id[:8])+".tmp")
	err := fsys.CopyNew(ctx, root, done.moved, to, done.at, temp, [32]byte{})
	if errors.Is(err, fsys.ErrDiffers) {
		err = fmt.Errorf("%w: it stays in the trash", err)
	}
	if err != nil {
		return err
	}
	if err := to.SyncFS(); err != nil {
		return fmt.Errorf("making the copy durable; the file is in the trash as well: %w", err)
	}
	if err := root.Remove(done.moved); err != nil {
		return fmt.Errorf("removing it from the trash, after it was copied: %w", err)
	}
	return nil
}
