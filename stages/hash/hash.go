package hash

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// A kind is one of the hashes.
type kind struct {
	name  string
	doc   string
	makes []pipeline.Made
	set   func(it *pipeline.Item, img image.Image)
	small bool // works on a resized picture
}

// kinds are all there are, in the order of the documentation.
var kinds = []kind{
	{
		name: "pdq",
		doc: "PDQ (Facebook, 2019), 256 bits. Two images whose hashes differ in 31 bits or fewer show the same; unrelated ones differ in about 128. It also sets pdq_quality, 0 to 100: how much there is to see at the scale of the hash. " +
			"Below 50 PDQ has no verdict: the image is nearly flat, its hash is mostly noise, and nothing should be made of a small distance. It never means that the image is bad. The hash is that of the reference tools.",
		makes: []pipeline.Made{
			{Name: "pdq", Type: pipeline.TypeHash, Doc: "PDQ hash, 256 bits, in the reference tools' order of bits."},
			{Name: "pdq_quality", Type: pipeline.TypeInt, Doc: "How far the PDQ hash can be trusted, 0 to 100. Below 50 it is no verdict, which says nothing of the image's quality."},
		},
		set: func(it *pipeline.Item, img image.Image) {
			h, quality := phash.PDQ(img)
			it.SetAttr("pdq", pipeline.Hash(h[:]))
			it.SetAttr("pdq_quality", pipeline.Int(int64(quality)))
		},
	},
	{
		name: "phash",
		doc:  "The 64-bit pHash of the Python package imagededup: low frequencies of a 32 x 32 reduction. Copies differ in about 6 bits or fewer.",
		makes: []pipeline.Made{
			{Name: "phash", Type: pipeline.TypeHash, Doc: "pHash, 64 bits, as imagededup computes it."},
		},
		set: func(it *pipeline.Item, img image.Image) {
			it.SetAttr("phash", hash64(phash.PHash(img)))
		},
		small: true,
	},
	{
		name: "dhash",
		doc:  "The 64-bit dHash of the Python package imagededup: whether brightness rises from each pixel of a 9 x 8 reduction to the next. Copies differ in about 6 bits or fewer. Flat images all have the hash 0.",
		makes: []pipeline.Made{
			{Name: "dhash", Type: pipeline.TypeHash, Doc: "dHash, 64 bits, as imagededup computes it."},
		},
		set: func(it *pipeline.Item, img image.Image) {
			it.SetAttr("dhash", hash64(phash.DHash(img)))
		},
		small: true,
	},
}

func hash64(h uint64) pipeline.Value {
	return pipeline.Hash(binary.BigEndian.AppendUint64(nil, h))
}

func names() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.name
	}
	return out
}

// chosen returns the kinds that the configuration names, in its order.
func chosen(c pipeline.Config) []kind {
	var out []kind
	for _, name := range c.Strings("by") {
		if i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name }); i >= 0 {
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
		long += "\n- " + k.name + ": " + k.doc
	}
	return pipeline.Info{
		Name:  "hash",
		Short: "Computes perceptual hashes and sets them as attributes.",
		Long:  long,
		Fields: []pipeline.Field{{
			Name: "by", Type: pipeline.FieldStrings, Enum: names(), Default: "pdq",
			Doc:      "Which hashes to compute, at least one.",
			Examples: []string{"pdq", "[pdq, phash, dhash]"},
		}},
		Makes: func(c pipeline.Config) []pipeline.Made {
			var made []pipeline.Made
			for _, k := range chosen(c) {
				made = append(made, k.makes...)
			}
			return made
		},
		Pure:    true,
		Version: 1,
		New:     func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) { return newStage(c) },
	}
}

// Stage sets the attributes of its hashes.
type Stage struct{ kinds []kind }

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
		if slices.ContainsFunc(s.kinds[:i], func(o kind) bool { return o.name == k.name }) {
			return nil, c.Errorf("by", 0, "%s is named twice", k.name)
		}
	}
	return s, nil
}

// Process hashes the items. One that cannot be decoded fails.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	out := make([]*pipeline.Item, 0, len(batch))
	for _, it := range batch {
		f, err := it.Frame(ctx)
		if err != nil {
			it.Fail(fmt.Errorf("hashing: %w", err))
			continue
		}
		for _, k := range s.kinds {
			k.set(it, f.Image)
		}
		out = append(out, it)
	}
	return out, nil
}

// Cost is that of the hash that needs most: they are computed one by one.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	var c pipeline.Cost
	if len(batch) == 0 {
		c.Work = s.work(image.Pt(4000, 3000), 4, false)
	}
	for _, it := range batch {
		c.Work = max(c.Work, s.work(it.Size(), it.PixelBytes(), it.Source().Format != "jpeg"))
	}
	return c
}

// work is for a picture whose pixels take that many bytes, and may have alpha.
func (s *Stage) work(size image.Point, pixel int64, alpha bool) int64 {
	work := phash.PDQBytes(size)
	if slices.ContainsFunc(s.kinds, func(k kind) bool { return k.small }) {
		work = max(work, phash.Bytes(size, pixel, alpha))
	}
	return work
}
