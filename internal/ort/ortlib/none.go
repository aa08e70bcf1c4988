//go:build !linux || !amd64 || noort

package ortlib

// Blob is empty: this build has no library in it.
const Blob = ""
