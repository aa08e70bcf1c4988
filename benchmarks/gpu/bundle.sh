#!/usr/bin/env bash
# Puts what a machine with a GPU is to run into a folder and an archive of it: the program, the tests of the packages
# that can say something there, this benchmark, and run.sh. `make gpu-bundle` has built bin/forgepipe, and CUDA's headers
# and a libcuda.so to link with in bin/cuda-check: on the other machine the driver's takes its place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bundle=bin/forgepipe-gpu
version=$(git describe --tags --always --dirty 2>/dev/null || echo dev)
include=$(echo "$PWD"/bin/cuda-check/include-*) stub=$(echo "$PWD"/bin/cuda-check/stub-*)
# Without debugging information all is half as large.
link=(-trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version -extldflags=-Wl,-z,lazy")
export CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations"

rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/tests"
cp benchmarks/gpu/run.sh docs/gpu.md LICENSE NOTICE "$bundle/"
cp bin/forgepipe "$bundle/bin/"
go build "${link[@]}" -o "$bundle/bin/gpu" ./benchmarks/gpu
mkdir "$bundle/tests/testdata"
cp -r testdata/photos "$bundle/tests/testdata/" # where tests look for them
for package in memory memory/nvml memory/cuda internal/ort model stages/embed stages/network stages/upscale; do
	mkdir -p "$bundle/tests/$package"
	(
		tags=()
		if [ "$package" = memory/cuda ]; then
			tags=(-tags cuda)
			export CGO_CFLAGS="-O2 -g -I$include" CGO_LDFLAGS="-O2 -g -L$stub"
		fi
		go test -c "${tags[@]}" "${link[@]}" -o "$bundle/tests/$package/run.test" "./$package"
	)
	if [ -d "$package/testdata" ]; then
		cp -r "$package/testdata" "$bundle/tests/$package/"
	fi
done
echo "$version" >"$bundle/version"
tar -C bin -czf "$bundle.tar.gz" "${bundle#bin/}"
echo "$bundle.tar.gz: $(du -h "$bundle.tar.gz" | cut -f1), unpacked $(du -sh "$bundle" | cut -f1). On the machine with the GPU:"
echo "  tar -xzf forgepipe-gpu.tar.gz && cd forgepipe-gpu && ./run.sh --help"
