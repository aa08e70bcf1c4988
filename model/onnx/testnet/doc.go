// Package testnet makes networks for tests and benchmarks: those that image
// pipelines use, and those that go wrong in a way of their own. Their weights are
// random but always the same, so that a network is the same file every time.
//
//	err := testnet.Embedder(testnet.EmbedderOptions{Dim: 16}).WriteFile("tiny.onnx")
package testnet
