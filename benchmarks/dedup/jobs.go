package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/hamming"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// numbers reads arguments that are numbers.
func numbers(args []string, to ...*int) error {
	for i, p := range to {
		var err error
		if *p, err = strconv.Atoi(args[i]); err != nil {
			return err
		}
	}
	return nil
}

// hashJob searches hashes on one thread: keep|pairs FILE BYTES DISTANCE PART OUT.
// It keeps each one that is near to none that it kept, as the stage dedup does, or
// finds all pairs and writes those of the first PART hashes.
func hashJob(args []string) error {
	what, file, out := args[0], args[1], args[5]
	var size, limit, part int
	if err := numbers(args[2:], &size, &limit, &part); err != nil {
		return err
	}
	runtime.GOMAXPROCS(threads)
	hashes, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s := sample{}
	began := time.Now()
	ix := hamming.New(size, limit)
	var pairs []pair
	for i := 0; i*size < len(hashes); i++ {
		h := hashes[i*size:][:size]
		if what == "keep" {
			if _, _, ok := ix.Nearest(h); ok {
				s.Found++
				continue
			}
		} else {
			ix.Within(h, func(j, d int) {
				s.Found++
				if j < part {
					pairs = append(pairs, pair{uint32(j), uint32(i), float64(d)})
				}
			})
		}
		ix.Add(h)
	}
	s.Wall = time.Since(began).Seconds()
	if err := writePairs(out, pairs); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// vectorJob finds all pairs of vectors: FILE PART OUT FOLDER. It writes those of
// the first PART.
func vectorJob(args []string) error {
	file, out, folder := args[0], args[2], args[3]
	var part int
	if err := numbers(args[1:], &part); err != nil {
		return err
	}
	runtime.GOMAXPROCS(threads)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	dir, err := fsys.OS.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // its files are gone
	x, err := nearest.New(nearest.Options{Dim: dim, Within: leastSimilarity, Dir: dir, Threads: threads})
	if err != nil {
		return err
	}
	defer func() { _ = x.Close() }() // removes its files

	s := sample{}
	began := time.Now()
	if err := appendVectors(x, file); err != nil {
		return err
	}
	ctx := context.Background()
	if err := x.Ready(ctx); err != nil {
		return err
	}
	s.Before = time.Since(began).Seconds()
	began = time.Now()
	var pairs []pair
	var near []nearest.Match
	for first := 0; first < x.Len(); first += nearest.Block {
		var block []uint32
		for i := first; i < min(first+nearest.Block, x.Len()); i++ {
			block = append(block, uint32(i))
		}
		if err := x.Begin(ctx, block); err != nil {
			return err
		}
		for _, i := range block {
			if near, err = x.Matches(i, near[:0]); err != nil {
				return err
			}
			for _, m := range near {
				s.Found++
				if m.Item < uint32(part) {
					pairs = append(pairs, pair{m.Item, i, m.Value})
				}
			}
			x.Add(i)
		}
	}
	s.Wall = time.Since(began).Seconds()
	stats := x.Stats()
	s.Note = fmt.Sprintf("%.4f %% of the pairs computed exactly, %d components in the first look", 100*float64(stats.Exact)/float64(max(stats.Pairs, 1)), stats.Components)
	if err := writePairs(out, pairs); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func appendVectors(x *nearest.Index, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	raw, v := make([]byte, 4*dim), make([]float32, dim)
	for {
		if _, err := io.ReadFull(r, raw); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		if err := x.Append(v); err != nil {
			return err
		}
	}
}

// plantedEvery is how many there are for each that is made from the one before.
const plantedEvery = 20

// plantHashes writes random hashes, of which some are within the limit of the one
// before. The same call writes the same file.
func plantHashes(file string, n, size, limit int) error {
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	h := make([]byte, size)
	return write(file, func(w *bufio.Writer) {
		for i := range n {
			if i%plantedEvery == 1 {
				for range rnd.IntN(limit + 1) {
					bit := rnd.IntN(8 * size)
					h[bit/8] ^= 1 << (bit % 8)
				}
			} else {
				for j := range h {
					h[j] = byte(rnd.Uint32())
				}
			}
			_, _ = w.Write(h) // Flush says what is wrong
		}
	})
}

// unrelated is about the similarity of two vectors that have nothing to do with each
// other, as with CLIP.
const unrelated = 0.5

// plantVectors writes vectors of length 1 that have a part in common, some of which
// are also near the one before: the similarity is from 0.92 to 1.
func plantVectors(file string, n int) error {
	rnd := rand.New(rand.NewPCG(uint64(n), dim))
	random := func() []float64 {
		v := make([]float64, dim)
		for i := range v {
			v[i] = rnd.NormFloat64()
		}
		return v
	}
	mixed := func(a []float64, share float64, b []float64) []float64 { // the share is of the square
		v := make([]float64, dim)
		normalise(a)
		normalise(b)
		for i := range v {
			v[i] = math.Sqrt(share)*a[i] + math.Sqrt(1-share)*b[i]
		}
		normalise(v)
		return v
	}
	common := random()
	var last []float64
	raw := make([]byte, 4*dim)
	return write(file, func(w *bufio.Writer) {
		for i := range n {
			if i%plantedEvery == 1 {
				s := 0.92 + 0.08*rnd.Float64()
				last = mixed(last, s*s, random())
			} else {
				last = mixed(common, unrelated, random())
			}
			for j, x := range last {
				binary.LittleEndian.PutUint32(raw[4*j:], math.Float32bits(float32(x)))
			}
			_, _ = w.Write(raw) // Flush says what is wrong
		}
	})
}

func normalise(v []float64) {
	var sum float64
	for _, x := range v {
		sum += x * x
	}
	for i := range v {
		v[i] /= math.Sqrt(sum)
	}
}

func write(file string, fill func(*bufio.Writer)) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fill(w)
	return errors.Join(w.Flush(), f.Close())
}
