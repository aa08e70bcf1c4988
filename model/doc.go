// Package model runs networks on pictures. A [File] is a network's file that was
// looked at, not loaded: what the check of a pipeline needs. A [Runner] collects
// pictures from all workers into batches for one device or several, and answers out
// of memory. A [Spec] says what a network wants to see: the size, the order of the
// samples in memory, their range and their type; [Spec.Fill] writes a picture straight into its place in a batch, with the
// pixels that Pillow and torchvision would give. [Preset] has the specs of known
// networks.
package model
