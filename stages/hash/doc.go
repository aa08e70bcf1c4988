// Package hash is the stage "hash": it computes perceptual hashes, which tell
// copies of a picture by the small distance of their hashes, and sets them as
// attributes.
package hash
