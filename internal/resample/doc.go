// Package resample changes the size of pictures by convolution, as Pillow does:
// every new sample is a weighted mean of the samples around its place, the
// filter is stretched by the ratio when a picture shrinks, so that nothing
// aliases, and at the border the weights of what lies outside are left out.
// Columns go first, then rows, with rounding and clipping to the samples' range
// after each. Gray and opaque 8-bit pictures come out as Pillow's, bit by bit
// but for weights whose rounding is a coin's toss; 16-bit ones within one unit
// per pass.
//
// [Rows] hands over the rows of an opaque picture, or of a part of it, as they
// are made, in Pillow's order of the two passes.
//
// A call runs on one goroutine and keeps, beside its result, only the rows that
// the filter spans.
package resample
