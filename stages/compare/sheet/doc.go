// Package sheet shows what was done to a picture: it draws two pictures, one before
// and one after, side by side, with a line between their halves, or as a map of their
// differences, and makes animations that go from one to the other and back.
//
// [Encode] draws and writes in one call, [Draw] gives the picture, and [Compare] only
// measures. Any pictures of package image can be compared, of 8 or 16 bits, gray,
// with a palette or transparent, also of different sizes: the smaller one is enlarged
// to the size of the larger one, by default so that its pixels are seen.
//
// The same pictures and options give the same bytes.
package sheet
