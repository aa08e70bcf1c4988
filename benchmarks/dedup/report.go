package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
)

// What must hold.
const (
	keepSeconds, searchMiB = 40, 1024 // of 1,000,000 PDQ hashes
	ofFlat                 = 0.9      // times the rate of FAISS's flat index
	overImagededup         = 4.0      // times, of a folder
)

// seconds are the medians of what a program took for the whole task: for the search,
// and with what that needs.
func (e *entrant) seconds() (search, total float64) {
	search = e.of * proc.Median(e.samples, func(s sample) float64 { return s.Wall })
	total = search + proc.Median(e.samples, func(s sample) float64 { return s.Before })
	return search, total
}

// took is the median of a whole program.
func (e *entrant) took() (wall, cpu float64) {
	return proc.Median(e.samples, func(s sample) float64 { return s.Usage.Wall.Seconds() }),
		proc.Median(e.samples, func(s sample) float64 { return s.Usage.CPU.Seconds() })
}

// rss is the highest of all rounds, in MiB.
func (e *entrant) rss() float64 {
	var top int64
	for _, s := range e.samples {
		top = max(top, s.Usage.RSS)
	}
	return float64(top) / (1 << 20)
}

func (b *benchmark) report(rounds int, load string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d threads for everyone, inputs in the page cache, one program after another in %d rounds, medians; CPU is user and system time of all processes, memory the highest peak of the largest process (below %d MiB, the benchmark's own, nothing can be seen). The load average was %s when it began; where other programs compete for the CPUs, figures are not to be relied on.\n", threads, rounds, proc.Floor()>>20, load)
	b.reportSearches(&s)
	b.reportImages(&s)
	b.reportAccuracy(&s)
	b.targets(&s)
	fmt.Fprintf(&s, "\nVersions: %s.\n", strings.Join(b.notes, "; "))
	return s.String()
}

func (b *benchmark) reportSearches(s *strings.Builder) {
	head := false
	for _, t := range b.tasks {
		if t.kind == folder {
			continue
		}
		if !head {
			fmt.Fprintf(s, "\nThe search alone. One in %d hashes or vectors is near the one before it; the other hashes are random, and the other vectors have a similarity of about %g, as CLIP's have. FAISS looks for the first of them among all, which is every pair twice, and its time is multiplied; forgepipe's is of all. Seconds are those of the search, and with building the index:\n\n", plantedEvery, unrelated)
			fmt.Fprintln(s, "| | program | search s | with the index s | measured on | program CPU s | peak RSS MiB | forgepipe is faster by | found |\n|---|---|---|---|---|---|---|---|---|")
			head = true
		}
		_, ours := t.entrants[0].seconds()
		for i, e := range t.entrants {
			search, total := e.seconds()
			_, cpu := e.took()
			on, ratio, found := "all", "", fmt.Sprint(e.samples[0].Found)
			if e.of > 1 {
				on = fmt.Sprintf("1/%g", e.of)
			}
			if i > 0 {
				ratio, found = fmt.Sprintf("%.1f", total/ours), t.alike[i]
			}
			if note := e.samples[0].Note; note != "" {
				found += "; " + note
			}
			fmt.Fprintf(s, "| %s | %s | %.2f | %.2f | %s | %.2f | %.0f | %s | %s |\n", t.name, e.name, search, total, on, cpu, e.rss(), ratio, found)
		}
	}
}

func (b *benchmark) reportImages(s *strings.Builder) {
	for _, t := range b.tasks {
		if t.kind != folder {
			continue
		}
		fmt.Fprintf(s, "\nA whole folder: %s. %s %s forgepipe is `forgepipe run benchmarks/dedup/dedup.yaml`, with its run store and an empty cache; with decode: fast its hashes are of JPEGs decoded at a smaller scale, with exact they are imagededup's. imagededup is `find_duplicates_to_remove`; czkawka_cli compares by its own gradient hash of 64 bits and writes what it found into a file, without its cache.\n\n", t.name, photos.Described, describedImages)
		fmt.Fprintln(s, "| program | wall s | CPU s | peak RSS MiB | the first takes less by (wall, CPU) |\n|---|---|---|---|---|")
		wall, cpu := t.entrants[0].took()
		for i, e := range t.entrants {
			w, c := e.took()
			ratio := ""
			if i > 0 {
				ratio = fmt.Sprintf("%.1f, %.1f", w/wall, c/cpu)
			}
			fmt.Fprintf(s, "| %s | %.1f | %.1f | %.0f | %s |\n", e.name, w, c, e.rss(), ratio)
		}
	}
}

func (b *benchmark) reportAccuracy(s *strings.Builder) {
	a := b.accuracy
	if a == nil {
		return
	}
	fmt.Fprintf(s, "\nAccuracy: of %d pictures (the quarters of the photographs, 1024x768, and those of testdata/photos), which always stay, how many of their copies each method finds, in percent, at its default threshold (imagededup's is %d bits), and in brackets how many of those that it takes for copies of something are copies of that:\n\n|", a.pictures, peerLimit)
	for _, m := range a.methods {
		fmt.Fprintf(s, " | %s", m.name)
	}
	s.WriteString(" |\n|---" + strings.Repeat("|---", len(a.methods)) + "|\n")
	for i, v := range variants {
		fmt.Fprintf(s, "| %s", v.name)
		for _, f := range a.found[i] {
			precision := "none found"
			if n := f.right + f.wrong; n > 0 {
				precision = fmt.Sprintf("%.0f", 100*float64(f.right)/float64(n))
			}
			fmt.Fprintf(s, " | %.0f (%s)", 100*float64(f.right)/float64(a.pictures), precision)
		}
		s.WriteString(" |\n")
	}
	for _, name := range a.missing {
		fmt.Fprintf(s, "\n%s: weights not available.\n", name)
	}
}

// targets says which targets hold.
func (b *benchmark) targets(s *strings.Builder) {
	s.WriteString("\n")
	verdict := func(ok bool, format string, args ...any) {
		word := "MET"
		if !ok {
			word = "MISSED"
		}
		fmt.Fprintf(s, "- %s: %s\n", fmt.Sprintf(format, args...), word)
	}
	for _, t := range b.tasks {
		us := t.entrants[0]
		_, total := us.seconds()
		wall, cpu := us.took()
		switch {
		case t.kind == keepHashes && b.hashes == 1_000_000:
			verdict(total <= keepSeconds && us.rss() <= searchMiB, "%s: at most %d s and %d MiB: %.1f s, %.0f MiB", t.name, keepSeconds, searchMiB, total, us.rss())
		case t.kind == vectorPairs && t.entrants[len(t.entrants)-1].of > 1: // the larger set, and there is FAISS
			_, flat := t.entrants[1].seconds()
			verdict(flat/total >= ofFlat && us.rss() <= searchMiB, "%s: at least %g times the rate of FAISS, and at most %d MiB: %.1f times, %.0f MiB", t.name, ofFlat, searchMiB, flat/total, us.rss())
		case t.kind == folder:
			i := slices.IndexFunc(t.entrants, func(e *entrant) bool { return e.name == imagededupFolder })
			if i < 0 {
				continue
			}
			w, c := t.entrants[i].took()
			verdict(w/wall >= overImagededup, "%s: with decode: fast at least %g times as fast as imagededup: %.1f by wall time, %.1f by CPU time", t.name, overImagededup, w/wall, c/cpu)
		}
	}
}
