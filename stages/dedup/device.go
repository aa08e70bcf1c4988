package dedup

import (
	"fmt"
	"slices"

	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// placing is where the network runs that measures pictures.
type placing struct {
	device pipeline.Device
	card   *network.Stage // on a GPU; nil on the host
	spare  bool           // what has no room on the GPU, the CPU does
}

// asked is the stage with what the engine can ask of it: a writer where it writes files, a
// placer where it has a network to place. Of an entry that stands for several stages, only
// those that are placers get its device.
func (s *Stage) asked() pipeline.Stage {
	writes, measures := len(s.writes()) > 0, s.measuring() >= 0
	switch {
	case writes && measures:
		return struct {
			writer
			placer
		}{writer{s}, placer{s}}
	case writes:
		return writer{s}
	case measures:
		return struct {
			*Stage
			placer
		}{s, placer{s}}
	}
	return s
}

// measuring is the step that measures pictures; -1 where there is none. There is one at
// most, as all are called lpips.
func (s *Stage) measuring() int {
	return slices.IndexFunc(s.by, func(st step) bool { return st.measure == perceived })
}

// placer places the network of a stage that measures pictures.
type placer struct{ stage *Stage }

var _ pipeline.Placer = placer{}

// Place takes the first GPU that the runtime can use, or the CPU. Pictures go through the
// network one by one, as they are asked for: a second GPU would have nothing to do.
func (p placer) Place(want pipeline.Device, have []pipeline.Device) (devices []pipeline.Device, err error) {
	s := p.stage
	s.place = placing{device: pipeline.Host}
	if want == pipeline.Host || want == "" && len(have) == 0 {
		return []pipeline.Device{pipeline.Host}, nil // without a look at the network
	}
	st := s.by[s.measuring()]
	n, err := s.network(st)
	if err == nil {
		devices, err = n.Place(want, have)
	}
	if len(devices) > 1 {
		devices, err = n.Place(want, devices[:1])
	}
	if err != nil {
		return nil, fmt.Errorf("comparing by %s: %w", st.name, err)
	}
	if devices[0] != pipeline.Host {
		s.place = placing{device: devices[0], card: n, spare: want == "" || want == pipeline.Auto}
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
// the plan refuses a stage when there is never room for what is.
func (s *Stage) onCard(d pipeline.Device) pipeline.Cost {
	c := s.place.card.Cost(d, nil)
	if s.place.spare {
		return pipeline.Cost{Work: c.Resident + c.Work}
	}
	return c
}
