package main

import "github.com/forgepipe/forgepipe/memory"

// policy is one way to choose batch sizes.
type policy struct {
	name     string
	strategy string // one of strategies
	// batch is the size that it is told; 0: none. best says that it is told the
	// oracle's.
	batch int
	best  bool
	// calibrated begins with what an earlier drive has learned.
	calibrated bool
}

// The strategies of this program, beside those that forgepipe brings.
const (
	unshrinking = "unshrinking"
	aimd        = "aimd"
)

var (
	adaptivePolicy   = policy{name: "adaptive", strategy: memory.Adaptive}
	calibratedPolicy = policy{name: "adaptive, calibrated", strategy: memory.Adaptive, calibrated: true}
	noShrinkPolicy   = policy{name: "adaptive without shrinking", strategy: unshrinking}
	bestPolicy       = policy{name: "fixed at the oracle's batch", strategy: memory.Fixed, best: true}
	safePolicy       = policy{name: "fixed at 8", strategy: memory.Fixed, batch: 8}
	halvingPolicy    = policy{name: "halving from 512", strategy: memory.Halving}
	aimdPolicy       = policy{name: "AIMD", strategy: aimd}
)

// strategies are all that the policies use. Those that are only here show how a
// program adds its own.
func strategies() memory.Strategies {
	all := memory.StandardStrategies()
	adaptive := all[memory.Adaptive]
	all[unshrinking] = func(batch int) memory.Strategy { return unshrunk{adaptive(batch), &memory.CostModel{}} }
	all[aimd] = func(int) memory.Strategy { return &additive{batch: 1} }
	return all
}

// unshrunk is a strategy whose arena keeps what it has when the batch grows. What a
// run takes cannot be seen then but for what the arena has after it, and that is what
// it learns from.
type unshrunk struct {
	memory.Strategy
	cost *memory.CostModel
}

func (u unshrunk) Next(s memory.Situation) memory.Choice {
	s.Cost = u.cost
	c := u.Strategy.Next(s)
	c.Shrink = false
	return c
}

func (u unshrunk) Ran(s memory.Situation, r memory.Ran) {
	u.cost.Ran()
	if r.OutOfMemory {
		u.cost.Failed(r.Batch, s.Budget, r.Need)
	} else {
		u.cost.Seen(r.Batch, s.Allocated)
	}
	s.Cost = u.cost
	u.Strategy.Ran(s, r)
}

// additive is additive increase, multiplicative decrease: one item more after each
// run, and half as many after one that ran out of memory. It looks at nothing else.
type additive struct{ batch int }

func (a *additive) Next(s memory.Situation) memory.Choice {
	return memory.Choice{Batch: min(a.batch, s.Most), Rule: memory.RuleMemory}
}

func (a *additive) Ran(s memory.Situation, r memory.Ran) {
	switch {
	case r.OutOfMemory:
		a.batch = max(r.Batch/2, 1)
	case r.Batch >= a.batch:
		a.batch = min(a.batch+1, s.Most)
	}
}
