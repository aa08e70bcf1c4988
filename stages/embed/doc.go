// Package embed is the stage "embed": it turns pictures into vectors with a
// network, any ONNX file that takes a picture and gives numbers. A vector has as many
// components as the network's output for one picture has elements, the length 1, and the
// hash of the network's file. What runs the network is package network.
package embed
