package cuda

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

var (
	// ErrNotBuilt says that the program has no CUDA in it.
	ErrNotBuilt = errors.New("this program was built without CUDA: build it with -tags cuda, or read the GPU through NVML")
	// ErrNoContext says that this process has nothing on the GPU to ask, and that
	// nobody uses it.
	ErrNoContext = errors.New("this process has no context there: use the device first, or read the GPU through NVML")
	// ErrClosed says that the device was used after Close.
	ErrClosed = errors.New("the device is closed")
)

// closeWait is for a driver that still answers; from one that hangs nothing can
// be had back but by ending the process.
const closeWait = 2 * time.Second

// driver is what the package needs of the CUDA driver. A handle is its context,
// and Current, SetCurrent and MemInfo are about the calling OS thread.
type driver interface {
	Count() (int, error)
	Name(gpu int) (string, error)
	UUID(gpu int) (string, error)
	Active(gpu int) (bool, error) // whether the process has the primary context
	Retain(gpu int) (handle, error)
	Release(gpu int) error
	Reset(gpu int) error
	Current() (handle, error)
	SetCurrent(handle) error
	MemInfo() (free, total int64, err error)
}

type handle any

// InUseError says who keeps a device from being reset, or was left on it.
type InUseError struct {
	Device string   // its name
	Users  []string // in order of arrival
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s: close that first", e.Device, strings.Join(e.Users, ", "))
}

// Options are those of a device.
type Options struct {
	// Name is how ledgers and pipelines call the device; empty: "gpu:" and CUDA's
	// number. That number counts only the GPUs in CUDA_VISIBLE_DEVICES, the fastest
	// first, so that it need not be NVML's: compare UUIDs.
	Name string
}

// Device is one GPU. Its methods may be called from several goroutines; the
// driver is called by one at a time, so that one that hangs holds only a single
// thread, and everybody else as long as their contexts last.
type Device struct {
	driver      driver
	gpu         int
	name        string
	description string
	uuid        string

	turn     chan struct{} // full while the driver is called; guards retained
	retained handle        // the primary context; nil: not retained

	mu     sync.Mutex
	users  []*user // in order of arrival
	closed bool
}

type user struct {
	name string
	left bool
}

var (
	_ memory.Device    = (*Device)(nil)
	_ memory.Described = (*Device)(nil)
)

// Count tells how many GPUs CUDA shows to this process; the error is ErrNotBuilt
// or the driver's.
func Count() (int, error) {
	d, err := system()
	if err != nil {
		return 0, fmt.Errorf("counting CUDA's GPUs: %w", err)
	}
	return count(d)
}

func count(d driver) (int, error) {
	n, err := d.Count()
	if err != nil {
		return 0, fmt.Errorf("counting CUDA's GPUs: %w", err)
	}
	return n, nil
}

// Open opens the GPU with CUDA's number, from 0. It allocates nothing on it. As
// the context belongs to the process, a GPU can be open only once.
func Open(gpu int, o Options) (*Device, error) {
	d, err := system()
	if err != nil {
		return nil, fmt.Errorf("opening CUDA's GPU %d: %w", gpu, err)
	}
	return open(d, gpu, o)
}

// opened are the GPUs that are open in this process. The driver is part of the
// key for the tests, which have several.
var opened sync.Map

type seat struct {
	driver driver
	gpu    int
}

func open(d driver, gpu int, o Options) (*Device, error) {
	n, err := count(d)
	if err != nil {
		return nil, err
	}
	if gpu < 0 || gpu >= n {
		return nil, fmt.Errorf("opening CUDA's GPU %d: CUDA shows %d to this process, numbered from 0", gpu, n)
	}
	description, err := d.Name(gpu)
	if err != nil {
		return nil, fmt.Errorf("opening CUDA's GPU %d: asking for its name: %w", gpu, err)
	}
	uuid, err := d.UUID(gpu)
	if err != nil {
		return nil, fmt.Errorf("opening CUDA's GPU %d: asking for its UUID: %w", gpu, err)
	}
	if _, taken := opened.LoadOrStore(seat{d, gpu}, true); taken {
		return nil, fmt.Errorf("opening CUDA's GPU %d: it is open already, and can be only once in a process", gpu)
	}
	return &Device{
		driver: d, gpu: gpu, name: cmp.Or(o.Name, fmt.Sprintf("gpu:%d", gpu)), description: description, uuid: uuid,
		turn: make(chan struct{}, 1),
	}, nil
}

// Name is the one of the options.
func (d *Device) Name() string { return d.name }

// Description is the driver's name of the GPU ("NVIDIA H100 80GB HBM3").
func (d *Device) Description() string { return d.description }

// UUID is how NVML calls the GPU too ("GPU-" and a UUID).
func (d *Device) UUID() string { return d.uuid }

// Read takes a reading in the primary context. What driver and firmware reserve
// counts as used; whose the rest is, and how busy the GPU is, CUDA does not tell.
// Read never makes a context, which would take some hundred MiB: where the process has none, and
// nobody uses the device, the error wraps ErrNoContext. When ctx ends first, the
// call goes on without its caller, and the next one waits for it.
func (d *Device) Read(ctx context.Context) (memory.Reading, error) {
	return call(ctx, d, "reading", func() (memory.Reading, error) {
		if d.retained == nil {
			active, err := d.driver.Active(d.gpu)
			if err != nil {
				return memory.Reading{}, err
			}
			if !active {
				return memory.Reading{}, ErrNoContext
			}
			if err := d.retain(); err != nil {
				return memory.Reading{}, err
			}
		}
		free, total, err := d.memInfo()
		if err != nil {
			// It may have been reset behind our back, by a library: the next reading
			// begins anew. Releasing is allowed all the same, and its error adds nothing.
			_ = d.release()
			return memory.Reading{}, err
		}
		return memory.Reading{
			Physical: memory.Unknown, Total: total, Used: total - free, Free: free,
			Reserved: memory.Unknown, Own: memory.Unknown, Stalled: memory.Unknown, Busy: memory.Unknown,
		}, nil
	})
}

// Use tells that somebody is about to work on the GPU, and retains the primary
// context, which makes it if there is none; where there is no room for it, the
// error wraps memory.ErrOutOfMemory. The name is for messages ("session clip").
// Call leave when all of it is closed; it may be called more than once.
func (d *Device) Use(ctx context.Context, name string) (leave func(), err error) {
	u := &user{name: name}
	leave = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		u.left = true
		d.users = slices.DeleteFunc(d.users, func(other *user) bool { return other == u })
	}
	_, err = call(ctx, d, "using", func() (struct{}, error) {
		if d.retained == nil {
			if err := d.retain(); err != nil {
				return struct{}{}, err
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if !u.left { // nobody waits any more for a call that came too late
			d.users = append(d.users, u)
		}
		return struct{}{}, nil
	})
	if err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// Users lists who uses the device, in order of arrival.
func (d *Device) Users() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, u := range d.users {
		all = append(all, u.name)
	}
	return all
}

// Reset destroys the primary context with all that this process has allocated in
// it, of whatever library: what still points there is broken for good. While
// somebody uses the device it does nothing and answers with an *InUseError. What
// works on the GPU without Use is not known here, and must not be left.
func (d *Device) Reset(ctx context.Context) error {
	_, err := call(ctx, d, "resetting", func() (struct{}, error) {
		// Nobody can come in between, as Use needs the turn that this call has.
		if users := d.Users(); len(users) > 0 {
			return struct{}{}, &InUseError{Device: d.name, Users: users}
		}
		// Resetting does not release: one does not make up for the other.
		if err := d.release(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, d.driver.Reset(d.gpu)
	})
	return err
}

// Close releases the context; what others have in it stays. It answers with an
// *InUseError when somebody still uses the device, and has released it all the
// same. A driver that does not answer is left alone after two seconds. Closing
// again does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	defer opened.Delete(seat{d.driver, d.gpu})
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_, err := take(ctx, d, "closing", func() (struct{}, error) { return struct{}{}, d.release() })
	if users := d.Users(); len(users) > 0 {
		err = errors.Join(fmt.Errorf("closing %s: %w", d.name, &InUseError{Device: d.name, Users: users}), err)
	}
	return err
}

// call is take for a device that must be open.
func call[T any](ctx context.Context, d *Device, doing string, f func() (T, error)) (T, error) {
	return take(ctx, d, doing, func() (T, error) {
		d.mu.Lock()
		closed := d.closed
		d.mu.Unlock()
		if closed {
			var none T
			return none, ErrClosed
		}
		return f()
	})
}

// take runs f in a goroutine when it is the caller's turn. The driver may hang
// and knows no contexts: then the caller goes, and the goroutine keeps the turn.
func take[T any](ctx context.Context, d *Device, doing string, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("%s %s: %w", doing, d.name, err)
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%s %s: the driver has not answered an earlier call: %w", doing, d.name, ctx.Err())
	}
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		v, err := f()
		<-d.turn
		answered <- answer{v, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return none, fmt.Errorf("%s %s: %w", doing, d.name, a.err)
		}
		return a.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("%s %s: the driver has not answered: %w", doing, d.name, ctx.Err())
	}
}

// The methods below need the turn.

func (d *Device) retain() error {
	h, err := d.driver.Retain(d.gpu)
	if err != nil {
		return fmt.Errorf("retaining the primary context: %w", err)
	}
	d.retained = h
	return nil
}

func (d *Device) release() error {
	if d.retained == nil {
		return nil
	}
	d.retained = nil
	if err := d.driver.Release(d.gpu); err != nil {
		return fmt.Errorf("releasing the primary context: %w", err)
	}
	return nil
}

// memInfo asks in the retained context. Which context is current is a matter of
// the OS thread, and Go's threads serve everybody: so the goroutine stays on one
// as long as it has changed that. A thread that cannot be put back is not given
// back: locked to it, the goroutine takes it along when it ends.
func (d *Device) memInfo() (free, total int64, err error) {
	runtime.LockOSThread()
	before, err := d.driver.Current()
	if err != nil {
		runtime.UnlockOSThread()
		return 0, 0, fmt.Errorf("asking for the current context: %w", err)
	}
	if err = d.driver.SetCurrent(d.retained); err != nil {
		err = fmt.Errorf("making the primary context current: %w", err)
	} else if free, total, err = d.driver.MemInfo(); err != nil {
		err = fmt.Errorf("asking for free memory: %w", err)
	}
	if d.driver.SetCurrent(before) == nil {
		runtime.UnlockOSThread()
	}
	return free, total, err
}
