// Command dedup measures how duplicates are found: the search among hashes and
// among vectors alone, a whole folder of images, and which copies each method
// finds. It does so with forgepipe, with imagededup, with FAISS and with czkawka,
// and compares what they find.
//
//	make bench-dedup
//
// It needs a built bin/forgepipe, and puts all it makes and installs below
// -dir. What cannot be installed is left out, with a note.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

// threads are for everyone.
const threads = 2

// sizes are how much is searched.
type sizes struct {
	hashes, hashPart int // and how many of them FAISS looks for
	vectors, vecPart int
	fewHashes        int // that imagededup, which compares all with all, gets through
	fewVectors       int
	images           int
}

// parts are what can be measured by itself.
var parts = []string{"hashes", "vectors", "images", "accuracy"}

func main() {
	var s sizes
	file := flag.String("record", "", "Markdown file to write the results into")
	dir := flag.String("dir", "bin/bench", "folder for photographs, installed peers and outputs")
	rounds := flag.Int("rounds", 1, "interleaved rounds; the median is reported")
	only := flag.String("only", strings.Join(parts, ","), "what to measure")
	flag.IntVar(&s.hashes, "hashes", 1_000_000, "PDQ hashes to search")
	flag.IntVar(&s.hashPart, "hash-part", 2_000, "of them, those that FAISS looks for among all")
	flag.IntVar(&s.fewHashes, "few-hashes", 10_000, "hashes of 64 bits to search, also with imagededup")
	flag.IntVar(&s.vectors, "vectors", 200_000, "vectors of 512 numbers to search")
	flag.IntVar(&s.vecPart, "vector-part", 10_000, "of them, those that FAISS looks for among all")
	flag.IntVar(&s.fewVectors, "few-vectors", 5_000, "vectors to search also in the manner of imagededup's CNN")
	flag.IntVar(&s.images, "images", 10_000, "images of a folder")
	job := flag.String("job", "", "hashes, vectors, images or variants: the benchmark calls itself so")
	prepare := flag.Bool("prepare", false, "only make the photographs: the benchmark calls itself so")
	flag.Parse()
	if *prepare {
		*job = "prepare"
	}
	var err error
	switch *job {
	case "prepare":
		err = photos.Make(*dir)
	case "":
		err = bench(*file, *dir, *rounds, s, strings.Split(*only, ","))
	case "hashes":
		err = hashJob(flag.Args())
	case "vectors":
		err = vectorJob(flag.Args())
	case "images":
		err = makeImages(flag.Args())
	case "variants":
		err = makeVariants(flag.Args())
	default:
		err = fmt.Errorf("there is no job %s", *job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dedup benchmark:", err)
		os.Exit(1)
	}
}

func bench(file, dir string, rounds int, s sizes, only []string) error {
	for _, part := range only {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("-only: %q is none of %s", part, strings.Join(parts, ", "))
		}
	}
	if file != "" && len(only) < len(parts) {
		return errors.New("-record wants all: leave -only out")
	}
	s.hashPart, s.vecPart = min(s.hashPart, s.hashes), min(s.vecPart, s.vectors)
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	b, err := newBench(dir, s)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.tmp)
	load := proc.Load()
	for _, part := range only {
		switch part {
		case "hashes":
			err = b.addHashes()
		case "vectors":
			err = b.addVectors()
		case "images":
			err = b.addImages()
		}
		if err != nil {
			return err
		}
	}
	for n := range rounds {
		for _, t := range b.tasks {
			for i := range t.entrants {
				e := t.entrants[(i+n)%len(t.entrants)] // nobody always follows the same one
				if err := e.run(); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
			}
		}
	}
	for _, t := range b.tasks {
		if err := t.compare(); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if slices.Contains(only, "accuracy") {
		if err := b.measureAccuracy(); err != nil {
			return err
		}
	}
	body := b.report(rounds, load)
	fmt.Println(body)
	if file == "" {
		return nil
	}
	return record.Section(file, "De-duplication", "make bench-dedup", body)
}
