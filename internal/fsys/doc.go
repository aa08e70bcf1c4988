// Package fsys is the one seam under everything that writes files: the run
// store's segments, spills, outputs, manifests. Production code uses [OS], in
// which every directory is an os.Root, so that no name leaves it; tests wrap
// it with [FailAt] and loop over "the nth operation fails", which is how power
// loss, full disks and dying cards are rehearsed. Names are checked by
// [CheckName] before they reach a directory, and [IsFatal] tells the errors
// that make the rest of a run pointless from those that concern one file.
package fsys
