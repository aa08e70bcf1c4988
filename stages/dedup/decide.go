package dedup

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/hamming"
	"github.com/forgepipe/forgepipe/pipeline"
)

// table is what decides about the items, in columns. Items are numbered in the
// order of their IDs.
type table struct {
	ids      []byte
	ends     []uint64 // of each item's ID in ids
	columns  []column // of each method
	keys     []float64
	rules    int // keys per item
	sidecars map[uint32][]pipeline.Sidecar
}

// column is the fingerprints of one method, zeros where it has no verdict.
type column struct {
	comparison
	has    []bool
	prints []byte
}

// verdicts are what was decided about the items of a table.
type verdicts struct {
	keeper    []uint32 // itself for an item that is kept
	by        []uint8  // of a rejected item: which method, and the distance to its keeper
	distance  []uint16
	takenOver map[uint32][]pipeline.Sidecar // by keepers
	clashes   int                           // sidecars that were not, as the keeper has one of that kind
}

func (t *table) len() int { return len(t.ends) }

func (t *table) id(i int) string {
	from := uint64(0)
	if i > 0 {
		from = t.ends[i-1]
	}
	return string(t.ids[from:t.ends[i]])
}

func (t *table) itemKeys(i int) []float64 { return t.keys[i*t.rules:][:t.rules] }

func (c *column) at(i int) []byte { return c.prints[i*c.size:][:c.size] }

// totals are what memory for a table depends on.
type totals struct {
	items, ids, sidecars int64 // number; bytes; bytes
}

func (s *Stage) count(held pipeline.HeldItems) (all totals, err error) {
	for it, err := range held {
		if err != nil {
			return totals{}, err
		}
		all.items++
		all.ids += int64(len(it.ID()))
		if s.merge {
			for _, f := range it.Source().Sidecars {
				all.sidecars += sidecarBytes + int64(len(f.Ext)+len(f.Path))
			}
		}
	}
	if all.items > math.MaxUint32 {
		return totals{}, fmt.Errorf("%d items are more than can be compared in one run: split the set", all.items)
	}
	return all, nil
}

// sidecarBytes is what a sidecar takes beside its texts, twice, as a keeper may
// take it over, and with its share of the maps.
const sidecarBytes = 2 * (48 + 40)

// room is what deciding takes in memory at its peak, and what is left of it
// afterwards, in bytes.
func (s *Stage) room(all totals) (deciding, after int64) {
	n := all.items
	after = all.ids + all.sidecars + n*(8+8*int64(len(s.rules))+4+1+2)
	deciding = after + 4*n
	for _, m := range s.by {
		deciding += n * int64(m.size+1)
		if m.near == 0 {
			deciding += 96 * n // a map with 36 bytes per entry that has just grown
		} else {
			deciding += hamming.Bytes(m.size, int(n)) + 9*n
		}
	}
	return deciding, after
}

// table takes what decides about the items.
func (s *Stage) table(held pipeline.HeldItems, all totals) (*table, error) {
	n := int(all.items)
	t := &table{
		ids: make([]byte, 0, all.ids), ends: make([]uint64, 0, n),
		keys: make([]float64, 0, n*len(s.rules)), rules: len(s.rules),
		sidecars: map[uint32][]pipeline.Sidecar{},
	}
	for _, m := range s.by {
		t.columns = append(t.columns, column{comparison: m, has: make([]bool, n), prints: make([]byte, n*m.size)})
	}
	for it, err := range held {
		if err != nil {
			return nil, err
		}
		i := t.len()
		t.ids = append(t.ids, it.ID()...)
		t.ends = append(t.ends, uint64(len(t.ids)))
		for m := range t.columns {
			c := &t.columns[m]
			if p := c.take(it); p != nil {
				c.has[i] = true
				copy(c.at(i), p)
			}
		}
		for _, r := range s.rules {
			t.keys = append(t.keys, r.key(it))
		}
		if f := it.Source().Sidecars; s.merge && len(f) > 0 {
			t.sidecars[uint32(i)] = f
		}
	}
	return t, nil
}

// decide goes through the items from the most preferred to the least. One that
// matches a keeper is rejected, any other becomes one.
func (t *table) decide(ctx context.Context) (*verdicts, error) {
	order := make([]uint32, t.len())
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		if o, _ := byPreference(t.itemKeys(int(a)), t.itemKeys(int(b))); o != 0 {
			return o
		}
		return int(a) - int(b)
	})
	v := &verdicts{
		keeper: make([]uint32, t.len()), by: make([]uint8, t.len()), distance: make([]uint16, t.len()),
		takenOver: map[uint32][]pipeline.Sidecar{},
	}
	keepers := make([]keepers, len(t.columns))
	for m := range keepers {
		keepers[m] = t.columns[m].keepers()
	}
	for _, i := range order {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if k, m, distance, ok := t.match(keepers, int(i)); ok {
			v.keeper[i], v.by[i], v.distance[i] = k, uint8(m), uint16(distance)
			v.takeOver(k, i, t.sidecars)
			continue
		}
		v.keeper[i] = i
		for m, c := range t.columns {
			if c.has[i] {
				keepers[m].add(c.at(int(i)), i)
			}
		}
	}
	return v, nil
}

// match finds the keeper that item i is a duplicate of: by the first method
// that has one, the nearest.
func (t *table) match(keepers []keepers, i int) (keeper uint32, method, distance int, ok bool) {
	for m, c := range t.columns {
		if !c.has[i] {
			continue
		}
		if k, d, ok := keepers[m].nearest(c.at(i)); ok {
			return k, m, d, true
		}
	}
	return 0, 0, 0, false
}

// takeOver gives keeper k the sidecars of item i that it lacks.
func (v *verdicts) takeOver(k, i uint32, own map[uint32][]pipeline.Sidecar) {
	for _, f := range own[i] {
		same := func(o pipeline.Sidecar) bool { return strings.EqualFold(o.Ext, f.Ext) }
		n := slices.IndexFunc(own[k], same)
		switch {
		case n >= 0 && own[k][n].Path == f.Path: // two tiles of one image
		case n >= 0 || slices.ContainsFunc(v.takenOver[k], same):
			v.clashes++
		default:
			v.takenOver[k] = append(v.takenOver[k], f)
		}
	}
}

// keepers are the kept items that a method can match.
type keepers interface {
	add(print []byte, item uint32)
	// nearest finds the nearest item within the method's distance, of several the
	// one added first.
	nearest(print []byte) (item uint32, distance int, ok bool)
}

func (c *column) keepers() keepers {
	if c.near == 0 {
		return equals{}
	}
	return &neighbours{index: hamming.New(c.size, c.distance)}
}

// equals are keepers by their fingerprints, of 32 bytes.
type equals map[[32]byte]uint32

func (e equals) add(print []byte, item uint32) { e[[32]byte(print)] = item }

func (e equals) nearest(print []byte) (uint32, int, bool) {
	item, ok := e[[32]byte(print)]
	return item, 0, ok
}

// neighbours are keepers within a distance.
type neighbours struct {
	index *hamming.Index
	items []uint32 // of the index's hashes
}

func (n *neighbours) add(print []byte, item uint32) {
	n.index.Add(print)
	n.items = append(n.items, item)
}

func (n *neighbours) nearest(print []byte) (uint32, int, bool) {
	i, distance, ok := n.index.Nearest(print)
	if !ok {
		return 0, 0, false
	}
	return n.items[i], distance, true
}
