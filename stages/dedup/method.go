package dedup

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/phash"
)

// A method compares items: by a fingerprint of size bytes, for equality or by the
// number of bits that differ, or by what a network makes of them.
type method struct {
	name    string
	doc     string
	measure measure
	size    int    // of a fingerprint
	version string // of the algorithm that makes it
	near    string // default of the option that says what is near enough; empty: none
	// unrelated is a similarity or distance as unrelated photographs may have it, of networks
	// such as the usual one: CLIP's are about 0.5 alike, whatever they show.
	unrelated float64
	most      int    // of max_distance in bits
	model     string // default of the network that a step runs or has run; empty: none
	makes     []pipeline.Made
	// prepare sets the attributes that the fingerprint is made of, where they
	// lack, also for orientations; nil when there are none.
	prepare func(ctx context.Context, it *pipeline.Item, o orientations) error
	// work is what that allocates at most for a picture of that size, whose pixels
	// take that many bytes and may have alpha.
	work func(size image.Point, pixel int64, alpha bool) int64
	// take gives the fingerprint of a prepared item, nil when the method has no
	// verdict on it; mute says which items those are. Where there are orientations,
	// turned says which attribute has the fingerprints of the picture turned.
	take   func(it *pipeline.Item) []byte
	turned func(all bool) pipeline.Made
	mute   string
	// turnedWork is what the fingerprints of the picture turned take beside work; nil:
	// nothing.
	turnedWork func(size image.Point, all bool) int64
}

// minQuality is the PDQ quality below which the hash says nothing.
const minQuality = 50

// methods are all there are, in the order of the documentation. Unrelated
// pictures differ in about half of a hash's bits, so that no larger distance
// makes sense.
var methods = []method{
	{
		name: "sha256", size: 32, version: "1", take: fileHash, mute: "not whole source files",
		doc: "the source files have the same bytes. It has no verdict on an item that is not its whole source file as it was read: a tile, a resized picture, one that was made in Go.",
	},
	{
		name: "pixels", size: 32, version: "1", work: pixelWork, take: attribute("pixels_sha256"), turned: pixelsMade, turnedWork: orientedPixelWork,
		prepare: hashing("pixels_sha256", 32, setPixelHash, setOrientedPixelHash),
		doc:     "the pictures have the same size and the same samples, upright, whatever file they come from. A gray picture equals one in colour whose channels are equal, a palette the colours it stands for, and 16 bits per channel equal 8 where every sample is one that 8 bits can hold (v * 257). The colour of transparent pixels counts, colour profiles do not.",
		makes:   []pipeline.Made{{Name: "pixels_sha256", Type: pipeline.TypeHash, Doc: "SHA-256 of the picture's size and samples in a form that does not depend on its file, 256 bits."}},
	},
	perceptual(phash.PDQKind, method{
		near: "31", most: 127, take: pdq, mute: "flat pictures",
		doc: fmt.Sprintf("the PDQ hashes, of 256 bits, differ in at most max_distance bits. It finds copies that were encoded again, resized or slightly changed. It has no verdict on an item whose pdq_quality is below %d, as of a flat picture: such an item is never a duplicate by PDQ, nor is another one its duplicate.", minQuality),
	}),
	perceptual(phash.PHashKind, method{
		near: "6", most: 31, take: attribute("phash"),
		doc: "the 64-bit hashes of imagededup's PHash (by frequencies) differ in at most max_distance bits. It has a verdict on every picture: flat ones look alike to it.",
	}),
	perceptual(phash.DHashKind, method{
		near: "6", most: 31, take: attribute("dhash"),
		doc: "the 64-bit hashes of imagededup's DHash (by gradients) differ in at most max_distance bits. It has a verdict on every picture: flat ones look alike to it.",
	}),
}

// perceptual completes a method that compares one of the hashes.
func perceptual(k phash.Kind, m method) method {
	m.name, m.measure, m.size, m.makes, m.work, m.turned = k.Name, differing, k.Bytes, k.Makes, k.Work, k.OrientedMade
	m.version = fmt.Sprint(phash.Version)
	m.prepare = hashing(k.Name, k.Bytes, k.Set, k.SetOriented)
	return m
}

// allMethods are they all, in the order of the documentation.
func allMethods() []method { return slices.Concat(methods, fromVectors) }

func named(name string) method {
	every := allMethods()
	i := slices.IndexFunc(every, func(m method) bool { return m.name == name })
	if i < 0 {
		panic("BUG: there is no method " + name)
	}
	return every[i]
}

// makes are the attributes that the methods set.
func makes(c pipeline.Config) []pipeline.Made {
	var made []pipeline.Made
	o := orientations(c.String("orientations"))
	for _, chosen := range c.Choices("by") {
		m := named(chosen.Name)
		made = append(made, m.makes...)
		if o != upright && m.turned != nil {
			made = append(made, m.turned(o == allOrientations))
		}
	}
	return made
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
// has one, or set computes it from the picture. Those of the picture turned are computed
// with it, and setOriented sets what lacks.
func hashing(name string, size int, set func(*pipeline.Item, image.Image), setOriented func(*pipeline.Item, image.Image, bool)) func(context.Context, *pipeline.Item, orientations) error {
	return func(ctx context.Context, it *pipeline.Item, o orientations) error {
		has := func(name string, size int) (bool, error) {
			v, ok := it.Attr(name)
			if ok && len(v.Hash()) != size {
				return false, fmt.Errorf("the attribute %s is the %s %q, not a hash of %d bits", name, v.Type(), v, 8*size)
			}
			return ok, nil
		}
		upright, err := has(name, size)
		if err != nil {
			return err
		}
		turned := true
		if n := o.turns(); n > 0 {
			if turned, err = has(o.attribute(name), n*size); err != nil {
				return err
			}
		}
		if upright && turned {
			return nil
		}
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		if turned {
			set(it, f.Image)
		} else {
			setOriented(it, f.Image, o == allOrientations)
		}
		return nil
	}
}

func setPixelHash(it *pipeline.Item, img image.Image) {
	h := samplesHash(img)
	it.SetAttr("pixels_sha256", pipeline.Hash(h[:]))
}

func setOrientedPixelHash(it *pipeline.Item, img image.Image, all bool) {
	if _, ok := it.Attr("pixels_sha256"); !ok {
		setPixelHash(it, img)
	}
	it.SetAttr(pixelsMade(all).Name, pipeline.Hash(orientedSamplesHash(img, all)))
}

func pixelsMade(all bool) pipeline.Made {
	if all {
		return pipeline.Made{Name: "pixels_sha256_orientations", Type: pipeline.TypeHash, Doc: "pixels_sha256 of the picture mirrored, upside down or turned, 256 bits each, one after another, in the order of pdq_orientations."}
	}
	return pipeline.Made{Name: "pixels_sha256_mirrored", Type: pipeline.TypeHash, Doc: "pixels_sha256 of the picture mirrored left to right, 256 bits."}
}

// pixelWork is two rows in samples of 16 bits.
func pixelWork(size image.Point, _ int64, _ bool) int64 { return 2 * 8 * int64(size.X) }
