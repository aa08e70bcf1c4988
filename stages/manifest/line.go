package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
)

// line describes an item as one line of JSON, newline included. It is written
// by hand so that the order of the keys is ours.
func (s *Stage) line(it *pipeline.Item) ([]byte, error) {
	var w line
	w.buf.WriteString(`{"id":`)
	w.value(it.ID())
	w.buf.WriteString(`,"source":`)
	w.value(pipeline.EscapeID(it.Source().Name))
	w.buf.WriteString(`,"path":`)
	if err := w.path(s.dir, it.Outputs()); err != nil {
		return nil, err
	}
	size := it.Size()
	fmt.Fprintf(&w.buf, `,"width":%d,"height":%d,"attributes":{`, size.X, size.Y)
	attrs := slices.SortedFunc(slices.Values(it.Attributes()), func(a, b pipeline.Attribute) int { return strings.Compare(a.Name, b.Name) })
	for i, a := range attrs {
		w.key(i, a.Name)
		w.attribute(a.Value)
	}
	w.buf.WriteByte('}')
	if s.vectors {
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

// path writes where the file lies that was last written from the item, as seen
// from the folder dir.
func (w *line) path(dir string, outputs []string) error {
	if len(outputs) == 0 {
		w.buf.WriteString("null")
		return nil
	}
	rel, err := filepath.Rel(dir, outputs[len(outputs)-1])
	if err != nil {
		return fmt.Errorf("finding the way from the manifest to the image: %w", err)
	}
	w.value(pipeline.EscapeID(filepath.ToSlash(rel)))
	return nil
}
