//go:build linux && cgo && !noort

package ort_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
)

var testContext = context.Background()

func floats(shape []int64, values ...float32) *ort.Tensor {
	t := ort.NewTensor(ort.Float32, shape...)
	copy(t.Float32s(), values)
	return t
}

func load(t *testing.T) *ort.Library {
	t.Helper()
	lib, err := ort.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func open(t *testing.T, model []byte, o ort.SessionOptions) *ort.Session {
	t.Helper()
	s, err := load(t).OpenBytes(testContext, model, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func run(t *testing.T, s *ort.Session, o ort.RunOptions, in ...*ort.Tensor) []*ort.Tensor {
	t.Helper()
	out, err := s.Run(testContext, in, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func stats(t *testing.T, s *ort.Session) ort.Stats {
	t.Helper()
	st, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Two inputs and two outputs, of which the types, shapes and names are the
// model's own.
func TestRunGivesOutputsInOrder(t *testing.T) {
	m := model(
		input("a", 1, "rows", 2), input("b", 1, 2, 3), weights("one", []int64{1}, 1),
		node("MatMul", []string{"a", "b"}, "product"), node("Add", []string{"a", "one"}, "more"),
		output("product", 1, "rows", 3), output("more", 1, "rows", 2),
	)
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, m, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(t).Open(testContext, path, ort.SessionOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := s.Inputs()
	if len(in) != 2 || in[0].Name != "a" || in[1].Name != "b" || in[0].Type != ort.Float32 ||
		!slices.Equal(in[0].Shape, []int64{-1, 2}) || !slices.Equal(in[0].Axes, []string{"rows", ""}) || !slices.Equal(in[1].Shape, []int64{2, 3}) {
		t.Errorf("inputs %+v", in)
	}
	if o := s.Outputs(); len(o) != 2 || o[0].Name != "product" || o[1].Name != "more" {
		t.Errorf("outputs %+v", o)
	}
	if f := s.Fallbacks(); len(f) != 0 {
		t.Errorf("fallbacks on the CPU: %v", f)
	}
	b := floats([]int64{2, 3}, 1, 2, 3, 4, 5, 6)
	out := run(t, s, ort.RunOptions{}, floats([]int64{1, 2}, 1, 10), b)
	if got := out[0].Float32s(); !slices.Equal(got, []float32{41, 52, 63}) {
		t.Errorf("product %v", got)
	}
	out = run(t, s, ort.RunOptions{}, floats([]int64{3, 2}, 1, 0, 0, 1, 1, 1), b)
	if got := out[0].Float32s(); !slices.Equal(got, []float32{1, 2, 3, 4, 5, 6, 5, 7, 9}) || !slices.Equal(out[0].Shape, []int64{3, 3}) {
		t.Errorf("product of three rows: %v %v", out[0].Shape, got)
	}
	if got := out[1].Float32s(); !slices.Equal(got, []float32{2, 1, 1, 2, 2, 2}) {
		t.Errorf("more %v", got)
	}
	if out = run(t, s, ort.RunOptions{}, floats([]int64{0, 2}), b); len(out[0].Data) != 0 || !slices.Equal(out[0].Shape, []int64{0, 3}) {
		t.Errorf("product of no rows: %v", out[0])
	}
}

func TestRunTakesOtherTypes(t *testing.T) {
	for name, tt := range map[string]struct {
		kind     ort.ElementType
		in, want []byte
	}{
		"float16": {ort.Float16, []byte{0x00, 0x3c, 0x00, 0xc2}, []byte{0x00, 0x40, 0x00, 0xc6}}, // 1, -3: 2, -6
		"float64": {ort.Float64, binary.LittleEndian.AppendUint64(nil, math.Float64bits(1.5)), binary.LittleEndian.AppendUint64(nil, math.Float64bits(3))},
		"int64":   {ort.Int64, []byte{7, 0, 0, 0, 0, 0, 0, 0}, []byte{14, 0, 0, 0, 0, 0, 0, 0}},
		"int32":   {ort.Int32, []byte{0xff, 0xff, 0xff, 0xff}, []byte{0xfe, 0xff, 0xff, 0xff}},
		"uint8":   {ort.Uint8, []byte{1, 100}, []byte{2, 200}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, double(int64(tt.kind), "n"), ort.SessionOptions{})
			x := ort.NewTensor(tt.kind, int64(len(tt.in)/tt.kind.Size()))
			copy(x.Data, tt.in)
			out := run(t, s, ort.RunOptions{}, x)
			if out[0].Type != tt.kind || !bytes.Equal(out[0].Data, tt.want) {
				t.Errorf("%v %v, want %v", out[0].Type, out[0].Data, tt.want)
			}
		})
	}
}

// Values that are not numbers are for the caller to see.
func TestRunPassesNaN(t *testing.T) {
	s := open(t, model(input("x", 1, 2), node("Sqrt", []string{"x"}, "y"), output("y", 1, 2)), ort.SessionOptions{})
	if y := run(t, s, ort.RunOptions{}, floats([]int64{2}, -1, 4))[0].Float32s(); !math.IsNaN(float64(y[0])) || y[1] != 2 {
		t.Errorf("%v, want NaN and 2", y)
	}
}

// A tensor that does not fit must not reach the runtime, which reads as much as
// the shape says.
func TestRunRefusesTensorsThatDoNotFit(t *testing.T) {
	s := open(t, double(int64(ort.Float32), "n", 2), ort.SessionOptions{})
	short := floats([]int64{4, 2})
	short.Data = short.Data[:8]
	overflow := &ort.Tensor{Type: ort.Float32, Shape: []int64{math.MaxInt64/2 + 1, 2}}
	for name, tt := range map[string]struct {
		in   []*ort.Tensor
		want string
	}{
		"none":         {nil, "1 tensors"},
		"nil":          {[]*ort.Tensor{nil}, "no tensor"},
		"type":         {[]*ort.Tensor{ort.NewTensor(ort.Float16, 1, 2)}, "float16"},
		"rank":         {[]*ort.Tensor{floats([]int64{2})}, "[-1 2]"},
		"dimension":    {[]*ort.Tensor{floats([]int64{1, 3})}, "[1 3]"},
		"too few data": {[]*ort.Tensor{short}, "8 bytes"},
		"overflow":     {[]*ort.Tensor{overflow}, "0 bytes"},
		"negative":     {[]*ort.Tensor{{Type: ort.Float32, Shape: []int64{-1, 2}}}, "0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Run(testContext, tt.in, ort.RunOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// times is the input of repeat.
func times(n uint64) *ort.Tensor {
	t := ort.NewTensor(ort.Int64, 1)
	binary.LittleEndian.PutUint64(t.Data, n)
	return t
}

// A run that would last for ever ends with its context.
func TestRunEndsWithItsContext(t *testing.T) {
	s := open(t, repeat(), ort.SessionOptions{})
	x := floats([]int64{1}, 5)
	cause := errors.New("the user had enough")
	ctx, cancel := context.WithCancelCause(testContext)
	before := stats(t, s).MaxInUse
	go func() {
		for { // until it runs
			if st, err := s.Stats(); err != nil || st.MaxInUse > before {
				break
			}
			runtime.Gosched()
		}
		cancel(cause)
	}()
	if _, err := s.Run(ctx, []*ort.Tensor{times(1 << 60), x}, ort.RunOptions{}); !errors.Is(err, cause) {
		t.Fatalf("error %v, want %v", err, cause)
	}
	if _, err := s.Run(ctx, []*ort.Tensor{times(1), x}, ort.RunOptions{}); !errors.Is(err, cause) {
		t.Errorf("a run after the end: %v, want %v", err, cause)
	}
	if y := run(t, s, ort.RunOptions{}, times(3), x)[0].Float32s()[0]; y != 5 { // the session still works
		t.Errorf("y is %v", y)
	}
}

// The first thing that the runtime says of a large model ends its opening, and also
// that of one that waits for its turn meanwhile.
func TestOpeningEndsWithItsContext(t *testing.T) {
	cause := errors.New("the user had enough")
	ctx, cancel := context.WithCancelCause(testContext)
	other := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		waiting, stop := context.WithCancelCause(testContext)
		go func() {
			_, err := load(t).OpenBytes(waiting, double(int64(ort.Float32), 1), ort.SessionOptions{})
			other <- err
		}()
		stop(cause)
		if err := <-other; !errors.Is(err, cause) {
			t.Errorf("opening another one meanwhile: %v, want %v", err, cause)
		}
		cancel(cause)
		return len(p), nil
	}), nil))
	// Its output says 5, and is 4.
	graph := [][]byte{input("x", 1, 4)}
	from := "x"
	for i := range 20000 {
		to := "t" + strconv.Itoa(i)
		graph = append(graph, node("Neg", []string{from}, to))
		from = to
	}
	m := model(append(graph, node("Add", []string{from, from}, "y"), output("y", 1, 5))...)
	s, err := load(t).OpenBytes(ctx, m, ort.SessionOptions{Log: log})
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, cause) {
		t.Fatalf("error %v, want %v", err, cause)
	}
	run(t, open(t, double(int64(ort.Float32), 1), ort.SessionOptions{}), ort.RunOptions{}, floats([]int64{1})) // others open
}

// What is not wanted is not given, and need not be a tensor of numbers.
func TestOnlyWantedOutputs(t *testing.T) {
	texts := func(name string) []byte { return output(name, 8, 1) }
	sequence := bytesField(12, message(textField(1, "list"), bytesField(2, bytesField(4, bytesField(1, bytesField(1, message(intField(1, 1), bytesField(2, nil))))))))
	m := model(
		input("x", 1, "n"), node("SequenceConstruct", []string{"x", "x"}, "list"), node("Cast", []string{"x"}, "text", bytesField(5, message(textField(1, "to"), intField(3, 8), intField(20, 2)))),
		node("Add", []string{"x", "x"}, "double"), node("Neg", []string{"x"}, "negative"),
		sequence, output("double", 1, "n"), texts("text"), output("negative", 1, "n"),
	)
	s := open(t, m, ort.SessionOptions{Outputs: []string{"negative"}})
	if o := s.Outputs(); len(o) != 1 || o[0].Name != "negative" {
		t.Errorf("outputs %+v", o)
	}
	if out := run(t, s, ort.RunOptions{ShrinkFirst: true}, floats([]int64{2}, 1, 2)); len(out) != 1 || !slices.Equal(out[0].Float32s(), []float32{-1, -2}) {
		t.Errorf("%v", out)
	}
	for name, want := range map[string]string{"list": "tensor of numbers", "text": "tensor of numbers", "other": "lacks"} {
		if _, err := load(t).OpenBytes(testContext, m, ort.SessionOptions{Outputs: []string{name}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("output %s: error %v, want %q in it", name, err, want)
		}
	}
}

// After shrinking, the next run allocates what its batch needs and no more.
func TestMemoryIsLinearInTheBatchWhenShrunk(t *testing.T) {
	s := open(t, convolutions(4, 64), ort.SessionOptions{})
	const image = 16 * 64 * 64 * 4
	floor := stats(t, s).Allocated // the weights
	var allocated []int64
	for _, n := range []int64{1, 2, 3, 4, 6, 8} {
		run(t, s, ort.RunOptions{}, ort.NewTensor(ort.Float32, n, 16, 64, 64))
		st := stats(t, s)
		allocated = append(allocated, (st.Allocated-floor)/n)
		run(t, s, ort.RunOptions{Shrink: true}, ort.NewTensor(ort.Float32, n, 16, 64, 64))
		if after := stats(t, s).Allocated; after != floor {
			t.Errorf("batch %d: %d bytes allocated after shrinking, want the %d of the start", n, after, floor)
		}
	}
	t.Logf("bytes an image: %v; an image of a layer: %d; floor: %d", allocated, image, floor)
	for _, a := range allocated {
		if d := a - allocated[len(allocated)-1]; d > image/20 || d < -image/20 {
			t.Errorf("bytes an image: %v, want the same for each batch", allocated)
		}
	}
}

// A run that is larger than those before adds its regions to theirs, unless they
// are given back first.
func TestShrinkFirst(t *testing.T) {
	s := open(t, convolutions(4, 64), ort.SessionOptions{})
	batch := func(n int64) *ort.Tensor { return ort.NewTensor(ort.Float32, n, 16, 64, 64) }
	run(t, s, ort.RunOptions{}, batch(8))
	clean := stats(t, s).Allocated
	run(t, s, ort.RunOptions{ShrinkFirst: true}, batch(5))
	run(t, s, ort.RunOptions{}, batch(8))
	if grown := stats(t, s).Allocated; grown < clean*5/4 {
		t.Fatalf("%d bytes after 5 and 8 images, and %d after 8: nothing is there to be given back", grown, clean)
	}
	run(t, s, ort.RunOptions{ShrinkFirst: true}, batch(8))
	if after := stats(t, s).Allocated; after != clean {
		t.Errorf("%d bytes, want %d", after, clean)
	}
}

func TestShrinkGivesFreeRegionsBack(t *testing.T) {
	s := open(t, convolutions(4, 64), ort.SessionOptions{})
	run(t, s, ort.RunOptions{}, ort.NewTensor(ort.Float32, 8, 16, 64, 64))
	before := stats(t, s)
	run(t, s, ort.RunOptions{Shrink: true}, ort.NewTensor(ort.Float32, 1, 16, 64, 64))
	after := stats(t, s)
	if after.Allocated >= before.Allocated/10 || after.Allocated != after.InUse {
		t.Errorf("%+v after a small run that shrinks, %+v before", after, before)
	}
	if after.InUse > after.Allocated || after.MaxInUse < after.InUse || after.Limit != 0 {
		t.Errorf("%+v", after)
	}
}

// Two sessions with limits of their own, and one without, at once.
func TestArenaLimitIsTheSessionsOwn(t *testing.T) {
	m := convolutions(4, 64)
	const mib = 1 << 20
	small := open(t, m, ort.SessionOptions{ArenaLimit: 8 * mib})
	large := open(t, m, ort.SessionOptions{ArenaLimit: 32 * mib})
	free := open(t, m, ort.SessionOptions{})
	for name, tt := range map[string]struct {
		session   *ort.Session
		fits, not int64 // batches; an image is 256 KiB a layer
		limit     int64
	}{
		"small": {small, 4, 64, 8 * mib},
		"large": {large, 32, 256, 32 * mib},
		"none":  {session: free, fits: 64},
	} {
		t.Run(name, func(t *testing.T) {
			batch := func(n int64) []*ort.Tensor { return []*ort.Tensor{ort.NewTensor(ort.Float32, n, 16, 64, 64)} }
			for range 2 {
				run(t, tt.session, ort.RunOptions{Shrink: true}, batch(tt.fits)...)
				st := stats(t, tt.session)
				if st.Limit != tt.limit || tt.limit > 0 && st.Allocated > tt.limit {
					t.Errorf("%+v, want no more than %d", st, tt.limit)
				}
				if tt.not == 0 {
					continue
				}
				_, err := tt.session.Run(testContext, batch(tt.not), ort.RunOptions{Shrink: true})
				var oom *ort.OutOfMemoryError
				if !errors.Is(err, ort.ErrOutOfMemory) || !errors.As(err, &oom) {
					t.Fatalf("batch %d: error %v, want out of memory", tt.not, err)
				}
				if oom.Requested < tt.not*256<<10 || oom.Available > tt.limit {
					t.Errorf("requested %d, available %d: %s", oom.Requested, oom.Available, oom.Text)
				}
			}
		})
	}
}

// Of weights beyond its limit the runtime makes no error but an arena without limit.
func TestWeightsCountInTheArenaLimit(t *testing.T) {
	const side, bytes = 512, 512 * 512 * 4
	m := model(input("x", 1, "n", side), weights("w", []int64{side, side}, make([]float32, side*side)...),
		node("MatMul", []string{"x", "w"}, "y"), output("y", 1, "n", side))
	_, err := load(t).OpenBytes(testContext, m, ort.SessionOptions{ArenaLimit: bytes - 1})
	var oom *ort.OutOfMemoryError
	if !errors.As(err, &oom) || oom.Requested != bytes || oom.Available != bytes-1 {
		t.Fatalf("error %v, want out of memory", err)
	}
	s := open(t, m, ort.SessionOptions{ArenaLimit: bytes + 64<<10})
	run(t, s, ort.RunOptions{}, ort.NewTensor(ort.Float32, 16, side))
	_, err = s.Run(testContext, []*ort.Tensor{ort.NewTensor(ort.Float32, 64, side)}, ort.RunOptions{})
	if !errors.As(err, &oom) || oom.Requested != 64*side*4 || oom.Available <= 0 || oom.Available > 64<<10 {
		t.Errorf("error %v, want out of memory with what is left", err)
	}
}

func TestRunsOfOneSessionTakeTurns(t *testing.T) {
	s := open(t, double(int64(ort.Float32), "n"), ort.SessionOptions{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				out, err := s.Run(testContext, []*ort.Tensor{floats([]int64{1}, float32(i*100+j))}, ort.RunOptions{Shrink: j%10 == 0})
				if err != nil {
					t.Error(err)
					return
				}
				if got := out[0].Float32s()[0]; got != float32(2*(i*100+j)) {
					t.Errorf("2 x %d = %g", i*100+j, got)
				}
				if _, err := s.Stats(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestClosedSessionsSayThatTheyAre(t *testing.T) {
	s := open(t, double(int64(ort.Float32), "n"), ort.SessionOptions{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Run(testContext, []*ort.Tensor{floats([]int64{1})}, ort.RunOptions{}); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("running: %v, want %v", err, ort.ErrClosed)
	}
	if _, err := s.Stats(); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("reading counters: %v, want %v", err, ort.ErrClosed)
	}
}

// Opening and closing leaves nothing behind: no memory, thread or goroutine.
func TestOpeningAndClosingLeavesNothing(t *testing.T) {
	lib, m, x := load(t), double(int64(ort.Float32), "n"), floats([]int64{1}, 1)
	cycle := func(n int) {
		for range n {
			s, err := lib.OpenBytes(testContext, m, ort.SessionOptions{ArenaLimit: 1 << 20, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s, ort.RunOptions{Shrink: true}, x)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cycle(100)
	before := status(t, "VmRSS:")
	threads := status(t, "Threads:")
	cycle(1000)
	if grown := status(t, "VmRSS:") - before; grown > 8<<10 && !raceDetector {
		t.Errorf("1000 sessions left %d KiB behind", grown)
	} else {
		t.Logf("1000 sessions: %d KiB", grown)
	}
	if more := status(t, "Threads:") - threads; more > 20 {
		t.Errorf("1000 sessions left %d threads behind", more)
	}
}

// status reads a figure of this process.
func status(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/self/status has no %s", name)
	return 0
}

func TestOpenRefusesWhatIsNoModel(t *testing.T) {
	dir := t.TempDir()
	good := convolutions(2, 8)
	random := make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	inside := bytes.Clone(good)
	for i := len(inside) / 3; i < len(inside)/3+200; i++ {
		inside[i] = 0xff
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, "empty"},
		"random":          {random, "no ONNX model"},
		"text":            {[]byte("<!DOCTYPE html><html>Not found</html>"), "no ONNX model"},
		"cut off":         {good[:len(good)/2], "cut off"},
		"without a graph": {intField(1, 8), "no graph"},
		"nodes damaged":   {message(intField(1, 8), bytesField(7, random)), ""},
		"unknown op":      {model(input("x", 1, 1), node("Frobnicate", []string{"x"}, "y"), output("y", 1, 1)), "Frobnicate"},
		"missing input":   {model(node("Add", []string{"a", "b"}, "y"), output("y", 1, 1)), ""},
		"cycle":           {model(input("x", 1, 1), node("Add", []string{"x", "z"}, "y"), node("Add", []string{"y", "x"}, "z"), output("z", 1, 1)), ""},
		"texts":           {model(input("x", 8, 1), node("Identity", []string{"x"}, "y"), output("y", 8, 1)), "tensor of numbers"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "model.onnx")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := load(t).Open(testContext, path, ort.SessionOptions{})
			if err == nil {
				s.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %q and the file in it", err, tt.want)
			}
			if s, err := load(t).OpenBytes(testContext, tt.data, ort.SessionOptions{}); err == nil {
				s.Close()
				t.Error("it opens from memory")
			}
		})
	}
	t.Run("every length", func(t *testing.T) {
		m := double(int64(ort.Float32), "n")
		for n := range m {
			if s, err := load(t).OpenBytes(testContext, m[:n], ort.SessionOptions{}); err == nil {
				s.Close()
				if !bytes.HasSuffix(m[:n], bytesField(8, intField(2, 17))) {
					t.Logf("the first %d of %d bytes open", n, len(m))
				}
			}
		}
	})
	t.Run("3 GB of zeros", func(t *testing.T) {
		path := filepath.Join(dir, "zeros.onnx")
		for size, want := range map[int64]string{3 << 30: "2 GiB", 1 << 30: "no ONNX model"} {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			before := status(t, "VmHWM:")
			if _, err := load(t).Open(testContext, path, ort.SessionOptions{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q in it", err, want)
			}
			if more := status(t, "VmHWM:") - before; more > 100<<10 {
				t.Errorf("refusing it took %d KiB", more)
			}
		}
	})
	t.Run("no file", func(t *testing.T) {
		if _, err := load(t).Open(testContext, filepath.Join(dir, "none.onnx"), ort.SessionOptions{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v, want that there is no file", err)
		}
		if _, err := load(t).Open(testContext, dir, ort.SessionOptions{}); err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("a directory: error %v", err)
		}
	})
}

// Weights in another file are read from the model's folder and nowhere else.
func TestWeightsOutsideTheModelStayInItsFolder(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "model")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	one := binary.LittleEndian.AppendUint32(nil, math.Float32bits(1))
	for _, path := range []string{filepath.Join(folder, "w.bin"), filepath.Join(dir, "secret.bin")} {
		if err := os.WriteFile(path, one, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret.bin", filepath.Join(folder, "link.bin")); err != nil {
		t.Fatal(err)
	}
	for location, opens := range map[string]bool{
		"w.bin":                            true,
		"../secret.bin":                    false,
		filepath.Join(dir, "secret.bin"):   false,
		"../model/../secret.bin":           false,
		"link.bin":                         false,
		"none.bin":                         false,
		"/proc/self/environ":               false,
		"./../../../../../../../etc/group": false,
	} {
		t.Run(location, func(t *testing.T) {
			m := model(input("x", 1, 1), external("w", location, 1), node("Add", []string{"x", "w"}, "y"), output("y", 1, 1))
			path := filepath.Join(folder, "model.onnx")
			if err := os.WriteFile(path, m, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := load(t).Open(testContext, path, ort.SessionOptions{})
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != opens {
				t.Fatalf("error %v, want it to open: %t", err, opens)
			}
			if opens {
				if y := run(t, s, ort.RunOptions{}, floats([]int64{1}, 2))[0].Float32s(); y[0] != 3 {
					t.Errorf("2 + 1 = %v", y)
				}
			}
			t.Chdir(folder)
			if s, err := load(t).OpenBytes(testContext, m, ort.SessionOptions{}); err == nil {
				s.Close()
				if !opens {
					t.Error("it opens from memory")
				}
			}
		})
	}
}

func TestAMissingProviderIsNamed(t *testing.T) {
	_, err := load(t).OpenBytes(testContext, double(1, "n"), ort.SessionOptions{Provider: ort.CUDA})
	var missing *ort.NoProviderError
	if !errors.Is(err, ort.ErrNoProvider) || !errors.As(err, &missing) {
		t.Fatalf("error %v, want that the provider is missing", err)
	}
	if !slices.Contains(missing.Have, "CPUExecutionProvider") || !strings.Contains(err.Error(), "CPUExecutionProvider") || !strings.Contains(err.Error(), "CUDAExecutionProvider") {
		t.Errorf("error %v, want the missing one and those that there are", err)
	}
}

// The runtime's messages go to the session's logger, and not to the terminal.
func TestMessagesGoToTheLog(t *testing.T) {
	var mu sync.Mutex
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))
	// The output says 5, and is 2.
	m := model(input("x", 1, "n"), node("Add", []string{"x", "x"}, "y"), output("y", 1, 5))
	s := open(t, m, ort.SessionOptions{Log: log})
	run(t, s, ort.RunOptions{}, floats([]int64{2}))
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(text.String(), "from=onnxruntime") || !strings.Contains(text.String(), "level=WARN") {
		t.Errorf("the log has %q, want a warning about the output's shape", text.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// endless starts a run of repeat that ends with its context, and waits until it is in
// flight: it tells so by what it uses of the arena.
func endless(t *testing.T, s *ort.Session) (stop context.CancelCauseFunc, end <-chan error) {
	t.Helper()
	ctx, stop := context.WithCancelCause(testContext)
	ended := make(chan error, 1)
	before := stats(t, s).InUse
	go func() {
		_, err := s.Run(ctx, []*ort.Tensor{times(1 << 60), floats([]int64{1}, 5)}, ort.RunOptions{})
		ended <- err
	}()
	for stats(t, s).InUse <= before {
		runtime.Gosched()
	}
	return stop, ended
}

// As many runs are in flight as the session may have, and each ends by its own context.
func TestConcurrentRunsAreInFlightAtOnce(t *testing.T) {
	const n = 3
	s := open(t, repeat(), ort.SessionOptions{Concurrent: n})
	before := stats(t, s).InUse
	var stops [n]context.CancelCauseFunc
	var ends [n]<-chan error
	for i := range n {
		stops[i], ends[i] = endless(t, s)
	}
	for i := range n {
		cause := errors.New("enough of run " + strconv.Itoa(i))
		stops[i](cause)
		if err := <-ends[i]; !errors.Is(err, cause) {
			t.Errorf("run %d ended with %v, want %v", i, err, cause)
		}
		run(t, s, ort.RunOptions{}, times(1), floats([]int64{1}, 5)) // its place is free
	}
	if after := stats(t, s).InUse; after != before {
		t.Errorf("%d bytes are in use after all runs, and were %d before", after, before)
	}
}

// Runs of several sizes beside each other are right, also while the arena is shrunk
// under them, and in the end all of it can be given back.
func TestShrinkingBesideOtherRuns(t *testing.T) {
	const n, side = 4, 16
	s := open(t, convolutions(4, side), ort.SessionOptions{Concurrent: n})
	floor := stats(t, s).Allocated
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 100 {
				x := ort.NewTensor(ort.Float32, 1+rng.Int64N(8), 16, side, side)
				for i := range x.Float32s() {
					x.Float32s()[i] = rng.Float32()
				}
				out, err := s.Run(testContext, []*ort.Tensor{x}, ort.RunOptions{ShrinkFirst: rng.IntN(3) == 0, Shrink: rng.IntN(3) == 0})
				if err != nil {
					t.Error(err)
					return
				}
				if !slices.Equal(out[0].Float32s(), x.Float32s()) { // the network lets it pass
					t.Errorf("goroutine %d has another's result, or a wrong one", g)
					return
				}
				if st := stats(t, s); st.InUse > st.Allocated || st.Allocated < floor {
					t.Errorf("%+v", st)
				}
			}
		})
	}
	wg.Wait()
	run(t, s, ort.RunOptions{Shrink: true}, ort.NewTensor(ort.Float32, 1, 16, side, side))
	if st := stats(t, s); st.Allocated != floor {
		t.Errorf("%d bytes allocated after all runs and shrinking, want the %d of the start", st.Allocated, floor)
	}
}

// Closing waits for all runs in flight, whichever thread they are on.
func TestClosingWaitsForConcurrentRuns(t *testing.T) {
	for range 8 {
		s := open(t, repeat(), ort.SessionOptions{Concurrent: 2})
		enough := errors.New("enough")
		stopOne, one := endless(t, s)
		stopTwo, two := endless(t, s)
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		stopOne(enough)
		<-one
		for {
			if _, err := s.Run(testContext, []*ort.Tensor{times(1), floats([]int64{1}, 5)}, ort.RunOptions{}); errors.Is(err, ort.ErrClosed) {
				break
			}
		}
		for range 100 {
			if _, err := s.Stats(); err != nil {
				t.Fatalf("a run is in flight, and its arena is gone: %v", err)
			}
			runtime.Gosched()
		}
		stopTwo(enough)
		if err := <-two; !errors.Is(err, enough) {
			t.Errorf("the run ended with %v", err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}

// With one thread a run computes on its own: the runtime starts none.
func TestOneThreadIsTheRunsOwn(t *testing.T) {
	const sessions = 32
	m := double(int64(ort.Float32), "n")
	threads := func(n int) int {
		before := status(t, "Threads:")
		for range sessions {
			run(t, open(t, m, ort.SessionOptions{Threads: n}), ort.RunOptions{}, floats([]int64{1}))
		}
		return status(t, "Threads:") - before
	}
	// Go itself has some threads to spare, or starts some.
	if more := threads(1); more > sessions*3/2 {
		t.Errorf("%d sessions of one thread each have %d", sessions, more)
	}
	if more := threads(2); more < sessions*3/2 {
		t.Errorf("%d sessions of two threads each have %d: nothing was tested", sessions, more)
	}
}
