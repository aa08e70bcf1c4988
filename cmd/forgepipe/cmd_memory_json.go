package main

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/memory"
)

// figure is null where a figure is not known.
func figure(n int64) *int64 {
	if n == memory.Unknown {
		return nil
	}
	return &n
}

// deviceOf is a device as programs get it.
func deviceOf(s memory.DeviceState, now time.Time) control.Device {
	d := control.Device{Device: s.Device, Description: s.Description, Holders: holdersOf(s.Holders)}
	if s.Known() {
		d.Physical, d.Total, d.Used, d.Free = figure(s.Physical), figure(s.Total), figure(s.Used), figure(s.Free)
		d.Reserved, d.Own = figure(s.Reserved), figure(s.Own)
		if s.Stalled != memory.Unknown {
			d.Stalled = &s.Stalled
		}
		if s.Busy != memory.Unknown {
			d.Busy = &s.Busy
		}
		age := max(now.Sub(s.At).Seconds(), 0)
		d.AgeSeconds = &age
	}
	if s.Err != nil {
		d.Error = s.Err.Error()
	}
	if s.Leased {
		leased := s.Usage.Residency + s.Usage.Work
		d.Leased, d.Limit, d.Waiting = &leased, &s.Usage.Limit, s.Usage.Waiting
	}
	return d
}

// holdersOf adds up what each holder has: a stage has a lease for each picture
// and each call.
func holdersOf(all []memory.Holding) []control.Holder {
	type key struct {
		holder string
		kind   memory.Kind
	}
	at := map[key]int{}
	out := []control.Holder{}
	for _, h := range all {
		k := key{h.Holder, h.Kind}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, control.Holder{Holder: h.Holder, Kind: h.Kind.String(), Since: h.Since})
		}
		out[i].Bytes += h.Bytes
		out[i].Leases++
		if h.Since.Before(out[i].Since) {
			out[i].Since = h.Since
		}
	}
	slices.SortFunc(out, func(a, b control.Holder) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Holder, b.Holder), strings.Compare(a.Kind, b.Kind))
	})
	return out
}

func processOf(p memory.ProcessMemory) control.Process {
	return control.Process{PID: os.Getpid(), RSS: figure(p.RSS), Go: figure(p.Go), GoHeap: figure(p.GoHeap), Other: figure(p.Other)}
}

func cleanedOf(c memory.Cleaned) control.Cleaned {
	out := control.Cleaned{
		Why: c.Why, At: c.At, Seconds: c.Took.Seconds(),
		Devices: []control.CleanedDevice{}, Steps: []control.CleanedStep{},
	}
	for _, d := range c.Devices {
		x := control.CleanedDevice{Device: d.Device, Before: figure(d.Before), After: figure(d.After)}
		if x.Before != nil && x.After != nil {
			x.Freed = &d.Freed
		}
		out.Devices = append(out.Devices, x)
	}
	for _, s := range c.Steps {
		x := control.CleanedStep{Name: s.Name, Device: s.Device, Freed: figure(s.Freed)}
		if s.Err != nil {
			x.Error = s.Err.Error()
		}
		out.Steps = append(out.Steps, x)
	}
	return out
}
