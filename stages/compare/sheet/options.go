package sheet

import (
	"cmp"
	"fmt"
	"image"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
)

// A Layout says what a PNG shows.
type Layout string

// The layouts.
const (
	Side  Layout = "side"       // before and after beside each other
	Split Layout = "split"      // one picture: before on the left of a line, after on the right
	Heat  Layout = "difference" // where the two differ, and how much
	All   Layout = "sheet"      // all of these
)

// A Format is the format of the file.
type Format string

// The formats. GIF and WebP are animations, from before to after and back.
const (
	PNG  Format = "png"
	GIF  Format = "gif"
	WebP Format = "webp"
)

// Animated reports whether files of the format are animations.
func (f Format) Animated() bool { return f == GIF || f == WebP }

// A Transition is how an animation goes from one picture to the other.
type Transition string

// The transitions.
const (
	Fade Transition = "fade" // one becomes the other
	Wipe Transition = "wipe" // a line moves across
	Cut  Transition = "cut"  // at once
)

// Layouts, Formats and Transitions are the words there are, Filters those for
// Options.Filter.
var (
	Layouts     = []string{string(All), string(Side), string(Split), string(Heat)}
	Formats     = []string{string(PNG), string(GIF), string(WebP)}
	Transitions = []string{string(Fade), string(Wipe), string(Cut)}
	Filters     = resample.Names()
)

// FilterDoc says what the filters are.
const FilterDoc = resample.FiltersDoc

// Ranges of numbers in Options.
const (
	MinSide     = 64 // of MaxSide
	MaxSide     = 8192
	MinPosition = 0.02
	MaxPosition = 0.98
	MinSeconds  = 0.1
	MaxSeconds  = 60
	MinFPS      = 1
	MaxFPS      = 50 // viewers slow down GIFs with frames of less than 2 hundredths of a second
	MinSpeed    = 0.1
	MaxSpeed    = 10
)

// Options say how pictures are shown. A zero field means its default.
type Options struct {
	Format Format // PNG
	Layout Layout // All; of a PNG
	// NoLabels leaves out what is written above pictures. The difference keeps its
	// scale.
	NoLabels bool
	// Filter is that with which the smaller picture is enlarged, nearest by default.
	Filter string
	// Region is the part of the larger picture to show, in pixels from its upper left
	// corner, and the same part of the smaller one. Empty: all of it.
	Region image.Rectangle
	// MaxSide is how long the longer side of a picture on the sheet is at most, in
	// pixels, by default 1024: larger ones are made smaller. Small ones are magnified
	// a whole number of times.
	MaxSide int
	// Position is where the line of Split is, as a share of the width: 0.5.
	Position float64

	Transition Transition // Fade; of an animation, as those below
	Seconds    float64    // how long it takes before it is repeated: 2
	FPS        float64    // frames in a second: 30
	Speed      float64    // how many times as fast it is played, which makes it shorter: 1
}

// WithDefaults is o with no field that is zero, but for the region.
func (o Options) WithDefaults() Options {
	o.Format = cmp.Or(o.Format, PNG)
	o.Layout = cmp.Or(o.Layout, All)
	o.Filter = cmp.Or(o.Filter, "nearest")
	o.MaxSide = cmp.Or(o.MaxSide, 1024)
	o.Position = cmp.Or(o.Position, 0.5)
	o.Transition = cmp.Or(o.Transition, Fade)
	o.Seconds = cmp.Or(o.Seconds, 2)
	o.FPS = cmp.Or(o.FPS, 30)
	o.Speed = cmp.Or(o.Speed, 1)
	return o
}

// Check says what is wrong with the options, or that the library for WebP is missing.
func (o Options) Check() error {
	o = o.WithDefaults()
	for _, word := range []struct {
		what, is string
		all      []string
	}{
		{"format", string(o.Format), Formats}, {"layout", string(o.Layout), Layouts},
		{"filter", o.Filter, Filters}, {"transition", string(o.Transition), Transitions},
	} {
		if !slices.Contains(word.all, word.is) {
			return fmt.Errorf("there is no %s %q: use %s", word.what, word.is, strings.Join(word.all, ", "))
		}
	}
	for _, n := range []struct {
		what            string
		is, least, most float64
	}{
		{"longest side", float64(o.MaxSide), MinSide, MaxSide}, {"position", o.Position, MinPosition, MaxPosition},
		{"number of seconds", o.Seconds, MinSeconds, MaxSeconds}, {"number of frames in a second", o.FPS, MinFPS, MaxFPS},
		{"speed", o.Speed, MinSpeed, MaxSpeed},
	} {
		if !(n.is >= n.least && n.is <= n.most) {
			return fmt.Errorf("the %s is %v, and must be from %v to %v", n.what, n.is, n.least, n.most)
		}
	}
	if o.Format == WebP {
		_, err := imageio.WebPLibrary()
		return err
	}
	return nil
}

// ParseRegion reads a region as people write it: "x,y,width,height".
func ParseRegion(text string) (image.Rectangle, error) {
	parts := strings.Split(text, ",")
	var n [4]int
	for i, p := range parts {
		v, err := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
		if err != nil || len(parts) != 4 || v < 0 || i > 1 && v == 0 || v > math.MaxInt32/2 {
			return image.Rectangle{}, fmt.Errorf("the region %q is not x,y,width,height in pixels, such as 100,50,64,64", text)
		}
		n[i] = int(v)
	}
	return image.Rect(n[0], n[1], n[0]+n[2], n[1]+n[3]), nil
}

// frames are how many pictures the animation has, and how long it takes.
func (o Options) frames() (n int, loop time.Duration) {
	seconds := o.Seconds / o.Speed
	return max(int(math.Round(seconds*o.FPS)), 2), time.Duration(math.Round(seconds * float64(time.Second)))
}

// Frames is how many frames there are; a sheet is one.
func (o Options) Frames() int {
	if o = o.WithDefaults(); !o.Format.Animated() {
		return 1
	}
	n, _ := o.frames()
	return n
}

// shown is how long frame i is shown, of n in a loop, in whole units: so that no frame
// comes more than a unit late or early, and all take as long as the loop, rounded to
// a unit.
func shown(i, n int, loop, unit time.Duration) time.Duration {
	units := int64((loop + unit/2) / unit)
	at := func(i int) int64 { return (int64(i)*units*2 + int64(n)) / (2 * int64(n)) }
	return time.Duration(at(i+1)-at(i)) * unit
}

// Encoder names what writes the files, with its version, for fingerprints.
func (o Options) Encoder() string {
	switch o.WithDefaults().Format {
	case GIF:
		return fmt.Sprintf("gif %d", gifVersion)
	case WebP:
		return imageio.WebPEncoder(webpOptions)
	}
	return imageio.PNGEncoder(pngOptions)
}

var (
	pngOptions  = imageio.PNGOptions{}
	webpOptions = imageio.WebPOptions{Quality: 90}
)

// Version is raised when the same pictures and options give another drawing.
const Version = 1

// Bytes is what [Encode] takes at most for pictures of these sizes, beside the two
// pictures.
func (o Options) Bytes(before, after image.Point) int64 {
	o = o.WithDefaults()
	area := func(p image.Point) int64 { return int64(p.X) * int64(p.Y) }
	region, err := o.region(before, after)
	if err != nil {
		return 0
	}
	size := region.Size()
	f := fitted(size, o.MaxSide)
	panel := area(f.drawn())
	const writing = 2 << 20 // tables of encoders, fonts, rows
	filter := resample.Named(o.Filter)
	b := int64(writing) + 64*int64(max(before.X, after.X))
	if before != after && filter.Support > 0 {
		b += area(size) * 8 // the smaller one, enlarged before it is measured
	}
	_, work := resample.Bytes(before, f.drawn(), filter, 8)
	// What is drawn of a picture, of up to 8 bytes a pixel, becomes garbage, which is
	// not collected at once.
	views := func(n int64) int64 { return n * (8*panel + work) }
	switch o.Format {
	case GIF:
		return b + views(2) + 4*4*panel + paletteBytes // the two with their labels, and two frames
	case WebP:
		n, _ := o.frames()
		return b + views(2) + (4*4+imageio.WebPBytesPerPixel+int64(n))*panel // of each frame up to a byte a pixel
	}
	canvas := 4 * panel * 3 / 2 // with the margins
	switch o.Layout {
	case Side:
		return b + views(2) + 2*canvas
	case Split:
		return b + views(2) + canvas + 4*panel // and a picture for what is right of the line
	case Heat:
		return b + canvas + 2*panel // and the map
	}
	return b + views(4) + 4*canvas + 6*panel
}
