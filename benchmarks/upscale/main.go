// Command upscale measures the stage upscale with a network like SRVGGNetCompact and one
// like RRDBNet: against the bare runtime on the same tiles, against a loop over tiles in
// Python, and with many small pictures against a run for each. It fails if the pictures
// of forgepipe and of Python are not the same.
//
//	make bench-upscale
//
// It needs a built bin/forgepipe, and puts all it makes and installs below
// -dir. The networks are those of model/onnx/testnet, with random weights.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

const threads = 2

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	dir := flag.String("dir", "bin/bench", "folder for photographs, networks, installed peers and outputs")
	rounds := flag.Int("rounds", 2, "interleaved rounds; the median is reported")
	only := flag.String("only", "", "measure the tasks whose names contain this, such as RRDB; not with -record")
	quick := flag.Bool("quick", false, "few and small pictures, to see that it works; not with -record")
	job := flag.String("job", "", "nets, set, bare or compare: the benchmark calls itself so")
	prepare := flag.Bool("prepare", false, "only make the photographs: the benchmark calls itself so")
	flag.Parse()
	if *prepare {
		*job = "prepare"
	}
	var err error
	switch *job {
	case "prepare":
		err = photos.Make(*dir)
	case "nets":
		err = makeNets(flag.Arg(0))
	case "set":
		err = makeSet(flag.Args())
	case "bare":
		err = bareJob(flag.Args())
	case "compare":
		err = compareJob(flag.Args())
	case "":
		err = bench(*file, *dir, *only, *rounds, *quick)
	default:
		err = fmt.Errorf("there is no job %s", *job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "upscale benchmark:", err)
		os.Exit(1)
	}
}

func bench(file, dir, only string, rounds int, quick bool) error {
	if file != "" && (only != "" || quick) {
		return errors.New("-record wants all tasks in full: leave -only and -quick out")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	b, err := newBench(dir, only, quick)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.tmp)
	load := proc.Load()
	for n := range rounds {
		for _, t := range b.tasks {
			if n == 0 { // what it does is asked of forgepipe before others are to do the same
				if err := t.plan(); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
			}
			all := t.entrants()
			if n%2 == 1 { // nobody always follows the same one, and forgepipe stays beside the bare runtime
				slices.Reverse(all)
			}
			for _, e := range all {
				if err := e.run(); err != nil {
					return fmt.Errorf("%s: %s: %w", t.name, e.name, err)
				}
				fmt.Fprintf(os.Stderr, "round %d, %s, %s: %s\n", n+1, t.name, e.name, e.samples[n])
			}
			if n == 0 {
				if err := t.compare(); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
			}
		}
	}
	body := b.report(rounds, load)
	fmt.Println(body)
	if file == "" {
		return nil
	}
	return record.Section(file, "Upscaling", "make bench-upscale", body)
}

// entrant is one program at one task.
type entrant struct {
	name    string
	command func() *exec.Cmd
	out     string // the folder of its pictures, if any
	samples []proc.Usage
}

// run runs the program once.
func (e *entrant) run() error {
	u, err := proc.Run(1, []*exec.Cmd{e.command()})
	if err != nil {
		return err
	}
	e.samples = append(e.samples, u)
	return nil
}
