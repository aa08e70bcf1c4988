//go:build amd64 || arm64

package malloc_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/forgepipe/forgepipe/memory/malloc"
)

// heap is C's own malloc and free.
type heap struct {
	malloc func(size uintptr) unsafe.Pointer
	free   func(unsafe.Pointer)
}

func openHeap(t *testing.T) heap {
	t.Helper()
	var h heap
	for name, f := range map[string]any{"malloc": &h.malloc, "free": &h.free} {
		at, err := purego.Dlsym(purego.RTLD_DEFAULT, name)
		if err != nil {
			t.Fatal(err)
		}
		purego.RegisterFunc(f, at)
	}
	return h
}

// alloc takes n blocks and writes to them, so that they are resident.
func (h heap) alloc(t *testing.T, n int, size uintptr) []unsafe.Pointer {
	t.Helper()
	var blocks []unsafe.Pointer
	for range n {
		p := h.malloc(size)
		if p == nil {
			t.Fatal("malloc failed")
		}
		block := unsafe.Slice((*byte)(p), size)
		for i := range block {
			block[i] = 1
		}
		blocks = append(blocks, p)
	}
	return blocks
}

func rss(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// Freed blocks below one that is held stay with the process until Trim: malloc
// by itself gives back only what lies at an arena's end.
func TestTrimGivesFreedMemoryBack(t *testing.T) {
	// Each thread has an arena of its own: the block that is held must be in that
	// of the others.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !malloc.Trim() {
		t.Log("nothing to give back at the start, or not GNU's C library")
	}
	h := openHeap(t)
	const n, size = 2048, 64 << 10 // below the 128 KiB from which blocks are mapped
	blocks := h.alloc(t, n, size)
	last := h.malloc(size)
	defer h.free(last)
	for _, p := range blocks {
		h.free(p)
	}
	kept := rss(t)
	if !malloc.Trim() {
		t.Fatal("Trim() = false with 128 MiB freed: the C library lacks malloc_trim")
	}
	if freed := kept - rss(t); freed < n*size/2 {
		t.Errorf("Trim gave %d bytes back, want most of %d", freed, n*size)
	}
}

func TestInUseCountsSmallAndMappedBlocks(t *testing.T) {
	h := openHeap(t)
	for name, tt := range map[string]struct {
		n    int
		size uintptr
	}{
		"in an arena":        {512, 32 << 10},
		"mapped, over 4 GiB": {5, 1 << 30}, // not written to: costs no memory
	} {
		t.Run(name, func(t *testing.T) {
			before, ok := malloc.InUse()
			if !ok {
				t.Fatal("InUse is not known: the C library lacks mallinfo2 (GNU 2.33)")
			}
			var blocks []unsafe.Pointer
			for range tt.n {
				p := h.malloc(tt.size)
				if p == nil {
					t.Fatal("malloc failed")
				}
				blocks = append(blocks, p)
			}
			held, _ := malloc.InUse()
			for _, p := range blocks {
				h.free(p)
			}
			after, _ := malloc.InUse()
			want := int64(tt.n) * int64(tt.size)
			const slack = 1 << 20
			if d := held - before; d < want || d > want+slack {
				t.Errorf("%d bytes more while %d are held", d, want)
			}
			if d := after - before; d > slack || d < -slack {
				t.Errorf("%d bytes more after all is freed", d)
			}
		})
	}
}
