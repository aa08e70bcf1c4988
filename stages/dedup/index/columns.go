package index

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// checkColumns checks what a caller or a file says of columns.
func checkColumns(columns []Column) error {
	if len(columns) > maxColumns {
		return badf("there are %d columns, and %d is the most", len(columns), maxColumns)
	}
	total := 0
	for i, c := range columns {
		same := func(o Column) bool { return o.Name == c.Name }
		switch {
		case c.Name == "":
			return badf("column %d has no name", i+1)
		case !isText(c.Name) || !isText(c.Model) || !isText(c.Version):
			return badf("the name, model or version of column %d has more than %d bytes, or is not plain text", i+1, maxText)
		case slices.ContainsFunc(columns[:i], same):
			return badf("column %s is there twice", c.Name)
		case c.Size < 1 || c.Size > maxPrint:
			return badf("a fingerprint of column %s has %d bytes, which is not from 1 to %d", c.Name, c.Size, maxPrint)
		case c.Vector && c.Size%4 != 0:
			return badf("a vector of column %s has %d bytes, which are no float32 numbers", c.Name, c.Size)
		}
		total += c.Size // at most maxColumns times maxPrint
	}
	if total > maxPrints {
		return badf("the fingerprints of an entry have %d bytes, and %d is the most", total, maxPrints)
	}
	return nil
}

// large tells whether the fingerprints lie in files of their own. Else what is read of the
// other columns would be strewn thinly over all the bytes of these.
func (c Column) large() bool { return c.Size > largeAbove }

// stored is how many bytes of a fingerprint are in a block.
func (c Column) stored() int {
	if c.large() {
		return 4 // its checksum
	}
	return c.Size
}

// larges is how many columns are large.
func larges(columns []Column) (n int) {
	for _, c := range columns {
		if c.large() {
			n++
		}
	}
	return n
}

// versionOf is that of the format of an index with these columns. Without large ones it is
// as it was before there were any, and an older forgepipe reads it.
func versionOf(columns []Column) int {
	if larges(columns) > 0 {
		return largeVersion
	}
	return plainVersion
}

func isText(s string) bool { return len(s) <= maxText && isPlain(s) }

// isPlain is false for what would do something to a terminal.
func isPlain(s string) bool {
	for i := range len(s) { // every ID goes through here
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// entryBytes is what an entry takes at most in a block.
func entryBytes(columns []Column) int {
	n := keyBytes + 2 + maxID // 2: more bytes of its length
	for _, c := range columns {
		n += 1 + c.stored() // 1: of the bitmap
	}
	return n
}

func (m *manifest) column(name string) int {
	return slices.IndexFunc(m.Columns, func(c Column) bool { return c.Name == name })
}

// has checks that columns are among those of the index. An empty one would do with any.
func (m *manifest) has(dir string, columns []Column) error {
	if m.Entries == 0 {
		return nil
	}
	for _, c := range columns {
		i := m.column(c.Name)
		if i < 0 {
			return fmt.Errorf("the index %s has no column %s (it has: %s): compare by one that it has, or make the index anew from its pictures with %s",
				dir, c.Name, names(m.Columns), c.Name)
		}
		if err := m.Columns[i].compare(dir, c); err != nil {
			return err
		}
	}
	return nil
}

// compare checks that fingerprints of column c can be compared with those of o, which is that
// of the index.
func (o Column) compare(dir string, c Column) error {
	kind := func(c Column) string {
		if c.Vector {
			return fmt.Sprintf("vectors of %d numbers", c.Size/4)
		}
		return fmt.Sprintf("fingerprints of %d bytes", c.Size)
	}
	model := func(c Column) string {
		if c.Model == "" {
			return "no model"
		}
		return "the model " + c.Model
	}
	const anew = "or make the index anew from its pictures, in an empty folder"
	switch {
	case c.Model != o.Model:
		return fmt.Errorf("mixed models: column %s of the index %s was made by %s, here it is made by %s, and the two cannot be compared: use the network of the index, the same output and pictures prepared as for it, %s",
			c.Name, dir, model(o), model(c), anew)
	case c.Vector != o.Vector || c.Size != o.Size:
		return fmt.Errorf("column %s of the index %s has %s, here it has %s: make both in the same way, %s", c.Name, dir, kind(o), kind(c), anew)
	case c.Version != o.Version:
		return fmt.Errorf("column %s of the index %s was made by version %q of the algorithm, here by version %q, and the two cannot be compared: use that version, %s",
			c.Name, dir, o.Version, c.Version, anew)
	}
	return nil
}

// takes checks that columns are those of the index.
func (m *manifest) takes(dir string, columns []Column) error {
	if err := m.has(dir, columns); err != nil || m.Entries == 0 {
		return err
	}
	for _, o := range m.Columns {
		if !slices.ContainsFunc(columns, func(c Column) bool { return c.Name == o.Name }) {
			return fmt.Errorf("the index %s has the column %s, which is missing here: compare by %s too, or make a new index, in an empty folder", dir, o.Name, o.Name)
		}
	}
	return nil
}

func names(columns []Column) string {
	if len(columns) == 0 {
		return "none"
	}
	var all []string
	for _, c := range columns {
		all = append(all, c.Name)
	}
	return strings.Join(all, ", ")
}
