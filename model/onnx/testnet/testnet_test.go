package testnet_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func file(t *testing.T, g *onnx.Graph) []byte {
	t.Helper()
	b, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func header(t *testing.T, g *onnx.Graph) *onnx.Header {
	t.Helper()
	b := file(t, g)
	h, err := onnx.Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Recorded results of pipelines with these networks hold only while their bytes
// stay the same.
func TestSameBytes(t *testing.T) {
	want := map[string]string{
		"embedder":                  "7e0c0baf2fc127c0",
		"embedder of one image":     "b64e7a88a23aac2c",
		"embedder in float16":       "e6d61895d8fa369a",
		"embedder of gray":          "1d723ac536986fde",
		"embedder of four channels": "16fb86e3c688fe19",
		"several ports":             "b2925488386e03c6",
		"multiple of 8":             "69a2088bfc733327",
		"hog":                       "c3c33bea694847d7",
		"nan":                       "846e0e5adf6577ae",
		"no image":                  "94d6008ddad14a11",
		"unknown operator":          "a43c4eb06cbabb27",
		"compact":                   "01de5dbde68f5eee",
		"rrdb":                      "e5a221968d012fb4",
		"rrdb unshuffled":           "2ba6629ceabee3f5",
		"rrdb in float16":           "3ff02b7480616c51",
		"span":                      "85572edf7cda5d7f",
		"unet":                      "2e60b100f9abb17d",
		"excited":                   "95233460094e4071",
		"interpolated":              "95712651f05f1d2b",
		"resnet18":                  "7a89157f23b82434",
		"resnet18 features":         "b74f72fa9229d4bf",
		"vit":                       "245597fb08a7e7f4",
	}
	for _, n := range testnet.All() {
		if got := fmt.Sprintf("%x", sha256.Sum256(file(t, n.Build())))[:16]; got != want[n.Name] {
			t.Errorf("%q: %q,", n.Name, got)
		}
	}
}

func TestSizes(t *testing.T) {
	// torchvision's resnet18 has 11,689,512 parameters, and a mean and a variance for each of 4,800 channels.
	if h := header(t, testnet.ResNet18(1000)); h.Parameters != 11_689_512+2*4800 || h.Ops["Conv"] != 20 || h.Outputs[0].Shape[1] != 1000 {
		t.Errorf("%+v", h)
	}
	if h := header(t, testnet.ResNet18(0)); h.Outputs[0].Shape[1] != 512 || h.Ops["Gemm"] != 0 {
		t.Errorf("%+v", h)
	}
	// realesr-general-x4v3 has 1,213,296 parameters: 64 features and 32 convolutions. Four scales are added here.
	if h := header(t, testnet.Compact(4, 64, 32)); h.Parameters != 1_213_296+4 || h.Ops["PRelu"] != 33 {
		t.Errorf("%+v", h)
	}
	// The options reach the graph.
	h := header(t, testnet.Embedder(testnet.EmbedderOptions{Batch: 2, Size: 32, Channels: 4, Dim: 7, Type: onnx.Float16}))
	if in, out := h.Inputs[0], h.Outputs[0]; fmt.Sprint(in.Type, in.Shape, out.Type, out.Shape) != "float16 [2 4 32 32] float16 [2 7]" {
		t.Errorf("%+v", h)
	}
}

func Example() {
	g := testnet.ResNet18(1000)
	b, err := g.Bytes()
	fmt.Println(len(b)>>20, "MiB", err)
	// Output: 44 MiB <nil>
}
