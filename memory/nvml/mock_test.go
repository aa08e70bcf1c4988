//go:build cgo

package nvml_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/gpus"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/nvml"
)

func mixed(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.New(server.WithGPUs(gpus.A100_SXM4_40GB, gpus.H100_SXM5_80GB, gpus.A30_PCIE_24GB), server.WithDriverVersion("0.0-mixed"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opened(t *testing.T, lib gonvml.Interface, timeout time.Duration) *nvml.Driver {
	t.Helper()
	d, err := nvml.OpenInjected(lib, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The servers say that they have every function, tell only the total, and give
// zero as used and free.
func TestMockServers(t *testing.T) {
	tests := []struct {
		name   string
		server *server.Server
	}{
		{"DGX A100", dgxa100.New()},
		{"DGX H100", dgxh100.New()},
		{"DGX B200", dgxb200.New()},
		{"mixed", mixed(t)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := opened(t, tt.server, 0)
			if d.Version == "" || d.Version != tt.server.DriverVersion {
				t.Errorf("version %q, not %q", d.Version, tt.server.DriverVersion)
			}
			if got := len(d.Devices()); got == 0 || got != len(tt.server.Devices) {
				t.Fatalf("%d GPUs, not %d", got, len(tt.server.Devices))
			}
			for i, g := range d.Devices() {
				config := tt.server.Devices[i].(*server.Device).Config
				if g.Description() != config.Name {
					t.Errorf("%s is described as %q, not as %q", g.Name(), g.Description(), config.Name)
				}
				total := int64(config.MemoryMB) * mib
				want := memory.Reading{
					Physical: total, Total: total, Used: memory.Unknown, Free: memory.Unknown,
					Reserved: memory.Unknown, Own: memory.Unknown, Stalled: memory.Unknown, Busy: memory.Unknown,
				}
				if r, err := g.Read(t.Context()); err != nil || r != want {
					t.Errorf("%s reads %+v, %v, not %+v", g.Name(), r, err, want)
				}
				if all, err := g.Processes(t.Context()); err == nil || all != nil || !strings.Contains(err.Error(), "panicked") {
					t.Errorf("%s lists %v, %v", g.Name(), all, err)
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMockFigures(t *testing.T) {
	s := mixed(t)
	fill := func(i int, used uint64, processes ...gonvml.ProcessInfo) {
		d := s.Devices[i].(*server.Device)
		total := d.Config.MemoryMB * mib
		d.GetMemoryInfo_v2Func = func() (gonvml.Memory_v2, gonvml.Return) {
			return gonvml.Memory_v2{Total: total, Reserved: 3 * mib, Used: used, Free: total - used - 3*mib}, gonvml.SUCCESS
		}
		d.GetComputeRunningProcessesFunc = func() ([]gonvml.ProcessInfo, gonvml.Return) { return processes, gonvml.SUCCESS }
	}
	self := uint32(os.Getpid())
	fill(0, 100*mib, gonvml.ProcessInfo{Pid: self, UsedGpuMemory: 30 * mib})
	// More than there is: no figure to plan with.
	fill(1, 200*mib, gonvml.ProcessInfo{Pid: self, UsedGpuMemory: 1 << 60})
	fill(2, 300*mib)
	s.Devices[2].(*server.Device).GetComputeRunningProcessesFunc = func() ([]gonvml.ProcessInfo, gonvml.Return) {
		return nil, gonvml.ERROR_NO_PERMISSION
	}
	s.Devices[1].SetMigMode(gonvml.DEVICE_MIG_ENABLE)

	d := opened(t, s, 0)
	defer d.Close()
	for i, want := range []memory.Reading{
		{Total: 40960 * mib, Used: 100 * mib, Own: 30 * mib},
		{Total: 81920 * mib, Used: 200 * mib, Own: memory.Unknown},
		{Total: 24576 * mib, Used: 300 * mib, Own: memory.Unknown},
	} {
		want.Physical, want.Reserved, want.Stalled, want.Busy = want.Total, 3*mib, memory.Unknown, memory.Unknown
		want.Free = want.Total - want.Used - want.Reserved
		if r, err := d.Devices()[i].Read(t.Context()); err != nil || r != want {
			t.Errorf("GPU %d reads %+v, %v, not %+v", i, r, err, want)
		}
	}
	if got := d.Devices()[1].Description(); !strings.HasSuffix(got, ", in MIG mode (all of its instances)") {
		t.Errorf("described as %q", got)
	}
	if _, err := d.Devices()[2].Processes(t.Context()); !errors.Is(err, nvml.ErrPermission) {
		t.Errorf("Processes: %v", err)
	}
}

// TestMockFailures has GPUs that fail each in a way of its own, and the others
// go on.
func TestMockFailures(t *testing.T) {
	s := dgxa100.New()
	answer := func(i int, ret gonvml.Return) {
		s.Devices[i].(*server.Device).GetMemoryInfoFunc = func() (gonvml.Memory, gonvml.Return) {
			return gonvml.Memory{Total: 1, Used: 1, Free: 1}, ret // not to be used
		}
	}
	wants := []error{nil, nvml.ErrLost, nvml.ErrPermission, nvml.ErrNotLoaded, nvml.ErrMismatch, nil, nil, nil}
	answer(1, gonvml.ERROR_GPU_IS_LOST)
	answer(2, gonvml.ERROR_NO_PERMISSION)
	answer(3, gonvml.ERROR_DRIVER_NOT_LOADED)
	answer(4, gonvml.ERROR_LIB_RM_VERSION_MISMATCH)
	d := opened(t, s, 0)
	defer d.Close()
	for i, g := range d.Devices() {
		r, err := g.Read(t.Context())
		if !errors.Is(err, wants[i]) || (err == nil) != (wants[i] == nil) || err != nil && r != (memory.Reading{}) {
			t.Errorf("%s reads %+v, %v", g.Name(), r, err)
		}
	}
}

func TestMockEmpty(t *testing.T) {
	started := &mock.Interface{
		ExtensionsFunc: func() gonvml.ExtendedInterface {
			return &mock.ExtendedInterface{LookupSymbolFunc: func(string) error { return nil }}
		},
		InitFunc: func() gonvml.Return { return gonvml.SUCCESS },
	}
	for name, lib := range map[string]*mock.Interface{"nothing": {}, "only Init": started} {
		t.Run(name, func(t *testing.T) {
			if d, err := nvml.OpenInjected(lib, 0); err == nil || d != nil {
				t.Errorf("Open: %v, %v", d, err)
			}
		})
	}
}

// slow is a server of which one function waits for a gate.
type slow struct {
	*server.Server
	gate chan struct{}
}

func slowMemory(t *testing.T) slow {
	s := slow{mixed(t), make(chan struct{})}
	d := s.Devices[0].(*server.Device)
	answer := d.GetMemoryInfoFunc
	d.GetMemoryInfoFunc = func() (gonvml.Memory, gonvml.Return) {
		<-s.gate
		return answer()
	}
	return s
}

const patience = 7 * time.Second

// took fails where something took another time than it should; the clock is
// synctest's.
func took(t *testing.T, what string, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Errorf("%s took %s, not %s", what, got, want)
	}
}

func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowMemory(t)
		d := opened(t, s, patience)
		defer d.Close()
		one, two := d.Devices()[0], d.Devices()[1]

		start := time.Now()
		// Both are told at the same time, as the second waits for the same call.
		var both sync.WaitGroup
		for _, g := range []*nvml.GPU{one, two} {
			both.Go(func() {
				if _, err := g.Read(t.Context()); !errors.Is(err, nvml.ErrHung) {
					t.Errorf("%s: %v", g.Name(), err)
				}
			})
			synctest.Wait() // so that the first is the one that hangs
		}
		both.Wait()
		took(t, "noticing", start, patience)

		start = time.Now()
		for range 100 {
			if _, err := two.Read(t.Context()); !errors.Is(err, nvml.ErrHung) {
				t.Errorf("Read of the other GPU: %v", err)
			}
			if _, err := one.Processes(t.Context()); !errors.Is(err, nvml.ErrHung) || !strings.Contains(err.Error(), "reading gpu:0, for ") {
				t.Errorf("Processes: %v", err)
			}
		}
		took(t, "being told", start, 0)

		close(s.gate)
		synctest.Wait()
		for _, g := range []*nvml.GPU{one, two} {
			if r, err := g.Read(t.Context()); err != nil || r.Total == 0 {
				t.Errorf("%s afterwards: %+v, %v", g.Name(), r, err)
			}
		}
	})
}

// TestImpatient has callers that give up before the driver counts as hung, and
// whose calls then are what the next one waits for.
func TestImpatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowMemory(t)
		d := opened(t, s, patience)
		defer d.Close()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Devices()[0].Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		took(t, "giving up", start, time.Second)
		time.Sleep(patience - time.Second)
		if _, err := d.Devices()[1].Read(t.Context()); !errors.Is(err, nvml.ErrHung) {
			t.Errorf("Read: %v", err)
		}
		took(t, "the next Read", start, patience)
		if _, err := d.Devices()[1].Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		close(s.gate)
	})
}

// TestQueue has callers that wait for one another longer than the timeout, at
// a driver that is slow and does not hang.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mixed(t)
		for i := range s.Devices {
			d := s.Devices[i].(*server.Device)
			answer := d.GetMemoryInfoFunc
			d.GetMemoryInfoFunc = func() (gonvml.Memory, gonvml.Return) {
				time.Sleep(patience - time.Second)
				return answer()
			}
		}
		d := opened(t, s, patience)
		defer d.Close()
		start := time.Now()
		var both sync.WaitGroup
		for _, g := range d.Devices()[:2] {
			both.Go(func() {
				if _, err := g.Read(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		took(t, "two answers", start, 2*(patience-time.Second))
	})
}

func TestCloseHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowMemory(t)
		stopped := false
		s.ShutdownFunc = func() gonvml.Return {
			stopped = true
			return gonvml.SUCCESS
		}
		d := opened(t, s, patience)
		var reading sync.WaitGroup
		reading.Go(func() {
			if _, err := d.Devices()[0].Read(t.Context()); !errors.Is(err, nvml.ErrHung) {
				t.Errorf("Read: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if err := d.Close(); !errors.Is(err, nvml.ErrHung) {
			t.Errorf("Close: %v", err)
		}
		took(t, "Close during a call", start, time.Second)
		if _, err := d.Devices()[1].Read(t.Context()); !errors.Is(err, nvml.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		reading.Wait()
		start = time.Now()
		if err := d.Close(); !errors.Is(err, nvml.ErrHung) {
			t.Errorf("Close: %v", err)
		}
		took(t, "Close of what is hung", start, 0)
		if stopped {
			t.Error("NVML was shut down during a call")
		}
		close(s.gate)
		synctest.Wait()
		if !stopped {
			t.Error("NVML was not shut down when the call came back")
		}
		if err := d.Close(); err != nil {
			t.Errorf("Close afterwards: %v", err)
		}
	})
}

func TestOpenHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := mixed(t)
		var calls []string
		s.InitFunc = func() gonvml.Return {
			<-gate
			calls = append(calls, "Init")
			return gonvml.SUCCESS
		}
		s.ShutdownFunc = func() gonvml.Return {
			calls = append(calls, "Shutdown")
			return gonvml.SUCCESS
		}
		start := time.Now()
		if _, err := nvml.OpenInjected(s, patience); !errors.Is(err, nvml.ErrHung) {
			t.Errorf("Open: %v", err)
		}
		took(t, "Open", start, patience)
		close(gate)
		synctest.Wait()
		if !slices.Equal(calls, []string{"Init", "Shutdown"}) {
			t.Errorf("calls: %v", calls)
		}
	})
}

func TestFailedInitIsLeftAlone(t *testing.T) {
	s := mixed(t)
	s.InitFunc = func() gonvml.Return { return gonvml.ERROR_UNKNOWN }
	s.ShutdownFunc = func() gonvml.Return {
		t.Error("Shutdown after an Init that failed")
		return gonvml.SUCCESS
	}
	s.DeviceGetCountFunc = func() (int, gonvml.Return) {
		t.Error("DeviceGetCount after an Init that failed")
		return 0, gonvml.SUCCESS
	}
	var e *nvml.Error
	if _, err := nvml.OpenInjected(s, 0); !errors.As(err, &e) || e.Call != "nvmlInit_v2" || e.Code != int(gonvml.ERROR_UNKNOWN) {
		t.Errorf("Open: %v", err)
	}
}
