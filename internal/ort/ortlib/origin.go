// Package ortlib carries ONNX Runtime's library for the CPU inside the program,
// so that a pipeline with models runs without installing anything. `make
// ort-blob` makes the compressed file anew from its origin and compares both
// with what is recorded here.
//
// The library is Microsoft's, under the MIT licence (see LICENSE), unchanged. What
// is linked into it has its own authors and licences, which ThirdPartyNotices.txt
// has; who passes the program on passes both files on with it.
package ortlib

// Where the library and the notices are from, and what they must be.
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
	// NoticesMember is the file in Microsoft's Python package of the same version
	// that has the notices, which Package lacks.
	NoticesMember = "onnxruntime/ThirdPartyNotices.txt"
	NoticesSHA256 = "0e07b95f3a8d6230037707c5c4a2b554d12c4cb67369669ac255635528ffcee2"
)
