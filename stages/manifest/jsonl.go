package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/listing"
)

// jsonLines writes an object per line. What is sorted are the lines.
type jsonLines struct{ vectors bool }

func (jsonLines) memory() int64 { return 0 }

// record describes an item as one line of JSON, newline included. It is written
// by hand so that the order of the keys is ours.
func (f jsonLines) record(p listing.Place, it *pipeline.Item) ([]byte, error) {
	var w line
	w.value(p)
	w.buf.Truncate(w.buf.Len() - 1) // the brace: there is more
	size := it.Size()
	fmt.Fprintf(&w.buf, `,"width":%d,"height":%d,"attributes":{`, size.X, size.Y)
	attrs := slices.SortedFunc(slices.Values(it.Attributes()), func(a, b pipeline.Attribute) int { return strings.Compare(a.Name, b.Name) })
	for i, a := range attrs {
		w.key(i, a.Name)
		w.attribute(a.Value)
	}
	w.buf.WriteByte('}')
	if f.vectors {
		w.buf.WriteString(`,"vectors":{`)
		vectors := slices.SortedFunc(slices.Values(it.Vectors()), func(a, b pipeline.Vector) int { return strings.Compare(a.Name, b.Name) })
		for i, v := range vectors {
			w.key(i, v.Name)
			w.vector(v.Data)
		}
		w.buf.WriteByte('}')
	}
	w.buf.WriteString("}\n")
	return w.buf.Bytes(), w.err
}

func (jsonLines) write(w io.Writer, records listing.Records) error {
	for rec, err := range records {
		if err != nil {
			return err
		}
		if _, err := w.Write(rec.Value); err != nil {
			return err
		}
	}
	return nil
}

// line is one being written. The first error sticks.
type line struct {
	buf bytes.Buffer
	err error
}

// value writes a JSON value. HTML is not escaped: '<' and '&' in a file name
// stay what they are.
func (w *line) value(v any) {
	e := json.NewEncoder(&w.buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil && w.err == nil {
		w.err = err
	}
	w.buf.Truncate(len(bytes.TrimSuffix(w.buf.Bytes(), []byte("\n")))) // the encoder's own
}

func (w *line) key(i int, name string) {
	if i > 0 {
		w.buf.WriteByte(',')
	}
	w.value(name)
	w.buf.WriteByte(':')
}

func (w *line) attribute(v pipeline.Value) {
	if v.Type() == pipeline.TypeFloat && !finite(v.Float()) {
		w.buf.WriteString("null")
		return
	}
	w.value(v.Any())
}

func (w *line) vector(data []float32) {
	w.buf.WriteByte('[')
	b := w.buf.AvailableBuffer()
	for i, f := range data {
		if i > 0 {
			b = append(b, ',')
		}
		if finite(float64(f)) {
			b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
		} else {
			b = append(b, "null"...)
		}
	}
	w.buf.Write(b)
	w.buf.WriteByte(']')
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
