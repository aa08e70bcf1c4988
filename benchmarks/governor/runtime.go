package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// What is smaller than in the first part, and what stays: a card of 1 GiB and an item
// of 12.5 MiB, as the network middle has in small, and shorter drives. A ramp is as
// fast, and readings are as late.
const (
	scale       = 16
	runtimeTime = 20 * time.Second
	headroom    = 512 * mib / scale
	pollEvery   = 100 * time.Millisecond
	// perRun is added to the time of each run: a CPU has no start-up to speak of that a
	// larger batch would save.
	perRun = 30 * time.Millisecond
)

func runtimeWorkloads() []workload {
	always := func(t sim.Trace) func(uint64) sim.Trace { return func(uint64) sim.Trace { return t } }
	all := []workload{
		{name: "alone", says: "Nobody else is on the card."},
		{name: "ramp", says: "After 6 s a neighbour takes 192 MiB a second until it has 576 MiB.", others: always(sim.Ramp(6*time.Second, 0, 9*gib/scale, 3*gib/scale))},
		{name: "step", says: "A neighbour takes 576 MiB at once after 7 s and leaves after 14 s.", others: always(tenant(7*time.Second, 14*time.Second, 9*gib/scale)),
			comes: 7 * time.Second, leaves: 14 * time.Second},
		{name: "flapping", says: "A neighbour has nothing for 2 s and 384 MiB for 2 s, in turn.", others: always(sim.Flapping(0, 6*gib/scale, 4*time.Second))},
	}
	for i := range all {
		all[i].cards = []card{{16 * gib / scale, 1}}
		all[i].chains = []chain{{name: "rate"}}
		all[i].lasts, all[i].steady = runtimeTime, 4*time.Second
	}
	return all
}

// bed is what all drives with the runtime share.
type bed struct {
	library *ort.Library
	network []byte
}

// measureRuntime drives sessions of the runtime, one policy after another in rounds.
func measureRuntime(rounds int) ([]table, string, error) {
	library, err := ort.Load("")
	if err != nil {
		return nil, "", err
	}
	b := bed{library: library}
	if b.network, err = testnet.Hog(200 * mib / scale).Bytes(); err != nil {
		return nil, "", err
	}
	var tables []table
	for _, w := range runtimeWorkloads() {
		t, err := b.table(w, rounds)
		if err != nil {
			return nil, "", fmt.Errorf("%s with the runtime: %w", w.name, err)
		}
		tables = append(tables, t)
	}
	return tables, library.Version, nil
}

// table measures the policies under a workload. The oracle's rate is that of its batch
// in the same round, and the first row.
func (b *bed) table(w workload, rounds int) (table, error) {
	n, err := b.measure(w.cards[0].total)
	if err != nil {
		return table{}, err
	}
	w.chains[0].networks = []sim.Network{n}
	best := w.oracle(w.chains[0], 0)
	best.rate = 0 // it is measured
	t := table{w: w}
	for _, p := range []policy{bestPolicy, adaptivePolicy, noShrinkPolicy, halvingPolicy, aimdPolicy} {
		t.rows = append(t.rows, row{policy: p, cells: make([][]figures, 1)})
	}
	for round := range rounds {
		var base float64
		for i := range t.rows {
			r := &t.rows[i]
			d, err := b.drive(w, r.policy, best.splits[0].batches[0])
			if err != nil {
				return table{}, fmt.Errorf("%s: %w", r.policy.name, err)
			}
			items := rate(d.turns, 0, w.steady, w.lasts)
			if i == 0 {
				base = items
				best.rate += items / float64(rounds)
			}
			f := figures{share: items / base, outOfMemory: d.failed, had: had(d.turns, w.cards[0].total, w.trace(0), w.lasts), lost: d.wrong}
			f.runs(&w, n, best, d.turns)
			r.cells[0] = append(r.cells[0], f)
			if round == 0 {
				r.shown = d.turns
			}
		}
	}
	t.oracles = []oracle{best}
	return t, nil
}

// measure finds what runs of the network take: bytes of the session's arena, and the
// time of an item.
func (b *bed) measure(total int64) (sim.Network, error) {
	const few, many = 2, 32
	// At first the process gets all the memory that it will need.
	if _, _, err := b.once(total, 2*many); err != nil {
		return sim.Network{}, err
	}
	fewBytes, fewTook, err := b.once(total, few)
	if err != nil {
		return sim.Network{}, err
	}
	manyBytes, manyTook, err := b.once(total, many)
	if err != nil {
		return sim.Network{}, err
	}
	n := sim.Network{Name: "hog", Start: perRun, Each: (manyTook - fewTook) / (many - few)}
	n.PerItem = (manyBytes - fewBytes) / (many - few)
	n.Fixed = max(fewBytes-few*n.PerItem, 0)
	return n, nil
}

// once opens a session for two runs of a size, and tells what the second took.
func (b *bed) once(total int64, batch int) (bytes int64, took time.Duration, err error) {
	d := runtimeDrive{bed: b, total: total}
	if err := d.open(total); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.session.Close()) }()
	for range 2 {
		if took, err = d.compute(batch, false); err != nil {
			return 0, 0, err
		}
	}
	bytes, err = d.allocated()
	return bytes, took, err
}

// runtimeDrive is a drive with a session of the runtime. Its clock is the sum of the
// runs' times and of the waits for a reading; a wait takes no real time.
type runtimeDrive struct {
	bed      *bed
	wants    sim.Trace
	total    int64
	workload *memory.Workload

	session *ort.Session
	limit   int64 // of its arena
	fixed   int64 // that the arena has before the first run
	grew    []int // batches that made its arena as large as it is

	now, polled time.Duration
	others      int64 // when they were read
	neighbours  memory.Neighbours
	longest     time.Duration // of the last runs

	turns  []sim.Turn
	failed int   // runs that ran out of memory
	done   int64 // items
	wrong  int64 // items with another one's output
}

func (b *bed) drive(w workload, p policy, best int) (d *runtimeDrive, err error) {
	d = &runtimeDrive{bed: b, wants: w.trace(0), total: w.cards[0].total, polled: -pollEvery}
	governor, err := memory.NewGovernor(memory.GovernorOptions{
		Strategy: p.strategy, Strategies: strategies(), Clock: func() time.Time { return time.Unix(0, 0).Add(d.now) },
	})
	if err != nil {
		return nil, err
	}
	o := memory.WorkloadOptions{Name: "hog", Device: "sim:0", Key: "hog", Batch: p.batch}
	if p.best {
		o.Batch = best
	}
	d.workload = governor.Workload(o)
	if err := d.open(d.total - d.wants.At(0)); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.session.Close()) }()
	for d.now < w.lasts {
		if err := d.turn(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// open begins a session whose arena may have so much.
func (d *runtimeDrive) open(limit int64) error {
	if d.session != nil {
		if err := d.session.Close(); err != nil {
			return err
		}
	}
	s, err := d.bed.library.OpenBytes(context.Background(), d.bed.network, ort.SessionOptions{Threads: 1, ArenaLimit: limit})
	if err != nil {
		return err
	}
	d.session, d.limit, d.fixed, d.grew = s, limit, 0, nil
	d.fixed, err = d.allocated()
	return err
}

// leaves is how much of a card a neighbour that wants so much leaves for an arena with
// its weights: nobody can take what an arena has.
func leaves(total, wants, has int64) int64 { return max(total-wants, has) }

// follow keeps the arena to what the neighbour leaves now. All that it gives back before
// the next run, if shrink says so, is the neighbour's first. An arena's limit cannot
// change: another one takes its place, in which the same runs have grown the same
// regions, as it asks the system for just what lacks.
func (d *runtimeDrive) follow(shrink bool) error {
	own, err := d.allocated()
	if err != nil {
		return err
	}
	if shrink {
		own = 0
	}
	limit := leaves(d.total, d.wants.At(d.now), d.fixed+own)
	if limit == d.limit {
		return nil
	}
	grew := d.grew
	if err := d.open(limit); err != nil || own == 0 {
		return err
	}
	for _, batch := range grew {
		if _, err := d.session.Run(context.Background(), []*ort.Tensor{ort.NewTensor(ort.Float32, int64(batch), 3, 1, 1)}, ort.RunOptions{}); err != nil {
			return fmt.Errorf("growing an arena of %d bytes anew by runs of %v items: %w", own, grew, err)
		}
	}
	d.grew = grew
	now, err := d.allocated()
	if err == nil && now != own {
		err = fmt.Errorf("an arena of %d bytes has %d when it has grown anew by runs of %v items", own, now, grew)
	}
	return err
}

// allocated is what the arena has for runs.
func (d *runtimeDrive) allocated() (int64, error) {
	s, err := d.session.Stats()
	return s.Allocated - d.fixed, err
}

// compute runs the next items, and looks whether each got its own output: the network
// gives back the one pixel that an item has.
func (d *runtimeDrive) compute(batch int, shrink bool) (time.Duration, error) {
	in := ort.NewTensor(ort.Float32, int64(batch), 3, 1, 1)
	for i := range in.Float32s() {
		in.Float32s()[i] = pixel(d.done + int64(i/3))
	}
	began := cpuNow()
	out, err := d.session.Run(context.Background(), []*ort.Tensor{in}, ort.RunOptions{ShrinkFirst: shrink})
	took := cpuNow() - began + perRun
	if err != nil {
		return took, err
	}
	got := out[0].Float32s()
	if len(got) != 3*batch {
		return took, fmt.Errorf("%d items gave %d numbers", batch, len(got))
	}
	for i := range batch {
		if math.Abs(float64(got[3*i]-pixel(d.done+int64(i)))) > 0.5 {
			d.wrong++
		}
	}
	d.done += int64(batch)
	return took, nil
}

// pixel is that of an item; neighbours differ.
func pixel(item int64) float32 { return float32(item % 97) }

// cpuNow is the CPU time of this process. While a session runs, on its one thread,
// nothing else happens in it, and other programs on the machine do not count.
func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// poll reads the card as often as that would have been by now.
func (d *runtimeDrive) poll(own int64) {
	for at := d.polled + pollEvery; at <= d.now; at += pollEvery {
		d.others = min(d.wants.At(max(at-lag, 0)), d.total-own)
		d.neighbours.Observe(time.Unix(0, 0).Add(at), d.others, d.total)
		d.polled = at
	}
}

// room is what the session may have, by the last reading.
func (d *runtimeDrive) room() (memory.Room, error) {
	own, err := d.allocated()
	if err != nil {
		return memory.Room{}, err
	}
	d.poll(own)
	return memory.Room{
		Budget:    d.total - d.fixed - d.neighbours.Expect(pollEvery+d.longest, headroom),
		Allocated: own,
		Scarce:    d.total-d.fixed-d.others-own < headroom/4,
	}, nil
}

// turn is one run, or the wait for a reading.
func (d *runtimeDrive) turn() error {
	room, err := d.room()
	if err != nil {
		return err
	}
	choice := d.workload.Next("", room)
	turn := sim.Turn{At: d.now, Batch: choice.Batch, Budget: room.Budget, Others: d.others, Own: room.Allocated}
	if choice.Look || choice.Batch == 0 {
		turn.Batch = 0
		if choice.Look {
			turn.Own = 0
			if err := d.open(d.limit); err != nil {
				return err
			}
			d.now += lag
		}
		d.wait()
		turn.Took = d.now - turn.At
		d.turns = append(d.turns, turn)
		return nil
	}
	if err := d.follow(choice.Shrink); err != nil {
		return err
	}
	took, err := d.compute(choice.Batch, choice.Shrink)
	r := memory.Ran{Batch: choice.Batch, Seconds: took.Seconds()}
	d.now += took
	var none *ort.OutOfMemoryError
	switch {
	case errors.As(err, &none):
		r.OutOfMemory, r.Need, turn.OutOfMemory = true, none.Requested, true
		d.failed++
		if err := d.open(d.limit); err != nil { // what the failed run had is given back
			return err
		}
		d.wait()
	case err != nil:
		return err
	default:
		d.longest = max(took, d.longest*9/10)
	}
	now, err := d.room()
	if err != nil {
		return err
	}
	if !r.OutOfMemory && (room.Allocated == 0 || choice.Shrink) {
		r.Bytes = now.Allocated
	}
	switch {
	case r.OutOfMemory: // the session is a new one
	case choice.Shrink:
		d.grew = []int{choice.Batch}
	case now.Allocated > room.Allocated:
		d.grew = append(d.grew, choice.Batch)
	}
	turn.Took, turn.Own = took, max(now.Allocated, 0)
	d.turns = append(d.turns, turn)
	d.workload.Ran("", r, now)
	return nil
}

// wait waits for the next reading.
func (d *runtimeDrive) wait() {
	d.now = max(d.now, d.polled+pollEvery)
}
