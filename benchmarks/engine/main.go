// Command engine measures what the engine itself costs: stages that do nothing,
// at batch 1 and 64, with and without the run store, beside the same hops made
// of plain channels.
//
//	go run ./benchmarks/engine -record benchmarks/RESULTS.md
package main

import (
	"context"
	"flag"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/pipeline"
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	items := flag.Int("items", 200_000, "items per measurement")
	rounds := flag.Int("rounds", 3, "interleaved rounds; the median is reported")
	flag.Parse()
	body, err := measure(*items, *rounds)
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine benchmark:", err)
		os.Exit(1)
	}
	fmt.Println(body)
	if *file == "" {
		return
	}
	if err := record.Section(*file, "Engine overhead", "make bench-engine", body); err != nil {
		fmt.Fprintln(os.Stderr, "engine benchmark:", err)
		os.Exit(1)
	}
}

// few and many are two chain lengths: the difference between their times is
// what stages cost, without source and start.
const few, many = 2, 10

// sample is one measurement, or the difference of two.
type sample struct{ wall, cpu, allocs float64 }

func measure(items, rounds int) (string, error) {
	type row struct {
		name    string
		samples []sample // per item and stage
		batch   []float64
	}
	rows := []*row{{name: "null stage, batch 1"}, {name: "null stage, batch 64"}, {name: "plain channel hop, 1 item"}}
	var finished, flat []float64
	for range rounds {
		for i, size := range []int{1, 64} {
			a, _, err := chain(items, few, size)
			if err != nil {
				return "", err
			}
			b, mean, err := chain(items, many, size)
			if err != nil {
				return "", err
			}
			rows[i].samples = append(rows[i].samples, perStage(a, b, items))
			rows[i].batch = append(rows[i].batch, mean)
		}
		rows[2].samples = append(rows[2].samples, perStage(hops(items, few), hops(items, many), items))
		r, err := stored(items/100, 100)
		if err != nil {
			return "", err
		}
		finished = append(finished, r)
		if r, err = stored(items/4, 0); err != nil {
			return "", err
		}
		flat = append(flat, r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d items, 2 workers per stage, %d interleaved rounds, medians. A stage's cost is the difference between chains of %d and %d stages divided by their number; CPU time is of the whole process.\n\n", items, rounds, few, many)
	fmt.Fprintln(&b, "| per item and stage | wall ns | CPU ns | allocations | mean batch | wall against plain channel |\n|---|---|---|---|---|---|")
	base := median(rows[2].samples, func(s sample) float64 { return s.wall })
	for _, r := range rows {
		w := median(r.samples, func(s sample) float64 { return s.wall })
		mean := "1.0"
		if len(r.batch) > 0 {
			slices.Sort(r.batch)
			mean = fmt.Sprintf("%.1f", r.batch[len(r.batch)/2])
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.2f | %s | %.2f |\n", r.name, w,
			median(r.samples, func(s sample) float64 { return s.cpu }), median(r.samples, func(s sample) float64 { return s.allocs }), mean, w/base)
	}
	slices.Sort(finished)
	slices.Sort(flat)
	fmt.Fprintf(&b, "\nWith the run store, finished items a second (derived by one stage, passed by one, recorded): %.0f as 100 of each source, %.0f as one item per source (each with a source row of its own).\n", finished[len(finished)/2], flat[len(flat)/2])
	size, err := storeSize()
	if err != nil {
		return "", err
	}
	b.WriteString("\n" + size)
	return b.String(), nil
}

func perStage(a, b sample, items int) sample {
	n := float64(items * (many - few))
	return sample{(b.wall - a.wall) / n, (b.cpu - a.cpu) / n, (b.allocs - a.allocs) / n}
}

func median(s []sample, f func(sample) float64) float64 {
	var v []float64
	for _, x := range s {
		v = append(v, f(x))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// clock measures wall time, CPU time of the process and allocations of f.
func clock(f func()) sample {
	runtime.GC()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	c0, t0 := cpuNow(), time.Now()
	f()
	wall := time.Since(t0)
	cpu := cpuNow() - c0
	runtime.ReadMemStats(&m1)
	return sample{float64(wall), float64(cpu), float64(m1.Mallocs - m0.Mallocs)}
}

func cpuNow() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

type null struct{ size int }

func (null) Process(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) { return b, nil }

// A batch of 64 is to be one, so it waits for its items.
func (n null) Batch() pipeline.BatchSpec {
	s := pipeline.BatchSpec{Size: n.size}
	if n.size > 1 {
		s.Linger = 10 * time.Millisecond
	}
	return s
}

type source int

func (n source) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	img := image.NewGray(image.Rect(0, 0, 256, 256))
	for i := range int(n) {
		if err := emit(pipeline.Input{Name: fmt.Sprintf("images/%07d.png", i), Image: img}); err != nil {
			return err
		}
	}
	return nil
}

func chain(items, stages, size int) (s sample, meanBatch float64, err error) {
	p := pipeline.New("bench", pipeline.Options{})
	p.SetSource(source(items))
	for i := range stages {
		if err := p.Add(pipeline.Step{ID: fmt.Sprint("null-", i), Stage: null{size}, Workers: 2}); err != nil {
			return s, 0, err
		}
	}
	var sum *pipeline.Summary
	s = clock(func() { sum, err = p.Run(context.Background(), pipeline.RunOptions{NoStore: true}) })
	if err != nil {
		return s, 0, err
	}
	last := sum.Stages[len(sum.Stages)-1]
	return s, float64(last.In) / float64(last.Calls), nil
}

// hops is the least that a chain of stages could cost: goroutines that pass
// pointers on over buffered channels, selecting on a context.
func hops(items, stages int) sample {
	return clock(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		in := make(chan *int, 256)
		first := in
		for range stages {
			out := make(chan *int, 256)
			go func(in, out chan *int) {
				defer close(out)
				for v := range in {
					select {
					case out <- v:
					case <-ctx.Done():
						return
					}
				}
			}(in, out)
			in = out
		}
		go func() {
			defer close(first)
			v := new(int)
			for range items {
				first <- v
			}
		}()
		for range in {
		}
	})
}

type cutter struct{ n int }

func (c cutter) Process(_ context.Context, b []*pipeline.Item) ([]*pipeline.Item, error) {
	if c.n == 0 {
		return b, nil
	}
	out := make([]*pipeline.Item, 0, len(b)*c.n)
	for _, it := range b {
		for i := range c.n {
			x, y := i%16*16, i/16*16
			out = append(out, it.Derive(fmt.Sprintf("tile=16,%d,%d", x, y), pipeline.Crop(image.Rect(x, y, x+16, y+16))))
		}
	}
	return out, nil
}

// stored runs a chain with the run store and returns finished items a second.
func stored(sources, each int) (float64, error) {
	dir, err := os.MkdirTemp("", "bench-engine-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	p := pipeline.New("bench", pipeline.Options{})
	p.SetSource(source(sources))
	for i, s := range []pipeline.Stage{cutter{each}, null{64}} {
		if err := p.Add(pipeline.Step{ID: fmt.Sprint("s", i), Stage: s, Workers: 2}); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	sum, err := p.Run(context.Background(), pipeline.RunOptions{StateDir: dir})
	if err != nil {
		return 0, err
	}
	return float64(sum.Out) / time.Since(began).Seconds(), nil
}

// storeSize writes a store of 100,000 sources with 100 written tiles each and
// looks at the file and at how long opening takes.
func storeSize() (string, error) {
	const sources, each = 100_000, 100
	dir, err := os.MkdirTemp("", "bench-store-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	fill := func(tiles int) (int64, error) {
		sub := filepath.Join(dir, fmt.Sprint("tiles-", tiles))
		s, err := runstore.Open(ctx, sub, runstore.Options{})
		if err != nil {
			return 0, err
		}
		rows := make([]runstore.Decision, 0, tiles)
		stage := `{"stage":"write","root":".","name":"{dir}{stem}{suffix}{ext}","ext":".png"}`
		now := time.Now().UnixNano()
		for i := range sources {
			src := runstore.Source{Path: fmt.Sprintf("photos/2024/holiday-%06d/IMG_%06d.JPG", i/1000, i), Size: 5e6 + int64(i), MTime: now, Header: make([]byte, 24)}
			src.Hash[0], src.Hash[1] = byte(i), byte(i>>8)
			if err := s.PutSource(&src); err != nil {
				return 0, err
			}
			rows = rows[:0]
			for t := range tiles {
				d := runstore.Decision{Source: src.ID, Lineage: fmt.Sprintf("tile=512,%d,%d", t%10*512, t/10*512), Stage: stage, Kind: runstore.Written, Size: 300_000 + int64(t), MTime: now + int64(i*t)}
				d.Hash[0], d.Ident[0] = byte(t), byte(i)
				rows = append(rows, d)
			}
			if err := s.Append(rows); err != nil {
				return 0, err
			}
		}
		if err := s.Close(); err != nil {
			return 0, err
		}
		info, err := os.Stat(filepath.Join(sub, "run.db"))
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	alone, err := fill(0)
	if err != nil {
		return "", err
	}
	began := time.Now()
	with, err := fill(each)
	if err != nil {
		return "", err
	}
	filled := time.Since(began)
	began = time.Now()
	s, err := runstore.Open(ctx, filepath.Join(dir, fmt.Sprint("tiles-", each)), runstore.Options{})
	if err != nil {
		return "", err
	}
	opened := time.Since(began)
	if err := s.Close(); err != nil {
		return "", err
	}
	return fmt.Sprintf("A store of %d sources with %d written tiles each: %.0f bytes per source row, %.1f bytes per tile row, filled at %.0f rows/s, opened in %.2f s.\n",
		sources, each, float64(alone)/sources, float64(with-alone)/(sources*each), sources*each/filled.Seconds(), opened.Seconds()), nil
}
