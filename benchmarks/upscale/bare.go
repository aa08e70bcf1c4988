package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
)

// took is what all runs take.
type took struct{ Wall, CPU float64 } // seconds

// parts are the bare runtime's two ways: one session with a thread for each core, and as
// many runs at once, with one thread each.
type parts struct {
	Shared, Apart took
	Runtime       string
}

// bareJob measures runs on filled tensors, and nothing else: MODEL COUNTxNxHxW...
func bareJob(args []string) error {
	runtime.GOMAXPROCS(threads)
	ctx := context.Background()
	var inputs []*ort.Tensor
	for _, arg := range args[1:] {
		var count int
		var n, h, w int64
		if _, err := fmt.Sscanf(arg, "%dx%dx%dx%d", &count, &n, &h, &w); err != nil {
			return fmt.Errorf("%s: %w", arg, err)
		}
		t := ort.NewTensor(ort.Float32, n, 3, h, w)
		for i, random := 0, rand.New(rand.NewPCG(1, 2)); i < len(t.Float32s()); i++ {
			t.Float32s()[i] = random.Float32()
		}
		for range count {
			inputs = append(inputs, t)
		}
	}
	library, err := ort.Load("")
	if err != nil {
		return err
	}
	p := parts{Runtime: library.Version}
	if p.Shared, err = bare(ctx, library, args[0], inputs, ort.SessionOptions{Threads: threads}); err != nil {
		return err
	}
	if p.Apart, err = bare(ctx, library, args[0], inputs, ort.SessionOptions{Threads: 1, Concurrent: threads}); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(p)
}

// bare runs all inputs, as many at once as the session can. Each shape has been run
// before, as the first time takes longer.
func bare(ctx context.Context, library *ort.Library, file string, inputs []*ort.Tensor, o ort.SessionOptions) (all took, err error) {
	s, err := library.Open(ctx, file, o)
	if err != nil {
		return took{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for i, in := range inputs {
		if i == 0 || in != inputs[i-1] {
			if _, err := s.Run(ctx, []*ort.Tensor{in}, ort.RunOptions{}); err != nil {
				return took{}, err
			}
		}
	}
	runtime.GC() // of the outputs
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, max(o.Concurrent, 1))
	began, cpu := time.Now(), cpuNow()
	for g := range errs {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(inputs)) && errs[g] == nil; i = next.Add(1) - 1 {
				_, errs[g] = s.Run(ctx, inputs[i:i+1], ort.RunOptions{})
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return took{}, err
		}
	}
	return took{time.Since(began).Seconds(), (cpuNow() - cpu).Seconds()}, nil
}

func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
