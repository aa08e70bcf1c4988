//go:build linux && cgo && !noort

package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/internal/ort/ortlib"
)

const (
	cacheFolder = "forgepipe"
	libraryFile = "libonnxruntime.so"
	staleAfter  = time.Hour // for what another process was writing when it died
)

// unpack opens the embedded library from a file in the user's cache directory,
// which it writes when it is not there as it should be. Where that cannot be (no
// home, nothing may be written there, or no code run from there), the library is
// opened from memory, where each process has 35 MB of its own.
func unpack(open func(path string) error) error {
	if ortlib.Blob == "" {
		return fmt.Errorf("this program has ONNX Runtime's library for linux/amd64 only: name one for this machine in %s", LibraryVariable)
	}
	path, err := cached()
	if err == nil {
		if err = open(path); err == nil {
			return nil
		}
	}
	path, memErr := inMemory()
	if memErr == nil {
		if memErr = open(path); memErr == nil {
			return nil
		}
	}
	return fmt.Errorf("unpacking ONNX Runtime's library: in the cache directory: %w; in memory: %w; name a library to use instead in %s",
		err, memErr, LibraryVariable)
}

// cached gives the library's file in the cache directory.
func cached() (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	ours := filepath.Join(root, cacheFolder)
	dir := filepath.Join(ours, "ort-"+ortlib.Version+"-"+ortlib.SHA256[:12])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// Who may write to one of these could put code into this process.
	for _, d := range []string{root, ours, dir} {
		if err := trusted(d, d == root); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, libraryFile)
	if intact(path) {
		return path, nil
	}
	removeStale(dir)
	if err := write(path); err != nil {
		return "", err
	}
	return path, nil
}

// trusted tells whether nobody but this user, and root, may change what is in dir.
// The root of the cache may be a folder for all, such as /tmp, in which each may
// change only his own.
func trusted(dir string, root bool) error {
	info, err := os.Lstat(dir)
	if root && err == nil {
		info, err = os.Stat(dir) // a link that the user has set is as good as its target
	}
	if err != nil {
		return err
	}
	mode := info.Mode()
	switch {
	case !mode.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case root && mode&fs.ModeSticky != 0:
		return nil
	case !owned(info) || mode.Perm()&0o022 != 0:
		return fmt.Errorf("others may write to %s, so that no code is run from there: chmod go-w it", dir)
	}
	return nil
}

func owned(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// intact tells whether the file at path is the library, and only this user's.
func intact(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !owned(info) || info.Mode().Perm()&0o022 != 0 || info.Size() != ortlib.Size {
		return false
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return false
	}
	return hex.EncodeToString(h.Sum(nil)) == ortlib.SHA256
}

// write puts the library at path at once and whole, whoever else does the same.
func write(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), libraryFile+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	if err := errors.Join(decompress(f), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", f.Name(), err)
	}
	return os.Rename(f.Name(), path)
}

// removeStale removes what a process left that died while it wrote.
func removeStale(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasSuffix(e.Name(), ".tmp") && time.Since(info.ModTime()) > staleAfter {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// decompress writes the library to w.
func decompress(w io.Writer) error {
	r, err := zstd.NewReader(strings.NewReader(ortlib.Blob), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), r); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != ortlib.SHA256 {
		return fmt.Errorf("the library inside the program has sha256 %s instead of %s: build the program again", got, ortlib.SHA256)
	}
	return nil
}

// inMemory gives the library's path as a file in memory, which stays open: the
// path is good for as long as it is.
func inMemory() (string, error) {
	const name = "forgepipe-onnxruntime"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC is known from Linux 6.3 on, and is what is meant before
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return "", fmt.Errorf("making a file in memory: %w", err)
	}
	// An *os.File would close it some day.
	if err := decompress(descriptor(fd)); err != nil {
		unix.Close(fd) //nolint:errcheck // the other error is what matters
		return "", err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd) //nolint:errcheck // the other error is what matters
		return "", fmt.Errorf("sealing the file in memory: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}

// descriptor is a file that is written to by its number.
type descriptor int

func (d descriptor) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := unix.Write(int(d), p[written:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}
