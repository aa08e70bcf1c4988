package dedup

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// A method compares items by a fingerprint of size bytes: for equality, or by
// the number of bits that differ.
type method struct {
	name  string
	doc   string
	size  int
	near  int // default of max_distance; 0 for methods that compare for equality
	most  int // of max_distance
	makes []pipeline.Made
	// prepare sets the attributes that the fingerprint is made of, where they
	// lack; nil when there are none.
	prepare func(ctx context.Context, it *pipeline.Item) error
	// work is what that allocates at most for a picture of that size, whose pixels
	// take that many bytes and may have alpha.
	work func(size image.Point, pixel int64, alpha bool) int64
	// take gives the fingerprint of a prepared item, nil when the method has no
	// verdict on it; mute says which items those are.
	take func(it *pipeline.Item) []byte
	mute string
}

// minQuality is the PDQ quality below which the hash says nothing.
const minQuality = 50

// methods are all there are, in the order of the documentation. Unrelated
// pictures differ in about half of a hash's bits, so that no larger distance
// makes sense.
var methods = []method{
	{
		name: "sha256", size: 32, take: fileHash, mute: "not whole source files",
		doc: "the source files have the same bytes. It has no verdict on an item that is not its whole source file as it was read: a tile, a resized picture, one that was made in Go.",
	},
	{
		name: "pixels", size: 32, prepare: hashing("pixels_sha256", 32, setPixelHash), work: pixelWork, take: attribute("pixels_sha256"),
		doc:   "the pictures have the same size and the same samples, upright, whatever file they come from. A gray picture equals one in colour whose channels are equal, a palette the colours it stands for, and 16 bits per channel equal 8 where every sample is one that 8 bits can hold (v * 257). The colour of transparent pixels counts, colour profiles do not.",
		makes: []pipeline.Made{{Name: "pixels_sha256", Type: pipeline.TypeHash, Doc: "SHA-256 of the picture's size and samples in a form that does not depend on its file, 256 bits."}},
	},
	perceptual(phash.PDQKind, method{
		near: 31, most: 127, take: pdq, mute: "flat pictures",
		doc: fmt.Sprintf("the PDQ hashes, of 256 bits, differ in at most max_distance bits. It finds copies that were encoded again, resized or slightly changed. It has no verdict on an item whose pdq_quality is below %d, as of a flat picture: such an item is never a duplicate by PDQ, nor is another one its duplicate.", minQuality),
	}),
	perceptual(phash.PHashKind, method{
		near: 6, most: 31, take: attribute("phash"),
		doc: "the 64-bit hashes of imagededup's PHash (by frequencies) differ in at most max_distance bits. It has a verdict on every picture: flat ones look alike to it.",
	}),
	perceptual(phash.DHashKind, method{
		near: 6, most: 31, take: attribute("dhash"),
		doc: "the 64-bit hashes of imagededup's DHash (by gradients) differ in at most max_distance bits. It has a verdict on every picture: flat ones look alike to it.",
	}),
}

// perceptual completes a method that compares one of the hashes.
func perceptual(k phash.Kind, m method) method {
	m.name, m.size, m.makes, m.work = k.Name, k.Bytes, k.Makes, k.Work
	m.prepare = hashing(k.Name, k.Bytes, k.Set)
	return m
}

func named(name string) method {
	i := slices.IndexFunc(methods, func(m method) bool { return m.name == name })
	if i < 0 {
		panic("BUG: there is no method " + name)
	}
	return methods[i]
}

// makes are the attributes that the methods set.
func makes(c pipeline.Config) []pipeline.Made {
	var made []pipeline.Made
	for _, m := range c.Choices("by") {
		made = append(made, named(m.Name).makes...)
	}
	return made
}

// choice declares the method as a value of the field by.
func (m method) choice() pipeline.Choice {
	c := pipeline.Choice{Name: m.name, Doc: m.doc}
	if m.near > 0 {
		c.Fields = []pipeline.Field{{
			Name: "max_distance", Type: pipeline.FieldInt, Unit: "bits", Max: float64(m.most), Flush: true, Default: fmt.Sprint(m.near),
			Doc: fmt.Sprintf("In how many of the %d bits two hashes may differ.", 8*m.size),
		}}
	}
	return c
}

// comparison is a method with its options.
type comparison struct {
	method
	distance int // bits
}

// comparisons reads the fields by and max_distance.
func comparisons(c pipeline.Config) ([]comparison, error) {
	var all []comparison
	measuring, given := -1, false // the last method with a distance, and whether one has its own
	for i, chosen := range c.Choices("by") {
		m := comparison{method: named(chosen.Name)}
		if slices.ContainsFunc(all, func(o comparison) bool { return o.name == m.name }) {
			return nil, c.ElementErrorf("by", i, "%s is named twice", m.name)
		}
		if m.near > 0 {
			m.distance = int(chosen.Options.Int("max_distance"))
			if measuring >= 0 && c.IsSet("max_distance") {
				return nil, c.Errorf("max_distance", 0, "by names several methods that have a distance: give each its own, as in {%s: {max_distance: %d}}", m.name, m.near)
			}
			measuring, given = i, chosen.Options.IsSet("max_distance")
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, c.Errorf("by", 0, "name at least one method")
	}
	if !c.IsSet("max_distance") {
		return all, nil
	}
	d := c.Int("max_distance")
	switch {
	case measuring < 0:
		return nil, c.Errorf("max_distance", 0, "no method in by has a distance: leave it out")
	case given:
		return nil, c.Errorf("max_distance", 0, "%s has a max_distance of its own in by: leave one of them out", all[measuring].name)
	case d < 0 || d > int64(all[measuring].most):
		return nil, c.Errorf("max_distance", 0, "%d is not from 0 to %d bits, the range of %s", d, all[measuring].most, all[measuring].name)
	}
	all[measuring].distance = int(d)
	return all, nil
}

func fileHash(it *pipeline.Item) []byte {
	h := it.Source().SHA256
	if !it.Unchanged() || h == ([32]byte{}) {
		return nil
	}
	return h[:]
}

// pdq takes a hash that comes without its quality on trust.
func pdq(it *pipeline.Item) []byte {
	if q, ok := it.Attr("pdq_quality"); ok && q.Float() < minQuality {
		return nil
	}
	return attribute("pdq")(it)
}

// attribute is a fingerprint that is an attribute.
func attribute(name string) func(*pipeline.Item) []byte {
	return func(it *pipeline.Item) []byte {
		v, _ := it.Attr(name)
		return v.Hash()
	}
}

// hashing makes sure that an item has a hash of size bytes in an attribute: it
// has one, or set computes it from the picture.
func hashing(name string, size int, set func(*pipeline.Item, image.Image)) func(context.Context, *pipeline.Item) error {
	return func(ctx context.Context, it *pipeline.Item) error {
		if v, ok := it.Attr(name); ok {
			if len(v.Hash()) != size {
				return fmt.Errorf("the attribute %s is the %s %q, not a hash of %d bits", name, v.Type(), v, 8*size)
			}
			return nil
		}
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		set(it, f.Image)
		return nil
	}
}

func setPixelHash(it *pipeline.Item, img image.Image) {
	h := samplesHash(img)
	it.SetAttr("pixels_sha256", pipeline.Hash(h[:]))
}

// pixelWork is two rows in samples of 16 bits.
func pixelWork(size image.Point, _ int64, _ bool) int64 { return 2 * 8 * int64(size.X) }
