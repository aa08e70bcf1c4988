//go:build linux && cgo && !noort

package ort

/*
#cgo CFLAGS: -I${SRCDIR}/include
#cgo LDFLAGS: -ldl
#include "shim.h"
*/
import "C"

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/cgo"
	"slices"
	"strings"
	"sync"
	"unsafe"

	onnx "github.com/yalue/onnxruntime_go"
)

var (
	loading sync.Mutex
	loaded  *Library
	wanted  string // what loaded was asked for; "" is the embedded library

	// opening has a token while a session is opened: the arena for it is registered
	// with the environment, which has room for one.
	opening = make(chan struct{}, 1)
)

// Load loads the library into this process: the one at path or, with "", the one
// that $FORGEPIPE_ORT_LIB names or, without that, the embedded one. A path
// without a slash is searched for as ld.so does. It loads one library: a later call
// for the same returns it again, and for another is an error. After an error the
// next call tries anew.
func Load(path string) (*Library, error) {
	from := path
	if path == "" {
		path = os.Getenv(LibraryVariable)
		from = LibraryVariable + " (" + path + ")"
	}
	if strings.ContainsRune(path, '/') {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("finding the ONNX Runtime library that %s names: %w", from, err)
		}
		path = abs
	}
	loading.Lock()
	defer loading.Unlock()
	if loaded != nil {
		if path != wanted {
			return nil, fmt.Errorf("loading the ONNX Runtime library %s: this process has loaded %s, and can load one only", nameOf(path), loaded.Path)
		}
		return loaded, nil
	}
	lib := &Library{Embedded: path == ""}
	var err error
	if lib.Embedded {
		err = unpack(lib.open)
	} else {
		err = lib.open(path)
		if err != nil {
			err = fmt.Errorf("loading the ONNX Runtime library that %s names: %w: name a libonnxruntime.so of version 1.24 or newer, or none to have the one inside the program", from, err)
		}
	}
	if err != nil {
		return nil, err
	}
	loaded, wanted = lib, path
	return lib, nil
}

func nameOf(path string) string {
	if path == "" {
		return "inside the program"
	}
	return path
}

// open loads the library at path and starts its environment, which stays until
// the process ends.
func (l *Library) open(path string) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	version, file := new(*C.char), new(*C.char)
	if err := cError(C.fp_load(cpath, version, file)); err != nil {
		return err
	}
	l.Path, l.Version = C.GoString(*file), C.GoString(*version)
	// The binding opens the same file, so it gets the same library.
	onnx.SetSharedLibraryPath(path)
	if err := onnx.InitializeEnvironment(onnx.WithLogLevelFatal()); err != nil {
		C.fp_unload()
		return err
	}
	names, n := new(**C.char), new(C.int)
	if err := cError(C.fp_providers(names, n)); err != nil {
		return errors.Join(err, onnx.DestroyEnvironment())
	}
	l.Providers = nil
	for _, c := range unsafe.Slice(*names, *n) {
		if name := C.GoString(c); present(name, filepath.Dir(l.Path)) {
			l.Providers = append(l.Providers, name)
		}
	}
	C.fp_release_providers(*names, *n)
	return nil
}

// cError takes a text of the shim and frees it.
func cError(text *C.char) error {
	if text == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return failure(C.GoString(text))
}

// pointerIn follows fields from the binding's object v to a pointer of C, which
// the binding does not give out.
func pointerIn(v any, fields ...string) unsafe.Pointer {
	at := reflect.ValueOf(v)
	for _, name := range fields {
		at = at.Elem().FieldByName(name)
		if at.Kind() != reflect.Pointer || at.IsNil() {
			panic(fmt.Sprintf("BUG: in this version of onnxruntime_go %T has no %v", v, fields))
		}
	}
	return at.UnsafePointer()
}

// Session is a model that is ready to run. It is safe for use by several
// goroutines: as many of their runs as SessionOptions.Concurrent says are in
// flight at once, and others wait for their turn. Close it after use.
type Session struct {
	library   *Library
	options   SessionOptions
	in, out   []Port
	fallbacks []string

	work chan func()   // run by one of the session's threads
	quit chan struct{} // closed by Close
	done chan struct{} // closed when the threads are gone
	once sync.Once
	err  error // of closing; after done

	// The rest belongs to the session's threads. The first of them opens and
	// releases it, when there are no others; in between it does not change.
	session           *onnx.DynamicAdvancedSession
	c                 *C.OrtSession
	inNames, outNames []*C.char
	log               cgo.Handle

	mu    sync.RWMutex
	arena *C.OrtAllocator // nil when closed; under mu
}

// Open opens the model at path, with the weights that it keeps in other files,
// which the runtime reads from the model's folder and from no other, also not
// through a link. The file is read whole, unless it is no model by its looks.
// Sessions are opened one after another. Weights for which there is no memory, or
// that are more than the arena's limit, are [ErrOutOfMemory]. When ctx ends,
// opening ends at its next step, and the error is that of ctx.
func (l *Library) Open(ctx context.Context, path string, o SessionOptions) (*Session, error) {
	if err := checkModelFile(path); err != nil {
		return nil, fmt.Errorf("opening the model %s: %w", path, err)
	}
	s, err := l.start(ctx, o, func(so *onnx.SessionOptions) (*onnx.DynamicAdvancedSession, error) {
		return onnx.NewDynamicAdvancedSession(path, nil, nil, so)
	})
	if err != nil {
		return nil, fmt.Errorf("opening the model %s: %w", path, err)
	}
	return s, nil
}

// OpenBytes opens a model from memory, which it does not need afterwards. A model
// that keeps weights outside is for Open: the runtime does not know the folder of
// this one, and at best finds them under the current directory.
func (l *Library) OpenBytes(ctx context.Context, model []byte, o SessionOptions) (*Session, error) {
	if err := checkModel(bytes.NewReader(model), int64(len(model))); err != nil {
		return nil, fmt.Errorf("opening a model from memory: %w", err)
	}
	s, err := l.start(ctx, o, func(so *onnx.SessionOptions) (*onnx.DynamicAdvancedSession, error) {
		return onnx.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, so)
	})
	if err != nil {
		return nil, fmt.Errorf("opening a model from memory: %w", err)
	}
	return s, nil
}

type opener func(*onnx.SessionOptions) (*onnx.DynamicAdvancedSession, error)

func (l *Library) start(ctx context.Context, o SessionOptions, open opener) (*Session, error) {
	settings, err := o.settings(l)
	if err != nil {
		return nil, err
	}
	s := &Session{library: l, options: o, work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	opened := make(chan error)
	go func() {
		defer close(s.done)
		// Never unlocked: the thread ends with the goroutine, and what the runtime
		// keeps for each thread goes with it.
		runtime.LockOSThread()
		err := s.open(ctx, settings, open)
		opened <- err
		if err == nil {
			var others sync.WaitGroup
			for range settings.concurrent - 1 {
				others.Go(func() {
					runtime.LockOSThread()
					s.serve()
				})
			}
			s.serve()
			others.Wait()
		}
		s.err = s.release()
	}()
	if err := <-opened; err != nil {
		<-s.done
		return nil, err
	}
	return s, nil
}

func (s *Session) serve() {
	for {
		select {
		case f := <-s.work:
			f()
		case <-s.quit:
			return
		}
	}
}

// open runs on the session's first thread, and so does release, also after an error.
func (s *Session) open(ctx context.Context, set settings, open opener) error {
	so, err := onnx.NewSessionOptions()
	if err != nil {
		return err
	}
	defer so.Destroy() //nolint:errcheck // it fails only for what is not there
	if s.options.Log != nil {
		s.log = cgo.NewHandle(s.options.Log)
	}
	if err := set.apply(so, s.log); err != nil {
		return fmt.Errorf("setting the session's options: %w", err)
	}
	if set.cuda != nil {
		if err := addCUDA(so, set.cuda); err != nil {
			return &NoProviderError{Provider: CUDA, Have: s.library.Providers, Path: s.library.Path, Err: err}
		}
	}
	if s.session, err = openWithArena(ctx, set.arena, so, open); err != nil {
		return err
	}
	s.c = (*C.OrtSession)(pointerIn(s.session, "s", "ortSession"))
	if err := s.readPorts(); err != nil {
		return err
	}
	cuda := C.int(0)
	if s.options.Provider == CUDA {
		cuda = 1
	}
	arena := new(*C.OrtAllocator)
	if err := cError(C.fp_allocator(s.c, cuda, C.int(s.options.DeviceID), arena)); err != nil {
		return fmt.Errorf("finding the session's arena: %w", err)
	}
	s.arena = *arena // nobody else has the session yet
	if err := s.checkWeights(); err != nil {
		return err
	}
	if s.options.Provider == CPU {
		return nil
	}
	name := C.CString(s.options.Provider.String())
	defer C.free(unsafe.Pointer(name))
	others := new(*C.char)
	if err := cError(C.fp_others(s.c, name, others)); err != nil {
		return fmt.Errorf("finding what runs on the CPU: %w", err)
	}
	defer C.free(unsafe.Pointer(*others))
	s.fallbacks = distinct(strings.Fields(C.GoString(*others)))
	return nil
}

// checkWeights refuses a model whose weights are more than the arena may hold. The
// runtime puts weights there whatever the limit, and when they are beyond it takes
// what is left of it for a very large number, so that there would be no limit.
func (s *Session) checkWeights() error {
	limit := s.options.ArenaLimit
	if limit == 0 {
		return nil
	}
	st, err := s.Stats()
	if err != nil {
		return err
	}
	if st.Allocated > limit {
		return &OutOfMemoryError{
			Requested: st.Allocated, Available: limit,
			Text: fmt.Sprintf("the model's weights take %d bytes, and the session's arena may hold %d: give it more", st.Allocated, limit),
		}
	}
	return nil
}

// openWithArena opens a session that has an arena of its own on the CPU. The
// runtime has no settings for the arena of one session. But a session can take
// the environment's, and keeps it when another is put in its place there.
func openWithArena(ctx context.Context, arena map[string]int, so *onnx.SessionOptions, open opener) (*onnx.DynamicAdvancedSession, error) {
	cfg, err := onnx.NewArenaCfgV2(arena)
	if err != nil {
		return nil, err
	}
	defer cfg.Destroy()
	select {
	case opening <- struct{}{}:
		defer func() { <-opening }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	where, err := onnx.GetMemoryInfo()
	if err != nil {
		return nil, err
	}
	if err := onnx.CreateAndRegisterAllocator(where, cfg); err != nil {
		return nil, fmt.Errorf("making the session's arena: %w", err)
	}
	s, err := cancellable(ctx, so, open)
	if e := onnx.UnregisterAllocator(where); e != nil {
		if err == nil {
			err = s.Destroy()
		}
		return nil, errors.Join(err, fmt.Errorf("taking the session's arena out of the environment: %w", e))
	}
	return s, err
}

// cancellable opens a session, and has the runtime give up when ctx ends. It looks
// at that between the steps of preparing the graph, and after the last one the
// session is there all the same.
func cancellable(ctx context.Context, so *onnx.SessionOptions, open opener) (*onnx.DynamicAdvancedSession, error) {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		cError(C.fp_cancel_load((*C.OrtSessionOptions)(pointerIn(so, "o")))) //nolint:errcheck // it fails only for options that are not there
	})
	s, err := open(so)
	if !stop() {
		<-stopped // before the options are gone
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, failure(err.Error())
	}
	return s, nil
}

func (s *Session) release() error {
	s.mu.Lock()
	if s.arena != nil {
		C.fp_release_allocator(s.arena)
		s.arena = nil
	}
	s.mu.Unlock()
	var err error
	if s.session != nil {
		err = s.session.Destroy()
	}
	for _, name := range append(s.inNames, s.outNames...) {
		C.free(unsafe.Pointer(name))
	}
	if s.log != 0 {
		s.log.Delete()
	}
	return err
}

func (s *Session) readPorts() error {
	var counts [2]C.size_t
	if err := cError(C.fp_port_counts(s.c, &counts[0], &counts[1])); err != nil {
		return err
	}
	for output, count := range counts {
		kind, ports, names := "input", &s.in, &s.inNames
		if output == 1 {
			kind, ports, names = "output", &s.out, &s.outNames
		}
		var others []string
		for i := range count {
			port, numbers, err := s.readPort(C.int(output), i)
			if err != nil {
				return fmt.Errorf("reading the model's %s %d: %w", kind, i, err)
			}
			if output == 1 && s.options.Outputs != nil && !slices.Contains(s.options.Outputs, port.Name) {
				others = append(others, port.Name)
				continue
			}
			if !numbers {
				return fmt.Errorf("the model's %s %q is not a tensor of numbers, and only those can be passed: export the model without it", kind, port.Name)
			}
			*ports = append(*ports, port)
			*names = append(*names, C.CString(port.Name))
		}
		if output == 1 && s.options.Outputs != nil && len(s.out) != len(s.options.Outputs) {
			return fmt.Errorf("the model lacks one of the outputs %v: it has %v", s.options.Outputs, others)
		}
	}
	for i, name := range s.options.Outputs {
		at := i + slices.IndexFunc(s.out[i:], func(p Port) bool { return p.Name == name })
		if at < i {
			return fmt.Errorf("the model's output %q is asked for twice", name)
		}
		s.out[i], s.out[at] = s.out[at], s.out[i]
		s.outNames[i], s.outNames[at] = s.outNames[at], s.outNames[i]
	}
	return nil
}

// readPort also tells whether it is a tensor of numbers.
func (s *Session) readPort(output C.int, i C.size_t) (p Port, numbers bool, err error) {
	c := new(C.fp_port)
	defer C.fp_free_port(c)
	if err := cError(C.fp_get_port(s.c, output, i, c)); err != nil {
		return Port{}, false, err
	}
	p = Port{Name: C.GoString(c.name), Type: ElementType(c._type), Shape: []int64{}, Axes: []string{}}
	for j, d := range unsafe.Slice(c.dims, c.rank) {
		p.Shape = append(p.Shape, max(int64(d), -1))
		p.Axes = append(p.Axes, C.GoString(unsafe.Slice(c.axes, c.rank)[j]))
	}
	return p, c.is_tensor != 0 && p.Type.Size() > 0, nil
}

// Inputs are what the model takes, in its order.
func (s *Session) Inputs() []Port { return s.in }

// Outputs are what runs give, in the order of the options, or else in the model's.
func (s *Session) Outputs() []Port { return s.out }

// Fallbacks are the types of operators, each once, that a CUDA session has on
// the CPU, in the model before optimisation across operators. On the CPU there are none.
func (s *Session) Fallbacks() []string { return s.fallbacks }

// Stats reads the arena's counters, also during a run.
func (s *Session) Stats() (Stats, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.arena == nil {
		return Stats{}, ErrClosed
	}
	var c [4]C.int64_t
	if err := cError(C.fp_stats(s.arena, &c[0])); err != nil {
		return Stats{}, fmt.Errorf("reading the arena's counters: %w", err)
	}
	for _, n := range c[:3] {
		if n < 0 {
			return Stats{}, errors.New("reading the arena's counters: this ONNX Runtime library does not keep them")
		}
	}
	return Stats{InUse: int64(c[0]), Allocated: int64(c[1]), MaxInUse: int64(c[2]), Limit: s.options.ArenaLimit}, nil
}

// Close waits for the runs in flight and gives everything back.
func (s *Session) Close() error {
	s.once.Do(func() { close(s.quit) })
	<-s.done
	if s.err != nil {
		return fmt.Errorf("closing a session: %w", s.err)
	}
	return nil
}

// forgepipeOrtLog receives the runtime's messages, from any thread of it.
//
//export forgepipeOrtLog
func forgepipeOrtLog(handle C.uintptr_t, severity C.int, category, message *C.char) {
	log := cgo.Handle(handle).Value().(*slog.Logger)
	level := slog.LevelDebug
	switch severity {
	case C.ORT_LOGGING_LEVEL_INFO:
		level = slog.LevelInfo
	case C.ORT_LOGGING_LEVEL_WARNING:
		level = slog.LevelWarn
	case C.ORT_LOGGING_LEVEL_ERROR, C.ORT_LOGGING_LEVEL_FATAL:
		level = slog.LevelError
	}
	log.Log(context.Background(), level, C.GoString(message), "from", "onnxruntime", "category", C.GoString(category))
}
