// Package network makes a stage of a neural network. It is for who writes such a stage:
// [New] takes a network's file and a function that takes what the network made of an
// item, and gives a whole stage: pictures are prepared as the network wants them, put
// into batches with those of other workers, and run on the devices of the pipeline,
// within the memory that there is. What the stage costs, where it runs and what becomes
// of an item that has no room is settled here, once for all such stages; "embed" is one
// of them.
package network
