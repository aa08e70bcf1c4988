package phash

import (
	"encoding/binary"
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
	// Set computes the hash of img, which is the item's picture.
	Set func(it *pipeline.Item, img image.Image)
	// Work is what that allocates at most for a picture of that size, whose
	// pixels take pixel bytes and may have alpha.
	Work func(size image.Point, pixel int64, alpha bool) int64
}

// The hashes that stages can set.
var (
	PDQKind = Kind{
		Name: "pdq", Bytes: 32,
		Makes: []pipeline.Made{
			{Name: "pdq", Type: pipeline.TypeHash, Doc: "PDQ hash, 256 bits, in the reference tools' order of bits."},
			{Name: "pdq_quality", Type: pipeline.TypeInt, Doc: "How far the PDQ hash can be trusted, 0 to 100. Below 50 it is no verdict, which says nothing of the image's quality."},
		},
		Set: func(it *pipeline.Item, img image.Image) {
			h, quality := PDQ(img)
			it.SetAttr("pdq", pipeline.Hash(h[:]))
			it.SetAttr("pdq_quality", pipeline.Int(int64(quality)))
		},
		Work: func(size image.Point, _ int64, _ bool) int64 { return PDQBytes(size) },
	}
	PHashKind = imagededup("phash", "pHash, 64 bits, as imagededup computes it.", PHash)
	DHashKind = imagededup("dhash", "dHash, 64 bits, as imagededup computes it.", DHash)
)

func imagededup(name, doc string, compute func(image.Image) uint64) Kind {
	return Kind{
		Name: name, Bytes: 8,
		Makes: []pipeline.Made{{Name: name, Type: pipeline.TypeHash, Doc: doc}},
		Set: func(it *pipeline.Item, img image.Image) {
			it.SetAttr(name, pipeline.Hash(binary.BigEndian.AppendUint64(nil, compute(img))))
		},
		Work: Bytes,
	}
}
