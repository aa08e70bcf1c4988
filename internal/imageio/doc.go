// Package imageio decodes and encodes image files for everything else. It reads
// the header first and checks it against [Limits], so that what a file will
// occupy is known, and refused or leased, before any of it is allocated; only
// then does [Decode] run, turned upright by the EXIF orientation. JPEG, CMYK
// included, and lossy WebP become gray or RGB of 8 bits, as libjpeg-turbo and libwebp
// show them; the other formats keep their decoder's pixel type, with 16 bits,
// gray, palette and alpha. A file that is truncated, corrupt or hostile ends as
// an error that says what is wrong, never as a panic or a half-decoded image.
//
// JPEG goes through libturbojpeg, which is opened at run time where it is
// installed ([JPEGLibrary] tells), else through the standard library, a few
// levels off. libjpeg does not notice every damage: a bit that turns one valid
// code into another shows in the pixels only, in either decoder, and some invalid
// codes that image/jpeg refuses pass in libturbojpeg. PNG and GIF come from the
// standard library, WebP, BMP and TIFF from golang.org/x/image.
//
// PNG is written by this package, JPEG by libturbojpeg or the standard library,
// WebP by libwebp ([WebPLibrary]). [EncodePNG], [EncodeJPEG] and [EncodeWebP]
// write the same bytes for the same pixels; [Decoder], [Encoder] and the encoders'
// own names tell what did the work, for fingerprints.
package imageio
