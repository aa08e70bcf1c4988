// Package ortlib carries ONNX Runtime's library for the CPU inside the program,
// so that a pipeline with models runs without installing anything. `make
// ort-blob` makes the compressed file anew from its origin and compares both
// with what is recorded here.
//
// The library is Microsoft's, under the MIT licence (see LICENSE), unchanged.
package ortlib

// Where the library is from, and what it must be.
const (
	Version = "1.24.3"
	// Package and Member are the npm package and the file in it. Of what
	// Microsoft publishes it has the smallest build for the CPU.
	Package = "onnxruntime-node@" + Version
	Member  = "package/bin/napi-v6/linux/x64/libonnxruntime.so.1"
	// Size is the library's, in bytes.
	Size = 35164376
	// SHA256 is the library's, and BlobSHA256 that of its compressed file.
	SHA256     = "92ba8e44d31b80a34f5e805076a044122c3be1fffe0d88ed790de7267b0b2682"
	BlobSHA256 = "060f988f2c158667b8690d6de1a8f2a247572224a5e4a3132859466709670956"
)
