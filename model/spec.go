package model

import (
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/resample"
)

// Layout is the order of a tensor's axes: N pictures, C channels, H rows, W columns.
type Layout string

// The layouts: planes of one channel each, or pixels with all of theirs.
const (
	NCHW Layout = "nchw"
	NHWC Layout = "nhwc"
)

// Channels are those of a tensor, in their order.
type Channels string

// The channels: three, in either order, or one of BT.601 luma.
const (
	RGB  Channels = "rgb"
	BGR  Channels = "bgr"
	Gray Channels = "gray"
)

// Range is what the samples 0 to 255 become, before mean and std.
type Range string

// The ranges.
const (
	ZeroToOne     Range = "0..1"
	MinusOneToOne Range = "-1..1"
	ZeroTo255     Range = "0..255"
)

// Resize is how a picture comes to its size.
type Resize string

// The ways to resize.
const (
	Squash   Resize = "squash"   // to Width x Height, whatever its shape
	Shortest Resize = "shortest" // keeping its shape, until the shorter side is Shorter
	NoResize Resize = "none"
)

// Crop is what is cut after resizing.
type Crop string

// The crops. A picture that is smaller than a centre crop gets a black border,
// as in torchvision.
const (
	Centre Crop = "centre" // Width x Height, in the middle
	NoCrop Crop = "none"
)

// Border is what Multiple adds to a picture.
type Border string

// The borders: the picture mirrored at its last row and column, which are not
// repeated; its last row and column; black (samples of 0, before range and mean).
const (
	Reflect Border = "reflect"
	Edge    Border = "edge"
	Zero    Border = "zero"
)

// Element is a tensor's element type.
type Element string

// The element types, in the machine's byte order.
const (
	Float32 Element = "float32"
	Float16 Element = "float16" // IEEE 754 binary16
)

// size is how many bytes an element has.
func (e Element) size() int {
	if e == Float16 {
		return 2
	}
	return 4
}

// Spec is what a network wants to see. The zero Spec is what is assumed of an
// unknown one: RGB planes in 0..1, float32, at the picture's own size. A picture
// goes through the fields in their order from Resize to Multiple, then through
// Range, Mean and Std.
type Spec struct {
	Layout   Layout   `yaml:"layout"`   // default nchw
	Channels Channels `yaml:"channels"` // default rgb
	Element  Element  `yaml:"element"`  // default float32

	// Resize is shortest by default when Shorter is set, squash when only Width and
	// Height are and Crop is not, else none.
	Resize Resize `yaml:"resize"`
	// Filter is nearest, box, bilinear, hermite, bicubic, mitchell, bspline, gaussian,
	// lanczos, bartlett, hann, hamming, blackman, welch or cosine, stretched as in Pillow
	// when the picture shrinks; default bicubic.
	Filter string `yaml:"filter"`
	// Shorter is the shorter side after shortest, in pixels; by default the larger
	// of Width and Height, so that the crop is full. The longer side is
	// int(Shorter*longer/shorter), as in torchvision.
	Shorter int `yaml:"shorter"`
	// Width and Height are those of squash and of the crop, in pixels; both or
	// neither.
	Width  int  `yaml:"width"`
	Height int  `yaml:"height"`
	Crop   Crop `yaml:"crop"` // default none
	// Multiple makes both sides multiples of it, in pixels, by a Border at the right
	// and at the bottom; 0 and 1 add nothing. The border is reflect by default.
	Multiple int    `yaml:"multiple"`
	Border   Border `yaml:"border"`

	Range Range `yaml:"range"` // default 0..1
	// Mean and Std are of red, green and blue, whatever the order of the channels,
	// in units of the range: (sample - Mean) / Std. Gray has the first of each. By
	// default they are 0 and 1.
	Mean [3]float64 `yaml:"mean"`
	Std  [3]float64 `yaml:"std"`
}

// maxSide bounds the sizes of a Spec, in pixels: no network has seen larger
// pictures, and a slip of the finger is no reason to run out of memory.
const maxSide = 1 << 16

// applyDefaults returns a copy without empty fields.
func (s Spec) applyDefaults() Spec {
	fill(&s.Layout, NCHW)
	fill(&s.Channels, RGB)
	fill(&s.Element, Float32)
	fill(&s.Crop, NoCrop)
	switch {
	case s.Shorter > 0:
		fill(&s.Resize, Shortest)
	case s.Width > 0 && s.Height > 0 && s.Crop == NoCrop:
		fill(&s.Resize, Squash)
	}
	fill(&s.Resize, NoResize)
	fill(&s.Filter, "bicubic")
	if s.Resize == Shortest {
		fill(&s.Shorter, max(s.Width, s.Height))
	}
	fill(&s.Multiple, 1)
	fill(&s.Border, Reflect)
	fill(&s.Range, ZeroToOne)
	fill(&s.Std, [3]float64{1, 1, 1})
	return s
}

// fill sets what is empty.
func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first field that has a value that it cannot have, or that
// does not go with the others, by its name in YAML.
func (s Spec) Validate() error {
	s = s.applyDefaults()
	for _, err := range []error{
		oneOf("layout", s.Layout, NCHW, NHWC),
		oneOf("channels", s.Channels, RGB, BGR, Gray),
		oneOf("element", s.Element, Float32, Float16),
		oneOf("resize", s.Resize, Squash, Shortest, NoResize),
		oneOf("filter", s.Filter, resample.Names()...),
		within("shorter", s.Shorter, 0),
		within("width", s.Width, 0),
		within("height", s.Height, 0),
		oneOf("crop", s.Crop, Centre, NoCrop),
		within("multiple", s.Multiple, 1),
		oneOf("border", s.Border, Reflect, Edge, Zero),
		oneOf("range", s.Range, ZeroToOne, MinusOneToOne, ZeroTo255),
		s.checkSize(),
	} {
		if err != nil {
			return err
		}
	}
	for c := range 3 {
		if m := s.Mean[c]; math.IsNaN(m) || math.IsInf(m, 0) {
			return fmt.Errorf("mean has %v: give three numbers", m)
		}
		if d := s.Std[c]; !(d > 0) || math.IsInf(d, 0) {
			return fmt.Errorf("std has %v: give three numbers above 0", d)
		}
	}
	return nil
}

// checkSize reports sizes that are missing, or that nothing asks for.
func (s Spec) checkSize() error {
	sized := s.Width > 0
	switch {
	case sized != (s.Height > 0):
		return fmt.Errorf("width is %d and height is %d: give both or neither", s.Width, s.Height)
	case s.Resize == Squash && !sized:
		return errors.New("resize: squash needs a size: give width and height")
	case s.Resize == Squash && s.Crop == Centre:
		return errors.New("crop: centre cuts nothing from a squashed picture: leave crop out, or take resize: shortest")
	case s.Crop == Centre && !sized:
		return errors.New("crop: centre needs a size: give width and height")
	case s.Resize == Shortest && s.Shorter == 0:
		return errors.New("resize: shortest needs a size: give shorter")
	case s.Resize != Shortest && s.Shorter != 0:
		return fmt.Errorf("shorter has no meaning with resize: %s: leave it out, or take resize: shortest", s.Resize)
	case sized && s.Resize != Squash && s.Crop != Centre && s.Shorter != max(s.Width, s.Height):
		return errors.New("width and height have no meaning without resize: squash or crop: centre: leave them out, or add one of these")
	}
	return nil
}

func oneOf[T ~string](field string, value T, words ...T) error {
	if slices.Contains(words, value) {
		return nil
	}
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = string(w)
	}
	return fmt.Errorf("%s is %q: use one of %s", field, string(value), strings.Join(all, ", "))
}

func within(field string, value, least int) error {
	if value < least || value > maxSide {
		return fmt.Errorf("%s is %d: use a number from %d to %d", field, value, least, maxSide)
	}
	return nil
}

// resized is the size of a picture after resizing. A side that would be longer
// than 2^31-1 pixels is cut to that.
func (s Spec) resized(src image.Point) image.Point {
	switch s.Resize {
	case Squash:
		return image.Pt(s.Width, s.Height)
	case Shortest:
		if src.X <= src.Y {
			return image.Pt(s.Shorter, longer(s.Shorter, src.Y, src.X))
		}
		return image.Pt(longer(s.Shorter, src.X, src.Y), s.Shorter)
	}
	return src
}

// longer is what becomes of the longer side, rounded down.
func longer(size, long, short int) int {
	return int(min(int64(size)*int64(long)/int64(short), math.MaxInt32))
}

// cropped is the size after cropping.
func (s Spec) cropped(resized image.Point) image.Point {
	if s.Crop == Centre {
		return image.Pt(s.Width, s.Height)
	}
	return resized
}

// padded is the size after padding.
func (s Spec) padded(cropped image.Point) image.Point {
	up := func(n int) int { return (n + s.Multiple - 1) / s.Multiple * s.Multiple }
	return image.Pt(up(cropped.X), up(cropped.Y))
}

// OutputSize is the width and height of the tensor for a picture of that size,
// in pixels; zero for an empty picture. The Spec must be valid.
func (s Spec) OutputSize(src image.Point) image.Point {
	if src.X < 1 || src.Y < 1 {
		return image.Point{}
	}
	s = s.applyDefaults()
	return s.padded(s.cropped(s.resized(src)))
}

// Depth is how many channels the tensor has: 3, or 1 for gray.
func (s Spec) Depth() int {
	if s.Channels == Gray {
		return 1
	}
	return 3
}

// TensorBytes is the length of what Fill writes for a picture of that size.
func (s Spec) TensorBytes(src image.Point) int64 {
	size := s.OutputSize(src)
	return int64(size.X) * int64(size.Y) * int64(s.Depth()*s.Element.size())
}

// Shape is that of a batch of n pictures of that size.
func (s Spec) Shape(n int, src image.Point) []int64 {
	size := s.OutputSize(src)
	if s.Layout == NHWC {
		return []int64{int64(n), int64(size.Y), int64(size.X), int64(s.Depth())}
	}
	return []int64{int64(n), int64(s.Depth()), int64(size.Y), int64(size.X)}
}

// Bytes is what Fill occupies at most beside the tensor while it works for a
// picture of that size.
func (s Spec) Bytes(src image.Point) int64 {
	if src.X < 1 || src.Y < 1 {
		return 0
	}
	s = s.applyDefaults()
	to := s.resized(src)
	window := s.window(to)
	return resample.RowsBytes(src, to, window.Size(), resample.Named(s.Filter)) + tableBytes
}

// Least is the size that a picture of that size must keep when it is decoded at
// a smaller scale: twice what it is resized to. Scaling while decoding is about
// as good as a box filter, which lets some of the finest detail through as false
// patterns; these lie in the upper half of what is left, and the filter that
// halves it at least removes most of them. Where that gains nothing, because the
// picture is hardly made smaller or because its pixels are to stay what they are
// (no resizing, filter nearest), it is the picture's own size.
func (s Spec) Least(src image.Point) image.Point {
	if src.X < 1 || src.Y < 1 {
		return src
	}
	s = s.applyDefaults()
	if s.Resize == NoResize || s.Filter == "nearest" {
		return src
	}
	to := s.resized(src)
	return image.Pt(min(2*to.X, src.X), min(2*to.Y, src.Y))
}

// window is the part of a resized picture that is left after cropping.
func (s Spec) window(resized image.Point) image.Rectangle {
	if s.Crop != Centre {
		return image.Rectangle{Max: resized}
	}
	x, w, _ := centred(resized.X, s.Width)
	y, h, _ := centred(resized.Y, s.Height)
	return image.Rect(x, y, x+w, y+h)
}

// centred is torchvision's CenterCrop along one side: the part of the picture
// that is kept, from first on, and the width of the border before it.
func centred(have, want int) (first, n, before int) {
	if have < want {
		return 0, have, (want - have) / 2
	}
	return int(math.RoundToEven(float64(have-want) / 2)), want, 0
}
