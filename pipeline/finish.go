package pipeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

// An item's end.
type endKind int

const (
	endOut endKind = iota
	endConsumed
	endRejected
	endFailed
)

type end struct {
	kind endKind
	node *node // nil: the source
}

func (e end) stage() string {
	if e.node == nil {
		return "source"
	}
	return e.node.ID
}

func (r *run) counters(e end) *counters {
	if e.node == nil {
		return &r.src
	}
	return &e.node.counters
}

// finish records an item's end and lets go of its pixels.
func (r *run) finish(ctx context.Context, it *Item, e end) error {
	defer it.release()
	c := r.counters(e)
	switch e.kind {
	case endOut:
		r.out.Add(1)
		r.tellEnd(it, e)
		if len(it.outputs) > 0 {
			return nil // the rows of its files say so
		}
		return r.record(it, runstore.Decision{Kind: runstore.Passed, Stage: "\x00out"})
	case endConsumed:
		return nil // the rows of what was derived from it say so
	case endRejected:
		c.rejected.Add(1)
		r.countRejected(e.stage(), it.next.reason)
		r.tellEnd(it, e)
		if r.opts.OnEvent != nil {
			r.event(EventRejected, e.stage(), it.id, explain(it))
		}
		return r.record(it, runstore.Decision{
			Kind: runstore.Rejected, Stage: e.stage() + "\x00" + it.next.reason, Detail: rejectionDetail(it),
		})
	}
	if err := ctx.Err(); err != nil {
		return err // the phase is ending; the item is not to blame
	}
	c.failed.Add(1)
	r.tellEnd(it, e)
	cause := it.next.err
	r.addFailed(FailedItem{ID: it.id, Stage: e.stage(), Cause: cause.Error()})
	r.event(EventFailed, e.stage(), it.id, cause.Error())
	detail := appendString(nil, cause.Error())
	detail = appendString(detail, string(it.next.stack))
	if err := r.record(it, runstore.Decision{Kind: runstore.Failed, Stage: e.stage() + "\x00\x00failed", Detail: detail}); err != nil {
		return err
	}
	if e.node != nil && e.node.onErrStop || e.node == nil && r.pipe.OnError == Stop {
		return &StageError{Stage: e.stage(), Err: fmt.Errorf("%s failed, and on_error is stop: %w", it.id, cause)}
	}
	return r.tooManyFailed()
}

func (r *run) tellEnd(it *Item, e end) {
	if r.opts.ended != nil {
		r.opts.ended(it, e)
	}
}

func explain(it *Item) string {
	msg := it.next.reason
	for i, v := range it.next.values {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		msg += sep + v.Name + " " + v.Value.String()
	}
	for _, s := range it.fam.sidecars {
		msg += ", with its " + s.Ext
	}
	return msg
}

// rejectionDetail holds why, and which sidecars went with the item.
func rejectionDetail(it *Item) []byte {
	b := appendAttributes(nil, it.next.values)
	if len(it.fam.sidecars) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(it.fam.sidecars)))
	for _, s := range it.fam.sidecars {
		b = appendString(b, s.Ext)
	}
	return b
}

// record enters an item's end into the store, unless it stands there already.
func (r *run) record(it *Item, d runstore.Decision) error {
	if r.store == nil || r.dry != nil || it.fam.row == 0 {
		return nil
	}
	d.Source, d.Lineage = it.fam.row, it.Lineage()
	if old := it.fam.earlierEnd(d); old != nil {
		r.store.See(*old)
		return nil
	}
	if err := r.store.Append([]runstore.Decision{d}); err != nil {
		return fmt.Errorf("recording the end of %s: %w", it.id, err)
	}
	return nil
}

func (f *family) earlierEnd(d runstore.Decision) *runstore.Decision {
	f.lookup()
	for i := range f.earlier {
		o := &f.earlier[i]
		if o.Lineage == d.Lineage && o.Stage == d.Stage && o.Kind == d.Kind && bytes.Equal(o.Detail, d.Detail) {
			return o
		}
	}
	return nil
}

// maxReasons bounds the rejection reasons that are counted apart in a stage.
const maxReasons = 200

func (r *run) countRejected(stage, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.rejected[stage]
	if m == nil {
		m = map[string]int64{}
		r.rejected[stage] = m
	}
	if _, ok := m[reason]; !ok && len(m) >= maxReasons {
		reason = "other reasons"
	}
	m[reason]++
}

// shownFailures is how many quarantined items the summary names; all are in the
// store.
const shownFailures = 20

func (r *run) addFailed(f FailedItem) {
	r.quarantined.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) < shownFailures {
		r.failed = append(r.failed, f)
	}
	if r.store == nil || r.dry != nil {
		return
	}
	if err := r.quarantine.add(r.pipe.fs, r.stateDir, f); err != nil {
		// The run store has the record too; this is its readable form.
		r.pipe.log.Warn("the quarantine list is not complete", "error", err)
	}
}

// quarantineList is the file that lists failed items for people and scripts.
type quarantineList struct {
	file   fsys.File
	path   string
	broken bool
}

const quarantineName = "quarantine.jsonl"

func (q *quarantineList) add(files fsys.FS, dir string, f FailedItem) error {
	if q.broken {
		return nil
	}
	q.broken = true
	if q.file == nil {
		root, err := files.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }()
		if q.file, err = root.Create(quarantineName); err != nil {
			return err
		}
		q.path = filepath.Join(dir, quarantineName)
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if _, err := q.file.Write(append(line, '\n')); err != nil {
		return err
	}
	q.broken = false
	return nil
}

func (q *quarantineList) close() error {
	if q.file == nil {
		return nil
	}
	return q.file.Close()
}

// tooManyFailed ends a run in which too much fails.
func (r *run) tooManyFailed() error {
	n, in := r.quarantined.Load(), r.src.in.Load()
	m := r.pipe.MaxFailed
	if m.Count > 0 && n > m.Count || m.Share > 0 && in >= 100 && float64(n) > m.Share*float64(in) {
		return r.tooMany()
	}
	return nil
}

func (r *run) tooMany() error {
	return &StageError{Stage: "source", Err: fmt.Errorf("%d of %d inputs failed so far, more than max_failed allows: look at the first causes, and run again", r.quarantined.Load(), r.src.in.Load())}
}
