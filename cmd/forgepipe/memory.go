package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/nvml"
)

// machine is the memory of this process: its manager, and the GPUs it can see.
type machine struct {
	manager *memory.Manager
	driver  *nvml.Driver // nil: none
	nvidia  control.NVIDIA
}

// driverPatience is how long a driver may take to answer at the start. One that
// takes longer is done without.
const driverPatience = 2 * time.Second

// openMachine sets the manager of memory up. processWide is for a run, which has
// the process for itself.
func openMachine(log *slog.Logger, processWide bool) *machine {
	m := &machine{}
	var devices []memory.Device
	driver, err := nvml.Open(nvml.Options{Timeout: driverPatience})
	switch {
	case err == nil:
		m.driver, m.nvidia.Driver = driver, driver.Version
		for _, g := range driver.Devices() {
			devices = append(devices, g)
		}
	case errors.Is(err, nvml.ErrNoDriver):
		m.nvidia.Problem = err.Error()
	default:
		m.nvidia.Problem = err.Error()
		log.Info("NVIDIA GPUs are not used", "cause", err)
	}
	m.manager = memory.NewManager(memory.Options{Devices: devices, ProcessWide: processWide, Log: log})
	return m
}

// close gives everything back. It may be called more than once.
func (m *machine) close() {
	_ = m.manager.Close()
	if m.driver != nil {
		_ = m.driver.Close()
	}
}

// refresh reads every device anew.
func (m *machine) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, driverPatience)
	defer cancel()
	for _, s := range m.manager.State() {
		_, _ = m.manager.Monitor().Refresh(ctx, s.Device) // its error is in the state
	}
}

// Memory is what devices and process have now.
func (m *machine) Memory() control.Report {
	now := time.Now()
	r := control.Report{Devices: []control.Device{}, NVIDIA: m.nvidia}
	for _, s := range m.manager.State() {
		r.Devices = append(r.Devices, deviceOf(s, now))
	}
	host, err := memory.Host{}.Memory()
	if err == nil && len(r.Devices) > 0 {
		r.Devices[0].Source = host.Source
	}
	p := memory.Host{}.Process()
	r.Process = control.Process{PID: os.Getpid(), RSS: known(p.RSS), Go: known(p.Go), GoHeap: known(p.GoHeap), Other: known(p.Other)}
	return r
}

func deviceOf(s memory.DeviceState, now time.Time) control.Device {
	d := control.Device{Device: s.Device, Description: s.Description, Holders: []control.Holder{}}
	if s.Known() {
		d.Physical, d.Total, d.Used = known(s.Physical), known(s.Total), known(s.Used)
		d.Free, d.Reserved, d.Own = known(s.Free), known(s.Reserved), known(s.Own)
		if s.Stalled >= 0 {
			d.Stalled = &s.Stalled
		}
		age := now.Sub(s.At).Seconds()
		d.AgeSeconds = &age
	}
	if s.Err != nil {
		d.Error = s.Err.Error()
	}
	if !s.Leased {
		return d
	}
	leased, limit := s.Usage.Residency+s.Usage.Work, s.Usage.Limit
	d.Leased, d.Limit, d.Waiting = &leased, &limit, s.Usage.Waiting
	by := map[string]*control.Holder{}
	for _, h := range s.Holders {
		key := h.Holder + "\x00" + h.Kind.String()
		one := by[key]
		if one == nil {
			one = &control.Holder{Holder: h.Holder, Kind: h.Kind.String(), Since: h.Since}
			by[key] = one
		}
		one.Bytes += h.Bytes
		one.Leases++
		if h.Since.Before(one.Since) {
			one.Since = h.Since
		}
	}
	for _, h := range by {
		d.Holders = append(d.Holders, *h)
	}
	slices.SortFunc(d.Holders, func(a, b control.Holder) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Holder, b.Holder), cmp.Compare(a.Kind, b.Kind))
	})
	return d
}

// known is a figure for JSON, null where it is not known.
func known(n int64) *int64 {
	if n == memory.Unknown {
		return nil
	}
	return &n
}

// Clear cleans up.
func (m *machine) Clear(ctx context.Context) control.Cleaned {
	return cleanedOf(m.manager.Clean(ctx, "asked for"))
}

func cleanedOf(c memory.Cleaned) control.Cleaned {
	out := control.Cleaned{Why: c.Why, At: c.At, Seconds: c.Took.Seconds(), Devices: []control.CleanedDevice{}, Steps: []control.CleanedStep{}}
	for _, d := range c.Devices {
		one := control.CleanedDevice{Device: d.Device, Before: known(d.Before), After: known(d.After)}
		if one.Before != nil && one.After != nil {
			one.Freed = &d.Freed
		}
		out.Devices = append(out.Devices, one)
	}
	for _, s := range c.Steps {
		one := control.CleanedStep{Name: s.Name, Device: s.Device, Freed: known(s.Freed)}
		if s.Err != nil {
			one.Error = s.Err.Error()
		}
		out.Steps = append(out.Steps, one)
	}
	return out
}
