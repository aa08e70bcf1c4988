#!/usr/bin/env bash
# Measures forgepipe on the NVIDIA GPU of this machine, a part after another, and writes what it found into a folder,
# as Markdown.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

all=(machine tests parity limits arena pipeline tenant governor)
# How long a command of each may take, in seconds.
declare -A most=([machine]=30 [tests]=120 [parity]=150 [limits]=60 [arena]=120 [pipeline]=90 [tenant]=180 [governor]=240)

usage() {
	cat <<END
./run.sh [--without-gpu] [--gpu N] [--out FOLDER] [PART...]

  machine   the card, the driver, and what forgepipe says of them
  tests     the tests of memory, nvml, cuda (-tags cuda), ort, model, embed, network and upscale
  parity    CUDA against the CPU: outputs, and images/s by batch
  limits    what the runtime says where memory ends
  arena     memory over 1,000 batches of changing sizes
  pipeline  forgepipe run pipelines/embed.yaml on the photographs
  tenant    a run beside a process that takes the card's memory; the driver's readings against the ledger
  governor  batches that the governor chooses against the best that never changes

Without a part all are run, in that order. Each may be run alone; results of earlier ones are kept.
--without-gpu has a simulated card stand for the GPU, to see that the parts work: no figure is one of a GPU then.

The ONNX Runtime for CUDA is not part of this. Either FORGEPIPE_ORT_LIB names its libonnxruntime.so, and LD_LIBRARY_PATH
the folders of CUDA 12 and cuDNN 9, or

  ./run.sh runtime

gets all of that with pip into the folder runtime, without root (2.9 GiB; the driver must be 525 or newer).

Exit codes: 0 all held; 1 something did not; 3 there is no GPU, or no runtime for it.
END
}

without=() gpu=0 out="" parts=()
while [ $# -gt 0 ]; do
	case $1 in
	--without-gpu) without=(-without-gpu) ;;
	--gpu) gpu=${2:?--gpu wants a number} && shift ;;
	--out) out=${2:?--out wants a folder} && shift ;;
	-h | --help) usage && exit 0 ;;
	*)
		if [ "$1" != runtime ] && [ -z "${most[$1]:-}" ]; then
			echo "run.sh: there is no part $1: see ./run.sh --help" >&2
			exit 2
		fi
		parts+=("$1")
		;;
	esac
	shift
done
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")
[ -n "$out" ] || out=results${without[*]} # results-without-gpu: not among those of a card

# The versions are those that go with each other, and with this forgepipe.
get_runtime() {
	python3 -m venv runtime &&
		runtime/bin/python -m pip install --quiet --disable-pip-version-check 'onnxruntime-gpu[cuda,cudnn]==1.24.4' &&
		echo "runtime: $(du -sh runtime | cut -f1)"
}

# use_runtime finds the library that pip has installed, and those that it needs in turn: they know nothing of each other.
use_runtime() {
	local lib
	[ -z "${FORGEPIPE_ORT_LIB:-}" ] || return 0
	for lib in "$PWD"/runtime/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*; do
		[ -e "$lib" ] || continue
		export FORGEPIPE_ORT_LIB=$lib
		for lib in "$PWD"/runtime/lib/python3*/site-packages/nvidia/*/lib; do
			LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
		done
		export LD_LIBRARY_PATH
	done
}

has_gpu() { bin/forgepipe doctor 2>/dev/null | grep -q '  nvidia  gpu:'; }

# shown runs a command of a part, and shows it with what it prints, as Markdown.
shown() {
	local part=$1 rc
	shift
	echo '```'
	echo "\$ $*"
	timeout -k 5 "${most[$part]}" "$@" 2>&1
	rc=$?
	[ $rc -ne 124 ] || echo "it did not end within ${most[$part]} s"
	echo '```'
	echo
	return $rc
}

mark() {
	echo "## $1"
	echo
	[ ${#without[@]} -eq 0 ] || printf '**WITHOUT A GPU: no figure below is one of a GPU.**\n\n'
}

machine() {
	mark machine
	echo "$(date -u '+%Y-%m-%d %H:%M UTC'), forgepipe $(cat version); FORGEPIPE_ORT_LIB=${FORGEPIPE_ORT_LIB:-}; LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}"
	echo
	if command -v nvidia-smi >/dev/null; then
		shown machine nvidia-smi --query-gpu=index,name,driver_version,memory.total,memory.used,memory.reserved,mig.mode.current,power.limit --format=csv
	fi
	shown machine bin/forgepipe version
	shown machine bin/forgepipe doctor
	shown machine bin/forgepipe memory info
	[ ${#without[@]} -gt 0 ] || has_gpu || return 3
	[ ${#without[@]} -gt 0 ] || ! bin/forgepipe doctor | grep -q 'the GPU is not used' || return 3
}

# tests runs each package in its folder, with the runtime inside the program: what CUDA does is for the other parts.
tests() {
	local dir rc=0
	mark tests
	for dir in memory/cuda memory/nvml internal/ort model stages/embed stages/network stages/upscale memory; do
		if [ "$dir" = memory/cuda ] && ! has_gpu; then
			# What is built with the tag cuda does not start without the driver.
			printf -- '- memory/cuda with the tag cuda: not run, as there is no NVIDIA driver\n\n'
			continue
		fi
		(cd "tests/$dir" && shown tests env -u FORGEPIPE_ORT_LIB ./run.test -test.v >"$out/tests.log" 2>&1)
		local code=$?
		printf -- '- %s: %s, %s passed, %s skipped, %s failed\n\n' "$dir" "$([ $code -eq 0 ] && echo HOLDS || echo FAILED)" \
			"$(grep -c '^--- PASS' "$out/tests.log")" "$(grep -c '^--- SKIP' "$out/tests.log")" "$(grep -c '^--- FAIL' "$out/tests.log")"
		if [ "$dir" = memory/cuda ] || [ $code -ne 0 ]; then
			echo '```'
			grep -E -A4 'TestOnAGPU|^ *--- FAIL|^panic' "$out/tests.log" | head -60
			echo '```'
			echo
		fi
		mv "$out/tests.log" "$out/tests-${dir//\//-}.log"
		[ $code -eq 0 ] || rc=1
	done
	[ ${#without[@]} -gt 0 ] || has_gpu || return 3
	return $rc
}

pipeline() {
	local network=work/resnet18.onnx simulate=()
	mark pipeline
	if [ ${#without[@]} -gt 0 ]; then
		network=work/embedder-small.onnx simulate=(--simulate gpu:192MiB)
	elif ! has_gpu; then
		echo "There is no GPU."
		return 3
	fi
	rm -rf work/embed
	mkdir -p work
	[ -e "$network" ] || bin/gpu -job nets -dir work "${without[@]}" || return 1
	cat >work/embed.yaml <<-END
		source: {images: {path: tests/testdata/photos}}
		stages:
		  - tile: {size: 64}
		  - embed: {model: $network, name: v}
		    device: gpu:$gpu
		  - manifest: {path: work/embed/manifest.jsonl, vectors: true}
	END
	shown pipeline bin/forgepipe run work/embed.yaml --cache none --verbose "${simulate[@]}"
}

# measured is a part of the benchmark, which writes its own file.
measured() {
	timeout -k 5 "${most[$1]}" bin/gpu -part "$1" -gpu "$gpu" -out "$out" -dir work "${without[@]}"
}

use_runtime
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
worst=0
for part in "${parts[@]}"; do
	if [ "$part" = runtime ]; then
		get_runtime || exit 1
		use_runtime
		continue
	fi
	began=$SECONDS
	case $part in
	machine | tests | pipeline)
		"$part" >"$out/$part.md"
		rc=$?
		cat "$out/$part.md"
		;;
	*)
		measured "$part"
		rc=$?
		;;
	esac
	case $rc in
	0) ;;
	3)
		echo "run.sh: $part: there is no GPU, or no ONNX Runtime for it: see ./run.sh --help" >&2
		[ $worst -eq 1 ] || worst=3
		;;
	124)
		echo "run.sh: $part: it did not end within ${most[$part]} s" >&2
		worst=1
		;;
	*)
		echo "run.sh: $part: something does not hold (exit code $rc)" >&2
		worst=1
		;;
	esac
	echo "run.sh: $part took $((SECONDS - began)) s" >&2
done

{
	printf '# forgepipe on a GPU\n\n'
	[ ${#without[@]} -eq 0 ] || printf '**WITHOUT A GPU: no figure below is one of a GPU.**\n\n'
	for part in "${all[@]}"; do
		[ ! -e "$out/$part.md" ] || { cat "$out/$part.md" && echo; }
	done
} >"$out/results.md"
echo "run.sh: $out/results.md has it all" >&2
exit $worst
