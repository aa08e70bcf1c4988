// Command governor measures how well the governor of memory chooses batch sizes:
// against the best that never changes, and against what people do instead.
//
// In the first part networks work on simulated cards, in simulated time, while
// neighbours come and go. In the second the same strategies drive sessions of ONNX
// Runtime, whose arenas are kept to what a neighbour leaves of a small card.
//
//	make bench-governor
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	images := flag.String("images", "", "folder to write pictures of the drives into, as SVG")
	seeds := flag.Int("seeds", 5, "simulated drives of each kind; 0 leaves the first part out")
	rounds := flag.Int("rounds", 3, "interleaved rounds of drives with the runtime; 0 leaves the second part out")
	flag.Parse()
	if err := bench(*file, *images, *seeds, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "governor benchmark:", err)
		os.Exit(1)
	}
}

func bench(file, images string, seeds, rounds int) error {
	if file != "" && (images == "" || seeds <= 0 || rounds <= 0) {
		return errors.New("-record wants -images and both parts")
	}
	if rounds > 0 {
		if err := keepMemory(); err != nil {
			return err
		}
	}
	var below string // the images, from where they are linked
	if file != "" {
		var err error
		if below, err = filepath.Rel(filepath.Dir(file), images); err != nil {
			return err
		}
	}
	var body strings.Builder
	var simulated []table
	if seeds > 0 {
		began := time.Now()
		var err error
		if simulated, err = measureSimulated(seeds); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "the first part took %.0f s\n", time.Since(began).Seconds())
		body.WriteString(reportSimulated(simulated, seeds, below))
		if err := draw(images, "simulated", simulated); err != nil {
			return err
		}
	}
	if rounds > 0 {
		load := proc.Load()
		withRuntime, version, err := measureRuntime(rounds)
		if err != nil {
			return err
		}
		body.WriteString(reportRuntime(withRuntime, rounds, version, load, below))
		body.WriteString(verdictsRuntime(simulated, withRuntime))
		if err := draw(images, "runtime", withRuntime); err != nil {
			return err
		}
	}
	fmt.Println(body.String())
	if file == "" {
		return nil
	}
	return record.Section(file, "Governor of memory", "make bench-governor", body.String())
}

// draw writes the pictures of a part, if there is a folder for them.
func draw(dir, part string, tables []table) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, t := range tables {
		svg := picture(t.w.title()+" ("+part+")", t.shows(), t.panels(), t.w.lasts)
		if err := os.WriteFile(filepath.Join(dir, t.picture(part)), []byte(svg), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// tunables has the C library keep what the runtime's arenas give back, and take all of
// it from one heap.
const tunables = "GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=1"

// keepMemory starts the program anew with tunables, which the C library reads only at
// the start.
func keepMemory() error {
	name, value, _ := strings.Cut(tunables, "=")
	if os.Getenv(name) == value {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), tunables))
}
