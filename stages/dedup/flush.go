package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/hamming"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/decisions"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// deciding is what one Flush reads beside the items.
type deciding struct {
	hand    *decisions.File
	indexes []*opened
}

func (d *deciding) close() {
	for _, x := range d.indexes {
		_ = x.Close() // it was only read
	}
}

// Flush decides about all items and lets them go.
func (s *Stage) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) (err error) {
	if !s.open && s.isLong() {
		s.said = "what is a duplicate is not known before the run: a dry run compares no vectors and no pictures"
		return pipeline.ErrUndecided
	}
	d := deciding{}
	defer d.close()
	if d.hand, err = s.tells.read(s.env.FS); err != nil {
		return err
	}
	all, err := s.count(held)
	if err != nil {
		return err
	}
	if err := s.checkReferences(all); err != nil {
		return err
	}
	if err := s.openIndexes(ctx, &d, &all); err != nil {
		return err
	}
	if err := all.check(); err != nil {
		return err
	}
	during, after := s.room(all)
	lease, err := s.env.Lease(ctx, during)
	if err != nil {
		return fmt.Errorf("comparing %d items (raise memory.host.limit, or split the set): %w", all.items+all.entries, err)
	}
	defer lease.Release()
	if err := s.checkDisk(all); err != nil {
		return err
	}
	t, err := s.table(ctx, held, all, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	v, err := s.judge(ctx, held, t, all, d)
	if err != nil {
		return err
	}
	if err := t.close(); err != nil {
		return fmt.Errorf("clearing what was compared: %w", err)
	}
	t.columns = nil
	lease.Resize(after)

	files, err := s.act.keepers(ctx, t, v, d.indexes)
	if err != nil {
		return err
	}
	i := 0
	for it, err := range held {
		if err != nil {
			return err
		}
		files.note(it, uint32(i))
		s.tell(it, i, t, v)
		if err := emit(it); err != nil {
			return err
		}
		i++
	}
	return s.doAction(ctx, held, t, v, files)
}

// isLong tells whether comparing takes files in the scratch folder and the work of networks
// or of large matrices, and not only what items have in memory.
func (s *Stage) isLong() bool {
	return slices.ContainsFunc(s.by, func(st step) bool { return st.vector != "" || st.measure == perceived })
}

// judge decides about all items of the table, and writes down what there is to say.
func (s *Stage) judge(ctx context.Context, held pipeline.HeldItems, t *table, all totals, d deciding) (*verdicts, error) {
	dc := s.decider(t, d)
	order, fixed := t.rank()
	if err := s.picture(ctx, held, dc, order, fixed, d.indexes); err != nil {
		return nil, err
	}
	v, err := dc.decide(ctx, order, fixed)
	if err != nil {
		return nil, err
	}
	s.said = s.summary(t, v) + s.referredRemarks(all.referred) + astray(t, d.hand)
	if err := s.publish(ctx, held, dc, v, order, fixed); err != nil {
		return nil, err
	}
	if err := s.addToIndex(ctx, held, t, v, all.vectors); err != nil {
		return nil, err
	}
	return v, nil
}

// sidecarBytes is what a sidecar takes beside its texts, twice, as a keeper may
// take it over, and with its share of the maps.
const sidecarBytes = 2 * (48 + 40)

// room is what deciding takes in memory at its peak, and what is left of it
// afterwards, in bytes.
func (s *Stage) room(all totals) (during, after int64) {
	items, n := all.items, all.items+all.entries
	after = all.ids + all.sidecars + 8*n + items*(8*int64(len(s.rules))+4+1+1+8*int64(len(s.by))) + (8+1)*all.entries
	if s.act.Action != "" {
		after += 2*all.ids + 128*items + moves.Room(s.act.Options) // the files of keepers, and the record
	}
	during = after + 8*n // order and ranks
	if s.act.takesAway() {
		during += 32 * items // the hashes of their files
	}
	if all.entries > 0 {
		during += placeBytes*items + all.paths
	}
	if len(s.indexes.against) > 0 || s.indexes.add != "" {
		columns, _ := s.columns(all.vectors)
		during += index.Room(columns)
	}
	for i, st := range s.by {
		if st.take != nil {
			during += n * int64(st.size+1)
			if st.turned != nil {
				during += items * int64(s.orientations.turns()*st.size)
			}
		}
		if st.vector != "" && all.vectors[i].dim > 0 {
			during += nearest.Room(all.vectors[i].dim, n, s.vectorThreads(all.vectors[i].dim, n)) + s.vectorMemory(all.vectors[i].dim, n)
		}
		switch {
		case st.confirms:
		case st.measure == equality:
			during += 96 * n // a map with 36 bytes per entry that has just grown
		case st.measure == differing:
			during += hamming.Bytes(st.size, int(n)) + 9*n
		}
	}
	if strings.HasPrefix(string(s.runsOn.device), "sim:") { // which is the host's memory too
		during += s.searchRoom(all)
	}
	return during, after
}

// Of the memory for blocks of vectors, each step gets a share of what there is.
const (
	leastVectorMemory = 16 << 20
	mostVectorMemory  = 128 << 20
)

// vectorMemory is what the search among n vectors of a step keeps of them in memory.
func (s *Stage) vectorMemory(dim int, n int64) int64 {
	var steps int64
	for _, st := range s.by {
		if st.vector != "" {
			steps++
		}
	}
	most := min(max(s.env.HostLimit()/(8*max(steps, 1)), leastVectorMemory), mostVectorMemory)
	return min(most, (n/nearest.Block+1)*nearest.Block*4*int64(dim))
}

// vectorThreads is how many threads search among n vectors: all that the run has, as far as
// each of them has something to do and memory for it.
func (s *Stage) vectorThreads(dim int, n int64) int {
	most := min(s.env.HostLimit()/8/nearest.ThreadRoom(dim), n/nearest.Block+1)
	return min(int(max(most, 1)), runtime.GOMAXPROCS(0))
}

// checkDisk says what vectors will take on disk, and refuses more than there is.
func (s *Stage) checkDisk(all totals) error {
	need := s.vectorDisk(all)
	if need == 0 {
		return nil
	}
	return s.checkFree(need, fmt.Sprintf("the vectors of %d items", all.items+all.entries))
}

// muchDisk is what people are told of that do not ask.
const muchDisk = 1 << 30

// checkFree says what takes how much in the scratch folder.
func (s *Stage) checkFree(need int64, what string) error {
	scratch, err := s.env.Scratch()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if need >= muchDisk {
		level = slog.LevelWarn
	}
	s.env.Log.Log(context.Background(), level, fmt.Sprintf("%s take %s on disk while they are compared", what, memory.FormatBytes(need)), "folder", scratch.Name())
	free, err := scratch.Free()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("reading how much room the disk has: %w", err)
	case free < need:
		return fmt.Errorf("%s take %s on the disk of %s, which has %s: make room, or put the state directory on another disk (--state)", what, memory.FormatBytes(need), scratch.Name(), memory.FormatBytes(free))
	}
	return nil
}

// openVectors begins the search among the vectors of a step, on the GPU too where that is
// leased.
func (s *Stage) openVectors(st step, dim int, n int64, onCard bool) (*nearest.Index, error) {
	scratch, err := s.env.Scratch()
	if err != nil {
		return nil, err
	}
	o := nearest.Options{
		Dim: dim, Within: st.within, Dir: scratch, Prefix: fmt.Sprintf("dedup-%s-%d-", s.env.StageID, st.at),
		Memory: s.vectorMemory(dim, n), Threads: s.vectorThreads(dim, n), Library: s.library, Log: s.env.Log,
	}
	if st.measure == perceived {
		o.Measure, o.Within = nearest.SquaredEuclidean, lpips.PooledWithin(st.within)
	}
	if onCard {
		o.Open = s.openSearch(dim, o.Threads)
	}
	x, err := nearest.New(o)
	if err != nil {
		return nil, fmt.Errorf("comparing by %s: %w", st.name, err)
	}
	return x, nil
}

// An explanation is why an item was rejected.
type explanation struct {
	keeper      string
	folder      string // of the index that the keeper is from
	by          string // the step that proposed
	rule        string // what put the keeper before the item
	value       float64
	keeperValue float64 // NaN: none
}

// explain says why item i was rejected.
func (s *Stage) explain(t *table, v *verdicts, i int) explanation {
	k := v.keeper[i]
	e := explanation{keeper: t.id(int(k)), by: s.by[s.clauses[v.by[i]][0]].name, value: math.NaN(), keeperValue: math.NaN()}
	switch t.class(k) {
	case indexed:
		e.folder, e.rule = t.folder(k), "against"
		return e
	case known:
		e.rule = "against"
		return e
	case reference:
		e.rule = "reference"
		return e
	case kept:
		e.rule = "decisions"
		return e
	}
	e.rule, e.value, e.keeperValue = s.decided(t.itemKeys(i), t.itemKeys(int(k)))
	return e
}

// tell says on an item what was decided about it.
func (s *Stage) tell(it *pipeline.Item, i int, t *table, v *verdicts) {
	switch {
	case t.class(uint32(i)) == gone:
		it.Reject("decided by hand")
		return
	case int(v.keeper[i]) == i:
		for _, f := range v.takenOver[uint32(i)] {
			it.AddSidecar(f)
		}
		return
	}
	e := s.explain(t, v, i)
	values := []pipeline.Attribute{{Name: "keeper", Value: pipeline.String(e.keeper)}}
	if e.folder != "" {
		values = append(values, pipeline.Attribute{Name: "keeper_index", Value: pipeline.String(e.folder)})
	}
	values = append(values, pipeline.Attribute{Name: "by", Value: pipeline.String(e.by)})
	deciding := s.clauses[v.by[i]][0]
	measured := v.of(i)
	values = append(values, pipeline.Attribute{Name: s.by[deciding].measure.option(), Value: number(measured[deciding])})
	for n, st := range s.by {
		if n != deciding && st.measure != equality && !math.IsNaN(measured[n]) {
			values = append(values, pipeline.Attribute{Name: st.name + "_" + st.measure.option(), Value: number(measured[n])})
		}
	}
	values = append(values, pipeline.Attribute{Name: "rule", Value: pipeline.String(e.rule)})
	if !math.IsNaN(e.value) {
		values = append(values, pipeline.Attribute{Name: "value", Value: number(e.value)})
	}
	if !math.IsNaN(e.keeperValue) {
		values = append(values, pipeline.Attribute{Name: "keeper_value", Value: number(e.keeperValue)})
	}
	it.Reject("duplicate", values...)
}

// summary is what there is to say about all items in a sentence.
func (s *Stage) summary(t *table, v *verdicts) string {
	duplicates, groups, by := 0, 0, make([]int, len(s.clauses))
	grouped := make([]bool, t.len())
	for i, k := range v.keeper {
		if int(k) != i {
			duplicates++
			by[v.by[i]]++
			if !grouped[k] {
				grouped[k] = true
				groups++
			}
		}
	}
	text := fmt.Sprintf("%d of %d are duplicates", duplicates, t.items)
	if duplicates == 1 {
		text = fmt.Sprintf("1 of %d is a duplicate", t.items)
	}
	if duplicates > 0 {
		var parts []string
		for c, n := range by {
			if n > 0 {
				parts = append(parts, fmt.Sprintf("by %s %d", s.by[s.clauses[c][0]].name, n))
			}
		}
		in := fmt.Sprintf("%d groups", groups)
		if groups == 1 {
			in = "1 group"
		}
		text += fmt.Sprintf(" in %s (%s)", in, strings.Join(parts, ", "))
	}
	if n := t.count(gone); n > 0 {
		text += fmt.Sprintf("; %s rejected by hand", were(n))
	}
	if n := t.count(known); n > 0 {
		text += fmt.Sprintf("; %s in an index already", were(n))
	}
	if n := t.count(indexed); n > 0 {
		text += fmt.Sprintf("; compared with %d of indexes", n)
	}
	items := int64(t.items)
	pairs := items*(items-1)/2 + items*int64(t.count(indexed))
	for i := range t.columns {
		text += t.columns[i].remarks(t.items, pairs)
	}
	if n := v.clashes; n > 0 {
		verb := "were"
		if n == 1 {
			verb = "was"
		}
		text += fmt.Sprintf("; %d of their sidecars %s left, as the kept image has one with that extension", n, verb)
	}
	return text
}

// were is how many things something is said of.
func were[N int | int64](n N) string {
	if n == 1 {
		return "1 was"
	}
	return fmt.Sprintf("%d were", n)
}

// astray says which decisions are about no item of the run, as where a name is misspelt.
func astray(t *table, hand *decisions.File) string {
	n, first := 0, ""
	for r := range hand.Rows() {
		if t.find(r.Item) >= 0 {
			continue
		}
		if n++; n == 1 {
			first = r.Item
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; 1 of the decisions is about %s, which is not in this run", first)
	}
	return fmt.Sprintf("; %d of the decisions are about items that are not in this run, such as %s", n, first)
}

// count is how many items and entries are of a class.
func (t *table) count(c class) (n int) {
	for _, o := range t.classes {
		if o == c {
			n++
		}
	}
	return n
}

// remarks are what there is to say of a step.
func (c *column) remarks(items int, pairs int64) (text string) {
	none := 0
	for _, has := range c.has[:min(items, len(c.has))] {
		if !has {
			none++
		}
	}
	if none > 0 {
		text += fmt.Sprintf("; %d had no verdict from %s (%s)", none, c.name, c.mute)
	}
	if c.pictures != nil {
		text += c.pictures.remarks(pairs)
	}
	return text
}
