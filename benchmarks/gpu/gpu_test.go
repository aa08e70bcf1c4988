package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory/sim"
)

// The test program is also the neighbour's.
func TestMain(m *testing.M) {
	for i, arg := range os.Args {
		if arg == "-job" && os.Args[i+1] == "neighbour" {
			if err := neighbourJob(0); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func brief(t *testing.T) settings {
	t.Helper()
	p, err := findPlace(0, true)
	if err != nil {
		t.Fatal(err)
	}
	s := settings{place: p, dir: t.TempDir(), out: t.TempDir(), brief: true}
	if err := makeNets(s.dir, true); err != nil {
		t.Fatal(err)
	}
	return s
}

// The quick parts work without a GPU, and what must hold does.
func TestPartsWithoutAGPU(t *testing.T) {
	for name, part := range map[string]func(context.Context, settings) (string, bool, error){"parity": parity, "limits": limits, "arena": arena} {
		t.Run(name, func(t *testing.T) {
			body, held, err := part(t.Context(), brief(t))
			if err != nil || !held || !strings.Contains(body, ": HOLDS\n") {
				t.Errorf("%v\n%s", err, body)
			}
		})
	}
}

// What is measured without a GPU cannot be taken for a GPU's.
func TestFiguresWithoutAGPUAreMarked(t *testing.T) {
	p, err := findPlace(0, true)
	if err != nil {
		t.Fatal(err)
	}
	if text := p.described(); !strings.HasPrefix(text, "**WITHOUT A GPU:") || !strings.Contains(text, "simulated device of 192 MiB") {
		t.Error(text)
	}
}

func TestNoGPUIsLacking(t *testing.T) {
	if _, err := findPlace(99, false); !errors.Is(err, errLacking) {
		t.Errorf("GPU 99: %v", err)
	}
}

// The neighbour takes what is free and no more, and gives it back, of a driver that has
// 1 GiB.
func TestNeighbour(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skipf("no C compiler to build a stand-in for the CUDA driver with: %v", err)
	}
	dir := t.TempDir()
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", filepath.Join(dir, "libcuda.so.1"), filepath.Join("testdata", "cuda.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("LD_LIBRARY_PATH", dir)
	n, err := startNeighbour(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ want, has int64 }{{512 << 20, 512 << 20}, {4 << 30, 1 << 30}, {100 << 20, 96 << 20}, {0, 0}} {
		if err := n.want(tt.want); err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(10 * time.Second)
		for n.held.Load() != tt.has && time.Now().Before(until) {
			time.Sleep(time.Millisecond)
		}
		if got := n.held.Load(); got != tt.has {
			t.Errorf("it wants %d and has %d, not %d", tt.want, got, tt.has)
		}
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

// The times of a visit follow each other, and end with it.
func TestVisit(t *testing.T) {
	const total, lasts = 1000, 12 * time.Second
	trace, spans := visit(total, lasts)
	at := time.Duration(0)
	for _, s := range spans {
		if s.from != at || s.until <= s.from {
			t.Errorf("%s is from %s until %s, after %s", s.name, s.from, s.until, at)
		}
		at = s.until
	}
	if at != lasts || trace.At(0) != 0 || trace.At(10*time.Second) != total || trace.At(lasts) != 0 {
		t.Errorf("it ends at %s; %d, %d, %d bytes", at, trace.At(0), trace.At(10*time.Second), trace.At(lasts))
	}
	if _, err := sim.New(sim.Config{Total: total, Others: trace}); err != nil {
		t.Error(err)
	}
}

func TestApart(t *testing.T) {
	least, typical, greatest := apart([]moment{{own: 10, leased: 4}, {own: 10, leased: 12}})
	if least != -2 || typical != 2 || greatest != 6 {
		t.Errorf("%d, %d, %d", least, typical, greatest)
	}
}
