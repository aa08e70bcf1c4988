// Package pipeline is the engine of forgepipe: it reads a pipeline file into a
// specification, turns the specification into a plan, and runs the plan.
//
// A run moves items (one image each) from a source through stages over queues
// that are bounded by items and by bytes. Every item that enters is accounted
// for: it leaves at the end of the chain, lives on in items derived from it, is
// rejected with a reason, or is quarantined with a cause. Nothing else can
// happen to it; a stage that loses an item ends the run with an error that
// begins with "BUG:" and the stage's name.
//
// To follow one image through the code, read the files in this order:
// source.go (an item is emitted), queue.go, node.go (a batch is taken and
// leased for), attempt.go (the stage is called and its answer checked),
// outputs.go (a file is published), finish.go (the item's end is recorded).
package pipeline
