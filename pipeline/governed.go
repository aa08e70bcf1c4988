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

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
)

// governed is a run's governor of inference, and what it has decided since that was
// last kept.
type governed struct {
	*memory.Governor
	mu      sync.Mutex
	decided []memory.Decision
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

// learnedFile is where runs keep what they have learned; empty: nowhere.
func (r *run) learnedFile() string {
	if r.opts.CacheDir == "" || r.dry != nil {
		return ""
	}
	return filepath.Join(r.opts.CacheDir, learnedName)
}

// decided takes a decision in.
func (r *run) decided(d memory.Decision) {
	r.event(EventGoverned, "", "", d.String())
	g := &r.governor
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept < mostDecided {
		g.kept++
		g.decided = append(g.decided, d)
	}
}

// keepDecided puts what was decided into the run store.
func (r *run) keepDecided(ctx context.Context) error {
	g := &r.governor
	g.mu.Lock()
	decided := g.decided
	g.decided = nil
	g.mu.Unlock()
	rows := make([]runstore.Decided, 0, len(decided))
	for _, d := range decided {
		data, err := json.Marshal(struct {
			memory.Decision
			Text string `json:"text"`
		}{d, d.String()})
		if err != nil {
			return err
		}
		rows = append(rows, runstore.Decided{Time: d.Time, Data: data})
	}
	return r.store.Decide(ctx, rows)
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
	if e.seat.run == nil {
		return nil
	}
	return e.seat.run.governor.Governor
}

// Scarce tells whether others have taken all that was free of a device, by its last
// reading: what more they want cannot be seen then.
func (e Env) Scarce(d Device) bool {
	if e.seat.run == nil {
		return false
	}
	l := e.seat.run.device(d)
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
