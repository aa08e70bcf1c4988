// Package hash is the stage "hash": it computes perceptual hashes, which tell
// copies of a picture by the small distance of their hashes, and sets them as
// attributes of the type hash:
//
//   - pdq: 32 bytes (Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ
//     Image-Hashing Algorithm", 2019), with pdq_quality, an int64 from 0 to 100; below 50
//     the hash is no verdict.
//   - phash, dhash: 8 bytes each, those of the Python package imagededup.
package hash
