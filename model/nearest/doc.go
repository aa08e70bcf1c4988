// Package nearest finds, among many vectors, those that are near to one: exactly. What
// [Index.Matches] gives is what comparing with each of them would, in float64, whatever
// the memory and the threads, and whatever the order in which vectors were
// asked for.
//
// The vectors lie in a file. Most pairs are settled without them, by reduced vectors: the
// first numbers of a vector after a rotation that puts the directions in which a sample
// varies most first, and the length of what is left out. By the inequality of Cauchy and
// Schwarz these tell a least distance of two vectors; a matrix product in the model
// runtime does that for a block against all others, and rounding is on the safe side (see
// reduce.go). A GPU can do that product ([Options.Open]), with the same result. Only pairs
// that may be near are computed from the file. How many numbers are
// worth having is estimated on the sample; where nothing is gained, the reduced vectors
// are the whole ones.
package nearest
