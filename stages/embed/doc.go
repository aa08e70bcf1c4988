// Package embed is the stage "embed": it turns pictures into vectors with a
// network, any ONNX file that takes a picture and gives numbers.
package embed
