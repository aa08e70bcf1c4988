package memory

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Governor decides how many items each run of a network takes, on every device. It
// learns what runs cost and how long they take, divides a device among the networks
// on it, and says why it did what. It starts nothing and reads nothing: who runs a
// network tells it what there is and what happened.
//
// Its methods, and those of its workloads, may be called by several goroutines.
type Governor struct {
	o GovernorOptions

	mu        sync.Mutex
	models    map[modelKey]*models
	learned   map[modelKey]Learned // by earlier processes; models are made of it when it is used
	workloads []*Workload          // that are open
	ended     []Account            // of those that were closed
	told      map[newsOf]Choice
	untold    []Decision           // that Decided has not got yet
	telling   bool                 // somebody is calling Decided, and comes to what is untold
	calls     int64                // a clock for what was used when
	divisions map[string]*division // by device
}

// GovernorOptions for NewGovernor. The zero value is adaptive and silent.
type GovernorOptions struct {
	// Strategy is the name of one of Strategies; empty: adaptive.
	Strategy string
	// Strategies are those that there are; nil: the standard ones.
	Strategies Strategies
	// Learned is what earlier runs have learned.
	Learned []Learned
	// Decided gets each decision, one after the other, from one of the goroutines that
	// call Workload.Next. It must not block. It may call the Governor.
	Decided func(Decision)
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// modelKey is what costs and durations depend on.
type modelKey struct{ key, shape string }

// models are what is known of a network on a kind of device, for items of one shape.
type models struct {
	cost  CostModel
	speed SpeedModel
	used  int64 // for forgetting those that were not used for long
}

// mostModels bounds how many shapes are remembered.
const mostModels = 1024

// NewGovernor begins with what has been learned. The error says which strategies
// there are.
func NewGovernor(o GovernorOptions) (*Governor, error) {
	o.Strategy = cmp.Or(o.Strategy, Adaptive)
	if o.Strategies == nil {
		o.Strategies = StandardStrategies()
	}
	if err := o.Strategies.Check(o.Strategy); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	g := &Governor{o: o, models: map[modelKey]*models{}, learned: map[modelKey]Learned{}, told: map[newsOf]Choice{}, divisions: map[string]*division{}}
	for _, l := range o.Learned {
		g.learned[modelKey{l.Key, l.Shape}] = l
	}
	return g, nil
}

// WorkloadOptions describe one session of a network on a device.
type WorkloadOptions struct {
	Name   string // of the network, for people
	Device string // "host", "gpu:0", "sim:0"
	// Key is what the cost of a run depends on beside the shape and the size of the
	// batch: the kind of device, the network's content, the runtime. What is learned is
	// kept under it.
	Key string
	// Batch is how many items a run shall take; 0: the strategy finds out.
	Batch int
	// Fixed says that the network takes Batch items, no fewer and no more, whatever the
	// strategy: where there are fewer, the rest is filled. What it takes is what Batch
	// items take.
	Fixed bool
	// Most is how many items a run may take; 0 is 1024. It is not asked of a Fixed one.
	Most int
}

const mostItems = 1024

// anyMemory is more bytes than a device has: who has so many can have what it wants.
const anyMemory = 1 << 50

// Workload is one session of a network on a device.
type Workload struct {
	g *Governor
	o WorkloadOptions

	// The Governor's lock is for what follows.
	shapes   map[string]*course
	recent   *course // the last that was asked about
	held     int64   // bytes of the arena
	arena    arena
	budget   int64     // bytes that its last run might have had, beside what others held
	division *division // of the device
	shares   bool      // others were there
	part     int64     // bytes of the device that were its own then
	queued   int       // items that wait for it
	lastUsed time.Time // when it last ran, or was asked what comes next
	account  Account
}

// arena is what the regions of a session's arena have room for, as far as runs tell.
type arena struct {
	emptied int64           // how often its regions have been given back
	covered int64           // bytes of the largest run since then
	took    [holdRuns]int64 // bytes of the last runs
	runs    int             // since then
}

func (a *arena) empty() { *a = arena{emptied: a.emptied + 1} }

func (a *arena) ran(bytes int64) {
	a.covered = max(a.covered, bytes)
	a.took[a.runs%holdRuns] = bytes
	a.runs++
}

func (a *arena) surplus() bool {
	return a.runs >= holdRuns && float64(slices.Max(a.took[:])) < shrinkBelow*float64(a.covered)
}

// course is what happens to items of one shape in a workload.
type course struct {
	shape    string
	whole    int // items of each run; 0: as many as is decided
	models   *models
	strategy Strategy
	used     int64
	last     Choice
	asked    Situation // that led to last
	shown    Choice    // that was told of last
	covered  int       // the largest run since the arena was emptied for that time
	emptied  int64
}

// items is how many items a run is of for the network, where there are so many.
func (c *course) items(there int) int {
	if c.whole > 0 {
		return c.whole
	}
	return there
}

// mostCourses bounds how many shapes a workload goes on with where it left off.
const mostCourses = 64

// Workload begins to govern a session. Close ends it.
func (g *Governor) Workload(o WorkloadOptions) *Workload {
	if o.Most <= 0 {
		o.Most = mostItems
	}
	if o.Fixed {
		o.Batch = max(o.Batch, 1)
		o.Most = o.Batch
	}
	w := &Workload{g: g, o: o, shapes: map[string]*course{}, budget: math.MaxInt64, account: Account{Name: o.Name, Device: o.Device}}
	g.mu.Lock()
	defer g.mu.Unlock()
	w.lastUsed = g.o.Clock()
	if w.division = g.divisions[o.Device]; w.division == nil {
		w.division = &division{}
		g.divisions[o.Device] = w.division
	}
	g.workloads = append(g.workloads, w)
	return w
}

// Close ends it: its memory is for the others. It may be called more than once.
func (w *Workload) Close() {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	i := slices.Index(w.g.workloads, w)
	if i < 0 {
		return
	}
	w.g.workloads = slices.Delete(w.g.workloads, i, i+1)
	w.g.keep(w.account)
}

// Opened says that the session is a new one: its arena is empty, and its first runs
// tell nothing about the next.
func (w *Workload) Opened() {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.held = 0
	w.arena.empty()
	for _, c := range w.shapes {
		c.models.speed.Cold()
	}
}

// Emptied says that the session has given back what its arena had.
func (w *Workload) Emptied() {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.held = 0
	w.arena.empty()
}

// Next decides about the next run on items of that shape. Where several networks are
// on the device, each has its part of the budget.
func (w *Workload) Next(shape string, r Room) Choice {
	choice, news := w.next(shape, r)
	if news {
		w.g.tell()
	}
	return choice
}

// next decides, and says whether there is something to tell.
func (w *Workload) next(shape string, r Room) (Choice, bool) {
	g := w.g
	g.mu.Lock()
	defer g.mu.Unlock()
	c := w.course(shape)
	w.recent, w.held, w.lastUsed = c, min(max(r.Allocated, 0), anyMemory), g.o.Clock()
	w.budget = r.Budget
	if m, least := c.models, c.items(1); r.Budget > 0 && m.cost.hearsay(least, r.Budget) && m.cost.hearsay(least, g.beside(w)+r.Budget) {
		// Nothing would ever run that could set it right.
		m.cost.unlearn()
		m.speed.unlearn()
	}
	there := r.Budget
	r.Budget = g.partOf(w, c, r.Budget)
	s := w.situation(c, r)
	s.Shared = r.Budget < there
	choice := c.strategy.Next(s)
	choice.Batch = min(max(choice.Batch, 0), s.Most)
	c.last, c.asked = choice, s
	if choice.Shrink || choice.Look {
		w.arena.empty()
	}
	if choice.Look {
		w.held = 0
	}
	w.decided(c)
	return choice, len(g.untold) > 0
}

// beside is how many bytes of the workload's device the others have. It needs the lock.
func (g *Governor) beside(w *Workload) (held int64) {
	for _, o := range g.workloads {
		if o != w && o.division == w.division {
			held += o.held
		}
	}
	return held
}

// situation is what a strategy is told. It needs the lock.
func (w *Workload) situation(c *course, r Room) Situation {
	s := Situation{Room: r, Most: max(w.o.Most, r.Least), Cost: &c.models.cost, Speed: &c.models.speed, Surplus: w.arena.surplus()}
	if c.emptied == w.arena.emptied {
		s.Covered = c.covered
	}
	if len(w.shapes) > 1 && s.Cost.Known() { // what has room for one shape has room for others
		s.Covered = max(s.Covered, min(s.Cost.Fits(w.arena.covered, w.o.Most), s.Cost.Largest()))
	}
	return s
}

// Target is how many items the next run on that shape is likely to take: so many are
// worth collecting. least is how many a run is worth beginning with (see Room); 0 is 1.
func (w *Workload) Target(shape string, least int) int {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	c := w.shapes[shape]
	switch {
	case w.o.Fixed:
		return w.o.Batch
	case c != nil && c.last.Batch > 0:
		return c.last.Batch
	case w.o.Batch > 0:
		return min(w.o.Batch, w.o.Most)
	}
	least = max(least, 1)
	if m := w.g.known(modelKey{w.o.Key, shape}); m != nil {
		return max(m.speed.Enough(nearly, min(max(m.cost.Largest(), 1), w.o.Most)), least)
	}
	return least
}

// Bytes is what the arena takes for so many items of that shape, as far as is known;
// 0: it is not. What only earlier processes have seen does not count where it is more
// than the budget that Next was told last.
func (w *Workload) Bytes(shape string, batch int) int64 {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	c := w.course(shape)
	m := &c.models.cost
	batch = c.items(batch)
	if m.hearsay(batch, w.budget) {
		return 0
	}
	return m.Bytes(batch)
}

// Ran tells how a run ended, and what there is now. A run of no items is none.
func (w *Workload) Ran(shape string, r Ran, now Room) {
	if r.Batch <= 0 {
		return
	}
	if !(r.Seconds > 0) || r.Seconds > math.MaxInt32 { // NaN is neither
		r.Seconds = 0
	}
	g := w.g
	g.mu.Lock()
	defer g.mu.Unlock()
	c := w.course(shape)
	w.recent, w.held, w.lastUsed = c, min(max(now.Allocated, 0), anyMemory), g.o.Clock()
	now.Budget = w.within(now.Budget)
	m, items := c.models, c.items(r.Batch)
	m.cost.Ran()
	if r.OutOfMemory {
		// Where others have taken what there was, the model is not to blame.
		if took := m.cost.Bytes(items); !r.Refused && (took == 0 || took <= now.Budget && !now.Scarce || r.Need > took) {
			m.cost.Failed(items, now.Budget, r.Need)
		}
		w.arena.empty() // what it has got is in pieces that were too small
	} else {
		m.cost.Seen(items, r.Bytes)
		m.speed.Seen(items, time.Duration(r.Seconds*float64(time.Second)))
		if c.emptied != w.arena.emptied {
			c.covered, c.emptied = 0, w.arena.emptied
		}
		c.covered = max(c.covered, items)
		w.arena.ran(m.cost.Bytes(items))
	}
	w.account.ran(r, c.last)
	c.strategy.Ran(w.situation(c, now), r)
}

// course finds how it goes on with a shape. It needs the Governor's lock.
func (w *Workload) course(shape string) *course {
	g := w.g
	c := w.shapes[shape]
	if c == nil {
		if len(w.shapes) >= mostCourses {
			forget(w.shapes, func(c *course) int64 { return c.used })
		}
		c = &course{shape: shape, models: g.modelsOf(modelKey{w.o.Key, shape})}
		if w.o.Fixed {
			c.whole = w.o.Batch
			c.strategy = whole{w.o.Batch}
		} else {
			c.strategy = g.o.Strategies[g.o.Strategy](w.o.Batch)
		}
		w.shapes[shape] = c
	}
	g.calls++
	c.used, c.models.used = g.calls, g.calls
	return c
}

// known finds what has been learned, here or by an earlier process; nil: nothing. It
// needs the lock.
func (g *Governor) known(k modelKey) *models {
	if l, found := g.learned[k]; found {
		delete(g.learned, k)
		g.remember(k, l.models())
	}
	return g.models[k]
}

// modelsOf finds what is known, or begins to learn it. It needs the lock.
func (g *Governor) modelsOf(k modelKey) *models {
	if m := g.known(k); m != nil {
		return m
	}
	return g.remember(k, &models{})
}

// remember forgets models for it that were not used for long. It needs the lock.
func (g *Governor) remember(k modelKey, m *models) *models {
	if len(g.models) >= mostModels {
		forget(g.models, func(m *models) int64 { return m.used })
	}
	g.calls++
	m.used = g.calls
	g.models[k] = m
	return m
}

// forget drops the quarter that was not used for longest: to find only the one costs as
// much, and as soon as another comes again.
func forget[K comparable, V any](all map[K]V, used func(V) int64) {
	var when []int64
	for _, v := range all {
		when = append(when, used(v))
	}
	slices.Sort(when)
	last := when[len(when)/4]
	maps.DeleteFunc(all, func(_ K, v V) bool { return used(v) <= last })
}

// Queue adds to what waits for the workload, in items; what has been answered is
// taken off again.
func (w *Workload) Queue(items int) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.queued = max(w.queued+items, 0)
}

// Soonest picks the workload that would first have time for a batch of that shape, after
// all that waits for it; of several that have time now, the fastest. When a batch would
// end is not what counts: a slow device with large batches would then stand still until
// a fast one has much to do, and there is not always so much. One that has not run yet
// has to be tried. It panics without a workload.
func (g *Governor) Soonest(among []*Workload, shape string) *Workload {
	g.mu.Lock()
	defer g.mu.Unlock()
	best, soonest, fastest := among[0], math.Inf(1), 0.0
	for _, w := range among {
		rate := 0.0
		if c := w.shapes[shape]; c != nil {
			rate = c.models.speed.Rate(max(c.last.Batch, 1))
		}
		begins := 0.0
		switch {
		case w.queued == 0 && rate == 0:
			rate = math.MaxFloat64 // it has to be tried
		case w.queued > 0 && rate == 0:
			begins = math.MaxFloat64
		case w.queued > 0:
			begins = float64(w.queued) / rate
		}
		if begins < soonest || begins == soonest && rate > fastest {
			best, soonest, fastest = w, begins, rate
		}
	}
	return best
}
