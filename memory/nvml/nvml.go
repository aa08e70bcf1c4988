// Package nvml reads the memory of NVIDIA GPUs through NVIDIA's management
// library (NVML), which comes with the driver: [Open] finds the driver, and
// [Driver.Devices] gives one [memory.Device] for each GPU, named "gpu:0",
// "gpu:1" and so on in NVML's order. That is the order of the PCI bus, in which
// CUDA counts only where CUDA_DEVICE_ORDER=PCI_BUS_ID is set.
//
// A driver that is missing, old, broken or stuck gives errors and nothing worse.
// A figure that the driver does not tell is [memory.Unknown], never zero.
//
// The library is loaded when Open is called. A program that is to use this
// package must be built with cgo; without it Open returns [ErrNoCgo]. go-nvml
// leaves the symbols of NVML to be found at the first call of each, so the
// program must be linked lazily (-ldflags=-extldflags=-Wl,-z,lazy where that is
// not the linker's default) and not run with LD_BIND_NOW: otherwise it does not
// start on a machine without the driver.
package nvml

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// DefaultTimeout is how long an answer of the driver is waited for unless
// Options say otherwise. The first one may take seconds where no persistence
// mode keeps the GPUs awake.
const DefaultTimeout = 10 * time.Second

// closeWait is how long Close waits for a call that is under way. A program that
// ends must not be held up by a driver.
const closeWait = time.Second

var (
	// ErrNoDriver says that the library is not there: the machine has no NVIDIA
	// driver, or the container was started without it.
	ErrNoDriver = errors.New("no NVIDIA driver")
	// ErrNoCgo says that this program cannot load the library.
	ErrNoCgo = errors.New("this program was built without cgo and cannot read NVIDIA GPUs: " +
		"build it with CGO_ENABLED=1 and a C compiler")
	// ErrNotLoaded says that the library is there, but its kernel driver is not.
	ErrNotLoaded = errors.New("the NVIDIA kernel driver is not loaded: " +
		"load it (modprobe nvidia), or give the container its GPUs")
	// ErrMismatch says that the driver was updated and is in use in its old
	// version still.
	ErrMismatch = errors.New("the NVIDIA library and the kernel driver are of different versions: " +
		"restart the machine, or load the kernel driver anew")
	// ErrPermission says that this user or container may not use the GPU.
	ErrPermission = errors.New("no permission to use the NVIDIA driver: " +
		"look at the rights of /dev/nvidiactl and /dev/nvidia0, or give the container its GPUs")
	// ErrLost says that a GPU has fallen off the bus.
	ErrLost = errors.New("the GPU is lost: see the kernel's log for an Xid, and restart the machine")
	// ErrUnusable says that what was loaded is no NVML, or lacks what every driver
	// has.
	ErrUnusable = errors.New("the NVIDIA library cannot be used: install a current driver")
	// ErrHung says that the driver has not answered in time. Every further call
	// fails with it at once until the driver has answered.
	ErrHung = errors.New("the NVIDIA driver does not answer: " +
		"see the kernel's log for an Xid, and restart the machine if this lasts")
	// ErrInUse says that another Driver is open in this process, or was opened
	// with another library: NVML's functions are global.
	ErrInUse = errors.New("NVML is in use in this process")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("the NVIDIA driver was closed")
)

// Options say how to reach the driver.
type Options struct {
	// LibraryPath is the library's file, or its name for the system's search;
	// empty means "libnvidia-ml.so.1". A process can use only one: see ErrInUse.
	LibraryPath string
	// Timeout is how long one answer of the driver is waited for; 0 means
	// DefaultTimeout.
	Timeout time.Duration
}

// Error is a call that the driver, or its library, has answered with an error.
// errors.Is finds ErrPermission, ErrLost and so on in it, where the code means
// one of these.
type Error struct {
	Call  string // the function of NVML
	Code  int    // nvmlReturn_t; 0 where the call did not get as far as an answer
	Cause error  // one of this package's errors, or what the driver says
}

func (e *Error) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("%s: %v", e.Call, e.Cause)
	}
	return fmt.Sprintf("%s: %v (NVML error %d)", e.Call, e.Cause, e.Code)
}

func (e *Error) Unwrap() error { return e.Cause }

// Process is what one process has of a GPU's memory.
type Process struct {
	PID   int   // in this process's namespace, but the host's with older drivers
	Bytes int64 // memory.Unknown where the driver does not tell
}

// library is what a Driver asks. All of it may hang, so it is called on the
// Driver's goroutine only.
type library interface {
	// start loads and initialises the library and finds the GPUs.
	start() (found, error)
	// read takes one reading of a GPU.
	read(gpu int) (memory.Reading, error)
	// processes lists who has memory of a GPU, by process.
	processes(gpu int) ([]Process, error)
	// stop undoes start, as far as that got.
	stop() error
}

// found is what start has found.
type found struct {
	version string
	gpus    []string // their descriptions
}

// Driver is the NVIDIA driver of this machine. Its methods and those of its GPUs
// may be called from several goroutines.
//
// One goroutine makes all calls, because any of them can hang for ever and then
// cannot be ended: so at most this one is lost.
type Driver struct {
	// Version is the driver's, "550.54.15"; empty where it does not tell.
	Version string

	lib     library
	gpus    []*GPU
	timeout time.Duration

	jobs    chan *job
	closing sync.Once
	closed  chan struct{}
	ended   chan struct{} // closed when the goroutine ends
	stopErr error         // to be read after ended

	mu      sync.Mutex
	running *job
	since   time.Time // when running began
}

// job is one turn of the goroutine. What run returns hands over the answer.
type job struct {
	what string
	run  func() func()
	late bool // whoever asked has given up; guarded by Driver.mu
}

// GPU is one GPU of a Driver, as memory.Device and memory.Described.
type GPU struct {
	driver      *Driver
	index       int
	name        string
	description string
}

var (
	_ memory.Device    = (*GPU)(nil)
	_ memory.Described = (*GPU)(nil)
)

// Open loads the library and asks it for the GPUs. Having none is no error. A
// GPU that does not answer is listed, and its readings give the error. Close
// must be called before the next Open. The library stays loaded for good.
func Open(o Options) (*Driver, error) {
	lib, err := newLibrary(o.LibraryPath)
	if err != nil {
		return nil, err
	}
	return open(lib, o.Timeout)
}

func open(lib library, timeout time.Duration) (*Driver, error) {
	d := &Driver{
		lib:     lib,
		timeout: cmp.Or(timeout, DefaultTimeout),
		jobs:    make(chan *job),
		closed:  make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go d.work()
	f, err := ask(context.Background(), d, "starting", lib.start)
	if err != nil {
		// Where start hangs, the goroutine stays and undoes it when it comes back.
		_ = d.Close()
		if errors.Is(err, ErrNoDriver) {
			return nil, err // says it all
		}
		return nil, fmt.Errorf("starting the NVIDIA driver: %w", err)
	}
	d.Version = f.version
	for i, description := range f.gpus {
		d.gpus = append(d.gpus, &GPU{driver: d, index: i, name: fmt.Sprintf("gpu:%d", i), description: description})
	}
	return d, nil
}

// Devices lists the GPUs that Open has found.
func (d *Driver) Devices() []*GPU { return append([]*GPU(nil), d.gpus...) }

// Close ends the use of the driver. It waits a second at most for a call that
// is under way; one that takes longer is left behind and cleared up when it
// comes back, and the error is ErrHung.
func (d *Driver) Close() error {
	d.closing.Do(func() { close(d.closed) })
	wait := time.NewTimer(min(d.timeout, closeWait))
	defer wait.Stop()
	if err := d.stuck(); err != nil {
		return fmt.Errorf("closing the NVIDIA driver: %w", err)
	}
	select {
	case <-d.ended:
		return d.stopErr
	case <-wait.C:
		return fmt.Errorf("closing the NVIDIA driver: %w", d.giveUp(nil))
	}
}

// Name is "gpu:" and the GPU's number.
func (g *GPU) Name() string { return g.name }

// Description is the product's name, and whether it is in MIG mode.
func (g *GPU) Description() string { return g.description }

// Read takes one reading. Total and Physical are what the driver gives as the
// GPU's memory, of a GPU in MIG mode that of the whole GPU. With drivers before
// 510 Reserved is Unknown and Used includes it. Own is Unknown where the driver
// does not list this process: it may have nothing there, or be listed under
// another number because it runs in a container. Busy is Unknown where the driver
// does not tell it, as in MIG mode. Stalled is Unknown. Where ctx
// ends first the error is ctx's.
func (g *GPU) Read(ctx context.Context) (memory.Reading, error) {
	r, err := ask(ctx, g.driver, "reading "+g.name, func() (memory.Reading, error) { return g.driver.lib.read(g.index) })
	if err != nil {
		return memory.Reading{}, fmt.Errorf("reading the memory of %s: %w", g.name, err)
	}
	return r, nil
}

// Processes lists who has memory of this GPU, in order of process number. With
// newer drivers only those of this process's namespace are listed, with older
// ones all of the machine, under the numbers that these have on the host.
func (g *GPU) Processes(ctx context.Context) ([]Process, error) {
	all, err := ask(ctx, g.driver, "listing the processes of "+g.name, func() ([]Process, error) { return g.driver.lib.processes(g.index) })
	if err != nil {
		return nil, fmt.Errorf("listing the processes of %s: %w", g.name, err)
	}
	return all, nil
}

func (d *Driver) work() {
	defer close(d.ended)
	for {
		select {
		case j := <-d.jobs:
			d.do(j)
		case <-d.closed:
			_, d.stopErr = guarded(func() (struct{}, error) { return struct{}{}, d.lib.stop() })
			return
		}
	}
}

func (d *Driver) do(j *job) {
	d.mu.Lock()
	d.running, d.since = j, time.Now()
	d.mu.Unlock()
	answer := j.run()
	d.mu.Lock()
	d.running = nil
	d.mu.Unlock()
	answer() // last, so that who gets it does not find the driver busy with it
}

// stuck returns the error of a driver that is hung.
func (d *Driver) stuck() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil || !d.running.late && time.Since(d.since) < d.timeout {
		return nil
	}
	return d.hangs()
}

// giveUp marks a job that has taken the whole timeout, if there is one, and
// returns the error for waiting so long. The mark is there because the job began
// a moment after its waiting did, so that since alone would tell it too late.
func (d *Driver) giveUp(j *job) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j != nil {
		j.late = true
	}
	return d.hangs()
}

func (d *Driver) hangs() error {
	if d.running == nil {
		return ErrHung
	}
	return fmt.Errorf("%w (%s, for %s so far)", ErrHung, d.running.what, time.Since(d.since).Round(time.Millisecond))
}

// ask has the driver's goroutine call f and waits for the answer, at most until
// ctx ends, and at most the timeout for its turn and again for the answer, so
// that a queue before a slow driver does not count as a driver that hangs. The
// answer travels through a channel, so that one that comes
// too late disturbs nobody.
func ask[T any](ctx context.Context, d *Driver, what string, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	answers := make(chan answer, 1)
	j := &job{what: what, run: func() func() {
		value, err := guarded(f)
		return func() { answers <- answer{value, err} }
	}}
	timer := time.NewTimer(d.timeout)
	defer timer.Stop()

	// select takes any of the cases that are ready, so those that come first here
	// are asked for alone.
	select {
	case <-d.closed:
		return none, ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := d.stuck(); err != nil {
		return none, err
	}
	select {
	case d.jobs <- j:
	case <-d.closed:
		return none, ErrClosed
	case <-ctx.Done():
		return none, ctx.Err()
	case <-timer.C:
		return none, d.giveUp(nil)
	}
	timer.Reset(d.timeout)
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-timer.C:
		return none, d.giveUp(j)
	}
}

// guarded makes an error of a panic: go-nvml's mock servers panic where a
// function was not filled in, and its lists where a driver counts wrong.
func guarded[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			var none T
			value, err = none, fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}
