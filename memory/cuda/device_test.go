package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/cuda"
)

// init ties the main thread to the main goroutine: as Go never ends that thread,
// TestThreadThatCannotBePutBack needs to be on another one.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const gib = int64(1) << 30

// somebodys is the context that is current on every thread of the fake until
// another one is set.
const somebodys = "somebody's context"

// fakeDriver is CUDA with two GPUs.
type fakeDriver struct {
	mu       sync.Mutex
	calls    []string
	current  map[int]cuda.Handle // by OS thread; missing: somebodys
	retained int                 // by the device under test
	others   bool                // somebody else has the primary context
	made     int                 // primary contexts so far; the newest is the valid one
	free     int64
	fail     map[string]error // by call
	hang     map[string]chan struct{}
	faults   []string // what no caller may do
}

func newFake() *fakeDriver {
	return &fakeDriver{free: 60 * gib, current: map[int]cuda.Handle{}, fail: map[string]error{}, hang: map[string]chan struct{}{}}
}

// enter records a call and answers with the error that the test wants.
func (f *fakeDriver) enter(call string) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	err, hang := f.fail[call], f.hang[call]
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

func (f *fakeDriver) fault(format string, a ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, a...))
}

func (f *fakeDriver) Count() (int, error)        { return 2, f.enter("Count") }
func (f *fakeDriver) Name(int) (string, error)   { return "NVIDIA H100 80GB HBM3", f.enter("Name") }
func (f *fakeDriver) UUID(n int) (string, error) { return fmt.Sprint("GPU-", n), f.enter("UUID") }

func (f *fakeDriver) Active(int) (bool, error) {
	err := f.enter("Active")
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.retained > 0 || f.others, err
}

func (f *fakeDriver) Retain(int) (cuda.Handle, error) {
	if err := f.enter("Retain"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retained == 0 && !f.others || f.made == 0 {
		f.made++
	}
	f.retained++
	return f.made, nil
}

func (f *fakeDriver) Release(int) error {
	err := f.enter("Release")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retained--; f.retained < 0 {
		f.fault("released more often than retained")
	}
	return err
}

func (f *fakeDriver) Reset(int) error {
	if err := f.enter("Reset"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retained > 0 {
		f.fault("reset while retained")
	}
	f.others = false
	f.made++ // no handle of before is valid
	return nil
}

func (f *fakeDriver) Current() (cuda.Handle, error) {
	f.locked("Current")
	err := f.enter("Current")
	f.mu.Lock()
	defer f.mu.Unlock()
	if h, ok := f.current[syscall.Gettid()]; ok {
		return h, err
	}
	return somebodys, err
}

func (f *fakeDriver) SetCurrent(h cuda.Handle) error {
	f.locked("SetCurrent")
	call := "SetCurrent"
	if h == somebodys {
		call = "restore"
	}
	if err := f.enter(call); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current[syscall.Gettid()] = h
	return nil
}

func (f *fakeDriver) MemInfo() (free, total int64, err error) {
	f.locked("MemInfo")
	if err := f.enter("MemInfo"); err != nil {
		return 0, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.current[syscall.Gettid()]; h != f.made {
		return 0, 0, fmt.Errorf("context %v is not valid", h)
	}
	return f.free, 80 * gib, nil
}

// locked notes a caller that could change its thread between two calls.
func (f *fakeDriver) locked(call string) {
	stack := make([]byte, 64)
	stack = stack[:runtime.Stack(stack, false)]
	if !strings.Contains(string(stack), "locked to thread") {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.fault("%s from a goroutine without a thread of its own: %s", call, stack)
	}
}

// check looks at what must hold at every end.
func (f *fakeDriver) check(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		t.Error(fault)
	}
	for thread, h := range f.current {
		if h != somebodys && f.fail["restore"] == nil {
			t.Errorf("thread %d was left with context %v", thread, h)
		}
	}
	if f.retained != 0 {
		t.Errorf("the context is still retained %d times", f.retained)
	}
}

func (f *fakeDriver) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeDriver) count(call string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c == call {
			n++
		}
	}
	return n
}

func open(t *testing.T, f *fakeDriver) *cuda.Device {
	t.Helper()
	d, err := cuda.OpenWith(f, 0, cuda.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		f.check(t)
	})
	return d
}

func use(t *testing.T, d *cuda.Device, name string) func() {
	t.Helper()
	leave, err := d.Use(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func TestRead(t *testing.T) {
	f := newFake()
	d := open(t, f)
	if d.Name() != "gpu:0" || d.Description() != "NVIDIA H100 80GB HBM3" || d.UUID() != "GPU-0" {
		t.Errorf("%s, %s, %s", d.Name(), d.Description(), d.UUID())
	}
	if _, err := d.Read(t.Context()); !errors.Is(err, cuda.ErrNoContext) || f.count("Retain") != 0 {
		t.Errorf("without a context: %v, %d retained", err, f.count("Retain"))
	}
	defer use(t, d, "session clip")()
	want := memory.Reading{Physical: -1, Total: 80 * gib, Used: 20 * gib, Free: 60 * gib, Reserved: -1, Own: -1, Stalled: -1, Busy: -1}
	for range 3 {
		if r, err := d.Read(t.Context()); err != nil || r != want {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n := f.count("Retain"); n != 1 {
		t.Errorf("the context was retained %d times", n)
	}
}

// A context that somebody else has made, as a session of a library, is read.
func TestReadSomebodysContext(t *testing.T) {
	f := newFake()
	f.others, f.made = true, 1
	d := open(t, f)
	if r, err := d.Read(t.Context()); err != nil || r.Free != 60*gib {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestReset(t *testing.T) {
	f := newFake()
	d := open(t, f)
	first, second := use(t, d, "session clip"), use(t, d, "session pdq")
	var used *cuda.InUseError
	if err := d.Reset(t.Context()); !errors.As(err, &used) || !slices.Equal(used.Users, []string{"session clip", "session pdq"}) {
		t.Errorf("Reset while two use it: %v", err)
	} else if want := "resetting gpu:0: gpu:0 is in use by session clip, session pdq: close that first"; err.Error() != want {
		t.Errorf("got %s, want %s", err, want)
	}
	first()
	first()
	if err := d.Reset(t.Context()); !errors.As(err, &used) || !slices.Equal(used.Users, []string{"session pdq"}) {
		t.Errorf("Reset while one uses it: %v", err)
	}
	if n := f.count("Reset") + f.count("Release"); n != 0 {
		t.Errorf("%d calls to the driver by refused resets", n)
	}
	second()
	if users := d.Users(); len(users) != 0 {
		t.Errorf("%v are left", users)
	}
	if err := d.Reset(t.Context()); err != nil || f.count("Reset") != 1 {
		t.Errorf("Reset: %v, %d calls", err, f.count("Reset"))
	}
	if _, err := d.Read(t.Context()); !errors.Is(err, cuda.ErrNoContext) {
		t.Errorf("a reading must not make the context again: %v", err)
	}
	if err := d.Reset(t.Context()); err != nil {
		t.Errorf("a second Reset: %v", err)
	}
	defer use(t, d, "session clip")()
	if r, err := d.Read(t.Context()); err != nil || r.Free != 60*gib {
		t.Errorf("a reading in a new context: %+v, %v", r, err)
	}
}

func TestDriverErrors(t *testing.T) {
	broken := errors.New("launch failure")
	for name, tt := range map[string]struct {
		fails string
		err   error
		do    func(t *testing.T, d *cuda.Device) error
		want  string
	}{
		"state":     {"Active", broken, readOf, "reading gpu:0: launch failure"},
		"retaining": {"Retain", broken, useOf, "using gpu:0: retaining the primary context: launch failure"},
		"no room":   {"Retain", fmt.Errorf("%w: error 2", memory.ErrOutOfMemory), useOf, "out of memory: error 2"},
		"current":   {"Current", broken, useAndRead, "reading gpu:0: asking for the current context: launch failure"},
		"setting":   {"SetCurrent", broken, useAndRead, "reading gpu:0: making the primary context current: launch failure"},
		"reading":   {"MemInfo", broken, useAndRead, "reading gpu:0: asking for free memory: launch failure"},
		"resetting": {"Reset", broken, func(t *testing.T, d *cuda.Device) error { return d.Reset(t.Context()) }, "resetting gpu:0: launch failure"},
		"releasing": {"Release", broken, func(t *testing.T, d *cuda.Device) error {
			use(t, d, "a")()
			return d.Reset(t.Context())
		}, "resetting gpu:0: releasing the primary context: launch failure"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			d := open(t, f)
			f.fail[tt.fails] = tt.err
			err := tt.do(t, d)
			if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			f.set(func() { delete(f.fail, tt.fails) })
			if users := d.Users(); len(users) != 0 {
				t.Errorf("%v are left", users)
			}
			if err := useAndRead(t, d); err != nil {
				t.Errorf("after the driver works again: %v", err)
			}
		})
	}
}

func readOf(t *testing.T, d *cuda.Device) error {
	_, err := d.Read(t.Context())
	return err
}

func useOf(t *testing.T, d *cuda.Device) error {
	leave, err := d.Use(t.Context(), "a")
	if err == nil {
		leave()
	}
	return err
}

func useAndRead(t *testing.T, d *cuda.Device) error {
	defer use(t, d, "a")()
	return readOf(t, d)
}

// A library may reset the GPU too: the next reading but one begins anew.
func TestResetBehindOurBack(t *testing.T) {
	f := newFake()
	d := open(t, f)
	defer use(t, d, "a")()
	f.set(func() { f.made++; f.others = true })
	if err := readOf(t, d); err == nil || !strings.Contains(err.Error(), "not valid") {
		t.Errorf("with a context that is gone: %v", err)
	}
	if err := readOf(t, d); err != nil {
		t.Errorf("the next reading: %v", err)
	}
}

// A thread on which the former context cannot be made current again must not
// serve anybody else.
func TestThreadThatCannotBePutBack(t *testing.T) {
	if _, err := os.Stat("/proc/self/task"); err != nil {
		t.Skip("the system does not list threads:", err)
	}
	f := newFake()
	d := open(t, f)
	leave := use(t, d, "a")
	f.fail["restore"] = errors.New("context is destroyed")
	if err := readOf(t, d); err != nil {
		t.Errorf("the reading is good all the same: %v", err)
	}
	leave()
	var thread int
	f.set(func() {
		for thread = range f.current {
		}
	})
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); err != nil {
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("thread %d lives on", thread)
		}
	}
}

func TestHangingDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d, err := cuda.OpenWith(f, 0, cuda.Options{})
		if err != nil {
			t.Fatal(err)
		}
		leave := use(t, d, "a")
		release := make(chan struct{})
		f.set(func() { f.hang["MemInfo"] = release })
		short := func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), time.Second) }

		for range 3 {
			ctx, cancel := short()
			began := time.Now()
			if _, err := d.Read(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not answered") || time.Since(began) != time.Second {
				t.Errorf("Read: %v after %s", err, time.Since(began))
			}
			cancel()
		}
		if n := f.count("MemInfo"); n != 1 {
			t.Errorf("the driver was asked %d times, though it had not answered", n)
		}
		ctx, cancel := short()
		defer cancel()
		if _, err := d.Use(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Use: %v", err)
		}
		if err := d.Reset(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Reset: %v", err)
		}
		if users := d.Users(); !slices.Equal(users, []string{"a"}) {
			t.Errorf("users are %v: who gave up must not be one", users)
		}
		leave()
		began := time.Now()
		if err := d.Close(); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("Close: %v after %s", err, time.Since(began))
		}
		close(release)
	})
}

// Who gives up while the context is being made is not a user when it is.
func TestUseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d, err := cuda.OpenWith(f, 0, cuda.Options{})
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		f.set(func() { f.hang["Retain"] = release })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Use(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Use: %v", err)
		}
		close(release)
		synctest.Wait()
		if users := d.Users(); len(users) != 0 {
			t.Errorf("users are %v", users)
		}
		if err := d.Reset(t.Context()); err != nil {
			t.Errorf("Reset: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		f.check(t)
	})
}

func TestClose(t *testing.T) {
	f := newFake()
	d := open(t, f)
	leave := use(t, d, "session clip")
	defer leave()
	var used *cuda.InUseError
	if err := d.Close(); !errors.As(err, &used) || used.Device != "gpu:0" || !slices.Equal(used.Users, []string{"session clip"}) {
		t.Errorf("Close while it is used: %v", err)
	}
	f.check(t)
	if err := d.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	for name, err := range map[string]error{"Read": readOf(t, d), "Use": useOf(t, d), "Reset": d.Reset(t.Context())} {
		if !errors.Is(err, cuda.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	again := open(t, f) // which a second device beside an open one could not
	if err := useAndRead(t, again); err != nil {
		t.Error(err)
	}
}

func TestOpenErrors(t *testing.T) {
	f := newFake()
	open(t, f)
	if _, err := cuda.OpenWith(f, 0, cuda.Options{}); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("the same GPU a second time: %v", err)
	}
	named, err := cuda.OpenWith(f, 1, cuda.Options{Name: "gpu:5"})
	if err != nil || named.Name() != "gpu:5" || named.UUID() != "GPU-1" {
		t.Errorf("another one: %v, %v", named, err)
	}
	defer named.Close()
	for _, gpu := range []int{-1, 2} {
		if _, err := cuda.OpenWith(f, gpu, cuda.Options{}); err == nil || !strings.Contains(err.Error(), "CUDA shows 2") {
			t.Errorf("GPU %d: %v", gpu, err)
		}
	}
	for _, call := range []string{"Count", "Name", "UUID"} {
		f := newFake()
		f.fail[call] = errors.New("no driver")
		if _, err := cuda.OpenWith(f, 0, cuda.Options{}); !errors.Is(err, f.fail[call]) {
			t.Errorf("with a failing %s: %v", call, err)
		}
	}
}

// Many at once: each gets its answer, no thread is left with our context, and
// no reset comes while somebody uses the device.
func TestAtOnce(t *testing.T) {
	f := newFake()
	d := open(t, f)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				leave, err := d.Use(t.Context(), fmt.Sprint("session ", i))
				if err != nil {
					t.Error(err)
					return
				}
				if err := readOf(t, d); err != nil {
					t.Error(err)
				}
				leave()
				var used *cuda.InUseError
				if err := d.Reset(t.Context()); err != nil && !errors.As(err, &used) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// The package cu ends a process whose machine has no GPU, before main: it must
// not be in what is built without the tag.
func TestDefaultBuildLacksCU(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go to list packages with:", err)
	}
	out, err := exec.Command(goTool, "list", "-deps", "github.com/forgepipe/forgepipe/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/forgepipe/forgepipe/memory/cuda") {
		t.Error("the list lacks memory/cuda: it proves nothing")
	}
	for _, dep := range deps {
		if dep == "gorgonia.org/cu" || strings.HasPrefix(dep, "gorgonia.org/cu/") {
			t.Errorf("the default build has %s in it", dep)
		}
	}
}
