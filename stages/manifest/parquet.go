package manifest

import (
	"cmp"
	"encoding/binary"
	"io"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/listing"
)

const (
	// rowGroup is how many bytes of values are gathered before they are written.
	rowGroup = 16 << 20
	// rowGroupMemory is what that takes, encoded and not made smaller, with the pages
	// that are being filled and 8 MiB of history in which zstd looks for repetitions.
	rowGroupMemory = rowGroup + 20<<20
)

// parquetFile writes a row per item. Which columns there are is known when the
// last item has come: those that stages declare, so that all runs of a pipeline
// have them, and those that items have beside, since a stage of the user's may
// declare nothing. What is sorted are records in which columns are numbers.
type parquetFile struct {
	withVectors bool

	mu                  sync.Mutex
	attributes, vectors columns
}

// columns are those of a group.
type columns struct {
	numbers map[string]int // by name, in the order of arrival
	types   []pipeline.Type
}

// add makes sure that there is a column that can hold the type. A type that does
// not fit makes the column's one wider.
func (c *columns) add(name string, t pipeline.Type) int {
	name = valid(name)
	n, ok := c.numbers[name]
	if !ok {
		n = len(c.types)
		c.numbers[name] = n
		c.types = append(c.types, t)
	}
	c.types[n] = wider(c.types[n], t)
	return n
}

// valid is text that a reader takes: as in JSON, each byte that is not UTF-8
// becomes the sign for it.
func valid(s string) string { return string([]rune(s)) }

// wider is the type that holds values of both, whichever comes first.
func wider(a, b pipeline.Type) pipeline.Type {
	isNumber := func(t pipeline.Type) bool { return t == pipeline.TypeInt || t == pipeline.TypeFloat }
	switch {
	case a == pipeline.TypeNone || a == b:
		return b
	case b == pipeline.TypeNone:
		return a
	case isNumber(a) && isNumber(b):
		return pipeline.TypeFloat
	}
	return pipeline.TypeString
}

func newParquet(e pipeline.Env, vectors bool) *parquetFile {
	f := &parquetFile{withVectors: vectors, attributes: columns{numbers: map[string]int{}}, vectors: columns{numbers: map[string]int{}}}
	every := pipeline.Builtins()
	for name, t := range e.Attributes {
		if _, ok := every[name]; !ok {
			f.attributes.add(name, t)
		}
	}
	if vectors {
		for _, name := range slices.Sorted(maps.Keys(e.Vectors)) {
			f.vectors.add(name, pipeline.TypeFloat)
		}
	}
	return f
}

func (f *parquetFile) memory() int64 { return rowGroupMemory }

// record describes an item for parse.
func (f *parquetFile) record(p listing.Place, it *pipeline.Item) ([]byte, error) {
	b := appendText(nil, p.Source)
	if p.Path == nil {
		b = append(b, 0)
	} else {
		b = appendText(append(b, 1), *p.Path)
	}
	size := it.Size()
	b = binary.AppendUvarint(b, uint64(size.X))
	b = binary.AppendUvarint(b, uint64(size.Y))

	f.mu.Lock()
	defer f.mu.Unlock()
	attrs := it.Attributes()
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	for _, a := range attrs {
		b = appendColumn(b, f.attributes.add(a.Name, a.Value.Type()))
		b = append(b, byte(a.Value.Type()))
		switch a.Value.Type() {
		case pipeline.TypeBool, pipeline.TypeString, pipeline.TypeHash:
			b = appendText(b, a.Value.String())
		case pipeline.TypeInt:
			b = binary.LittleEndian.AppendUint64(b, uint64(a.Value.Int()))
		case pipeline.TypeFloat:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(a.Value.Float()))
		}
	}
	if !f.withVectors {
		return binary.AppendUvarint(b, 0), nil
	}
	vectors := it.Vectors()
	b = binary.AppendUvarint(b, uint64(len(vectors)))
	for _, v := range vectors {
		b = appendColumn(b, f.vectors.add(v.Name, pipeline.TypeFloat))
		b = binary.AppendUvarint(b, uint64(len(v.Data)))
		for _, x := range v.Data {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b, nil
}

// appendColumn writes a column's number, which chance decides, so that the record
// is as long whatever it is: that decides where a row group ends.
func appendColumn(b []byte, n int) []byte { return binary.LittleEndian.AppendUint32(b, uint32(n)) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// record takes apart what parquetFile.record has put together. The sorter gives
// back what it got, so there is nothing to check.
type record []byte

func (r *record) take(n int) []byte {
	b := (*r)[:n]
	*r = (*r)[n:]
	return b
}

func (r *record) number() int {
	n, size := binary.Uvarint(*r)
	r.take(size)
	return int(n)
}

func (r *record) column() int { return int(binary.LittleEndian.Uint32(r.take(4))) }

func (r *record) text() string { return string(r.take(r.number())) }

func (r *record) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// value is that of an attribute, hashes as text.
func (r *record) value() pipeline.Value {
	switch pipeline.Type(r.take(1)[0]) {
	case pipeline.TypeBool:
		return pipeline.Bool(r.text() == "true")
	case pipeline.TypeInt:
		return pipeline.Int(int64(r.uint64()))
	case pipeline.TypeFloat:
		return pipeline.Float(math.Float64frombits(r.uint64()))
	case pipeline.TypeString, pipeline.TypeHash:
		return pipeline.String(r.text())
	}
	return pipeline.Value{}
}

// table is the schema, and a row that is being made. A column's place is its
// number in the schema's order, from 0.
type table struct {
	schema     *parquet.Schema
	attributes []parquetColumn // by number
	vectors    []parquetColumn
	unbounded  []parquet.WriterOption // no smallest and largest component is wanted
	cells      [][]parquet.Value      // by place
}

type parquetColumn struct {
	place int // -1 when nothing is known of it but its name
	typ   pipeline.Type
}

// The columns that are always there.
const (
	columnID = iota
	columnSource
	columnPath
	columnWidth
	columnHeight
	firstOfGroups
)

// ordered is a group whose fields come in the given order.
type ordered struct {
	parquet.Group
	names []string
}

func (o ordered) Fields() []parquet.Field {
	fields := o.Group.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int {
		return cmp.Compare(slices.Index(o.names, a.Name()), slices.Index(o.names, b.Name()))
	})
	return fields
}

// leaf is a column of the type. Text is written plainly, which all readers know,
// where the library would take an encoding of Parquet 2.
func leaf(t pipeline.Type) parquet.Node {
	switch t {
	case pipeline.TypeBool:
		return parquet.Leaf(parquet.BooleanType)
	case pipeline.TypeInt:
		return parquet.Int(64)
	case pipeline.TypeFloat:
		return parquet.Leaf(parquet.DoubleType)
	}
	return parquet.Encoded(parquet.String(), &parquet.Plain)
}

func (f *parquetFile) table() *table {
	t := &table{attributes: make([]parquetColumn, len(f.attributes.types)), vectors: make([]parquetColumn, len(f.vectors.types))}
	root := ordered{
		Group: parquet.Group{
			"id": leaf(pipeline.TypeString), "source": leaf(pipeline.TypeString), "path": parquet.Optional(leaf(pipeline.TypeString)),
			"width": leaf(pipeline.TypeInt), "height": leaf(pipeline.TypeInt),
		},
		names: []string{"id", "source", "path", "width", "height", "attributes", "vectors"},
	}
	place := firstOfGroups
	attributes := parquet.Group{}
	for _, name := range slices.Sorted(maps.Keys(f.attributes.numbers)) {
		n := f.attributes.numbers[name]
		typ := f.attributes.types[n]
		if typ == pipeline.TypeNone {
			t.attributes[n].place = -1
			continue
		}
		attributes[name] = parquet.Optional(leaf(typ))
		t.attributes[n] = parquetColumn{place, typ}
		place++
	}
	vectors := parquet.Group{}
	for _, name := range slices.Sorted(maps.Keys(f.vectors.numbers)) {
		vectors[name] = parquet.Optional(parquet.List(parquet.Leaf(parquet.FloatType)))
		t.vectors[f.vectors.numbers[name]].place = place
		t.unbounded = append(t.unbounded, parquet.SkipPageBounds("vectors", name, "list", "element"))
		place++
	}
	if len(attributes) > 0 {
		root.Group["attributes"] = attributes
	}
	if len(vectors) > 0 {
		root.Group["vectors"] = vectors
	}
	t.schema = parquet.NewSchema("manifest", root)
	t.cells = make([][]parquet.Value, place)
	return t
}

// set sets the values of a column in the row.
func (t *table) set(place, definition int, v parquet.Value) {
	t.cells[place] = append(t.cells[place][:0], v.Level(0, definition, place))
}

// row makes the row of an item. Its values are valid until the next call.
func (t *table) row(row parquet.Row, id string, r record) parquet.Row {
	text := func(s string) parquet.Value { return parquet.ByteArrayValue([]byte(s)) }
	for place := range t.cells {
		t.set(place, 0, parquet.NullValue())
	}
	t.set(columnID, 0, text(id))
	t.set(columnSource, 0, text(r.text()))
	if r.take(1)[0] == 1 {
		t.set(columnPath, 1, text(r.text()))
	}
	t.set(columnWidth, 0, parquet.Int64Value(int64(r.number())))
	t.set(columnHeight, 0, parquet.Int64Value(int64(r.number())))
	for range r.number() {
		c := t.attributes[r.column()]
		v := r.value()
		if v.Type() == pipeline.TypeNone {
			continue
		}
		switch c.typ {
		case pipeline.TypeBool:
			t.set(c.place, 1, parquet.BooleanValue(v.Bool()))
		case pipeline.TypeInt:
			t.set(c.place, 1, parquet.Int64Value(v.Int()))
		case pipeline.TypeFloat:
			t.set(c.place, 1, parquet.DoubleValue(v.Float()))
		default:
			t.set(c.place, 1, text(valid(v.String())))
		}
	}
	for range r.number() {
		place := t.vectors[r.column()].place
		n := r.number()
		if n == 0 {
			t.set(place, 1, parquet.NullValue()) // a list, but of nothing
			continue
		}
		cell := t.cells[place][:0]
		for i := range n {
			x := math.Float32frombits(binary.LittleEndian.Uint32(r.take(4)))
			cell = append(cell, parquet.FloatValue(x).Level(min(i, 1), 2, place))
		}
		t.cells[place] = cell
	}
	row = row[:0]
	for _, cell := range t.cells {
		row = append(row, cell...)
	}
	return row
}

func (f *parquetFile) write(w io.Writer, records listing.Records) error {
	t := f.table()
	options := append([]parquet.WriterOption{
		t.schema,
		// A codec of its own, since what it has allocated stays as long as it does.
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
		parquet.DataPageVersion(1), // as most writers do, so that every reader can follow
		// By default it holds the library's version. Nothing but the items is to
		// decide about the bytes.
		parquet.CreatedBy("forgepipe", "1", "0"),
	}, t.unbounded...)
	p := parquet.NewWriter(w, options...)
	var row parquet.Row
	gathered := 0
	for rec, err := range records {
		if err != nil {
			return err
		}
		row = t.row(row, rec.Key, rec.Value)
		if _, err := p.WriteRows([]parquet.Row{row}); err != nil {
			return err
		}
		if gathered += len(rec.Key) + len(rec.Value); gathered < rowGroup {
			continue
		}
		gathered = 0
		if err := p.Flush(); err != nil {
			return err
		}
	}
	return p.Close()
}
