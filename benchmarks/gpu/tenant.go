package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

const (
	sampleEvery = 100 * time.Millisecond
	pictures    = 16     // different ones, which come again and again
	leastCosine = 0.9999 // of a vector with the CPU's
)

// span is a time with one kind of neighbour.
type span struct {
	name        string
	from, until time.Duration
}

// visit is what the neighbour wants while a pipeline embeds, for so long. Only one level
// comes more than once: what does so is expected to come again.
func visit(total int64, lasts time.Duration) (sim.Trace, []span) {
	u := lasts / 12
	part := func(percent int64) int64 { return total / 100 * percent }
	t := sim.Trace{Points: []sim.Point{
		{}, {At: 2 * u, Bytes: part(50)}, {At: 4 * u},
		{At: 5 * u}, {At: 6 * u, Bytes: part(70), Ramp: true},
		{At: 7 * u, Bytes: part(85)}, {At: 7*u + u/2}, {At: 8 * u, Bytes: part(85)}, {At: 8*u + u/2},
		{At: 9 * u, Bytes: total}, {At: 11 * u},
	}}
	return t, []span{
		{"none", 0, 2 * u}, {"half of the card, at once", 2 * u, 4 * u}, {"gone", 4 * u, 5 * u},
		{"more and more, up to 70 %", 5 * u, 7 * u}, {"85 % and nothing, in turn", 7 * u, 9 * u},
		{"all that it can get", 9 * u, 11 * u}, {"gone", 11 * u, lasts},
	}
}

// moment is what there was at one instant of the run.
type moment struct {
	at              time.Duration
	done            int64
	wanted, had     int64 // by the neighbour
	own, leased     int64 // own: memory.Unknown where that is not known
	used, available int64
}

// crowd is a pipeline that embeds on a card that it has not for itself.
type crowd struct {
	settings
	file    *model.File
	options string // of embed
	lasts   time.Duration
	trace   sim.Trace

	images [pictures]*image.NRGBA
	want   [pictures][]float32 // vectors, of length 1
	began  time.Time
	other  *neighbour // nil: it is simulated

	done     atomic.Int64
	mu       sync.Mutex
	seen     map[string]int
	cosine   float64 // the lowest
	moments  []moment
	baseline int64 // bytes that others had before
}

// tenant runs a pipeline while a neighbour takes the card's memory and gives it back.
func tenant(ctx context.Context, s settings) (body string, held bool, err error) {
	c := crowd{settings: s, seen: map[string]int{}, cosine: 1, lasts: time.Minute}
	name := nets(s.brief)[1].name
	if s.brief {
		// One that takes memory, and hardly computes.
		c.lasts, name, c.options = 12*time.Second, "a network that takes 8 MiB an item", ", width: 24, height: 24"
		file := filepath.Join(s.dir, "hog.onnx")
		if err := testnet.Hog(8 << 20).WriteFile(file); err != nil {
			return "", false, err
		}
		c.file, err = model.Open(file, model.FileOptions{Spec: model.Spec{Width: 24, Height: 24}})
	} else {
		c.file, err = s.look(nets(false)[1])
	}
	if err != nil {
		return "", false, err
	}
	if err := c.prepare(ctx); err != nil {
		return "", false, err
	}
	trace, spans := visit(s.place.total, c.lasts)
	c.trace = trace
	if s.place.card == nil {
		if c.other, err = startNeighbour(s.place.number); err != nil {
			return "", false, err
		}
		defer func() { err = errors.Join(err, c.other.stop()) }()
	}
	before, err := s.place.read()
	if err != nil {
		return "", false, err
	}
	c.baseline = before.Used // with what CUDA's context takes of the neighbour
	headroom := s.place.total / 32
	sum, err := c.run(ctx, headroom)
	if err != nil {
		return "", false, err
	}
	if err := c.writeMoments(); err != nil {
		return "", false, err
	}
	body, held = c.report(name, headroom, spans, sum)
	return body, held, nil
}

// prepare makes the pictures, and finds what the CPU makes of them.
func (c *crowd) prepare(ctx context.Context) (err error) {
	size := c.file.Spec.OutputSize(image.Pt(1000, 1000))
	random := rand.New(rand.NewPCG(3, 4))
	session, err := c.place.open(ctx, c.file, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	for k := range c.images {
		img := image.NewNRGBA(image.Rectangle{Max: size})
		shade := random.IntN(200)
		for i := range img.Pix {
			img.Pix[i] = uint8(shade + random.IntN(56))
			if i%4 == 3 {
				img.Pix[i] = 255
			}
		}
		for i := k % 3; i < len(img.Pix); i += 4 {
			img.Pix[i] /= 2 // so that the pictures have other colours too
		}
		c.images[k] = img
		in := filled(1, c.file.Spec.Shape(1, size)[1:])
		clear(in.Data)
		if err := c.file.Spec.Fill(ctx, in.Data, img); err != nil {
			return err
		}
		out, err := run(ctx, session, in, model.SessionRun{})
		if err != nil {
			return err
		}
		c.want[k] = out
	}
	return nil
}

// Emit offers pictures until the time is over.
func (c *crowd) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	for i := 0; time.Since(c.began) < c.lasts && ctx.Err() == nil; i++ {
		if err := emit(pipeline.Input{Name: fmt.Sprintf("%d/%d.png", i%pictures, i), Image: c.images[i%pictures]}); err != nil {
			return err
		}
	}
	return nil
}

// check looks at an item at the end of the line.
func (c *crowd) check(_ context.Context, it *pipeline.Item) error {
	var k int
	if _, err := fmt.Sscanf(it.ID(), "%d/", &k); err != nil {
		return err
	}
	got := it.Vectors()[0].Data
	_, cosine, err := distance(got, c.want[k])
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[it.ID()]++
	if !(cosine >= c.cosine) {
		c.cosine = cosine
	}
	c.done.Add(1)
	return nil
}

// run runs the pipeline, and samples the card meanwhile.
func (c *crowd) run(ctx context.Context, headroom int64) (*pipeline.Summary, error) {
	registry := standard.Registry().With(
		pipeline.Info{Name: "made", Short: "Pictures, for so long.", NewSource: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Source, error) { return c, nil }},
		pipeline.Info{Name: "check", Short: "Looks at vectors.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(c.check), nil
		}},
	)
	yaml := fmt.Sprintf("memory: {gpu: {headroom: %dMiB}}\nsource: {made: {}}\nstages:\n  - embed: {model: %q, name: v%s}\n    device: gpu:%d\n  - check: {}\n",
		headroom>>20, c.file.Path, c.options, c.place.number)
	if c.place.card != nil {
		if err := c.place.simulate(c.trace); err != nil { // its clock begins now
			return nil, err
		}
	}
	p, err := pipeline.Load(ctx, "tenant.yaml", []byte(yaml), pipeline.Options{Registry: registry, Devices: []memory.Device{c.place.device}})
	if err != nil {
		return nil, err
	}
	m := memory.NewManager(memory.Options{Devices: []memory.Device{keepOpen{c.place.device}}})
	defer func() { _ = m.Close() }() // the device stays open
	c.began = time.Now()
	stop := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() { c.watch(m, stop) })
	sum, err := p.Run(ctx, pipeline.RunOptions{NoStore: true, Memory: m})
	close(stop)
	sampling.Wait()
	return sum, err
}

// keepOpen is a device that a manager does not close.
type keepOpen struct{ memory.Device }

// Description is that of the device.
func (k keepOpen) Description() string { return k.Device.(memory.Described).Description() }

// watch tells the neighbour what to want, and notes what there is.
func (c *crowd) watch(m *memory.Manager, stop chan struct{}) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		x := moment{at: time.Since(c.began), done: c.done.Load(), own: memory.Unknown}
		if x.wanted = c.trace.At(x.at); x.at > c.lasts {
			x.wanted = 0
		}
		if c.other != nil {
			if c.other.want(x.wanted) != nil {
				return // it has ended; stop tells how
			}
			x.had = c.other.held.Load()
		}
		for _, d := range m.State() {
			if d.Device != c.place.name || !d.Known() {
				continue
			}
			x.used, x.available, x.own = d.Used, d.Free, d.Own
			x.leased = d.Usage.Residency + d.Usage.Work
			switch {
			case c.other == nil:
				x.had = d.Used - d.Own
			case d.Own == memory.Unknown:
				x.own = d.Used - c.baseline - x.had
			}
		}
		c.moments = append(c.moments, x)
	}
}

// writeMoments keeps all figures, for whoever wants to draw them.
func (c *crowd) writeMoments() error {
	var b strings.Builder
	b.WriteString("seconds,items,neighbour_wants,neighbour_has,own,leased,used,free\n")
	for _, x := range c.moments {
		fmt.Fprintf(&b, "%.2f,%d,%d,%d,%d,%d,%d,%d\n", x.at.Seconds(), x.done, x.wanted, x.had, x.own, x.leased, x.used, x.available)
	}
	return writeFile(filepath.Join(c.out, "tenant.csv"), b.String())
}

func (c *crowd) report(name string, headroom int64, spans []span, sum *pipeline.Summary) (string, bool) {
	held := true
	var b strings.Builder
	who := "another process, which allocates with the CUDA driver"
	if c.other == nil {
		who = "figures"
	}
	fmt.Fprintf(&b, "A pipeline embeds with %s for %.0f s while a neighbour (%s) takes the card's memory and gives it back; %s stay free as headroom. Rates are of items at the end of the line. Own is what the process has of the card (what the driver says of it, or else what is used and not the neighbour's), and leased what the run's ledger says. All figures, ten times a second: tenant.csv.\n\n", name, c.lasts.Seconds(), who, memory.FormatBytes(headroom))
	b.WriteString("| neighbour | from s | had (mean) | items/s | own (mean) | leased (mean) | own less leased: least, mean, most |\n|---|---|---|---|---|---|---|\n")
	for _, s := range spans {
		in := slices.DeleteFunc(slices.Clone(c.moments), func(x moment) bool { return x.at < s.from || x.at >= s.until })
		if len(in) < 2 {
			fmt.Fprintf(&b, "| %s | %.1f | not sampled | | | | |\n", s.name, s.from.Seconds())
			continue
		}
		last := in[len(in)-1]
		rate := float64(last.done-in[0].done) / (last.at - in[0].at).Seconds()
		least, typical, greatest := apart(in)
		fmt.Fprintf(&b, "| %s | %.1f | %s | %.1f | %s | %s | %s, %s, %s |\n", s.name, s.from.Seconds(), average(in, func(x moment) int64 { return x.had }), rate,
			average(in, func(x moment) int64 { return x.own }), average(in, func(x moment) int64 { return x.leased }), signed(least), signed(typical), signed(greatest))
	}
	b.WriteString("\n")
	for _, a := range sum.Governed {
		fmt.Fprintf(&b, "%s; %s.\n\n", a.Did(), a.Limit())
	}
	once := 0
	for _, n := range c.seen {
		if n == 1 {
			once++
		}
	}
	b.WriteString(verdict(&held, once == int(sum.In) && len(c.seen) == once && sum.Out == sum.In && sum.Quarantined == 0, "each of %d items is done once: %d once, %d out, %d quarantined", sum.In, once, sum.Out, sum.Quarantined))
	b.WriteString(verdict(&held, c.cosine >= leastCosine, "each vector has at least a cosine of %g with the CPU's: %.6f", leastCosine, c.cosine))
	if c.other == nil {
		return b.String() + "- what the driver and the ledger say: not judged, as a simulated card does not know what the runtime has\n", held
	}
	settled := slices.DeleteFunc(slices.Clone(c.moments), func(x moment) bool { return x.at < c.lasts/12 || x.at >= c.lasts })
	least, _, greatest := apart(settled)
	b.WriteString(verdict(&held, len(settled) > 0 && greatest-least <= headroom, "what the driver and what the ledger say differ by the same, within the headroom (the context and libraries are always there): from %s to %s", signed(least), signed(greatest)))
	return b.String(), held
}

// apart is what the process has beyond what is leased.
func apart(in []moment) (least, mean, greatest int64) {
	least, greatest = math.MaxInt64, math.MinInt64
	for _, x := range in {
		d := x.own - x.leased
		least, greatest, mean = min(least, d), max(greatest, d), mean+d/int64(len(in))
	}
	return least, mean, greatest
}

// average is a mean, for people.
func average(in []moment, of func(moment) int64) string {
	var sum int64
	for _, x := range in {
		sum += of(x) / int64(len(in))
	}
	return signed(sum)
}
