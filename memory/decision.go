package memory

import (
	"fmt"
	"strings"
	"time"
)

// Decision is a change that the Governor made, with what it knew.
type Decision struct {
	Time     time.Time // by the Governor's clock
	Name     string    // of the network
	Device   string    // that the session is on
	Shape    string    // of the items, as Workload.Next was asked
	Rule     Rule      // why
	From, To int       // items of a run
	// Look says that the arena's memory was given back, to see what others leave.
	Look      bool
	Budget    int64   // bytes that the session's arena could have
	Allocated int64   // bytes that it had
	Need      int64   // bytes that To items take; 0: not known yet
	Rate      float64 // items a second that are expected of To items; 0: not known yet
}

// String says it in a line.
func (d Decision) String() string {
	who := d.Name + " on " + d.Device
	need := ""
	if d.Need > 0 {
		need = "about " + FormatBytes(d.Need)
	}
	switch {
	case d.Look:
		return fmt.Sprintf("%s gives back %s, to see what others leave of it", who, FormatBytes(d.Allocated))
	case d.To == 0:
		text := who + " waits for room for an item: "
		if need != "" {
			text += "it takes " + need + ", and "
		}
		if d.Budget <= 0 {
			return text + "nothing is left for it"
		}
		return text + FormatBytes(d.Budget) + " are left for it"
	}
	text := who
	if d.From == 0 {
		text += fmt.Sprintf(" begins with %s at once", count(int64(d.To), "item"))
	} else {
		text += fmt.Sprintf(" takes %s at once now, %d before", count(int64(d.To), "item"), d.From)
	}
	why := ruleTexts[d.Rule]
	if why == "" {
		why = string(d.Rule) // another strategy's
	}
	text += ": " + why
	var known []string
	switch {
	case need != "" && d.Budget < anyMemory:
		known = append(known, need+" of "+FormatBytes(max(d.Budget, 0)))
	case need != "":
		known = append(known, need)
	}
	if d.Rate > 0 {
		known = append(known, fmt.Sprintf("%.4g items/s", d.Rate))
	}
	if len(known) > 0 {
		text += " (" + strings.Join(known, "; ") + ")"
	}
	return text
}

var ruleTexts = map[Rule]string{
	RulePinned:   "pinned by the pipeline, or by the network",
	RuleMost:     "as many as a run may take",
	RuleProbe:    "to learn what a run takes",
	RuleMemory:   "as many as there is room for",
	RuleSpeed:    "more would hardly be faster",
	RulePressure: "others have taken memory",
	RuleShared:   "it shares the device with other networks or sessions",
	RuleFailed:   "a larger batch had no room",
}

// newsOf is what decisions are told about.
type newsOf struct{ name, device, shape string }

// sameNews tells whether there is nothing new in a choice after another one.
func sameNews(a, b Choice) bool {
	return a.Batch == b.Batch && (a.Batch > 0 || a.Rule == b.Rule)
}

// tell calls Decided with what is untold, without the lock, so that who is told may call
// the Governor. Only one goroutine does at a time, which keeps the order: the others
// leave what they decided to it.
func (g *Governor) tell() {
	for all := g.news(false); len(all) > 0; all = g.news(true) {
		for _, d := range all {
			g.o.Decided(d)
		}
	}
}

// news takes what is to be told, unless another goroutine tells; mine says that it is
// this one. Who gets some has to come back for more, until there is none.
func (g *Governor) news(mine bool) []Decision {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.telling && !mine {
		return nil
	}
	all := g.untold
	g.untold, g.telling = nil, len(all) > 0
	return all
}

// decided notes a choice that is another than the last that was told. It needs the lock.
func (w *Workload) decided(c *course) {
	if !c.last.Look && sameNews(c.last, c.shown) {
		return
	}
	// Sessions of one network on one device decide the same, one after the other.
	of := newsOf{w.o.Name, w.o.Device, c.shape}
	from := c.shown.Batch
	if !c.last.Look {
		told, known := w.g.told[of]
		c.shown = c.last
		if known && sameNews(c.last, told) {
			return
		}
		if len(w.g.told) >= mostModels {
			clear(w.g.told)
		}
		w.g.told[of] = c.last
	}
	d := Decision{
		Time: w.g.o.Clock(), Name: w.o.Name, Device: w.o.Device, Shape: c.shape,
		Rule: c.last.Rule, From: from, To: c.last.Batch, Look: c.last.Look,
		Budget: c.asked.Budget, Allocated: c.asked.Allocated,
		Need: c.models.cost.Bytes(c.items(max(c.last.Batch, 1))), Rate: c.models.speed.Rate(c.last.Batch),
	}
	if d.Look {
		d.To = d.From
	}
	w.account.decided(d)
	if w.g.o.Decided != nil {
		w.g.untold = append(w.g.untold, d)
	}
}
