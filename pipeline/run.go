package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
)

// RunOptions say how to run a pipeline. The zero value is a run with a store at
// the pipeline's own place and no shared cache.
type RunOptions struct {
	StateDir   string      // where the run store lies; empty: Pipeline.StateDir
	NoStore    bool        // no run store: nothing is resumed, nothing retracted
	CacheDir   string      // results shared between pipelines; empty: none
	CacheLimit int64       // bytes; 0 is 2 GiB
	Fresh      bool        // forget earlier runs, and move the files that they wrote and nobody changed to the trash
	DryRun     bool        // say what would be done, and do nothing
	Sample     int         // run this many inputs, chosen at random, into a folder of the state directory
	Count      bool        // have a source that is a Counter count its inputs beside the run, so that Summary.Inputs is known early; it is counted, too, where a stage is a HeldCoster
	Check      bool        // verify that stages leave shared pixels alone; costs time
	OnEvent    func(Event) // called from several goroutines; must not block
	Version    string      // of the program, for the store
	Host       memory.Host // where memory figures are read; the zero value is this machine
	// Memory is the manager of this process's memory. Nil: the run has one of its
	// own, which changes nothing process-wide.
	Memory *memory.Manager
	// Checkpoint is how often outputs are made durable; 0 is 5 s.
	Checkpoint time.Duration

	outputs string           // a folder that takes all outputs, in place of those that stages name
	ended   func(*Item, end) // an item's end: out, rejected or failed; called from several goroutines

	beforeSQL func(op string) error // test seam
	bootID    string                // test seam
	segments  runstore.FS           // test seam
}

const defaultCacheLimit = 2 << 30

// Run is a run under way.
type Run struct {
	r    *run
	done chan struct{}
	sum  *Summary
	err  error
}

// run is the state of a run.
type run struct {
	pipe *Pipeline
	opts RunOptions
	plan *Plan
	ctx  context.Context // for telling an item's failure from the run's end

	// Memory.
	host     *memory.Ledger
	devices  []*deviceLedger // of those beside the host that stages use
	governor governed
	idle     idlePictures
	large    largeCalls
	canvases canvases
	memory   *memory.Manager
	detach   func() // takes the ledger off memory
	floor    int64  // bytes that the process had when the first phase began

	// What is remembered from run to run.
	store    *runstore.Store
	outcomes *runstore.Attributes
	stateDir string
	rebooted bool      // the machine, since the last run: what that wrote late may be torn
	tempID   string    // is in the names of this run's temporary files
	old      *oldFiles // outputs of earlier runs
	whole    *family   // that files of the whole run belong to; once stages run, mu guards it

	dry        *dryRun
	sample     *sampler
	aside      string // the folder that takes all outputs; empty: those that stages name do
	sampleLock io.Closer

	// How far it is.
	nodes    []*node
	src      counters
	began    time.Time
	total    atomic.Int64 // inputs of the source; 0: not known yet
	listed   atomic.Bool  // the source has offered everything
	drain    chan struct{}
	drained  sync.Once
	standby  standby
	phaseNow atomic.Int32          // from 1 on
	paused   atomic.Int32          // somebody has stopped stages, to look at memory
	yielding atomic.Int32          // calls that wait until others are through with a device
	working  atomic.Int32          // goroutines that neither wait for memory nor to deliver
	noDisk   atomic.Pointer[error] // the disk is full, or fails: nothing can be made any more

	// Numbers for the summary: of items, of sources, of outputs, and the bytes of those
	// that were written.
	out, quarantined, ignored                   atomic.Int64
	renamed, decoded, decodedJPEG               atomic.Int64
	written, reused, replaced, retracted, bytes atomic.Int64
	parkedPictures                              atomic.Int64
	dropped, spilled                            atomic.Int64 // bytes of these that can be had again, and that went to disk
	temps, spills                               atomic.Int64 // number temporary files

	mu          sync.Mutex                  // of what follows
	rejected    map[string]map[string]int64 // items by stage and reason
	failed      []FailedItem
	hidden      []string        // folders of the source that could not be listed
	unread      map[string]bool // files of the source that could not be read
	warned      map[string]bool // what was said already
	leaks       []string        // that were found
	phaseMemory []PhaseMemory

	inputs     map[string][]string // of an output tree, the folders in it that are input
	quarantine quarantineList
	sources    idSet    // rows of the run store that this run has counted
	placing    sync.Map // outputs that are being put in their places now
	dirs       sync.Map // folders that are there

	rootsMu sync.Mutex
	roots   map[string]fsys.Root // output folders, by path

	scratchDir  fsys.Root // nil: nobody has asked for it; mu guards it
	scratchPath string
}

// idSet is a set of dense numbers.
type idSet struct {
	mu   sync.Mutex
	bits []uint64
}

// add reports whether n was not there yet.
func (s *idSet) add(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int(n/64) >= len(s.bits) {
		s.bits = append(s.bits, 0)
	}
	m := uint64(1) << (n % 64)
	was := s.bits[n/64]&m != 0
	s.bits[n/64] |= m
	return !was
}

// Start begins a run. When ctx ends, the run stops at once: what is not
// finished then is done by the next run.
func (p *Pipeline) Start(ctx context.Context, o RunOptions) (*Run, error) {
	if p.source == nil || len(p.steps) == 0 {
		return nil, errors.New("the pipeline needs a source and at least one stage")
	}
	plan, err := p.Plan(o)
	if err != nil {
		return nil, err
	}
	p.Limits = p.Limits.WithDefaults()
	r := &run{
		pipe: p, opts: o, plan: plan, ctx: ctx, stateDir: plan.StateDir, aside: o.outputs,
		host:  memory.NewLedger(string(Host), plan.HostBudget),
		drain: make(chan struct{}), began: time.Now(),
		rejected: map[string]map[string]int64{}, warned: map[string]bool{}, unread: map[string]bool{}, roots: map[string]fsys.Root{},
	}
	r.host.SetReserve(plan.reserve)
	if r.memory = o.Memory; r.memory == nil {
		r.memory = memory.NewManager(memory.Options{Host: o.Host, Devices: p.devices, Log: p.log})
	}
	r.detach = r.memory.Attach(r.host)
	if err := errors.Join(r.openDevices(ctx), r.openGovernor()); err != nil {
		return nil, errors.Join(err, r.closeMemory())
	}
	if err := p.start(r); err != nil {
		return nil, errors.Join(err, r.closeMemory())
	}
	run := &Run{r: r, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		run.sum, run.err = r.main(ctx)
		if err := r.closeMemory(); run.err == nil {
			run.err = err
		}
	}()
	return run, nil
}

// closeMemory takes the run off the manager of memory.
func (r *run) closeMemory() error {
	r.detach()
	for _, d := range r.devices {
		d.detach()
	}
	r.memory.SetHostLimit(0)
	if r.opts.Memory != nil {
		return nil
	}
	return r.memory.Close()
}

// start readies the run.
func (p *Pipeline) start(r *run) error {
	o, plan := r.opts, r.plan
	r.old = &oldFiles{run: r, gone: map[int64]bool{}}
	if o.DryRun {
		r.dry = &dryRun{}
	}
	if r.stateDir != "" {
		if err := r.checkStateDir(); err != nil {
			return err
		}
	}
	r.guardInput()
	p.door.run = r // a source may ask for a scratch folder already when it is looked at
	if o.Sample > 0 {
		if err := r.prepareSample(); err != nil {
			return err
		}
	}
	if err := r.openState(); err != nil {
		return errors.Join(err, r.closeState())
	}
	for i, s := range p.steps {
		n := newNode(r, s, i+1)
		n.last = !slices.ContainsFunc(p.steps[i+1:], func(s *Step) bool { return !s.Info.Blind })
		n.in = newQueue(queueItems, max(plan.HostBudget/4, 1))
		if i > 0 {
			r.nodes[i-1].next = n
		}
		r.nodes = append(r.nodes, n)
	}
	return nil
}

// Run starts a run and waits for its end.
func (p *Pipeline) Run(ctx context.Context, o RunOptions) (*Summary, error) {
	run, err := p.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return run.Wait()
}

// Wait waits for the end. The summary is there also when the run failed.
func (r *Run) Wait() (*Summary, error) {
	<-r.done
	return r.sum, r.err
}

// Done is closed when the run has ended.
func (r *Run) Done() <-chan struct{} { return r.done }

// Drain asks the run to end soon: no new input is begun, what is in flight is
// finished and recorded. Barriers are not completed. The summary's state is
// "interrupted".
func (r *Run) Drain() { r.r.drained.Do(func() { close(r.r.drain) }) }

// Progress is the summary so far.
func (r *Run) Progress() *Summary {
	if r.r.standsStill() {
		return r.r.summary(statePaused)
	}
	return r.r.summary(stateRunning)
}

// The states of a run that has not ended.
const (
	stateRunning = "running"
	statePaused  = "paused"
)

// Forecast is what a dry run found; it is nil for other runs.
func (r *Run) Forecast() *Forecast {
	d := r.r.dry
	if d == nil {
		return nil
	}
	return &Forecast{
		Compute: d.compute.Load(), Reuse: r.r.reused.Load(), Write: d.write.Load(), Maybe: d.maybe.Load(), Retract: d.retract.Load(),
		Held: r.r.heldNeeds(r.r.src.in.Load() - r.r.quarantined.Load()),
	}
}

// Memory is the manager of the memory that the run uses.
func (r *Run) Memory() *memory.Manager { return r.r.memory }

// Plan is the plan that the run follows.
func (r *Run) Plan() *Plan { return r.r.plan }

func (r *run) draining() bool {
	select {
	case <-r.drain:
		return true
	default:
		return false
	}
}

func (r *run) source() Source {
	if r.sample != nil {
		return r.sample
	}
	return r.pipe.source
}

func (r *run) event(kind EventKind, stage, item, message string) {
	if r.opts.OnEvent != nil {
		r.opts.OnEvent(Event{Time: time.Now(), Kind: kind, Stage: stage, Item: item, Message: message})
	}
}

// warnOnce logs a warning the first time that something goes wrong in a way
// that costs time but loses nothing.
func (r *run) warnOnce(key, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.warned[key] {
		r.warned[key] = true
		r.pipe.log.Warn(fmt.Sprintf(format, args...))
	}
}

// main runs the phases and what comes after them.
func (r *run) main(ctx context.Context) (*Summary, error) {
	counted := r.count(ctx)
	err := r.guarded(ctx)
	counted()
	complete := err == nil && r.listed.Load() && !r.draining()
	if m := r.pipe.MaxFailed.Share; complete && m > 0 && float64(r.quarantined.Load()) > m*float64(r.src.in.Load()) {
		err = r.tooMany()
	}
	if complete && err == nil {
		err = r.retract(ctx)
	}
	state := runstore.Done
	switch {
	case err != nil && ctx.Err() != nil:
		state, err = runstore.Interrupted, ctx.Err()
	case err != nil:
		state = runstore.Broken
	case !complete:
		state = runstore.Interrupted
	}
	r.keepLearned()
	sum := r.summary(state)
	if err == nil {
		err = sum.Check()
	}
	if ferr := r.finishState(state, sum); err == nil {
		err = ferr
	}
	if cerr := r.closeState(); err == nil {
		err = cerr
	}
	if err != nil && state == runstore.Done {
		sum.State = runstore.Broken
	}
	return sum, err
}

// guarded is phases, with a panic of a stage outside of Process as its error.
func (r *run) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a stage panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return r.phases(ctx)
}

func (r *run) summary(state string) *Summary {
	s := &Summary{
		State: state, Inputs: r.total.Load(), Phase: int(r.phaseNow.Load()), In: r.src.in.Load(), Out: r.out.Load(), Quarantined: r.quarantined.Load(), Ignored: r.ignored.Load(),
		Written: r.written.Load(), Reused: r.reused.Load(), Replaced: r.replaced.Load(), Retracted: r.retracted.Load(),
		Renamed: r.renamed.Load(), Bytes: r.bytes.Load(), Decoded: r.decoded.Load(),
		DecodedJPEG: r.decodedJPEG.Load(), Parked: Parked{Pictures: r.parkedPictures.Load(), Dropped: r.dropped.Load(), Spilled: r.spilled.Load()},
		Seconds: time.Since(r.began).Seconds(), Rejected: map[string]map[string]int64{}, StateDir: r.stateDir,
		Failed: []FailedItem{}, Phases: []PhaseMemory{}, OutputDirs: []string{},
	}
	if r.sample != nil {
		s.Inputs = r.sample.chosen.Load()
	}
	for _, n := range r.nodes {
		c := n.summary()
		c.ID, c.Stage, c.Workers, c.Most, c.Serial = n.ID, n.Info.Name, n.gate.count(), n.most, n.serial
		c.Phase = r.plan.phaseOf(n.ID) + 1
		c.Queued, c.Fill = n.in.fill()
		c.Active = int(n.calling.Load())
		s.Derived += c.Derived
		s.Consumed += c.Consumed
		s.Cached += c.Cached
		s.Stages = append(s.Stages, c)
		if w, ok := n.Stage.(Noter); ok && state != stateRunning && state != statePaused {
			s.Stages[len(s.Stages)-1].Note = w.Note()
		}
		if w, ok := n.Stage.(Writer); ok {
			for _, t := range w.Writes() {
				s.OutputDirs = append(s.OutputDirs, filepath.Join(t.Root, fileOf(t)))
			}
		}
	}
	r.mu.Lock()
	for stage, reasons := range r.rejected {
		m := map[string]int64{}
		for k, v := range reasons {
			m[k] = v
		}
		s.Rejected[stage] = m
	}
	s.Failed = append(s.Failed, r.failed...)
	s.QuarantineFile = r.quarantine.path
	s.Leaks = append(s.Leaks, r.leaks...)
	s.Phases = append(s.Phases, r.phaseMemory...)
	r.mu.Unlock()
	u := r.host.Usage()
	s.Devices = []DeviceUsage{usage(Host, u.Limit, u)}
	for _, d := range r.devices {
		u := d.ledger.Usage()
		s.Devices = append(s.Devices, usage(d.name, u.Ceiling, u))
	}
	s.Governed = r.governor.Accounts()
	if state != runstore.Done {
		s.Unfinished = s.In + s.Derived - s.Out - s.Consumed - s.RejectedTotal() - s.Quarantined
	}
	return s
}

func usage(d Device, limit int64, u memory.Usage) DeviceUsage {
	return DeviceUsage{Device: string(d), Limit: limit, Peak: u.Peak, Leased: u.Residency + u.Work, Now: u.Limit, Waiting: u.Waiting}
}

func fileOf(t OutputTree) string {
	if t.File {
		return t.Template
	}
	return ""
}

// scratch is the run's folder for what lives as long as the run.
func (r *run) scratch() (fsys.Root, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scratchDir != nil {
		return r.scratchDir, nil
	}
	if r.stateDir != "" && r.dry == nil {
		r.scratchPath = filepath.Join(r.stateDir, "scratch")
		if err := os.RemoveAll(r.scratchPath); err != nil {
			return nil, fmt.Errorf("clearing the scratch folder: %w", err)
		}
	} else {
		dir, err := os.MkdirTemp("", "forgepipe-")
		if err != nil {
			return nil, fmt.Errorf("making a scratch folder: %w", err)
		}
		r.scratchPath = dir
	}
	root, err := r.pipe.fs.OpenRoot(r.scratchPath)
	if err != nil {
		return nil, fmt.Errorf("making the scratch folder: %w", err)
	}
	r.scratchDir = root
	return root, nil
}

// clearScratch removes what a run left that was killed: the pictures in there may be
// large, and this run may need no such folder.
func (r *run) clearScratch() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scratchDir != nil { // it is this run's already
		return nil
	}
	if err := os.RemoveAll(filepath.Join(r.stateDir, "scratch")); err != nil {
		return fmt.Errorf("clearing the scratch folder: %w", err)
	}
	return nil
}

// Scratch is a folder for files of this run alone; it goes with the run.
func (e Env) Scratch() (Folder, error) { return e.door.run.scratch() }

// Draining tells whether the run was asked to end (Run.Drain): what takes
// long without items, as what a barrier does after it has let all of them go, ends then
// where the next run can go on.
func (e Env) Draining() bool { return e.door.run != nil && e.door.run.draining() }

// wholeRun is the family that files of the whole run belong to.
func (r *run) wholeRun() *family {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.whole
}

// isTemp recognises a temporary file of this store.
func (r *run) isTemp(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, tempPrefix+r.tempID+"-") && strings.HasSuffix(base, ".tmp")
}

func marshalSummary(s *Summary) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a summary cannot be written as JSON: " + err.Error())
	}
	return b
}

// ErrLocked is the error of a run whose state directory another run is using.
var ErrLocked = runstore.ErrLocked
