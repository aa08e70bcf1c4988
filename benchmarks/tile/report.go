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
	overPeers   = 1.8 // times the images a second of the best sharp or libvips row
	overImaging = 8   // times those of imaging and the standard library as they are
	mostMB      = 250 // peak RSS
)

func (r *row) wall() float64 {
	return proc.Median(r.samples, func(u proc.Usage) float64 { return u.Wall.Seconds() })
}

func (r *row) cpu() float64 {
	return proc.Median(r.samples, func(u proc.Usage) float64 { return u.CPU.Seconds() })
}

// over is how many times as long the row took as another, by f: the median of
// the rounds' ratios, since a machine's load differs more between rounds.
func (r *row) over(other *row, f func(proc.Usage) time.Duration) float64 {
	ratios := make([]float64, len(r.samples))
	for i := range ratios {
		ratios[i] = f(r.samples[i]).Seconds() / f(other.samples[i]).Seconds()
	}
	return proc.Median(ratios, func(x float64) float64 { return x })
}

func wall(u proc.Usage) time.Duration { return u.Wall }
func cpu(u proc.Usage) time.Duration  { return u.CPU }

// rss is the highest of all rounds, in MB.
func (r *row) rss() float64 {
	var top int64
	for _, u := range r.samples {
		top = max(top, u.RSS)
	}
	return float64(top) / 1e6
}

func report(rows []*row, notes []string, images, rounds int, load string, floor int64) string {
	us := rows[0]
	speed := func(r *row) float64 { return float64(images) / r.wall() }
	var b strings.Builder
	fmt.Fprintf(&b, "The job: cut %d photographs of %dx%d into the full grid of %dx%d tiles (%d; what is left at the borders is dropped) and write them as PNG files into an empty folder. %s\n\n",
		images, photos.Width, photos.Height, size, size, us.diff.tiles, photos.Described)
	fmt.Fprintf(&b, "%d threads for everyone, inputs in the page cache, earlier writes flushed before each start, one row after another in %d rounds. Seconds are medians, ratios the medians of the ratios within a round; CPU is user and system time of all processes; memory is the highest peak of all rounds (below %d MB, the benchmark's own, nothing can be seen). Each peer runs in the fastest of the ways that were tried (in brackets). The load average was %s when it began; where other programs compete for the CPUs, a program with more threads gets more of them, and CPU seconds compare better than wall time.\n\n", threads, rounds, floor/1e6, load)
	fmt.Fprintln(&b, "| | images/s | forgepipe is faster by | wall s | CPU s | CPU s of forgepipe's | peak RSS MB | MB written | files | pixels against forgepipe's |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		way, pixels := "", "reference"
		if r != us {
			way = " (" + r.ways[r.chosen].name + ")"
			if pixels = "equal"; r.diff.same < r.diff.tiles {
				pixels = fmt.Sprintf("%d of %d tiles equal, differences up to %d, %.3f in the mean", r.diff.same, r.diff.tiles, r.diff.max, r.diff.mean)
			}
		}
		fmt.Fprintf(&b, "| %s%s | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f | %.0f | %d | %s |\n", r.name, way, speed(r), r.over(us, wall), r.wall(), r.cpu(), r.over(us, cpu),
			r.rss(), float64(r.diff.bytes)/1e6, r.diff.files, pixels)
	}
	b.WriteString("\n" + targets(rows) + "\n")
	b.WriteString("How each row does it:\n\n")
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.how] {
			fmt.Fprintf(&b, "- %s: %s.\n", r.name, r.how)
		}
		seen[r.how] = true
	}
	b.WriteString("\nVersions: " + strings.Join(notes, "; ") + ".\n")
	return b.String()
}

// targets says which targets hold.
func targets(rows []*row) string {
	us := rows[0]
	var fastest, equal, imaging *row
	for _, r := range rows[1:] {
		if strings.HasPrefix(r.name, "imaging") {
			if imaging == nil {
				imaging = r // the first is the one with default settings
			}
			continue
		}
		if fastest == nil || r.wall() < fastest.wall() {
			fastest = r
		}
		if r.equal && (equal == nil || r.wall() < equal.wall()) {
			equal = r
		}
	}
	var b strings.Builder
	verdict := func(ok bool, format string, args ...any) {
		word := "holds"
		if !ok {
			word = "MISSED"
		}
		fmt.Fprintf(&b, "- %s: %s\n", fmt.Sprintf(format, args...), word)
	}
	faster := func(what string, r *row) {
		if r == nil {
			return
		}
		verdict(r.over(us, wall) >= overPeers, "at least %.1fx the images per second of the fastest sharp or libvips row %s (%s): %.2fx by wall time, %.2fx by CPU time, files %.2fx as large", overPeers, what, r.name,
			r.over(us, wall), r.over(us, cpu), float64(us.diff.bytes)/float64(r.diff.bytes))
	}
	faster("at equal settings, level 1 with filtered rows", equal)
	faster("at any settings", fastest)
	verdict(imaging.over(us, wall) >= overImaging, "at least %dx imaging + standard library (default settings): %.2fx by wall time, %.2fx by CPU time", overImaging, imaging.over(us, wall), imaging.over(us, cpu))
	verdict(us.rss() <= mostMB, "peak RSS at most %d MB: %.0f MB", mostMB, us.rss())
	return b.String()
}
