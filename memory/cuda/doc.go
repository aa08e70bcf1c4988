// Package cuda shows a GPU as this process sees it through the CUDA driver, and
// gives back all that the process has on it. A [Device] reads cuMemGetInfo in the
// primary context, which is the one that the CUDA runtime and with it ONNX Runtime
// use. Who works on the GPU says so with [Device.Use]; while nobody does,
// [Device.Reset] is the strongest clean-up there is: it destroys the context, and
// everything that was allocated in it.
//
// CUDA is in the package only where it is built with the tag cuda, the headers of
// CUDA 11 or 12, and libcuda.so to link with (make cuda-check does all that
// without a GPU). Such a program does not start where the driver is missing, and
// ends at once where it finds no GPU: gorgonia.org/cu calls cuInit before main.
// Without the tag every call answers with [ErrNotBuilt], and nothing of CUDA is
// linked.
package cuda
