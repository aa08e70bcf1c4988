package memory_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

const meminfo = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\nBuffers: 1024 kB\nCached: 1048576 kB\n"

func TestHostMemory(t *testing.T) {
	page := int64(os.Getpagesize())
	tests := []struct {
		name  string
		files map[string]string
		want  memory.HostMemory
	}{
		{
			name:  "no cgroup",
			files: map[string]string{"proc/meminfo": meminfo, "proc/self/statm": "1000 250 100 1 0 50 0\n"},
			want:  memory.HostMemory{Total: 16 * gib, Available: 8 * gib, RSS: 250 * page, Source: "/proc/meminfo"},
		},
		{
			name: "v2 nested: a parent's memory.high decides, its cache is free",
			files: map[string]string{
				"proc/meminfo":                                 meminfo,
				"proc/self/cgroup":                             "0::/a.slice/b.scope\n",
				"sys/fs/cgroup/a.slice/memory.max":             "max\n",
				"sys/fs/cgroup/a.slice/memory.high":            "3221225472\n",
				"sys/fs/cgroup/a.slice/memory.current":         "2147483648\n",
				"sys/fs/cgroup/a.slice/memory.stat":            "anon 1\ninactive_file 1073741824\nactive_file 5\n",
				"sys/fs/cgroup/a.slice/b.scope/memory.max":     "4294967296\n",
				"sys/fs/cgroup/a.slice/b.scope/memory.high":    "max\n",
				"sys/fs/cgroup/a.slice/b.scope/memory.current": "1048576\n",
			},
			want: memory.HostMemory{Total: 3 * gib, Available: 2 * gib, Source: "/sys/fs/cgroup/a.slice/memory.high"},
		},
		{
			name: "v2 nested: the child leaves less than its parent",
			files: map[string]string{
				"proc/meminfo":                     meminfo,
				"proc/self/cgroup":                 "0::/a/b\n",
				"sys/fs/cgroup/a/memory.max":       "2147483648\n",
				"sys/fs/cgroup/a/memory.current":   "0\n",
				"sys/fs/cgroup/a/b/memory.max":     "4294967296\n",
				"sys/fs/cgroup/a/b/memory.current": "4293918720\n",
			},
			want: memory.HostMemory{Total: 2 * gib, Available: mib, Source: "/sys/fs/cgroup/a/memory.max"},
		},
		{
			name: "v2 without a limit",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n",
				"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.high": "max\n",
				"sys/fs/cgroup/a/memory.current": "1\n",
			},
			want: memory.HostMemory{Total: 16 * gib, Available: 8 * gib, Source: "/proc/meminfo"},
		},
		{
			name: "v2 over its limit",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
				"sys/fs/cgroup/memory.max": "1048576\n", "sys/fs/cgroup/memory.current": "2097152\n",
			},
			want: memory.HostMemory{Total: mib, Available: 0, Source: "/sys/fs/cgroup/memory.max"},
		},
		{
			name: "v2 in a container that sees the host's path",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/docker:123.scope\n",
				"sys/fs/cgroup/memory.max": "1073741824\n",
			},
			want: memory.HostMemory{Total: gib, Available: gib, Source: "/sys/fs/cgroup/memory.max"},
		},
		{
			name: "v2 above a namespace's root",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "0::/../../x\n",
				"sys/fs/cgroup/memory.max": "1073741824\n",
			},
			want: memory.HostMemory{Total: gib, Available: gib, Source: "/sys/fs/cgroup/memory.max"},
		},
		{
			name: "v1",
			files: map[string]string{
				"proc/meminfo":     meminfo,
				"proc/self/cgroup": "12:cpu,cpuacct:/x\n5:memory:/docker/1\n1:name=systemd:/y\n",
				"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "1073741824\n",
				"sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": "805306368\n",
				"sys/fs/cgroup/memory/docker/1/memory.stat":           "inactive_file 1\ntotal_inactive_file 268435456\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":          "9223372036854771712\n",
			},
			want: memory.HostMemory{Total: gib, Available: 512 * mib, Source: "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes"},
		},
		{
			name: "v1 without a limit",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "5:memory:/\n0::/\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
				"sys/fs/cgroup/memory/memory.usage_in_bytes": "99999999999\n",
			},
			want: memory.HostMemory{Total: 16 * gib, Available: 8 * gib, Source: "/proc/meminfo"},
		},
		{
			name:  "no MemAvailable",
			files: map[string]string{"proc/meminfo": "MemTotal: 4096 kB\nMemFree: 1024 kB\nBuffers: 1 kB\nCached: 2 kB\n"},
			want:  memory.HostMemory{Physical: 4096 * kib, Total: 4096 * kib, Available: 1027 * kib, Source: "/proc/meminfo"},
		},
		{
			name: "the machine's pressure",
			files: map[string]string{
				"proc/meminfo":         meminfo,
				"proc/pressure/memory": "some avg10=12.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=50.00 avg60=0.00 avg300=0.00 total=0\n",
			},
			want: memory.HostMemory{Total: 16 * gib, Available: 8 * gib, Stalled: 0.125, Source: "/proc/meminfo"},
		},
		{
			name: "the control group's pressure counts, not the machine's",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n",
				"proc/pressure/memory":            "some avg10=90.00 avg60=0.00\n",
				"sys/fs/cgroup/a/memory.pressure": "some avg10=25.00 avg60=0.00\n",
			},
			want: memory.HostMemory{Total: 16 * gib, Available: 8 * gib, Stalled: 0.25, Source: "/proc/meminfo"},
		},
		{
			name: "a pressure file that says nothing",
			files: map[string]string{
				"proc/meminfo": meminfo, "proc/pressure/memory": "some avg10=lots avg60=0.00\n",
			},
			want: memory.HostMemory{Total: 16 * gib, Available: 8 * gib, Source: "/proc/meminfo"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				p := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if tt.want.Physical == 0 {
				tt.want.Physical = 16 * gib
			}
			if tt.want.Stalled == 0 {
				tt.want.Stalled = memory.Unknown
			}
			got, err := memory.Host{Root: root}.Memory()
			if err != nil || got != tt.want {
				t.Errorf("Memory() = %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestHostMemoryErrors(t *testing.T) {
	root := t.TempDir()
	if _, err := (memory.Host{Root: root}).Memory(); err == nil || !strings.Contains(err.Error(), "reading host memory") {
		t.Errorf("without meminfo: %v", err)
	}
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc", "meminfo"), []byte("garbage\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := (memory.Host{Root: root}).Memory(); err == nil || !strings.Contains(err.Error(), "MemTotal") {
		t.Errorf("garbage: %v", err)
	}
}

func TestThisHost(t *testing.T) {
	m, err := memory.Host{}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if m.Total <= 0 || m.Available < 0 || m.Available > m.Total || m.RSS <= 0 || m.Source == "" {
		t.Errorf("Memory() = %+v", m)
	}
}

func TestHostRead(t *testing.T) {
	h := memory.Host{}
	r, err := h.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.Name() != "host" || r.Total <= 0 || r.Physical < r.Total || r.Used+r.Free != r.Total || r.Own <= 0 || r.Busy != memory.Unknown {
		t.Errorf("%s reads %+v", h.Name(), r)
	}
	if _, err := (memory.Host{Root: t.TempDir()}).Read(t.Context()); err == nil {
		t.Error("no error without meminfo")
	}
}

// What Go holds and what lies outside it are told apart.
func TestProcess(t *testing.T) {
	runtime.GC() // or garbage that goes meanwhile hides a part of what comes
	before := memory.Host{}.Process()
	held := make([]byte, 64<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	after := memory.Host{}.Process()
	if grown := after.Go - before.Go; grown < 60*mib || after.GoHeap-before.GoHeap < 60*mib {
		t.Errorf("64 MiB made Go %d and its heap %d bytes larger", grown, after.GoHeap-before.GoHeap)
	}
	if after.RSS < 64*mib || after.Other < 0 || after.Other > after.RSS {
		t.Errorf("%+v", after)
	}
	if p := (memory.Host{Root: t.TempDir()}).Process(); p.RSS != memory.Unknown || p.Other != memory.Unknown || p.Go <= 0 {
		t.Errorf("without proc: %+v", p)
	}
	_ = held[0]
}
