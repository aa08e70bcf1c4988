package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
)

// What must hold.
const (
	ofParts    = 0.92 // of the rate that the bare parts allow
	overLoop   = 1.5  // times the rate of Pillow's single loop: ResNet-18, 12 MP, exact
	overLoader = 1.0  // times that of Pillow with the loader
)

func wall(u proc.Usage) time.Duration { return u.Wall }
func cpu(u proc.Usage) time.Duration  { return u.CPU }

func (e *entrant) seconds(f func(proc.Usage) time.Duration) float64 {
	return proc.Median(e.samples, func(u proc.Usage) float64 { return f(u).Seconds() })
}

// over is how many times as long the program took as another, by f: the median of
// the rounds' ratios, since a machine's load differs more between rounds.
func (e *entrant) over(other *entrant, f func(proc.Usage) time.Duration) float64 {
	ratios := make([]float64, len(e.samples))
	for i := range ratios {
		ratios[i] = f(e.samples[i]).Seconds() / f(other.samples[i]).Seconds()
	}
	return proc.Median(ratios, func(x float64) float64 { return x })
}

// share is forgepipe's rate as a part of what the bare parts allow, of the whole
// program and of what it takes beyond that for one image, and the latter of the bare
// loop's rate: the medians of the rounds' shares.
func (t *task) share() (whole, steady, loop float64) {
	var wholes, steadies, loops []float64
	for i, u := range t.us.samples {
		image := t.bare.parts[i].sum() / threads
		wholes = append(wholes, float64(t.set.n)*image/u.Wall.Seconds())
		each := (u.Wall - t.start.samples[i].Wall).Seconds() / float64(t.set.n-1)
		steadies = append(steadies, image/each)
		loops = append(loops, t.bare.parts[i].Loop/each)
	}
	same := func(x float64) float64 { return x }
	return proc.Median(wholes, same), proc.Median(steadies, same), proc.Median(loops, same)
}

func (t *task) part(f func(parts) float64) float64 { return 1000 * proc.Median(t.bare.parts, f) }

// rss is the highest of all rounds, in MB.
func (e *entrant) rss() float64 {
	var top int64
	for _, u := range e.samples {
		top = max(top, u.RSS)
	}
	return float64(top) / 1e6
}

func (b *benchmark) report(rounds int, load string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "The job: vectors of %d images of 12 MP and of %d of 256 pixels. %s %s The networks have random weights.\n\n", b.large, b.small, photos.Described, describedSets)
	fmt.Fprintf(&s, "%d threads for everyone, batches of %d (in forgepipe half as many in each of two runs at once), inputs in the page cache, one program after another in %d rounds. Times are of whole programs, with their start and the loading of the network, and medians; ratios are the medians of the ratios within a round; CPU is user and system time of all processes; memory is the highest peak, of the largest process. The load average was %s when it began; where other programs compete for the CPUs, figures are not to be relied on.\n\n", threads, batch, rounds, load)
	fmt.Fprintln(&s, "The parts of the job, each by itself with all cores busy, in milliseconds of CPU time an image, and forgepipe's rate as a part of cores / sum: that of the whole program, and without its start, which is taken as what a run with one image takes. Inference is the bare runtime on filled tensors, as one session with all threads, or as one session with one thread for each core, whichever is less (both in brackets). The bare loop does all three one after the other on every core, with neither queues nor hashes nor records; what it lacks of what the parts allow is what decoding on one core costs inference on the other:")
	fmt.Fprintln(&s, "\n| | decode | prepare | inference | sum | allows images/s | forgepipe images/s | share | start s | share without start | bare loop images/s | share of that without start |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, t := range b.tasks {
		sum := t.part(parts.sum)
		whole, steady, loop := t.share()
		fmt.Fprintf(&s, "| %s | %.1f | %.1f | %.1f (%.1f, %.1f) | %.1f | %.2f | %.2f | %.1f %% | %.2f | %.1f %% | %.2f | %.1f %% |\n", t,
			t.part(func(p parts) float64 { return p.Decode }), t.part(func(p parts) float64 { return p.Prepare }), t.part(parts.inference),
			t.part(func(p parts) float64 { return p.Shared }), t.part(func(p parts) float64 { return p.Apart }),
			sum, threads*1000/sum, float64(t.set.n)/t.us.seconds(wall), 100*whole, t.start.seconds(wall), 100*steady,
			1000/t.part(func(p parts) float64 { return p.Loop }), 100*loop)
	}
	fmt.Fprintln(&s, "\nAgainst Python; vectors are compared with forgepipe's by the lowest cosine, and by the lowest after the mean of all is taken from each, as vectors of random networks have much in common:")
	fmt.Fprintln(&s, "\n| | program | images/s | forgepipe is faster by (wall, CPU) | wall s | CPU s | peak RSS MB | cosine | centred |\n|---|---|---|---|---|---|---|---|---|")
	for _, t := range b.tasks {
		for _, e := range append([]*entrant{t.us}, t.peers...) {
			ratio, alike, name := "|", "|", e.name
			if len(e.ways) > 1 {
				name += " (" + e.ways[e.chosen].name + ")"
			}
			if e != t.us {
				ratio = fmt.Sprintf("%.2f, %.2f |", e.over(t.us, wall), e.over(t.us, cpu))
				alike = fmt.Sprintf("%.6f | %.6f", t.alike[e].cosine, t.alike[e].centred)
			}
			fmt.Fprintf(&s, "| %s | %s | %.2f | %s %.2f | %.2f | %.0f | %s |\n", t, name, float64(t.set.n)/e.seconds(wall), ratio, e.seconds(wall), e.seconds(cpu), e.rss(), alike)
		}
	}
	s.WriteString("\n" + b.targets() + "\n")
	s.WriteString("forgepipe is `forgepipe run benchmarks/infer/embed.yaml`, with its run store and an empty cache. Python is benchmarks/infer/infer.py: the loop decodes, prepares and runs a batch after another, the loader has two processes that prepare batches in shared memory ahead of the one that runs them, and the runtime's threads wait busily or not (spin, nospin), whichever was faster in trials; in the loop they do, as is the default, and in forgepipe they do not. Pillow resizes as torchvision does, OpenCV with INTER_AREA; for fast, both decode at the scale that forgepipe uses (Image.draft, IMREAD_REDUCED_COLOR_4).\n")
	fmt.Fprintf(&s, "\nVersions: %s; bare parts: ONNX Runtime %s.\n", strings.Join(b.notes, "; "), b.tasks[0].bare.parts[0].Runtime)
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
		whole, steady, _ := t.share()
		verdict(whole >= ofParts, "%s: at least %.0f %% of what the bare parts allow, start included: %.1f %%", t, 100*ofParts, 100*whole)
		verdict(steady >= ofParts, "%s: the same without the start: %.1f %%", t, 100*steady)
	}
	first := b.tasks[0]
	if first.String() != "ResNet-18, 12 MP, exact" { // left out by -only
		return s.String()
	}
	for _, p := range first.peers {
		least, ok := map[string]float64{pillowLoop: overLoop, pillowLoader: overLoader}[p.name]
		if !ok {
			continue
		}
		ratio := p.over(first.us, wall)
		verdict(ratio >= least, "%s: at least %.1fx the rate of %s: %.2fx by wall time, %.2fx by CPU time", first, least, p.name, ratio, p.over(first.us, cpu))
	}
	return s.String()
}
