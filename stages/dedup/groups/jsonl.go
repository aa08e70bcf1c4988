package groups

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// WriteJSONL writes a line of JSON for each group of at least one rejected member:
//
//	{"keeper":{"id":"a.jpg","source":"a.jpg","width":640,"height":480},"members":[
//	  {"id":"b.jpg","source":"b.jpg","width":320,"height":240,"by":"pdq","distances":{"pdq":12},
//	   "similarities":{},"rule":"pixels","value":76800,"keeper_value":307200}]}
//
// A keeper from an index has its folder as index; of members that a person decided without
// a keeper it is null. What there is none of, or what is not finite, is left out. It may be
// called several times, and before or after WriteParquet; nothing can be added afterwards.
func (w *Writer) WriteJSONL(ctx context.Context, out io.Writer) error {
	var l line
	group := int64(0)
	for r, err := range w.rows(ctx) {
		if err != nil {
			return fmt.Errorf("writing groups: %w", err)
		}
		switch {
		case r.group != group && group > 0:
			l.WriteString("]}\n")
			fallthrough
		case r.group != group:
			l.WriteString(`{"keeper":`)
			l.keeper(r)
			l.WriteString(`,"members":[`)
		default:
			l.WriteByte(',')
		}
		group = r.group
		l.member(r.Member, w.measures)
		if _, err := l.WriteTo(out); err != nil {
			return fmt.Errorf("writing groups: %w", err)
		}
	}
	if group > 0 {
		if _, err := io.WriteString(out, "]}\n"); err != nil {
			return fmt.Errorf("writing groups: %w", err)
		}
	}
	return nil
}

// line is a part of one that is being written.
type line struct{ bytes.Buffer }

// value writes a JSON value. HTML is not escaped: '<' and '&' in a file name stay what
// they are.
func (l *line) value(v any) {
	e := json.NewEncoder(&l.Buffer)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("BUG: %v cannot be JSON: %v", v, err)) // texts and finite numbers can
	}
	l.Truncate(l.Len() - 1) // the encoder's newline
}

func (l *line) keeper(r row) {
	if r.keeper == nil {
		l.WriteString("null")
		return
	}
	l.item(*r.keeper)
	if r.KeeperIndex != "" {
		l.field("index", r.KeeperIndex)
	}
	l.WriteByte('}')
}

// item writes the beginning of an object.
func (l *line) item(it Item) {
	l.WriteString(`{"id":`)
	l.value(it.ID)
	l.field("source", it.Source)
	l.field("width", it.Width)
	l.field("height", it.Height)
}

// field writes one more member of an object.
func (l *line) field(name string, v any) {
	l.WriteByte(',')
	l.value(name)
	l.WriteByte(':')
	l.value(v)
}

func (l *line) member(m Member, measures []Measure) {
	l.item(m.Item)
	l.field("by", m.By)
	for _, kind := range []struct {
		name       string
		similarity bool
	}{{"distances", false}, {"similarities", true}} {
		l.WriteString(`,"` + kind.name + `":{`)
		n := 0
		for i, x := range measures {
			if x.Similarity != kind.similarity || !finite(m.Values[i]) {
				continue
			}
			if n++; n > 1 {
				l.WriteByte(',')
			}
			l.value(x.Step)
			l.WriteByte(':')
			l.value(m.Values[i])
		}
		l.WriteByte('}')
	}
	if m.Rule != "" {
		l.field("rule", m.Rule)
	}
	if finite(m.Value) {
		l.field("value", m.Value)
	}
	if finite(m.KeeperValue) {
		l.field("keeper_value", m.KeeperValue)
	}
	l.WriteByte('}')
}
