package resample

import "github.com/disintegration/imaging"

// filters are those that pipelines can name, in the order of the documentation.
var filters = []struct {
	name   string
	filter imaging.ResampleFilter
}{
	{"nearest", imaging.NearestNeighbor},
	{"box", imaging.Box},
	{"bilinear", imaging.Linear},
	{"hermite", imaging.Hermite},
	{"bicubic", imaging.CatmullRom},
	{"mitchell", imaging.MitchellNetravali},
	{"bspline", imaging.BSpline},
	{"gaussian", imaging.Gaussian},
	{"lanczos", imaging.Lanczos},
	{"bartlett", imaging.Bartlett},
	{"hann", imaging.Hann},
	{"hamming", imaging.Hamming},
	{"blackman", imaging.Blackman},
	{"welch", imaging.Welch},
	{"cosine", imaging.Cosine},
}

// FiltersDoc says what the filters are, for the documentation of fields.
const FiltersDoc = "nearest takes the pixel at the centre and box the mean of the area; bilinear (a triangle), hermite, mitchell, bspline and gaussian are soft; " +
	"bicubic (Catmull-Rom, as in Pillow) and lanczos (3 lobes) are sharp, with a little ringing at edges; bartlett, hann, hamming, blackman, welch and cosine are lanczos with other windows."

// Names are those of the filters that Named knows.
func Names() []string {
	names := make([]string, len(filters))
	for i, f := range filters {
		names[i] = f.name
	}
	return names
}

// Named returns a filter; the name is one of Names.
func Named(name string) imaging.ResampleFilter {
	for _, f := range filters {
		if f.name == name {
			return f.filter
		}
	}
	panic("BUG: no filter is named " + name)
}
