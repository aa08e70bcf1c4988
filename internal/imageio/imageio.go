package imageio

import (
	"errors"
	"fmt"
	"image"
	"math"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// Format is an image file format, by its usual lower-case name.
type Format string

// The formats that Sniff recognises. AVIF, HEIC and JXL cannot be decoded yet.
const (
	JPEG Format = "jpeg"
	PNG  Format = "png"
	GIF  Format = "gif"
	WebP Format = "webp"
	BMP  Format = "bmp"
	TIFF Format = "tiff"
	AVIF Format = "avif"
	HEIC Format = "heic" // and other HEIF
	JXL  Format = "jxl"
)

// ErrUnsupported says that a file is, as far as it was read, in order, but uses
// a format or a feature that cannot be decoded yet.
var ErrUnsupported = errors.New("not supported yet: convert it to PNG or JPEG first")

// ErrNoLibrary says that something needs a library that is not there.
var ErrNoLibrary = errors.New("a library is missing")

// noLibrary is an ErrNoLibrary in its own words.
type noLibrary struct{ error }

func (noLibrary) Is(target error) bool { return target == ErrNoLibrary }

// Limits bound what a file may be. A field that is zero means its default.
type Limits struct {
	MaxPixels    int64 // width x height
	MaxFileBytes int64
}

// DefaultLimits are 250 megapixels and 4 GiB.
func DefaultLimits() Limits { return Limits{MaxPixels: 250e6, MaxFileBytes: 4 << 30} }

// WithDefaults is l with no field that is zero.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.MaxPixels <= 0 {
		l.MaxPixels = d.MaxPixels
	}
	if l.MaxFileBytes <= 0 {
		l.MaxFileBytes = d.MaxFileBytes
	}
	return l
}

// check holds width x height against the limit without ever forming a product
// that could overflow.
func (l Limits) check(what string, width, height int64) error {
	if width <= 0 || height <= 0 {
		return fmt.Errorf("%s says %d x %d pixels: the file is corrupt", what, width, height)
	}
	if width > l.MaxPixels/height {
		is, limit := float64(width)*float64(height), float64(l.MaxPixels)
		write := megapixels
		if write(is) == write(limit) {
			write = pixels // "1 MP, the limit is 1 MP" would help nobody
		}
		return &LimitError{fmt.Sprintf("%s says %d x %d = %s, the limit is %s", what, width, height, write(is), write(limit)), "pixels"}
	}
	return nil
}

// A LimitError says that a file is beyond a limit.
type LimitError struct {
	What    string // both, in numbers
	Setting string // which of limits in a pipeline raises it
}

func (e *LimitError) Error() string { return e.What + ": raise limits." + e.Setting }

func pixels(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) + " pixels" }

func megapixels(n float64) string {
	if n < 1e5 {
		return pixels(n)
	}
	return strconv.FormatFloat(math.Round(n/1e5)/10, 'f', -1, 64) + " MP"
}

// Sniff tells the format from the first bytes of a file, of which 16 are enough.
func Sniff(first []byte) (Format, bool) {
	s := string(first[:min(len(first), 16)])
	switch {
	case strings.HasPrefix(s, "\xff\xd8\xff"):
		return JPEG, true
	case strings.HasPrefix(s, "\x89PNG\r\n\x1a\n"):
		return PNG, true
	case strings.HasPrefix(s, "GIF87a"), strings.HasPrefix(s, "GIF89a"):
		return GIF, true
	case len(s) >= 12 && s[:4] == "RIFF" && s[8:12] == "WEBP":
		return WebP, true
	case strings.HasPrefix(s, "II*\x00"), strings.HasPrefix(s, "MM\x00*"),
		strings.HasPrefix(s, "II+\x00"), strings.HasPrefix(s, "MM\x00+"): // + is BigTIFF
		return TIFF, true
	case strings.HasPrefix(s, "\xff\x0a"), strings.HasPrefix(s, "\x00\x00\x00\x0cJXL \r\n\x87\n"):
		return JXL, true
	case len(s) >= 12 && s[4:8] == "ftyp":
		switch s[8:12] {
		case "avif", "avis":
			return AVIF, true
		case "heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "mif2", "msf1":
			return HEIC, true
		}
	case len(s) >= 10 && s[:2] == "BM" && s[6:10] == "\x00\x00\x00\x00":
		// Two letters prove little; the reserved bytes after the size are zero.
		return BMP, true
	}
	return "", false
}

// KnownExtension tells whether a file's name says that it is an image that
// Sniff recognises, also of a format that cannot be decoded yet: such a file is
// reported, not passed over.
func KnownExtension(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff",
		".avif", ".heic", ".heif", ".jxl":
		return true
	}
	return false
}

// Bytes is what the pixel buffers of img occupy. For a crop it is what the crop
// can reach of the buffers that it shares.
func Bytes(img image.Image) int64 {
	switch m := img.(type) {
	case *image.YCbCr:
		return int64(len(m.Y) + len(m.Cb) + len(m.Cr))
	case *image.NYCbCrA:
		return int64(len(m.Y) + len(m.Cb) + len(m.Cr) + len(m.A))
	}
	if p, ok := packedOf(img); ok {
		return int64(len(p.pix))
	}
	// An image computed on the fly, such as image.Uniform, has no buffers; one of
	// an unknown type is taken for the largest that there is.
	if _, ok := img.(*image.Uniform); ok || img == nil {
		return 0
	}
	return 8 * int64(img.Bounds().Dx()) * int64(img.Bounds().Dy())
}

// Crop is the rectangle r of img, counted from img's upper left corner, as a view
// of it.
func Crop(img image.Image, r image.Rectangle) (image.Image, error) {
	b := img.Bounds()
	if r = r.Add(b.Min); r == b {
		return img, nil
	}
	m, ok := img.(interface {
		SubImage(r image.Rectangle) image.Image
	})
	if !ok {
		return nil, fmt.Errorf("a picture of type %T cannot be cropped: replace it with one of the types of package image", img)
	}
	return m.SubImage(r), nil
}

// packed is an image whose pixels lie in one buffer.
type packed struct {
	pix    []uint8
	stride int
	size   int // bytes per pixel
}

func packedOf(img image.Image) (packed, bool) {
	switch m := img.(type) {
	case *image.Gray:
		return packed{m.Pix, m.Stride, 1}, true
	case *image.Alpha:
		return packed{m.Pix, m.Stride, 1}, true
	case *image.Paletted:
		return packed{m.Pix, m.Stride, 1}, true
	case *image.Gray16:
		return packed{m.Pix, m.Stride, 2}, true
	case *image.Alpha16:
		return packed{m.Pix, m.Stride, 2}, true
	case *image.RGBA:
		return packed{m.Pix, m.Stride, 4}, true
	case *image.NRGBA:
		return packed{m.Pix, m.Stride, 4}, true
	case *image.CMYK:
		return packed{m.Pix, m.Stride, 4}, true
	case *image.RGBA64:
		return packed{m.Pix, m.Stride, 8}, true
	case *image.NRGBA64:
		return packed{m.Pix, m.Stride, 8}, true
	}
	return packed{}, false
}

// decoderVersion is raised when what we do to what the decoders give changes:
// orientation, conversion of planes and inks, the screen of a GIF.
const decoderVersion = 1

// Decoder names the decoders with their versions, for fingerprints: another
// version may give other pixels. Even with libturbojpeg, image/jpeg decodes what
// that does not take.
func Decoder() string {
	plain := fmt.Sprintf("decode %d; image/jpeg ", decoderVersion) + runtime.Version() + "; x/image " + xImageVersion()
	if t, err := turboLibrary(); err == nil {
		return "libturbojpeg " + t.version + "; " + plain
	}
	return plain
}

var xImageVersion = sync.OnceValue(func() string { return moduleVersion("golang.org/x/image") })
