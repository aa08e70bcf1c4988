package main

import (
	"runtime/debug"
)

// outsideGo is what of the process's memory is not Go's to manage: its code and
// data, SQLite's own memory, what the image libraries allocate, thread stacks.
const outsideGo = 52 << 20

// limitMemory makes the garbage collector keep the process inside the
// pipeline's memory.host.limit. A lower GOMEMLIMIT stays.
func limitMemory(limit int64) {
	debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), limit-outsideGo))
}
