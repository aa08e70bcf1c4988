package network

import "github.com/forgepipe/forgepipe/pipeline"

// Division is how a stage divides its work.
type Division struct {
	Lanes, Batch, Threads int // Threads of each run
}

// DividedOn is how the stage would divide its work on that device of a host with so
// many bytes of memory, and what it then keeps of the host for its runs.
func DividedOn(s *Stage, device pipeline.Device, host int64) (d Division, runs int64) {
	s.host = host
	if _, err := s.Place(device, []pipeline.Device{device}); err != nil { // a GPU that is not here
		s.place.Devices = []string{string(device)}
		if err := s.divide(); err != nil {
			panic(err)
		}
	}
	if s.session.Concurrent != s.lanes {
		panic("the session cannot run all lanes at once")
	}
	return Division{s.lanes, s.batch, s.session.Threads}, s.onHost(nil).Resident - s.file.Header.WeightBytes
}
