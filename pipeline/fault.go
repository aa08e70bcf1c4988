package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"unsafe"

	"github.com/sourcegraph/conc/panics"
)

// errFault is what a disk that fails under a picture that lies in a file comes to. Where
// Go code looks at the picture, the fault is a panic if the goroutine has asked for it,
// and ends the program otherwise. No one can ask in C code, such as a decoder that writes
// there.
var errFault = errors.New("the disk failed under a picture that lies in a file: look at the disk and its free space, and run again")

// faultsPanic makes faults panics on this goroutine until the returned function is called.
func faultsPanic() (done func()) {
	before := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(before) }
}

// catching calls f, outside of stages' calls, and returns a fault as an error.
func (s *canvases) catching(f func() error) (err error) {
	defer faultsPanic()()
	defer func() {
		if p := recover(); p != nil {
			fault, ok := s.explainFault(p).(error)
			if !ok || !errors.Is(fault, errFault) {
				panic(p)
			}
			err = fault
		}
	}()
	return f()
}

// explainFault names the file that a panic is a fault of; other panics it returns as they are.
func (s *canvases) explainFault(p any) any {
	inner := p
	if r, ok := p.(*panics.Recovered); ok { // of a goroutine of the stage's
		inner = r.Value
	}
	at, ok := inner.(interface{ Addr() uintptr })
	if !ok {
		return p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if v.mapping == nil {
			continue
		}
		begin := uintptr(unsafe.Pointer(unsafe.SliceData(v.mapping.Bytes())))
		if a := at.Addr(); a >= begin && a < begin+uintptr(v.bytes) {
			return fmt.Errorf("%s: %w", filepath.Join(v.dir.Name(), v.name), errFault)
		}
	}
	return p
}
