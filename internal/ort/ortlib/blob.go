//go:build linux && amd64 && !noort

package ortlib

import _ "embed"

// Blob is the library, compressed with zstd.
//
//go:embed libonnxruntime.so.zst
var Blob string
