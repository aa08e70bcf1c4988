package groups

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	// rowGroup is how many bytes of values are gathered before they are written.
	rowGroup = 16 << 20
	// ParquetMemory is what writing Parquet takes, in bytes: a row group that does not
	// become smaller, the pages that are being filled, and 8 MiB of history in which zstd
	// looks for repetitions.
	ParquetMemory = rowGroup + 20<<20
)

// WriteParquet writes a row for each member, in the order of WriteJSONL, with the columns
// group (from 1, the line of WriteJSONL), keeper, keeper_index, id, source, width, height,
// by, one for each measure under the name of Measure.Column, rule, value and keeper_value.
// What there is none of, or what is not finite, is null. As WriteJSONL it may be called
// several times.
func (w *Writer) WriteParquet(ctx context.Context, out io.Writer) error {
	columns := []column{
		{"group", whole}, {"keeper", optionalText}, {"keeper_index", optionalText},
		{"id", text}, {"source", text}, {"width", whole}, {"height", whole}, {"by", text},
	}
	for _, m := range w.measures {
		columns = append(columns, column{m.Column(), optionalNumber})
	}
	columns = append(columns, column{"rule", optionalText}, column{"value", optionalNumber}, column{"keeper_value", optionalNumber})
	p := newParquet(out, "groups", columns)
	for r, err := range w.rows(ctx) {
		if err != nil {
			return fmt.Errorf("writing groups: %w", err)
		}
		p.whole(r.group)
		p.optionalText(r.Keeper)
		p.optionalText(r.KeeperIndex)
		p.text(r.ID)
		p.text(r.Source)
		p.whole(int64(r.Width))
		p.whole(int64(r.Height))
		p.text(r.By)
		for _, v := range r.Values {
			p.number(v)
		}
		p.optionalText(r.Rule)
		p.number(r.Value)
		p.number(r.KeeperValue)
		if err := p.end(); err != nil {
			return fmt.Errorf("writing groups: %w", err)
		}
	}
	if err := p.Close(); err != nil {
		return fmt.Errorf("writing groups: %w", err)
	}
	return nil
}

// column is one of a flat table.
type column struct {
	name string
	node parquet.Node
}

// The kinds of columns. Text is written plainly, which all readers know, where the library
// would take an encoding of Parquet 2.
var (
	whole          = parquet.Int(64)
	rank           = parquet.Uint(32)
	yesNo          = parquet.Leaf(parquet.BooleanType)
	text           = parquet.Encoded(parquet.String(), &parquet.Plain)
	optionalText   = parquet.Optional(text)
	optionalNumber = parquet.Optional(parquet.Leaf(parquet.DoubleType))
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

// parquetWriter writes rows, value by value in the order of the columns.
type parquetWriter struct {
	*parquet.Writer
	row      parquet.Row
	gathered int
}

// newParquet begins a file. Nothing but the rows decides about its bytes.
func newParquet(w io.Writer, name string, columns []column, options ...parquet.WriterOption) *parquetWriter {
	root := ordered{Group: parquet.Group{}}
	for _, c := range columns {
		root.Group[c.name] = c.node
		root.names = append(root.names, c.name)
	}
	options = append(options,
		parquet.NewSchema(name, root),
		// A codec of its own, since what it has allocated stays as long as it does.
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
		parquet.DataPageVersion(1),               // as most writers do, so that every reader can follow
		parquet.CreatedBy("forgepipe", "1", "0"), // by default it holds the library's version
	)
	return &parquetWriter{Writer: parquet.NewWriter(w, options...)}
}

// add adds a value, of which so many bytes are not in every row.
func (p *parquetWriter) add(v parquet.Value, definition, bytes int) {
	p.gathered += 8 + bytes
	p.row = append(p.row, v.Level(0, definition, len(p.row)))
}

func (p *parquetWriter) text(s string)  { p.add(parquet.ByteArrayValue([]byte(s)), 0, len(s)) }
func (p *parquetWriter) whole(n int64)  { p.add(parquet.Int64Value(n), 0, 0) }
func (p *parquetWriter) rank(n uint32)  { p.add(parquet.Int32Value(int32(n)), 0, 0) }
func (p *parquetWriter) yesNo(yes bool) { p.add(parquet.BooleanValue(yes), 0, 0) }

// optionalText writes a text; an empty one is none.
func (p *parquetWriter) optionalText(s string) {
	if s == "" {
		p.add(parquet.NullValue(), 0, 0)
		return
	}
	p.add(parquet.ByteArrayValue([]byte(s)), 1, len(s))
}

// number writes a number; one that is not finite is none.
func (p *parquetWriter) number(f float64) {
	if !finite(f) {
		p.add(parquet.NullValue(), 0, 0)
		return
	}
	p.add(parquet.DoubleValue(f), 1, 0)
}

// end writes the row, and the row group when enough is gathered.
func (p *parquetWriter) end() error {
	_, err := p.WriteRows([]parquet.Row{p.row})
	p.row = p.row[:0]
	if err != nil || p.gathered < rowGroup {
		return err
	}
	p.gathered = 0
	return p.Flush()
}
