# make without a target lists the targets. Tools are installed into bin/tools, at the versions pinned here.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# go-nvml's header declares functions that NVIDIA has deprecated, and cgo mentions them all.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

GOLANGCI_LINT_VERSION := v2.15.0
GOTESTSUM_VERSION := v1.13.0

BIN := bin/forgepipe
TOOLS := $(CURDIR)/bin/tools
# The version is part of the name, so that a new pin installs anew.
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOTESTSUM := $(TOOLS)/gotestsum-$(GOTESTSUM_VERSION)

# How long `make fuzz` runs each fuzz target.
FUZZTIME ?= 60s

.PHONY: help build libs demo startup test check docs soak bench-engine bench-tile bench-hash bench-dedup bench-infer bench-models bench-upscale bench-governor fuzz cuda-check gpu-bundle ort-blob platform

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build: platform ## build the command into bin/forgepipe
	@version=$$(git describe --tags --always --dirty 2>/dev/null || echo dev); \
	cgo=$$(go env CGO_ENABLED); \
	if [ "$$cgo" = 1 ] && ! printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $$(go env CC) -x c -o /dev/null - 2>/dev/null; then cgo=0; fi; \
	if [ "$$cgo" = 0 ]; then echo "There is no working C compiler, or CGO_ENABLED=0: this forgepipe cannot read the memory of NVIDIA GPUs, and runs no models." >&2; fi; \
	CGO_ENABLED=$$cgo CGO_CFLAGS="$${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}" \
	go build -buildvcs=false -trimpath -ldflags "-X main.version=$$version -extldflags=-Wl,-z,lazy" -o $(BIN) ./cmd/forgepipe

# cgo is for memory/nvml and internal/ort. -z lazy: the linker of some distributions has all functions found at the start,
# among them those of an NVIDIA driver that may not be there. -Wno-deprecated-declarations: go-nvml wraps all of NVML.
# -buildvcs=false: in a checkout that belongs to another user (a container running as root) git refuses to answer, and
# Go would then fail the build instead of leaving its stamp out. The version comes from git describe, or is "dev".
platform:
	@command -v go >/dev/null || { echo "forgepipe is built with Go 1.26 or newer, and there is no go in PATH." >&2; exit 1; }
	@os=$$(go env GOOS) arch=$$(go env GOARCH); \
	if [ "$$os/$$arch" != linux/amd64 ]; then \
		echo "forgepipe supports only linux/amd64 so far; this is $$os/$$arch." >&2; exit 1; \
	fi

libs: ## install the image libraries that are used when they are there (Debian, Ubuntu; as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libturbojpeg0 libwebp7

demo: export INPUT := $(or $(INPUT),testdata/photos)
demo: export OUT := $(or $(OUT),out/demo)
demo: build ## run pipelines/quickstart.yaml on the photographs in testdata/photos (or INPUT=..., OUT=...)
	@$(BIN) run pipelines/quickstart.yaml || { rc=$$?; [ $$rc -eq 4 ] || exit $$rc; }
	@echo; \
	echo "$$(wc -l < "$$OUT/manifest.jsonl") tiles under $$OUT, one line each in $$OUT/manifest.jsonl; what happened to every photograph"; \
	echo "and why is in the run store $$(find "$$OUT" -path '*/.forgepipe/run.db' -print -quit)."; \
	echo "With your own: $(BIN) run pipelines/quickstart.yaml --set INPUT=DIR --set OUT=out/mine"

startup: export INPUT := testdata/photos
startup: build ## print how large the program is, and how long it takes to start (the best of 20 times)
	@printf '%-48s %5.1f MiB\n' $(BIN) "$$(awk "BEGIN {print $$(stat -c %s $(BIN)) / 1048576}")"; \
	for args in --help "lint pipelines/quickstart.yaml"; do \
		best=; \
		for i in {1..20}; do \
			began=$${EPOCHREALTIME//[^0-9]/}; \
			$(BIN) $$args >/dev/null 2>&1; \
			took=$$(( $${EPOCHREALTIME//[^0-9]/} - began )); \
			[[ -n $$best && $$best -le $$took ]] || best=$$took; \
		done; \
		printf '%-48s %5.1f ms\n' "$(BIN) $$args" "$$(awk "BEGIN {print $$best / 1000}")"; \
	done

test: check build $(GOTESTSUM) ## run the checks and all tests, under the race detector but for those of memory (what CI runs)
	go test -run 'TestLeakIs|TestPhasesSay|TestSoundChain' ./pipeline
	@CGO_ENABLED=1 GORACE="atexit_sleep_ms=0 $${GORACE:-}" $(GOTESTSUM) --format pkgname -- -race -timeout 40m ./...

check: $(GOLANGCI_LINT) ## gofmt, go vet, golangci-lint, and that go.mod and go.sum are tidy and true and docs is up to date
	@files=$$(gofmt -l .); [ -z "$$files" ] || { printf 'gofmt would change:\n%s\n' "$$files" >&2; exit 1; }
	go mod tidy -diff
	go mod verify
	go vet ./...
	$(GOLANGCI_LINT) run
	go run ./docs/generate -check

docs: platform ## write the pages in docs that are made from the declarations of the stages, and the JSON Schema
	go run ./docs/generate

soak: FUZZTIME = 5m
soak: build ## run the long tests (build tag soak), then every fuzz target for 5 minutes
	go test -tags soak -timeout 60m -run Soak ./...
	@$(MAKE) --no-print-directory fuzz FUZZTIME=$(FUZZTIME)

fuzz: ## run every fuzz target for FUZZTIME (default 60s), one after another
	@pkgs=$$(go list ./...); \
	for pkg in $$pkgs; do \
		names=$$(go test -list '^Fuzz' $$pkg); \
		for name in $$(grep '^Fuzz' <<<"$$names" || true); do \
			echo "$$pkg $$name"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

cuda-check: platform ## build and test the tag cuda against CUDA's headers, without a GPU (gets them with pip)
	@memory/cuda/check.sh bin/cuda-check

gpu-bundle: build cuda-check ## put what measures forgepipe on another machine's GPU into bin/forgepipe-gpu.tar.gz (docs/gpu.md)
	@benchmarks/gpu/bundle.sh

bench-engine: ## measure the engine against its peers and record it in benchmarks/RESULTS.md
	go run ./benchmarks/engine -record benchmarks/RESULTS.md

bench-tile: build ## measure the tile job against sharp, libvips and imaging and record it in benchmarks/RESULTS.md
	go run ./benchmarks/tile -record benchmarks/RESULTS.md

bench-hash: build ## measure hashes and dedup against pdqhash and imagededup and record it in benchmarks/RESULTS.md
	go run ./benchmarks/hash -record benchmarks/RESULTS.md

bench-dedup: build ## measure de-duplication against FAISS and imagededup, and what its methods find, and record it in benchmarks/RESULTS.md
	go run ./benchmarks/dedup -record benchmarks/RESULTS.md

bench-infer: build ## measure embed against its bare parts and against Python and record it in benchmarks/RESULTS.md
	go run ./benchmarks/infer -record benchmarks/RESULTS.md

bench-upscale: build ## measure upscale against the bare runtime and against Python and record it in benchmarks/RESULTS.md
	go run ./benchmarks/upscale -record benchmarks/RESULTS.md

bench-models: platform ## measure the networks of checkpoints against PyTorch and record it in benchmarks/RESULTS.md
	go run ./benchmarks/models -record benchmarks/RESULTS.md

bench-governor: platform ## measure how well batch sizes are chosen, simulated and with the runtime, and record it in benchmarks/RESULTS.md
	go run ./benchmarks/governor -record benchmarks/RESULTS.md -images benchmarks/images

ort-blob: platform ## make the ONNX Runtime library inside the program and its notices anew from npm and PyPI and compare them with what is recorded
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	lib=internal/ort/ortlib; version=$$(sed -n 's/^\tVersion *= "\(.*\)"$$/\1/p' $$lib/origin.go); \
	npm pack --silent --pack-destination "$$dir" "onnxruntime-node@$$version"; \
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--platform manylinux_2_28_x86_64 --python-version 3.12 --dest "$$dir" "onnxruntime==$$version"; \
	CGO_ENABLED=1 go run -tags ortblob,noort ./$$lib/rebuild "$$dir"/*.tgz "$$dir"/*.whl $$lib

$(GOLANGCI_LINT):
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(TOOLS)/golangci-lint $@

$(GOTESTSUM):
	GOBIN=$(TOOLS) go install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
	@mv $(TOOLS)/gotestsum $@
