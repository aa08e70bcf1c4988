package groups

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Pair is two items that a clause calls duplicates, with what was measured of them.
type Pair struct {
	A, B string // IDs
	// RankA and RankB are their places in the order of preference, from 0 on, which are
	// looked at from the lowest to the highest. Ranks are below Header.Items and
	// Header.Entries together.
	RankA, RankB uint32
	// FixedA and FixedB say that an item is kept whatever it matches.
	FixedA, FixedB bool
	Clause         int       // which of Header.Clauses proposes it
	Values         []float64 // one for each of Header.Steps; NaN: none. Those of the clause's steps are within their thresholds
}

// Step is a step of by with the threshold that pairs were found with.
type Step struct {
	Measure           // what it measures
	Threshold float64 // the greatest distance, or the least similarity
}

// within says whether a value meets a threshold of the step. NaN does not.
func (m Measure) within(value, threshold float64) bool {
	if m.Similarity {
		return value >= threshold
	}
	return value <= threshold
}

// Header is what a file of pairs says of all of them.
type Header struct {
	Items   int64  // of the run that were compared
	Entries int64  // of indexes that they were compared with, too
	Steps   []Step // in the order of by
	// Clauses are the steps of which all must say that two items are duplicates, by their
	// numbers in Steps: first the one that proposes, then those that confirm. Two items are
	// duplicates when one clause says so.
	Clauses [][]int
}

// all is how many have a rank.
func (h Header) all() int64 { return h.Items + h.Entries }

// MaxItems is how many items pairs can be of.
const MaxItems = 1 << 32

// maxSteps is far more than anybody lists in by.
const maxSteps = 1000

func (h Header) check() error {
	if h.Items < 0 || h.Entries < 0 || h.Items > MaxItems || h.Entries > MaxItems-h.Items {
		return fmt.Errorf("%d items and %d entries of indexes cannot have been compared", h.Items, h.Entries)
	}
	var names []string
	for _, s := range h.Steps {
		if s.Step == "" || slices.Contains(names, s.Step) {
			return fmt.Errorf("the step %q has no name of its own", s.Step)
		}
		if !finite(s.Threshold) {
			return fmt.Errorf("the threshold of %s is %v", s.Step, s.Threshold)
		}
		names = append(names, s.Step)
	}
	if len(h.Steps) > maxSteps {
		return fmt.Errorf("%d steps are more than %d", len(h.Steps), maxSteps)
	}
	used := make([]bool, len(h.Steps))
	for _, c := range h.Clauses {
		if len(c) == 0 {
			return errors.New("a clause has no steps")
		}
		for _, s := range c {
			if s < 0 || s >= len(h.Steps) || used[s] {
				return fmt.Errorf("a clause has the step %d, which is not there or in another place too", s)
			}
			used[s] = true
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return fmt.Errorf("the step %s is in no clause", h.Steps[i].Step)
	}
	return nil
}

// checkPair looks whether a pair can be one of these.
func (h Header) checkPair(p Pair) error {
	switch {
	case len(p.Values) != len(h.Steps):
		return fmt.Errorf("the pair %s has %d values for %d steps", p.names(), len(p.Values), len(h.Steps))
	case p.RankA == p.RankB || int64(max(p.RankA, p.RankB)) >= h.all():
		return fmt.Errorf("the pair %s has the ranks %d and %d of %d items", p.names(), p.RankA, p.RankB, h.all())
	case p.Clause < 0 || p.Clause >= len(h.Clauses):
		return fmt.Errorf("the pair %s is of clause %d, and there are %d", p.names(), p.Clause, len(h.Clauses))
	}
	for _, s := range h.Clauses[p.Clause] {
		if st := h.Steps[s]; !finite(p.Values[s]) || !st.within(p.Values[s], st.Threshold) {
			return fmt.Errorf("the pair %s has %v for %s, which is not within %v", p.names(), p.Values[s], st.Step, st.Threshold)
		}
	}
	return nil
}

func (p Pair) names() string {
	if p.A == "" && p.B == "" {
		return fmt.Sprintf("of the ranks %d and %d", p.RankA, p.RankB)
	}
	return p.A + ", " + p.B
}

// Format is that of a file of pairs.
type Format string

// The formats of pairs.
const (
	JSONL   Format = ".jsonl"
	Parquet Format = ".parquet"
)

// FormatOf is the format that a file's extension says.
func FormatOf(path string) (Format, error) {
	f := Format(strings.ToLower(filepath.Ext(path)))
	if f != JSONL && f != Parquet {
		return "", fmt.Errorf("the extension of %s must be .parquet or .jsonl", path)
	}
	return f, nil
}

// headerKey is the metadata of a Parquet file that holds the header.
const headerKey = "forgepipe.pairs"

// headerJSON is the first line of JSONL, and the metadata of Parquet.
type headerJSON struct {
	Version int        `json:"forgepipe_pairs"`
	Items   int64      `json:"items"`
	Entries int64      `json:"entries,omitempty"`
	Steps   []stepJSON `json:"steps"`
	Clauses [][]string `json:"clauses"`
}

type stepJSON struct {
	Name      string  `json:"name"`
	Measure   string  `json:"measure"`
	Whole     bool    `json:"whole"`
	Threshold float64 `json:"threshold"`
}

const (
	distance   = "distance"
	similarity = "similarity"
)

// trailerJSON is the last line of JSONL, without which a file was cut.
type trailerJSON struct {
	Pairs *int64 `json:"pairs"`
}

// pairJSON are the members of a pair that every file has.
type pairJSON struct {
	A      string `json:"a"`
	B      string `json:"b"`
	RankA  uint32 `json:"a_rank"`
	RankB  uint32 `json:"b_rank"`
	FixedA bool   `json:"a_fixed"`
	FixedB bool   `json:"b_fixed"`
	Clause int    `json:"clause"`
}

func (h Header) json() headerJSON {
	out := headerJSON{Version: 1, Items: h.Items, Entries: h.Entries, Steps: []stepJSON{}, Clauses: [][]string{}}
	for _, s := range h.Steps {
		out.Steps = append(out.Steps, stepJSON{s.Step, s.Kind(), s.Whole, s.Threshold})
	}
	for _, c := range h.Clauses {
		names := make([]string, len(c))
		for i, s := range c {
			names[i] = h.Steps[s].Step
		}
		out.Clauses = append(out.Clauses, names)
	}
	return out
}

// header takes one from its JSON.
func header(data []byte) (h Header, err error) {
	var in headerJSON
	if err := json.Unmarshal(data, &in); err != nil || in.Version == 0 {
		return h, errors.New("it is no file of pairs: the first line of one, or the metadata, says forgepipe_pairs")
	}
	if in.Version != 1 {
		return h, fmt.Errorf("its version is %d, and this forgepipe reads 1: use the forgepipe that wrote it, or write it again", in.Version)
	}
	h.Items, h.Entries = in.Items, in.Entries
	for _, s := range in.Steps {
		if s.Measure != distance && s.Measure != similarity {
			return h, fmt.Errorf("the step %s measures %q", s.Name, s.Measure)
		}
		h.Steps = append(h.Steps, Step{Measure{s.Name, s.Measure == similarity, s.Whole}, s.Threshold})
	}
	for _, names := range in.Clauses {
		var c []int
		for _, name := range names {
			// One that there is not becomes -1, which check refuses.
			c = append(c, slices.IndexFunc(h.Steps, func(s Step) bool { return s.Step == name }))
		}
		h.Clauses = append(h.Clauses, c)
	}
	return h, h.check()
}

// PairsWriter writes pairs as they come.
type PairsWriter struct {
	header  Header
	n       int64
	parquet *parquetWriter // or
	lines   *bufio.Writer
	line    line
}

// NewPairs begins a file of pairs. In Parquet there is a row for each pair, with the
// columns a, b, a_rank, b_rank, a_fixed, b_fixed, clause (from 0) and one for each step
// under the name of Measure.Column, null where there is no value; the header is the
// metadata forgepipe.pairs, in JSON. In JSON Lines the first line is the header, and the
// last one the number of pairs. Memory is ParquetMemory, or little.
func NewPairs(w io.Writer, f Format, h Header) (*PairsWriter, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("BUG: beginning a file of pairs: %w", err)
	}
	var head line
	head.value(h.json())
	p := &PairsWriter{header: h}
	if f == JSONL {
		p.lines = bufio.NewWriter(w)
		head.WriteByte('\n')
		if _, err := p.lines.Write(head.Bytes()); err != nil {
			return nil, fmt.Errorf("writing pairs: %w", err)
		}
		return p, nil
	}
	columns := slices.Clone(pairColumns)
	for _, s := range h.Steps {
		columns = append(columns, column{s.Column(), optionalNumber})
	}
	p.parquet = newParquet(w, "pairs", columns, parquet.KeyValueMetadata(headerKey, head.String()))
	return p, nil
}

// pairColumns are those that every file has, in the order of pairJSON.
var pairColumns = []column{
	{"a", text}, {"b", text}, {"a_rank", rank}, {"b_rank", rank}, {"a_fixed", yesNo}, {"b_fixed", yesNo}, {"clause", whole},
}

// Add writes a pair. For a sweep to be exact, every two items that a clause calls
// duplicates must be there, rejected or not, with each clause that does: in a row for each,
// or in one that has the values of all. Pairs that a person has called different, and
// items that a person rejected, must not.
func (w *PairsWriter) Add(p Pair) error {
	if err := w.header.checkPair(p); err != nil {
		return fmt.Errorf("BUG: %w", err)
	}
	w.n++
	if w.parquet != nil {
		return w.row(p)
	}
	w.line.Reset()
	w.line.value(pairJSON{p.A, p.B, p.RankA, p.RankB, p.FixedA, p.FixedB, p.Clause})
	w.line.Truncate(w.line.Len() - 1) // the brace: there is more
	for i, s := range w.header.Steps {
		if finite(p.Values[i]) {
			w.line.field(s.Column(), p.Values[i])
		}
	}
	w.line.WriteString("}\n")
	if _, err := w.lines.Write(w.line.Bytes()); err != nil {
		return fmt.Errorf("writing pairs: %w", err)
	}
	return nil
}

func (w *PairsWriter) row(p Pair) error {
	out := w.parquet
	out.text(p.A)
	out.text(p.B)
	out.rank(p.RankA)
	out.rank(p.RankB)
	out.yesNo(p.FixedA)
	out.yesNo(p.FixedB)
	out.whole(int64(p.Clause))
	for _, v := range p.Values {
		out.number(v)
	}
	if err := out.end(); err != nil {
		return fmt.Errorf("writing pairs: %w", err)
	}
	return nil
}

// Close writes the end of the file. It does not close what it writes to.
func (w *PairsWriter) Close() error {
	var err error
	if w.parquet != nil {
		err = w.parquet.Close()
	} else {
		w.line.Reset()
		w.line.value(trailerJSON{&w.n})
		w.line.WriteByte('\n')
		w.lines.Write(w.line.Bytes())
		err = w.lines.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing pairs: %w", err)
	}
	return nil
}
