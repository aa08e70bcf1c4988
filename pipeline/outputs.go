package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

// Output is one file that an item, or the whole run, wants to exist.
type Output struct {
	Item     *Item    // nil for a file of the whole run
	Root     string   // the output folder
	Template Template // naming of an item's file within Root
	File     string   // naming of a run's file within Root
	Ext      string   // with its dot
	// Part tells several files of one item and stage apart: "" is its picture, "lq" that
	// of its low-quality companion, and an extension a sidecar.
	Part string
	// Ident is everything beside the item's pixels that decides the file's
	// bytes: format, level, encoder version. A file of an earlier run with the
	// same pixels and Ident is not made again.
	Ident string
	// Overwrite allows to replace a file that no run wrote.
	Overwrite bool
	// Encode writes the file's bytes.
	Encode func(ctx context.Context, w io.Writer) error
}

// target is what the store keeps of an Output's naming, so that the path of a
// file can be told from its row.
type target struct {
	Stage    string `json:"stage"`
	Root     string `json:"root"` // relative to the folder of the state directory where it lies below it
	Template string `json:"name,omitempty"`
	File     string `json:"file,omitempty"`
	Ext      string `json:"ext,omitempty"`
	Keep     bool   `json:"keep,omitempty"` // the source keeps its extension in the name
}

// partMark sets the part of an output off from its item's lineage. No lineage
// holds it, as no derivation key is empty.
const partMark = "@@part="

// lqPart is the Part of a companion's picture.
const lqPart = "lq"

// publishing is one output on its way through Publish.
type publishing struct {
	Output
	fam     *family
	stage   string // the row's stage key
	lineage string // the row's lineage, with the part
	root    fsys.Root
	path    string // within root
	temp    string
	row     runstore.Decision
	old     *runstore.Decision // of an earlier run, for the same stage and lineage
	replace bool               // the file that was seen at path may be replaced
	done    bool
}

// fail makes the output's failure the item's.
func (p *publishing) fail(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: make room and run again; it goes on where it stopped", err)
	}
	if fsys.IsFatal(err) || p.Item == nil {
		return err
	}
	p.Item.Fail(err)
	p.done = true
	return nil
}

// Publish makes files exist: each is written to a temporary name beside its
// place, entered into the run store, and renamed. What an earlier run wrote and
// is right already is left alone. Files of a batch are given together, since
// they share one commit of the store.
//
// A file that cannot be written fails its item; an error is returned when
// nothing could be written any more (disk full), or for a file of the run.
func (e Env) Publish(ctx context.Context, outputs []Output) error {
	r := e.door.run
	if r == nil {
		return errors.New("BUG: Publish outside of a run")
	}
	all := make([]*publishing, 0, len(outputs))
	defer func() {
		for _, p := range all {
			if p.temp != "" {
				_ = p.root.Remove(p.temp)
			}
		}
	}()
	var rows []runstore.Decision
	var writing []*publishing
	for _, o := range outputs {
		o.Root = r.redirect(absolute(o.Root)) // Outputs promises absolute paths
		p := &publishing{Output: o}
		all = append(all, p)
		if err := r.preparePublish(e.StageID, p); err != nil {
			if err := p.fail(fmt.Errorf("writing %s: %w", p.shown(), err)); err != nil {
				return err
			}
		}
	}
	if err := r.writeTemps(ctx, all); err != nil {
		return err
	}
	for _, p := range all {
		if p.wanted() {
			writing = append(writing, p)
			rows = append(rows, p.row)
		}
	}
	if len(writing) == 0 {
		return nil
	}
	if r.store != nil {
		if err := r.store.Intend(ctx, rows); err != nil {
			return fmt.Errorf("recording what is about to be written: %w", err)
		}
	}
	for i, p := range writing {
		p.row = rows[i]
		if err := r.place(p); err != nil {
			if err := p.fail(fmt.Errorf("writing %s: %w", p.shown(), err)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *publishing) shown() string {
	if p.path == "" {
		return p.Root
	}
	return filepath.Join(p.Root, filepath.FromSlash(p.path))
}

// writeTemps writes what has to be written under temporary names.
func (r *run) writeTemps(ctx context.Context, all []*publishing) error {
	ctx, cancel := context.WithCancel(ctx)
	var ahead sync.WaitGroup
	defer ahead.Wait()
	defer cancel()
	next := laterSources(all)
	ahead.Go(func() {
		for _, f := range next {
			_ = r.canvases.catching(func() error { // who needs it gets the error
				_, err := f.buf.frame(ctx, f.check())
				return err
			})
		}
	})
	for _, p := range all {
		if !p.wanted() {
			continue
		}
		if err := r.writeTemp(ctx, p); err != nil {
			if err := p.fail(fmt.Errorf("writing %s: %w", p.shown(), err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted reports whether the file is to be written. Half of an item's files is
// none: with one that cannot be made, the others are not.
func (p *publishing) wanted() bool { return !p.done && (p.Item == nil || p.Item.next.err == nil) }

// laterSources are those whose pictures are needed after the first one. They are
// decoded beside the writing: otherwise all workers would stand still at every
// new picture, while one of them decodes it.
func laterSources(all []*publishing) (later []*family) {
	var last *family
	for _, p := range all {
		if p.done || p.Item == nil || p.Item.pic.buf != p.fam.buf || p.fam == last {
			continue
		}
		if last != nil {
			later = append(later, p.fam)
		}
		last = p.fam
	}
	return later
}

// preparePublish decides whether the file has to be written.
func (r *run) preparePublish(stageID string, p *publishing) error {
	if err := p.name(r, stageID); err != nil {
		return err
	}
	ident := p.ident()
	p.row = runstore.Decision{Source: p.fam.row, Lineage: p.lineage, Stage: p.stage, Kind: runstore.Written, Ident: ident}
	if r.dry != nil {
		if _, err := os.Stat(p.Root); err != nil { // opening would make it
			p.old = p.fam.earlierRow(p.lineage, p.stage)
			r.foresee(p)
			return nil
		}
	}
	var err error
	if p.root, err = r.openRoot(p.Root); err != nil {
		return err
	}
	known := ident != [8]byte{}
	p.old = p.fam.earlierRow(p.lineage, p.stage)
	if p.old != nil && !r.old.superseded(p.old.Seq) {
		state := r.inspect(p.root, p.path, *p.old)
		switch {
		case state == fileRight && known && p.old.Ident == ident:
			r.reuse(p, *p.old)
			return nil
		case state == fileTorn && r.dry == nil:
			// Most likely half of our own work, but nobody can be sure that
			// it is not somebody's edit.
			if err := r.trash(p.root, p.path); err != nil {
				return err
			}
		case state == fileChanged && r.dry == nil:
			if err := r.trash(p.root, p.path); err != nil {
				return err
			}
			r.replaced.Add(1)
			r.event(EventReplaced, stageID, p.id(), p.shown()+" had been changed since it was written: it is in the trash, and made again")
		}
		p.replace = state == fileRight // otherwise nothing is there any more
	}
	if r.dry != nil {
		r.foresee(p)
	}
	return nil
}

// foresee counts a file that a run would write. One that it would replace is not
// unwanted.
func (r *run) foresee(p *publishing) {
	r.dry.file(p)
	if p.old != nil {
		r.store.See(*p.old)
	}
	p.done = true
}

func (p *publishing) id() string {
	if p.Item == nil {
		return ""
	}
	return p.Item.id
}

// name decides where the file belongs.
func (p *publishing) name(r *run, stageID string) error {
	t := target{Stage: stageID, Root: r.storedRoot(p.Root)}
	if p.Item == nil {
		p.fam = r.wholeRun()
		p.path = p.File
		t.File = p.File
	} else {
		p.fam = p.Item.fam
		p.lineage = p.Item.Lineage()
		t.Template, t.Ext, t.Keep = p.Template.text, p.Ext, p.fam.keepExt
		p.path = p.Template.Name(NameOf{Source: p.fam.name, Lineage: p.lineage, KeepExtension: p.fam.keepExt, Ext: p.Ext})
	}
	if p.Part != "" {
		p.lineage += partMark + EscapeID(p.Part)
	}
	key, err := json.Marshal(t)
	if err != nil {
		return err
	}
	p.stage = string(key)
	if err := fsys.CheckName(p.path); err != nil {
		return err
	}
	for _, dir := range r.inputs[absolute(p.Root)] {
		if strings.HasPrefix(p.path, dir) {
			return fmt.Errorf("the path lies in the input folder: write to another folder, or give the stage a name template that leads elsewhere")
		}
	}
	return nil
}

// guardInput notes which parts of the output trees are input folders, where
// nothing is written.
func (r *run) guardInput() {
	in, ok := r.pipe.source.(Rooted)
	if !ok {
		return
	}
	r.inputs = map[string][]string{}
	for _, tree := range r.pipe.writtenTrees() {
		for _, root := range in.Roots() {
			rel, err := filepath.Rel(realPath(tree), realPath(root))
			if err == nil && filepath.IsLocal(rel) {
				r.inputs[tree] = append(r.inputs[tree], filepath.ToSlash(rel)+"/")
			}
		}
	}
}

// ident is what the file's bytes are a function of; zero when not known.
func (p *publishing) ident() (id [8]byte) {
	if p.Item == nil || !p.Item.origin.known() || p.Item.next.hq != nil || p.Item.next.lq != nil {
		return id
	}
	s := sum([]byte("file"), p.Item.origin[:], []byte(p.Ident), []byte(p.Part))
	copy(id[:], s[:])
	return id
}

func (f *family) earlierRow(lineage, stage string) *runstore.Decision {
	f.lookup()
	for i := range f.earlier {
		if d := &f.earlier[i]; d.Lineage == lineage && d.Stage == stage && d.Kind == runstore.Written {
			return d
		}
	}
	return nil
}

// What is at an output's place, as far as its row tells.
type fileState int

const (
	fileMissing fileState = iota
	fileRight             // as it was recorded
	fileChanged           // somebody has changed it
	fileTorn              // an interrupted run or a power loss explains what it is
)

// inspect compares a file with its row: by size and time, and by hash where
// these do not tell.
func (r *run) inspect(root fsys.Root, name string, d runstore.Decision) fileState {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		if err == nil {
			return fileChanged
		}
		return fileMissing
	}
	mayBeTorn := r.store.Intended(d) || r.rebooted && r.store.Unsynced(d)
	if info.Size() == d.Size {
		if info.ModTime().UnixNano() == d.MTime && (!r.rebooted || !mayBeTorn) {
			return fileRight
		}
		if h, err := hashFile(root, name); err == nil && h == d.Hash {
			return fileRight
		}
	}
	if mayBeTorn {
		return fileTorn
	}
	return fileChanged
}
