package terminal

import (
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
)

// What is not known is a dash, what does not fit into the table is a note, and
// names cannot steer the terminal.
func TestMemory(t *testing.T) {
	now := time.Unix(1000, 0)
	bytes := func(n int64) *int64 { return &n }
	age, stalled, busy := 12.0, 0.05, 0.25
	r := &control.Report{
		Devices: []control.Device{
			{
				Device: "host", Source: "/sys/fs/cgroup/memory.max", Physical: bytes(16 << 30), Total: bytes(4 << 30), Used: bytes(1 << 30),
				Free: bytes(3 << 30), Reserved: bytes(0), Own: bytes(64 << 20), Stalled: &stalled, Leased: bytes(5 << 20), Limit: bytes(9 << 20), Waiting: 2,
				Holders: []control.Holder{{Holder: "evil\x1b[2J\nname", Kind: "residency", Bytes: 5 << 20, Leases: 3, Since: now.Add(-time.Minute)}},
			},
			{Device: "gpu:0", Description: "NVIDIA X", Total: bytes(8 << 30), Busy: &busy, AgeSeconds: &age, Error: "it hangs"},
			{Device: "gpu:1", Error: "it is lost"},
		},
		Process: control.Process{PID: 7, Go: bytes(3 << 20), GoHeap: bytes(2 << 20)},
		NVIDIA:  control.NVIDIA{Driver: "550.54"},
	}
	want := strings.TrimLeft(`
device  total   used   free  reserved     own  stalled   busy  leased     of
host    4 GiB  1 GiB  3 GiB       0 B  64 MiB     5.0%      -   5 MiB  9 MiB
gpu:0   8 GiB      -      -         -       -        -  25.0%       -      -  NVIDIA X
gpu:1       -      -      -         -       -        -      -       -      -
host: total is from /sys/fs/cgroup/memory.max, the machine has 16 GiB
host: 2 calls wait for room
gpu:0: these figures are 12.0 s old: it hangs
gpu:1: no figures: it is lost

held by                            bytes  leases       since
evil\x1b[2J\x0aname  host residency  5 MiB       3  60.0 s ago

process 7: Go 3 MiB (heap 2 MiB)
NVIDIA driver 550.54
`, "\n")
	squeeze := func(s string) string { // widths are table's matter
		var lines []string
		for l := range strings.Lines(s) {
			lines = append(lines, strings.Join(strings.Fields(l), " "))
		}
		return strings.Join(lines, "\n")
	}
	if got := Memory(r, now); squeeze(got) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	line := MemoryLine(r, now)
	for _, part := range []string{"host used 1 GiB, free 3 GiB, own 64 MiB, stalled 5.0%, leased 5 MiB of 9 MiB, 2 waiting; gpu:0 used -", "own -, busy 25.0%, it hangs", "it is lost"} {
		if !strings.Contains(line, part) {
			t.Errorf("%q lacks %q", line, part)
		}
	}
	if strings.Contains(line, "\n") {
		t.Errorf("%q is not one line", line)
	}
}

func TestManyHoldersAreCut(t *testing.T) {
	d := control.Device{Device: "host"}
	for range shownHolders + 3 {
		d.Holders = append(d.Holders, control.Holder{Holder: "x"})
	}
	got := Memory(&control.Report{Devices: []control.Device{d}}, time.Now())
	if strings.Count(got, "x ") < shownHolders || !strings.Contains(got, "and 3 more") {
		t.Errorf("got\n%s", got)
	}
}

func TestCleanedAndAdvice(t *testing.T) {
	bytes := func(n int64) *int64 { return &n }
	got := Cleaned(&control.Cleaned{
		Seconds: 0.5,
		Devices: []control.CleanedDevice{{Device: "host", Before: bytes(9 << 20), After: bytes(4 << 20), Freed: bytes(5 << 20)}, {Device: "gpu:0"}},
		Steps:   []control.CleanedStep{{Name: "pool", Device: "host", Error: "it\npanicked"}},
	})
	for _, part := range []string{"9 MiB  4 MiB  5 MiB\n", "gpu:0        -      -      -\n", `it\x0apanicked`, "took 0.5 s\n"} {
		if !strings.Contains(got, part) {
			t.Errorf("lacks %q:\n%s", part, got)
		}
	}
	if got := Advice(nil); !strings.HasPrefix(got, "nothing to advise") {
		t.Error(got)
	}
	if got := Advice([]Tip{{"a", "b", "c\nd"}, {"e", "f", "g"}}); got != "1. a\n   b\n     c\n     d\n\n2. e\n   f\n     g\n" {
		t.Errorf("got\n%s", got)
	}
}
