package memory

import (
	"fmt"
	"strings"
)

// PlannedDevice is a device beside the host, such as a GPU, and what tasks take of it.
type PlannedDevice struct {
	Name     string // "gpu:0", "sim:0"
	Total    int64  // bytes
	Reserved int64  // bytes that driver and firmware have; Unknown: none
	Headroom int64  // bytes that stay free for others; 0: DeviceHeadroom
	// Tasks are those that compute on it. Resident is what their networks' weights take
	// of the device, and Work what runs are expected to take beside them. That stays too:
	// a runtime keeps it for the next run.
	Tasks []Task
}

// DeviceHeadroom is what stays free of a device of so many bytes for the next step of
// others, where nobody says something else: a sixteenth of it up to 8 GiB, then 512 MiB,
// and a thirty-second from 16 GiB on.
func DeviceHeadroom(total int64) int64 { return max(total/32, min(total/16, 512<<20)) }

// Room is what tasks may have of the device, in bytes.
func (c PlannedDevice) Room() int64 {
	headroom := c.Headroom
	if headroom <= 0 {
		headroom = DeviceHeadroom(c.Total)
	}
	return max(c.Total-max(c.Reserved, 0)-headroom, 0)
}

// Together is what all tasks take of the device when they are there at once, in bytes.
func (c PlannedDevice) Together() (bytes int64) {
	for _, t := range c.Tasks {
		bytes += t.Resident + t.Work
	}
	return bytes
}

// deviceSizes are those that GPUs have, in GiB, as they report them.
var deviceSizes = []int64{1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 140, 178}

// Size is how large a device has to be to give tasks so much room, in bytes: the smallest
// of the sizes that there are. There may be none.
func (c PlannedDevice) Size(room int64) (total int64, ok bool) {
	for _, size := range deviceSizes {
		if c.Total = size << 30; c.Room() >= room {
			return c.Total, true
		}
	}
	return 0, false
}

// crowded tells whether the device has no room for all its tasks at once.
func (c PlannedDevice) crowded() bool { return len(c.Tasks) > 1 && c.Together() > c.Room() }

// names are those of its tasks.
func (c PlannedDevice) names() string {
	names := make([]string, len(c.Tasks))
	for i, t := range c.Tasks {
		names[i] = t.Name
	}
	return strings.Join(names, ", ")
}

// phases counts those that its tasks are in.
func (c PlannedDevice) phases() int {
	in := map[int]bool{}
	for _, t := range c.Tasks {
		in[t.Phase] = true
	}
	return len(in)
}

// devices looks at each device for what has no room on it, or not beside the others.
func (a *advisor) devices() {
	for _, c := range a.Devices {
		if a.alone(c) && c.crowded() {
			a.apart(c)
		}
	}
}

// alone looks at each task of a device as though it had the device to itself, and tells
// whether the weights of all have room then.
func (a *advisor) alone(c PlannedDevice) (all bool) {
	room := c.Room()
	all = true
	for _, t := range c.Tasks {
		need := t.Resident + t.Work
		if need <= room {
			continue
		}
		x := Advice{
			What: fmt.Sprintf("%s has less room on %s than its runs are expected to take, so that its batches become smaller", t.Name, c.Name),
			Why: fmt.Sprintf("its weights take %s and its runs about %s, and of %s networks may have %s",
				FormatBytes(t.Resident), FormatBytes(t.Work), FormatBytes(c.Total), FormatBytes(room)),
		}
		if t.Resident > room {
			x.What = fmt.Sprintf("%s is refused, as its weights have no room on %s", t.Name, c.Name)
			x.Name, all = t.Name, false
		}
		a.larger(x, c, need, "weights and runs would have room")
	}
	return all
}

// apart is about a device that has room for the weights of each task, and not for all tasks
// at once.
func (a *advisor) apart(c PlannedDevice) {
	x := Advice{
		What: fmt.Sprintf("%s share %s in %d phases, with all items waiting on disk between them", c.names(), c.Name, c.phases()),
		Why: fmt.Sprintf("together their weights and runs take about %s, and of %s networks may have %s",
			FormatBytes(c.Together()), FormatBytes(c.Total), FormatBytes(c.Room())),
	}
	effect := "all of them would stay there, in one phase"
	resident, work := a.together()
	if limit := roundUp(resident + work + a.Overhead); a.Limit > 0 && limit > a.Limit {
		effect += fmt.Sprintf(", if the host's limit of %s were %s", FormatBytes(a.Limit), FormatBytes(limit))
	}
	a.larger(x, c, c.Together(), effect)
}

// larger advises a device like c that has so much room, if there is one, and says what
// that would change.
func (a *advisor) larger(x Advice, c PlannedDevice, room int64, effect string) {
	x.Means = LargerDevice
	total, ok := c.Size(room)
	if ok {
		x.Bytes = total
		x.Why += fmt.Sprintf("; with %s %s", FormatBytes(total), effect)
	} else {
		x.Why += "; no card is large enough for that"
	}
	a.add(x)
}
