package pipeline

import (
	"errors"
	"fmt"
	"image"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/wild"
)

// The words that count can have.
const (
	countAll  = "all"
	countAny  = "any"
	countNone = "none"
)

// selector chooses items: the one that is called so, by its ID or by the name that
// its source has, and all that was derived from it. * and ? stand for what they do
// in every pattern; what begins with @ is the end of an ID. The empty selector
// chooses all items.
type selector string

func parseSelector(s string) (selector, error) {
	if s == "" {
		return "", errors.New("must not be empty")
	}
	return selector(s), nil
}

func (s selector) matches(id string) bool {
	if s == "" {
		return true
	}
	source, lineage := splitID(id)
	if s.named(source, lineage) {
		return true
	}
	raw, err := UnescapeID(source)
	return err == nil && raw != source && s.named(raw, lineage)
}

// named tells whether the selector is the name of an item or of one that it was
// derived from, or the end of such a name.
func (s selector) named(source, lineage string) bool {
	pattern, end := string(s), ""
	for _, step := range append([]string{""}, steps(lineage)...) {
		if step != "" {
			end += "@" + step
		}
		if wild.Match(pattern, source+end) {
			return true
		}
		if !strings.HasPrefix(pattern, "@") {
			continue
		}
		for i := range len(end) {
			if end[i] == '@' && wild.Match(pattern, end[i:]) {
				return true
			}
		}
	}
	return false
}

// bounds are what a number may be, both inclusive.
type bounds struct{ min, max float64 }

func (b bounds) has(v float64) bool { return v >= b.min && v <= b.max }

func (b bounds) String() string {
	switch {
	case b.min == b.max:
		return number(b.min)
	case math.IsInf(b.max, 1):
		return "at least " + number(b.min)
	case math.IsInf(b.min, -1):
		return "at most " + number(b.max)
	}
	return number(b.min) + " to " + number(b.max)
}

// miss says in what a number is outside.
func (b bounds) miss(v float64) string {
	switch {
	case b.has(v):
		return ""
	case b.min == b.max:
		return "not " + number(b.min)
	case v < b.min:
		return "less than " + number(b.min)
	case v > b.max:
		return "more than " + number(b.max)
	}
	return "no number"
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// quantity is how many items have to be as expected: a word, or a number.
type quantity struct {
	word string
	bounds
}

// expectation is one statement about items.
type expectation struct {
	at, byAt    *yamlNode
	of          selector
	is          CaseEnd // empty: whatever it is
	by          string
	reason      string // a part of it
	cause       string // a part of it
	duplicateOf selector
	attributes  []wantedAttribute
	output      *wantedOutput
	lqOutput    *wantedOutput
	count       quantity
	counted     bool // count is a number
}

// wantedAttribute is what an attribute is expected to be.
type wantedAttribute struct {
	at     *yamlNode
	name   string
	absent bool
	text   string  // the value
	bounds *bounds // or its range
}

// wantedOutput is what a file is expected to be that is written from an item.
type wantedOutput struct {
	format               string
	width, height, bytes *bounds
}

// shownItems is how many items a failure names.
const shownItems = 10

// judge compares the expectation with what became of all items; ok when it is met.
func (e *expectation) judge(all []CaseItem) (f CaseFailure, ok bool) {
	f.Expected = e.String()
	var chosen, met, missed []CaseItem
	for i := range all {
		if !e.of.matches(all[i].ID) {
			continue
		}
		why := e.miss(&all[i])
		it := all[i]
		it.Why = why
		chosen = append(chosen, it)
		if why == "" {
			met = append(met, it)
		} else {
			missed = append(missed, it)
		}
	}
	f.Got = fmt.Sprintf("%d of %d", len(met), len(chosen))
	blame := missed
	n := float64(len(met))
	switch e.count.word {
	case countAll:
		ok = len(missed) == 0
	case countAny:
		ok = len(met) > 0
	case countNone:
		ok, blame = len(met) == 0, met
	default:
		ok = e.count.has(n)
		if n > e.count.max {
			blame = met
		}
	}
	if len(chosen) == 0 {
		// Also where none is expected: a name that is mistyped must not do.
		ok = false
		f.Got = e.nothing(all)
	}
	f.Items = append([]CaseItem{}, blame[:min(len(blame), shownItems)]...)
	f.More = len(blame) - len(f.Items)
	return f, ok
}

// nothing says that no item is called as the expectation wants.
func (e *expectation) nothing(all []CaseItem) string {
	var names []string
	for _, it := range all {
		source, _ := splitID(it.ID)
		for _, name := range []string{source, it.ID} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return "no such item" + didYouMean(string(e.of), names) + few(" (there are %s)", names)
}

// String is what the expectation wants, in words.
func (e *expectation) String() string {
	var b strings.Builder
	switch {
	case e.count.word == countNone:
		b.WriteString("no item")
	case e.count.word == countAny:
		b.WriteString("any item")
	case e.count.word == countAll:
		b.WriteString("all items")
	case e.count.max == 1 && e.count.min != 0:
		fmt.Fprintf(&b, "%s item", e.count.bounds)
	default:
		fmt.Fprintf(&b, "%s items", e.count.bounds)
	}
	if e.of != "" {
		b.WriteString(" of " + string(e.of))
	}
	var is []string
	switch {
	case e.is == CaseFailed && e.by != "":
		is = append(is, "failed in "+e.by)
	case e.is == "" && e.by != "":
		is = append(is, "rejected by or failed in "+e.by)
	case e.by != "":
		is = append(is, string(e.is)+" by "+e.by)
	case e.is != "":
		is = append(is, string(e.is))
	}
	if e.reason != "" {
		is = append(is, fmt.Sprintf("reason %q", e.reason))
	}
	if e.cause != "" {
		is = append(is, fmt.Sprintf("cause %q", e.cause))
	}
	if e.duplicateOf != "" {
		is = append(is, "a duplicate of "+string(e.duplicateOf))
	}
	for _, a := range e.attributes {
		is = append(is, a.name+" "+a.String())
	}
	if e.output != nil {
		is = append(is, "written as "+e.output.String())
	}
	if e.lqOutput != nil {
		is = append(is, "its companion written as "+e.lqOutput.String())
	}
	if len(is) > 0 {
		b.WriteString(": " + strings.Join(is, ", "))
	}
	return b.String()
}

// miss says in what the item is not as expected; empty when it is.
func (e *expectation) miss(it *CaseItem) string {
	switch {
	case e.is != "" && it.End != e.is:
		return "not " + string(e.is)
	case e.by != "" && it.Stage != e.by:
		return "not by " + e.by
	case !strings.Contains(it.Reason, e.reason):
		return "not for that reason"
	case !strings.Contains(it.Cause, e.cause):
		return "not for that cause"
	}
	if e.duplicateOf != "" {
		// By this name a stage that rejects duplicates tells which item is kept.
		keeper, ok := it.Values.Get("keeper")
		if !ok {
			return "not as a duplicate"
		}
		if !e.duplicateOf.matches(keeper.String()) {
			return "not of " + string(e.duplicateOf)
		}
	}
	for _, a := range e.attributes {
		if why := a.miss(it); why != "" {
			return a.name + " is " + why
		}
	}
	if e.output != nil {
		if why := e.output.miss(it.look(&it.written, it.Files)); why != "" {
			return why
		}
	}
	if e.lqOutput != nil {
		if why := e.lqOutput.miss(it.look(&it.writtenLQ, it.LQFiles)); why != "" {
			return "the companion: " + why
		}
	}
	return ""
}

func (a wantedAttribute) String() string {
	switch {
	case a.absent:
		return "absent"
	case a.bounds != nil:
		return a.bounds.String()
	}
	return a.text
}

func (a wantedAttribute) miss(it *CaseItem) string {
	v, ok := it.Attributes[a.name]
	if !ok {
		v, ok = it.builtins[a.name]
	}
	switch {
	case a.absent && !ok:
		return ""
	case a.absent:
		return v.String() + ", not absent"
	case !ok && a.text == "absent":
		return "absent, which {absent: true} expects; absent alone is a text"
	case !ok:
		return "absent" + few(" (there are %s)", slices.Sorted(maps.Keys(it.Attributes)))
	}
	if a.bounds != nil {
		if why := a.bounds.miss(v.Float()); why != "" {
			return v.String() + ", " + why
		}
		return ""
	}
	want, err := strconv.ParseFloat(a.text, 64)
	if v.String() == a.text || err == nil && v.Float() == want {
		return ""
	}
	return v.String() + ", not " + a.text
}

func (o *wantedOutput) String() string {
	words := []string{o.format}
	if o.format == "" {
		words[0] = "a file"
	}
	for _, side := range []struct {
		name string
		want *bounds
	}{{"width", o.width}, {"height", o.height}, {"bytes", o.bytes}} {
		if side.want != nil {
			words = append(words, side.name+" "+side.want.String())
		}
	}
	return strings.Join(words, ", ")
}

// writtenFile is what a file says of itself.
type writtenFile struct {
	format string
	size   image.Point
	bytes  int64
	err    error
}

func (w writtenFile) String() string {
	if w.err != nil {
		return w.err.Error()
	}
	return fmt.Sprintf("%s, %d x %d, %d bytes", w.format, w.size.X, w.size.Y, w.bytes)
}

// look reads files of the item, once.
func (it *CaseItem) look(seen *[]writtenFile, files []string) []writtenFile {
	if *seen == nil {
		for _, name := range files {
			*seen = append(*seen, readWritten(filepath.Join(it.dir, filepath.FromSlash(name))))
		}
	}
	return *seen
}

// miss wants one of the files to be so.
func (o *wantedOutput) miss(written []writtenFile) string {
	var there []string
	for _, w := range written {
		if w.err == nil && (o.format == "" || o.format == w.format) &&
			o.width.holds(int64(w.size.X)) && o.height.holds(int64(w.size.Y)) && o.bytes.holds(w.bytes) {
			return ""
		}
		there = append(there, w.String())
	}
	if len(there) == 0 {
		return "no picture is written from it"
	}
	return "written as " + strings.Join(there, " and ")
}

// holds is has for a number that may not matter.
func (b *bounds) holds(v int64) bool { return b == nil || b.has(float64(v)) }

func readWritten(name string) writtenFile {
	data, err := os.ReadFile(name)
	if err != nil {
		return writtenFile{err: err}
	}
	h, err := imageio.ReadHeader(data, imageio.Limits{})
	if err != nil {
		return writtenFile{err: err}
	}
	return writtenFile{format: string(h.Format), size: image.Pt(h.Width, h.Height), bytes: int64(len(data))}
}
