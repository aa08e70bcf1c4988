package imageio

import (
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// turbo is libturbojpeg, opened at run time, so that the program is built
// without C and runs without the library, only slower. It uses the functions of
// TurboJPEG 2, which version 3 still has.
//
// The library reads and writes Go memory during a call only, and every size that
// it is told has been checked against the slice that is meant.
type turbo struct {
	version string // "2.1.5", or what is known instead
	path    string

	initDecompress    func() uintptr
	initCompress      func() uintptr
	destroy           func(handle uintptr) int32
	errorText         func(handle uintptr) string
	errorCode         func(handle uintptr) int32
	decompressHeader3 func(handle uintptr, data *byte, size uint, width, height, subsampling, colours *int32) int32
	decompress2       func(handle uintptr, data *byte, size uint, dst *byte, width, pitch, height, format, flags int32) int32
	compress2         func(handle uintptr, src *byte, width, pitch, height, format int32, out **byte, size *uint, subsampling, quality, flags int32) int32
	free              func(*byte)
}

// From turbojpeg.h.
const (
	turboGray        = 6       // TJPF_GRAY
	turboRGBA        = 7       // TJPF_RGBA
	turboCMYK        = 11      // TJPF_CMYK
	turboAccurateDCT = 4096    // TJFLAG_ACCURATEDCT
	turboStrict      = 8192    // TJFLAG_STOPONWARNING
	turboWarning     = 0       // TJERR_WARNING
	turboMaxSide     = 65500   // JPEG_MAX_DIMENSION
	turboEighths     = 8       // scales are n/8
	turboScratch     = 1 << 18 // tables and row buffers of a small image, of either decoder
)

// turboVariable names a library to open, or says "off".
const turboVariable = "FORGEPIPE_TURBOJPEG"

// turboLibrary opens the library once, or tells why it is not used. Tests
// replace it.
var turboLibrary = sync.OnceValues(func() (*turbo, error) { return openTurbo(os.Getenv(turboVariable)) })

// JPEGLibrary tells what decodes and encodes JPEG. With libturbojpeg, name holds
// its version, path is the file and the error is nil. Otherwise name is the
// standard library's package, which is about five times slower, and the error
// says why and what to do about it.
func JPEGLibrary() (name, path string, err error) {
	t, err := turboLibrary()
	if err != nil {
		return "image/jpeg " + runtime.Version(), "", err
	}
	return "libturbojpeg " + t.version, t.path, nil
}

func openTurbo(wanted string) (*turbo, error) {
	names := []string{"libturbojpeg.so.0", "libturbojpeg.so"}
	switch wanted {
	case "":
	case "off":
		return nil, fmt.Errorf("libturbojpeg is switched off: unset %s to use it", turboVariable)
	default:
		names = []string{wanted}
	}
	var lib uintptr
	var first error
	for _, name := range names {
		var err error
		if lib, err = purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL); err == nil {
			break
		}
		first = errors.Join(first, err)
	}
	if lib == 0 {
		if wanted != "" {
			return nil, fmt.Errorf("opening the libturbojpeg that %s names: %w", turboVariable, first)
		}
		return nil, fmt.Errorf("libturbojpeg was not found (%w): install it with apt-get install libturbojpeg0, or name it in %s", first, turboVariable)
	}
	t := &turbo{path: loadedPath(lib)}
	var scales func(n *int32) unsafe.Pointer
	for _, f := range []struct {
		name string
		fn   any
	}{
		{"tjInitDecompress", &t.initDecompress},
		{"tjInitCompress", &t.initCompress},
		{"tjDestroy", &t.destroy},
		{"tjGetErrorStr2", &t.errorText},
		{"tjGetErrorCode", &t.errorCode},
		{"tjDecompressHeader3", &t.decompressHeader3},
		{"tjDecompress2", &t.decompress2},
		{"tjCompress2", &t.compress2},
		{"tjFree", &t.free},
		{"tjGetScalingFactors", &scales},
	} {
		at, err := purego.Dlsym(lib, f.name)
		if err != nil {
			return nil, fmt.Errorf("%s has no function %s: install libturbojpeg 2.0 or newer (%w)", t.path, f.name, err)
		}
		purego.RegisterFunc(f.fn, at)
	}
	if !hasEighths(scales) {
		return nil, fmt.Errorf("%s cannot scale by eighths: install libturbojpeg 2.0 or newer", t.path)
	}
	t.version = turboVersion(t.path)
	return t, nil
}

// hasEighths tells whether every n/8 up to 1 is among the scaling factors.
func hasEighths(scales func(n *int32) unsafe.Pointer) bool {
	var n int32
	p := scales(&n)
	if p == nil || n <= 0 || n > 64 {
		return false
	}
	found := 0
	for _, s := range unsafe.Slice((*[2]int32)(p), n) {
		if s[1] > 0 && s[0] > 0 && s[0] <= s[1] && 8%s[1] == 0 {
			found++
		}
	}
	return found >= turboEighths
}

// loadedPath finds the file that was loaded in the list of this process's
// mappings, because the loader searched for it by name.
func loadedPath(lib uintptr) string {
	at, err := purego.Dlsym(lib, "tjInitDecompress")
	maps, mapsErr := os.ReadFile("/proc/self/maps")
	if err != nil || mapsErr != nil {
		return "libturbojpeg"
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err == nil && from <= at && at < to {
			if i := strings.IndexByte(line, '/'); i >= 0 {
				return strings.TrimSuffix(line[i:], "\n")
			}
		}
	}
	return "libturbojpeg"
}

var turboVersionText = regexp.MustCompile(`libjpeg-turbo version ([0-9][0-9.]*[0-9])`)

// turboVersion reads the version that libjpeg-turbo leaves in its file, since no
// function tells it. Without that, the file's name has at least the version of
// the interface.
func turboVersion(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "of unknown version"
	}
	if m := turboVersionText.FindSubmatch(data); m != nil {
		return string(m[1])
	}
	return "of unknown version, " + filepath.Base(path)
}

// handle opens what one call works with. It is not kept for the next: a
// decompressor remembers tables, and would decode a file that lacks its own with
// those of the file before.
func (t *turbo) handle(open func() uintptr) (uintptr, error) {
	h := open()
	if h == 0 {
		return 0, errors.New("libturbojpeg gave no handle: there is no memory left for it")
	}
	return h, nil
}

// turboError is what the library says of a file.
type turboError struct {
	text    string
	warning bool // there are pixels all the same
}

func (e *turboError) Error() string { return "libturbojpeg: " + e.text }

func (t *turbo) failure(handle uintptr) *turboError {
	text := strings.TrimSpace(t.errorText(handle))
	return &turboError{text: text, warning: t.errorCode(handle) == turboWarning}
}

// decompress decodes a JPEG that is stored with size full, scaled to size, into
// dst, whose rows have no padding. An error of the library is a *turboError. With
// turboStrict in flags its first warning ends the work.
func (t *turbo) decompress(dst, data []byte, full, size image.Point, format, flags int32) error {
	bpp := 4
	if format == turboGray {
		bpp = 1
	}
	if len(data) == 0 || size.X <= 0 || size.Y <= 0 || size.X > turboMaxSide || size.Y > turboMaxSide || len(dst) < size.X*size.Y*bpp {
		panic("BUG: imageio: a buffer for libturbojpeg is too small")
	}
	handle, err := t.handle(t.initDecompress)
	if err != nil {
		return err
	}
	defer t.destroy(handle)
	// What went wrong is kept partly by thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	// Only the size is of interest: an unusual chroma subsampling fails here, with
	// the size told, and is decoded all the same.
	var w, h, subsampling, colours int32
	if t.decompressHeader3(handle, &data[0], uint(len(data)), &w, &h, &subsampling, &colours) != 0 && (w == 0 || h == 0) {
		return t.failure(handle)
	}
	if told := image.Pt(int(w), int(h)); told != full {
		return fmt.Errorf("the header says %v and libturbojpeg %v: the file is corrupt", full, told)
	}
	rc := t.decompress2(handle, &data[0], uint(len(data)), &dst[0], int32(size.X), int32(size.X*bpp), int32(size.Y), format, turboAccurateDCT|flags)
	runtime.KeepAlive(data)
	runtime.KeepAlive(dst)
	if rc != 0 {
		return t.failure(handle)
	}
	return nil
}

// compress writes pixels as JPEG through write, which must not keep what it is
// given.
func (t *turbo) compress(pix []byte, width, pitch, height int, format, subsampling, quality int32, write func([]byte) error) error {
	bpp := 4
	if format == turboGray {
		bpp = 1
	}
	if width <= 0 || height <= 0 || pitch < width*bpp || len(pix) < (height-1)*pitch+width*bpp {
		panic("BUG: imageio: a buffer for libturbojpeg is too small")
	}
	handle, err := t.handle(t.initCompress)
	if err != nil {
		return err
	}
	defer t.destroy(handle)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var out *byte
	var size uint
	rc := t.compress2(handle, &pix[0], int32(width), int32(pitch), int32(height), format, &out, &size, subsampling, quality, turboAccurateDCT)
	runtime.KeepAlive(pix)
	if out != nil {
		defer t.free(out)
	}
	if rc != 0 {
		return t.failure(handle)
	}
	return write(unsafe.Slice(out, size))
}

// damage is the error that a warning of the library amounts to. Some say nothing
// against the pixels, such as that there are bytes between two segments: then it
// is nil.
func damage(warning *turboError) error {
	text := strings.TrimPrefix(warning.text, "Corrupt JPEG data: ")
	switch {
	case strings.HasPrefix(text, "Premature end of"): // the file, or what there is of it
		return errShort
	case strings.HasPrefix(text, "premature end of data segment"),
		strings.HasPrefix(text, "bad Huffman code"),
		strings.HasPrefix(text, "found marker"): // instead of a restart marker
		return fmt.Errorf("the file is corrupt: %s", text)
	}
	return nil
}
