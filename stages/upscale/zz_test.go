package upscale_test

import (
	"testing"
	"image"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func TestZZ(t *testing.T) {
	for name, tt := range map[string]struct {
		net             *onnx.Graph
		scale, multiple int
		tile int
	}{
		"compact":         {testnet.Compact(4, 8, 2), 4, 1, 48},
		"compact16":         {testnet.Compact(4, 16, 16), 4, 1, 96},
		"rrdb1":            {testnet.RRDB(testnet.RRDBOptions{Features: 8, Blocks: 1}), 4, 1,96},
		"rrdb6":            {testnet.RRDB(testnet.RRDBOptions{Features: 8, Blocks: 6}), 4, 1,144},
		"unshuf":            {testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1, Unshuffle: 2}), 2,2, 96},
		"span":            {testnet.Span(3), 3, 1, 48},
		"excited":            {testnet.Excited(), 2, 1, 48},
	} {
		file := saved(t, tt.net)
		img := noise(2*tt.tile+31, 77)
		want := whole(t, file, img, tt.scale, tt.multiple)
		in := 0
		for _, v := range want.data { if v > 0 && v < 1 { in++ } }
		for _, o := range []int{0,1,2,3,4,8,12,16,17,18,19,24,32,48,64} {
			if o*3 > tt.tile { continue }
			got := enlarged(t, img, values{"model": file, "tile": tt.tile, "overlap": o})
			t.Logf("%s lit %.2f overlap %d: %.6f", name, float64(in)/float64(len(want.data)), o, want.differ(got))
		}
	}
	_ = image.Pt
}
