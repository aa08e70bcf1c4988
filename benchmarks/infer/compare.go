package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// leastCosine is what vectors of Python with Pillow must have at least with
// forgepipe's, when both decode in full: they are of the same work then.
const leastCosine = 0.999

// likeness is how near two programs' vectors of the same images are.
type likeness struct {
	cosine float64 // the lowest
	// centred is the lowest without what the vectors of all images have in common.
	// With random weights that is most of them, which hides differences.
	centred float64
}

// compare reads what the programs wrote last.
func (t *task) compare() error {
	ours, err := readManifest(t.us.vectors)
	if err != nil {
		return err
	}
	for _, p := range t.peers {
		theirs, err := readFloats(p.vectors, len(ours))
		if err != nil {
			return err
		}
		if len(theirs) != len(ours) || len(theirs[0]) != len(ours[0]) {
			return fmt.Errorf("%s: forgepipe made %d vectors of %d numbers, %s %d of %d", t, len(ours), len(ours[0]), p.name, len(theirs), len(theirs[0]))
		}
		for _, v := range theirs {
			normalise(v)
		}
		l := likeness{cosine: lowest(ours, theirs)}
		l.centred = lowest(centred(ours), centred(theirs))
		t.alike[p] = l
		if same := strings.Contains(p.name, "Pillow") && t.decode == "exact"; same && !(l.cosine >= leastCosine) {
			return fmt.Errorf("%s: the vectors of %s have a cosine as low as %.6f with forgepipe's; at least %g is wanted, else it is not the same work", t, p.name, l.cosine, leastCosine)
		}
	}
	return nil
}

// readManifest reads the vectors of a manifest, in the order of the sources'
// names.
func readManifest(file string) ([][]float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type line struct {
		Source  string
		Vectors map[string][]float64
	}
	var lines []line
	for d := json.NewDecoder(bufio.NewReader(f)); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s is empty", file)
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.Source, b.Source) })
	vectors := make([][]float64, len(lines))
	for i, l := range lines {
		vectors[i] = l.Vectors["v"]
	}
	return vectors, nil
}

// readFloats reads n vectors that a script wrote, which are not normalised.
func readFloats(file string, n int) ([][]float64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || len(b)%(4*n) != 0 {
		return nil, fmt.Errorf("%s has %d bytes, which are not %d vectors of float32", file, len(b), n)
	}
	vectors := make([][]float64, n)
	for i := range vectors {
		for part := b[len(b)/n*i : len(b)/n*(i+1)]; len(part) > 0; part = part[4:] {
			vectors[i] = append(vectors[i], float64(math.Float32frombits(binary.LittleEndian.Uint32(part))))
		}
	}
	return vectors, nil
}

func lowest(a, b [][]float64) float64 {
	least := 1.0
	for i := range a {
		var dot float64
		for j := range a[i] {
			dot += a[i][j] * b[i][j]
		}
		if !(dot >= least) { // NaN too
			least = dot
		}
	}
	return least
}

// centred are the vectors without their mean, of length 1 again.
func centred(vectors [][]float64) [][]float64 {
	mean := make([]float64, len(vectors[0]))
	for _, v := range vectors {
		for j, x := range v {
			mean[j] += x / float64(len(vectors))
		}
	}
	out := make([][]float64, len(vectors))
	for i, v := range vectors {
		out[i] = make([]float64, len(v))
		for j, x := range v {
			out[i][j] = x - mean[j]
		}
		normalise(out[i])
	}
	return out
}

func normalise(v []float64) {
	var sum float64
	for _, x := range v {
		sum += x * x
	}
	for j := range v {
		v[j] /= math.Sqrt(sum)
	}
}
