package network

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"path/filepath"
	"runtime"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Open takes a part in the network's Runner, which stages of the same network and
// options share. The network is loaded with the first batch.
func (s *Stage) Open(context.Context, pipeline.Device) error {
	key := fmt.Sprintf("model %s %v on %v, CPU too %t, %d lanes, batch %d most %d sized %t worth %d threads %d %s", s.file.Hash, s.file.OutputNames(), s.place.Devices, s.place.CPUToo, s.lanes, s.o.Batch, s.batch, s.sized, s.worth(), s.session.Threads, s.session.Library)
	v, release, err := s.env.Share(key, func() (any, func() error, error) {
		r := model.NewRunner(s.runnerOptions())
		return r, r.Close, nil
	})
	if err != nil {
		return err
	}
	s.runner, s.release = v.(*model.Runner), release
	return nil
}

// Close gives the stage's part back; with the last one the network is unloaded.
func (s *Stage) Close() error {
	if s.release == nil {
		return nil
	}
	return s.release()
}

// worth is how many bytes of parts a run is worth: those of the largest.
func (s *Stage) worth() int64 {
	if s.o.Part == (image.Point{}) {
		return 0
	}
	in, _ := s.partBytes()
	return in
}

func (s *Stage) runnerOptions() model.RunnerOptions {
	o := model.RunnerOptions{
		Type:  s.file.ElementType(),
		Batch: cmp.Or(s.file.Batch, s.o.Batch), Fixed: s.file.Batch > 0, Shrink: !s.sized,
		Worth: s.worth(), Governor: s.env.Governor(),
		Name: filepath.Base(s.file.Path), Log: s.env.Log,
	}
	if !s.sized {
		o.Batch = cmp.Or(s.file.Batch, 1)
	}
	if s.o.Fit != nil {
		o.Most = s.batch // their tensors are in the host's memory, and large
	}
	// Without a bound the system would end the process where the runtime can say that
	// there is no more.
	host, cost, room := s.session, s.onHost(nil).Resident, max(s.env.HostRoom(), leastArena)
	host.Device, host.ArenaLimit = string(pipeline.Host), cost+room
	host.Concurrent = max(s.lanes, len(s.place.Devices))
	onHost := model.Shared(func(ctx context.Context) (model.Session, error) { return s.file.Load(ctx, host) })
	if s.place.Devices[0] == string(pipeline.Host) {
		o.Most = s.batch // the plan counts on that
		o.Devices = []model.RunnerDevice{{
			Device: string(pipeline.Host), Key: s.key(pipeline.Host), Open: onHost, Lanes: s.lanes,
			Budget: cost + room - s.file.Header.WeightBytes,
		}}
		return o
	}
	if s.place.CPUToo {
		o.Fallback = onHost
	}
	for _, d := range s.place.Devices {
		o.Devices = append(o.Devices, s.seat(pipeline.Device(d)))
	}
	return o
}

// seat is a GPU, or a simulated one.
func (s *Stage) seat(d pipeline.Device) model.RunnerDevice {
	session := s.session
	session.Device = string(d)
	seat := model.RunnerDevice{
		Device: string(d), Key: s.key(d), MostLanes: 2, // one computes while the other copies
		Open:   func(ctx context.Context) (model.Session, error) { return s.file.Load(ctx, session) },
		Ledger: s.env.Ledger(d), Weights: s.file.Header.WeightBytes,
		Scarce:   func() bool { return s.env.Scarce(d) },
		Courtesy: func() memory.Courtesy { return s.env.Courtesy(d) },
	}
	if card, ok := s.env.Device(d).(*sim.Device); ok {
		// It is an arena on the CPU that is as large as the card.
		seat.Cap = func() int64 { return seat.Ledger.Usage().Limit }
		seat.Open = func(ctx context.Context) (model.Session, error) {
			capped := session
			capped.ArenaLimit = max(seat.Cap(), 1) // 0 would be none
			loaded, err := s.file.Load(ctx, capped)
			return model.Simulated(loaded, card), err
		}
	}
	return seat
}

// key is what runs on a device cost the same under.
func (s *Stage) key(d pipeline.Device) string {
	kind := fmt.Sprintf("%s of %d threads", runtime.GOARCH, runtime.NumCPU())
	if m, ok := s.env.Device(d).(memory.Described); ok {
		kind = m.Description()
	}
	return fmt.Sprintf("%s %v, %d lanes of %d threads, ONNX Runtime %s on %s", s.file.Hash, s.file.OutputNames(), s.lanes, s.session.Threads, s.runtime.Version, kind)
}
