package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Case is a test of a pipeline: some inputs, and what is expected to become of
// them. LoadCases reads cases from a file.
type Case struct {
	Name     string // what it pins, in a few words
	File     string // of the cases
	Line     int    // in it
	Pipeline string // file of the pipeline

	data    []byte // of the pipeline's file
	options Options
	changes *changes
	at      *yamlNode
	only    []choice // of the inputs; empty: all
	totals  []total
	expect  []*expectation
}

// CaseResult is what became of a case.
type CaseResult struct {
	Name     string           `json:"name"`     // of the case
	File     string           `json:"file"`     // in which it stands
	Line     int              `json:"line"`     // of it, from 1
	OK       bool             `json:"ok"`       // it has no failures
	Seconds  float64          `json:"seconds"`  // that it took
	Totals   map[string]int64 `json:"totals"`   // of the run, by the names that a case has for them
	Failures []CaseFailure    `json:"failures"` // the expectations that were not met
	Items    []CaseItem       `json:"items"`    // all that came out, were rejected or failed, by ID
}

// CaseFailure is one expectation that was not met.
type CaseFailure struct {
	File     string     `json:"file"`     // where the expectation stands
	Line     int        `json:"line"`     // from 1
	Col      int        `json:"col"`      // from 1, in characters
	Expected string     `json:"expected"` // what should be, in words
	Got      string     `json:"got"`      // what is
	Items    []CaseItem `json:"items"`    // the first 10 of those that it failed for
	More     int        `json:"more"`     // how many others there are
}

// CaseEnd says how an item of a case ended. It is shorter than EndKind: what only
// lives on in what was derived from it is no item of a case, and a case's run goes
// to its end.
type CaseEnd string

// The ends of a case's items.
const (
	// CaseKept: it came out at the end of the chain. A run store says more of such an
	// item: EndWritten or EndPassed.
	CaseKept     CaseEnd = "kept"
	CaseRejected         = CaseEnd(EndRejected) // a stage did not want it
	CaseFailed           = CaseEnd(EndFailed)   // it is quarantined
)

// CaseEnds are all of them.
var CaseEnds = []CaseEnd{CaseKept, CaseRejected, CaseFailed}

// CaseItem is how an item ended.
type CaseItem struct {
	ID         string           `json:"id"`                 // as Item.ID
	End        CaseEnd          `json:"end"`                // kept, rejected or failed
	Stage      string           `json:"stage,omitempty"`    // that rejected it, or in which it failed; "source" is the source
	Reason     string           `json:"reason,omitempty"`   // of a rejection
	Values     Values           `json:"values,omitempty"`   // that explain it
	Cause      string           `json:"cause,omitempty"`    // of a failure
	Width      int              `json:"width"`              // pixels, in the end; 0 where the source could not be read
	Height     int              `json:"height"`             // likewise
	Attributes map[string]Value `json:"attributes"`         // that stages have set
	Files      []string         `json:"files,omitempty"`    // pictures written from it, below the folder of the case
	LQFiles    []string         `json:"lq_files,omitempty"` // likewise from its low-quality companion
	Why        string           `json:"why,omitempty"`      // in a failure: in what it is not as expected

	builtins  map[string]Value
	dir       string        // that Files and LQFiles are below
	written   []writtenFile // Files, once somebody asks
	writtenLQ []writtenFile
}

// maxCaseItems bounds what a case keeps in memory. One with more inputs most
// likely reads a folder that it does not mean.
const maxCaseItems = 10_000

var errManyItems = fmt.Errorf("more than %d items have ended: a case is for a few inputs; choose them with only", maxCaseItems)

// build makes the pipeline as the case has it.
func (c *Case) build(ctx context.Context) (*Pipeline, error) {
	return load(ctx, c.Pipeline, c.data, c.options, c.changes)
}

// Run runs the pipeline with the case's inputs and compares what becomes of them
// with what is expected. What stages write through Env.Publish goes below dir, which
// is made if it is missing and should be empty: the pipeline's own output folders, its
// run store and cached results of other runs are not touched. A stage that writes files
// in another way cannot be kept from it. The error is for what keeps the case from
// being decided, such as the end of ctx; a run that fails is a failure of the case.
func (c *Case) Run(ctx context.Context, dir string) (*CaseResult, error) {
	began := time.Now()
	p, err := c.build(ctx)
	if err != nil {
		return nil, err
	}
	if len(c.only) > 0 {
		p.source = &chosenInputs{source: p.source, only: c.only}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the case's folder: %w", err)
	}
	dir = absolute(dir)
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := endings{dir: dir, full: func() { cancel(errManyItems) }}
	sum, err := p.Run(within, RunOptions{
		StateDir: filepath.Join(dir, stateDirName), outputs: dir, ended: all.add, Check: true,
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if errors.As(err, new(*SpecError)) {
		return nil, err
	}
	r := &CaseResult{Name: c.Name, File: c.File, Line: c.Line, Totals: map[string]int64{}, Failures: []CaseFailure{}, Items: all.sorted()}
	if sum != nil {
		r.Totals = totalsOf(sum)
	}
	if err := all.readCompanions(ctx, r.Items); err != nil {
		return nil, err
	}
	if errors.Is(context.Cause(within), errManyItems) {
		err = errManyItems // also of a run that came to its end before it was stopped
	}
	if err == nil {
		r.Failures = c.judge(r)
	} else {
		r.Failures = append(r.Failures, c.broken(err))
	}
	r.OK, r.Seconds = len(r.Failures) == 0, time.Since(began).Seconds()
	return r, nil
}

// judge compares what became of the items with what is expected, in the order of
// the file.
func (c *Case) judge(r *CaseResult) []CaseFailure {
	failures := []CaseFailure{}
	for _, t := range c.totals {
		if got := r.Totals[t.name]; !t.want.has(float64(got)) {
			failures = append(failures, c.failure(t.at, fmt.Sprintf("%s %s", t.want, t.name), fmt.Sprint(got)))
		}
	}
	for _, e := range c.expect {
		if f, ok := e.judge(r.Items); !ok {
			f.File, f.Line, f.Col = c.File, e.at.line, e.at.col
			failures = append(failures, f)
		}
	}
	slices.SortStableFunc(failures, func(a, b CaseFailure) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return failures
}

func (c *Case) failure(at *yamlNode, expected, got string) CaseFailure {
	return CaseFailure{File: c.File, Line: at.line, Col: at.col, Expected: expected, Got: got, Items: []CaseItem{}}
}

// broken is the failure of a case whose run did not come to its end.
func (c *Case) broken(err error) CaseFailure {
	var missing *missingInputError
	if errors.As(err, &missing) {
		return c.failure(missing.at, "an input "+string(missing.selector), missing.got)
	}
	return c.failure(c.at, "the run to come to its end", err.Error())
}

// String says what was expected and what was, with the items that decided: several
// lines, without a newline at the end.
func (f CaseFailure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: expected %s; got %s", f.File, f.Line, f.Col, f.Expected, f.Got)
	for _, it := range f.Items {
		b.WriteString("\n  " + it.String())
	}
	if f.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", f.More)
	}
	return b.String()
}

// String says in a line how the item ended, and what stages found out about it.
func (it CaseItem) String() string {
	text := fmt.Sprintf("%s is kept, %d x %d", it.ID, it.Width, it.Height)
	switch it.End {
	case CaseRejected:
		text = it.ID + " is rejected by " + it.Stage + ", " + strings.Join(append([]string{it.Reason}, shown(byName(it.Values))...), ", ")
	case CaseFailed:
		text = it.ID + " has failed in " + it.Stage + ": " + it.Cause
	}
	rest := maps.Clone(it.Attributes)
	maps.DeleteFunc(rest, func(name string, v Value) bool {
		why, ok := it.Values.Get(name)
		return ok && why == v
	})
	if len(rest) > 0 {
		text += "; " + strings.Join(shown(rest), ", ")
	}
	if it.Why != "" {
		text += " (" + it.Why + ")"
	}
	return text
}

// shown is values with their names, short enough to read: the whole of them is in
// the result.
func shown(values map[string]Value) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text := values[name].String()
		switch values[name].Type() {
		case TypeFloat:
			text = strconv.FormatFloat(values[name].Float(), 'g', 6, 64)
		case TypeHash:
			text = clip(text, 16)
		}
		all = append(all, name+" "+clip(text, 200))
	}
	return all
}

// endings collects the ends of items.
type endings struct {
	dir  string
	full func() // there are too many

	mu    sync.Mutex
	items []CaseItem
	pairs bool // some had a companion
}

func (e *endings) add(it *Item, how end) {
	size := it.Size()
	c := CaseItem{
		ID: it.id, End: CaseKept, Width: size.X, Height: size.Y,
		Attributes: byName(it.Attributes()), builtins: map[string]Value{}, dir: e.dir,
	}
	switch how.kind {
	case endRejected:
		c.End, c.Stage, c.Reason, c.Values = CaseRejected, how.stage(), it.next.reason, slices.Clone(it.next.values)
	case endFailed:
		c.End, c.Stage, c.Cause = CaseFailed, how.stage(), it.next.err.Error()
	}
	for name := range Builtins() {
		if v, ok := it.builtin(name, size); ok {
			c.builtins[name] = v
		}
	}
	for _, name := range it.Outputs() {
		if rel, err := filepath.Rel(e.dir, name); err == nil {
			c.Files = append(c.Files, filepath.ToSlash(rel))
		}
	}
	_, paired := it.Pair()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pairs = e.pairs || paired
	if len(e.items) == maxCaseItems {
		e.full()
		return
	}
	e.items = append(e.items, c)
}

func (e *endings) sorted() []CaseItem {
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.SortFunc(e.items, func(a, b CaseItem) int { return cmp.Compare(a.ID, b.ID) })
	return append([]CaseItem{}, e.items...)
}

// readCompanions adds the files of companions, which the run store has: an item only
// knows those of its own picture.
func (e *endings) readCompanions(ctx context.Context, items []CaseItem) error {
	if !e.pairs {
		return nil
	}
	h, err := OpenHistory(ctx, filepath.Join(e.dir, stateDirName))
	if err != nil {
		return fmt.Errorf("looking at what the case wrote: %w", err)
	}
	defer func() { _ = h.Close() }()
	byID := map[string]*CaseItem{}
	for i := range items {
		byID[items[i].ID] = &items[i]
	}
	return h.Ends(ctx, EndQuery{Kind: EndWritten}, func(f End) error {
		rel, err := filepath.Rel(e.dir, f.Path)
		if it := byID[f.ID]; it != nil && f.Part == lqPart && err == nil {
			it.LQFiles = append(it.LQFiles, filepath.ToSlash(rel))
		}
		return nil
	})
}

func byName(attributes []Attribute) map[string]Value {
	m := make(map[string]Value, len(attributes))
	for _, a := range attributes {
		m[a.Name] = a.Value
	}
	return m
}

// totalNames are those of the summary that a case can have expectations about.
var totalNames = []string{"in", "derived", "consumed", "out", "rejected", "quarantined", "ignored"}

func totalsOf(s *Summary) map[string]int64 {
	return map[string]int64{
		"in": s.In, "derived": s.Derived, "consumed": s.Consumed, "out": s.Out,
		"rejected": s.RejectedTotal(), "quarantined": s.Quarantined, "ignored": s.Ignored,
	}
}

// total is what a sum of the run is expected to be.
type total struct {
	at   *yamlNode
	name string
	want bounds
}

// choice is one element of only.
type choice struct {
	at       *yamlNode
	selector selector
}

// missingInputError says that a case wants an input that there is not.
type missingInputError struct {
	choice
	got string
}

func (e *missingInputError) Error() string {
	return fmt.Sprintf("there is no input %s: %s", e.selector, e.got)
}

// chosenInputs offers those of another source's inputs that a case wants.
type chosenInputs struct {
	source Source
	only   []choice
}

// Emit fails when one of the choices has chosen nothing: what is not there cannot
// be tested.
func (s *chosenInputs) Emit(ctx context.Context, emit func(Input) error) error {
	hit := make([]bool, len(s.only))
	var names []string // for whoever has mistyped one
	err := s.source.Emit(ctx, func(in Input) error {
		name, wanted := EscapeID(in.Name), false
		for i, c := range s.only {
			if c.selector.matches(name) {
				hit[i], wanted = true, true
			}
		}
		if wanted {
			return emit(in)
		}
		if len(names) < 1000 {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, ok := range hit {
		if !ok {
			name := string(s.only[i].selector)
			return &missingInputError{s.only[i], "none" + didYouMean(name, names) + few(" (the source has %s)", names)}
		}
	}
	return nil
}

// few puts the first of some names into a format; it is empty without any.
func few(format string, names []string) string {
	const most = 5
	switch {
	case len(names) == 0:
		return ""
	case len(names) > most:
		names = append(slices.Clone(names[:most]), "...")
	}
	return fmt.Sprintf(format, strings.Join(names, ", "))
}
