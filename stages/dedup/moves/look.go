package moves

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// leftError is why a picture is left alone: a text that many share, and what is
// particular of this one.
type leftError struct{ text, detail string }

func (e *leftError) Error() string {
	if e.detail == "" {
		return e.text
	}
	return e.text + ": " + e.detail
}

func leave(text string) error { return &leftError{text: text} }

func leavef(text, format string, args ...any) error {
	return &leftError{text, fmt.Sprintf(format, args...)}
}

// says tells whether an error leaves a picture alone for that reason.
func says(err error, text string) bool {
	var l *leftError
	return errors.As(err, &l) && l.text == text
}

const (
	notThere     = "it is not there any more"
	notTheSame   = "it is not the file that the run saw"
	isLink       = "it is a symbolic link: the picture lies elsewhere"
	noKeeper     = "its keeper is not there any more"
	otherKeeper  = "its keeper is not the file that the run saw"
	keeperItself = "it and its keeper are one file"
	noKeeperEver = "it was rejected without a keeper, so it is not deleted"
	keeperAway   = "its keeper is not in a file here, so it is not deleted"
	nameTaken    = "its name was taken meanwhile: run again"
	notDone      = "it could not be done"
	notWhole     = "it could not be done, and not undone with all that belongs to it: run again, or restore"
	notRead      = "it cannot be read"
	keeperUnread = "its keeper cannot be read"

	otherIndexed  = "its keeper is not the file that was added to the index"
	keeperNowhere = "its keeper is in an index that does not know its file, so it is not deleted"
)

// absent tells whether nothing has that name.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// folders are open directories, by their paths.
type folders struct {
	files fsys.FS
	open  map[string]fsys.Root
}

// lostError says that a folder is gone, so that the rest is pointless.
type lostError struct{ dir string }

func (e *lostError) Error() string { return "the folder " + e.dir + " is gone: is its disk there?" }

// existing opens a directory that must be there: opening would make it.
func (f *folders) existing(dir string) (fsys.Root, error) {
	if r := f.open[dir]; r != nil {
		return r, nil
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if absent(err) {
		return nil, &lostError{dir}
	}
	if err != nil {
		return nil, err
	}
	return f.make(dir)
}

// make opens a directory, and makes it if it is missing.
func (f *folders) make(dir string) (fsys.Root, error) {
	if r := f.open[dir]; r != nil {
		return r, nil
	}
	r, err := f.files.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder: %w", err)
	}
	f.open[dir] = r
	return r, nil
}

// lost is an error when one of the folders is not where it was opened any more.
func (f *folders) lost() error {
	for dir := range f.open {
		if _, err := os.Stat(dir); absent(err) {
			return &lostError{dir}
		}
	}
	return nil
}

func (f *folders) close() {
	for _, r := range f.open {
		_ = r.Close()
	}
}

// rootOf splits a file's path into its source's root and the name below it.
func rootOf(file, source string) (root, name string) {
	if dir, ok := strings.CutSuffix(file, "/"+source); ok && source != "" {
		return filepath.Clean(dir + "/"), source
	}
	return filepath.Dir(file), filepath.Base(file)
}

// stemExt splits a file's name as sources do: a leading dot belongs to the stem.
func stemExt(name string) (stem, ext string) {
	if ext = path.Ext(name); ext == path.Base(name) {
		return name, ""
	}
	return strings.TrimSuffix(name, ext), ext
}

// look makes sure that a name is a regular file of that size, and not a link to one.
func look(root fsys.Root, name string, size int64) (fs.FileInfo, error) {
	info, err := root.Lstat(name)
	switch {
	case absent(err):
		return nil, leave(notThere)
	case err != nil:
		return nil, leavef(notDone, "%v", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, leave(isLink)
	case !info.Mode().IsRegular():
		return nil, leavef(notTheSame, "it is %s", fsys.KindOf(info.Mode()))
	case info.Size() != size:
		return nil, leavef(notTheSame, "it has %d bytes, and had %d", info.Size(), size)
	}
	return info, nil
}

// read is look, and reads the file: want, if it is not zero, must be its hash.
func read(ctx context.Context, root fsys.Root, name string, size int64, want sum) (fs.FileInfo, sum, error) {
	before, err := look(root, name, size)
	if err != nil {
		return nil, sum{}, err
	}
	got, err := fsys.Hash(ctx, root, name)
	switch {
	case ctx.Err() != nil:
		return nil, got, ctx.Err()
	case absent(err):
		return nil, got, leave(notThere)
	case err != nil:
		return nil, got, leavef(notRead, "%v", err)
	case want != sum{} && want != got:
		return nil, got, leavef(notTheSame, "its bytes are others")
	}
	after, err := look(root, name, size)
	if err == nil && !unchanged(before, after) {
		err = leavef(notTheSame, "somebody is writing to it")
	}
	return after, got, err
}

func unchanged(a, b fs.FileInfo) bool {
	return sameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func sameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) }

// holds tells whether a name is a regular file with these bytes.
func holds(ctx context.Context, root fsys.Root, name string, size int64, want [32]byte) bool {
	_, _, err := read(ctx, root, name, size, want)
	return err == nil
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink) //nolint:unconvert // it is narrower elsewhere
	}
	return 1
}

// oneName tells whether two paths are one name of one file, so that what is done to one
// is done to the other: the same path, by way of links between folders or of folders
// mounted twice, or spelled otherwise where capitals do not count. Two hard links are
// two names.
func oneName(a, b string) (bool, error) {
	a, err := filepath.EvalSymlinks(a)
	if err != nil {
		return false, err
	}
	if b, err = filepath.EvalSymlinks(b); err != nil {
		return false, err
	}
	ia, err := os.Lstat(a)
	if err != nil {
		return false, err
	}
	ib, err := os.Lstat(b)
	if err != nil {
		return false, err
	}
	switch {
	case a == b:
		return true, nil
	case !os.SameFile(ia, ib):
		return false, nil
	case links(ia) < 2:
		return true, nil
	}
	da, err := os.Stat(filepath.Dir(a))
	if err != nil {
		return false, err
	}
	db, err := os.Stat(filepath.Dir(b))
	return os.SameFile(da, db) && strings.EqualFold(filepath.Base(a), filepath.Base(b)), err
}

// checkKeeper makes sure that the picture that is kept is there and is another file, and puts
// down how large it is, if that was not known. Without full its bytes are not compared.
func checkKeeper(ctx context.Context, l *line, full bool) error {
	err := lookAtKeeper(ctx, l, full)
	var why *leftError
	if l.KeeperOf == "" || !errors.As(err, &why) {
		return err
	}
	of := &leftError{why.text, l.Keeper + " of the index " + l.KeeperOf}
	if why.text == otherKeeper {
		of.text = otherIndexed
	}
	if l.KeeperPath != "" {
		of.detail += ", " + l.KeeperPath
	}
	if why.detail != "" {
		of.detail += ": " + why.detail
	}
	return of
}

func lookAtKeeper(ctx context.Context, l *line, full bool) error {
	unknown := l.KeeperPath == "" || l.KeeperSize < 0 && l.KeeperSum == sum{}
	if unknown && l.Action == Delete {
		switch {
		case l.Keeper == "":
			return leave(noKeeperEver)
		case l.KeeperOf != "":
			return leave(keeperNowhere)
		}
		return leave(keeperAway)
	}
	if l.KeeperPath == "" {
		return nil
	}
	info, err := os.Stat(l.KeeperPath)
	switch {
	case absent(err):
		return leave(noKeeper)
	case err != nil:
		return leavef(noKeeper, "%v", err)
	case !info.Mode().IsRegular():
		return leavef(otherKeeper, "it is %s", fsys.KindOf(info.Mode()))
	case l.KeeperSize >= 0 && info.Size() != l.KeeperSize:
		return leavef(otherKeeper, "it has %d bytes, and had %d", info.Size(), l.KeeperSize)
	}
	one := false
	if _, gone := os.Lstat(l.place()); !absent(gone) { // what belongs to one that is gone asks, too
		one, err = oneName(l.place(), l.KeeperPath)
	}
	switch {
	case err != nil:
		return leavef(noKeeper, "%v", err)
	case one:
		return leave(keeperItself)
	case !full, l.Action != Delete && l.KeeperSize >= 0, l.KeeperSum == sum{}:
		return nil
	}
	// Through a link, if it is one: that is what the run read.
	got, err := hashFile(ctx, l.KeeperPath)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return leavef(keeperUnread, "%v", err)
	case got != l.KeeperSum:
		return leavef(otherKeeper, "its bytes are others")
	}
	l.KeeperSize = info.Size()
	return nil
}

// hashFile is the hash of a file that a path leads to.
func hashFile(ctx context.Context, file string) (got sum, err error) {
	// O_NONBLOCK: should it have become a named pipe, nothing waits for it.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return got, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<18)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return sum(h.Sum(nil)), nil
		}
		if err != nil {
			return got, err
		}
	}
	return got, ctx.Err()
}
