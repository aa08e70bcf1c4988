// Package infer is the stage "infer": it runs any network, an ONNX file that takes a
// picture, on every image, and makes of its outputs what the pipeline asks for:
// attributes, vectors, a new picture. What runs the network is package network.
package infer
