package dedup

import (
	"fmt"
	"slices"

	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// placing is where the networks of the steps that measure pictures run.
type placing struct {
	device pipeline.Device        // the host, or a GPU
	cards  map[int]*network.Stage // on the GPU: by the steps' places in by
	spare  bool                   // where the GPU has no room, the CPU does it
}

// asked is the stage with what the engine can ask of it: a writer where it writes files, a
// placer where it has a network to place.
func (s *Stage) asked() pipeline.Stage {
	writes := len(s.writes()) > 0
	switch {
	case writes && s.perceives():
		return struct {
			writer
			placer
		}{writer{s}, placer{s}}
	case writes:
		return writer{s}
	case s.perceives():
		return struct {
			*Stage
			placer
		}{s, placer{s}}
	}
	return s
}

func (s *Stage) perceives() bool {
	return slices.ContainsFunc(s.by, func(st step) bool { return st.measure == perceived })
}

// placer places the networks of a stage that measures pictures.
type placer struct{ stage *Stage }

var _ pipeline.Placer = placer{}

// Place takes the first GPU that the runtime can use, or the CPU. Pictures go through the
// network one by one, as they are asked for: a second GPU would have nothing to do.
func (p placer) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	s := p.stage
	s.place = placing{device: pipeline.Host}
	if want == pipeline.Host || want == "" && len(have) == 0 {
		return []pipeline.Device{pipeline.Host}, nil // without a look at the networks
	}
	found := placing{cards: map[int]*network.Stage{}, spare: want == "" || want == pipeline.Auto}
	for _, st := range s.by {
		if st.measure != perceived {
			continue
		}
		n, err := s.network(st)
		if err != nil {
			return nil, fmt.Errorf("comparing by %s: %w", st.name, err)
		}
		devices, err := n.Place(want, have)
		if err == nil && len(devices) > 1 {
			devices, err = n.Place(want, devices[:1])
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("comparing by %s: %w", st.name, err)
		case devices[0] == pipeline.Host: // and so for all of them
			return devices, nil
		}
		found.device, found.cards[st.at] = devices[0], n
	}
	s.place = found
	return []pipeline.Device{found.device}, nil
}

// network runs the network of a step on a GPU as stages of networks do: with leases, one
// picture at a time, and on the CPU what has no room where that is allowed. It is opened
// and closed by Flush, and never gets an item.
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

// onCard is what Flush takes of a GPU. Where the CPU may do it instead, nothing of that is
// resident in the sense of the plan, which refuses a stage that never has room for what is;
// all of it counts for whether what else the phase has on the GPU leaves enough.
func (s *Stage) onCard(d pipeline.Device) (all pipeline.Cost) {
	for _, n := range s.place.cards {
		c := n.Cost(d, nil)
		all.Resident += c.Resident
		all.Work += c.Work
	}
	if s.place.spare {
		all = pipeline.Cost{Work: all.Resident + all.Work}
	}
	return all
}
