// Package ort runs ONNX models with ONNX Runtime, in this process.
//
// The runtime's library for the CPU is part of the program (package ortlib); one
// that the user names is used instead, for example one with CUDA. It is loaded
// once in a process, by [Load].
//
// A [Session] is one model on one device. It has an operating system's thread of
// its own, on which it is opened, run and closed: with CUDA, runs from changing
// threads grew a session by gigabytes (microsoft/onnxruntime issue 29351). With
// CUDA one run is in flight at a time, because concurrent ones can corrupt its
// context (issue 32342); for two at once, open two sessions. On the CPU a session
// can have several, each with a thread of its own (SessionOptions.Concurrent),
// which share its weights.
//
// Each session has an arena of its own, which grows by what is asked for and no
// more (kSameAsRequested), with memory patterns off. So what it has allocated is
// proportional to the batch when the arena was shrunk before (RunOptions.Shrink).
// SessionOptions.ArenaLimit bounds the arena of one session and of no other; a
// run that does not fit ends with an error that is [ErrOutOfMemory], and
// the session goes on working.
//
// The environment, the options and the sessions are those of
// github.com/yalue/onnxruntime_go. What it has no door to (statistics, settings
// of a run, the types of a session's ports, log messages) is in shim.c, which
// works on the same objects through the runtime's C interface; the headers of
// that, under include, are Microsoft's (MIT), unchanged.
//
// Without cgo, or with the build tag noort, Load returns an error.
package ort
