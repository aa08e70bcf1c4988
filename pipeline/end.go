package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
)

// EndKind says how an item ended.
type EndKind string

// The ends of an item.
const (
	EndWritten  EndKind = "written"  // a file was made of it
	EndRejected EndKind = "rejected" // a stage did not want it
	EndFailed   EndKind = "failed"   // it is quarantined
	// EndPassed: it left the end of the chain without a file of its own, or its file
	// was there already, with the same bytes, and is not forgepipe's.
	EndPassed     EndKind = "passed"
	EndConsumed   EndKind = "consumed"   // it lives on in what was derived from it
	EndUnfinished EndKind = "unfinished" // it has no end yet: the run goes on, or was stopped
)

// EndKinds are all of them.
var EndKinds = []EndKind{EndWritten, EndRejected, EndFailed, EndPassed, EndConsumed, EndUnfinished}

// Values are the attributes with which something was decided, in order. As JSON
// they are an object.
type Values []Attribute

// MarshalJSON writes an object with a member per value.
func (v Values) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, a := range v {
		name, err := json.Marshal(a.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(a.Value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads the object, in the order of its members.
func (v *Values) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t == nil { // null leaves a value as it is
		return nil
	}
	if t != json.Delim('{') {
		return fmt.Errorf("values are an object, not %s", data)
	}
	*v = Values{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		a := Attribute{Name: name.(string)} // as the keys of an object are
		if err := d.Decode(&a.Value); err != nil {
			return fmt.Errorf("reading the value %s: %w", a.Name, err)
		}
		*v = append(*v, a)
	}
	return nil
}

// Get is the value of that name; ok when there is one.
func (v Values) Get(name string) (value Value, ok bool) {
	for _, a := range v {
		if a.Name == name {
			return a.Value, true
		}
	}
	return value, false
}

// End is one end of an item as the run store has it. An item of which several
// files are written has one for each, and one more if a later stage rejected it.
type End struct {
	ID     string  `json:"id"`              // as in Item.ID; empty for a file of the whole run
	Source string  `json:"source"`          // path relative to the source's root
	Kind   EndKind `json:"kind"`            // what became of it
	Stage  string  `json:"stage,omitempty"` // in which it ended; the source is "source"

	// Of a rejected item: the Reason, the Values that decided, and Sidecars, the
	// extensions of those that went with it.
	Reason   string   `json:"reason,omitempty"`
	Values   Values   `json:"values,omitempty"`
	Sidecars []string `json:"sidecars,omitempty"`

	// Of a failed one: the Cause, and the Stack of a panic.
	Cause string `json:"cause,omitempty"`
	Stack string `json:"stack,omitempty"`

	// Of a written one: the Path of the file, its Size in bytes, and, of several files of
	// the item, which Part it is: the extension of a sidecar, "lq" for a companion. Of a
	// passed one whose file was there already: that file.
	Path string `json:"path,omitempty"`
	Size int64  `json:"bytes,omitempty"`
	Part string `json:"part,omitempty"`
	// Doubt says that the last run did not tell whether the file is in place.
	Doubt bool `json:"in_doubt,omitempty"`
}

// String says it in a line (a cause may have several).
func (e End) String() string {
	who := e.ID
	if who == "" {
		who = "the run"
	}
	switch e.Kind {
	case EndWritten:
		text := fmt.Sprintf("%s: written by %s: %s (%s)", who, e.Stage, e.Path, memory.FormatBytes(e.Size))
		if e.Doubt {
			text += ", unless the run was stopped before the file was in place"
		}
		return text
	case EndRejected:
		text := fmt.Sprintf("%s: rejected by %s: %s", who, e.Stage, e.Reason)
		for i, v := range e.Values {
			sep := ", "
			if i == 0 {
				sep = " ("
			}
			text += sep + v.Name + " = " + v.Value.String()
		}
		if len(e.Values) > 0 {
			text += ")"
		}
		if len(e.Sidecars) > 0 {
			text += ", with its " + strings.Join(e.Sidecars, ", ")
		}
		return text
	case EndFailed:
		return fmt.Sprintf("%s: failed in %s: %s", who, e.Stage, e.Cause)
	case EndPassed:
		if e.Path != "" {
			return fmt.Sprintf("%s: came to %s: a file with the same bytes was there already, and is left alone: %s", who, e.Stage, e.Path)
		}
		return who + ": passed all stages; no file of its own was written"
	case EndConsumed:
		return who + ": consumed: it lives on in what was derived from it"
	}
	return who + ": unfinished: no end is recorded yet"
}

// setStage fills in what a row's kind and stage say.
func (e *End) setStage(kind runstore.Kind, stage string) error {
	e.Kind = EndKind(kind.String())
	stage, file := strings.CutPrefix(stage, theirs)
	switch kind {
	case runstore.Written, runstore.Passed:
		if kind == runstore.Passed && !file {
			return nil
		}
		var t target
		if err := json.Unmarshal([]byte(stage), &t); err != nil {
			return fmt.Errorf("the run store has a row of a stage that cannot be read: %w", err)
		}
		e.Stage = t.Stage
	case runstore.Rejected, runstore.Failed:
		e.Stage, e.Reason, _ = strings.Cut(stage, "\x00")
		if kind == runstore.Failed {
			e.Reason = ""
		}
	}
	return nil
}

// endOf puts a row in words.
func (h *History) endOf(src runstore.Source, d runstore.Decision) (e End, err error) {
	lineage := d.Lineage
	if i := strings.LastIndex(lineage, partMark); i >= 0 {
		if e.Part, err = UnescapeID(lineage[i+len(partMark):]); err != nil {
			return e, fmt.Errorf("the run store has a row with a wrong lineage: %w", err)
		}
		lineage = lineage[:i]
	}
	e.Source, e.ID = src.Path, joinID(src.Path, lineage)
	if err := e.setStage(d.Kind, d.Stage); err != nil {
		return e, err
	}
	r := reader{b: d.Detail}
	switch d.Kind {
	case runstore.Written, runstore.Passed:
		if e.Path, err = h.fileOf(src, d); err != nil {
			return e, err
		}
		e.Size, e.Doubt = d.Size, d.Kind == runstore.Written && h.store.Intended(d)
	case runstore.Rejected:
		e.Values = r.attributes()
		if len(r.b) > 0 {
			for range r.count() {
				e.Sidecars = append(e.Sidecars, r.string())
			}
		}
	case runstore.Failed:
		e.Cause, e.Stack = r.string(), r.string()
	}
	if r.err != nil {
		return e, fmt.Errorf("reading why %s ended: %w", e.ID, r.err)
	}
	return e, nil
}

// fileOf is the file that a row tells of; empty when there is none.
func (h *History) fileOf(src runstore.Source, d runstore.Decision) (string, error) {
	stage, ok := strings.CutPrefix(d.Stage, theirs)
	if !ok && d.Kind != runstore.Written {
		return "", nil
	}
	d.Stage = stage
	root, name, err := rowPath(h.base(), src, d)
	return filepath.Join(root, filepath.FromSlash(name)), err
}

// joinID makes an ID from a source's path and a lineage.
func joinID(source, lineage string) string {
	if lineage == "" {
		return EscapeID(source)
	}
	return EscapeID(source) + "@" + lineage
}

// EndQuery says which ends are wanted. The zero value wants all.
type EndQuery struct {
	// Image is a source's path, an item's ID, a folder or glob of sources (* and ?
	// stand for what is not a slash), a source's file or the folder that it is in, as
	// they are called on this machine, or the file of an output. What was derived from
	// an item comes with it.
	Image string
	Kind  EndKind // what became of the item; empty is any
	Stage string  // the ID of the one in which it ended; empty is any
}

// ErrUnknownImage says that no source, item or output is called as a query says.
var ErrUnknownImage = errors.New("the run store knows no such image, item, folder or output")

// Ends yields the ends that the query wants: those of a source one after another,
// a derived item after what it was derived from. It holds those of a few sources
// at a time, and finds an image by its path without looking at all others; only
// for the file of an output with a name template of its own it may have to. The
// error is ErrUnknownImage when there is nothing by that name; an error of yield
// ends it and is returned.
func (h *History) Ends(ctx context.Context, q EndQuery, yield func(End) error) error {
	story := func(lineage string) func(runstore.Source, []runstore.Decision) error {
		return func(src runstore.Source, rows []runstore.Decision) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return h.story(src, rows, q, lineage, yield)
		}
	}
	if q.Image != "" {
		return h.endsOf(ctx, q.Image, story)
	}
	return h.found(h.store.Find(ctx, runstore.Query{Kind: rowKind(q.Kind)}, story("")))
}

// rowKind is the kind of the rows that are enough to tell ends of a kind; 0: all.
func rowKind(k EndKind) runstore.Kind {
	for _, r := range []runstore.Kind{runstore.Written, runstore.Rejected, runstore.Failed, runstore.Passed} {
		if r.String() == string(k) {
			return r
		}
	}
	return 0
}

func (h *History) found(err error) error {
	if err == nil {
		return nil
	}
	return damaged(err, h.dir)
}

// story yields the ends of one source's items that the query wants.
func (h *History) story(src runstore.Source, rows []runstore.Decision, q EndQuery, lineage string, yield func(End) error) error {
	if strings.HasPrefix(src.Path, lqPrefix) { // its image has its ends
		return nil
	}
	tell := func(e End) error {
		own := lineage == "" || e.ID == joinID(src.Path, lineage) || strings.HasPrefix(e.ID, joinID(src.Path, lineage)+"@")
		if !own || q.Kind != "" && q.Kind != e.Kind || q.Stage != "" && q.Stage != e.Stage {
			return nil
		}
		return yield(e)
	}
	if len(rows) == 0 && src.Path != "" {
		return tell(End{ID: EscapeID(src.Path), Source: src.Path, Kind: EndUnfinished})
	}
	told := map[string]bool{} // those with an end of their own, and those consumed
	for _, d := range rows {
		l, _, _ := strings.Cut(d.Lineage, partMark)
		told[l] = true
	}
	for _, d := range rows {
		for _, parent := range parents(d.Lineage) {
			if !told[parent] && rowKind(q.Kind) == 0 && src.Path != "" {
				told[parent] = true
				if err := tell(End{ID: joinID(src.Path, parent), Source: src.Path, Kind: EndConsumed}); err != nil {
					return err
				}
			}
		}
		e, err := h.endOf(src, d)
		if err != nil {
			return err
		}
		if err := tell(e); err != nil {
			return err
		}
	}
	return nil
}

// parents are the lineages of what an item was derived from, outermost first.
func parents(lineage string) (all []string) {
	lineage, _, _ = strings.Cut(lineage, partMark)
	for i := range len(lineage) {
		if lineage[i] == '@' {
			all = append(all, lineage[:i])
		}
	}
	if lineage != "" {
		all = append([]string{""}, all...)
	}
	return all
}
