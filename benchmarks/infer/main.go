// Command infer measures the stage embed with ResNet-18 and ViT-B/32 against
// what it consists of (decoding, preparing and the bare runtime, each by itself
// with all cores busy) and against Python with Pillow or OpenCV, in a single loop
// and with a loader of several processes, one after another in rounds. It fails
// if the vectors of forgepipe and of Python with Pillow are not the same.
//
//	make bench-infer
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

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

const (
	threads = 2
	batch   = 8 // images in one run of a network; of forgepipe's two at once, 4 in each
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	dir := flag.String("dir", "bin/bench", "folder for photographs, networks, installed peers and outputs")
	rounds := flag.Int("rounds", 3, "interleaved rounds; the median is reported")
	large := flag.Int("large", 128, "images of 12 MP")
	tasks := flag.String("only", "", "measure the tasks whose names contain this, such as \"ResNet-18, 12 MP, exact\"; not with -record")
	small := flag.Int("small", 256, "images of 256 pixels")
	job := flag.String("job", "", "nets, set or bare: the benchmark calls itself so")
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
	case "":
		err = bench(*file, *dir, *tasks, *rounds, *large, *small)
	default:
		err = fmt.Errorf("there is no job %s", *job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "infer benchmark:", err)
		os.Exit(1)
	}
}

// entrant is one program at one task.
type entrant struct {
	name string
	// ways are settings that do the same work; the fastest in trials is measured.
	ways     []way
	chosen   int    // of ways
	vectors  string // the file that it writes, if any
	measures bool   // prints parts
	samples  []proc.Usage
	parts    []parts // of bare parts, one for each sample
}

type way struct {
	name    string
	command func() *exec.Cmd
}

// only is for a program that is measured in one way.
func only(command func() *exec.Cmd) []way { return []way{{"as it is", command}} }

// task is one combination of network, images and decoding.
type task struct {
	net    net
	set    set
	decode string // exact or fast

	us, bare *entrant
	start    *entrant // forgepipe with one image
	peers    []*entrant
	alike    map[*entrant]likeness // of the vectors, to forgepipe's
}

func (t *task) String() string { return t.net.name + ", " + t.set.name + ", " + t.decode }

func (t *task) entrants() []*entrant { return append([]*entrant{t.us, t.bare, t.start}, t.peers...) }

func bench(file, dir, tasks string, rounds, large, small int) error {
	if file != "" && tasks != "" {
		return errors.New("-record wants all tasks: leave -only out")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	b, err := newBench(dir, tasks, large, small)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.tmp)
	load := proc.Load()
	for _, t := range b.tasks {
		for _, e := range t.entrants() {
			if err := e.choose(); err != nil {
				return fmt.Errorf("%s: %s: %w", t, e.name, err)
			}
		}
	}
	for n := range rounds {
		for _, t := range b.tasks {
			all := t.entrants()
			for i := range all {
				e := all[(i+n)%len(all)] // nobody always follows the same one
				if err := e.run(); err != nil {
					return fmt.Errorf("%s: %s: %w", t, e.name, err)
				}
				fmt.Fprintf(os.Stderr, "round %d, %s, %s: %s\n", n+1, t, e.name, e.samples[n])
			}
			if n == 0 {
				if err := t.compare(); err != nil {
					return err
				}
			}
		}
	}
	body := b.report(rounds, load)
	fmt.Println(body)
	if file == "" {
		return nil
	}
	return record.Section(file, "Inference", "make bench-infer", body)
}

// choose finds the fastest way.
func (e *entrant) choose() (err error) {
	e.chosen, err = proc.Fastest(len(e.ways), func(i int) (proc.Usage, error) {
		u, err := proc.Run(1, []*exec.Cmd{e.ways[i].command()})
		fmt.Fprintf(os.Stderr, "trial of %s, %s: %s\n", e.name, e.ways[i].name, u)
		return u, err
	})
	return err
}

// run runs the program once.
func (e *entrant) run() error {
	u, err := proc.Run(1, []*exec.Cmd{e.ways[e.chosen].command()})
	if err != nil {
		return err
	}
	if e.measures {
		p, err := readParts(u.Stdout)
		if err != nil {
			return err
		}
		e.parts = append(e.parts, p)
	}
	e.samples = append(e.samples, u)
	return nil
}
