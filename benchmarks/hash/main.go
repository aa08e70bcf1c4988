// Command hash measures perceptual hashes and the search for duplicates with
// forgepipe and with the Python packages pdqhash and imagededup, one after
// another in rounds, and counts the hashes that agree.
//
//	make bench-hash
//
// It needs a built bin/forgepipe, and puts all it makes and installs below
// -dir. What cannot be installed is left out, with a note.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	dir := flag.String("dir", "bin/bench", "folder for photographs, installed peers and outputs")
	rounds := flag.Int("rounds", 3, "interleaved rounds; the median is reported")
	job := flag.String("job", "", "hash or dedup: the benchmark calls itself so")
	prepare := flag.Bool("prepare", false, "only make the photographs: the benchmark calls itself so")
	flag.Parse()
	var err error
	if *prepare {
		*job = "prepare"
	}
	switch *job {
	case "prepare":
		err = photos.Make(*dir)
	case "":
		err = bench(*file, *dir, *rounds)
	case "hash":
		err = hashJob(flag.Args())
	case "dedup":
		err = dedupJob(flag.Args())
	default:
		err = fmt.Errorf("there is no job %s", *job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hash benchmark:", err)
		os.Exit(1)
	}
}

// repeats is how often a job computes each hash.
const repeats = 2

// threads are for the jobs that use more than one.
const threads = 2

// answer is what a job prints; seconds are for all images once, without the
// program's start.
type answer struct {
	Hashes    map[string]string `json:"hashes"`
	Wall, CPU float64
	Found     int
	Usage     proc.Usage `json:"-"` // of the whole program
}

// run runs a job and reads its answer.
func run(c *exec.Cmd) (answer, error) {
	u, err := proc.Run(1, []*exec.Cmd{c})
	if err != nil {
		return answer{}, err
	}
	var a answer
	if len(u.Stdout) > 0 {
		err = json.Unmarshal(u.Stdout, &a)
	}
	a.Usage = u
	return a, err
}

// entrant is one program at one task.
type entrant struct {
	name    string
	command func() *exec.Cmd
	answers []answer
}

func (e *entrant) run() error {
	a, err := run(e.command())
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	e.answers = append(e.answers, a)
	fmt.Fprintf(os.Stderr, "%s: %s\n", e.name, a.Usage)
	return nil
}

func (e *entrant) median(f func(answer) float64) float64 { return proc.Median(e.answers, f) }

// duel is a task that forgepipe and a peer do; the peer may be missing.
type duel struct {
	name     string
	us, peer *entrant
}

func bench(file, dir string, rounds int) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	in, err := photos.Prepare(dir)
	if err != nil {
		return err
	}
	t, err := newTasks(dir, in)
	if err != nil {
		return err
	}
	defer os.RemoveAll(t.tmp)
	for n := range rounds {
		for _, d := range t.all() {
			pair := []*entrant{d.us, d.peer}
			if n%2 == 1 {
				pair[0], pair[1] = pair[1], pair[0]
			}
			for _, e := range pair {
				if e == nil {
					continue
				}
				if err := e.run(); err != nil {
					return err
				}
			}
		}
	}
	body := t.report(rounds, proc.Floor())
	fmt.Println(body)
	if file == "" {
		return nil
	}
	return record.Section(file, "Hashes and duplicates", "make bench-hash", body)
}
