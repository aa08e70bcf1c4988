package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
)

// ofWritten is how much memory a conversion may take, relative to what it writes.
const ofWritten = 1.3

func same(x float64) float64 { return x }
func wall(t took) float64    { return t.wall }

func (b *benchmark) report(rounds int, load string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Peers: %s. Load when it began: %s. %d threads each; weights and inputs by formula, the same for both; %d interleaved rounds of at least %g s, in which the two take turns in being first. Times are medians, of a picture; ratios are the medians of the rounds' own, with the least and the largest; that by CPU time, of all threads, depends less on what else the machine does. PyTorch's threads sleep while they wait for each other (OMP_WAIT_POLICY=PASSIVE), as forgepipe's do: by default they spin, which takes many times as long where others need the CPUs. Memory is the peak resident set of the process, with network, runtime and one batch.\n\n", b.version, load, threads, rounds, long)
	if len(b.results) > 0 {
		s.WriteString("| network | input | ms (PyTorch) | as fast as PyTorch | by CPU time | peak RSS MB (PyTorch) | relative error, largest | converted in s, peak RSS MB |\n|---|---|---|---|---|---|---|---|\n")
	}
	for _, r := range b.results {
		ratios, byCPU := make([]float64, len(r.ours)), make([]float64, len(r.ours))
		for i := range ratios {
			ratios[i], byCPU[i] = r.theirs[i].wall/r.ours[i].wall, r.theirs[i].cpu/r.ours[i].cpu
		}
		fmt.Fprintf(&s, "| %s | %s | %.1f (%.1f) | %.2f (%.2f to %.2f) | %.2f (%.2f to %.2f) | %d (%d) | %.1e, %.1e | %.2f, %d |\n", r.title, r.size,
			1000*proc.Median(r.ours, wall), 1000*proc.Median(r.theirs, wall),
			proc.Median(ratios, same), slices.Min(ratios), slices.Max(ratios), proc.Median(byCPU, same), slices.Min(byCPU), slices.Max(byCPU),
			r.oursRSS/1e6, r.peerRSS/1e6, r.relative, r.largest, r.converted.Wall.Seconds(), r.converted.RSS/1e6)
	}
	if len(b.larges) > 0 {
		s.WriteString("\nA safetensors file of a CLIP of the size of L/14:\n\n| elements | MB | written MB | converted in s | peak RSS MB | of what is written | opened from the cache in s | the ONNX file in s |\n|---|---|---|---|---|---|---|---|\n")
	}
	for _, r := range b.larges {
		fmt.Fprintf(&s, "| %s | %d | %d | %.1f | %d | %.2f | %.2f | %.2f |\n", r.kind, r.checkpoint/1e6, r.written/1e6, r.converted.Wall.Seconds(), r.converted.RSS/1e6,
			float64(r.converted.RSS)/float64(r.written), proc.Median(r.fromCache, same), proc.Median(r.fromONNX, same))
	}
	for _, r := range b.larges {
		share := float64(r.converted.RSS) / float64(r.written)
		verdict := "holds"
		if share > ofWritten {
			verdict = "DOES NOT HOLD"
		}
		fmt.Fprintf(&s, "\n- %s: converting takes at most %.1f times the memory of what is written: %.2f", r.kind, ofWritten, share)
		fmt.Fprintf(&s, " (%s).", verdict)
	}
	return s.String()
}
