package main

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
)

// What must hold of the search among 200,000 hashes.
const (
	mostSeconds = 20
	mostMiB     = 200
)

func wall(a answer) float64      { return a.Wall }
func cpu(a answer) float64       { return a.CPU }
func totalWall(a answer) float64 { return a.Usage.Wall.Seconds() }
func totalCPU(a answer) float64  { return a.Usage.CPU.Seconds() }

// rss is the highest of all rounds, in MiB.
func (e *entrant) rss() float64 {
	var top int64
	for _, a := range e.answers {
		top = max(top, a.Usage.RSS)
	}
	return float64(top) / (1 << 20)
}

func (t *tasks) report(rounds int, floor int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s Inputs in the page cache, %d interleaved rounds, medians; memory is the highest peak (below %d MiB, the benchmark's own, nothing can be seen).\n\n", photos.Described, rounds, floor>>20)
	fmt.Fprintf(&b, "One hash of each of the 16 photographs, one thread and one CPU for both, milliseconds an image without the program's start; forgepipe's in a pipeline of the stage `hash` alone:\n\n")
	fmt.Fprintln(&b, "| | peer | forgepipe CPU ms (wall) | peer CPU ms (wall) | forgepipe is faster by (CPU) | hashes that agree |\n|---|---|---|---|---|---|")
	for _, d := range t.hashes {
		n := float64(len(d.us.answers[0].Hashes))
		ms := func(e *entrant) string {
			return fmt.Sprintf("%.1f (%.1f)", 1000/n*e.median(cpu), 1000/n*e.median(wall))
		}
		if d.peer == nil {
			fmt.Fprintf(&b, "| %s | missing | %s | | | |\n", d.name, ms(d.us))
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.1f | %s |\n", d.name, d.peer.name, ms(d.us), ms(d.peer), d.peer.median(cpu)/d.us.median(cpu), agreement(d))
	}
	fmt.Fprintf(&b, "\nWhole programs, from start to end, %d workers:\n\n", threads)
	fmt.Fprintln(&b, "| | program | wall s | CPU s | peak RSS MiB | duplicates found | forgepipe is faster by (wall, CPU) |\n|---|---|---|---|---|---|---|")
	for _, d := range append([]*duel{t.whole}, t.search...) {
		for _, e := range []*entrant{d.us, d.peer} {
			if e == nil {
				continue
			}
			ratio := ""
			if e == d.peer {
				ratio = fmt.Sprintf("%.1f, %.1f", e.median(totalWall)/d.us.median(totalWall), e.median(totalCPU)/d.us.median(totalCPU))
			}
			found := ""
			if d != t.whole {
				found = fmt.Sprint(e.answers[0].Found)
			}
			fmt.Fprintf(&b, "| %s | %s | %.2f | %.2f | %.0f | %s | %s |\n", d.name, e.name, e.median(totalWall), e.median(totalCPU), e.rss(), found, ratio)
		}
	}
	fmt.Fprintf(&b, "\nIn the first row each library decodes the JPEG anew for each of its hashes, as its functions for files do, and the memory is that of the largest of its processes. The hashes of the searches are random; one in %d has a neighbour within the distance. forgepipe's search is a pipeline with its run store: %d items, a stage that gives each its hash, and `dedup`; imagededup's is `find_duplicates` on a dictionary (its default search, 2 processes), whose time grows with the square.\n\n", plantedEvery, sets[len(sets)-1].n)
	for i, d := range t.search {
		if sets[i].n == 200_000 {
			word := "holds"
			if d.us.median(totalWall) > mostSeconds || d.us.rss() > mostMiB {
				word = "MISSED"
			}
			fmt.Fprintf(&b, "- %s under %d s and %d MiB: %.1f s, %.0f MiB: %s\n", d.name, mostSeconds, mostMiB, d.us.median(totalWall), d.us.rss(), word)
		}
	}
	fmt.Fprintf(&b, "\nVersions: %s.\n", strings.Join(t.notes, "; "))
	return b.String()
}

// agreement counts the hashes that are equal, and how far apart the others are.
func agreement(d *duel) string {
	equal, most := 0, 0
	theirs := d.peer.answers[0].Hashes
	for name, h := range d.us.answers[0].Hashes {
		n := distance(h, theirs[name])
		if n == 0 {
			equal++
		}
		most = max(most, n)
	}
	s := fmt.Sprintf("%d of %d equal", equal, len(theirs))
	if most > 0 {
		s += fmt.Sprintf(", others within %d bits", most)
	}
	return s
}

// distance is in how many bits two hashes differ; of different lengths in all.
func distance(a, b string) int {
	x, errX := hex.DecodeString(a)
	y, errY := hex.DecodeString(b)
	if errX != nil || errY != nil || len(x) != len(y) {
		return 8 * max(len(a), len(b)) / 2
	}
	n := 0
	for i := range x {
		n += bits.OnesCount8(x[i] ^ y[i])
	}
	return n
}
