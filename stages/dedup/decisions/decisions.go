package decisions

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
)

// What a person can decide.
const (
	Keep      = "keep"
	Reject    = "reject"
	Different = "different"
)

// columns are those of a file, in the order of Row. The first three must be there.
var columns = []string{"decision", "item", "keeper", "by", "distance", "rule"}

const (
	decisionColumn = iota
	itemColumn
	keeperColumn
	needed // columns
)

// Row is a row of a file. Item and Keeper are IDs; Distance is what the step in By measured,
// Rule the rule of prefer that put the keeper before the item. Only Decision, Item and
// Keeper mean something to the next run.
type Row struct{ Decision, Item, Keeper, By, Distance, Rule string }

// Error says what is wrong in a file, and what to do.
type Error struct {
	File string // as it was named
	Line int    // from 1; 0: it is no matter of one line
	Text string // without the place
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// File is what a person has decided.
type File struct {
	separator rune
	extra     []string   // names of columns of the person's own
	rows      [][]string // with a decision: the columns, then the person's own
	items     map[string]verdict
	different map[[2]string]bool // IDs in ascending order
}

// verdict is what was decided about an item, and in which line.
type verdict struct {
	word string
	line int
}

// Resolve is the file that a name leads to where that is a symbolic link, and otherwise the
// name: what is written there is read by the name, and the link stays.
func Resolve(path string) (string, error) {
	path = filepath.Clean(path)
	// Where there is an error, opening the file says so.
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return path, nil
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", &Error{File: path, Text: "this is a symbolic link to what is not there: make the file that it leads to, or remove the link"}
	case err != nil:
		return "", fmt.Errorf("following the link %s to decisions: %w", path, err)
	}
	return real, nil
}

// Read reads a file, through symbolic links. One that is not there, or has nothing in it,
// decides nothing. What is wrong in it is an *Error.
func Read(files pipeline.FS, path string) (*File, error) {
	real, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	folder, name := filepath.Split(real)
	folder = filepath.Clean(folder)
	// OpenRoot would make the folder.
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return empty(), nil
	}
	root, err := files.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("opening decisions: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing is written through it
	// Before it is opened, which would wait for what is no file.
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return empty(), nil
	case err != nil:
		return nil, fmt.Errorf("opening decisions: %w", err)
	case !info.Mode().IsRegular():
		return nil, &Error{File: path, Text: "this is no file: name a file for decisions, such as decisions.csv"}
	}
	in, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening decisions: %w", err)
	}
	defer in.Close()
	return Parse(in, path)
}

func empty() *File {
	return &File{separator: ',', items: map[string]verdict{}, different: map[[2]string]bool{}}
}

// Keep says whether a person wants an item kept, whatever it matches.
func (f *File) Keep(id string) bool { return f.items[id].word == Keep }

// Reject says whether a person wants an item rejected.
func (f *File) Reject(id string) bool { return f.items[id].word == Reject }

// Different says whether a person has decided that two items are no duplicates of each
// other. Their order makes no difference.
func (f *File) Different(a, b string) bool { return f.different[pair(a, b)] }

// Any says whether a person has decided anything.
func (f *File) Any() bool { return len(f.rows) > 0 }

// Rows are the rows that a person decided, in their order.
func (f *File) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, r := range f.rows {
			if !yield(Row{r[0], r[1], r[2], r[3], r[4], r[5]}) {
				return
			}
		}
	}
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// Write writes the file anew: what a person decided stays, in front and in its order, also
// about items that are not in this run; the rows of the run follow. Of items that a person
// keeps or rejects there is no second row. The separator is that of the file that was
// read. The file begins with a byte order mark, without which spreadsheets take names that
// are not ASCII for others; and a cell that they would run as a formula is written in
// another way, see [Parse].
func (f *File) Write(w io.Writer, automatic iter.Seq2[Row, error]) error {
	out := bufio.NewWriter(w)
	out.WriteString(byteOrderMark)
	c := csv.NewWriter(out)
	c.Comma = f.separator
	row := make([]string, len(columns)+len(f.extra))
	write := func() error {
		for i, s := range row {
			row[i] = safe(s)
		}
		return c.Write(row)
	}
	copy(row[copy(row, columns):], f.extra)
	if err := write(); err != nil {
		return fmt.Errorf("writing decisions: %w", err)
	}
	for _, r := range f.rows {
		copy(row, r)
		if err := write(); err != nil {
			return fmt.Errorf("writing decisions: %w", err)
		}
	}
	clear(row)
	for r, err := range automatic {
		if err != nil {
			return err
		}
		if r.Decision != "" {
			return fmt.Errorf("BUG: the run has decided %q about %s", r.Decision, r.Item)
		}
		if _, decided := f.items[r.Item]; decided {
			continue
		}
		copy(row, []string{"", r.Item, r.Keeper, r.By, r.Distance, r.Rule})
		if err := write(); err != nil {
			return fmt.Errorf("writing decisions: %w", err)
		}
	}
	c.Flush()
	if err := errors.Join(c.Error(), out.Flush()); err != nil {
		return fmt.Errorf("writing decisions: %w", err)
	}
	return nil
}

// decide takes a row that has a decision.
func (f *File) decide(row []string, line int) error {
	word, item, keeper := row[decisionColumn], row[itemColumn], row[keeperColumn]
	if item == "" {
		return fmt.Errorf("%s says nothing without an item: write its ID into the column item", word)
	}
	switch word {
	case Keep, Reject:
		if before, ok := f.items[item]; ok && before.word != word {
			return fmt.Errorf("%s is to be %s here and %s in line %d: leave one of the two", item, participles[word], participles[before.word], before.line)
		} else if !ok {
			f.items[item] = verdict{word, line}
		}
	case Different:
		switch keeper {
		case "":
			return fmt.Errorf("different says of two items that they are no duplicates of each other: write the ID of the other one into the column keeper")
		case item:
			return fmt.Errorf("%s cannot be different from itself: write the ID of the other item into the column keeper, or keep for the decision", item)
		}
		f.different[pair(item, keeper)] = true
	default:
		return fmt.Errorf("%q is no decision: write %s, %s or %s, or nothing to leave it to the run", word, Keep, Reject, Different)
	}
	f.rows = append(f.rows, slices.Clone(row))
	return nil
}

var participles = map[string]string{Keep: "kept", Reject: "rejected"}
