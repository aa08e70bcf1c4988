package memory

// adaptive takes the smallest batch that is nearly as fast as the largest that has
// room:
//
//   - It begins with 1 and 2, and then goes to its target, four times as large as what
//     has been seen at most. The arena gives its free regions back before each growth.
//     Where more items are worth a run (Least), it begins with those.
//   - It believes that more would hardly be faster only after it has seen a run of four
//     times as many, or of as many as have room, and looks again from time to time.
//   - It holds the target, and sets it anew every eight runs if it has moved for more
//     than noise.
//   - When others take memory it steps below what there is room for at once. Where they
//     have taken all, it gives everything back first and looks what they leave.
//   - After running out of memory it takes half, and the cost model remembers.
type adaptive struct {
	batch   int
	rule    Rule
	held    int  // runs since the target was set
	settled bool // the target has been reached; until then it moves after each probe
	looked  bool // since the last run
	// believed counts the runs since more than enough was last tried, and doubted how
	// often that was repeated.
	believed, doubted int
	doubting          bool // that is being tried now
}

const (
	// nearly is the share of the best rate that is enough. The rest would cost memory
	// that others may want.
	nearly = 0.99
	// holdRuns is for how many runs a target is held.
	holdRuns = 8
	// growAbove and shrinkBelow are what it must have moved by.
	growAbove   = 1.06
	shrinkBelow = 0.90
	// stepBelow is the share of what there is room for that is taken when others come.
	stepBelow = 0.8
	// Sizes 1 and 2 are timed twice, and larger ones once, before the next is tried.
	// The line through the first two is a guess; it gets better with each jump.
	probesSmall, probesLarge = 2, 1
	// doubtRuns is after how many runs it is tried whether more would be faster after
	// all, in as many runs as the speed model trusts. Each time it takes twice as many,
	// up to mostDoubted times.
	doubtRuns   = 128
	mostDoubted = 3
)

func (a *adaptive) Next(s Situation) Choice {
	fits := s.Cost.Fits(s.Budget, s.Most)
	if !s.Cost.Known() && fits > 0 {
		fits = max(fits, s.Least)
	}
	over := s.Allocated > s.Budget
	if (fits < max(a.batch, 1) || over) && s.Scarce && !a.looked && s.Allocated > 0 {
		a.looked = true
		return Choice{Look: true, Rule: RulePressure}
	}
	over = over || fits < a.batch
	want, rule := a.want(s, fits)
	if rule == RuleProbe || rule == RuleSpeed {
		want = max(want, min(s.Least, fits))
	}
	switch {
	case fits == 0:
		a.set(0, RuleNoRoom)
	case a.batch > fits:
		rule = RulePressure
		if s.Shared {
			rule = RuleShared
		}
		a.set(max(int(stepBelow*float64(fits)), 1), rule)
		a.settled = true
	case a.due(s, want):
		a.doubting = a.settled && rule == RuleProbe
		if a.doubting {
			a.settled, a.believed, a.doubted = false, 0, min(a.doubted+1, mostDoubted)
		}
		a.set(want, rule)
	case a.held >= holdRuns: // why it once became what it is does not matter any more
		a.rule = rule
	}
	next := a.batch
	if s.Items > 0 {
		next = min(next, s.Items)
	}
	// Regions for fewer items would stay beside those for more, and what is not needed
	// is for others.
	shrink := s.Allocated > 0 && (over || next > s.Covered || s.Surplus)
	return Choice{Batch: a.batch, Shrink: shrink, Rule: a.rule}
}

func (a *adaptive) set(batch int, rule Rule) {
	a.batch, a.rule, a.held = batch, rule, 0
}

// due tells whether the batch is to become want now.
func (a *adaptive) due(s Situation, want int) bool {
	if a.batch == 0 {
		return true
	}
	moved := float64(want) > growAbove*float64(a.batch) || float64(want) < shrinkBelow*float64(a.batch)
	if a.settled {
		return moved && a.held >= holdRuns
	}
	probes := probesLarge
	switch {
	case a.doubting:
		probes = speedTrust
	case a.batch <= 2:
		probes = probesSmall
	}
	if s.Speed.Timed(a.batch) < probes {
		return false
	}
	a.settled = !moved
	return moved
}

// want is the target, and why it is no larger.
func (a *adaptive) want(s Situation, fits int) (int, Rule) {
	if !s.Cost.Known() {
		return 1, RuleProbe
	}
	if s.Speed.Sizes() < 2 && fits > 1 { // a second size tells what a run takes beside its items
		timed := max(s.Speed.Largest(), 1)
		if 2*timed > fits {
			return max(timed/2, 1), RuleProbe
		}
		return 2 * timed, RuleProbe
	}
	enough := s.Speed.Enough(nearly, fits)
	far := min(enough*mostExtrapolated, fits)
	switch {
	case enough < far && (growAbove*float64(s.Speed.Largest()) < float64(far) || a.settled && a.believed >= doubtRuns<<a.doubted):
		return far, RuleProbe
	case enough < fits:
		return enough, RuleSpeed
	case fits == s.Most:
		return fits, RuleMost
	case fits == s.Cost.Largest()*mostExtrapolated:
		return fits, RuleProbe
	default:
		return fits, RuleMemory
	}
}

func (a *adaptive) Ran(_ Situation, r Ran) {
	a.looked = false
	a.held++
	a.believed++
	if r.OutOfMemory && r.Batch <= a.batch {
		a.set(max(r.Batch/2, 1), RuleFailed)
		a.settled = true
	}
}
