package testnet

import "github.com/forgepipe/forgepipe/model/onnx"

// Network is one of [All].
type Network struct {
	Name  string             // for messages
	Build func() *onnx.Graph // makes it, the same each time
}

// All are the networks of this package, for tests that go through them. Of ViT
// there is a small one; ViTB32 is left out for its size.
func All() []Network {
	embedder := func(o EmbedderOptions) func() *onnx.Graph {
		return func() *onnx.Graph { return Embedder(o) }
	}
	return []Network{
		{"embedder", embedder(EmbedderOptions{})},
		{"embedder of one image", embedder(EmbedderOptions{Batch: 1, Size: 64})},
		{"embedder in float16", embedder(EmbedderOptions{Type: onnx.Float16})},
		{"embedder of gray", embedder(EmbedderOptions{Channels: 1})},
		{"embedder of four channels", embedder(EmbedderOptions{Channels: 4})},
		{"several ports", SeveralPorts},
		{"multiple of 8", MultipleOf8},
		{"hog", func() *onnx.Graph { return Hog(12 << 20) }},
		{"nan", NaN},
		{"no image", NoImage},
		{"unknown operator", UnknownOp},
		{"compact", func() *onnx.Graph { return Compact(4, 16, 2) }},
		{"rrdb", func() *onnx.Graph { return RRDB(RRDBOptions{Features: 16, Blocks: 2}) }},
		{"rrdb unshuffled", func() *onnx.Graph { return RRDB(RRDBOptions{Features: 8, Blocks: 1, Unshuffle: 2}) }},
		{"rrdb in float16", func() *onnx.Graph { return RRDB(RRDBOptions{Features: 8, Blocks: 1, Type: onnx.Float16}) }},
		{"span", func() *onnx.Graph { return Span(2) }},
		{"unet", UNet},
		{"excited", Excited},
		{"interpolated", Interpolated},
		{"resnet18", func() *onnx.Graph { return ResNet18(1000) }},
		{"resnet18 features", func() *onnx.Graph { return ResNet18(0) }},
		{"vit", func() *onnx.Graph {
			return ViT(ViTOptions{Image: 64, Patch: 16, Width: 64, Layers: 2, Heads: 4, Dim: 32})
		}},
	}
}
