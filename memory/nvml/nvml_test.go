//go:build cgo

package nvml_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/nvml"
)

// Mistakes with NVML end the process, so everything that touches a library runs
// in a child: this test program, told by these variables what to do.
const (
	envDo      = "FORGEPIPE_NVML_TEST_DO"
	envLibrary = "FORGEPIPE_NVML_TEST_LIBRARY"
	envGate    = "FAKE_NVML_GATE" // read by testdata/nvml.c
)

func TestMain(m *testing.M) {
	if do := os.Getenv(envDo); do != "" {
		children[do]()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const mib = 1 << 20

var ctx = context.Background() // of calls that the driver's timeout ends

// report is what a child has seen.
type report struct {
	Open    failure
	Version string
	GPUs    []gpuReport
	Close   failure
}

type gpuReport struct {
	Name, Description string
	First, Second     memory.Reading
	Read              failure
	Processes         []nvml.Process // without the child, whose number is Own's
	Listed            int64          // what the child has in the list, 0 if it is not there
	List              failure
}

// failure is an error that has crossed to another process.
type failure struct {
	Text string
	Is   []string
}

var named = map[string]error{
	"NoDriver": nvml.ErrNoDriver, "NotLoaded": nvml.ErrNotLoaded, "Mismatch": nvml.ErrMismatch,
	"Permission": nvml.ErrPermission, "Lost": nvml.ErrLost, "Unusable": nvml.ErrUnusable,
	"Hung": nvml.ErrHung, "InUse": nvml.ErrInUse, "Closed": nvml.ErrClosed,
}

func failureOf(err error) failure {
	if err == nil {
		return failure{}
	}
	f := failure{Text: err.Error()}
	for name, e := range named {
		if errors.Is(err, e) {
			f.Is = append(f.Is, name)
		}
	}
	slices.Sort(f.Is)
	return f
}

// children are what a child can do. They must not use testing.
var children = map[string]func(){
	"report": func() {
		d, err := nvml.Open(nvml.Options{LibraryPath: os.Getenv(envLibrary)})
		r := report{Open: failureOf(err)}
		if err == nil {
			r.Version = d.Version
			for _, g := range d.Devices() {
				r.GPUs = append(r.GPUs, reportOn(g))
			}
			r.Close = failureOf(d.Close())
		}
		say(r)
	},
	"default library": func() {
		_, err := nvml.Open(nvml.Options{})
		say(report{Open: failureOf(err)})
	},
	"hanging start": func() {
		o := nvml.Options{LibraryPath: os.Getenv(envLibrary), Timeout: 50 * time.Millisecond}
		_, err := nvml.Open(o)
		expect(errors.Is(err, nvml.ErrHung), "Open of a hanging driver: %v", err)
		_, err = nvml.Open(o)
		expect(errors.Is(err, nvml.ErrInUse), "Open while the first hangs: %v", err)
		openGate()
		// The first comes back, and is undone; then the driver can be opened.
		o.Timeout = time.Minute
		d, err := nvml.Open(o)
		for errors.Is(err, nvml.ErrInUse) {
			time.Sleep(time.Millisecond)
			d, err = nvml.Open(o)
		}
		expect(err == nil, "Open when the driver answers again: %v", err)
		_, err = d.Devices()[0].Read(ctx)
		expect(err == nil, "Read when the driver answers again: %v", err)
		expect(d.Close() == nil, "Close when the driver answers again")
	},
	"hanging memory": func() {
		// Long enough for a start on a busy machine, which must not hang here.
		d, err := nvml.Open(nvml.Options{LibraryPath: os.Getenv(envLibrary), Timeout: time.Second})
		expect(err == nil, "Open: %v", err)
		one, two := d.Devices()[0], d.Devices()[1]
		r, err := one.Read(ctx)
		expect(errors.Is(err, nvml.ErrHung), "Read of a hanging driver: %v", err)
		expect(r == memory.Reading{}, "a reading with an error: %+v", r)
		for range 1000 { // at once: otherwise this takes a quarter of an hour
			_, err = two.Read(ctx)
			expect(errors.Is(err, nvml.ErrHung), "Read of the other GPU: %v", err)
		}
		openGate()
		for errors.Is(err, nvml.ErrHung) {
			time.Sleep(time.Millisecond)
			_, err = two.Read(ctx)
		}
		expect(err == nil, "Read when the driver answers again: %v", err)
		expect(d.Close() == nil, "Close when the driver answers again")
	},
	"close while memory hangs": func() {
		d, err := nvml.Open(nvml.Options{LibraryPath: os.Getenv(envLibrary), Timeout: time.Second})
		expect(err == nil, "Open: %v", err)
		_, err = d.Devices()[0].Read(ctx)
		expect(errors.Is(err, nvml.ErrHung), "Read of a hanging driver: %v", err)
		err = d.Close()
		expect(errors.Is(err, nvml.ErrHung), "Close of a hanging driver: %v", err)
		_, err = d.Devices()[0].Read(ctx)
		expect(errors.Is(err, nvml.ErrClosed), "Read after Close: %v", err)
	},
	"close that hangs": func() {
		d, err := nvml.Open(nvml.Options{LibraryPath: os.Getenv(envLibrary)})
		expect(err == nil, "Open: %v", err)
		err = d.Close()
		expect(errors.Is(err, nvml.ErrHung), "Close that hangs: %v", err)
	},
	"twice": func() {
		o := nvml.Options{LibraryPath: os.Getenv(envLibrary)}
		for range 3 {
			d, err := nvml.Open(o)
			expect(err == nil, "Open: %v", err)
			_, err = nvml.Open(o)
			expect(errors.Is(err, nvml.ErrInUse), "Open of what is open: %v", err)
			_, err = d.Devices()[1].Read(ctx)
			expect(err == nil, "Read: %v", err)
			for range 2 {
				expect(d.Close() == nil, "Close")
			}
			_, err = d.Devices()[1].Read(ctx)
			expect(errors.Is(err, nvml.ErrClosed), "Read after Close: %v", err)
		}
		_, err := nvml.Open(nvml.Options{LibraryPath: o.LibraryPath + ".other"})
		expect(errors.Is(err, nvml.ErrInUse), "Open of another library: %v", err)
	},
	// What happens without the guards.
	"unguarded memory": func() {
		lib := gonvml.New(gonvml.WithLibraryPath(os.Getenv(envLibrary)))
		lib.Init()
		g, _ := lib.DeviceGetHandleByIndex(0)
		g.GetMemoryInfo_v2()
	},
	"unguarded busy": func() {
		lib := gonvml.New(gonvml.WithLibraryPath(os.Getenv(envLibrary)))
		lib.Init()
		g, _ := lib.DeviceGetHandleByIndex(0)
		g.GetUtilizationRates()
	},
	"unguarded failed start": func() {
		lib := gonvml.New(gonvml.WithLibraryPath(os.Getenv(envLibrary)))
		lib.Init()
		lib.DeviceGetCount()
	},
	"unguarded start": func() { gonvml.New(gonvml.WithLibraryPath(os.Getenv(envLibrary))).Init() },
}

func reportOn(g *nvml.GPU) gpuReport {
	r := gpuReport{Name: g.Name(), Description: g.Description()}
	var err error
	r.First, err = g.Read(ctx)
	if err == nil {
		r.Second, err = g.Read(ctx)
	}
	r.Read = failureOf(err)
	all, err := g.Processes(ctx)
	r.List = failureOf(err)
	for _, p := range all {
		if p.PID == os.Getpid() {
			r.Listed = p.Bytes
		} else {
			r.Processes = append(r.Processes, p)
		}
	}
	return r
}

func say(r report) {
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		panic(err)
	}
}

// expect ends the child with 1, where a crash would be 2, 99 or 127.
func expect(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		os.Exit(1)
	}
}

func openGate() {
	expect(os.WriteFile(os.Getenv(envGate), nil, 0o600) == nil, "opening the gate")
}

// fake builds a variant of the stand-in for NVIDIA's library.
func fake(t *testing.T, flags ...string) string {
	t.Helper()
	cc, err := exec.LookPath(cmp.Or(os.Getenv("CC"), "cc"))
	if err != nil {
		t.Skipf("no C compiler to build a stand-in for the NVIDIA library with: %v", err)
	}
	lib := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	args := append([]string{"-shared", "-fPIC", "-Wall", "-Werror", "-o", lib, filepath.Join("testdata", "nvml.c")}, flags...)
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", cc, strings.Join(args, " "), err, out)
	}
	return lib
}

// child runs one of children with a library, and returns its exit code and what
// it printed.
func child(t *testing.T, do, library string, env ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envDo+"="+do, envLibrary+"="+library, envGate+"="+filepath.Join(t.TempDir(), "gate"))
	cmd.Env = append(cmd.Env, env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// ask has a child report on a library.
func ask(t *testing.T, do, library string) report {
	t.Helper()
	code, stdout, stderr := child(t, do, library)
	if code != 0 {
		t.Fatalf("exits %d\n%s%s", code, stdout, stderr)
	}
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	return r
}

// complete is the reading of the stand-in as it is without flags: its figures
// are in testdata/nvml.c.
var complete = memory.Reading{
	Physical: 8000 * mib, Total: 8000 * mib, Used: 1500 * mib, Free: 6000 * mib, Reserved: 500 * mib,
	Own: 300 * mib, Stalled: memory.Unknown, Busy: 0.25,
}

// but is complete with some figures changed.
func but(change func(r *memory.Reading)) memory.Reading {
	r := complete
	change(&r)
	return r
}

var others = []nvml.Process{{PID: 1, Bytes: 1000 * mib}, {PID: 2, Bytes: 7 * mib}}

func TestLibrary(t *testing.T) {
	both := func(g gpuReport) []gpuReport {
		one, two := g, g
		one.Name, two.Name = "gpu:0", "gpu:1"
		one.Description, two.Description = "Made-up GPU 0", "Made-up GPU 1"
		if g.Second == (memory.Reading{}) {
			one.Second, two.Second = g.First, g.First
		}
		return []gpuReport{one, two}
	}
	failing := func(code int, is ...string) func(r report) string {
		return func(r report) string {
			if len(r.GPUs) != 2 {
				return "not two GPUs"
			}
			for _, g := range r.GPUs {
				if g.First != (memory.Reading{}) || !strings.Contains(g.Read.Text, fmt.Sprintf("(NVML error %d)", code)) || !slices.Equal(g.Read.Is, is) {
					return fmt.Sprintf("%+v", g)
				}
			}
			return ""
		}
	}
	tests := []struct {
		name  string
		flags string
		want  []gpuReport
		check func(r report) string // for what is no plain figure; empty when right
	}{
		{name: "complete", want: both(gpuReport{First: complete, Processes: others, Listed: 300 * mib})},
		{name: "process lists of version 2", flags: "-DLISTS=2",
			want: both(gpuReport{First: complete, Processes: others, Listed: 300 * mib})},
		{name: "process lists of version 1", flags: "-DLISTS=1",
			want: both(gpuReport{First: complete, Processes: others, Listed: 300 * mib})},
		{name: "old driver", flags: "-DOLD", want: both(gpuReport{
			First: but(func(r *memory.Reading) {
				r.Used, r.Reserved, r.Own, r.Busy = 2000*mib, memory.Unknown, memory.Unknown, memory.Unknown
			}),
			List: failure{Text: "listing the processes of %s: nvmlDeviceGetComputeRunningProcesses_v3: this driver does not have it"},
		})},
		{name: "second version not supported", flags: "-DMEMORY2=3", want: both(gpuReport{
			First:     but(func(r *memory.Reading) { r.Used, r.Reserved = 2000*mib, memory.Unknown }),
			Processes: others, Listed: 300 * mib,
		})},
		{name: "second version fails", flags: "-DMEMORY2=999", check: failing(999)},
		{name: "memory fails", flags: "-DMEMORY=999", check: failing(999)},
		{name: "no permission", flags: "-DMEMORY=4", check: failing(4, "Permission")},
		{name: "memory changes", flags: "-DCHANGES -DCOUNT=1", want: both(gpuReport{
			First:     complete,
			Second:    but(func(r *memory.Reading) { r.Used, r.Free = 1501*mib, 5999*mib }),
			Processes: others, Listed: 300 * mib,
		})[:1]},
		{name: "this process is not listed", flags: "-DOTHERS", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Own = memory.Unknown }), Processes: others,
		})},
		{name: "what processes have is not told", flags: "-DUNTOLD", want: both(gpuReport{
			First:     but(func(r *memory.Reading) { r.Own = memory.Unknown }),
			Processes: []nvml.Process{{PID: 1, Bytes: memory.Unknown}, {PID: 2, Bytes: memory.Unknown}}, Listed: memory.Unknown,
		})},
		{name: "shuffled lists", flags: "-DSHUFFLED", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Own = memory.Unknown }),
			List:  failure{Text: "listing the processes of %s: the driver lists a process 0, which cannot be: update the driver"},
		})},
		{name: "driver that writes over the end", flags: `-DSHUFFLED -DDEADLY -DVERSION="535.54.03"`, want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Own = memory.Unknown }),
			List:  failure{Text: "listing the processes of %s: driver 535.54.03 lays out its process lists in a way of its own: update the driver"},
		})},
		{name: "driver after that", flags: `-DVERSION="535.98"`,
			want: both(gpuReport{First: complete, Processes: others, Listed: 300 * mib})},
		{name: "idle", flags: "-DBUSY=0", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Busy = 0 }), Processes: others, Listed: 300 * mib,
		})},
		{name: "busy all the time", flags: "-DBUSY=100", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Busy = 1 }), Processes: others, Listed: 300 * mib,
		})},
		{name: "busier than can be", flags: "-DBUSY=101", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Busy = memory.Unknown }), Processes: others, Listed: 300 * mib,
		})},
		{name: "how busy is not there", flags: "-DNO_BUSY", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Busy = memory.Unknown }), Processes: others, Listed: 300 * mib,
		})},
		{name: "how busy fails", flags: "-DBUSY_FAILS=999", want: both(gpuReport{
			First: but(func(r *memory.Reading) { r.Busy = memory.Unknown }), Processes: others, Listed: 300 * mib,
		})},
		{name: "MIG mode", flags: "-DMIG -DCOUNT=1", want: []gpuReport{{
			Name: "gpu:0", Description: "Made-up GPU 0, in MIG mode (all of its instances)",
			First:     but(func(r *memory.Reading) { r.Own, r.Busy = 340*mib, memory.Unknown }),
			Second:    but(func(r *memory.Reading) { r.Own, r.Busy = 340*mib, memory.Unknown }),
			Processes: others, Listed: 340 * mib,
		}}},
		{name: "no GPU", flags: "-DCOUNT=0", want: nil},
		{name: "all figures zero", flags: "-DZERO", check: func(r report) string {
			for _, g := range r.GPUs {
				if g.First != (memory.Reading{}) || !strings.Contains(g.Read.Text, "figures that cannot be: 0 bytes in total") {
					return fmt.Sprintf("%+v", g)
				}
			}
			return ""
		}},
		{name: "more used than there is", flags: "-DTOO_MUCH", check: func(r report) string {
			for _, g := range r.GPUs {
				if g.First != (memory.Reading{}) || !strings.Contains(g.Read.Text, "figures that cannot be") {
					return fmt.Sprintf("%+v", g)
				}
			}
			return ""
		}},
		{name: "one GPU lost", flags: "-DLOST=1", check: func(r report) string {
			if len(r.GPUs) != 2 || r.GPUs[0].First != complete || r.GPUs[0].Second != complete || !slices.Equal(r.GPUs[1].Read.Is, []string{"Lost"}) {
				return fmt.Sprintf("%+v", r)
			}
			return ""
		}},
		{name: "one GPU lost from the start", flags: "-DNO_HANDLE=15", check: func(r report) string {
			if len(r.GPUs) != 2 || r.GPUs[0].First != complete || r.GPUs[1].Description != "NVIDIA GPU" ||
				!slices.Equal(r.GPUs[1].Read.Is, []string{"Lost"}) || !slices.Equal(r.GPUs[1].List.Is, []string{"Lost"}) {
				return fmt.Sprintf("%+v", r)
			}
			return ""
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := ask(t, "report", fake(t, strings.Fields(tt.flags)...))
			if r.Open.Text != "" || r.Close.Text != "" {
				t.Fatalf("Open: %q, Close: %q", r.Open.Text, r.Close.Text)
			}
			if tt.check != nil {
				if wrong := tt.check(r); wrong != "" {
					t.Error(wrong)
				}
				return
			}
			if !strings.Contains(tt.flags, "VERSION") && r.Version != "0.0-fake" {
				t.Errorf("version %q", r.Version)
			}
			for i := range tt.want {
				if text := tt.want[i].List.Text; text != "" {
					tt.want[i].List.Text = fmt.Sprintf(text, tt.want[i].Name)
				}
			}
			if !reflect.DeepEqual(r.GPUs, tt.want) {
				t.Errorf("got  %+v\nwant %+v", r.GPUs, tt.want)
			}
		})
	}
}

func TestFailedStart(t *testing.T) {
	tests := []struct {
		name  string
		flags string
		is    []string
		text  string
	}{
		{"driver not loaded", "-DINIT=9", []string{"NotLoaded"}, "starting the NVIDIA driver: nvmlInit_v2: the NVIDIA kernel driver is not loaded: "},
		{"versions apart", "-DINIT=18", []string{"Mismatch"}, "restart the machine"},
		{"no permission", "-DINIT=4", []string{"Permission"}, "/dev/nvidiactl"},
		{"GPU lost", "-DINIT=15", []string{"Lost"}, "Xid"},
		{"library not found", "-DINIT=12", []string{"Unusable"}, "(NVML error 12)"},
		{"unknown", "-DINIT=999", nil, "the driver failed (NVML error 999)"},
		{"unknown code", "-DINIT=12345", nil, "(NVML error 12345)"},
		{"old driver not loaded", "-DOLD -DINIT=9", []string{"NotLoaded"}, ""},
		{"no NVML", "-DNO_INIT", []string{"Unusable"}, "has no nvmlInit_v2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := ask(t, "report", fake(t, strings.Fields(tt.flags)...))
			if !slices.Equal(r.Open.Is, tt.is) || !strings.Contains(r.Open.Text, tt.text) {
				t.Errorf("Open: %q, which is %v", r.Open.Text, r.Open.Is)
			}
		})
	}
}

func TestNoDriver(t *testing.T) {
	t.Run("file missing", func(t *testing.T) {
		r := ask(t, "report", "/nowhere/libnvidia-ml.so.1")
		if want := "no NVIDIA driver: there is no /nowhere/libnvidia-ml.so.1"; r.Open.Text != want || !slices.Equal(r.Open.Is, []string{"NoDriver"}) {
			t.Errorf("Open: %+v", r.Open)
		}
	})
	t.Run("library missing", func(t *testing.T) {
		r := ask(t, "default library", "")
		if !slices.Equal(r.Open.Is, []string{"NoDriver"}) {
			t.Skipf("this machine has an NVIDIA library: %+v", r.Open)
		}
		if r.Open.Text != "no NVIDIA driver" {
			t.Errorf("Open: %+v", r.Open)
		}
	})
	t.Run("no library at all", func(t *testing.T) {
		text := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
		if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := ask(t, "report", text)
		if !slices.Equal(r.Open.Is, []string{"Unusable"}) {
			t.Errorf("Open: %+v", r.Open)
		}
	})
}

// TestChild runs what checks itself, with expect.
func TestChild(t *testing.T) {
	for do, flags := range map[string]string{
		"hanging start":            "-DHANG_INIT",
		"hanging memory":           "-DHANG_MEMORY",
		"close while memory hangs": "-DHANG_MEMORY",
		"close that hangs":         "-DHANG_SHUTDOWN",
		"twice":                    "",
	} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			if code, _, stderr := child(t, do, fake(t, strings.Fields(flags)...)); code != 0 {
				t.Errorf("exits %d: %s", code, stderr)
			}
		})
	}
}

// TestGuards shows that the guards are needed: this is what go-nvml does
// without them, with the libraries that the tests above survive.
func TestGuards(t *testing.T) {
	tests := []struct{ do, library, symbol string }{
		{"unguarded memory", fake(t, "-DOLD"), "nvmlDeviceGetMemoryInfo_v2"},
		{"unguarded busy", fake(t, "-DNO_BUSY"), "nvmlDeviceGetUtilizationRates"},
		{"unguarded start", fake(t, "-DNO_INIT"), "nvmlInit"},
		{"unguarded failed start", "/nowhere/libnvidia-ml.so.1", "nvmlDeviceGetCount"},
	}
	for _, tt := range tests {
		t.Run(tt.do, func(t *testing.T) {
			code, _, stderr := child(t, tt.do, tt.library)
			if code != 127 || !strings.Contains(stderr, "undefined symbol: "+tt.symbol) {
				t.Errorf("exits %d: %s", code, stderr)
			}
		})
	}
}
