package terminal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/pipeline"
)

func TestSnapshot(t *testing.T) {
	sum, _, plan := progress()
	sum.Parked = pipeline.Parked{Pictures: 1, Spilled: 3 << 20}
	sum.Stages[0].Active, sum.Stages[0].Workers, sum.Stages[0].Derived = 2, 4, 4800
	at := time.Date(2026, 5, 1, 10, 3, 4, 0, time.UTC)
	leased, limit := int64(300<<20), int64(400<<20)
	report := &control.Report{
		Devices: []control.Device{{Device: "host", Leased: &leased, Limit: &limit, Holders: []control.Holder{{Holder: "tile", Kind: "work", Bytes: leased, Leases: 2, Since: at.Add(-time.Second)}}}},
		Process: control.Process{PID: 7}, NVIDIA: control.NVIDIA{Problem: "no NVIDIA driver"},
	}
	s, _ := live(80, 24)
	e := s.Events(Usual)
	for i := range 12 {
		e.On(pipeline.Event{Time: at.Add(time.Duration(i) * time.Second), Kind: pipeline.EventGoverned, Message: fmt.Sprintf("decision %d\x1b", i)})
		e.On(pipeline.Event{Time: at, Kind: pipeline.EventRejected, Stage: "filter", Item: "a.jpg"})
	}
	e.On(pipeline.Event{Time: at, Kind: pipeline.EventYielded, Stage: "embed", Message: "others use 30% of gpu:0"})
	e.On(pipeline.Event{Time: at, Kind: pipeline.EventParked, Message: "3 MiB of waiting pictures were written to disk"})
	e.Close()
	got := Snapshot(at, sum, plan, report, e.Last())
	want := `
snapshot at 10:03:04: running for 12.3 s, phase 1 of 2, 1,200 of 5,000 inputs, 40 files written

  phase  stage                in  derived    out  rejected  failed  queued  full  inside  workers
         source                            1,200
  1      tile              1,200    4,800  4,800         0       0       9   50%       2        4
  1      採点する工程です  4,000        0  3,990         0       2     200   95%       0        0  <- bottleneck
  2      embed                40        0     40         3       0       7    3%       0        0
  2      write                40        0     40         0       0       0    0%       0        0

for want of memory, waiting pictures were taken out of it once (3 MiB written to disk)

device  total  used  free  reserved  own  stalled  busy   leased       of
host        -     -     -         -    -        -     -  300 MiB  400 MiB

held by               bytes  leases      since
tile     host work  300 MiB       2  1.0 s ago

process 7: Go - (heap -)
no NVIDIA driver

the governor's last decisions:
  10:03:09  governor: decision 5\x1b
  10:03:10  governor: decision 6\x1b
  10:03:11  governor: decision 7\x1b
  10:03:12  governor: decision 8\x1b
  10:03:13  governor: decision 9\x1b
  10:03:14  governor: decision 10\x1b
  10:03:15  governor: decision 11\x1b
  10:03:04  embed: others use 30% of gpu:0

what happened to memory last:
  10:03:04  parked: 3 MiB of waiting pictures were written to disk

`
	if got != want {
		t.Errorf("the snapshot is\n%s\nnot\n%s", got, want)
	}
	if none := Snapshot(at, sum, nil, report, Last{}); !strings.Contains(none, "\nthe governor's last decisions: none\n") || strings.Contains(none, "phase 1 of") {
		t.Errorf("without decisions and phases it is\n%s", none)
	}
}

// Quiet is what tells of problems only.
func TestProblemsOnly(t *testing.T) {
	var b buffer
	s := NewScreen(&b, func(string) string { return "" })
	e := s.Events(Problems)
	for _, kind := range []pipeline.EventKind{pipeline.EventPhase, pipeline.EventPaused, pipeline.EventPostponed, pipeline.EventRejected, pipeline.EventYielded, pipeline.EventFailed} {
		e.On(pipeline.Event{Kind: kind, Stage: "score", Item: "a.jpg", Message: string(kind)})
	}
	e.Close()
	if got := b.String(); got != "failed: a.jpg in score: failed\n" {
		t.Errorf("it prints\n%s", got)
	}
}
