package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// place finds out where a step computes.
func (p *Pipeline) place(s *Step) error {
	placer, ok := s.Stage.(Placer)
	switch {
	case p.nowhere:
		s.Device = Host
		return nil
	case !ok && (s.Device == "" || s.Device == Host || s.Device == Auto):
		s.Device = Host
		return nil
	case !ok:
		return fmt.Errorf("it computes on the host only, and not on %s: leave device out", s.Device)
	}
	have := make([]Device, len(p.devices))
	for i, d := range p.devices {
		have[i] = Device(d.Name())
	}
	d, err := placer.Place(s.Device, have)
	if err != nil {
		return err
	}
	if d != Host && !slices.Contains(have, d) {
		return fmt.Errorf("BUG: it wants to compute on %s, which is not there", d)
	}
	s.Device = d
	return nil
}

// cardPlan is what the stages of one phase take of the devices beside the host.
type cardPlan map[Device]Cost

// onCard adds a step to the phase, and tells whether it needs another one for want
// of room on its device. It refuses what can never fit.
func (p *Pipeline) onCard(cards *cardPlan, s *Step) (another bool, err error) {
	coster, ok := s.Stage.(Coster)
	if s.Device == Host || !ok {
		return false, nil
	}
	reading, err := p.read(context.Background(), s)
	if err != nil {
		return false, err
	}
	c := coster.Cost(s.Device, nil)
	have := p.mostOn(reading)
	if c.Resident > have {
		return false, &memory.OversizeError{Device: string(s.Device), Need: c.Resident, Have: have, Holder: "stage " + s.ID}
	}
	now := (*cards)[s.Device]
	sum := Cost{Resident: now.Resident + c.Resident, Work: now.Work + c.Work} // arenas stay while sessions do
	if another = now.Resident > 0 && sum.Resident+sum.Work > have; another {
		*cards, sum = nil, c
	}
	if *cards == nil {
		*cards = cardPlan{}
	}
	(*cards)[s.Device] = sum
	return another, nil
}

// read reads the memory of a step's device.
func (p *Pipeline) read(ctx context.Context, s *Step) (memory.Reading, error) {
	i := slices.IndexFunc(p.devices, func(d memory.Device) bool { return Device(d.Name()) == s.Device })
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	reading, err := p.devices[i].Read(ctx)
	if err == nil && reading.Total <= 0 {
		err = fmt.Errorf("it says that it has %d bytes", reading.Total)
	}
	if err != nil {
		return memory.Reading{}, fmt.Errorf("stage %s: reading the memory of %s: %w", s.ID, s.Device, err)
	}
	return reading, nil
}

// readPatience bounds the wait for a driver.
const readPatience = 10 * time.Second

// deviceLedger is a device beside the host in a run.
type deviceLedger struct {
	name   Device
	ledger *memory.Ledger
	detach func() // takes the ledger off the manager of memory
	before int64  // bytes of residency a tick ago
	beside int64  // bytes that the process has of the device beside what is leased: a GPU's context, libraries
}

// openDevices makes the ledgers of the devices that stages were placed on.
func (r *run) openDevices(ctx context.Context) error {
	for _, s := range r.pipe.steps {
		if s.Device == Host || slices.ContainsFunc(r.devices, func(d *deviceLedger) bool { return d.name == s.Device }) {
			continue
		}
		if _, ok := r.memory.Monitor().Sample(string(s.Device)); !ok {
			return fmt.Errorf("stage %s: RunOptions.Memory does not watch %s: give memory.NewManager the devices of the pipeline's Options", s.ID, s.Device)
		}
		reading, err := r.pipe.read(ctx, s)
		if err != nil {
			return err
		}
		// What others have now they may give back: only what the device never has room
		// for is refused.
		d := &deviceLedger{name: s.Device, ledger: memory.NewLedger(string(s.Device), r.pipe.mostOn(reading))}
		if reading.Free != memory.Unknown {
			d.ledger.SetLimit(reading.Free - r.pipe.gpuHeadroom(reading.Total))
		}
		d.detach = r.memory.Attach(d.ledger)
		r.devices = append(r.devices, d)
	}
	return nil
}

// followDevices sets the ledgers' limits to what the devices allow now.
func (r *run) followDevices(now time.Time) {
	for _, d := range r.devices {
		s, ok := r.memory.Monitor().Sample(string(d.name))
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
		switch {
		case own == memory.Unknown:
			own = leased
		case u.Work == 0 && u.Residency == d.before: // nothing is on the way, nor was when that was read
			d.beside = max(own-u.Residency, 0)
		}
		d.before = u.Residency
		// What it has already and what is free, less what is left to others' next step.
		limit := max(own-d.beside+free-r.pipe.gpuHeadroom(s.Total), 0)
		if change := limit - u.Limit; max(change, -change) > s.Total/16 {
			r.event(EventLimit, "", "", fmt.Sprintf("of %s the run may now use %s, and before %s", d.name, memory.FormatBytes(limit), memory.FormatBytes(u.Limit)))
		}
		d.ledger.SetLimit(limit)
	}
}

// mostOn is what the run may have of a device that it has to itself.
func (p *Pipeline) mostOn(s memory.Reading) int64 {
	return max(s.Total-max(s.Reserved, 0)-p.gpuHeadroom(s.Total), 0)
}

// gpuHeadroom is what stays free of a device: a sixteenth of it up to 8 GiB, then
// 512 MiB, and a thirty-second from 16 GiB on, unless the pipeline says something else.
func (p *Pipeline) gpuHeadroom(total int64) int64 {
	if p.GPUHeadroom > 0 {
		return p.GPUHeadroom
	}
	return max(total/32, min(total/16, 512<<20))
}
