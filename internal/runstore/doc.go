// Package runstore keeps what happened to each source file and each item of a
// run, so that a run that was killed goes on where it stopped and a second run
// computes only what is missing. A state directory holds run.db (SQLite: runs,
// sources and one row per terminal decision), lock (held while a run has the
// store open) and attributes (append-only segments of cached stage outcomes,
// found by key). Rows are written by one goroutine in groups; what a caller
// intends to do to the file system is durable before Intend returns, and what a
// crash may have left half done can be told from what is certain.
//
// To follow one row, read the files in this order: decision.go (what a row is),
// queue.go (it waits), commit.go (it is written), read.go (it is read again),
// run.go (what a crash makes of it), seen.go (whether this run still wants it).
package runstore
