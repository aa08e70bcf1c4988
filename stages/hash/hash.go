package hash

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// A kind is one of the hashes, and what the documentation says of it.
type kind struct {
	phash.Kind
	// side is the least width and height that a picture is decoded with for it where
	// that need not be exact: several times what the hash reduces it to.
	// Of 328 photographs phash differed from the exact one in 0.35 bits on average with 128,
	// and in 0.26 with 256; dhash in 1.7 and in 0.48.
	side int
	doc  string
}

// kinds are all there are, in the order of the documentation.
var kinds = []kind{
	{
		phash.PDQKind, 512,
		"PDQ (Facebook, 2019), 256 bits. Two images whose hashes differ in 31 bits or fewer show the same; unrelated ones differ in about 128. It also sets pdq_quality, 0 to 100: how much there is to see at the scale of the hash. " +
			"Below 50 PDQ has no verdict: the image is nearly flat, its hash is mostly noise, and nothing should be made of a small distance. It never means that the image is bad. The hash is that of the reference tools.",
	},
	{
		phash.PHashKind, 128,
		"The 64-bit pHash of the Python package imagededup: low frequencies of a 32 x 32 reduction. Copies differ in about 6 bits or fewer.",
	},
	{
		phash.DHashKind, 256,
		"The 64-bit dHash of the Python package imagededup: whether brightness rises from each pixel of a 9 x 8 reduction to the next. Copies differ in about 6 bits or fewer. Flat images all have the hash 0.",
	},
}

func names() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.Name
	}
	return out
}

// chosen returns the kinds that the configuration names, in its order.
func chosen(c pipeline.Config) []kind {
	var out []kind
	for _, name := range c.Strings("by") {
		if i := slices.IndexFunc(kinds, func(k kind) bool { return k.Name == name }); i >= 0 {
			out = append(out, kinds[i])
		}
	}
	return out
}

// Info declares the stage.
func Info() pipeline.Info {
	long := "Computes perceptual hashes of every image and sets an attribute for each, named after it, for filters and for the manifest. Of a pair, the high-quality image is hashed; transparent pixels count with the colour they have. " +
		"Hashes see the whole image: a crop, a rotation or a mirror image of it has another hash.\n\nThe hashes are:\n"
	for _, k := range kinds {
		long += "\n- " + k.Name + ": " + k.doc
	}
	return pipeline.Info{
		Name:  "hash",
		Short: "Computes perceptual hashes and sets them as attributes.",
		Long:  long,
		Examples: []pipeline.Example{
			{Doc: "Two hashes, for the manifest and for dedup.", YAML: "hash: {by: [pdq, phash]}"},
			{Doc: "Many large photographs, for dedup after it.", YAML: "hash: {by: pdq, decode: fast}"},
		},
		Fields: []pipeline.Field{{
			Name: "by", Type: pipeline.FieldStrings, Enum: names(), Default: "pdq",
			Doc:      "Which hashes to compute, at least one.",
			Examples: []string{"pdq", "[pdq, phash, dhash]"},
		}, {
			Name: "decode", Type: pipeline.FieldEnum, Enum: []string{"exact", "fast"}, Default: "exact",
			Doc: "fast decodes JPEGs at a smaller scale, of which both sides are at least 512 pixels for pdq, 256 for dhash and 128 for phash: quicker, and hashes differ in a few bits from the exact ones. Compare only hashes that were made in the same way.",
		}},
		Makes: func(c pipeline.Config) []pipeline.Made {
			var made []pipeline.Made
			for _, k := range chosen(c) {
				made = append(made, k.Makes...)
			}
			return made
		},
		Pure:    true,
		Version: 10*phash.Version + 1, // that of the hashes, and of the scales of decode: fast
		New:     func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) { return newStage(c) },
	}
}

// Stage sets the attributes of its hashes.
type Stage struct {
	kinds []kind
	least image.Point // that pictures are decoded with; zero: as they are
}

var (
	_ pipeline.Stage  = (*Stage)(nil)
	_ pipeline.Coster = (*Stage)(nil)
)

func newStage(c pipeline.Config) (*Stage, error) {
	s := &Stage{kinds: chosen(c)}
	if len(s.kinds) == 0 {
		return nil, c.Errorf("by", 0, "name at least one hash")
	}
	for i, k := range s.kinds {
		if slices.ContainsFunc(s.kinds[:i], func(o kind) bool { return o.Name == k.Name }) {
			return nil, c.Errorf("by", 0, "%s is named twice", k.Name)
		}
	}
	if c.String("decode") == "fast" {
		for _, k := range s.kinds {
			s.least = image.Pt(max(s.least.X, k.side), max(s.least.Y, k.side))
		}
	}
	return s, nil
}

// Process hashes the items. One that cannot be decoded fails.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := s.frame(ctx, it)
		if err != nil {
			return fmt.Errorf("hashing: %w", err)
		}
		for _, k := range s.kinds {
			k.Set(it, f.Image)
		}
		return nil
	}).Process(ctx, batch)
}

func (s *Stage) frame(ctx context.Context, it *pipeline.Item) (*pipeline.Frame, error) {
	if s.least == (image.Point{}) {
		return it.Frame(ctx)
	}
	f, _, err := it.ScaledFrame(ctx, s.least) // at its borders, up to a pixel is not the item's: a hash does not see that
	return f, err
}

// Cost is that of the hash that needs most: they are computed one by one.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if len(batch) == 0 {
		c.Work = s.work(image.Pt(4000, 3000), 4, false)
	}
	for _, it := range batch {
		work := s.work(it.Size(), it.PixelBytes(), it.Source().Format != "jpeg")
		if s.least != (image.Point{}) {
			if scaled := it.ScaledSize(s.least); scaled != (image.Point{}) {
				work = 4*int64(scaled.X)*int64(scaled.Y) + s.work(scaled, it.PixelBytes(), false)
			}
		}
		c.Work = max(c.Work, work)
	}
	return c
}

// work is for a picture whose pixels take that many bytes, and may have alpha.
func (s *Stage) work(size image.Point, pixel int64, alpha bool) (work int64) {
	for _, k := range s.kinds {
		work = max(work, k.Work(size, pixel, alpha))
	}
	return work
}
