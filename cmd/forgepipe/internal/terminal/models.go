package terminal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/measure"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
)

// Models lists models, one a line, and below what is to be known of some.
func Models(list []store.Model) string {
	rows := [][]string{{"name", "task", "format", "size", "licence", "state"}}
	var notes []string
	for _, m := range list {
		size := "unknown"
		switch {
		case m.Record != nil:
			size = memory.FormatBytes(m.Record.Bytes())
		case m.Size > 0:
			size = memory.FormatBytes(m.Size)
		}
		task := cmp.Or(m.Task, "-")
		if m.Scale > 0 {
			task += fmt.Sprintf(" %dx", m.Scale)
		}
		licence, _, _ := strings.Cut(m.Licence, " (")
		rows = append(rows, []string{m.Name, task, m.Format, size, licence, ModelState(m)})
		if m.Note != "" {
			notes = append(notes, m.Name+": "+m.Note)
		}
	}
	lines := table(rows, false, false, false, true)
	if len(notes) > 0 {
		lines = append(append(lines, ""), notes...)
	}
	for i := range lines {
		lines[i] = oneLine(lines[i]) // a registry may be anybody's
	}
	return strings.Join(lines, "\n") + "\n"
}

// ModelState says in a few words whether a model is in the store.
func ModelState(m store.Model) string {
	state := "not fetched"
	switch {
	case m.Path != "":
		state = "here"
	case m.Partial > 0:
		state = memory.FormatBytes(m.Partial) + " fetched"
	case m.Fetchable():
	case m.Record != nil:
		state = "gone"
	default:
		state = "bring the file"
	}
	return state
}

// Network tells what the header of an ONNX file says.
func Network(file string, h *onnx.Header) string {
	rows := [][]string{{"file", file}}
	ports := func(what string, all []onnx.Port) {
		for _, p := range all {
			rows = append(rows, []string{what, fmt.Sprintf("%s: %s %s", p.Name, p.Type, p.Dims())})
			what = ""
		}
	}
	ports("inputs", h.Inputs)
	ports("outputs", h.Outputs)
	rows = append(rows, []string{"parameters", count(h.Parameters)}, []string{"weights", memory.FormatBytes(h.WeightBytes)})
	for i, e := range h.External {
		rows = append(rows, []string{first(i, "beside it"), fmt.Sprintf("%s, at least %s", e.Name, memory.FormatBytes(e.Bytes))})
	}
	nodes := 0
	for _, n := range h.Ops {
		nodes += n
	}
	ops := slices.SortedFunc(maps.Keys(h.Ops), func(a, b string) int { return cmp.Or(h.Ops[b]-h.Ops[a], strings.Compare(a, b)) })
	rows = append(rows, []string{"operators", count(int64(nodes))})
	for line := range slices.Chunk(ops, 6) {
		var cells []string
		for _, op := range line {
			cells = append(cells, fmt.Sprintf("%s %d", op, h.Ops[op]))
		}
		rows = append(rows, []string{"", strings.Join(cells, ", ")})
	}
	var opsets []string
	for _, o := range h.Opsets {
		opsets = append(opsets, strings.TrimSpace(fmt.Sprintf("%s %d", o.Domain, o.Version)))
	}
	rows = append(rows, []string{"opset", strings.Join(opsets, ", ")}, []string{"made by", strings.TrimSpace(h.Producer + " " + h.ProducerVersion)})
	for i, k := range slices.Sorted(maps.Keys(h.Metadata)) {
		rows = append(rows, []string{first(i, "metadata"), k + ": " + h.Metadata[k]})
	}
	var b strings.Builder
	for _, l := range table(rows) {
		b.WriteString(strings.TrimRight(clip(oneLine(l), 200), " ") + "\n")
	}
	return b.String()
}

// first is a title for the first of several lines only.
func first(i int, title string) string {
	if i > 0 {
		return ""
	}
	return title
}

// Measured lists what a network took, whose weights take so many bytes.
func Measured(points []measure.Point, weights int64) string {
	rows := [][]string{{"batch", "size", "a run", "with weights", "a picture", ""}}
	for _, p := range points {
		row := []string{fmt.Sprint(p.Batch), fmt.Sprintf("%d x %d", p.Width, p.Height), "-", "-", "-", ""}
		switch {
		case p.OutOfMemory:
			row[5] = "there is not enough memory for it"
		case p.Fault != "":
			row[5] = p.Fault
		default:
			row[2], row[3], row[4] = memory.FormatBytes(p.Peak), memory.FormatBytes(p.Peak+weights), milliseconds(p.Seconds)
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	for _, l := range table(rows, true, true, true, true, true) {
		b.WriteString(strings.TrimRight(oneLine(l), " ") + "\n")
	}
	return b.String()
}

func milliseconds(seconds float64) string {
	if seconds >= 1 {
		return duration(seconds)
	}
	digits := 1
	if seconds >= 0.0995 {
		digits = 0
	}
	return fmt.Sprintf("%.*f ms", digits, seconds*1000)
}

// Fetching shows how far the fetching of a model is, until stop is called: on a terminal
// a bar, elsewhere a line every ten seconds. on is what is to be told of progress.
func (s *Screen) Fetching() (on func(store.Progress), stop func()) {
	var last atomic.Pointer[store.Progress]
	every := report
	if s.live {
		every = redraw
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		b := newBars(s)
		defer b.close()
		var f fetchRate
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				p := last.Load()
				switch {
				case p == nil:
				case s.live:
					b.draw([]row{f.row(now, *p)})
				default:
					s.Printf("%s: %s", p.Name, f.row(now, *p).note)
				}
			}
		}
	}()
	return func(p store.Progress) { last.Store(&p) }, func() {
		close(quit)
		<-done
	}
}

// fetchRate is how quickly bytes come, over the last few looks.
type fetchRate struct {
	at   []time.Time
	done []int64
}

func (f *fetchRate) row(now time.Time, p store.Progress) row {
	r := row{cells: []string{p.Name + " "}, fill: min(p.Done, p.Total), of: p.Total}
	if p.Waiting {
		r.of, r.note = 0, "another process fetches it: waiting for its end"
		return r
	}
	r.note = memory.FormatBytes(p.Done)
	if p.Total > 0 {
		r.note += " of " + memory.FormatBytes(p.Total)
	}
	if n := len(f.done); n > 0 && p.Done < f.done[n-1] { // it began anew
		*f = fetchRate{}
	}
	f.at, f.done = append(f.at, now), append(f.done, p.Done)
	for len(f.at) > 2 && now.Sub(f.at[1]) >= rateAfter {
		f.at, f.done = f.at[1:], f.done[1:]
	}
	seconds := now.Sub(f.at[0]).Seconds()
	if gained := p.Done - f.done[0]; seconds > 0 && gained > 0 {
		rate := float64(gained) / seconds
		r.note += fmt.Sprintf(", %s/s", memory.FormatBytes(int64(rate)))
		if p.Total > p.Done {
			r.note += fmt.Sprintf(", %s left", roughly(float64(p.Total-p.Done)/rate))
		}
	}
	return r
}
