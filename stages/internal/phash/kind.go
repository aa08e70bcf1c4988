package phash

import (
	"encoding/binary"
	"fmt"
	"image"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Version is raised when a hash comes out otherwise than before. It is part of
// what the stages that set these attributes say of their own.
const Version = 1

// A Kind is one of the hashes, as stages set it: an attribute of its name.
type Kind struct {
	Name  string
	Bytes int // length of the hash
	Makes []pipeline.Made
	// Work is what setting it allocates at most for a picture of that size, whose
	// pixels take pixel bytes and may have alpha.
	Work func(size image.Point, pixel int64, alpha bool) int64
	// compute gives the hashes of the first n orientations, one after another, and the
	// attributes of the upright picture.
	compute func(img image.Image, n int) ([]byte, []pipeline.Attribute)
}

// The hashes that stages can set.
var (
	PDQKind = kind(
		"pdq", 32,
		[]pipeline.Made{
			{Name: "pdq", Type: pipeline.TypeHash, Doc: "PDQ hash, 256 bits, in the reference tools' order of bits."},
			{Name: "pdq_quality", Type: pipeline.TypeInt, Doc: "How far the PDQ hash can be trusted, 0 to 100. Below 50 it is no verdict, which says nothing of the image's quality."},
		},
		func(img image.Image, n int) ([]byte, []pipeline.Attribute) {
			h, quality := pdqHashes(img, n)
			return h, []pipeline.Attribute{
				{Name: "pdq", Value: pipeline.Hash(h[:32])},
				{Name: "pdq_quality", Value: pipeline.Int(int64(quality))},
			}
		},
		func(size image.Point, _ int64, _ bool) int64 { return PDQBytes(size) },
	)
	PHashKind = imagededup("phash", "pHash, 64 bits, as imagededup computes it.", phashes)
	DHashKind = imagededup("dhash", "dHash, 64 bits, as imagededup computes it.", dhashes)
)

func imagededup(name, doc string, compute func(image.Image, int) []uint64) Kind {
	return kind(
		name, 8, []pipeline.Made{{Name: name, Type: pipeline.TypeHash, Doc: doc}},
		func(img image.Image, n int) (hashes []byte, upright []pipeline.Attribute) {
			for _, h := range compute(img, n) {
				hashes = binary.BigEndian.AppendUint64(hashes, h)
			}
			return hashes, []pipeline.Attribute{{Name: name, Value: pipeline.Hash(hashes[:8])}}
		},
		Bytes,
	)
}

// kind makes a Kind of the function that computes its hashes.
func kind(
	name string, size int, makes []pipeline.Made,
	compute func(img image.Image, n int) ([]byte, []pipeline.Attribute),
	work func(image.Point, int64, bool) int64,
) Kind {
	return Kind{Name: name, Bytes: size, Makes: makes, Work: work, compute: compute}
}

// Set computes the hash of an item's picture and sets its attributes.
func (k Kind) Set(it *pipeline.Item, img image.Image) {
	_, upright := k.compute(img, 1)
	for _, a := range upright {
		it.SetAttr(a.Name, a.Value)
	}
}

// SetOriented computes the hashes of the picture as it is and turned at once, and sets those
// that the item lacks: the attributes of the upright picture, and that of OrientedMade, with
// the hash of the picture mirrored left to right or, with all, those of all 7 others than
// upright, in the order of [Orientations].
func (k Kind) SetOriented(it *pipeline.Item, img image.Image, all bool) {
	hashes, upright := k.compute(img, orientations(all))
	if _, ok := it.Attr(k.Name); !ok {
		for _, a := range upright {
			it.SetAttr(a.Name, a.Value)
		}
	}
	it.SetAttr(k.OrientedMade(all).Name, pipeline.Hash(hashes[k.Bytes:]))
}

func orientations(all bool) int {
	if all {
		return Orientations
	}
	return mirrored + 1
}

// OrientedMade declares the attribute that holds the hashes of the picture turned.
func (k Kind) OrientedMade(all bool) pipeline.Made {
	if all {
		return pipeline.Made{
			Name: k.Name + "_orientations", Type: pipeline.TypeHash,
			Doc: fmt.Sprintf("The %s of the image mirrored, upside down or turned, %d bits each, one after another: left and right exchanged, top and bottom exchanged, a half turn, rows and columns exchanged, a quarter turn clockwise, one counterclockwise, and rows and columns exchanged after a half turn.", k.Name, 8*k.Bytes),
		}
	}
	return pipeline.Made{
		Name: k.Name + "_mirrored", Type: pipeline.TypeHash,
		Doc: fmt.Sprintf("The %s of the image mirrored left to right, %d bits.", k.Name, 8*k.Bytes),
	}
}
