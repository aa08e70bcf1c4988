package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
)

// governed is a run's governor of networks, and what was decided about them and about
// workers since that was last kept.
type governed struct {
	*memory.Governor
	mu      sync.Mutex
	decided []runstore.Decided
	kept    int
}

const (
	// learnedName is the file in the cache folder in which runs keep for each other what
	// networks take of devices.
	learnedName = "learned.json"
	// mostDecided bounds what one run keeps of what was decided.
	mostDecided = 10_000
)

// openGovernor begins to govern, with what earlier runs have learned.
func (r *run) openGovernor() (err error) {
	var learned []memory.Learned
	if file := r.learnedFile(); file != "" {
		if learned, err = memory.ReadLearned(file); err != nil {
			r.pipe.log.Warn("what earlier runs have learned of networks and devices is not used", "cause", err)
		}
	}
	r.governor.Governor, err = memory.NewGovernor(memory.GovernorOptions{
		Strategy: r.pipe.Strategy, Strategies: r.pipe.strategies, Learned: learned, Decided: r.decided,
	})
	return err
}

// learnedFile is where runs keep what they have learned; empty: nowhere, as in a dry
// run, which runs no network.
func (r *run) learnedFile() string {
	if r.opts.CacheDir == "" || r.opts.DryRun {
		return ""
	}
	return filepath.Join(r.opts.CacheDir, learnedName)
}

// decided takes a decision about a network in.
func (r *run) decided(d memory.Decision) {
	r.tellDecided("", d.Time, d.String(), struct {
		memory.Decision
		Text string `json:"text"`
	}{d, d.String()})
}

// workersDecided takes in that a stage has another count of workers.
func (r *run) workersDecided(stage string, at time.Time, from, to int, why string) {
	text := fmt.Sprintf("%s has %d workers now, %d before: %s", stage, to, from, why)
	r.tellDecided(stage, at, text, struct {
		Stage, Rule string
		From, To    int
		Text        string `json:"text"`
	}{stage, "workers", from, to, text})
}

// tellDecided tells of one decision, and keeps it as a row of JSON.
func (r *run) tellDecided(stage string, at time.Time, text string, row any) {
	r.event(EventGoverned, stage, "", text)
	g := &r.governor
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == mostDecided {
		return
	}
	g.kept++
	data, err := json.Marshal(row)
	if err != nil {
		r.warnOnce("decided", "a decision of the governor is not kept: %v", err)
		return
	}
	g.decided = append(g.decided, runstore.Decided{Time: at, Data: data})
}

// keepDecided puts what was decided into the run store.
func (r *run) keepDecided(ctx context.Context) error {
	g := &r.governor
	g.mu.Lock()
	decided := g.decided
	g.decided = nil
	g.mu.Unlock()
	return r.store.Decide(ctx, decided)
}

// keepLearned is for the next run.
func (r *run) keepLearned() {
	file := r.learnedFile()
	if file == "" {
		return
	}
	if err := memory.WriteLearned(file, r.governor.Learned()); err != nil {
		r.pipe.log.Warn("the next run learns anew what networks take", "cause", err)
	}
}

// Governor decides about the batches of networks in the run that the stage works in;
// nil outside of a run.
func (e Env) Governor() *memory.Governor {
	if e.door.run == nil {
		return nil
	}
	return e.door.run.governor.Governor
}

// Scarce tells whether others have taken all that was free of a device, by its last
// reading: what more they want cannot be seen then.
func (e Env) Scarce(d Device) bool {
	if e.door.run == nil {
		return false
	}
	l := e.door.run.device(d)
	return l != nil && l.scarce.Load()
}

// checkStrategy refuses one that there is not.
func (p *Pipeline) checkStrategy() error {
	if p.Strategy == "" {
		return nil
	}
	all := p.strategies
	if all == nil {
		all = memory.StandardStrategies()
	}
	if all[p.Strategy] == nil {
		names := slices.Sorted(maps.Keys(all))
		return fmt.Errorf("there is no strategy %q%s (there are %s)", p.Strategy, didYouMean(p.Strategy, names), strings.Join(names, ", "))
	}
	return nil
}
