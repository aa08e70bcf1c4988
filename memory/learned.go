package memory

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Learned is what runs of a network on a kind of device took, for items of one shape:
// the next run begins with it near its target.
type Learned struct {
	Key   string     `json:"key"`   // that of WorkloadOptions
	Shape string     `json:"shape"` // of the items
	Sizes []SizeTook `json:"sizes"` // by batch, ascending
	When  time.Time  `json:"when"`  // it was last learned from
}

// SizeTook is what a run of one batch size took; what is not known is 0.
type SizeTook struct {
	Batch   int     `json:"batch"`             // items
	Bytes   int64   `json:"bytes,omitempty"`   // of the arena
	Seconds float64 `json:"seconds,omitempty"` // of a run
}

// Learned is what is known now, in the order of keys and shapes. What it began with and
// has not used is as it was.
func (g *Governor) Learned() []Learned {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := slices.Collect(maps.Values(g.learned))
	now := g.o.Clock().UTC().Truncate(time.Second)
	for k, m := range g.models {
		if l := m.learned(k, now); len(l.Sizes) > 0 {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, compareLearned)
	return all
}

func compareLearned(a, b Learned) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Shape, b.Shape))
}

func (m *models) learned(k modelKey, when time.Time) Learned {
	l := Learned{Key: k.key, Shape: k.shape, When: when}
	for i := range m.cost.seen {
		l.Sizes = append(l.Sizes, SizeTook{Batch: m.cost.seen[i].batch, Bytes: m.cost.seen[i].most})
	}
	for i := range m.speed.seen {
		s := &m.speed.seen[i]
		if s.n == 0 {
			continue
		}
		at, found := slices.BinarySearchFunc(l.Sizes, s.batch, func(t SizeTook, b int) int { return t.Batch - b })
		if !found {
			l.Sizes = slices.Insert(l.Sizes, at, SizeTook{Batch: s.batch})
		}
		l.Sizes[at].Seconds = s.typical
	}
	return l
}

// models begin with what was learned. What is wrong in it is soon outweighed.
func (l Learned) models() *models {
	m := &models{}
	for _, s := range l.Sizes[max(len(l.Sizes)-costSizes-speedSizes, 0):] {
		m.cost.learn(s.Batch, s.Bytes)
		m.speed.learn(s.Batch, s.Seconds)
	}
	m.cost.fit()
	m.speed.fit()
	return m
}

const (
	// mostLearned bounds the file, in networks and shapes; the oldest are forgotten.
	mostLearned = 4096
	// mostLearnedFile is how many bytes of a file are read.
	mostLearnedFile = 64 << 20
	// replaced is what becomes of a file that is none.
	replaced = "it is not used, and will be replaced by what this run learns"
)

// ReadLearned reads what WriteLearned has written; nothing, where there is no file. A
// file that is damaged is an error that names it: WriteLearned replaces it.
func ReadLearned(file string) ([]Learned, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what earlier runs have learned: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not what earlier runs have learned: it is no file; delete it", file)
	}
	if info.Size() > mostLearnedFile {
		return nil, fmt.Errorf("%s is not what earlier runs have learned, as it has more than %s: %s", file, FormatBytes(mostLearnedFile), replaced)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading what earlier runs have learned: %w", err)
	}
	var all []Learned
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s, in which earlier runs have kept what they learned, is damaged (%w): %s", file, err, replaced)
	}
	return all, nil
}

// WriteLearned adds to the file what a run has learned. Of the same key and shape the
// newest stays, and of all of them the newest 4096. The file is replaced as a whole, and
// one that is of no use to anybody too. Where two processes write at the same time, what
// one of them adds may be lost.
func WriteLearned(file string, learned []Learned) error {
	if len(learned) == 0 {
		return nil
	}
	before, err := ReadLearned(file)
	if err != nil {
		before = nil
	}
	newest := map[modelKey]Learned{}
	for _, l := range slices.Concat(before, learned) {
		k := modelKey{l.Key, l.Shape}
		if o, found := newest[k]; !found || !l.When.Before(o.When) {
			newest[k] = l
		}
	}
	all := slices.SortedFunc(maps.Values(newest), func(a, b Learned) int {
		return cmp.Or(b.When.Compare(a.When), compareLearned(a, b))
	})
	all = all[:min(len(all), mostLearned)]
	slices.SortFunc(all, compareLearned)
	data, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return fmt.Errorf("keeping what was learned: %w", err)
	}
	if err := replaceFile(file, append(data, '\n')); err != nil {
		return fmt.Errorf("keeping what was learned in %s: %w", file, err)
	}
	return nil
}

// replaceFile leaves the old file or the new one, whatever happens.
func replaceFile(file string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".learned-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
