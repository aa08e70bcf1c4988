// Package pairs is the source "pairs": it offers the high-quality images below
// one folder, each with its low-quality companion from the same place below
// another.
//
// Nothing is passed over in silence: an image without its companion and a
// companion without its image are quarantined with the cause, and so is
// everything that package images would quarantine or report in either folder.
// Both trees are read side by side, one folder at a time.
package pairs
