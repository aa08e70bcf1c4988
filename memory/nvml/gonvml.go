//go:build cgo

package nvml

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/forgepipe/forgepipe/memory"
)

const defaultLibrary = "libnvidia-ml.so.1"

// A function of NVML is found when it is called first, and where the library
// lacks it the loader ends the process with exit code 127: nothing can be
// recovered. So each is looked up before it is used. go-nvml v0.13.4-1 calls the
// newest of these that it has found in the library, and else the last (lib.go,
// updateVersionedSymbols): one of them must be there.
var (
	fnInit      = []string{"nvmlInit_v2", "nvmlInit"}
	fnShutdown  = []string{"nvmlShutdown"}
	fnCount     = []string{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"}
	fnHandle    = []string{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}
	fnVersion   = []string{"nvmlSystemGetDriverVersion"}
	fnName      = []string{"nvmlDeviceGetName"}
	fnMIG       = []string{"nvmlDeviceGetMigMode"}
	fnMemory2   = []string{"nvmlDeviceGetMemoryInfo_v2"} // since driver 510
	fnMemory1   = []string{"nvmlDeviceGetMemoryInfo"}
	fnCompute   = []string{"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses"}
	fnBusy      = []string{"nvmlDeviceGetUtilizationRates"}
	fnGraphics  = []string{"nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses"}
	fnNecessary = [][]string{fnInit, fnShutdown, fnCount, fnHandle}
)

// errNoFunction says that the driver lacks a function.
var errNoFunction = errors.New("this driver does not have it")

// errPanic says that go-nvml panicked: see guarded.
var errPanic = errors.New("go-nvml panicked")

// The process's NVML. The functions are bound to the library that was loaded
// first, so there can be no other, and go-nvml keeps what it has found in
// variables without a lock, so there can be only one user at a time.
var process struct {
	sync.Mutex
	inUse  bool
	path   string
	loaded *dl.DynamicLibrary // stays loaded: functions are bound to it
}

// goNVML asks the driver through go-nvml. It never lets an nvml.Return print
// itself, as that calls into the library, which may not be there.
type goNVML struct {
	lib  nvml.Interface
	path string // of the library that start loads; empty where lib was injected
	has  func(symbol string) bool
	gpus []gpu

	version string // of the driver, where it tells

	claimed     bool // process.inUse is ours
	initialized bool
}

// gpu is a GPU's handle, or why there is none.
type gpu struct {
	nvml.Device
	err error
}

func newLibrary(path string) (library, error) {
	path = cmp.Or(path, defaultLibrary)
	return &goNVML{lib: nvml.New(nvml.WithLibraryPath(path)), path: path}, nil
}

// newInjected asks lib in place of a library.
func newInjected(lib nvml.Interface) library {
	return &goNVML{lib: lib, has: func(symbol string) bool {
		_, err := guarded(func() (struct{}, error) { return struct{}{}, lib.Extensions().LookupSymbol(symbol) })
		return err == nil
	}}
}

func (n *goNVML) start() (found, error) {
	var f found
	if n.path != "" {
		if err := n.load(); err != nil {
			return f, err
		}
	}
	// After an Init that has failed nothing of NVML may be called.
	if err := n.call(fnInit, n.lib.Init); err != nil {
		n.release()
		return f, err
	}
	n.initialized = true

	count, err := value(n, fnCount, n.lib.DeviceGetCount)
	if err != nil {
		return f, errors.Join(err, n.stop())
	}
	n.version, _ = value(n, fnVersion, n.lib.SystemGetDriverVersion)
	f.version = n.version
	for i := range count {
		var g gpu
		g.Device, g.err = value(n, fnHandle, func() (nvml.Device, nvml.Return) { return n.lib.DeviceGetHandleByIndex(i) })
		n.gpus = append(n.gpus, g)
		f.gpus = append(f.gpus, n.describe(g))
	}
	return f, nil
}

// load loads the library, without calling anything in it, and looks up what it
// must have.
func (n *goNVML) load() error {
	process.Lock()
	switch {
	case process.inUse:
		process.Unlock()
		return fmt.Errorf("%w: close the other Driver first, or let it end where it hangs", ErrInUse)
	case process.loaded != nil && process.path != n.path:
		defer process.Unlock()
		return fmt.Errorf("%w from %s, and %s cannot take its place", ErrInUse, process.path, n.path)
	}
	process.inUse, n.claimed = true, true
	loaded := process.loaded
	process.Unlock()

	// Not under the lock, as loading can hang: on a file system, or in the
	// library's own start.
	if loaded == nil {
		loaded = dl.New(n.path, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		if err := loaded.Open(); err != nil {
			n.release()
			// The loader gives no code, only this text, which it starts with the file
			// that it misses: that may also be one that the library needs.
			if strings.HasPrefix(err.Error(), n.path+": ") && strings.HasSuffix(err.Error(), ": No such file or directory") {
				if n.path == defaultLibrary {
					return ErrNoDriver
				}
				return fmt.Errorf("%w: there is no %s", ErrNoDriver, n.path)
			}
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	}
	n.has = func(symbol string) bool { return loaded.Lookup(symbol) == nil }
	for _, function := range fnNecessary {
		if !n.any(function) {
			err := fmt.Errorf("%w: %s has no %s", ErrUnusable, n.path, function[0])
			_ = loaded.Close() // nothing is bound to it yet
			n.release()
			return err
		}
	}
	process.Lock()
	process.loaded, process.path = loaded, n.path
	process.Unlock()
	return nil
}

func (n *goNVML) release() {
	if n.claimed {
		process.Lock()
		process.inUse, n.claimed = false, false
		process.Unlock()
	}
}

func (n *goNVML) stop() error {
	defer n.release()
	if !n.initialized {
		return nil
	}
	n.initialized, n.gpus = false, nil
	return n.call(fnShutdown, n.lib.Shutdown)
}

// describe names a GPU. What cannot be had is left out: its readings will say
// what is wrong.
func (n *goNVML) describe(g gpu) string {
	const unnamed = "NVIDIA GPU"
	if g.err != nil {
		return unnamed
	}
	name, _ := value(n, fnName, g.GetName)
	name = cmp.Or(name, unnamed)
	mode, err := value(n, fnMIG, func() (int, nvml.Return) {
		current, _, ret := g.GetMigMode()
		return current, ret
	})
	if err == nil && mode == nvml.DEVICE_MIG_ENABLE {
		name += ", in MIG mode (all of its instances)"
	}
	return name
}

func (n *goNVML) read(i int) (memory.Reading, error) {
	g := n.gpus[i]
	if g.err != nil {
		return memory.Reading{}, g.err
	}
	m, err := n.memory(g)
	if err != nil {
		return memory.Reading{}, err
	}
	r, err := m.reading()
	if err != nil {
		return memory.Reading{}, err
	}
	// What the list lacks or hides is no reason to keep the rest.
	all, _ := n.list(g)
	for _, p := range all {
		if p.PID == os.Getpid() && p.Bytes <= r.Total {
			r.Own = p.Bytes
		}
	}
	r.Busy = n.busy(g)
	return r, nil
}

// busy is the share of the driver's last sample period, of 1/6 s to 1 s, in which
// something ran on the GPU. It is Unknown in MIG mode, where the driver does not
// tell it, and where the figure cannot be.
func (n *goNVML) busy(g gpu) float64 {
	u, err := value(n, fnBusy, g.GetUtilizationRates)
	if err != nil || u.Gpu > 100 {
		return memory.Unknown
	}
	return float64(u.Gpu) / 100
}

// figures are what the driver tells of a GPU's memory, in bytes.
type figures struct {
	total, used, free uint64
	reserved          uint64
	apart             bool // reserved is known, and not part of used
}

// memory asks the second version of the call where there is one, as the first
// counts what is reserved as used.
func (n *goNVML) memory(g gpu) (figures, error) {
	two, err := value(n, fnMemory2, g.GetMemoryInfo_v2)
	if err == nil {
		return figures{total: two.Total, used: two.Used, free: two.Free, reserved: two.Reserved, apart: true}, nil
	}
	if !unsupported(err) {
		return figures{}, err
	}
	one, err := value(n, fnMemory1, g.GetMemoryInfo)
	return figures{total: one.Total, used: one.Used, free: one.Free}, err
}

// reading refuses figures that cannot be: they are worse than none, as work is
// planned by them.
func (f figures) reading() (memory.Reading, error) {
	if f.total == 0 || f.total > math.MaxInt64 || f.used > f.total || f.free > f.total || f.reserved > f.total {
		return memory.Reading{}, fmt.Errorf("the driver gives figures that cannot be: "+
			"%d bytes in total, %d used, %d free, %d reserved", f.total, f.used, f.free, f.reserved)
	}
	r := memory.Reading{
		Physical: int64(f.total), Total: int64(f.total),
		Used: int64(f.used), Free: int64(f.free), Reserved: memory.Unknown,
		Own: memory.Unknown, Stalled: memory.Unknown, Busy: memory.Unknown,
	}
	if f.apart {
		r.Reserved = int64(f.reserved)
	}
	// Something is always used or free, so this tells neither.
	if f.used == 0 && f.free == 0 {
		r.Used, r.Free = memory.Unknown, memory.Unknown
	}
	return r, nil
}

func (n *goNVML) processes(i int) ([]Process, error) {
	if err := n.gpus[i].err; err != nil {
		return nil, err
	}
	return n.list(n.gpus[i])
}

// list adds up what each process has. The two lists are of those that compute
// and of those that draw; a process that does both is in both with the same
// figure, so that counts once. In MIG mode it has a figure for each instance.
func (n *goNVML) list(g gpu) ([]Process, error) {
	if overruns(n.version) {
		return nil, fmt.Errorf("driver %s lays out its process lists in a way of its own: update the driver", n.version)
	}
	compute, err := value(n, fnCompute, g.GetComputeRunningProcesses)
	if err != nil {
		return nil, err
	}
	graphics, err := value(n, fnGraphics, g.GetGraphicsRunningProcesses)
	if err != nil && !unsupported(err) {
		return nil, err
	}
	type part struct{ pid, gpuInstance, computeInstance uint32 }
	parts := map[part]int64{}
	for _, p := range slices.Concat(compute, graphics) {
		// Linux numbers processes from 1 to 2^22. Other numbers, and then other
		// figures, come from entries of a length that is not go-nvml's.
		if p.Pid == 0 || p.Pid > 1<<22 {
			return nil, fmt.Errorf("the driver lists a process %d, which cannot be: update the driver", p.Pid)
		}
		bytes := int64(memory.Unknown)
		if p.UsedGpuMemory <= math.MaxInt64 { // else it is NVML_VALUE_NOT_AVAILABLE
			bytes = int64(p.UsedGpuMemory)
		}
		key := part{p.Pid, p.GpuInstanceId, p.ComputeInstanceId}
		if known, ok := parts[key]; ok {
			bytes = max(bytes, known)
		}
		parts[key] = bytes
	}
	sums := map[int]int64{}
	for key, bytes := range parts {
		pid := int(key.pid)
		if sum, ok := sums[pid]; ok && (sum == memory.Unknown || bytes == memory.Unknown) {
			sums[pid] = memory.Unknown
		} else {
			sums[pid] = sum + bytes
		}
	}
	all := make([]Process, 0, len(sums))
	for _, pid := range slices.Sorted(maps.Keys(sums)) {
		all = append(all, Process{PID: pid, Bytes: sums[pid]})
	}
	return all, nil
}

// overruns reports whether a driver is one of those whose entries of the process
// lists are 32 bytes, where all others have 24: it shuffles what follows the
// first, and writes over the end of the memory that go-nvml gives it. These are
// 535.43 to 535.86 (NVIDIA/go-nvml issue 75, XuehaiPan/nvitop pull request 89).
func overruns(version string) bool {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return err == nil && major == 535 && minor < 98
}

// any reports whether go-nvml can call a function.
func (n *goNVML) any(function []string) bool { return slices.ContainsFunc(function, n.has) }

// call calls a function that the library has, and makes an error of the answer.
func (n *goNVML) call(function []string, f func() nvml.Return) error {
	_, err := value(n, function, func() (struct{}, nvml.Return) { return struct{}{}, f() })
	return err
}

// value is call for a function that answers with a value. With an error the
// value is the zero one: what the driver left in it is not to be used.
func value[T any](n *goNVML, function []string, f func() (T, nvml.Return)) (v T, err error) {
	var none T
	if !n.any(function) {
		return none, &Error{Call: function[0], Cause: errNoFunction}
	}
	var ret nvml.Return
	v, err = guarded(func() (v T, err error) {
		v, ret = f()
		return v, nil
	})
	if err != nil {
		return none, &Error{Call: function[0], Cause: fmt.Errorf("%w: %w", errPanic, err)}
	}
	if ret != nvml.SUCCESS {
		return none, &Error{Call: function[0], Code: int(ret), Cause: cause(ret)}
	}
	return v, nil
}

// unsupported reports whether an error says that there is no such function,
// for this GPU or at all.
func unsupported(err error) bool {
	if errors.Is(err, errNoFunction) || errors.Is(err, errPanic) {
		return true
	}
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch nvml.Return(e.Code) {
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_ARGUMENT_VERSION_MISMATCH:
		return true
	}
	return false
}

// cause puts a code of nvml.h into words, without the library's help.
func cause(ret nvml.Return) error {
	switch ret {
	case nvml.ERROR_NO_PERMISSION:
		return ErrPermission
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return ErrNotLoaded
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return ErrMismatch
	case nvml.ERROR_GPU_IS_LOST:
		return ErrLost
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return ErrUnusable
	case nvml.ERROR_NOT_SUPPORTED:
		return errors.New("this GPU does not support it")
	case nvml.ERROR_UNINITIALIZED:
		return errors.New("NVML is not initialised")
	case nvml.ERROR_RESET_REQUIRED:
		return errors.New("the GPU needs a reset: nvidia-smi --gpu-reset, or restart the machine")
	case nvml.ERROR_OPERATING_SYSTEM:
		return errors.New("the operating system or the container refused it")
	case nvml.ERROR_TIMEOUT:
		return errors.New("the driver took too long")
	case nvml.ERROR_MEMORY:
		return errors.New("the driver is out of memory")
	}
	return errors.New("the driver failed")
}
