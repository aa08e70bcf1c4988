package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// place finds out where a step computes.
func (p *Pipeline) place(s *Step) error {
	placer, ok := s.Stage.(Placer)
	switch {
	case p.nowhere, !ok && (s.Device == "" || s.Device == Host || s.Device == Auto):
		s.Device, s.Devices = Host, []Device{Host}
		return nil
	case !ok:
		return fmt.Errorf("it computes on the host only, and not on %s: leave device out", s.Device)
	}
	have := make([]Device, len(p.devices))
	for i, d := range p.devices {
		have[i] = Device(d.Name())
	}
	want := s.Device
	devices, err := placer.Place(want, have)
	if err != nil {
		return err
	}
	if len(devices) == 0 {
		return errors.New("BUG: it wants to compute nowhere")
	}
	for i, d := range devices {
		if d != Host && !slices.Contains(have, d) || d == Host && len(devices) > 1 || slices.Contains(devices[:i], d) {
			return fmt.Errorf("BUG: it wants to compute on %v, and there are %v", devices, have)
		}
	}
	s.Device, s.Devices = devices[0], devices
	roomy := p.roomy(s)
	if len(roomy) == 0 || len(roomy) == len(devices) {
		return nil // the plan says for what there is no room
	}
	p.log.Warn("a stage is not placed on devices that never have room for it", "stage", s.ID, "devices", slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return slices.Contains(roomy, d) }))
	if devices, err = placer.Place(want, roomy); err != nil {
		return err
	}
	s.Device, s.Devices = devices[0], devices
	return nil
}

// roomy are those of a step's devices that can ever hold what it keeps there.
func (p *Pipeline) roomy(s *Step) (devices []Device) {
	coster, ok := s.Stage.(Coster)
	if !ok || s.Device == Host {
		return s.Devices
	}
	for _, d := range s.Devices {
		reading, err := p.read(context.Background(), s, d)
		if err != nil || coster.Cost(d, nil).Resident <= p.mostOn(reading) { // the plan tells the error
			devices = append(devices, d)
		}
	}
	return devices
}

// cardPlan is what the stages of one phase take of the devices beside the host.
type cardPlan map[Device]Cost

// onCards adds a step to the phase, and tells whether it needs another one for want
// of room on one of its devices. It refuses what can never fit.
func (p *Pipeline) onCards(cards *cardPlan, s *Step) (another bool, err error) {
	coster, ok := s.Stage.(Coster)
	if s.Device == Host || !ok {
		return false, nil
	}
	costs := cardPlan{}
	for _, d := range s.Devices {
		reading, err := p.read(context.Background(), s, d)
		if err != nil {
			return false, err
		}
		c := coster.Cost(d, nil)
		have := p.mostOn(reading)
		if c.Resident > have {
			return false, &memory.OversizeError{Device: string(d), Need: c.Resident, Have: have, Holder: "stage " + s.ID}
		}
		now := (*cards)[d]
		costs[d] = Cost{Resident: now.Resident + c.Resident, Work: now.Work + c.Work} // arenas stay while sessions do
		another = another || now.Resident > 0 && costs[d].Resident+costs[d].Work > have
	}
	if another {
		*cards = nil
		_, err := p.onCards(cards, s)
		return true, err
	}
	if *cards == nil {
		*cards = cardPlan{}
	}
	maps.Copy(*cards, costs)
	return false, nil
}

// PlannedDevices are the devices beside the host that stages were placed on, with what the stages
// take of them as far as that can be told before a run; also of what Plan refuses. The
// plan says in which phases they are; it may be nil.
func (p *Pipeline) PlannedDevices(ctx context.Context, plan *Plan) (cards []memory.PlannedDevice, err error) {
	for _, s := range p.steps {
		coster, ok := s.Stage.(Coster)
		if !ok {
			continue
		}
		for _, d := range s.Devices {
			if d == Host {
				continue
			}
			i := slices.IndexFunc(cards, func(c memory.PlannedDevice) bool { return c.Name == string(d) })
			if i < 0 {
				reading, err := p.read(ctx, s, d)
				if err != nil {
					return nil, err
				}
				i, cards = len(cards), append(cards, p.card(d, reading))
			}
			cost := coster.Cost(d, nil)
			cards[i].Tasks = append(cards[i].Tasks, memory.Task{
				Name: "stage " + s.ID, Phase: plan.phaseOf(s.ID), Resident: cost.Resident, Work: cost.Work,
			})
		}
	}
	return cards, nil
}

// read reads the memory of one of a step's devices.
func (p *Pipeline) read(ctx context.Context, s *Step, on Device) (memory.Reading, error) {
	i := slices.IndexFunc(p.devices, func(d memory.Device) bool { return Device(d.Name()) == on })
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	reading, err := p.devices[i].Read(ctx)
	if err == nil && reading.Total <= 0 {
		err = fmt.Errorf("it says that it has %d bytes", reading.Total)
	}
	if err != nil {
		return memory.Reading{}, fmt.Errorf("stage %s: reading the memory of %s: %w", s.ID, on, err)
	}
	return reading, nil
}

// readPatience bounds the wait for a driver.
const readPatience = 10 * time.Second

// deviceLedger is a device beside the host in a run.
type deviceLedger struct {
	name   Device
	ledger *memory.Ledger
	detach func()      // takes the ledger off the manager of memory
	before int64       // bytes of residency a tick ago
	beside int64       // bytes that the process has of the device beside what is leased: a GPU's context, libraries
	others *busyDevice // that the run holds back for; nil: for nobody

	leased  int64     // bytes, a tick ago
	changed time.Time // when that was another figure
	expects memory.Neighbours
	read    time.Time   // of the last reading that they were told of
	scarce  atomic.Bool // others have taken all that was free
}

// openDevices makes the ledgers of the devices that stages were placed on.
func (r *run) openDevices(ctx context.Context) error {
	for _, s := range r.pipe.steps {
		for _, on := range s.Devices {
			if on == Host || r.device(on) != nil {
				continue
			}
			if _, ok := r.memory.Monitor().Sample(string(on)); !ok {
				return fmt.Errorf("stage %s: RunOptions.Memory does not watch %s: give memory.NewManager the devices of the pipeline's Options", s.ID, on)
			}
			reading, err := r.pipe.read(ctx, s, on)
			if err != nil {
				return err
			}
			// What others have now they may give back: only what the device never has room
			// for is refused.
			d := &deviceLedger{name: on, ledger: memory.NewLedger(string(on), r.pipe.mostOn(reading))}
			if reading.Free != memory.Unknown {
				d.ledger.SetLimit(reading.Free - r.pipe.gpuHeadroom(reading.Total))
			}
			d.detach = r.memory.Attach(d.ledger)
			if w := r.pipe.WhenBusy; w != "" && w != memory.ShareWhenBusy {
				d.others = newBusyDevice(w)
			}
			r.devices = append(r.devices, d)
		}
	}
	return nil
}

// device is one that stages were placed on; nil for the host and others.
func (r *run) device(d Device) *deviceLedger {
	if i := slices.IndexFunc(r.devices, func(l *deviceLedger) bool { return l.name == d }); i >= 0 {
		return r.devices[i]
	}
	return nil
}

// ahead is how far ahead what others will have is expected: to the next reading, and
// for a run.
const ahead = 5 * governTick

// followDevices sets the ledgers' limits to what the devices allow now.
func (r *run) followDevices(now time.Time) {
	for _, d := range r.devices {
		s, ok := r.memory.Monitor().Sample(string(d.name))
		d.others.note(s)
		if !ok || !s.Known() {
			continue // what is not known changes nothing
		}
		free := s.Available(now)
		if free == memory.Unknown {
			continue
		}
		u := d.ledger.Usage()
		leased := u.Residency + u.Work
		own := s.Own
		steady := leased == d.leased && !d.changed.After(s.At)
		if leased != d.leased {
			d.leased, d.changed = leased, now
		}
		switch {
		case own == memory.Unknown && !steady:
			continue // which part of that is our own, that reading does not tell
		case own == memory.Unknown:
			own = leased
		case u.Work == 0 && u.Residency == d.before: // nothing is on the way, nor was when that was read
			d.beside = max(own-u.Residency, 0)
		}
		d.before = u.Residency
		headroom := r.pipe.gpuHeadroom(s.Total)
		d.scarce.Store(free < headroom/4)
		// What it has already and what is free, less what others are expected to take.
		others := max(s.Total-max(s.Reserved, 0)-own-free, 0)
		if s.At.After(d.read) {
			d.read = s.At
			d.expects.Observe(s.At, others, s.Total)
		}
		limit := d.allowed(own-d.beside+free+others, headroom)
		limit = min(limit, r.pipe.mostOn(s.Reading)) // leases come before what they are for
		if change := limit - u.Limit; max(change, -change) > s.Total/16 {
			r.event(EventLimit, "", "", fmt.Sprintf("of %s the run may now use %s, and before %s", d.name, memory.FormatBytes(limit), memory.FormatBytes(u.Limit)))
		}
		d.ledger.SetLimit(limit)
	}
}

// allowed is the limit where the run and others have all bytes together. For others who
// are expected to come again nothing stands still while the memory is free: what is leased
// stays, and who is first in line gets what it lacks.
func (d *deviceLedger) allowed(all, headroom int64) int64 {
	limit := max(all-d.expects.Expect(ahead, headroom), 0)
	u := d.ledger.Usage()
	floor := u.Residency + u.Work
	if _, lacks, ok := d.ledger.First(); ok {
		floor = max(floor, u.Limit+lacks)
	}
	return max(limit, min(all-d.expects.Soon(ahead, headroom), floor))
}

// mostOn is what the run may have of a device that it has to itself.
func (p *Pipeline) mostOn(s memory.Reading) int64 { return p.card("", s).Room() }

// card is a device without its tasks.
func (p *Pipeline) card(name Device, s memory.Reading) memory.PlannedDevice {
	return memory.PlannedDevice{Name: string(name), Total: s.Total, Reserved: s.Reserved, Headroom: p.gpuHeadroom(s.Total)}
}

// gpuHeadroom is what stays free of a device.
func (p *Pipeline) gpuHeadroom(total int64) int64 {
	if p.GPUHeadroom > 0 {
		return p.GPUHeadroom
	}
	return memory.DeviceHeadroom(total)
}
