// Package imageio decodes and encodes image files for everything else. It reads
// the header first and checks it against [Limits], so that what a file will
// occupy is known, and refused or leased, before any of it is allocated; only
// then does [Decode] run, turned upright by the EXIF orientation and in the
// decoder's own pixel type, so that 16 bits, gray and chroma subsampling are
// kept. A file that is truncated, corrupt or hostile ends as an error that says
// what is wrong, never as a panic or a half-decoded image. [EncodePNG],
// [EncodeJPEG] and [EncodeWebP] write the same bytes for the same pixels;
// [Decoder], [Encoder] and the encoders' own names tell what did the work, for
// fingerprints. JPEG goes through libturbojpeg where it is installed, and WebP
// is written by libwebp; PNG is written by this package. All else comes from the
// standard library and from golang.org/x/image.
package imageio
