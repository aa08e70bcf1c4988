package dedup

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// runsOn is where vectors are compared, and where the network runs that measures pictures.
type runsOn struct {
	device pipeline.Device
	card   *network.Stage // of LPIPS, on a GPU; nil: there is none, or it is on the host
	spare  bool           // what has no room on the GPU, the CPU does
}

// forEngine is the stage with the interfaces that the engine is to find: a writer where it
// writes files, a placer where it searches among vectors or measures pictures. Of an entry
// that stands for several stages, only those that are placers get its device.
func (s *Stage) forEngine() pipeline.Stage {
	writes, computes := len(s.writes()) > 0, s.measuring() >= 0 || slices.ContainsFunc(s.by, step.searches)
	switch {
	case writes && computes:
		return struct {
			writer
			placer
		}{writer{s}, placer{s}}
	case writes:
		return writer{s}
	case computes:
		return struct {
			*Stage
			placer
		}{s, placer{s}}
	}
	return s
}

// searches tells whether all vectors are compared by the step. One that confirms compares two.
func (st step) searches() bool { return st.vector != "" && !st.confirms }

// measuring is the step that measures pictures; -1 where there is none. There is one at
// most, as all are called lpips.
func (s *Stage) measuring() int {
	return slices.IndexFunc(s.by, func(st step) bool { return st.measure == perceived })
}

// placer places a stage that searches among vectors or measures pictures.
type placer struct{ stage *Stage }

var _ pipeline.Placer = placer{}

// Place takes the first GPU that the runtime can use and that has room, or the CPU. One block of vectors after
// another is compared, and one picture after another goes through the network, as they are
// asked for: a second GPU would have nothing to do.
func (p placer) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	s := p.stage
	s.runsOn = runsOn{device: pipeline.Host}
	if want == pipeline.Host || want == "" && len(have) == 0 {
		return []pipeline.Device{pipeline.Host}, nil // without a look at the network
	}
	var card *network.Stage
	place, by := s.placeSearch, "vectors"
	if at := s.measuring(); at >= 0 {
		var err error
		by = s.by[at].name
		if card, err = s.network(s.by[at]); err != nil {
			return nil, fmt.Errorf("comparing by %s: %w", by, err)
		}
		place = card.Place
	}
	devices, err := place(want, have)
	if len(devices) > 1 {
		s.runsOn.card = card
		devices, err = place(want, []pipeline.Device{s.firstWithRoom(devices)})
	}
	if err != nil {
		return nil, fmt.Errorf("comparing by %s: %w", by, err)
	}
	s.runsOn = runsOn{device: devices[0]}
	if devices[0] != pipeline.Host {
		s.runsOn.card, s.runsOn.spare = card, want == "" || want == pipeline.Auto
	}
	return devices, nil
}

// firstWithRoom is the first GPU that can ever hold what the stage takes of one; where none
// can, that is the plan's to say of the first.
func (s *Stage) firstWithRoom(devices []pipeline.Device) pipeline.Device {
	for _, d := range devices {
		ctx, cancel := context.WithTimeout(context.Background(), cardPatience)
		r, err := s.env.Device(d).Read(ctx)
		cancel()
		card := memory.PlannedDevice{Total: r.Total, Reserved: r.Reserved}
		if c := s.onCard(d); err == nil && c.Resident+c.Work <= card.Room() {
			return d
		}
	}
	return devices[0]
}

// placeSearch places a stage that has no network.
func (s *Stage) placeSearch(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	r, err := model.OpenRuntime(s.library)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	names := make([]string, len(have))
	for i, d := range have {
		names[i] = string(d)
	}
	p, err := r.Place(string(want), names)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	if p.Why != "" && (want == pipeline.Auto || len(have) > 0) {
		s.env.Log.Info("vectors are compared on the CPU", "cause", p.Why)
	}
	devices := make([]pipeline.Device, len(p.Devices))
	for i, d := range p.Devices {
		devices[i] = pipeline.Device(d)
	}
	return devices, nil
}

// network runs the network of a step on a GPU as stages of networks do: with leases, one
// picture at a time, and on the CPU what has no room where that is allowed. Flush opens and
// closes it, and it never gets an item.
func (s *Stage) network(st step) (*network.Stage, error) {
	files, err := lpipsFiles(st.model)
	if err != nil {
		return nil, err
	}
	f, err := lpips.File(st.side, files...)
	if err != nil {
		return nil, err
	}
	return network.NewParts(s.env, f, network.Options{Doing: "comparing by " + st.name, Batch: 1, Library: s.library}, nil)
}

// onCard is what Flush takes of a GPU. All of it counts for whether what else the phase has
// there leaves enough. Where the CPU may do it instead, nothing of it is called resident:
// the plan refuses a stage when there is never room for what is. Nor is the search, as only
// the run finds out whether there are so many vectors that it is worth the way.
func (s *Stage) onCard(d pipeline.Device) (c pipeline.Cost) {
	if s.runsOn.card != nil {
		c = s.runsOn.card.Cost(d, nil)
	}
	if s.runsOn.spare {
		c = pipeline.Cost{Work: c.Resident + c.Work}
	}
	for _, st := range s.by {
		if st.searches() {
			c.Work += nearest.DeviceRoom(s.env.Vectors[st.vector])
		}
	}
	return c
}

// leastOnCard is of how many vectors the search is worth a session on a GPU, which has to be
// loaded and checked: fewer take the CPU about a second. It is a variable for tests.
var leastOnCard int64 = 25_000

// cardPatience is how long room on a GPU is waited for. Who has it may keep it, and the CPU
// can begin meanwhile.
const cardPatience = 5 * time.Second

// searchRoom is what the search among the vectors of all steps takes of the GPU that the
// stage is placed on; 0: the CPU does it.
func (s *Stage) searchRoom(all totals) (bytes int64) {
	if s.runsOn.device == pipeline.Host || all.items+all.entries < leastOnCard {
		return 0
	}
	for i, st := range s.by {
		if st.searches() && all.vectors[i].dim > 0 {
			bytes += nearest.DeviceRoom(all.vectors[i].dim)
		}
	}
	return bytes
}

// leaseSearch leases that, as residency: while it is held, the network of LPIPS may wait for
// memory of the same GPU. So that this does not wait for the search, which lasts as long,
// there must have been room for both. The lease is nil where the CPU does it.
func (s *Stage) leaseSearch(ctx context.Context, all totals) (*memory.Lease, error) {
	need, ledger := s.searchRoom(all), s.env.Ledger(s.runsOn.device)
	if need == 0 || ledger == nil {
		return nil, nil
	}
	both := need
	if card := s.runsOn.card; card != nil {
		c := card.Cost(s.runsOn.device, nil)
		both += c.Resident + c.Work
	}
	patient, cancel := context.WithTimeout(ctx, cardPatience)
	defer cancel()
	lease, err := ledger.Acquire(patient, memory.Request{Kind: memory.Residency, Bytes: both, Holder: "stage " + s.env.StageID})
	switch {
	case err == nil:
		lease.Resize(need)
		return lease, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	// The result is the same, so that this is no reason to end a run that may have taken hours.
	s.env.Log.Warn("vectors are compared on the CPU, and not on the device: there is no room", "device", s.runsOn.device, "cause", err)
	return nil, nil
}

// openSearch gives what loads the graph of a search on the GPU, within its lease.
func (s *Stage) openSearch(dim, threads int) func(context.Context, []byte) (model.Session, error) {
	return func(ctx context.Context, graph []byte) (model.Session, error) {
		session, err := model.LoadGraph(ctx, graph, model.SessionOptions{
			Library: s.library, Device: string(s.runsOn.device), Threads: threads, ArenaLimit: nearest.DeviceRoom(dim), Log: s.env.Log,
		})
		if err != nil {
			return nil, err
		}
		if card, ok := s.env.Device(s.runsOn.device).(*sim.Device); ok {
			session = model.Simulated(session, card)
		}
		return &courteous{Session: session, courtesy: s.env.Courtesy(s.runsOn.device)}, nil
	}
}

// courteous is a session that leaves the device to others as the run is told to.
type courteous struct {
	model.Session
	mu       sync.Mutex // the device computes one run at a time, and so is asked about one
	courtesy memory.Courtesy
}

// Run runs when the device may be had.
func (c *courteous) Run(ctx context.Context, in []*model.Tensor, o model.SessionRun) ([]*model.Tensor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.courtesy.Wait(ctx, nil); err != nil {
		return nil, err
	}
	defer c.courtesy.Begin()()
	return c.Session.Run(ctx, in, o)
}
