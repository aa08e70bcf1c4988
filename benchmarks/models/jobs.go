package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/model"
)

// convertJob makes an ONNX file of a checkpoint.
func convertJob(checkpoint, out string) error {
	_, err := model.Convert(context.Background(), out, model.ConvertOptions{}, checkpoint)
	return err
}

// openJob loads a network, and prints the seconds that takes. Of a checkpoint that has
// been converted before it is what the cache has that is loaded.
func openJob(path string) error {
	began := time.Now()
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		return err
	}
	s, err := f.Load(context.Background(), model.SessionOptions{Threads: threads})
	if err != nil {
		return err
	}
	fmt.Println(time.Since(began).Seconds())
	return s.Close()
}

// serveJob runs a network on the input in FOLDER as often as each line of standard input
// says, and prints the seconds and the CPU seconds that took: FOLDER OUTPUT BATCH HEIGHT WIDTH. Before, it
// writes what comes out, and says that it is ready.
func serveJob(args []string) error {
	folder, output := args[0], args[1]
	shape := []int64{0, 3, 0, 0}
	for i, at := range []int{0, 2, 3} {
		n, err := strconv.Atoi(args[2+i])
		if err != nil {
			return err
		}
		shape[at] = int64(n)
	}
	spec := model.Spec{Width: int(shape[3]), Height: int(shape[2])}
	f, err := model.Open(filepath.Join(folder, "net.onnx"), model.FileOptions{Spec: spec, Outputs: []string{output}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := f.Load(ctx, model.SessionOptions{Threads: threads})
	if err != nil {
		return err
	}
	in := &model.Tensor{Type: f.ElementType(), Shape: shape}
	if in.Data, err = os.ReadFile(filepath.Join(folder, "input.f32")); err != nil {
		return err
	}
	out, err := s.Run(ctx, []*model.Tensor{in}, model.SessionRun{})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "ours.f32"), out[0].Data, 0o666); err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		began, cpu := time.Now(), cpuNow()
		for range n {
			if _, err := s.Run(ctx, []*model.Tensor{in}, model.SessionRun{}); err != nil {
				return err
			}
		}
		fmt.Println(time.Since(began).Seconds(), (cpuNow() - cpu).Seconds())
	}
	return s.Close()
}

// cpuNow is the CPU time that this process has taken.
func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// difference is how much two files of float32 differ: relative to the length of the first,
// and the largest of all. They are not held in memory: see proc.Usage for why a benchmark
// has to stay small.
func difference(want, got string) (relative, largest float64, err error) {
	a, err := os.Open(want)
	if err != nil {
		return 0, 0, err
	}
	defer a.Close()
	b, err := os.Open(got)
	if err != nil {
		return 0, 0, err
	}
	defer b.Close()
	wanted, made := bufio.NewReader(a), bufio.NewReader(b)
	var diff, length float64
	for n := 0; ; n++ {
		x, errX := number(wanted)
		y, errY := number(made)
		switch endX, endY := errors.Is(errX, io.EOF), errors.Is(errY, io.EOF); {
		case endX && endY && n > 0:
			return math.Sqrt(diff / length), largest, nil
		case endX || endY:
			return 0, 0, errors.New("the outputs have different lengths")
		case errX != nil || errY != nil:
			return 0, 0, errors.Join(errX, errY)
		}
		diff, length, largest = diff+(y-x)*(y-x), length+x*x, max(largest, math.Abs(y-x))
	}
}

// number reads a float32.
func number(r io.Reader) (float64, error) {
	var b [4]byte
	_, err := io.ReadFull(r, b[:])
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[:]))), err
}
