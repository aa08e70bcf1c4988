package groups

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/extsort"
	"github.com/forgepipe/forgepipe/internal/fsys"
)

// Measure is what a step measures of a pair: how far apart two pictures are, or how
// similar. Steps are named once.
type Measure struct {
	Step       string // as in the field by, or its name where several are alike
	Similarity bool   // higher is nearer; otherwise it is a distance, and lower is nearer
	Whole      bool   // only whole numbers come, as of bits
}

// Column is the name of the measure's column and of the value of a rejection: pdq_distance,
// clip_similarity.
func (m Measure) Column() string {
	return m.Step + "_" + m.Kind()
}

// Kind is "distance" or "similarity".
func (m Measure) Kind() string {
	if m.Similarity {
		return similarity
	}
	return distance
}

// Item is a picture of a group. ID and Source, the path of its file in the input folder,
// are percent-encoded as in the manifest. Width and Height are in pixels.
type Item struct {
	ID     string
	Source string
	Width  int
	Height int
}

// Member is a rejected item and why it is one.
type Member struct {
	Item               // that is rejected
	Keeper      string // ID of the item that is kept; empty where a person decided without one
	KeeperIndex string // folder of the index that the keeper is from; empty: it is of this run
	By          string // the step that decided; of members that a person decided Decision is written
	// Values has one for each Measure; NaN: there is none of this pair.
	Values []float64
	// Rule is the rule of prefer that put the keeper before the item, Value and
	// KeeperValue what the two have for it; NaN: nothing.
	Rule        string
	Value       float64
	KeeperValue float64
	Decided     bool // by a person
	// Earlier says that an earlier run rejected it: it is left out if its keeper is not
	// added.
	Earlier bool
}

// Decision is By of members that a person decided.
const Decision = "decision"

// Memory is what a Writer takes at most, in bytes, while it collects and while it writes
// JSON Lines; WriteParquet takes ParquetMemory beside it.
const Memory = 4 << 20

// Writer collects groups, of which there may be more than fit into memory, and writes
// them in the order of their keepers' IDs, with members in the order of theirs. Neither
// the order in which they come nor the number of workers makes a difference. AddKeeper
// and AddMember may be called from several goroutines.
type Writer struct {
	measures []Measure
	records  *extsort.Sorter
	earlier  atomic.Int64
}

// New makes a Writer. What does not fit into memory goes to files of scratch whose names
// begin with prefix.
func New(scratch fsys.Root, prefix string, measures []Measure) *Writer {
	return &Writer{measures: measures, records: extsort.New(scratch, prefix, Memory)}
}

// Close removes what lies on disk. It may be called more than once.
func (w *Writer) Close() error { return w.records.Close() }

// A keeper comes before its members, groups in the order of keepers. IDs and folders
// hold no NUL.
const (
	isKeeper = "k"
	isMember = "m"
)

// AddKeeper adds an item that is kept, with the folder of the index it is from, which is
// empty for one of this run. One without members is left out when groups are written; a
// member whose keeper is not added is an error then, but for one of an earlier run.
func (w *Writer) AddKeeper(k Item, index string) error {
	if err := check(k.ID, index); err != nil {
		return err
	}
	return w.records.Add(k.ID+"\x00"+index+"\x00"+isKeeper, appendItem(nil, k))
}

// AddMember adds a rejected item. A member without a keeper must have been decided by a
// person.
func (w *Writer) AddMember(m Member) error {
	if err := check(m.ID, m.Keeper, m.KeeperIndex); err != nil {
		return err
	}
	switch {
	case len(m.Values) != len(w.measures):
		return fmt.Errorf("BUG: the member %s has %d values, and there are %d measures", m.ID, len(m.Values), len(w.measures))
	case m.Keeper == "" && !m.Decided:
		return fmt.Errorf("BUG: the member %s has no keeper", m.ID)
	case m.Decided:
		m.By = Decision
	}
	b := appendItem(nil, m.Item)
	b = appendText(appendText(b, m.By), m.Rule)
	for _, v := range m.Values {
		b = appendNumber(b, v)
	}
	b = appendNumber(appendNumber(b, m.Value), m.KeeperValue)
	if m.Earlier {
		b = append(b, 1)
	}
	return w.records.Add(m.Keeper+"\x00"+m.KeeperIndex+"\x00"+isMember+m.ID, b)
}

func check(names ...string) error {
	for _, name := range names {
		if strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("%q has a NUL byte, which no ID and no folder has", name)
		}
	}
	return nil
}

// row is a member as it is written. Groups are numbered from 1.
type row struct {
	group  int64
	keeper *Item // nil: a person decided without one
	Member
}

// rows gives the members of all groups. It may be called more than once.
func (w *Writer) rows(ctx context.Context) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		var at row
		var of string      // the keeper and the index of the group, as in the key
		var last *Item     // the keeper that came last
		var lastKey string // and its key
		earlier := int64(0)
		next := func(rec extsort.Record) (member bool, err error) {
			end := strings.LastIndexByte(rec.Key, 0) + 1
			group, kind := rec.Key[:end], rec.Key[end:end+1]
			if kind == isKeeper {
				k := (*record)(&rec.Value).item()
				last, lastKey = &k, group
				return false, nil
			}
			at.member(rec, len(w.measures))
			if at.Earlier && at.Keeper != "" && lastKey != group {
				return false, nil
			}
			if group == of {
				return true, nil
			}
			of = group
			at.group++
			at.keeper = nil
			switch {
			case lastKey == group:
				at.keeper = last
			case at.Keeper != "":
				return false, fmt.Errorf("BUG: the keeper %s of %s was never added", at.Keeper, at.ID)
			}
			return true, nil
		}
		for rec, err := range w.records.All() {
			if err == nil {
				err = ctx.Err()
			}
			var member bool
			if err == nil {
				member, err = next(rec)
			}
			if err != nil {
				yield(row{}, err)
				return
			}
			if member && at.Earlier {
				earlier++
			}
			if member && !yield(at, nil) {
				return
			}
		}
		w.earlier.Store(earlier)
	}
}

// Earlier is how many of the members that were written are of earlier runs.
func (w *Writer) Earlier() int64 { return w.earlier.Load() }

// member takes one from a record.
func (r *row) member(rec extsort.Record, measures int) {
	names := strings.SplitN(rec.Key, "\x00", 3)
	in := record(rec.Value)
	r.Member = Member{Item: in.item(), Keeper: names[0], KeeperIndex: names[1], By: in.text(), Rule: in.text(), Values: make([]float64, measures)}
	for i := range r.Values {
		r.Values[i] = in.number()
	}
	r.Value, r.KeeperValue = in.number(), in.number()
	r.Decided, r.Earlier = r.By == Decision, len(in) > 0
}

func appendItem(b []byte, it Item) []byte {
	b = appendText(appendText(b, it.ID), it.Source)
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(it.Width)), uint64(it.Height))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendNumber(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

// record takes apart what was put together above. The sorter gives back what it got, so
// there is nothing to check.
type record []byte

func (r *record) take(n int) []byte {
	b := (*r)[:n]
	*r = (*r)[n:]
	return b
}

func (r *record) whole() int {
	n, size := binary.Uvarint(*r)
	r.take(size)
	return int(n)
}

func (r *record) text() string { return string(r.take(r.whole())) }

func (r *record) number() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(r.take(8)))
}

func (r *record) item() Item {
	return Item{ID: r.text(), Source: r.text(), Width: r.whole(), Height: r.whole()}
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
