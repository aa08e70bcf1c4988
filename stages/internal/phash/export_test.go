package phash

import "image"

// Oriented are the hashes of the picture turned, as SetOriented sets them.
func (k Kind) Oriented(img image.Image, all bool) []byte {
	hashes, _ := k.compute(img, orientations(all))
	return hashes[k.Bytes:]
}
