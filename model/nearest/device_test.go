package nearest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/nearest"
)

// card is a simulated device, which may do something else than compute.
type card struct {
	model.Session
	arena  int64 // 0: what the search is to have
	before func(run int, in []*model.Tensor) error
	after  func(out []float32)
	mu     sync.Mutex
	runs   int
	shapes map[string]bool // of the tensors of all runs
	opened int
	closed int
}

func (c *card) open(dim int) func(context.Context, []byte) (model.Session, error) {
	return func(ctx context.Context, graph []byte) (model.Session, error) {
		o := model.SessionOptions{Device: "sim:0", ArenaLimit: nearest.DeviceRoom(dim)}
		if c.arena > 0 {
			o.ArenaLimit = c.arena
		}
		c.opened++
		c.shapes = map[string]bool{}
		var err error
		c.Session, err = model.LoadGraph(ctx, graph, o)
		return c, err
	}
}

func (c *card) Run(ctx context.Context, in []*model.Tensor, o model.SessionRun) ([]*model.Tensor, error) {
	c.mu.Lock()
	c.runs++
	c.shapes[fmt.Sprint(in[0].Shape, in[1].Shape)] = true
	run := c.runs
	c.mu.Unlock()
	if c.before != nil {
		if err := c.before(run, in); err != nil {
			return nil, err
		}
	}
	out, err := c.Session.Run(ctx, in, o)
	if err == nil && c.after != nil {
		c.after(out[0].Float32s())
	}
	return out, err
}

func (c *card) Close() error {
	c.closed++
	return c.Session.Close()
}

// asking is how many vectors sought asks for at once: chunks are not whole, then.
const asking = 700

// sought are the pairs that a search finds on a card, or without one, and what the log says.
func sought(t *testing.T, o nearest.Options, all vectors, c *card) (found map[pair]float64, st nearest.Stats, said string, err error) {
	t.Helper()
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	if c != nil {
		o.Open = c.open(len(all[0]))
	}
	x := build(t, o, all)
	found, err = search(t.Context(), x, o.Measure, inOrder(len(all)), asking, 0)
	st = x.Stats()
	if c != nil {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		if len(c.shapes) > 1 {
			t.Errorf("runs have tensors of %v: the arena grows", c.shapes)
		}
		if c.opened != 1 || c.closed != min(c.runs, 1) {
			t.Errorf("a session was opened %d times, and closed %d times", c.opened, c.closed)
		}
	}
	return found, st, log.String(), err
}

// With a device the pairs and their values are those of the CPU, and of comparing all.
func TestPairsAreTheSameOnADevice(t *testing.T) {
	const n = 2400 // the block itself, and up to two chunks and a part of one
	for name, tt := range map[string]struct {
		all      vectors
		options  nearest.Options
		together int
	}{
		"random":                {random(n, 16, 1), nearest.Options{Within: 0.7}, 2},
		"clustered":             {clustered(n, 24, 1), nearest.Options{Within: 0.99}, 3},
		"like pictures":         {likePictures(n, 24, 1), nearest.Options{Within: 0.95}, 4},
		"at 0.95":               {atThreshold(n, 24, 0.95), nearest.Options{Within: 0.95}, 1},
		"distance":              {clustered(n, 24, 2), nearest.Options{Within: 5, Measure: nearest.SquaredEuclidean}, 2},
		"from the disk":         {clustered(n, 24, 3), nearest.Options{Within: 0.99, Memory: 1}, 2},
		"more than it can keep": {clustered(n, 24, 4), nearest.Options{Within: 0.99, Memory: 1 << 16}, 2},
		"few":                   {random(2, 2, 1), nearest.Options{Within: -1}, 16},
	} {
		t.Run(name, func(t *testing.T) {
			defer nearest.SetTogether(tt.together)()
			c := &card{}
			got, st, said, err := sought(t, tt.options, tt.all, c)
			if err != nil {
				t.Fatal(err)
			}
			want, on, _, err := sought(t, tt.options, tt.all, nil)
			if err != nil || !maps.Equal(got, want) || st.Pairs != on.Pairs || len(want) == 0 {
				t.Errorf("%d pairs and %+v, want %d and %+v, %v", len(got), st, len(want), on, err)
			}
			check(t, build(t, tt.options, tt.all), tt.options, values(tt.options.Measure, tt.all), got)
			runs := 1 // the check
			for before := 0; before < len(tt.all); before += asking {
				runs += (before+nearest.Block-1)/nearest.Block/tt.together + 1
			}
			if c.runs != runs || said != "" {
				t.Errorf("there were %d runs, want %d\n%s", c.runs, runs, said)
			}
		})
	}
}

// Of as many chunks as a device gets at once, and more.
func TestPairsOfManyChunksOnADevice(t *testing.T) {
	all := append(random(17*nearest.Block, 6, 5), random(300, 6, 5)...)
	o := nearest.Options{Within: 0.9999, Threads: 2}
	got, _, said, err := sought(t, o, all, &card{})
	if err != nil {
		t.Fatal(err)
	}
	want, _, _, err := sought(t, o, all, nil)
	if err != nil || !maps.Equal(got, want) || len(want) < 300 || said != "" {
		t.Errorf("%d pairs, want %d, %v\n%s", len(got), len(want), err, said)
	}
}

// What a device cannot do, the CPU does, and the log says so once.
func TestDevicesThatFailAreLeft(t *testing.T) {
	defer nearest.SetTogether(2)()
	all := likePictures(2400, 24, 1)
	o := nearest.Options{Within: 0.95}
	want, on, _, err := sought(t, o, all, nil)
	if err != nil {
		t.Fatal(err)
	}
	odd := errors.New("the device is odd")
	for name, tt := range map[string]struct {
		card *card
		said string // the cause in the log
	}{
		"no memory to begin with": {card: &card{arena: 1 << 20}, said: "out of memory"},
		"no memory later on": {card: &card{before: func(run int, _ []*model.Tensor) error {
			if run == 4 {
				return fmt.Errorf("there is none: %w", model.ErrOutOfMemory)
			}
			return nil
		}}, said: "there is none"},
		"an error to begin with": {card: &card{before: func(int, []*model.Tensor) error { return odd }}, said: "the device is odd"},
		"an error later on": {card: &card{before: func(run int, _ []*model.Tensor) error {
			if run == 4 {
				return odd
			}
			return nil
		}}, said: "the device is odd"},
		"one number is too small":  {card: &card{after: func(out []float32) { out[len(out)/3] -= 1e-4 }}, said: "it computes other numbers than the CPU"},
		"one number is too large":  {card: &card{after: func(out []float32) { out[len(out)-1] += 1e-4 }}, said: "it computes other numbers than the CPU"},
		"one number is not finite": {card: &card{after: func(out []float32) { out[0] = float32(math.NaN()) }}, said: "it computes other numbers than the CPU"},
		"two groups are mixed up":  {card: &card{after: func(out []float32) { out[0], out[1] = out[1], out[0] }}, said: "it computes other numbers than the CPU"},
		"two chunks are mixed up":  {card: &card{after: func(out []float32) { out[0], out[32] = out[32], out[0] }}, said: "it computes other numbers than the CPU"},
		"the last bit is another": {card: &card{after: func(out []float32) {
			for i, a := range out {
				out[i] = math.Nextafter32(a, 2)
			}
		}}},
		"numbers of 10 bits, as of TF32": {card: &card{before: func(_ int, in []*model.Tensor) error {
			for k := range in {
				rounded := *in[k]
				rounded.Data = slices.Clone(rounded.Data)
				for i, a := range rounded.Float32s() {
					rounded.Float32s()[i] = math.Float32frombits((math.Float32bits(a) + 1<<12) &^ (1<<13 - 1))
				}
				in[k] = &rounded
			}
			return nil
		}}, said: "it computes other numbers than the CPU"},
	} {
		t.Run(name, func(t *testing.T) {
			got, st, said, err := sought(t, o, all, tt.card)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, want) || st.Pairs != on.Pairs || st.Exact != on.Exact {
				t.Errorf("%d pairs and %+v, want %d and %+v", len(got), st, len(want), on)
			}
			told := strings.Count(said, "level=WARN msg=\"vectors are compared on the CPU, and not on the device\"")
			if tt.said != "" && (told != 1 || !strings.Contains(said, tt.said)) || tt.said == "" && said != "" {
				t.Errorf("said is %q, want %q", said, tt.said)
			}
		})
	}
}

// A run on a device stays in the arena that it is said to need, and its tensors in the room
// of a thread, whatever the vectors.
func TestDeviceRoomIsEnough(t *testing.T) {
	for _, dim := range []int{6, 600, 5000} {
		var in, out int64
		c := &card{before: func(_ int, tensors []*model.Tensor) error {
			in = int64(len(tensors[1].Data))
			out = 4 * tensors[0].Shape[0] * tensors[1].Shape[0]
			return nil
		}}
		x := build(t, nearest.Options{Within: 0.9, Open: c.open(dim)}, random(20, dim, 1))
		if x.Stats().Components != dim || c.closed > 0 {
			t.Errorf("of %d numbers, %d components are left, and the device is left: %t", dim, x.Stats().Components, c.closed > 0)
		}
		if in == 0 || in > nearest.ThreadRoom(dim) || 2*(in+out) > nearest.DeviceRoom(dim) {
			t.Errorf("of %d numbers, %d bytes go in, and the products take %d", dim, in, out)
		}
	}
}
