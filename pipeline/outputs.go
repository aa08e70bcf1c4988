package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
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
	Part     string   // tells several files of one item and stage apart; "" for the picture
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
			_, _ = f.buf.frame(ctx, f.check()) // who needs it gets the error
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

func hashFile(root fsys.Root, name string) (out [16]byte, err error) {
	f, err := root.Open(name)
	if err != nil {
		return out, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return out, err
	}
	copy(out[:], h.Sum(nil))
	return out, nil
}

// reuse leaves a file of an earlier run as it is.
func (r *run) reuse(p *publishing, d runstore.Decision) {
	r.store.See(d)
	if r.rebooted && r.dry == nil && r.store.Unsynced(d) {
		r.store.Settled(d.Seq) // its bytes were just compared: no doubt is left
	}
	r.reused.Add(1)
	p.finished()
}

func (p *publishing) finished() {
	p.done = true
	if p.Item != nil && p.Part == "" {
		p.Item.next.outputs = append(p.Item.next.outputs, p.shown())
	}
}

// hashWriter counts and hashes what passes.
type hashWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (w *hashWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.h.Write(b[:n])
	w.n += int64(n)
	return n, err
}

// writeTemp writes the file under a temporary name beside its place.
func (r *run) writeTemp(ctx context.Context, p *publishing) error {
	dir := path.Dir(p.path)
	if err := r.mkdir(p.root, dir); err != nil {
		return err
	}
	temp := path.Join(dir, r.tempName())
	f, err := p.root.Create(temp)
	if err != nil {
		return err
	}
	p.temp = temp
	w := &hashWriter{w: f, h: sha256.New()}
	err = p.Encode(ctx, w)
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if info.Size() != w.n {
		return fmt.Errorf("the file has %d bytes after %d were written", info.Size(), w.n)
	}
	p.row.Size, p.row.MTime = info.Size(), info.ModTime().UnixNano()
	copy(p.row.Hash[:], w.h.Sum(nil))

	if p.old != nil && p.old.Size == p.row.Size && p.old.Hash == p.row.Hash && r.inspect(p.root, p.path, *p.old) == fileRight {
		// The same bytes by another way (an edit that changes nothing for this
		// file): keep the file, and record the way.
		if p.old.Ident != p.row.Ident {
			p.row.MTime = p.old.MTime
			if err := r.store.Append([]runstore.Decision{p.row}); err != nil {
				return err
			}
		} else {
			r.store.See(*p.old)
		}
		r.reused.Add(1)
		p.finished()
		return nil
	}
	info, err = p.root.Lstat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.replace = false
		return nil
	case err != nil:
		return err
	case p.isSource(info):
		return errSource
	case p.replace:
		return nil
	case p.Overwrite && info.Mode().IsRegular():
		r.replaced.Add(1)
		return r.trash(p.root, p.path)
	}
	return r.mayReplace(p, info)
}

// place renames the temporary file to its place, unless something is there that
// no run wrote.
func (r *run) place(p *publishing) error {
	claim := p.root.Name() + "\x00" + p.path
	if _, busy := r.placing.LoadOrStore(claim, true); busy {
		return errors.New("another item of this run is written to the same path: give the stage a name template that tells them apart")
	}
	if !p.Overwrite { // otherwise nothing else tells two items of one path apart
		defer r.placing.Delete(claim)
	}

	// Whether a file that is there may be replaced was settled before the row
	// was recorded, since a resume replaces what a recorded row names. So where
	// none was to be replaced, one that is there has come since: somebody's own, or
	// one that was just restored.
	move := func() error { return fsys.MoveNew(p.root, p.temp, p.root, p.path) }
	if p.replace {
		move = func() error { return p.root.Rename(p.temp, p.path) }
	}
	err := move()
	if r.store != nil {
		// Also after a failure: the row and the file then differ, and the next
		// run sees that and writes the file again.
		r.store.Settled(p.row.Seq)
	}
	if errors.Is(err, fs.ErrExist) {
		err = errForeign
		if r.store != nil {
			err = errors.Join(err, r.store.Delete(context.WithoutCancel(r.ctx), []runstore.Decision{p.row}))
		}
	}
	if err != nil {
		return err
	}
	p.temp = ""
	r.written.Add(1)
	r.bytes.Add(p.row.Size)
	p.finished()
	return nil
}

// mayReplace decides about a file that this item's row does not explain. It may
// be what an earlier run wrote for another item (a source was renamed from a.jpg
// to a.png); then it may be replaced, unless that item has it in this run as
// well. Anything else is the user's and stays; if it has the very bytes that
// were to be written, it does as it is, and remains theirs.
func (r *run) mayReplace(p *publishing, info fs.FileInfo) error {
	d, ok, err := r.old.at(p.root.Name(), p.path)
	if err != nil {
		return err
	}
	if ok {
		if r.store.Seen(d) {
			return errForeign
		}
		r.old.supersede(d.Seq)
		switch r.inspect(p.root, p.path, d) {
		case fileRight:
			p.replace = true
			return nil
		case fileChanged:
			r.replaced.Add(1)
		}
		return r.trash(p.root, p.path)
	}
	if info.Mode().IsRegular() && info.Size() == p.row.Size {
		if h, err := hashFile(p.root, p.path); err == nil && h == p.row.Hash {
			r.reused.Add(1)
			p.finished()
			return r.recordTheirs(p)
		}
	}
	return errForeign
}

// theirs begins the stage of a row of an item whose file was there already. What
// follows is the stage that a row of the file would have.
const theirs = "\x00theirs\x00"

// recordTheirs records that an item has come to its file: no row of the file says
// so, as it is not ours.
func (r *run) recordTheirs(p *publishing) error {
	if p.Item == nil || p.Part != "" {
		return nil
	}
	return r.record(p.Item, runstore.Decision{Kind: runstore.Passed, Stage: theirs + p.stage})
}

// isSource reports whether a file is one that the item was read from.
func (p *publishing) isSource(info fs.FileInfo) bool {
	if p.Item == nil {
		return false
	}
	f := p.Item.fam
	names := []string{f.path}
	if f.pair != nil {
		names = append(names, f.pair.path)
	}
	for _, s := range f.sidecars {
		names = append(names, s.Path)
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if src, err := os.Stat(name); err == nil && os.SameFile(src, info) {
			return true
		}
	}
	return false
}

var errSource = errors.New("the file there is the source itself: write to another folder")

var errForeign = errors.New("a file is there already that this pipeline did not write, or wrote for another item of this run: move it away, choose another folder or name, or set overwrite: true")

// mkdir makes a folder of the output tree, once.
func (r *run) mkdir(root fsys.Root, dir string) error {
	if dir == "." {
		return nil
	}
	key := root.Name() + "\x00" + dir
	if _, ok := r.dirs.Load(key); ok {
		return nil
	}
	if err := root.MkdirAll(dir); err != nil {
		return err
	}
	r.dirs.Store(key, true)
	return nil
}

const tempPrefix = ".forgepipe-"

// tempName is a new temporary name, recognisable as this store's.
func (r *run) tempName() string {
	return fmt.Sprintf("%s%s-%d.tmp", tempPrefix, r.tempID, r.temps.Add(1))
}

// openRoot opens an output folder, once per run.
func (r *run) openRoot(dir string) (fsys.Root, error) {
	dir = absolute(dir)
	r.rootsMu.Lock()
	defer r.rootsMu.Unlock()
	if root := r.roots[dir]; root != nil {
		return root, nil
	}
	root, err := r.pipe.fs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r.roots[dir] = root
	return root, nil
}

// storedRoot is how the store names an output folder: relative to the folder
// that holds the state directory, also where it lies beside that one, so that
// trees moved together still know their files and never touch those that they
// were copied from.
func (r *run) storedRoot(root string) string {
	root = absolute(root)
	if base := filepath.Dir(r.stateDir); r.stateDir != "" {
		if rel, err := filepath.Rel(base, root); err == nil {
			return filepath.ToSlash(rel)
		}
	}
	return root
}

// pathOf tells where a written row's file is.
func (r *run) pathOf(src runstore.Source, d runstore.Decision) (root, name string, err error) {
	return rowPath(filepath.Dir(r.stateDir), src, d)
}

func rowPath(base string, src runstore.Source, d runstore.Decision) (root, name string, err error) {
	var t target
	if err := json.Unmarshal([]byte(d.Stage), &t); err != nil {
		return "", "", fmt.Errorf("the run store has a row of a stage that cannot be read: %w", err)
	}
	root = t.Root
	if !filepath.IsAbs(root) {
		root = filepath.Join(base, filepath.FromSlash(root))
	}
	if t.File != "" {
		return root, t.File, nil
	}
	tpl, err := ParseTemplate(t.Template, false)
	if err != nil {
		return "", "", fmt.Errorf("the run store has a row with a wrong name template: %w", err)
	}
	lineage := d.Lineage
	if i := strings.LastIndex(lineage, partMark); i >= 0 {
		lineage = lineage[:i]
	}
	return root, tpl.Name(NameOf{Source: src.Path, Lineage: lineage, KeepExtension: t.Keep, Ext: t.Ext}), nil
}

// oldFiles finds rows of earlier runs by path. That is needed only when a new
// item wants a path that another had, so the index is built when first asked
// for.
type oldFiles struct {
	run    *run
	once   sync.Once
	err    error
	byPath map[string]runstore.Decision

	mu   sync.Mutex
	gone map[int64]bool // rows whose path now belongs to another item
}

func (o *oldFiles) at(root, name string) (d runstore.Decision, ok bool, err error) {
	if o.run.store == nil {
		return d, false, nil
	}
	o.once.Do(func() {
		o.byPath = map[string]runstore.Decision{}
		o.err = o.run.store.Decisions(context.Background(), func(src runstore.Source, d runstore.Decision) error {
			if d.Kind != runstore.Written || !o.run.store.Earlier(d) {
				return nil
			}
			root, name, err := o.run.pathOf(src, d)
			if err != nil {
				return err
			}
			o.byPath[root+"\x00"+name] = d
			return nil
		})
	})
	if o.err != nil {
		return d, false, o.err
	}
	d, ok = o.byPath[root+"\x00"+name]
	if ok && o.superseded(d.Seq) {
		return d, false, nil
	}
	return d, ok, nil
}

func (o *oldFiles) supersede(seq int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[seq] = true
}

func (o *oldFiles) superseded(seq int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone[seq]
}
