// Package malloc talks to the C library's allocator, which keeps what C code has
// freed for later and so makes a process look larger than it is. It calls GNU's
// C library in the process, with and without cgo. With another C library (musl),
// or on another system, it does nothing and says so.
package malloc
