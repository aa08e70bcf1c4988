// Package model brings pictures to networks. A [Spec] says what a network wants
// to see: the size, the order of the samples in memory, their range and their
// type; [Spec.Fill] writes a picture straight into its place in a batch, with the
// pixels that Pillow and torchvision would give. [Preset] has the specs of known
// networks.
package model
