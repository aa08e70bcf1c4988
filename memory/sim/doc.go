// Package sim is a device that exists only in figures, to test and to tune what
// decides about memory without a GPU. A [Device] has a size, neighbours that take
// memory after a [Trace] and compute after a [Load], readings that come late, and
// probes that fail or hang. A [Session] on it uses memory as one of ONNX Runtime does: its [Arena] keeps
// what it once had, grows by one of two strategies, is shrunk on request, and
// runs out of memory with the runtime's words. [Drive] puts networks to work on such
// cards in simulated time, as a memory.Governor says. The package decides nothing.
package sim
