package memory_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// What has been learned is the same after it was written and read, and lets the next
// run begin near its target.
func TestLearnedRoundTrip(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "learned.json")
	if got, err := memory.ReadLearned(file); got != nil || err != nil {
		t.Fatalf("where there is no file: %v, %v", got, err)
	}
	now := time.Unix(1e9, 0).UTC()
	o := memory.GovernorOptions{Clock: func() time.Time { return now }}
	g := newGovernor(t, o)
	n := &network{start: 1 << 28, each: 1 << 25, t0: 0.02, t1: 0.001}
	w := g.Workload(memory.WorkloadOptions{Key: "k"})
	target := 0
	for range 60 {
		target = n.run(w, 8<<30, 1)
	}
	all := g.Learned()
	if err := memory.WriteLearned(file, all); err != nil {
		t.Fatal(err)
	}
	got, err := memory.ReadLearned(file)
	if err != nil || !reflect.DeepEqual(got, all) {
		t.Fatalf("%v: got %+v, want %+v", err, got, all)
	}
	if len(got) != 1 || got[0].Key != "k" || !got[0].When.Equal(now) || len(got[0].Sizes) < 5 {
		t.Fatalf("%+v", got)
	}

	o.Learned = got
	now = now.Add(time.Hour)
	g = newGovernor(t, o)
	if again := g.Learned(); !reflect.DeepEqual(again, all) {
		t.Errorf("what was not used has changed: %+v, was %+v", again, all)
	}
	w = g.Workload(memory.WorkloadOptions{Key: "k"})
	if got := w.Target("", 0); got < target/2 {
		t.Errorf("%d items are worth collecting, in the end it ran %d", got, target)
	}
	n.held = 0
	if got := n.run(w, 8<<30, 1); math.Abs(float64(got-target)) > 0.1*float64(target) {
		t.Errorf("it begins with %d, and ended with %d", got, target)
	}
	if again := g.Learned(); !again[0].When.Equal(now) {
		t.Errorf("what was used is from %s", again[0].When)
	}
}

func TestLearnedFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	some := []memory.Learned{{Key: "k", Sizes: []memory.SizeTook{{Batch: 1, Bytes: 5}}}}
	const damaged = "is damaged (unexpected end of JSON input): it is not used, and will be replaced by what this run learns"
	for name, tt := range map[string]struct {
		make    func(file string) error
		want    string
		replace bool // WriteLearned puts a good one in its place
	}{
		"damaged":    {func(f string) error { return os.WriteFile(f, []byte(`[{"key": "k", "siz`), 0o600) }, damaged, true},
		"not a list": {func(f string) error { return os.WriteFile(f, []byte(`{"key": 5}`), 0o600) }, "it is not used, and will be replaced by what this run learns", true},
		"empty":      {func(f string) error { return os.WriteFile(f, nil, 0o600) }, damaged, true},
		"huge": {func(f string) error {
			if err := os.WriteFile(f, []byte("["), 0o600); err != nil {
				return err
			}
			return os.Truncate(f, 65<<20)
		}, "as it has more than 64 MiB: it is not used, and will be replaced", true},
		"a directory": {func(f string) error { return os.Mkdir(f, 0o700) }, "it is no file; delete it", false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".json")
			if err := tt.make(file); err != nil {
				t.Fatal(err)
			}
			if _, err := memory.ReadLearned(file); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("%v, want %q and the file in it", err, tt.want)
			}
			err := memory.WriteLearned(file, some)
			if !tt.replace {
				if err == nil || !strings.Contains(err.Error(), file) {
					t.Errorf("written over it: %v", err)
				}
				return
			}
			got, readErr := memory.ReadLearned(file)
			if err != nil || readErr != nil || !reflect.DeepEqual(got, some) {
				t.Errorf("%v, %v: %+v", err, readErr, got)
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		// A file that can be opened and not be read, by whoever it is.
		if _, err := memory.ReadLearned("/proc/self/mem"); err == nil || !strings.Contains(err.Error(), "reading what earlier runs have learned") {
			t.Error(err)
		}
	})
	t.Run("no folder can be made", func(t *testing.T) {
		file := filepath.Join(dir, "damaged.json", "learned.json")
		if err := memory.WriteLearned(file, some); err == nil || !strings.Contains(err.Error(), file) {
			t.Error(err)
		}
	})
	left, err := filepath.Glob(filepath.Join(dir, ".learned-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left behind (%v)", left, err)
	}
}

// Of the same key and shape the newest stays, and when there are too many the oldest
// are forgotten.
func TestWriteLearnedAdds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learned.json")
	at := func(key string, day, batch int) memory.Learned {
		return memory.Learned{Key: key, When: time.Unix(int64(day)*86400, 0).UTC(), Sizes: []memory.SizeTook{{Batch: batch, Bytes: 1}}}
	}
	write := func(all ...memory.Learned) {
		t.Helper()
		if err := memory.WriteLearned(file, all); err != nil {
			t.Fatal(err)
		}
	}
	read := func() map[string]int {
		t.Helper()
		all, err := memory.ReadLearned(file)
		if err != nil {
			t.Fatal(err)
		}
		batches := map[string]int{}
		for _, l := range all {
			batches[l.Key] = l.Sizes[0].Batch
		}
		return batches
	}
	write()
	if _, err := os.Stat(file); err == nil {
		t.Error("nothing was learned, but a file was written")
	}
	write(at("a", 5, 1), at("b", 5, 1))
	write(at("a", 6, 2), at("c", 6, 2))
	write(at("a", 3, 3)) // of a run that began with it, and did not use it
	if got, want := read(), map[string]int{"a": 2, "b": 1, "c": 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var many []memory.Learned
	for i := range 4095 {
		many = append(many, at(fmt.Sprint("many ", i), 10, 1))
	}
	write(many...)
	got := read()
	if len(got) != 4096 || got["b"] != 0 || got["a"]+got["c"] != 2 {
		t.Errorf("of %d, a %d, b %d, c %d", len(got), got["a"], got["b"], got["c"])
	}
}

// Of several that write at the same time, the file is always one that somebody wrote.
func TestSeveralWriteLearned(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learned.json")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 20 {
				l := memory.Learned{Key: fmt.Sprint(i), Sizes: []memory.SizeTook{{Batch: 1, Bytes: int64(i) + 1, Seconds: 0.5}}}
				if err := memory.WriteLearned(file, []memory.Learned{l}); err != nil {
					t.Error(err)
				}
				got, err := memory.ReadLearned(file)
				if err != nil || len(got) == 0 {
					t.Errorf("%v: %+v", err, got)
				}
			}
		})
	}
	all.Wait()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".learned-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left behind (%v)", left, err)
	}
}

// Nonsense in the file does no harm.
func TestLearnedNonsense(t *testing.T) {
	var sizes []memory.SizeTook
	for _, b := range []int{-1, 0, 1, math.MaxInt} {
		for _, bytes := range []int64{math.MinInt64, -1, 0, math.MaxInt64} {
			for _, s := range []float64{-1, 0, math.NaN(), math.Inf(1), 1e300} {
				sizes = append(sizes, memory.SizeTook{Batch: b, Bytes: bytes, Seconds: s})
			}
		}
	}
	g := newGovernor(t, memory.GovernorOptions{Learned: []memory.Learned{{Key: "k", Sizes: sizes}, {Key: "empty"}}})
	w := g.Workload(memory.WorkloadOptions{Key: "k"})
	if got := w.Target("", 0); got < 1 || got > 1024 {
		t.Errorf("%d are worth collecting", got)
	}
	if c := w.Next("", memory.Room{Budget: 1 << 30}); c.Batch < 0 || c.Batch > 1 {
		t.Errorf("%+v", c)
	}
}

// What is wrong in it does not hurt for long.
func TestWrongLearned(t *testing.T) {
	const budget = 8 << 30
	n := network{start: 100 << 20, each: 40 << 20, t0: 0.02, t1: 0.001}
	most := int((budget - n.start) / n.each)
	for name, change := range map[string]func(b int, s *memory.SizeTook){
		"bytes too low":          func(_ int, s *memory.SizeTook) { s.Bytes /= 10 },
		"bytes too high":         func(_ int, s *memory.SizeTook) { s.Bytes *= 10 },
		"more than a device has": func(_ int, s *memory.SizeTook) { s.Bytes *= 1000 },
		"one of them too low":    func(b int, s *memory.SizeTook) { s.Bytes /= map[bool]int64{true: 10, false: 1}[b == 128] },
		"one of them too high":   func(b int, s *memory.SizeTook) { s.Bytes *= map[bool]int64{true: 10, false: 1}[b == 128] },
		"times too low":          func(_ int, s *memory.SizeTook) { s.Seconds /= 10 },
		"times too high":         func(_ int, s *memory.SizeTook) { s.Seconds *= 10 },
		"small ones too fast":    func(b int, s *memory.SizeTook) { s.Seconds /= map[bool]float64{true: 10, false: 1}[b < 10] },
		"large ones too slow":    func(b int, s *memory.SizeTook) { s.Seconds *= map[bool]float64{true: 10, false: 1}[b > 10] },
		"the batches":            func(_ int, s *memory.SizeTook) { s.Batch *= 7 },
	} {
		t.Run(name, func(t *testing.T) {
			l := memory.Learned{Key: "k"}
			for _, b := range []int{1, 2, 8, 32, 128, 195} {
				s := memory.SizeTook{Batch: b, Bytes: n.bytes(b), Seconds: n.t0 + n.t1*float64(b)}
				change(b, &s)
				l.Sizes = append(l.Sizes, s)
			}
			n := n
			g := newGovernor(t, memory.GovernorOptions{Learned: []memory.Learned{l}})
			w := g.Workload(memory.WorkloadOptions{Key: "k"})
			items, took := 0.0, 0.0
			for run := range 100 {
				b := n.run(w, budget, 1)
				if run >= 50 && n.bytes(b) <= budget {
					items += float64(b)
					took += n.t0 + n.t1*float64(b)
				}
			}
			if rate := items / took; rate < 0.95*n.rate(most) {
				t.Errorf("%.1f items/s after 50 runs, %.1f with %d at once", rate, n.rate(most), most)
			}
			if a := g.Accounts()[0]; a.OutOfMemory > 4 {
				t.Errorf("%d runs found no room", a.OutOfMemory)
			}
		})
	}
}

// What earlier runs have learned never keeps a network from its first run, and is not
// said to be what a run takes where there is not so much.
func TestLearnedNeverRefuses(t *testing.T) {
	const gib = 1 << 30
	begin := func() *memory.Workload {
		g := newGovernor(t, memory.GovernorOptions{Learned: []memory.Learned{learned("k", gib, 0.1, 0.01)}})
		return g.Workload(memory.WorkloadOptions{Key: "k"})
	}
	w := begin()
	if got := w.Bytes("", 8); got != 8*gib {
		t.Errorf("8 items take %d bytes before anything is decided", got)
	}
	w.Next("", memory.Room{Budget: 4 * gib})
	if got := w.Bytes("", 2); got != 2*gib {
		t.Errorf("2 items, for which there is room, take %d bytes", got)
	}
	if got := w.Bytes("", 8); got != 0 {
		t.Errorf("8 items, for which there is none, take %d bytes", got)
	}

	w = begin()
	if c := w.Next("", memory.Room{Budget: -gib}); c.Batch != 0 {
		t.Errorf("without any room %+v", c)
	}
	if got := w.Target("", 0); got <= 1 {
		t.Errorf("what is learned is forgotten: %d items are worth collecting", got)
	}
	room := memory.Room{Budget: gib / 2}
	if c := w.Next("", room); c.Batch != 1 || c.Rule != memory.RuleProbe {
		t.Errorf("though an item may take less than was learned, %+v", c)
	}
	w.Ran("", memory.Ran{Batch: 1, OutOfMemory: true, Need: gib}, room)
	if c := w.Next("", room); c.Batch != 0 {
		t.Errorf("though an item does take that, %+v", c)
	}
}
