package groups

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"

	"github.com/parquet-go/parquet-go"
)

// Pairs is an open file of pairs.
type Pairs struct {
	Header Header // what the file says of all of them

	path    string
	file    *os.File
	size    int64
	parquet *parquet.File // nil: JSON Lines
}

// ReadPairs opens a file of pairs, in Parquet or JSON Lines as its extension says, and
// reads its header.
func ReadPairs(path string) (_ *Pairs, err error) {
	f, err := FormatOf(path)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening pairs: %w", err)
	}
	p := &Pairs{path: path, file: file}
	defer func() {
		if err != nil {
			_ = file.Close() // nothing was written
			err = fmt.Errorf("reading pairs from %s: %w", path, err)
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	p.size = info.Size()
	if f == Parquet {
		return p, p.openParquet()
	}
	l := p.lines()
	head, err := l.next()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty")
	}
	if err != nil {
		return nil, err
	}
	p.Header, err = header(head)
	return p, err
}

// Close closes the file.
func (p *Pairs) Close() error { return p.file.Close() }

// All reads the pairs, in the order of the file. An error ends them; it names the file,
// and of JSON Lines the line. It may be called more than once, but not at the same time.
func (p *Pairs) All(ctx context.Context) iter.Seq2[Pair, error] { return p.pairs(ctx, true) }

// pairs reads the pairs; without names, which take most of the time in Parquet, A and B
// may be empty.
func (p *Pairs) pairs(ctx context.Context, names bool) iter.Seq2[Pair, error] {
	read := p.readLines
	if p.parquet != nil {
		read = func(yield func(Pair) error) error { return p.readParquet(names, yield) }
	}
	return func(yield func(Pair, error) bool) {
		stop := errors.New("enough")
		n := 0
		err := read(func(pair Pair) error {
			if n++; n%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if !yield(pair, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			if ctx.Err() == nil {
				err = fmt.Errorf("reading pairs from %s: %w", p.path, err)
			}
			yield(Pair{}, err)
		}
	}
}

// maxLine is more than a line of two IDs and a few numbers takes.
const maxLine = 1 << 20

// lines reads lines of a file, no longer than maxLine.
type lines struct {
	r *bufio.Reader
	n int // number of the last one
}

func (p *Pairs) lines() *lines {
	return &lines{r: bufio.NewReaderSize(io.NewSectionReader(p.file, 0, p.size), maxLine)}
}

// next reads one without its end, and is io.EOF when there is none.
func (l *lines) next() ([]byte, error) {
	l.n++
	b, err := l.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("line %d is longer than %d bytes: this is no file of pairs", l.n, maxLine)
	case errors.Is(err, io.EOF) && len(b) > 0:
		return b, nil
	}
	return bytes.TrimRight(b, "\r\n"), err
}

// readLines reads what is after the header.
func (p *Pairs) readLines(yield func(Pair) error) error {
	l := p.lines()
	if _, err := l.next(); err != nil {
		return err
	}
	var n int64
	for {
		b, err := l.next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it ends after %d pairs, without the line that says how many there are: it was cut; copy it again, or run the pipeline again", n)
		}
		if err != nil {
			return err
		}
		pair, end, err := p.parse(b)
		if err == nil && end != nil {
			return p.finish(l, n, *end)
		}
		if err == nil {
			err = p.Header.checkPair(pair)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", l.n, err)
		}
		n++
		if err := yield(pair); err != nil {
			return err
		}
	}
}

// finish looks whether the last line is right and the last.
func (p *Pairs) finish(l *lines, n, said int64) error {
	if n != said {
		return fmt.Errorf("there are %d pairs, and the last line says %d: pairs were taken out or put in", n, said)
	}
	if _, err := l.next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d comes after the last", l.n)
	}
	return nil
}

// parse reads a line: a pair, or the number of them.
func (p *Pairs) parse(b []byte) (pair Pair, end *int64, err error) {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(b, &in); err != nil {
		return pair, nil, fmt.Errorf("it is no JSON object: %w", err)
	}
	if said, ok := in["pairs"]; ok {
		if err := json.Unmarshal(said, &end); err != nil || end == nil {
			return pair, nil, fmt.Errorf("pairs is %s", said)
		}
		return pair, end, nil
	}
	for _, m := range []struct {
		name string
		to   any
	}{
		{"a", &pair.A}, {"b", &pair.B}, {"a_rank", &pair.RankA}, {"b_rank", &pair.RankB},
		{"a_fixed", &pair.FixedA}, {"b_fixed", &pair.FixedB}, {"clause", &pair.Clause},
	} {
		v, ok := in[m.name]
		if !ok || string(v) == "null" {
			return pair, nil, fmt.Errorf("it has no %s", m.name)
		}
		if err := json.Unmarshal(v, m.to); err != nil {
			return pair, nil, fmt.Errorf("its %s: %w", m.name, err)
		}
	}
	pair.Values = make([]float64, len(p.Header.Steps))
	for i, s := range p.Header.Steps {
		v, ok := in[s.Column()]
		if !ok || string(v) == "null" {
			pair.Values[i] = math.NaN()
			continue
		}
		if err := json.Unmarshal(v, &pair.Values[i]); err != nil {
			return pair, nil, fmt.Errorf("its %s: %w", s.Column(), err)
		}
	}
	return pair, nil, nil
}

// openParquet reads the metadata.
func (p *Pairs) openParquet() (err error) {
	defer damaged(&err)
	// The library makes room for a footer of the size that is said.
	var end [8]byte
	if _, err := p.file.ReadAt(end[:], max(p.size-8, 0)); err != nil || int64(binary.LittleEndian.Uint32(end[:])) > p.size || string(end[4:]) != "PAR1" {
		return errors.New("it is no Parquet file, or was cut")
	}
	p.parquet, err = parquet.OpenFile(p.file, p.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	head, ok := p.parquet.Lookup(headerKey)
	if !ok {
		return fmt.Errorf("it is no file of pairs: its metadata has no %s", headerKey)
	}
	if p.Header, err = header([]byte(head)); err != nil {
		return err
	}
	for _, c := range p.columns() {
		leaf, ok := p.parquet.Schema().Lookup(c.name)
		if !ok || leaf.MaxRepetitionLevel > 0 || leaf.Node.Type().Kind() != c.node.Type().Kind() {
			return fmt.Errorf("it has no column %s of %s", c.name, c.node.Type())
		}
	}
	return nil
}

// columns are those that a Parquet file has.
func (p *Pairs) columns() []column {
	all := append([]column(nil), pairColumns...)
	for _, s := range p.Header.Steps {
		all = append(all, column{s.Column(), optionalNumber})
	}
	return all
}

// damaged makes an error of a panic of the Parquet library, which a damaged file can
// cause.
func damaged(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the file is damaged: %v", r)
	}
}

// readParquet reads the row groups.
func (p *Pairs) readParquet(names bool, yield func(Pair) error) error {
	columns := p.columns()
	for _, g := range p.parquet.RowGroups() {
		cursors := make([]*cursor, len(columns))
		for i, c := range columns {
			if !names && i < 2 {
				continue
			}
			leaf, _ := p.parquet.Schema().Lookup(c.name)
			cursors[i] = &cursor{chunk: g.ColumnChunks()[leaf.ColumnIndex]}
		}
		err := p.readGroup(g.NumRows(), cursors, yield)
		for _, c := range cursors {
			c.close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readGroup reads the rows of a row group, of which cursors are the columns.
func (p *Pairs) readGroup(rows int64, cursors []*cursor, yield func(Pair) error) error {
	values := make([]parquet.Value, len(cursors))
	for range rows {
		for i, c := range cursors {
			if c == nil {
				continue
			}
			var err error
			if values[i], err = c.next(); err != nil {
				return fmt.Errorf("reading the column %s: %w", p.columns()[i].name, err)
			}
			if i < len(pairColumns) && values[i].IsNull() {
				return fmt.Errorf("a pair has no %s", pairColumns[i].name)
			}
		}
		pair := Pair{
			RankA: values[2].Uint32(), RankB: values[3].Uint32(), FixedA: values[4].Boolean(), FixedB: values[5].Boolean(),
			Values: make([]float64, len(p.Header.Steps)),
		}
		if cursors[0] != nil {
			pair.A, pair.B = string(values[0].ByteArray()), string(values[1].ByteArray())
		}
		// One that is too large for an int is none that there is.
		pair.Clause = int(min(values[6].Int64(), math.MaxInt32))
		for i := range pair.Values {
			pair.Values[i] = math.NaN()
			if v := values[len(pairColumns)+i]; !v.IsNull() {
				pair.Values[i] = v.Double()
			}
		}
		if err := p.Header.checkPair(pair); err != nil {
			return err
		}
		if err := yield(pair); err != nil {
			return err
		}
	}
	return nil
}

// cursor reads the values of a column of a row group.
type cursor struct {
	chunk  parquet.ColumnChunk
	pages  parquet.Pages
	values parquet.ValueReader // of the page
	buf    []parquet.Value
	rest   []parquet.Value // of buf
}

func (c *cursor) next() (parquet.Value, error) {
	if len(c.rest) == 0 {
		if err := c.fill(); err != nil {
			return parquet.Value{}, err
		}
	}
	v := c.rest[0]
	c.rest = c.rest[1:]
	return v, nil
}

// fill reads more values, at least one.
func (c *cursor) fill() (err error) {
	defer damaged(&err)
	if c.pages == nil {
		c.pages, c.buf = c.chunk.Pages(), make([]parquet.Value, 1024)
	}
	for {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return errors.New("it has fewer values than there are rows")
			}
			if err != nil {
				return err
			}
			c.values = page.Values()
		}
		n, err := c.values.ReadValues(c.buf)
		if err != nil {
			c.values = nil
			if !errors.Is(err, io.EOF) {
				return err
			}
		}
		if n > 0 {
			c.rest = c.buf[:n]
			return nil
		}
	}
}

func (c *cursor) close() {
	if c != nil && c.pages != nil {
		_ = c.pages.Close() // nothing was written
	}
}
