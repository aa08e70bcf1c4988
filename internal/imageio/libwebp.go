package imageio

import (
	"errors"
	"fmt"
	"image"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// libwebp is opened at run time, like libturbojpeg, so that the program is built
// without C. Encoders in Go were left aside: they are young or lossless only, or
// carry the same C code in a WebAssembly runtime that is slower and larger.
//
// Structures are those of encode.h. The library checks that their layout is the
// one that it was built with (webpABI).
type libwebp struct {
	version string

	initConfig   func(config *webpConfig, preset int32, quality float32, abi int32) int32
	checkConfig  func(config *webpConfig) int32
	initPicture  func(picture *webpPicture, abi int32) int32
	allocPicture func(picture *webpPicture) int32
	freePicture  func(picture *webpPicture)
	encodeAll    func(config *webpConfig, picture *webpPicture) int32
	initMemory   func(memory *webpMemory)
	clearMemory  func(memory *webpMemory)
	writeMemory  uintptr // a webpPicture's writer
}

// From encode.h: only the part above the lowest byte must agree.
const webpABI = 0x020f

// webpConfig is WebPConfig, and some space in case a later version has more.
type webpConfig struct {
	lossless int32
	quality  float32
	method   int32
	_        [21]int32
	exact    int32
	_        [4]int32
	_        [64]int32
}

// webpPicture is WebPPicture.
type webpPicture struct {
	useARGB       int32
	_             int32 // colourspace
	width, height int32
	_             [3]*byte // y, u, v
	_             [2]int32
	_             *byte // a
	_             int32
	_             [2]uint32
	argb          *uint32
	stride        int32 // in pixels
	_             [3]uint32
	writer        uintptr
	custom        *webpMemory
	_             int32
	_             *byte
	_             *byte // stats
	err           int32
	_             uintptr // progress_hook
	_             *byte
	_             [3]uint32
	_             [2]*byte
	_             [8]uint32
	_             [4]*byte // what the library allocated, and padding
	_             [64]int32
}

// webpMemory is WebPMemoryWriter.
type webpMemory struct {
	data *byte
	size uint
	_    uint // max_size
	_    [4]uint32
}

// webpVariable names a library to open, or says "off".
const webpVariable = "FORGEPIPE_LIBWEBP"

// webpLibrary opens the library once, or tells why it is not used. Tests replace
// it.
var webpLibrary = sync.OnceValues(func() (*libwebp, error) { return openWebP(os.Getenv(webpVariable)) })

// WebPLibrary names the library that encodes WebP with its version. Without one
// WebP cannot be written, and the error says what to do about it.
func WebPLibrary() (name string, err error) {
	l, err := webpLibrary()
	if err != nil {
		return "", err
	}
	return "libwebp " + l.version, nil
}

func openWebP(wanted string) (*libwebp, error) {
	const install = "install it with apt-get install libwebp7"
	name := "libwebp.so.7"
	switch wanted {
	case "":
	case "off":
		return nil, fmt.Errorf("libwebp is switched off: unset %s to use it", webpVariable)
	default:
		name = wanted
	}
	lib, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil && wanted != "" {
		return nil, fmt.Errorf("opening the libwebp that %s names: %w", webpVariable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("libwebp, which writes WebP, was not found (%w): %s, or name it in %s", err, install, webpVariable)
	}
	l := &libwebp{}
	var version func() int32
	for _, f := range []struct {
		name string
		fn   any
	}{
		{"WebPGetEncoderVersion", &version},
		{"WebPConfigInitInternal", &l.initConfig},
		{"WebPValidateConfig", &l.checkConfig},
		{"WebPPictureInitInternal", &l.initPicture},
		{"WebPPictureAlloc", &l.allocPicture},
		{"WebPPictureFree", &l.freePicture},
		{"WebPEncode", &l.encodeAll},
		{"WebPMemoryWriterInit", &l.initMemory},
		{"WebPMemoryWriterClear", &l.clearMemory},
		{"WebPMemoryWrite", &l.writeMemory},
	} {
		at, err := purego.Dlsym(lib, f.name)
		if err != nil {
			return nil, fmt.Errorf("%s has no function %s (%w): %s", name, f.name, err, install)
		}
		if p, ok := f.fn.(*uintptr); ok {
			*p = at
			continue
		}
		purego.RegisterFunc(f.fn, at)
	}
	v := version()
	l.version = fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
	return l, nil
}

// webpCall is all that a call of the library works with. C keeps pointers from
// one part to another, so that none of it may move.
type webpCall struct {
	config  webpConfig
	picture webpPicture
	memory  webpMemory
}

// encode makes a WebP of the rows that fill gives, and calls done with it, which
// must not keep it.
func (l *libwebp) encode(size image.Point, o WebPOptions, fill func(dst []uint32, y int) error, done func([]byte) error) error {
	c := &webpCall{}
	var pin runtime.Pinner
	pin.Pin(c)
	defer pin.Unpin()
	if l.initConfig(&c.config, 0, float32(o.quality()), webpABI) == 0 || l.initPicture(&c.picture, webpABI) == 0 {
		return fmt.Errorf("libwebp %s has another interface than version 1: install libwebp7", l.version)
	}
	c.config.exact = 1 // keep the colour of transparent pixels
	if o.Lossless {
		c.config.lossless, c.config.quality, c.config.method = 1, webpEffort, webpMethod
	}
	if l.checkConfig(&c.config) == 0 {
		panic("BUG: imageio: libwebp refuses its configuration")
	}
	l.initMemory(&c.memory)
	defer l.clearMemory(&c.memory)
	defer l.freePicture(&c.picture)
	c.picture.useARGB, c.picture.width, c.picture.height = 1, int32(size.X), int32(size.Y)
	c.picture.writer, c.picture.custom = l.writeMemory, &c.memory
	if l.allocPicture(&c.picture) == 0 {
		return webpError(c.picture.err)
	}
	stride := int(c.picture.stride)
	pixels := unsafe.Slice(c.picture.argb, stride*size.Y)
	for y := range size.Y {
		if err := fill(pixels[y*stride:][:size.X], y); err != nil {
			return err
		}
	}
	if l.encodeAll(&c.config, &c.picture) == 0 {
		return webpError(c.picture.err)
	}
	return done(unsafe.Slice(c.memory.data, c.memory.size))
}

// How much work lossless compression does: level 5 of the library's 9. Level 6
// takes 1.7 times as long for 0.1 % less, level 2 two thirds for 10 % more.
const (
	webpMethod = 4
	webpEffort = 50
)

// webpError is WebPEncodingError in words.
func webpError(code int32) error {
	switch code {
	case 1, 2:
		return errors.New("libwebp has no memory left for the picture")
	case 6, 7:
		return errors.New("the picture is too large for a lossy WebP of this quality: lower quality, or write it in another format")
	}
	return fmt.Errorf("libwebp fails with error %d of its WebPEncodingError", code)
}
