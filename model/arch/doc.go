// Package arch builds networks from their published checkpoints. Build looks at the
// names and shapes of the weights, recognises the architecture, and writes it down as an
// ONNX graph around them: what PyTorch code does for others, for the architectures that
// data sets are made with. Each has a file of its own that reads like the figure in its
// paper.
//
// The graphs take pictures as "input" [batch 3 height width] and have named outputs;
// batches may have any size, and pictures too where the architecture allows it.
// Normalisations that follow a convolution are folded into it.
package arch
