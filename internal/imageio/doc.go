// Package imageio decodes and encodes image files for everything else. It reads
// the header first and checks it against [Limits], so that what a file will
// occupy is known, and refused or leased, before any of it is allocated; only
// then does [Decode] run, turned upright by the EXIF orientation and in the
// decoder's own pixel type, so that 16 bits, gray and chroma subsampling are
// kept. A file that is truncated, corrupt or hostile ends as an error that says
// what is wrong, never as a panic or a half-decoded image. [EncodePNG] writes
// the same bytes for the same pixels, [Decoder] and [Encoder] name what did the
// work, for fingerprints. JPEG, PNG and GIF come from the standard library,
// WebP, BMP and TIFF from golang.org/x/image.
package imageio
