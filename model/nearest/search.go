package nearest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sourcegraph/conc/pool"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// searchGraph takes vectors that are asked for [m K] and added ones [n K], n a multiple of
// group, and gives the greatest bound of each group [m n/group]. What the runtime hands
// over is small, then, and Go looks at few of the pairs.
func searchGraph() ([]byte, error) {
	g := onnx.NewGraph("nearest")
	k := g.Dim("numbers")
	asked := g.Input("asked", onnx.Float32, g.Dim("asked"), k)
	added := g.Input("added", onnx.Float32, g.Dim("added"), k)
	all := g.Reshape(g.Gemm(asked, added, nil, true), 0, -1, group)
	best := g.Node(onnx.Node{
		Op: "ReduceMax", In: []*onnx.Value{all}, Attrs: []onnx.Attr{onnx.Ints("axes", 2), onnx.Int("keepdims", 0)},
		Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{g.Dim("asked"), g.Dim("groups")}}},
	})
	g.Output("best", best[0])
	return g.Bytes()
}

// productGraph multiplies two matrices in float64.
func productGraph() ([]byte, error) {
	g := onnx.NewGraph("product")
	a := g.Input("a", onnx.Float64, g.Dim("rows"), g.Dim("inner"))
	b := g.Input("b", onnx.Float64, g.Dim("inner"), g.Dim("columns"))
	g.Output("product", g.MatMul(a, b))
	return g.Bytes()
}

// load loads both.
func (x *Index) load(ctx context.Context) error {
	o := model.SessionOptions{Library: x.o.Library, Log: x.o.Log, Threads: 1, Concurrent: x.workers}
	for _, n := range []struct {
		to    *model.Session
		graph func() ([]byte, error)
	}{{&x.product, productGraph}, {&x.search, searchGraph}} {
		graph, err := n.graph()
		if err != nil {
			return err
		}
		if *n.to, err = model.LoadGraph(ctx, graph, o); err != nil {
			return err
		}
	}
	return nil
}

// block are the vectors that are asked for.
type block struct {
	begun   bool
	place   map[uint32]int // by their numbers
	items   []uint32
	reduced *ort.Tensor // as added ones
	asked   *ort.Tensor // as those that are asked for
	bounds  []float32   // what a bound has to reach, one for each
	before  int         // how many were added when the block was begun
	since   []int       // places in the block of those that were added since, in that order
	vectors []float32   // themselves
	// found are the matches among those that were added before the block, as far as there
	// was room for them: those of the vector at place i from starts[i] to starts[i+1].
	found  []finding
	starts []int
	// hits has a bit for each other group of added vectors that may have a match: chunk by
	// chunk, one number for each vector of the block, and at last those of the block
	// itself. What they are is found out when the vector is asked for.
	hits []uint32
	more []bool // there are hits for the vector, but for those of the block
}

// finding is a match of the vector at a place of the block with the one that was added so
// many before.
type finding struct {
	asked, at uint32
	value     float64
}

const (
	// keptFindings is how many findings a block keeps at most: less if they were more than
	// an eighth of the memory. A dense cluster has far more.
	keptFindings = 1 << 20
	findingBytes = 16
)

// Begin compares a block of up to Block vectors, which are about to be asked for, with all
// that were added and among themselves. Those of an earlier block can no longer be asked
// for.
func (x *Index) Begin(ctx context.Context, block []uint32) error {
	if x.err != nil {
		return x.err
	}
	if err := x.begin(ctx, block); err != nil {
		return x.fail(fmt.Errorf("searching for a block of vectors: %w", err))
	}
	return nil
}

func (x *Index) begin(ctx context.Context, items []uint32) error {
	if !x.ready {
		return errors.New("the search is not ready")
	}
	if len(items) > Block {
		return fmt.Errorf("there are %d, and %d is the most", len(items), Block)
	}
	if !x.block.begun {
		if err := x.addEarly(ctx); err != nil {
			return err
		}
	}
	b := &x.block
	b.begun, b.items, b.before, b.since = true, slices.Clone(items), len(x.added.items), b.since[:0]
	if err := x.reduceBlock(ctx, items); err != nil {
		return err
	}
	clear(b.place)
	for i, item := range items {
		b.place[item] = i
	}
	asked := b.asked.Float32s()
	copy(asked, b.reduced.Float32s()[:len(items)*x.reduced.width])
	for i := range items {
		asked[(i+1)*x.reduced.width-1] = 1
	}
	return x.compare(ctx)
}

// addEarly adds what was added before there was a block.
func (x *Index) addEarly(ctx context.Context) error {
	early := x.added.items
	x.added.items = make([]uint32, 0, x.Len())
	for part := range slices.Chunk(early, Block) {
		if err := x.reduceBlock(ctx, part); err != nil {
			return err
		}
		for i, item := range part {
			if err := x.added.add(item, x.block.row(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// row is a reduced vector of the block.
func (b *block) row(i int) []float32 {
	width := int(b.reduced.Shape[1])
	return b.reduced.Float32s()[i*width:][:width]
}

func (b *block) vector(i, dim int) []float32 { return b.vectors[i*dim:][:dim] }

// reduceBlock fills the vectors, the reduced ones and their bounds.
func (x *Index) reduceBlock(ctx context.Context, items []uint32) error {
	b, width := &x.block, x.reduced.width
	if b.reduced == nil {
		b.reduced, b.asked = ort.NewTensor(ort.Float32, Block, int64(width)), ort.NewTensor(ort.Float32, Block, int64(width))
		b.bounds, b.place = make([]float32, Block), map[uint32]int{}
		b.vectors = make([]float32, Block*x.o.Dim)
	}
	rows := b.reduced.Float32s()
	var parts []int
	for at := 0; at < len(items); at += reducedRows {
		parts = append(parts, at)
	}
	return x.each(ctx, len(parts), func(ctx context.Context) (func(int) error, func()) {
		raw := make([]byte, x.file.row)
		do := func(p int) error {
			at := parts[p]
			part := items[at:min(at+reducedRows, len(items))]
			for i, item := range part {
				if err := x.file.read(item, b.vector(at+i, x.o.Dim), raw); err != nil {
					return err
				}
			}
			return x.reduced.reduce(ctx, len(part), func(i int) ([]float32, error) {
				return b.vector(at+i, x.o.Dim), nil
			}, rows[at*width:], b.bounds[at:])
		}
		return do, func() {}
	})
}

// each has as many goroutines as there are workers call what worker gives them for 0 to
// n-1, and at last its end.
func (x *Index) each(ctx context.Context, n int, worker func(context.Context) (do func(int) error, end func())) error {
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	var next atomic.Int64
	for range min(x.workers, n) {
		p.Go(func(ctx context.Context) error {
			do, end := worker(ctx)
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					end()
					return nil
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return p.Wait()
}

// compare fills the findings and the hits.
func (x *Index) compare(ctx context.Context) error {
	err := x.compareAll(ctx)
	if _, ofRun := errors.AsType[*runError](err); ofRun && x.device != nil && ctx.Err() == nil {
		if err = x.leaveDevice(err); err == nil {
			err = x.compareAll(ctx)
		}
	}
	return err
}

func (x *Index) compareAll(ctx context.Context) error {
	b := &x.block
	m := len(b.items)
	chunks := b.chunks()
	b.hits = slices.Grow(b.hits[:0], (chunks+1)*m)[:(chunks+1)*m]
	b.found, b.starts, b.more = b.found[:0], make([]int, m+1), make([]bool, m)
	if m == 0 {
		return nil
	}
	session, together, asked := x.search, 1, part(b.asked, m)
	if x.device != nil {
		session, together, asked = x.device.session, x.device.together, b.asked
	}
	var mu sync.Mutex // of found, more and exact
	var exact int64
	err := x.each(ctx, (chunks+together)/together, func(ctx context.Context) (func(int) error, func()) {
		l := x.newLook(chunk)
		if x.device != nil {
			l.rows = x.device.room(x.reduced.width)
		}
		l.more, l.room = make([]bool, m), int(min(x.o.Memory/8/findingBytes, keptFindings))/x.workers
		do := func(r int) error {
			first, last := r*together, min((r+1)*together, chunks+1)
			rows, err := x.gather(first, last, l.rows)
			if err != nil {
				return err
			}
			hits := b.hits[first*m : last*m]
			if err := x.best(ctx, session, asked, rows, b.bounds, hits, m); err != nil {
				return err
			}
			for c := first; c < last; c++ {
				if err := l.chunk(c, hits[(c-first)*m:][:m], slab(rows, (c-first)*chunk, whole(b.size(c)))); err != nil {
					return err
				}
			}
			return nil
		}
		return do, func() {
			mu.Lock()
			defer mu.Unlock()
			b.found = append(b.found, l.found...)
			exact += l.exact
			for i, is := range l.more {
				b.more[i] = b.more[i] || is
			}
		}
	})
	if err != nil {
		return err
	}
	x.stats.Exact += exact
	slices.SortFunc(b.found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.asked, b.asked), cmp.Compare(a.at, b.at))
	})
	for i, at := 0, 0; i < m; i++ {
		for at < len(b.found) && int(b.found[at].asked) == i {
			at++
		}
		b.starts[i+1] = at
	}
	return nil
}

// chunks is how many there are of those that were added before the block, which is behind
// them.
func (b *block) chunks() int { return (b.before + chunk - 1) / chunk }

// size is how many vectors a chunk has.
func (b *block) size(c int) int {
	if c == b.chunks() {
		return len(b.items)
	}
	return min(chunk, b.before-c*chunk)
}

// gather gives the reduced vectors of some chunks: on the CPU those of one, as they lie, and
// for a device all of them in buf. What is behind them there is of no meaning.
func (x *Index) gather(first, last int, buf *ort.Tensor) (*ort.Tensor, error) {
	rows := func(c int, buf *ort.Tensor) (*ort.Tensor, error) {
		n := whole(x.block.size(c))
		if c == x.block.chunks() {
			return part(x.block.reduced, n), nil
		}
		return x.added.rows(c, 0, n, buf)
	}
	if x.device == nil {
		return rows(first, buf)
	}
	for c := first; c < last; c++ {
		to := slab(buf, (c-first)*chunk, chunk)
		from, err := rows(c, to)
		if err != nil {
			return nil, err
		}
		copy(to.Data, from.Data) // onto itself, if it was read
	}
	return buf, nil
}

// whole is n, and what is missing in the last group.
func whole(n int) int { return (n + group - 1) / group * group }

// part is the first rows of a matrix, slab are some of them.
func part(t *ort.Tensor, rows int) *ort.Tensor { return slab(t, 0, rows) }

func slab(t *ort.Tensor, from, rows int) *ort.Tensor {
	width := t.Shape[1]
	size := int(width) * t.Type.Size()
	return &ort.Tensor{Type: t.Type, Shape: []int64{int64(rows), width}, Data: t.Data[from*size:][:rows*size]}
}

// best sets for each of the first m vectors that are asked for, chunk by chunk, a bit for
// each group that may have a match.
func (x *Index) best(ctx context.Context, s model.Session, asked, rows *ort.Tensor, limits []float32, hits []uint32, m int) error {
	best, err := x.bounds(ctx, s, asked, rows)
	if err != nil {
		return err
	}
	n := len(best) / int(asked.Shape[0])
	for at := 0; at < len(hits)/m; at++ {
		first, some := at*groups, min(groups, n-at*groups)
		for i := range m {
			limit, set := limits[i], uint32(0)
			for g, v := range best[i*n+first:][:some] {
				if v >= limit {
					set |= 1 << g
				}
			}
			hits[at*m+i] = set
		}
	}
	return nil
}

// bounds gives the greatest bound of each group, for each vector that is asked for.
func (x *Index) bounds(ctx context.Context, s model.Session, asked, rows *ort.Tensor) ([]float32, error) {
	out, err := s.Run(ctx, []*ort.Tensor{asked, rows}, ort.RunOptions{})
	if err != nil {
		return nil, &runError{err}
	}
	return out[0].Float32s(), nil
}

// A runError is one of a run, and not of a file.
type runError struct{ err error }

func (e *runError) Error() string { return fmt.Sprintf("comparing reduced vectors: %v", e.err) }
func (e *runError) Unwrap() error { return e.err }

// Add lets a vector be found from now on. It is one of the block that was begun, or of any
// vectors as long as none was begun. What fails is told by the next call that gives an
// error.
func (x *Index) Add(i uint32) {
	if x.err != nil {
		return
	}
	if !x.block.begun {
		x.added.items = append(x.added.items, i)
		return
	}
	at, ok := x.block.place[i]
	if !ok {
		x.err = fmt.Errorf("adding the vector %d: it is not of the block that was begun", i)
		return
	}
	if err := x.added.add(i, x.block.row(at)); err != nil {
		x.err = fmt.Errorf("adding the vector %d: %w", i, err)
		return
	}
	x.block.since = append(x.block.since, at)
}
