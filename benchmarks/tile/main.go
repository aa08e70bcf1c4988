// Command tile measures the job "16 photographs to 512 x 512 PNG tiles on disk"
// with forgepipe and with what else one would use for it, one after another in
// rounds, and compares the pixels that each wrote.
//
//	make bench-tile
//
// It needs a built bin/forgepipe, and puts all it makes and installs below
// -dir. Rows whose programs are missing are left out, with a note.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

const (
	size    = 512 // px, a tile's side
	threads = 2
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	dir := flag.String("dir", "bin/bench", "folder for photographs, installed peers and outputs")
	rounds := flag.Int("rounds", 5, "interleaved rounds; the median is reported")
	job := flag.String("imaging", "", "do the job with imaging and the standard library, at this level, from -in to -out: the benchmark calls itself so")
	in := flag.String("in", "", "input folder of -imaging")
	out := flag.String("out", "", "output folder of -imaging")
	prepare := flag.Bool("prepare", false, "only make the photographs: the benchmark calls itself so")
	flag.Parse()
	var err error
	switch {
	case *prepare:
		err = photos.Make(*dir)
	case *job != "":
		err = imagingJob(*job, *in, *out)
	default:
		err = bench(*file, *dir, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tile benchmark:", err)
		os.Exit(1)
	}
}

// row is one way to do the job.
type row struct {
	name string
	how  string // the command or call, for the reader
	// ways are settings that do the same work; the fastest in trials is measured,
	// or that which was the fastest for the row like.
	ways []way
	like *row
	// equal is whether the PNG settings are those of forgepipe: level 1, and rows
	// that are filtered.
	equal bool
	// tile is where a tile of a photograph lies below the output folder.
	tile func(stem string, x, y int) string

	chosen  int // of ways
	samples []proc.Usage
	diff    difference
}

type way struct {
	name string
	run  func(in, out string) (proc.Usage, error)
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
	images, err := warm(in)
	if err != nil {
		return err
	}
	load := proc.Load()
	rows, notes, err := contenders(dir)
	if err != nil {
		return err
	}
	outs := make([]string, len(rows))
	for i, r := range rows {
		outs[i] = filepath.Join(dir, "out", fmt.Sprintf("tile-%d", i))
		if err := r.choose(in, outs[i]); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	for n := range rounds {
		for i := range rows {
			at := (i + n) % len(rows) // nobody always follows the same one
			r := rows[at]
			u, err := r.ways[r.chosen].fresh(in, outs[at])
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			r.samples = append(r.samples, u)
			fmt.Fprintf(os.Stderr, "round %d, %s: %s\n", n+1, r.name, u)
		}
	}
	floor := proc.Floor() // before comparing, which needs more
	for i, r := range rows {
		if r.diff, err = compare(images, rows[0], outs[0], r, outs[i]); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	body := report(rows, notes, len(images), rounds, load, floor)
	fmt.Println(body)
	if file == "" {
		return os.RemoveAll(filepath.Join(dir, "out"))
	}
	if err := record.Section(file, "Tile job", "make bench-tile", body); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "out"))
}

// warm reads the photographs, so that all rows find them in the page cache, and
// returns their names without extension.
func warm(in string) ([]string, error) {
	entries, err := os.ReadDir(in)
	if err != nil {
		return nil, err
	}
	var stems []string
	for _, e := range entries {
		if _, err := os.ReadFile(filepath.Join(in, e.Name())); err != nil {
			return nil, err
		}
		stems = append(stems, strings.TrimSuffix(e.Name(), ".jpg"))
	}
	return stems, nil
}

// choose finds the fastest way.
func (r *row) choose(in, out string) (err error) {
	if r.like != nil {
		r.chosen = r.like.chosen
		return nil
	}
	r.chosen, err = proc.Fastest(len(r.ways), func(i int) (proc.Usage, error) {
		u, err := r.ways[i].fresh(in, out)
		fmt.Fprintf(os.Stderr, "trial of %s, %s: %s\n", r.name, r.ways[i].name, u)
		return u, err
	})
	return err
}

// fresh runs the job into a new folder, with nothing left to write of an earlier
// one.
func (w way) fresh(in, out string) (proc.Usage, error) {
	if err := os.RemoveAll(out); err != nil {
		return proc.Usage{}, err
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return proc.Usage{}, err
	}
	unix.Sync()
	return w.run(in, out)
}

// written counts the tiles below a folder and their bytes.
func written(out string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(out, func(path string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".png" {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files, bytes = files+1, bytes+info.Size()
		return nil
	})
	return files, bytes, err
}
