package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

// History is what the run store of a state directory keeps: what became of each
// image and why, how the last run went, and what its governor decided. It is read
// only, and may be looked at beside a run that writes it; what such a run has not
// looked at yet is then as the run before left it. Its methods may be called from
// several goroutines.
type History struct {
	dir   string
	store *runstore.Store
}

// OpenHistory opens the history in a state directory. The error matches
// fs.ErrNotExist when there is no run store. Close must be called.
func OpenHistory(ctx context.Context, stateDir string) (*History, error) {
	dir := absolute(stateDir)
	s, err := runstore.OpenReadOnly(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(err, dir)
	}
	if err != nil {
		return nil, err
	}
	return &History{dir, s}, nil
}

// Close releases the store.
func (h *History) Close() error { return h.store.Close() }

// RunRecord is what is kept of a run.
type RunRecord struct {
	// State is done, interrupted, failed, running, or killed: the run neither told
	// how it ended nor has the store open.
	State       string    `json:"state"`
	Pipeline    string    `json:"pipeline"`    // its name
	Version     string    `json:"version"`     // of the program
	Fingerprint string    `json:"fingerprint"` // Pipeline.Fingerprint
	Started     time.Time `json:"started"`     // when it began
	Summary     *Summary  `json:"summary"`     // nil when it is running or was killed
}

// LastRun is the run that began last; nil when none did.
func (h *History) LastRun(ctx context.Context) (*RunRecord, error) {
	// Asked first: a run that ends between the two questions is then running, not
	// killed.
	busy, err := runstore.InUse(h.dir)
	if err != nil {
		return nil, err
	}
	run, state, summary, ok, err := h.store.LastRun(ctx)
	if err != nil {
		return nil, damaged(err, h.dir)
	}
	if !ok {
		return nil, nil
	}
	r := &RunRecord{State: state, Pipeline: run.Spec, Version: run.Version, Fingerprint: run.Fingerprint, Started: run.Started}
	switch {
	case state != "":
		r.Summary = &Summary{}
		if err := json.Unmarshal(summary, r.Summary); err != nil {
			return nil, fmt.Errorf("reading the summary of the last run: %w", err)
		}
	case busy:
		r.State = "running"
	default:
		r.State = "killed"
	}
	return r, nil
}

// EndCount is how many items, or files, ended for one reason.
type EndCount struct {
	Kind   EndKind `json:"kind"`             // how they ended
	Stage  string  `json:"stage,omitempty"`  // in which, its ID
	Reason string  `json:"reason,omitempty"` // of rejected ones
	N      int64   `json:"count"`            // of them
}

// Counts are the ends by kind, stage and reason, the most frequent first; of
// written ones the files. Consumed items are not counted: nothing is recorded of
// them.
func (h *History) Counts(ctx context.Context) ([]EndCount, error) {
	tallies, bare, err := h.store.Tallies(ctx, lqPrefix)
	if err != nil {
		return nil, damaged(err, h.dir)
	}
	sums := map[EndCount]int64{}
	for _, t := range tallies {
		e := End{}
		if err := e.setStage(t.Kind, t.Stage); err != nil {
			return nil, err
		}
		sums[EndCount{Kind: e.Kind, Stage: e.Stage, Reason: e.Reason}] += t.N
	}
	if bare > 0 {
		sums[EndCount{Kind: EndUnfinished}] = bare
	}
	all := make([]EndCount, 0, len(sums))
	for c, n := range sums {
		c.N = n
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b EndCount) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	return all, nil
}

// CauseCount is how many items failed for one cause.
type CauseCount struct {
	Stage    string   `json:"stage"`    // in which they failed, its ID
	Cause    string   `json:"cause"`    // its first line; empty: for other causes
	N        int64    `json:"count"`    // items
	Examples []string `json:"examples"` // IDs of the first three
}

const (
	shownCauses   = 50 // that are counted apart
	shownExamples = 3
)

// Causes are why items failed, the most frequent first.
func (h *History) Causes(ctx context.Context) ([]CauseCount, error) {
	type key struct{ stage, cause string }
	found := map[key]*CauseCount{}
	err := h.Ends(ctx, EndQuery{Kind: EndFailed}, func(e End) error {
		cause, _, _ := strings.Cut(e.Cause, "\n")
		k := key{e.Stage, cause}
		if found[k] == nil && len(found) >= shownCauses {
			k = key{}
		}
		c := found[k]
		if c == nil {
			c = &CauseCount{Stage: k.stage, Cause: k.cause}
			found[k] = c
		}
		c.N++
		if len(c.Examples) < shownExamples {
			c.Examples = append(c.Examples, e.ID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make([]CauseCount, 0, len(found))
	for _, c := range found {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b CauseCount) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Cause, b.Cause))
	})
	return all, nil
}

// GovernorDecision is something that the governor decided in the last run: how
// many items of a shape a network takes at once on a device, or how many workers a
// stage has.
type GovernorDecision struct {
	Time    time.Time `json:"time"`              // when it was made
	Network string    `json:"network,omitempty"` // its name; empty where it is about workers
	Device  string    `json:"device,omitempty"`  // on which the network runs
	Shape   string    `json:"shape,omitempty"`   // of the network's items
	Stage   string    `json:"stage,omitempty"`   // of which it is the workers
	Rule    string    `json:"rule"`              // why
	From    int       `json:"from"`              // batch or workers before
	To      int       `json:"to"`                // batch or workers since
	Look    bool      `json:"look,omitempty"`    // memory was given back, to see what others leave of it
	Text    string    `json:"text"`              // the same in a line
}

// Decisions yields what the governor decided in the last run, in order. An error
// of yield ends it and is returned.
func (h *History) Decisions(ctx context.Context, yield func(GovernorDecision) error) error {
	return h.store.LastDecided(ctx, func(d runstore.Decided) error {
		var row struct {
			Name, Device, Shape, Stage, Rule string
			From, To                         int
			Look                             bool
			Text                             string
		}
		if err := json.Unmarshal(d.Data, &row); err != nil {
			return fmt.Errorf("reading what the governor decided: %w", err)
		}
		return yield(GovernorDecision{d.Time, row.Name, row.Device, row.Shape, row.Stage, row.Rule, row.From, row.To, row.Look, row.Text})
	})
}

// Governed is what the governor decided in the last run about one network and
// shape on a device, or about the workers of one stage, put together.
type Governed struct {
	Network string `json:"network,omitempty"` // its name; empty where it is about workers
	Device  string `json:"device,omitempty"`  // on which the network runs
	Shape   string `json:"shape,omitempty"`   // of the network's items
	Stage   string `json:"stage,omitempty"`   // of which it is the workers
	Changes int    `json:"decisions"`         // decisions that were made
	First   int    `json:"first"`             // batch or workers that it began with
	Least   int    `json:"least"`             // the fewest
	Most    int    `json:"most"`              // the most
	Last    int    `json:"last"`              // that it ended with
	Rule    string `json:"rule"`              // of the last
	Text    string `json:"text"`              // of the last
}

// Governed puts the decisions of the last run together, in the order in which the
// networks and stages came.
func (h *History) Governed(ctx context.Context) ([]Governed, error) {
	var all []Governed
	err := h.Decisions(ctx, func(d GovernorDecision) error {
		i := slices.IndexFunc(all, func(g Governed) bool {
			return g.Network == d.Network && g.Device == d.Device && g.Shape == d.Shape && g.Stage == d.Stage
		})
		if i < 0 {
			first := d.To
			if d.Stage != "" {
				first = d.From
			}
			all = append(all, Governed{Network: d.Network, Device: d.Device, Shape: d.Shape, Stage: d.Stage, First: first, Least: first, Most: first})
			i = len(all) - 1
		}
		g := &all[i]
		g.Changes++
		if !d.Look { // that changes no batch
			g.Last, g.Rule, g.Text = d.To, d.Rule, d.Text
			g.Least, g.Most = min(g.Least, d.To), max(g.Most, d.To)
		}
		return nil
	})
	return all, err
}

// base is the folder that what the store says of places is relative to.
func (h *History) base() string { return filepath.Dir(h.dir) }
