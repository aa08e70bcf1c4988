// Package phash computes perceptual hashes: short fingerprints of what a picture
// shows, which stay nearly the same when it is encoded again, resized or made a
// little brighter. Two pictures are compared by the Hamming distance of their
// hashes, which package hamming searches.
//
// [PDQ] has 256 bits and says how far it can be trusted; [PHash] and [DHash]
// have 64 and are those of the Python package imagededup. All of them look at
// the whole picture, so they tell nothing of crops; mirrored and rotated
// pictures get other hashes, which can be had from the upright picture.
package phash
