package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
)

// What must hold.
const (
	ofBare   = 0.95   // of the rate of the bare runtime, without the start
	mostRuns = 1. / 8 // runs for each small picture
)

func wall(u proc.Usage) time.Duration { return u.Wall }
func cpu(u proc.Usage) time.Duration  { return u.CPU }

func (e *entrant) seconds(f func(proc.Usage) time.Duration) float64 {
	return proc.Median(e.samples, func(u proc.Usage) float64 { return f(u).Seconds() })
}

// over is how many times as long the program took as another, by f: the median of
// the rounds' ratios, since a machine's load differs more between rounds.
func (e *entrant) over(other *entrant, f func(proc.Usage) time.Duration) float64 {
	return median(len(e.samples), func(i int) float64 { return f(e.samples[i]).Seconds() / f(other.samples[i]).Seconds() })
}

func median(n int, f func(i int) float64) float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = f(i)
	}
	return proc.Median(all, func(x float64) float64 { return x })
}

// rss is the highest of all rounds, in MB.
func (e *entrant) rss() float64 {
	var top int64
	for _, u := range e.samples {
		top = max(top, u.RSS)
	}
	return float64(top) / 1e6
}

// parts are the bare runtime's of a round.
func (t *task) parts(round int) (p parts) {
	_ = json.Unmarshal(t.bare.samples[round].Stdout, &p) // bareJob has written it
	return p
}

// overRounds is the median of what the bare runtime took.
func (t *task) overRounds(f func(parts) float64) float64 {
	return median(len(t.bare.samples), func(i int) float64 { return f(t.parts(i)) })
}

// best is the bare runtime's way that is the quicker one over all rounds: the lesser of
// two times in each round would be less than either takes where times vary.
func (t *task) best() func(parts) took {
	shared := func(p parts) took { return p.Shared }
	apart := func(p parts) took { return p.Apart }
	if t.overRounds(func(p parts) float64 { return p.Shared.Wall }) < t.overRounds(func(p parts) float64 { return p.Apart.Wall }) {
		return shared
	}
	return apart
}

// ofBare is the share of the bare runtime's rate that forgepipe has: of the whole
// program, without its start, and without its start by CPU time, on which other programs
// have less influence.
func (t *task) ofBare() (whole, steady, byCPU float64) {
	n, best := len(t.us.samples), t.best()
	share := func(f func(i int) (bare, us float64)) float64 {
		return median(n, func(i int) float64 {
			bare, us := f(i)
			return bare / us
		})
	}
	whole = share(func(i int) (float64, float64) { return best(t.parts(i)).Wall, t.us.samples[i].Wall.Seconds() })
	steady = share(func(i int) (float64, float64) {
		return best(t.parts(i)).Wall, (t.us.samples[i].Wall - t.start.samples[i].Wall).Seconds()
	})
	byCPU = share(func(i int) (float64, float64) {
		return best(t.parts(i)).CPU, (t.us.samples[i].CPU - t.start.samples[i].CPU).Seconds()
	})
	return whole, steady, byCPU
}

// runsEach is how many runs of the network a picture took, at most in a round.
func (t *task) runsEach() (most float64) {
	for _, u := range t.us.samples {
		d, _, _ := does(u.Stdout, t.n) // plan has read such a document
		most = max(most, float64(d.Runs)/float64(t.n))
	}
	return most
}

func (b *benchmark) report(rounds int, load string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "The job: pictures of a folder, four times as wide and high, as PNG. %s %s %s\n\n", describedNets, photos.Described, describedSets)
	fmt.Fprintf(&s, "%d threads for everyone, inputs in the page cache, one program after another in %d rounds. Times are of whole programs, with their start and the loading of the network, and medians; ratios are the medians of the ratios within a round; CPU is user and system time of all processes; memory is the highest peak. The load average was %s when it began; where other programs compete for the CPUs, figures are not to be relied on.\n\n", threads, rounds, load)
	s.WriteString("Against the bare runtime, which runs filled tensors of the same shapes as often: one session with all threads, or as many runs at once with one thread each, whichever is quicker over all rounds (both in brackets); it neither decodes nor cuts, puts together or writes. Overlap is the share of the network's work that is done more than once. The start is what a run with one picture of 8x8 takes:\n")
	s.WriteString("\n| | tiles | overlap | bare s | bare CPU s | forgepipe s | CPU s | start s | share | share without start | by CPU time |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, t := range b.tasks {
		best := t.best()
		whole, steady, byCPU := t.ofBare()
		tiles := fmt.Sprintf("%d of %dx%d, %d px beyond", len(t.tiles()), t.tiles()[0].X, t.tiles()[0].Y, t.tiling.overlap)
		if len(t.tiles()) == 1 {
			tiles = fmt.Sprintf("whole, up to %d in a run", t.tiling.batch)
		}
		fmt.Fprintf(&s, "| %d x %s | %s | %.1f %% | %.2f (%.2f, %.2f) | %.2f | %.2f | %.2f | %.2f | %.1f %% | %.1f %% | %.1f %% |\n", t.n, t.name, tiles, 100*t.share(),
			t.overRounds(func(p parts) float64 { return best(p).Wall }), t.overRounds(func(p parts) float64 { return p.Shared.Wall }), t.overRounds(func(p parts) float64 { return p.Apart.Wall }),
			t.overRounds(func(p parts) float64 { return best(p).CPU }), t.us.seconds(wall), t.us.seconds(cpu), t.start.seconds(wall), 100*whole, 100*steady, 100*byCPU)
	}
	s.WriteString("\nAgainst Python, with the largest tiles that forgepipe would take, and the same overlap; the lowest PSNR of a picture is with forgepipe's:\n")
	s.WriteString("\n| | program | pictures/s | forgepipe is faster by (wall, CPU) | wall s | CPU s | peak RSS MB | lowest PSNR dB |\n|---|---|---|---|---|---|---|---|\n")
	for _, t := range b.tasks {
		for _, e := range append([]*entrant{t.us}, t.peers...) {
			ratio, alike := "|", ""
			if e != t.us {
				ratio, alike = fmt.Sprintf("%.2f, %.2f |", e.over(t.us, wall), e.over(t.us, cpu)), fmt.Sprintf("%.1f", t.psnr)
			}
			fmt.Fprintf(&s, "| %s | %s | %.2f | %s %.2f | %.2f | %.0f | %s |\n", t.name, e.name, float64(t.n)/e.seconds(wall), ratio, e.seconds(wall), e.seconds(cpu), e.rss(), alike)
		}
	}
	s.WriteString("\n" + b.targets() + "\n")
	s.WriteString("forgepipe is a pipeline of images, upscale and write with its run store, without a cache. Python is benchmarks/upscale/upscale.py: a loop with Pillow, numpy and onnxruntime as in the scripts of upscalers, which runs a tile, or a small picture, at a time.\n")
	fmt.Fprintf(&s, "\nVersions: %s; bare runtime: ONNX Runtime %s.\n", strings.Join(b.notes, "; "), b.tasks[0].parts(0).Runtime)
	return s.String()
}

// targets says which targets hold.
func (b *benchmark) targets() string {
	var s strings.Builder
	verdict := func(ok bool, format string, args ...any) {
		word := "MET"
		if !ok {
			word = "MISSED"
		}
		fmt.Fprintf(&s, "- %s: %s\n", fmt.Sprintf(format, args...), word)
	}
	for _, t := range b.tasks {
		whole, steady, byCPU := t.ofBare()
		verdict(steady >= ofBare, "%s: at least %.0f %% of the bare runtime's rate on the same tiles, without the start: %.1f %% (by CPU time %.1f %%, with the start %.1f %%)", t.name, 100*ofBare, 100*steady, 100*byCPU, 100*whole)
		if !t.each {
			continue
		}
		verdict(t.runsEach() <= mostRuns, "%s: at most one run for 8 pictures: one for %.1f", t.name, 1/t.runsEach())
		for _, p := range t.peers {
			verdict(p.over(t.us, cpu) >= 1, "%s: no more CPU time than %s with a run for each: %.2f times as much there", t.name, p.name, p.over(t.us, cpu))
		}
	}
	return s.String()
}
