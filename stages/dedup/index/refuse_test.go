package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

func TestOtherColumnsAreRefused(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(0, 3, 1))
	x := open(t, dir)
	change := func(f func(c []index.Column) []index.Column) []index.Column { return f(columns()) }
	cases := map[string]struct {
		columns []index.Column
		has     bool // they are among those of the index
		want    []string
	}{
		"another model": {change(func(c []index.Column) []index.Column { c[1].Model = "bb22"; return c }), false,
			[]string{"mixed models", "column clip", "the model aa11", "the model bb22", "anew"}},
		"no model": {change(func(c []index.Column) []index.Column { c[1].Model = ""; return c }), false,
			[]string{"mixed models", "column clip", "the model aa11", "no model"}},
		"another version": {change(func(c []index.Column) []index.Column { c[0].Version = "3"; return c }), false,
			[]string{"column phash", `version "1"`, `version "3"`, "anew"}},
		"another dimension": {change(func(c []index.Column) []index.Column { c[1].Size = 16; return c }), false,
			[]string{"column clip", "vectors of 3 numbers", "vectors of 4 numbers"}},
		"another kind": {change(func(c []index.Column) []index.Column { c[1].Vector = false; return c }), false,
			[]string{"column clip", "vectors of 3 numbers", "fingerprints of 12 bytes"}},
		"one less": {change(func(c []index.Column) []index.Column { return c[:1] }), true,
			[]string{"the column clip", "missing here", "compare by clip too"}},
		"one more": {change(func(c []index.Column) []index.Column { return append(c, index.Column{Name: "pdq", Size: 32}) }), false,
			[]string{"no column pdq", "phash, clip", "anew"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := index.Add(t.Context(), quick{}, dir, c.columns, each(nil))
			for _, err := range []error{err, x.Takes(c.columns)} {
				for _, part := range c.want {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("%v, want %q in it", err, part)
					}
				}
			}
			if err := x.Has(c.columns); (err == nil) != c.has {
				t.Errorf("Has says %v", err)
			}
		})
	}
	check(t, x.Takes(columns()))
	check(t, x.Has(columns()))
	holds(t, open(t, dir), span(0, 3, 1))
}

// A run that failed may have left an empty index, which must not bind the next one.
func TestEmptyIndexTakesOtherColumns(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, nil)
	x := open(t, dir)
	other := []index.Column{{Name: "pdq", Size: 32}}
	check(t, errors.Join(x.Takes(other), x.Has(other)))
	if all, err := read(x, "pdq"); err != nil || len(all) != 0 {
		t.Errorf("reading it: %v, %v", all, err)
	}
	e := entry(0)
	e.Prints = [][]byte{bytes.Repeat([]byte{7}, 32)}
	_, err := index.Add(t.Context(), quick{}, dir, other, each([]index.Entry{e}))
	check(t, err)
	if c := open(t, dir).Columns(); !slices.Equal(c, other) {
		t.Errorf("its columns are %v", c)
	}
}

func TestWrongEntriesAreRefused(t *testing.T) {
	boom := errors.New("boom")
	one := func(change func(*index.Entry)) iter.Seq2[index.Entry, error] {
		e := entry(3)
		change(&e)
		return each([]index.Entry{entry(1), e})
	}
	cases := map[string]struct {
		entries iter.Seq2[index.Entry, error]
		want    string
	}{
		"out of order": {each([]index.Entry{entry(2), entry(1)}), `"a/0001.jpg" comes after "a/0002.jpg"`},
		"twice":        {each([]index.Entry{entry(1), entry(1)}), `"a/0001.jpg" comes after "a/0001.jpg"`},
		"an error": {func(yield func(index.Entry, error) bool) {
			if yield(entry(1), nil) {
				yield(index.Entry{}, boom)
			}
		}, "boom"},
		"no ID":           {one(func(e *index.Entry) { e.ID = "" }), "is empty"},
		"a long ID":       {one(func(e *index.Entry) { e.ID = strings.Repeat("b", 1<<16) }), "more than 65535 bytes"},
		"an escape":       {one(func(e *index.Entry) { e.ID = "b\x1b[2J" }), "not plain text"},
		"not UTF-8":       {one(func(e *index.Entry) { e.ID = "b\xff" }), "not plain text"},
		"a relative root": {one(func(e *index.Entry) { e.Root = "photos" }), `is from the folder "photos", which is not an absolute path`},
		"a longer root":   {one(func(e *index.Entry) { e.Root = "/photos/../a" }), "in its shortest form"},
		"a huge root":     {one(func(e *index.Entry) { e.Root = "/" + strings.Repeat("r", 1<<16) }), "of at most 65536 bytes"},
		"negative width":  {one(func(e *index.Entry) { e.Width = -1 }), "-1 x 7 pixels"},
		"a large height":  {one(func(e *index.Entry) { e.Height = 1 << 31 }), "2147483648 pixels"},
		"too few prints":  {one(func(e *index.Entry) { e.Prints = e.Prints[:1] }), "1 fingerprints for 2 columns"},
		"a short hash":    {one(func(e *index.Entry) { e.Prints[0] = e.Prints[0][:7] }), "7 bytes in column phash, which has 8"},
		"an empty vector": {one(func(e *index.Entry) { e.Prints[1] = []byte{} }), "0 bytes in column clip"},
		"not a number":    {one(func(e *index.Entry) { e.Prints[1] = vector(1, float32(math.NaN()), 2) }), "number 1 of the vector clip of the entry \"a/0003.jpg\" is NaN"},
		"infinite":        {one(func(e *index.Entry) { e.Prints[1] = vector(1, 2, float32(math.Inf(-1))) }), "number 2 of the vector clip of the entry \"a/0003.jpg\" is -Inf"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			add(t, dir, span(10, 13, 1))
			n, err := index.Add(t.Context(), quick{}, dir, columns(), c.entries)
			if err == nil || n != 0 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%d added, %v; want %q in it", n, err, c.want)
			}
			if name == "an error" && !errors.Is(err, boom) {
				t.Errorf("%v is not the error of the sequence", err)
			}
			holds(t, open(t, dir), span(10, 13, 1))
			onlyItsFiles(t, dir)
		})
	}
}

func TestWrongColumnsAreRefused(t *testing.T) {
	col := func(c ...index.Column) []index.Column { return c }
	many := make([]index.Column, 65)
	for i := range many {
		many[i] = index.Column{Name: fmt.Sprint(i), Size: 1}
	}
	for name, c := range map[string]struct {
		columns []index.Column
		want    string
	}{
		"no name":       {col(index.Column{Size: 8}), "no name"},
		"no bytes":      {col(index.Column{Name: "a"}), "0 bytes"},
		"negative":      {col(index.Column{Name: "a", Size: -8}), "-8 bytes"},
		"huge":          {col(index.Column{Name: "a", Size: 1 << 62}), "bytes, which is not from"},
		"odd vector":    {col(index.Column{Name: "a", Size: 6, Vector: true}), "no float32 numbers"},
		"twice":         {col(index.Column{Name: "a", Size: 8}, index.Column{Name: "a", Size: 8}), "twice"},
		"a long text":   {col(index.Column{Name: "a", Size: 8, Model: strings.Repeat("m", 256)}), "more than 255 bytes"},
		"large entries": {col(index.Column{Name: "a", Size: 16 << 20}, index.Column{Name: "b", Size: 16 << 20}, index.Column{Name: "c", Size: 16 << 20}, index.Column{Name: "d", Size: 16 << 20}, index.Column{Name: "e", Size: 1}), "67108864 is the most"},
		"many":          {many, "65 columns"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "index")
			_, err := index.Add(t.Context(), quick{}, dir, c.columns, each(nil))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the folder was made")
			}
		})
	}
}
