// Command gpu measures what only a GPU can tell: whether networks give the same with
// CUDA as on the CPU, and how fast; whether memory stays flat over many batches of
// changing sizes; what becomes of a run when another process takes the card's memory;
// and how well the governor chooses batches there. It is part of the bundle that
//
//	make gpu-bundle
//
// makes for a machine with an NVIDIA driver, where run.sh starts it, a part at a time.
// With -without-gpu a simulated card, which computes on the CPU, takes the GPU's place:
// that shows that the parts work, and says nothing of any GPU.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/model"
)

// version is that of the sources, set when the bundle is made.
var version = "unknown version"

// errLacking is wrapped by errors that say that the machine has no GPU to measure, or no
// runtime for it.
var errLacking = errors.New("there is no GPU to measure")

// settings are those of all parts.
type settings struct {
	place *place
	dir   string // for networks
	out   string // for results
	brief bool   // only show that it works
}

// parts are what can be measured. A part gives Markdown, and whether all held that must
// hold.
var parts = []struct {
	name string
	run  func(context.Context, settings) (body string, held bool, err error)
}{
	{"parity", parity},
	{"limits", limits},
	{"arena", arena},
	{"tenant", tenant},
	{"governor", governed},
}

func main() {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	part := flag.String("part", "", "what to measure: "+strings.Join(names, ", "))
	gpu := flag.Int("gpu", 0, "number of the GPU, as nvidia-smi counts")
	without := flag.Bool("without-gpu", false, "use a simulated card, small networks and short times: no figure is one of a GPU")
	out := flag.String("out", "results", "folder for the results")
	dir := flag.String("dir", "work", "folder for the networks")
	job := flag.String("job", "", "nets or neighbour: the benchmark calls itself so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch *job {
	case "nets":
		err = makeNets(*dir, *without)
	case "neighbour":
		err = neighbourJob(*gpu)
	case "":
		err = measure(ctx, *part, *gpu, *without, settings{dir: *dir, out: *out, brief: *without})
	default:
		err = fmt.Errorf("there is no job %s", *job)
	}
	stop()
	switch {
	case errors.Is(err, errLacking):
		fmt.Fprintln(os.Stderr, "gpu benchmark:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "gpu benchmark:", err)
		os.Exit(1)
	}
}

// errFailed says that something was measured that must not be so.
var errFailed = errors.New("not all holds that must hold: see the lines with FAILED")

func measure(ctx context.Context, part string, gpu int, without bool, s settings) (err error) {
	i := slices.IndexFunc(parts, func(p struct {
		name string
		run  func(context.Context, settings) (string, bool, error)
	}) bool {
		return p.name == part
	})
	if i < 0 {
		return fmt.Errorf("there is no part %q: see -help", part)
	}
	// CUDA counts as the driver does then; it reads that when it starts.
	if err := os.Setenv(model.OrderVariable, model.OrderByBus); err != nil {
		return err
	}
	if s.place, err = findPlace(gpu, without); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.place.close()) }()
	if err := os.MkdirAll(s.out, 0o777); err != nil {
		return err
	}
	if err := prepareNets(s.dir, without); err != nil {
		return err
	}
	body, held, err := parts[i].run(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	text := fmt.Sprintf("## %s\n\n%s\n\n%s\n", part, s.place.described(), strings.TrimSpace(body))
	fmt.Print(text)
	if err := writeFile(filepath.Join(s.out, part+".md"), text); err != nil {
		return err
	}
	if !held {
		return errFailed
	}
	return nil
}

// verdict is a line that says whether something holds. It clears all where not.
func verdict(all *bool, ok bool, format string, args ...any) string {
	word := "HOLDS"
	if !ok {
		word, *all = "FAILED", false
	}
	return fmt.Sprintf("- %s: %s\n", fmt.Sprintf(format, args...), word)
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o666) }
