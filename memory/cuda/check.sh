#!/usr/bin/env bash
# Builds, vets and tests what the tag cuda adds, without a GPU or CUDA installed: against the headers of a pinned package
# of NVIDIA's, and a generated libcuda.so whose functions all succeed and do nothing (it shows no GPU). The one argument
# is the folder that keeps both, which must not be committed. Run by `make cuda-check`.
set -euo pipefail
cache=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Of CUDA 12, as gorgonia.org/cu v0.9.6 does not compile with the headers of 13: there cuCtxCreate (_v4) and others
# take more arguments. Those of nvidia-cuda-runtime-cu11 11.8.89 compile too, sha256
# 92d04069a987e1fbc9213f8376d265df0f7bb42617d44f5eda1f496acea7f2d1.
package=nvidia-cuda-runtime-cu12
version=12.9.79
sha256=25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3

say() { echo "cuda-check: $*"; }
fail() { echo "cuda-check: $*" >&2; exit 1; }

command -v cc >/dev/null || fail "there is no C compiler: install gcc or clang, and call it cc"
headers=$cache/include-$version
if [ ! -e "$headers/cuda.h" ]; then
	python3 -m pip --version >/dev/null 2>&1 || fail "python3 with pip is needed to get CUDA's headers: install python3-pip"
	say "getting the headers of $package $version"
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	echo "$package==$version --hash=sha256:$sha256" >"$new/requirements.txt"
	python3 -m pip download --quiet --disable-pip-version-check --retries 1 --timeout 30 --no-deps --only-binary :all: \
		--require-hashes --requirement "$new/requirements.txt" --dest "$new" ||
		fail "$package $version could not be had: is the network there, and does pip reach its package index?"
	python3 -m zipfile --extract "$new"/*.whl "$new/wheel"
	[ -e "$new/wheel/nvidia/cuda_runtime/include/cuda.h" ] || fail "$package $version has no nvidia/cuda_runtime/include/cuda.h"
	rm -rf "$headers"
	mv "$new/wheel/nvidia/cuda_runtime/include" "$headers"
fi

# Preprocessed, the header declares the functions under the names that are linked: cuCtxCreate is cuCtxCreate_v2.
stub=$cache/stub-$version
mkdir -p "$stub"
echo '#include <cuda.h>' | cc -E -P -I"$headers" - |
	grep -oE '\bcu[A-Z][A-Za-z0-9_]*[[:space:]]*\(' | tr -d '( ' | sort -u |
	sed 's/.*/int &(void) { return 0; }/' >"$stub/cuda.c"
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$stub/libcuda.so.1" "$stub/cuda.c"
ln -sf libcuda.so.1 "$stub/libcuda.so"
say "headers in $headers, libcuda.so with $(wc -l <"$stub/cuda.c") functions that do nothing in $stub"

export CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -I$headers" CGO_LDFLAGS="-O2 -g -L$stub"
cu=gorgonia.org/cu
has() { grep -qxE "$cu(/.*)?" <<<"$1"; }

deps=$(go list -deps ./...)
! has "$deps" || fail "the default build has $cu in it, which ends a process that finds no GPU: import it only under the tag cuda"
deps=$(go list -tags cuda -deps ./memory/cuda)
has "$deps" || fail "with the tag cuda memory/cuda does not have $cu in it"
say "$cu is in memory/cuda under the tag cuda, and in nothing without it"

mkdir -p "$cache/bin"
go build -tags cuda -o "$cache/bin/" ./memory/cuda ./cmd/...
say "go build -tags cuda ./memory/cuda ./cmd/...: built and linked"
go vet -tags cuda ./memory/cuda ./cmd/...
say "go vet -tags cuda ./memory/cuda ./cmd/...: nothing found"
LD_LIBRARY_PATH=$stub${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} go test -tags cuda ./memory/cuda
say "go test -tags cuda ./memory/cuda: passed without a GPU"
