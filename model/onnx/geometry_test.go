package onnx_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// written is a file of the graph.
func written(t *testing.T, g *onnx.Graph) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

var planes = onnx.Route{Input: "input", Output: "output", Rows: 2}

func TestGeometryOfNetworks(t *testing.T) {
	for name, tt := range map[string]struct {
		build func() *onnx.Graph
		want  onnx.Geometry // Unbounded is a part of it
	}{
		// Three convolutions on the picture.
		"compact": {func() *onnx.Graph { return testnet.Compact(4, 16, 1) }, onnx.Geometry{Up: 4, Down: 1, Reach: 3, Multiple: 1}},
		// Two blocks of three dense ones of five convolutions, one before, one after; then one at twice
		// the size, and three at four times: the pixel 3 of 4 before the first of a block is in the second
		// block of 2 before, and one before that is in the second pixel before.
		"rrdb":            {func() *onnx.Graph { return testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 2}) }, onnx.Geometry{Up: 4, Down: 1, Reach: 30 + 2 + 2, Multiple: 1}},
		"rrdb unshuffled": {func() *onnx.Graph { return testnet.RRDB(testnet.RRDBOptions{Features: 4, Blocks: 1, Unshuffle: 2}) }, onnx.Geometry{Up: 2, Down: 1, Reach: 38, Multiple: 2}},
		"span":            {func() *onnx.Graph { return testnet.Span(3) }, onnx.Geometry{Up: 3, Down: 1, Reach: 6, Multiple: 1}},
		"unet":            {testnet.UNet, onnx.Geometry{Up: 1, Down: 1, Reach: 10, Multiple: 4}},
		"excited":         {testnet.Excited, onnx.Geometry{Up: 2, Down: 1, Multiple: 1, Unbounded: `"GlobalAveragePool_`}},
		"interpolated":    {testnet.Interpolated, onnx.Geometry{Up: 2, Down: 1, Reach: 1, Multiple: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := onnx.ReadGeometry(written(t, tt.build()), planes)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.Unbounded, tt.want.Unbounded) || got.Peak < 1 {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			got.Unbounded, got.Peak = tt.want.Unbounded, 0
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}
