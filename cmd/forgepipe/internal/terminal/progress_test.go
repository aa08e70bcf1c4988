package terminal

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal/screentest"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// progress is a run under way, and half a minute of it before.
func progress() (*pipeline.Summary, *rates, *pipeline.Plan) {
	sum := &pipeline.Summary{
		State: "running", Inputs: 5000, Phase: 1, In: 1200, Written: 40, Reused: 3, Seconds: 12.34,
		Stages: []pipeline.StageSummary{
			{ID: "tile", Phase: 1, In: 1200, Out: 4800, Queued: 9, Fill: 0.5},
			{ID: "採点する工程です", Phase: 1, In: 4000, Out: 3990, Failed: 2, Queued: 200, Fill: 0.95},
			{ID: "embed", Phase: 2, In: 40, Out: 40, Rejected: 3, Queued: 7, Fill: 0.03},
			{ID: "write", Phase: 2, In: 40, Out: 40},
		},
		Devices: []pipeline.DeviceUsage{
			{Device: "host", Limit: 400 << 20, Now: 400 << 20, Leased: 300 << 20, Waiting: 2},
			{Device: "gpu:0", Limit: 8 << 30, Now: 8 << 30, Leased: 2 << 30},
		},
		Governed: []memory.Account{{Name: "clip.onnx", Device: "gpu:0", Runs: 10, Items: 40, Limited: map[memory.Rule]int64{memory.RuleSpeed: 30}}},
	}
	plan := &pipeline.Plan{HostBudget: 400 << 20, Phases: make([][]pipeline.PlannedStage, 2)}
	r := &rates{}
	for i := range int64(61) {
		before := *sum
		before.In = sum.In - 20*(60-i)
		before.Stages = append([]pipeline.StageSummary{}, sum.Stages...)
		before.Stages[1].In -= 5 * (60 - i)
		r.add(time.Unix(0, 0).Add(time.Duration(i)*500*time.Millisecond), &before)
	}
	return sum, r, plan
}

// What a person sees.
const (
	at20 = `
           out
source   1,200
tile     4,800 [#]
採点す…  3,990  <-
embed       40 [-]
write       40 [-]
host   300 MiB of …
gpu:0  2 GiB of 8 …
inputs 1,200 of 5,…
12.3 s, phase 1 of…
`
	at80 = `
                     in    out  rejected  failed  rate queue
source                   1,200                    40/s
tile              1,200  4,800         0       0   0/s [#####-----]
採点する工程です  4,000  3,990         0       2  10/s [########] <- bottleneck
embed                40     40         3       0   0/s [----------]
write                40     40         0       0   0/s [----------]
host             [########--] 300 MiB of 400 MiB, limited by its memory: 2 wait
gpu:0            [###-------] 2 GiB of 8 GiB, limited by the device's speed
inputs           [##--------] 1,200 of 5,000, 40/s, about 1 min 40 s left
12.3 s, phase 1 of 2, 40 files written, 3 right already
`
	at200 = `
                     in    out  rejected  failed  rate queue
source                   1,200                    40/s
tile              1,200  4,800         0       0   0/s [#####-----]
採点する工程です  4,000  3,990         0       2  10/s [##########] <- bottleneck
embed                40     40         3       0   0/s [----------]
write                40     40         0       0   0/s [----------]
host             [########--] 300 MiB of 400 MiB, limited by its memory: 2 wait
gpu:0            [###-------] 2 GiB of 8 GiB, limited by the device's speed
inputs           [##--------] 1,200 of 5,000, 40/s, about 1 min 40 s left
12.3 s, phase 1 of 2, 40 files written, 3 right already
`
)

func TestBars(t *testing.T) {
	for _, tt := range []struct {
		width, height int
		want          string
	}{{20, 24, at20}, {80, 24, at80}, {200, 50, at200}} {
		t.Run(fmt.Sprint(tt.width), func(t *testing.T) {
			s, b := live(tt.width, tt.height)
			sum, r, plan := progress()
			bars := newBars(s)
			e := screentest.New(t, tt.width)
			s.Printf("before")
			for range 3 {
				bars.draw(rowsOf(sum, r, plan, tt.width))
				s.Printf("a message")
			}
			e.Write(b.String())
			e.Shows("before\na message\na message\na message" + tt.want)
			b.b.Reset()
			bars.close()
			e.Write(b.String())
			e.Shows("before\na message\na message\na message\n")
		})
	}
}

// In a window that is lower than the block, its first rows are left out.
func TestBarsInALowWindow(t *testing.T) {
	s, b := live(60, 5)
	sum, r, plan := progress()
	bars := newBars(s)
	for range 3 {
		bars.draw(rowsOf(sum, r, plan, 60))
	}
	e := screentest.New(t, 60)
	e.Write(b.String())
	lines, _ := e.Lines()
	if len(lines) != 5 || !strings.HasPrefix(lines[3], "12.3 s, phase 1 of 2") {
		t.Errorf("the terminal shows\n%s", strings.Join(lines, "\n"))
	}
	bars.close()
}

func TestColoursAreAsked(t *testing.T) {
	for _, color := range []bool{false, true} {
		s, b := live(80, 24)
		s.color = color
		sum, r, plan := progress()
		bars := newBars(s)
		bars.draw(rowsOf(sum, r, plan, 80))
		bars.close()
		if bold := strings.Contains(b.String(), emphasis(mark)); bold != color {
			t.Errorf("bold %v, wanted %v: %q", bold, color, b.String())
		}
		e := screentest.New(t, 80)
		e.Write(b.String())
		e.Shows("")
	}
}

func TestDevicesSayWhatLimitsThem(t *testing.T) {
	plan := &pipeline.Plan{HostBudget: 400}
	speed := memory.Account{Device: "gpu:0", Items: 4, Limited: map[memory.Rule]int64{memory.RuleSpeed: 4}}
	probing := memory.Account{Device: "gpu:1", Items: 4, Limited: map[memory.Rule]int64{memory.RuleProbe: 4}}
	for _, tt := range []struct {
		name   string
		device pipeline.DeviceUsage
		want   string
	}{
		{"nothing", pipeline.DeviceUsage{Device: "host", Limit: 400, Now: 400, Leased: 1}, ""},
		{"about as much as before", pipeline.DeviceUsage{Device: "host", Limit: 390, Now: 390}, ""},
		{"somebody waits", pipeline.DeviceUsage{Device: "host", Limit: 400, Now: 400, Waiting: 1}, "limited by its memory: 1 waits"},
		{"the host has less", pipeline.DeviceUsage{Device: "host", Limit: 200, Now: 200}, "limited by what others take: before it was 400 B"},
		{"a GPU has less", pipeline.DeviceUsage{Device: "gpu:0", Limit: 900, Now: 100}, "limited by what others take: before it was 900 B"},
		{"a network", pipeline.DeviceUsage{Device: "gpu:0", Limit: 900, Now: 900}, "limited by the device's speed"},
		{"a network that has just begun", pipeline.DeviceUsage{Device: "gpu:1", Limit: 900, Now: 900}, ""},
	} {
		sum := &pipeline.Summary{Governed: []memory.Account{speed, probing}}
		if got := limitedBy(sum, tt.device, plan); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestBottleneck(t *testing.T) {
	for _, tt := range []struct {
		name  string
		queue []pipeline.StageSummary
		want  int
	}{
		{"nothing waits", []pipeline.StageSummary{{}, {Queued: 1, Fill: 0.1}}, -1},
		{"one large picture", []pipeline.StageSummary{{Queued: 1, Fill: 0.3}, {Queued: 1, Fill: 0.1}}, 0},
		{"the fuller queue, though it has fewer items", []pipeline.StageSummary{{Queued: 5, Fill: 1}, {Queued: 60, Fill: 0.25}}, 0},
		{"of two that are full the later one", []pipeline.StageSummary{{Queued: 256, Fill: 1}, {Queued: 250, Fill: 0.97}, {Queued: 9, Fill: 0.1}}, 1},
	} {
		if got := bottleneck(tt.queue); got != tt.want {
			t.Errorf("%s: stage %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Rates are those of the last seconds, the time that is left that of half a minute; what
// is older is forgotten.
func TestRates(t *testing.T) {
	var r rates
	in := int64(0)
	for i := range 100 {
		if i >= 90 {
			in += 10
		}
		r.add(time.Unix(int64(i), 0), &pipeline.Summary{In: in})
	}
	if got := r.perSecond(0); got != 10 {
		t.Errorf("%v a second in the last five seconds, want 10", got)
	}
	if got := r.over(0, rateHistory); got != 100.0/30 || r.since() != rateHistory {
		t.Errorf("%v a second in the last %v, want %v in 30 s", got, r.since(), 100.0/30)
	}
	if (&rates{}).perSecond(0) != 0 {
		t.Error("nothing was seen, and there is a rate")
	}
}

func TestGoal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*pipeline.Summary)
		want   string
	}{
		{"the total is known", func(*pipeline.Summary) {}, "inputs: 1,200 of 5,000, 40/s, about 1 min 40 s left"},
		{"it is not", func(s *pipeline.Summary) { s.Inputs = 0 }, "inputs: 1,200, 40/s"},
		{"all are read", func(s *pipeline.Summary) { s.In, s.Inputs = 1200, 1200 }, "inputs: 1,200 of 1,200, 40/s"},
		{"it is paused", func(s *pipeline.Summary) { s.State = "paused" }, "inputs: 1,200 of 5,000, 40/s"},
		{"a later phase gets what the one before has left", func(s *pipeline.Summary) { s.Phase = 2 }, "items: 40 of 3,990, 0/s"},
	} {
		sum, r, _ := progress()
		tt.change(sum)
		g := goalOf(sum)
		if got := g.what + ": " + g.note(sum, r); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	sum, r, _ := progress()
	r.at, r.seen = r.at[:3], r.seen[:3]
	if note := goalOf(sum).note(sum, r); strings.Contains(note, "left") {
		t.Errorf("after a second it is known how long it takes: %s", note)
	}
}

// Where nothing can be redrawn, a line comes every ten seconds.
func TestFollowWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		s := NewScreen(&b, func(string) string { return "" })
		sum, _, plan := progress()
		stop := s.Follow(func() *pipeline.Summary {
			sum.In += 50
			sum.State = "running"
			if sum.In > 1300 {
				sum.State = "paused"
			}
			now := *sum
			return &now
		}, plan)
		time.Sleep(25 * time.Second)
		stop()
		want := "12.3 s, phase 1 of 2: inputs 1,300 of 5,000, 5.0/s, about 12 min 20 s left; source 1,300, tile 1,200 > 4,800, " +
			"採点する工程です 4,000 > 3,990 (2 failed, 200 waiting: bottleneck), embed 40 > 40 (3 rejected), write 40 > 40; 40 files written\n"
		lines := strings.SplitAfter(b.String(), "\n")
		if len(lines) != 3 || lines[0] != want || !strings.HasPrefix(lines[1], "12.3 s, paused, phase 1 of 2: ") {
			t.Errorf("%d lines:\n%s\nwant first\n%s", len(lines)-1, b.String(), want)
		}
	})
}

// A terminal that is dumb gets lines, and no bars.
func TestDumbTerminalIsNotLive(t *testing.T) {
	if NewScreen(io.Discard, func(string) string { return "" }).Live() {
		t.Error("what is no terminal is drawn on")
	}
}
