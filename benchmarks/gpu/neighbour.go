package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ebitengine/purego"
)

// neighbour is another process that takes memory of the card and gives it back.
type neighbour struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	held  atomic.Int64 // bytes that it has, as it says
	ended chan error
}

// startNeighbour starts it; it has nothing then, but CUDA's context.
func startNeighbour(gpu int) (*neighbour, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &neighbour{cmd: exec.Command(self, "-job", "neighbour", "-gpu", strconv.Itoa(gpu)), ended: make(chan error, 1)}
	n.cmd.Stderr = os.Stderr
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, fmt.Errorf("the neighbour does not begin: %w", n.cmd.Wait())
	}
	go func() {
		for lines.Scan() {
			if held, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				n.held.Store(held)
			}
		}
		n.ended <- n.cmd.Wait()
	}()
	return n, nil
}

// want says how many bytes it is to have. It takes them as soon as they are free.
func (n *neighbour) want(bytes int64) error {
	_, err := fmt.Fprintln(n.in, bytes)
	return err
}

// stop ends it.
func (n *neighbour) stop() error {
	err := n.in.Close()
	select {
	case ended := <-n.ended:
		return errors.Join(err, ended)
	case <-time.After(10 * time.Second):
		return errors.Join(err, errors.New("the neighbour does not end"), n.cmd.Process.Kill())
	}
}

// chunks are what it takes at once: large ones, and small ones where those have no room.
var chunks = []int64{256 << 20, 32 << 20}

// outOfMemory is CUDA_ERROR_OUT_OF_MEMORY.
const outOfMemory = 2

// cuda is what of the driver the neighbour calls.
type cuda struct {
	alloc func(at *uint64, bytes uint64) int32
	free  func(at uint64) int32
}

// neighbourJob is the process. It reads wishes, a line each, and says what it has
// whenever that has changed. It calls the driver directly, as all that it wants is
// memory; a session's arena would have to compute for it.
func neighbourJob(gpu int) error {
	runtime.LockOSThread() // CUDA's context belongs to the thread
	c, err := openCUDA(gpu)
	if err != nil {
		return err
	}
	wishes := make(chan int64)
	go func() {
		defer close(wishes)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if bytes, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64); err == nil {
				wishes <- bytes
			}
		}
	}()
	type block struct {
		at    uint64
		bytes int64
	}
	var blocks []block
	var want, held int64
	fmt.Println(held)
	again := time.NewTicker(20 * time.Millisecond)
	for {
		select {
		case bytes, more := <-wishes:
			if !more {
				return nil // the driver gives back what it has
			}
			want = bytes
		case <-again.C:
		}
		before := held
		for i := len(blocks) - 1; i >= 0 && held > want; i-- {
			if code := c.free(blocks[i].at); code != 0 {
				return fmt.Errorf("cuMemFree answers %d", code)
			}
			held -= blocks[i].bytes
			blocks = slices.Delete(blocks, i, i+1)
		}
		for _, size := range chunks {
			for held+size <= want {
				b := block{bytes: size}
				code := c.alloc(&b.at, uint64(size))
				if code == outOfMemory {
					break
				}
				if code != 0 {
					return fmt.Errorf("cuMemAlloc answers %d", code)
				}
				blocks, held = append(blocks, b), held+size
			}
		}
		if held != before {
			fmt.Println(held)
		}
	}
}

// openCUDA gives the thread the GPU's primary context.
func openCUDA(gpu int) (c cuda, err error) {
	lib, err := purego.Dlopen("libcuda.so.1", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return c, fmt.Errorf("loading the CUDA driver: %w", err)
	}
	var (
		start  func(flags uint32) int32
		get    func(device *int32, ordinal int32) int32
		retain func(ctx *uintptr, device int32) int32
		enter  func(ctx uintptr) int32
		device int32
		ctx    uintptr
	)
	for name, f := range map[string]any{
		"cuInit": &start, "cuDeviceGet": &get, "cuDevicePrimaryCtxRetain": &retain, "cuCtxSetCurrent": &enter,
		"cuMemAlloc_v2": &c.alloc, "cuMemFree_v2": &c.free,
	} {
		at, err := purego.Dlsym(lib, name)
		if err != nil {
			return c, fmt.Errorf("loading the CUDA driver: %w", err)
		}
		purego.RegisterFunc(f, at)
	}
	for _, step := range []struct {
		name string
		do   func() int32
	}{
		{"cuInit", func() int32 { return start(0) }},
		{"cuDeviceGet", func() int32 { return get(&device, int32(gpu)) }},
		{"cuDevicePrimaryCtxRetain", func() int32 { return retain(&ctx, device) }},
		{"cuCtxSetCurrent", func() int32 { return enter(ctx) }},
	} {
		if code := step.do(); code != 0 {
			return c, fmt.Errorf("%s answers %d", step.name, code)
		}
	}
	return c, nil
}
