package write

import (
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// The words for format. keep is PNG for everything that is not copied.
const (
	formatKeep = "keep"
	formatPNG  = "png"
	formatJPEG = "jpeg"
	formatWebP = "webp"
)

// An encoding is how pictures are written that are not copied.
type encoding struct {
	format imageio.Format // files of it are copied when they can be
	ext    string
	ident  string // encoder and options
	encode func(w io.Writer, f *pipeline.Frame) error
	bytes  func(size image.Point) int64 // what encoding takes beside the picture
}

// options are the fields that only some formats have.
var options = []struct {
	field   string
	formats []string
}{
	{"level", []string{formatKeep, formatPNG}},
	{"quality", []string{formatJPEG, formatWebP}},
	{"subsampling", []string{formatJPEG}},
	{"lossless", []string{formatWebP}},
}

// newEncoding reads the fields about the format.
func newEncoding(c pipeline.Config) (encoding, error) {
	format := c.String("format")
	for _, o := range options {
		belongs := false
		for _, f := range o.formats {
			belongs = belongs || f == format
		}
		if c.IsSet(o.field) && !belongs {
			return encoding{}, c.Errorf(o.field, 0, "format %s has no %s: take it away, or set format: %s", format, o.field, o.formats[len(o.formats)-1])
		}
	}
	quality := int(c.Int("quality")) // 0 is the encoder's default
	switch format {
	case formatJPEG:
		return newJPEG(c, imageio.JPEGOptions{
			Quality:     quality,
			Subsampling: map[string]int{"4:4:4": 444, "4:2:2": 422, "4:2:0": 420}[c.String("subsampling")],
		})
	case formatWebP:
		return newWebP(c, imageio.WebPOptions{Quality: quality, Lossless: c.Bool("lossless")})
	}
	return newPNG(imageio.PNGOptions{Level: int(c.Int("level"))}), nil
}

func newPNG(o imageio.PNGOptions) encoding {
	return encoding{
		format: imageio.PNG, ext: ".png", ident: imageio.PNGEncoder(o),
		encode: func(w io.Writer, f *pipeline.Frame) error {
			o := o
			o.ICC = f.ICC
			return imageio.EncodePNG(w, f.Image, o)
		},
		bytes: func(size image.Point) int64 {
			// The compressor's window and tables, and four rows of up to 8 bytes
			// a pixel.
			return 2<<20 + 4*8*int64(size.X)
		},
	}
}

func newJPEG(c pipeline.Config, o imageio.JPEGOptions) (encoding, error) {
	if err := o.Check(); err != nil {
		field := "format"
		if c.IsSet("subsampling") {
			field = "subsampling"
		}
		if errors.Is(err, imageio.ErrNoLibrary) {
			err = fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
		}
		return encoding{}, c.Errorf(field, 0, "%w", err)
	}
	return encoding{
		format: imageio.JPEG, ext: ".jpg",
		ident: imageio.JPEGEncoder(o),
		encode: func(w io.Writer, f *pipeline.Frame) error {
			o := o
			o.ICC = f.ICC
			return imageio.EncodeJPEG(w, f.Image, o)
		},
		bytes: func(size image.Point) int64 {
			// RGBA of 8 bits, where the picture is something else, and the file,
			// which for noise is nearly as large.
			return 1<<20 + (4+4)*pixels(size)
		},
	}, nil
}

func newWebP(c pipeline.Config, o imageio.WebPOptions) (encoding, error) {
	if _, err := imageio.WebPLibrary(); err != nil {
		return encoding{}, c.Errorf("format", 0, "%w: %w", pipeline.ErrLacking, err)
	}
	if o.Lossless && c.IsSet("quality") {
		return encoding{}, c.Errorf("quality", 0, "a lossless WebP has no quality: take one of the two away")
	}
	return encoding{
		format: imageio.WebP, ext: ".webp", ident: imageio.WebPEncoder(o),
		encode: func(w io.Writer, f *pipeline.Frame) error {
			o := o
			o.ICC = f.ICC
			return imageio.EncodeWebP(w, f.Image, o)
		},
		bytes: func(size image.Point) int64 { return 1<<20 + imageio.WebPBytesPerPixel*pixels(size) },
	}, nil
}

func pixels(size image.Point) int64 { return int64(size.X) * int64(size.Y) }
