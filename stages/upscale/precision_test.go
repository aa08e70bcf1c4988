package upscale_test

import (
	"image"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// What is no number in float16, or nothing, is computed again in float32, tile by tile.
func TestFloat16IsTooNarrow(t *testing.T) {
	g := onnx.NewGraph("half")
	x := g.Input("input", onnx.Float16, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
	g.Output("output", g.Resize(x, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 1, 2, 2}}))
	file := saved(t, g)
	img := image.NewGray(image.Rect(0, 0, 160, 32)) // black on the left, gray and white on the right
	for i := range img.Pix {
		img.Pix[i] = uint8(max(i%160-64, 0) * 2)
	}
	for name, tt := range map[string]struct {
		std  string
		note string
	}{
		"wide enough":     {"1", ""},
		"overflows":       {"0.00001", "float32: 1;"}, // white is 100000
		"becomes nothing": {"1000000000", "float32: 3;"},
	} {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step(values{"model": file, "tile": 32, "overlap": 0, "std": []string{tt.std}}))
		sum, seen := b.Run(t, pipeline.RunOptions{})
		if len(sum.Failed) > 0 {
			t.Fatalf("%s: %v", name, sum.Failed)
		}
		most := 1.0
		if tt.note == "" {
			most = 257 // float16 has 11 bits
		}
		if err := near(seen["p"].Image, repeated(img, 2), most); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if note := sum.Stages[0].Note; strings.Contains(note, "float32") != (tt.note != "") || !strings.Contains(note, tt.note) {
			t.Errorf("%s: %s", name, note)
		}
	}
}

// A network can be run in the other precision than its file's.
func TestPrecision(t *testing.T) {
	file, img := saved(t, testnet.Compact(2, 8, 1)), noise(70, 40)
	same := enlarged(t, img, values{"model": file})
	if err := stagetest.Same(enlarged(t, img, values{"model": file, "precision": "float32"}), same); err != nil {
		t.Error(err)
	}
	half := enlarged(t, img, values{"model": file, "precision": "float16"})
	if err := near(half, same, 400); err != nil {
		t.Error(err)
	}
	if near(half, same, 2) == nil {
		t.Error("float16 gives the same as float32")
	}
}
