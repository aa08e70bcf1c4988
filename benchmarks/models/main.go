// Command models measures the networks of model/arch, at their true sizes and with
// weights by formula, against PyTorch on the CPU: each as its published implementation
// has it, with as many threads and pictures, one after the other in rounds. What comes
// out is compared first. It measures too what a checkpoint of over 1 GB takes to convert
// and to open.
//
//	make bench-models
//
// It puts all that it makes and installs below -dir.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

const (
	threads = 2
	most    = 1e-3 // of the length of an output may it differ: PyTorch sums in another order
	long    = 0.5  // seconds that a round's runs take at least
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	dir := flag.String("dir", "bin/bench", "folder for networks and installed peers")
	rounds := flag.Int("rounds", 5, "interleaved rounds; the median is reported")
	only := flag.String("only", "", "measure the networks whose names contain this; large is the conversion; not with -record")
	interpreter := flag.String("python", "", "use this Python with all packages, instead of an environment below -dir")
	job := flag.String("job", "", "convert, serve or open: the benchmark calls itself so")
	flag.Parse()
	var err error
	switch *job {
	case "convert":
		err = convertJob(flag.Arg(0), flag.Arg(1))
	case "serve":
		err = serveJob(flag.Args())
	case "open":
		err = openJob(flag.Arg(0))
	case "":
		err = bench(*file, *dir, *only, *interpreter, *rounds)
	default:
		err = fmt.Errorf("there is no job %s", *job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "models benchmark:", err)
		os.Exit(1)
	}
}

func bench(file, dir, only, interpreter string, rounds int) error {
	if file != "" && only != "" {
		return fmt.Errorf("-record wants all networks: leave -only out")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	b, err := newBench(dir, interpreter)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.tmp)
	load := proc.Load()
	for _, n := range networks {
		if !strings.Contains(n.name, only) {
			continue
		}
		if err := b.measure(n, rounds); err != nil {
			return fmt.Errorf("%s: %w", n.title, err)
		}
	}
	if only == "" || only == "large" {
		for _, kind := range []string{"float32", "bfloat16"} {
			if err := b.large(kind); err != nil {
				return fmt.Errorf("a large checkpoint of %s: %w", kind, err)
			}
		}
	}
	body := b.report(rounds, load)
	fmt.Println(body)
	if file == "" {
		return nil
	}
	return record.Section(file, "Networks of checkpoints", "make bench-models", body)
}
