package pipeline

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
)

// leave puts the pages of all pictures out of memory.
func (s *canvases) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if v.mapping != nil {
			_ = v.mapping.Leave() // what stays in costs room and loses nothing
		}
	}
}

// tend keeps what is in memory of the pictures at about that many bytes, until stop is
// closed. Nothing tells how much that is, but of the process's files together, in which
// the program and its libraries hardly change.
func (s *canvases) tend(stop <-chan struct{}, most int64) {
	statm, err := os.Open("/proc/self/statm")
	if err == nil {
		defer statm.Close()
	}
	tick := time.NewTicker(tendTick)
	defer tick.Stop()
	var least int64
	for {
		if now, ok := filePages(statm); !ok || now-least > most {
			s.leave()
			least, _ = filePages(statm)
		} else {
			least = min(least, now)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

func init() { imageio.OnPassed(mappings.passed) }

// mappings are those of the pictures of all runs.
var mappings mappingList

type mappingList struct {
	mu  sync.RWMutex
	all []*fsys.Mapping
}

func (l *mappingList) add(m *fsys.Mapping) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, m)
}

func (l *mappingList) remove(m *fsys.Mapping) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(one *fsys.Mapping) bool { return one == m })
}

// passed puts the pages of the picture that has these samples out of memory. Who goes
// through a whole picture calls it: the tender's ticks are too far apart for that.
func (l *mappingList) passed(samples []byte) {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(samples)))
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, m := range l.all {
		begin := uintptr(unsafe.Pointer(unsafe.SliceData(m.Bytes())))
		if at >= begin && at < begin+uintptr(len(m.Bytes())) {
			_ = m.Leave() // what stays in costs room and loses nothing
		}
	}
}

// filePages are the bytes of files that are in the process's memory (proc(5), statm,
// the third figure).
func filePages(statm *os.File) (bytes int64, ok bool) {
	if statm == nil {
		return 0, false
	}
	var b [128]byte
	n, _ := statm.ReadAt(b[:], 0)
	field := strings.Fields(string(b[:n]))
	if len(field) < 3 {
		return 0, false
	}
	pages, err := strconv.ParseInt(field[2], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

// graves are the addresses of pictures that have gone. Frames must not be kept after a
// call, but a program that ends is a worse answer to one that was than zeros are: such
// addresses read as zeros, as long as no more than mostGraves have gone since.
var graves struct {
	mu  sync.Mutex
	all []*fsys.Mapping
}

func bury(m *fsys.Mapping) {
	if m.Blank() != nil {
		_ = m.Close()
		return
	}
	graves.mu.Lock()
	defer graves.mu.Unlock()
	graves.all = append(graves.all, m)
	if len(graves.all) > mostGraves {
		_ = graves.all[0].Close()
		graves.all = slices.Delete(graves.all, 0, 1)
	}
}
