package nearest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model"
)

// Measure is how the nearness of two vectors is measured.
type Measure int

const (
	// Cosine is the similarity: the dot product over the root of the product of the
	// squared lengths, from -1 to 1. It is 1 for vectors that are equal.
	Cosine Measure = iota
	// SquaredEuclidean is a distance: the squared length of the difference, 0 or more.
	SquaredEuclidean
)

// Block is how many vectors are asked for together at most.
const Block = 1024

const (
	maxDim = 1 << 20 // see reducer: rounding is little as long as there are not too many

	defaultMemory = 128 << 20
	// group is how many vectors the runtime tells one bound for, the best of theirs.
	group = 32
	// chunk is how many vectors go into one run, and come from the file at once.
	chunk = 1024
	// groups is how many groups a chunk has. Those that may have a match are bits of a
	// uint32.
	groups = chunk / group
)

// Options say how an Index searches.
type Options struct {
	Dim     int     // numbers of a vector, at least 2
	Measure Measure // Cosine if not set
	// Within is what counts as near, itself included: with Cosine the least similarity,
	// from -1 to 1, and with SquaredEuclidean the greatest squared distance.
	Within float64
	// Dir is where the vectors lie, in files of which the names begin with Prefix and are
	// not taken. See Spill for their size.
	Dir    fsys.Root
	Prefix string
	// Memory is how many bytes of reduced vectors stay in memory; the others are read
	// again for every block. An eighth as much is for what a block finds. 0: 128 MiB. See
	// Room for what comes to it.
	Memory int64
	// Threads is how many compare at once; 0 is 1.
	Threads int
	// Open loads the graph of the search on a GPU, or on another device, with an arena of
	// DeviceRoom; nil: the CPU has all to do. What is found does not hang on it: a device
	// tells which pairs may be near, and the CPU decides about them. One that computes
	// something else than the CPU, or does not compute, is left when the search is made
	// ready, and one that has no memory for a run from then on; the log says so. The
	// session may get several runs at once, and closing the Index closes it.
	Open func(ctx context.Context, graph []byte) (model.Session, error)
	// Library and Log are those of model.SessionOptions.
	Library string
	Log     *slog.Logger
}

// Match is a vector that is near to the one that was asked for.
type Match struct {
	Item  uint32  // its number
	Value float64 // the similarity, or the squared distance
}

// Stats tell how a search went.
type Stats struct {
	Pairs      int64 // pairs that were decided: of each vector asked for, with each one added before
	Exact      int64 // pairs of which the value was computed from the vectors themselves
	Components int   // numbers of a reduced vector that come from the vector; Dim: all of them
}

// Index is a set of vectors to be searched. They are appended, Ready is called once, and
// then blocks are begun, asked for and added. It is used by one goroutine, and Close
// removes its files. After an error of a file or of the runtime every other call fails
// with it, so that nothing is missed.
type Index struct {
	o       Options
	file    *vectorFile
	longest float64 // the largest squared length of a vector
	ready   bool
	err     error // the first failure

	reduced *reducer
	product model.Session // of two matrices, in float64
	search  model.Session // of a block and a chunk
	device  *device       // does what search does, for many chunks at once; nil: there is none
	workers int

	added    added
	block    block
	compared compared
	stats    Stats
}

// New begins an Index, and makes its file.
func New(o Options) (*Index, error) {
	switch {
	case o.Dim < 2 || o.Dim > maxDim:
		return nil, fmt.Errorf("searching among vectors of %d numbers: they need 2 to %d", o.Dim, maxDim)
	case o.Measure == Cosine && !(o.Within >= -1 && o.Within <= 1):
		return nil, fmt.Errorf("searching for a similarity of at least %v: it goes from -1 to 1", o.Within)
	case o.Measure == SquaredEuclidean && !(o.Within >= 0):
		return nil, fmt.Errorf("searching for a squared distance of at most %v: it is 0 or more", o.Within)
	case o.Measure != Cosine && o.Measure != SquaredEuclidean:
		return nil, fmt.Errorf("there is no measure %d: take Cosine or SquaredEuclidean", o.Measure)
	case o.Memory < 0 || o.Threads < 0:
		return nil, fmt.Errorf("searching with %d bytes and %d threads: take 0 or more", o.Memory, o.Threads)
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	f, err := createVectors(o.Dir, o.Prefix+"vectors", o.Dim)
	if err != nil {
		return nil, err
	}
	return &Index{o: o, file: f, workers: max(o.Threads, 1)}, nil
}

// Append keeps a vector, whose number is Len before. It refuses one of another dimension,
// one with a number that is not finite and, with Cosine, one whose numbers are all zero;
// then nothing has changed.
func (x *Index) Append(v []float32) error {
	fail := func(what string, args ...any) error {
		return fmt.Errorf("appending the vector %d: %w", x.file.n, fmt.Errorf(what, args...))
	}
	if x.err != nil {
		return x.err
	}
	if x.ready {
		return fail("the search has begun already")
	}
	if len(v) != x.o.Dim {
		return fail("it has %d numbers, and the others have %d", len(v), x.o.Dim)
	}
	if int64(x.file.n) == math.MaxUint32 {
		return fail("there are too many")
	}
	var squares float64
	for i, a := range v {
		f := float64(a)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fail("its number %d is %v", i, a)
		}
		squares += f * f
	}
	if squares == 0 && x.o.Measure == Cosine {
		return fail("it is all zeros, and has no direction to compare")
	}
	if err := x.file.append(v); err != nil {
		return x.fail(err)
	}
	x.longest = max(x.longest, squares)
	return nil
}

// fail keeps the first failure.
func (x *Index) fail(err error) error {
	if x.err == nil {
		x.err = err
	}
	return err
}

// Len is how many vectors were appended.
func (x *Index) Len() int { return x.file.n }

// Stats tell how the search went so far.
func (x *Index) Stats() Stats { return x.stats }

// Value is the similarity or the squared distance of two vectors, in float64 from the
// numbers as they were appended. It is for after Ready.
func (x *Index) Value(i, j uint32) (float64, error) {
	if x.err != nil {
		return 0, x.err
	}
	if !x.ready {
		return 0, errors.New("comparing two vectors: the search is not ready")
	}
	c := &x.compared
	if c.a == nil {
		c.a, c.b, c.raw = make([]float32, x.o.Dim), make([]float32, x.o.Dim), make([]byte, x.file.row)
	}
	var err error
	if !c.known || c.i != i { // one is often compared with many
		err = x.file.read(i, c.a, c.raw)
		c.i, c.known = i, err == nil
	}
	if err = errors.Join(err, x.file.read(j, c.b, c.raw)); err != nil {
		return 0, x.fail(fmt.Errorf("comparing the vectors %d and %d: %w", i, j, err))
	}
	return x.value(c.a, c.b), nil
}

// compared are the vectors that Value had last: a is that of item i.
type compared struct {
	a, b  []float32
	raw   []byte
	i     uint32
	known bool
}

// value is the definition of what is near: sums in the order of the numbers, in four
// parts. Products of float32 are exact in float64, so that it does not matter whether a
// machine multiplies and adds in one step; for squared differences that is ruled out.
func (x *Index) value(a, b []float32) float64 {
	b = b[:len(a)]
	if x.o.Measure == SquaredEuclidean {
		var s [4]float64
		i := 0
		for ; i+4 <= len(a); i += 4 {
			for l := range s {
				d := float64(a[i+l]) - float64(b[i+l])
				s[l] += float64(d * d)
			}
		}
		for ; i < len(a); i++ {
			d := float64(a[i]) - float64(b[i])
			s[0] += float64(d * d)
		}
		return s[0] + s[1] + (s[2] + s[3])
	}
	dot, aa, bb := dots(a, b)
	// The root of the product, so that equal vectors have exactly 1.
	return max(-1, min(1, dot/math.Sqrt(aa*bb)))
}

// dots are a b, a a and b b.
func dots(a, b []float32) (dot, aa, bb float64) {
	b = b[:len(a)]
	var s, p, q [2]float64
	i := 0
	for ; i+2 <= len(a); i += 2 {
		a0, a1, b0, b1 := float64(a[i]), float64(a[i+1]), float64(b[i]), float64(b[i+1])
		s[0] += a0 * b0
		s[1] += a1 * b1
		p[0] += a0 * a0
		p[1] += a1 * a1
		q[0] += b0 * b0
		q[1] += b1 * b1
	}
	if i < len(a) {
		a0, b0 := float64(a[i]), float64(b[i])
		s[0] += a0 * b0
		p[0] += a0 * a0
		q[0] += b0 * b0
	}
	return s[0] + s[1], p[0] + p[1], q[0] + q[1]
}

// near tells whether a value counts.
func (x *Index) near(v float64) bool {
	if x.o.Measure == SquaredEuclidean {
		return v <= x.o.Within
	}
	return v >= x.o.Within
}

// Close unloads the networks and removes the files.
func (x *Index) Close() error {
	var errs []error
	for _, s := range []model.Session{x.product, x.search} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	errs = append(errs, x.closeDevice(), x.added.close(), x.file.close())
	x.product, x.search, x.added, x.block = nil, nil, added{}, block{}
	if x.err == nil {
		x.err = errors.New("the search is closed")
	}
	return errors.Join(errs...)
}

// Spill is how many bytes the files of n vectors take on disk, at most.
func Spill(dim int, n int64) int64 { return n * 4 * (2*int64(dim) + 1) }

// Room is how many bytes of memory an Index of n vectors takes at most with so many threads,
// beside Options.Memory and the runtime itself.
func Room(dim int, n int64, threads int) int64 {
	const early, items, hits = 9, 4, 4 * Block / chunk // for each vector; the first are a list that grows
	return int64(threads)*ThreadRoom(dim) + 2*findingBytes*keptFindings + 6*chunk*int64(dim+1)*4 + sampleBytes(dim) + n*(early+items+hits)
}

// runBytes is what the runtime makes for a block and a chunk, at most.
const runBytes = 16 << 20

// ThreadRoom is the part of Room that each thread takes.
func ThreadRoom(dim int) int64 {
	return runBytes + 2*chunk*int64(dim+1)*4
}
