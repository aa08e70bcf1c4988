package memory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
)

func TestAdvise(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	idle := memory.HostMemory{Total: 16 * gib, Physical: 16 * gib, Available: 15 * gib, RSS: 50 * mib, Source: "/proc/meminfo"}
	host := func(change func(*memory.HostMemory)) memory.HostMemory {
		h := idle
		change(&h)
		return h
	}
	work := func(limit int64, tasks ...memory.Task) memory.Outlook {
		return memory.Outlook{Host: idle, Limit: limit, Overhead: 64 * mib, Tasks: tasks}
	}
	cards := func(o memory.Outlook, cards ...memory.PlannedDevice) memory.Outlook {
		o.Devices = cards
		return o
	}
	clip := memory.Task{Name: "clip", Resident: 6 * gib, Work: gib}
	dino := memory.Task{Name: "dino", Resident: 3 * gib, Work: 2 * gib}
	later := func(t memory.Task) memory.Task {
		t.Phase = 1
		return t
	}
	small := memory.Task{Name: "small", Work: mib, Workers: 2}
	for _, tt := range []struct {
		name string
		o    memory.Outlook
		want []string // each: means, bytes in MiB, count, name, and a part of why
	}{
		{"nothing is known", memory.Outlook{}, nil},
		{"all fits", work(8*gib, small), nil},
		{
			"a call does not fit", work(164*mib, small, memory.Task{Name: "big", Phase: 0, Resident: 80 * mib, Work: 40 * mib, Workers: 4}),
			[]string{"limit 184 0 - of the limit of 164 MiB there are 100 MiB for it; the limit leaves 15.8 GiB of 16 GiB unused"},
		},
		{
			"a call of many does not fit the machine", work(8*gib, memory.Task{Name: "big", Work: 20 * gib, Workers: 1, Batch: 16}),
			[]string{"batch 0 1 big the machine has 16 GiB"},
		},
		{
			"a call of one does not fit the machine", work(8*gib, memory.Task{Name: "big", Work: 20 * gib, Workers: 1, Batch: 1}),
			[]string{"machine 22827 0 - needs a limit of 20.1 GiB, and the host has 16 GiB in all"},
		},
		{
			"phases that could be one", work(4*gib, memory.Task{Name: "a", Resident: 3 * gib}, memory.Task{Name: "b", Phase: 1, Resident: 2 * gib, Work: gib}),
			[]string{"limit 6208 0 - b begins another phase: together the stages need 5 GiB for as long as they are there and 1 GiB for a call"},
		},
		{
			"phases that must be", work(8*gib, memory.Task{Name: "a", Resident: 7 * gib}, memory.Task{Name: "b", Phase: 1, Resident: 9 * gib, Work: 0}),
			[]string{"limit 9280 0 - it needs 9 GiB"},
		},
		{
			"phases of a machine too small", work(14*gib, memory.Task{Name: "a", Resident: 12 * gib}, memory.Task{Name: "b", Phase: 1, Resident: 12 * gib}),
			[]string{"machine 27378 0 - needs a limit of 24.1 GiB"},
		},
		{
			"workers that wait for each other", work(1*gib, memory.Task{Name: "w", Resident: 160 * mib, Work: 300 * mib, Workers: 4}),
			[]string{"limit 1424 0 - a call needs 300 MiB, and there are 800 MiB for calls"},
		},
		{
			"workers for whom the machine is too small", work(8*gib, memory.Task{Name: "w", Work: 3 * gib, Workers: 8}),
			[]string{"workers 0 2 w for all of them the limit would have to be 24.1 GiB"},
		},
		{"one worker waits for nobody", work(1*gib, memory.Task{Name: "w", Work: 900 * mib, Workers: 1}), nil},
		{
			"one limit for all of it", work(1*gib,
				memory.Task{Name: "v", Work: 300 * mib, Workers: 8}, memory.Task{Name: "w", Work: 300 * mib, Workers: 4}),
			[]string{"limit 2464 0 - a call needs 300 MiB"},
		},
		{
			"others have the memory", memory.Outlook{Host: host(func(h *memory.HostMemory) { h.Available = 5 * gib }), Limit: 8 * gib},
			[]string{"limit 5170 0 - only 5 GiB of 16 GiB are free: others have 11 GiB"},
		},
		{
			"a limit above the machine", memory.Outlook{Host: idle, Limit: 32 * gib},
			[]string{"limit 14745 0 - the limit is 32 GiB, and the host has 16 GiB in all (/proc/meminfo)"},
		},
		{
			"much is free, and nothing is known of the work", memory.Outlook{Host: idle, Limit: 8 * gib},
			[]string{"limit 14745 0 - 6.4 GiB more could be used"},
		},
		{"much is free, and not needed", work(8*gib, small), nil},
		{
			"no swap", memory.Outlook{Host: idle, Limit: 14 * gib, Swap: &memory.Swap{}},
			[]string{"limit 13107 0 - 88% of 16 GiB, and the machine has no swap"},
		},
		{"no swap, and room", memory.Outlook{Host: idle, Limit: 12 * gib, Swap: &memory.Swap{}}, nil},
		{
			"swap in use", memory.Outlook{Host: idle, Swap: &memory.Swap{Total: 4 * gib, Used: 2 * gib}},
			[]string{"swap 0 0 - 2 GiB of 4 GiB of swap are in use"},
		},
		{"swap hardly in use", memory.Outlook{Host: idle, Swap: &memory.Swap{Total: 4 * gib, Used: mib}}, nil},
		{
			"GOMEMLIMIT", memory.Outlook{Host: idle, Limit: 12 * gib, Overhead: 64 * mib, GoLimit: gib},
			[]string{"gomemlimit 12224 0 - GOMEMLIMIT keeps Go within 1 GiB"},
		},
		{
			"pressure in a control group", memory.Outlook{Host: host(func(h *memory.HostMemory) {
				h.Total, h.Available, h.Stalled, h.Source = 4*gib, gib, 0.25, "/sys/fs/cgroup/memory.max"
			})},
			[]string{
				"pressure 0 0 - in 25.0% of the last ten seconds",
				"cgroup 16384 0 /sys/fs/cgroup/memory.max allows 4 GiB, and the machine has 16 GiB",
			},
		},
		{"a control group that is wide enough", memory.Outlook{Host: host(func(h *memory.HostMemory) { h.Total, h.Available = 4*gib, 3*gib })}, nil},
		{"stalls that are not known", memory.Outlook{Host: host(func(h *memory.HostMemory) { h.Stalled = memory.Unknown })}, nil},
		{"a card that holds both networks", cards(memory.Outlook{}, memory.PlannedDevice{Name: "sim:0", Total: 16 * gib, Tasks: []memory.Task{clip, dino}}), nil},
		{
			"a card that holds one after the other", cards(memory.Outlook{}, memory.PlannedDevice{Name: "sim:0", Total: 12 * gib, Tasks: []memory.Task{clip, later(dino)}}),
			[]string{"card 16384 0 - together their weights and runs take about 12 GiB, and of 12 GiB networks may have 11.5 GiB; with 16 GiB all of them would stay there, in one phase"},
		},
		{
			"a host that holds one after the other too", cards(
				work(3*gib, memory.Task{Name: "clip", Resident: 2 * gib}, memory.Task{Name: "dino", Phase: 1, Resident: 2 * gib}),
				memory.PlannedDevice{Name: "sim:0", Total: 12 * gib, Tasks: []memory.Task{clip, later(dino)}}),
			[]string{"card 16384 0 - in one phase, if the host's limit of 3 GiB were 4.1 GiB"},
		},
		{
			"a card that is not why there are phases", cards(
				work(3*gib, memory.Task{Name: "clip", Resident: 2 * gib}, memory.Task{Name: "dino", Phase: 1, Resident: 2 * gib}),
				memory.PlannedDevice{Name: "sim:0", Total: 16 * gib, Tasks: []memory.Task{clip, later(dino)}}),
			[]string{"limit 4160 0 - dino begins another phase"},
		},
		{
			"a card that has no room for weights", cards(memory.Outlook{}, memory.PlannedDevice{Name: "sim:0", Total: 4 * gib, Tasks: []memory.Task{clip, dino}}),
			[]string{
				"card 8192 0 clip its weights take 6 GiB and its runs about 1 GiB, and of 4 GiB networks may have 3.8 GiB; with 8 GiB weights and runs would have room",
				"card 6144 0 - its weights take 3 GiB and its runs about 2 GiB, and of 4 GiB networks may have 3.8 GiB; with 6 GiB",
			},
		},
		{
			"a headroom of one's own, and reserved bytes", cards(memory.Outlook{}, memory.PlannedDevice{Name: "sim:0", Total: 8 * gib, Reserved: gib, Headroom: 2 * gib, Tasks: []memory.Task{clip}}),
			[]string{"card 10240 0 clip of 8 GiB networks may have 5 GiB; with 10 GiB"},
		},
		{
			"no card is large enough", cards(memory.Outlook{}, memory.PlannedDevice{Name: "gpu:0", Total: 178 * gib, Reserved: memory.Unknown, Tasks: []memory.Task{{Name: "vast", Resident: 200 * gib}}}),
			[]string{"card 0 0 vast of 178 GiB networks may have 172 GiB; no card is large enough for that"},
		},
	} {
		got := memory.Advise(tt.o)
		for i, a := range got {
			name := a.Name
			if name == "" {
				name = "-"
			}
			head := fmt.Sprintf("%s %d %d %s ", a.Means, a.Bytes>>20, a.Count, name)
			if a.What == "" || i >= len(tt.want) {
				t.Errorf("%s: advises %+v", tt.name, a)
				continue
			}
			part, ok := strings.CutPrefix(tt.want[i], head)
			if !ok || !strings.Contains(a.Why, part) {
				t.Errorf("%s: advises %s%s\nwant %s", tt.name, head, a.Why, tt.want[i])
			}
		}
		if len(got) < len(tt.want) {
			t.Errorf("%s: %d pieces of advice, want %d", tt.name, len(got), len(tt.want))
		}
	}
}

func TestSwap(t *testing.T) {
	for _, tt := range []struct {
		name, meminfo string
		want          memory.Swap
		fails         bool
	}{
		{"some", "MemTotal: 9 kB\nSwapTotal: 8 kB\nSwapFree: 3 kB\n", memory.Swap{Total: 8192, Used: 5120}, false},
		{"none", "SwapTotal: 0 kB\nSwapFree: 0 kB\n", memory.Swap{}, false},
		{"not told", "MemTotal: 9 kB\n", memory.Swap{}, true},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "proc"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "proc", "meminfo"), []byte(tt.meminfo), 0o666); err != nil {
			t.Fatal(err)
		}
		h := memory.Host{Root: root}
		if got, err := h.Swap(); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}
