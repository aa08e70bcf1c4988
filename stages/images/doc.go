// Package images is the source "images": it offers the image files below a
// folder, those that a pattern matches, those that a list names, or one file.
//
// Nothing is passed over in silence. What lies in the folder and is not an
// image is reported as ignored with the reason; what claims to be an image and
// cannot be one (a broken link, a named pipe, a folder called x.jpg) is
// quarantined with the cause. Files are looked at one folder at a time, so that
// ten million of them take no more memory than the largest folder and those on
// the way down to it.
package images
