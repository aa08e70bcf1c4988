package index_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// picked reads some entries.
func picked(t testing.TB, x *index.Index, pick func(int64) bool, columns ...string) (all []index.Entry, err error) {
	for e, err := range x.Picked(t.Context(), columns, pick) {
		if err != nil {
			return all, err
		}
		for i, p := range e.Prints {
			e.Prints[i] = bytes.Clone(p)
		}
		all = append(all, index.Entry{ID: e.ID, SHA256: e.SHA256, Root: e.Root, Width: e.Width, Height: e.Height, Prints: append([][]byte{}, e.Prints...)})
	}
	return all, nil
}

func TestPickedEntriesAreThoseOfAll(t *testing.T) {
	for name, large := range map[string]int{"small columns": 1 << 10, "a large column": 8, "large columns": 1} {
		t.Run(name, func(t *testing.T) {
			index.Large(t, large)
			pickedEntries(t)
		})
	}
}

func pickedEntries(t *testing.T) {
	index.Small(t, 200, 3)
	dir := t.TempDir()
	add(t, dir, span(0, 60, 2))
	add(t, dir, span(1, 60, 2))
	x := open(t, dir)
	every := span(0, 60, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	for share := range 5 {
		var want []index.Entry
		pick := make([]bool, len(every))
		for i, e := range every {
			if pick[i] = rng.IntN(4) < share; pick[i] {
				want = append(want, e)
			}
		}
		asked := int64(0)
		have, err := picked(t, x, func(i int64) bool {
			if i != asked {
				t.Fatalf("asked about %d after %d", i, asked-1)
			}
			asked++
			return pick[i]
		}, "phash", "clip")
		check(t, err)
		if text(have) != text(want) || asked != 60 {
			t.Errorf("asked about %d, have\n%swant\n%s", asked, text(have), text(want))
		}
	}
}

// Fingerprints that are not asked for are not read, and so not found to be damaged.
func TestOnlyPickedFingerprintsAreRead(t *testing.T) {
	index.Small(t, 200, 3)
	dir := t.TempDir()
	add(t, dir, span(0, 40, 1))
	file := filepath.Join(dir, "segment-00000001.fpi")
	b, err := os.ReadFile(file)
	check(t, err)
	last := entry(39).Prints[1]
	at := bytes.LastIndex(b, last)
	if at < 0 {
		t.Fatal("the last vector is not in the file")
	}
	b[at] ^= 1
	check(t, os.WriteFile(file, b, 0o666))
	x := open(t, dir)
	if have, err := picked(t, x, func(i int64) bool { return i < 10 }, "clip"); err != nil || text(have) != text(without(span(0, 10, 1), 1)) {
		t.Errorf("have\n%s%v", text(have), err)
	}
	if have, err := picked(t, x, func(i int64) bool { return i < 10 || i == 39 }, "clip"); !errors.Is(err, index.ErrDamaged) || len(have) != 10 {
		t.Errorf("have\n%s%v", text(have), err)
	}
}

// without leaves the entries the fingerprints of one column.
func without(all []index.Entry, column int) []index.Entry {
	for i := range all {
		all[i].Prints = all[i].Prints[column:][:1]
	}
	return all
}

// Fingerprints that are work are made for entries that are added alone.
func TestFingerprintsAreMadeLater(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 20, 2))
	var made []string
	var all []index.Entry
	for _, e := range span(0, 20, 1) {
		prints := e.Prints
		e.Prints = nil
		e.Later = func() ([][]byte, error) {
			made = append(made, e.ID)
			return prints, nil
		}
		all = append(all, e)
	}
	if n := add(t, dir, all); n != 10 || len(made) != 10 || made[0] != entry(1).ID {
		t.Errorf("added %d, made those of %v", n, made)
	}
	holds(t, open(t, dir), span(0, 20, 1))

	all[0].ID, all[0].Later = "a", func() ([][]byte, error) { return nil, errors.New("cannot") }
	if _, err := index.Add(t.Context(), quick{}, dir, columns(), each(all)); err == nil || !bytes.Contains([]byte(err.Error()), []byte("cannot")) {
		t.Errorf("an error of making them: %v", err)
	}
	holds(t, open(t, dir), span(0, 20, 1))
}
