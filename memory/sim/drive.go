package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// Network is a network at work: what its sessions take, and how long they run.
type Network struct {
	Name          string // for decisions and accounts
	SessionConfig        // what each of its sessions takes
	// A run of b items takes Start + b * Each on a device of speed 1.
	Start, Each time.Duration
	// First is the share of its time that the first run of each batch size takes
	// longer: it looks for its kernels.
	First float64
	// Noise is the standard deviation of a run's time, as a share of it.
	Noise float64
	// Growth is how long it takes to get one GiB more of the device.
	Growth time.Duration
}

// Seconds is how long a run takes on a device of speed 1, without noise.
func (n Network) Seconds(batch int) float64 {
	return n.Start.Seconds() + float64(batch)*n.Each.Seconds()
}

// DriveOptions describe a job for a Governor in simulated time.
type DriveOptions struct {
	// Devices are simulated. Their Clock is not used.
	Devices []Config
	// Chain is what each item passes. Each network has one session on each device.
	Chain []Network
	// Batch pins the batch sizes of the chain's networks; nil or 0: the strategy finds
	// out.
	Batch    []int
	Governor memory.GovernorOptions // how it decides; its Clock is not used
	// Lasts is how long it goes on. There are always more items.
	Lasts time.Duration
	// Seed is that of the noise.
	Seed uint64
	// Lose takes devices away: at that time since the beginning, by number. The run that
	// is on it comes to nothing.
	Lose map[int]time.Duration
	// Headroom in bytes is left free in any case; 0: 512 MiB, or 3 % where that is more.
	Headroom int64
	// Watch gets each run, in order of time; nil: nobody looks.
	Watch func(Turn)
}

// Turn is one run of a drive, or the wait for a reading.
type Turn struct {
	At      time.Duration // since the beginning
	Took    time.Duration // how long the run, or the wait, was
	Network int           // its place in the Chain
	Device  int           // its place in Devices
	Batch   int           // items; 0: it waited
	// OutOfMemory says that there was no room, Budget what it might have had in the
	// Governor's eyes, Own what all sessions have of the device, and Others what
	// neighbours have, in bytes.
	OutOfMemory         bool
	Budget, Own, Others int64
}

// Driven is what came of it.
type Driven struct {
	Done        int64            // items that passed the whole chain
	Begun       int64            // items that were taken, and are done or on their way
	OnTheWay    int64            // of Begun, those that are not done
	OutOfMemory int              // runs that had no room
	Accounts    []memory.Account // of the Governor, one for each session
	Learned     []memory.Learned // of the Governor, for another drive
}

const (
	// pollEvery is how often a card is read, and pollLag how late that is.
	pollEvery = 100 * time.Millisecond
	// queueMost is how many items wait before a network that is not the first.
	queueMost = 2048
	// failTime is how long a run takes that has no room, and what is tidied up then.
	failTime = 70 * time.Millisecond
)

// driver is a drive at work.
type driver struct {
	o        DriveOptions
	now      time.Time
	began    time.Time
	governor *memory.Governor
	random   *rand.Rand
	cards    []*driveCard
	sessions []*driveSession
	pools    []int64 // items that wait before each network, in no session's queue
	d        Driven
}

type driveCard struct {
	device     *Device
	speed      float64
	free       time.Time // when its last run ends
	polled     time.Time
	others     int64 // when it was polled
	reading    memory.Reading
	neighbours memory.Neighbours
	lost       bool
	longest    time.Duration // of the last runs
}

type driveSession struct {
	network, card int
	session       *Session
	workload      *memory.Workload
	queue         int64
	ready         time.Time
	running       *memory.Ran // how the run ends that is on
	starved       bool        // there was no room for an item
	warm          map[int]bool
}

// Drive puts items through a chain of networks on simulated cards, as a Governor
// decides, in simulated time. An error says what is wrong with the options, or that a
// session cannot be opened.
func Drive(o DriveOptions) (Driven, error) {
	d := &driver{o: o, began: time.Unix(0, 0), random: rand.New(rand.NewPCG(o.Seed, 1))}
	d.now = d.began
	clock := func() time.Time { return d.now }
	o.Governor.Clock = clock
	var err error
	if d.governor, err = memory.NewGovernor(o.Governor); err != nil {
		return Driven{}, err
	}
	for i, c := range o.Devices {
		c.Clock = clock
		if c.Name == "" {
			c.Name = fmt.Sprintf("sim:%d", i)
		}
		device, err := New(c)
		if err != nil {
			return Driven{}, err
		}
		d.cards = append(d.cards, &driveCard{device: device, speed: device.Speed()})
	}
	d.pools = make([]int64, len(o.Chain))
	for n, network := range o.Chain {
		for c, card := range d.cards {
			s := &driveSession{network: n, card: c, warm: map[int]bool{}}
			if s.session, err = card.device.Open(network.SessionConfig); err != nil {
				return Driven{}, err
			}
			w := memory.WorkloadOptions{Name: network.Name, Device: card.device.Name(), Key: fmt.Sprintf("%s on %s at %g", network.Name, card.device.Description(), card.speed)}
			if n < len(o.Batch) {
				w.Batch = o.Batch[n]
			}
			s.workload = d.governor.Workload(w)
			d.sessions = append(d.sessions, s)
		}
	}
	d.poll()
	for d.step() {
	}
	for _, n := range d.pools[1:] {
		d.d.OnTheWay += n
	}
	for _, s := range d.sessions {
		d.d.OnTheWay += s.queue
	}
	d.d.Accounts, d.d.Learned = d.governor.Accounts(), d.governor.Learned()
	return d.d, nil
}

// poll reads the cards as often as they would have been by now.
func (d *driver) poll() {
	now := d.now
	for _, c := range d.cards {
		for at := c.polled.Add(pollEvery); c.polled.IsZero() || !at.After(now); at = at.Add(pollEvery) {
			if c.polled.IsZero() {
				at = d.began
			}
			d.now = at
			r, err := c.device.Read(context.Background())
			c.polled = at
			if err == nil && r.Total > 0 {
				c.reading, c.others = r, r.Used-r.Own
				c.neighbours.Observe(at, c.others, r.Total)
			}
		}
	}
	d.now = now
}

// step does what comes first: a run ends, or one begins.
func (d *driver) step() bool {
	d.feed()
	var next *driveSession
	var at time.Time
	for _, s := range d.sessions {
		c := d.cards[s.card]
		t := s.ready
		switch {
		case c.lost:
			continue
		case s.running != nil: // it is known then how it ended
		case s.queue == 0, s.network+1 < len(d.pools) && d.waiting(s.network+1) >= queueMost:
			continue
		case s.queue < int64(s.workload.Target("", 0)) && d.coming(s.network):
			continue
		case c.free.After(t):
			t = c.free
		}
		if next == nil || t.Before(at) || t.Equal(at) && (s.running != nil && next.running == nil || s.network > next.network) {
			next, at = s, t
		}
	}
	if next == nil || at.Sub(d.began) >= d.o.Lasts {
		return false
	}
	if at.After(d.now) {
		d.now = at
	}
	d.poll()
	switch {
	case d.lose():
	case next.running != nil:
		d.end(next)
	default:
		d.run(next)
	}
	return true
}

// waiting is how many items have come before a network and wait.
func (d *driver) waiting(network int) int64 {
	n := d.pools[network]
	for _, s := range d.sessions {
		if s.network == network {
			n += s.queue
		}
	}
	return n
}

// coming tells whether the network before one will have more items for it, for which a
// batch that is not full can wait.
func (d *driver) coming(network int) bool {
	return network > 0 && d.waiting(network) < queueMost && slices.ContainsFunc(d.sessions, func(s *driveSession) bool {
		return s.network == network-1 && !d.cards[s.card].lost && !s.starved
	})
}

// feed gives each session what it would run next, and one run more.
func (d *driver) feed() {
	for n := range d.pools {
		var open []*memory.Workload
		for _, s := range d.sessions {
			if s.network == n && !d.cards[s.card].lost && s.queue < 2*int64(s.workload.Target("", 0)) {
				open = append(open, s.workload)
			}
		}
		for len(open) > 0 && (n == 0 || d.pools[n] > 0) {
			w := d.governor.Soonest(open, "")
			s := d.sessions[slices.IndexFunc(d.sessions, func(s *driveSession) bool { return s.workload == w })]
			batch := int64(w.Target("", 0))
			if n == 0 {
				d.d.Begun += batch
			} else {
				batch = min(batch, d.pools[n])
				d.pools[n] -= batch
			}
			s.queue += batch
			w.Queue(int(batch))
			if s.queue >= 2*int64(w.Target("", 0)) {
				open = slices.DeleteFunc(open, func(o *memory.Workload) bool { return o == w })
			}
		}
	}
}

// lose takes devices away whose time has come, and what waits for them to the others.
func (d *driver) lose() (any bool) {
	for i, c := range d.cards {
		at, doomed := d.o.Lose[i]
		if !doomed || c.lost || d.now.Before(d.began.Add(at)) {
			continue
		}
		c.lost, any = true, true
		for _, s := range d.sessions {
			if s.card == i {
				s.workload.Queue(-int(s.queue))
				s.workload.Close()
				s.session.Close()
				d.pools[s.network] += s.queue
				if s.network == 0 {
					d.d.Begun -= s.queue
					d.pools[0] = 0 // there are always more of those
				}
				s.queue = 0
			}
		}
	}
	return any
}

// room is what a session may have, by the last reading.
func (d *driver) room(s *driveSession) memory.Room {
	c, r := d.cards[s.card], d.cards[s.card].reading
	headroom := d.o.Headroom
	if headroom == 0 {
		headroom = max(512<<20, r.Total*3/100)
	}
	budget := r.Total - r.Reserved - c.neighbours.Expect(pollEvery+c.longest, headroom)
	var own int64
	for _, o := range d.sessions {
		if o.card != s.card {
			continue
		}
		budget -= o.session.c.Fixed
		own += o.session.c.Fixed + o.session.Stats().Allocated
		if o != s {
			budget -= o.session.Stats().Allocated
		}
	}
	return memory.Room{
		Budget: budget, Allocated: s.session.Stats().Allocated,
		Scarce: r.Total-r.Reserved-c.others-own < headroom/4,
	}
}

// run begins the next run of a session, or waits for a reading.
func (d *driver) run(s *driveSession) {
	c, n := d.cards[s.card], d.o.Chain[s.network]
	room := d.room(s)
	room.Items = int(s.queue)
	choice := s.workload.Next("", room)
	turn := Turn{At: d.now.Sub(d.began), Network: s.network, Device: s.card, Budget: room.Budget, Others: c.others}
	if choice.Shrink || choice.Look {
		s.session.Shrink()
	}
	s.starved = choice.Batch == 0
	if choice.Look || choice.Batch == 0 {
		s.ready = c.polled.Add(pollEvery)
		if choice.Look { // the first that is sure to be of what is then
			s.ready = s.ready.Add(c.device.c.Lag)
		}
		turn.Took = s.ready.Sub(d.now)
		d.watch(turn)
		return
	}
	batch := int(min(int64(choice.Batch), s.queue))
	before := s.session.Stats().Allocated
	err := s.session.Run(batch, RunOptions{})
	after := s.session.Stats().Allocated
	r := memory.Ran{Batch: batch, OutOfMemory: errors.Is(err, memory.ErrOutOfMemory)}
	took := failTime
	if !r.OutOfMemory {
		seconds := n.Seconds(batch) / c.speed * math.Exp(n.Noise*d.random.NormFloat64())
		if !s.warm[batch] {
			s.warm[batch] = true
			seconds *= 1 + n.First
		}
		seconds += n.Growth.Seconds() * float64(max(after-before, 0)) / (1 << 30)
		took = time.Duration(seconds * float64(time.Second))
		c.longest = max(took, c.longest*9/10)
		r.Seconds = seconds
		if before == 0 {
			r.Bytes = after
		}
	}
	s.running = &r
	c.free = d.now.Add(took)
	s.ready = c.free
	turn.Took, turn.Batch, turn.OutOfMemory = took, batch, r.OutOfMemory
	d.watch(turn)
}

// end is the end of a session's run.
func (d *driver) end(s *driveSession) {
	r := *s.running
	s.running = nil
	if r.OutOfMemory {
		s.session.Shrink()
		d.d.OutOfMemory++
		s.ready = d.cards[s.card].polled.Add(pollEvery) // to see what there is
	} else {
		s.queue -= int64(r.Batch)
		s.workload.Queue(-r.Batch)
		if s.network+1 < len(d.pools) {
			d.pools[s.network+1] += int64(r.Batch)
		} else {
			d.d.Done += int64(r.Batch)
		}
	}
	s.workload.Ran("", r, d.room(s))
}

func (d *driver) watch(s Turn) {
	if d.o.Watch == nil {
		return
	}
	for _, o := range d.sessions {
		if o.card == s.Device && !d.cards[o.card].lost {
			s.Own += o.session.c.Fixed + o.session.Stats().Allocated
		}
	}
	d.o.Watch(s)
}
