package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
)

// A pair is two numbers, the lower one first, with how far or how similar they are.
type pair struct {
	a, b  uint32
	value float64
}

func writePairs(file string, pairs []pair) error {
	if file == "" {
		return nil
	}
	return write(file, func(w *bufio.Writer) {
		for _, p := range pairs {
			fmt.Fprintln(w, p.a, p.b, p.value) // Flush says what is wrong
		}
	})
}

func readPairs(file string) (map[[2]uint32]float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pairs := map[[2]uint32]float64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var p pair
		if _, err := fmt.Sscan(s.Text(), &p.a, &p.b, &p.value); err != nil {
			return nil, fmt.Errorf("reading %s: %q: %w", file, s.Text(), err)
		}
		pairs[[2]uint32{p.a, p.b}] = p.value
	}
	return pairs, nil
}

// compare finds out whether the programs found the same pairs. A difference is an
// error, but for pairs at the threshold where values are rounded.
func (t *task) compare() error {
	t.alike = make([]string, len(t.entrants))
	if t.entrants[0].pairs == "" {
		return nil
	}
	ours, err := readPairs(t.entrants[0].pairs)
	if err != nil {
		return err
	}
	for i, e := range t.entrants[1:] {
		theirs, err := readPairs(e.pairs)
		if err != nil {
			return err
		}
		atThreshold := 0
		for _, d := range []struct {
			in, from map[[2]uint32]float64
			who      string
		}{{ours, theirs, "forgepipe"}, {theirs, ours, e.name}} {
			for p, v := range d.in {
				if _, ok := d.from[p]; ok {
					continue
				}
				if t.near == 0 || math.Abs(v-t.limit) > t.near {
					return fmt.Errorf("only %s found the pair %d and %d, %v", d.who, p[0], p[1], v)
				}
				atThreshold++
			}
		}
		if len(ours) == 0 {
			return errors.New("there are no pairs to compare")
		}
		t.alike[i+1] = fmt.Sprintf("the same %d pairs", len(ours))
		if atThreshold > 0 {
			t.alike[i+1] = fmt.Sprintf("%d pairs, but for %d within %g of the threshold", len(ours), atThreshold, t.near)
		}
	}
	return nil
}
