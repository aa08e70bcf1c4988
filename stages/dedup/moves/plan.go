package moves

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// applying is an Apply under way, or a Preview of one.
type applying struct {
	o       Options
	dry     bool // nothing is read or changed
	folders folders
	to      fsys.Root // nil: nothing goes to a folder
	rec     *record
	history *history
	report  Report
	why     map[string]int    // where a reason is in report.Why
	kept    map[uint64]string // a folder on each of the disks that keepers are on
	came    map[string][]line // what came back now of what killed runs did by half, by the places of the pictures
	apart   map[string]bool   // places of pictures from which something is still apart

	run     string
	intents *spool // what is intended
	n, job  int64  // of the last line of these
	images  int64  // intended
	strange int64  // of these, that the last run did not intend: see confirmed
	stems   siblings
}

func newApplying(o Options) *applying {
	if o.FS == nil {
		o.FS = fsys.OS
	}
	return &applying{
		o: o, folders: folders{o.FS, map[string]fsys.Root{}}, why: map[string]int{}, kept: map[uint64]string{},
		came: map[string][]line{}, apart: map[string]bool{},
	}
}

// siblings are the names of one folder, the last one that was asked for.
type siblings struct {
	root  fsys.Root
	dir   string
	names map[string]int // how many pictures have that stem
}

// shownWhy bounds the pictures that are named for a reason.
const shownWhy = 10

func (a *applying) left(picture string, err error) {
	var l *leftError
	if !errors.As(err, &l) {
		l = &leftError{notDone, err.Error()}
	}
	a.report.Left++
	i, ok := a.why[l.text]
	if !ok {
		i = len(a.report.Why)
		a.why[l.text] = i
		a.report.Why = append(a.report.Why, Reason{Text: l.text, Refused: l.text == notDone || l.text == notWhole || l.text == notRead || l.text == keeperUnread})
	}
	r := &a.report.Why[i]
	r.Count++
	if len(r.First) < shownWhy {
		if l.detail != "" {
			picture += " (" + l.detail + ")"
		}
		r.First = append(r.First, picture)
	}
}

func (o *Options) check() error {
	switch o.Action {
	case Move, Copy, Hardlink:
		if o.To == "" {
			return fmt.Errorf("%s wants a folder to put the files into: to", o.Action)
		}
	case Delete:
		if o.Record == "" {
			return errors.New("delete wants a file for the record of what is deleted: record")
		}
	default:
		return fmt.Errorf("there is no action %q: move, copy, hardlink, delete", o.Action)
	}
	return nil
}

// going is the action as what goes on.
var going = map[Action]string{Move: "moving", Copy: "copying", Hardlink: "linking", Delete: "deleting"}

func (a *applying) all(ctx context.Context, jobs iter.Seq2[Job, error]) (err error) {
	if err := a.o.check(); err != nil {
		return err
	}
	defer a.folders.close()
	next, stop := iter.Pull2(jobs)
	defer stop()
	first, jerr, ok := next()
	if jerr != nil {
		return jerr
	}
	if !ok && !a.begunBefore() {
		return nil // neither a folder nor a record is made for nothing
	}
	if err := a.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.rec.close()) }()
	if err := a.makeUp(ctx); err != nil {
		return fmt.Errorf("making up for a run that was killed: %w", err)
	}
	defer func() { err = errors.Join(err, a.intents.drop()) }()
	for ; ok; first, jerr, ok = next() {
		if jerr != nil {
			return jerr
		}
		if err := a.intend(ctx, &first); err != nil {
			return err
		}
	}
	switch {
	case a.images > 0:
		from, err := a.begin()
		if err != nil {
			return err
		}
		if err := a.act(ctx, from); err != nil {
			return err
		}
	case a.history.ended:
		return nil
	default: // that run has come to its end now
		a.run = a.history.last.Run
	}
	if len(a.apart) > 0 { // the next run looks again
		return a.rec.sync()
	}
	if err := a.rec.add(line{Event: ended, Run: a.run}); err != nil {
		return err
	}
	return a.rec.sync()
}

func (o *Options) recordFile() string {
	file := o.Record
	if file == "" {
		file = filepath.Join(o.To, RecordName)
	}
	return absolute(file)
}

func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// begunBefore tells whether there is a record already.
func (a *applying) begunBefore() bool { return hasFile(a.o.recordFile()) }

func (a *applying) open() (err error) {
	file := a.o.recordFile()
	if a.rec, err = openRecord(a.o.FS, file, true); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.rec.close())
		}
	}()
	a.report.Record = file
	if a.history, err = a.rec.history(); err != nil {
		return err
	}
	if a.intents, err = a.rec.spool(); err != nil {
		return err
	}
	if a.o.Action != Delete {
		if a.to, err = a.folders.make(absolute(a.o.To)); err != nil {
			return err
		}
	}
	at := a.o.Time
	if at.IsZero() {
		at = time.Now()
	}
	for ; a.run == "" || a.history.runs[a.run]; at = at.Add(1) {
		a.run = at.UTC().Format(time.RFC3339Nano)
	}
	return nil
}

// planned is plan, and counts what was done already or is left alone: then there is nothing.
func (a *applying) planned(ctx context.Context, j *Job) ([]line, error) {
	ops, err := a.plan(ctx, j)
	if err == nil && len(ops) == 0 {
		a.report.Already++
		return nil, nil
	}
	var l *leftError
	if !errors.As(err, &l) {
		return ops, err
	}
	if lost := a.folders.lost(); lost != nil {
		return nil, lost
	}
	a.left(j.Path, err)
	return nil, nil
}

// intend looks at the files of a job, and writes what is going to happen to them.
func (a *applying) intend(ctx context.Context, j *Job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if root, name := rootOf(j.Path, j.Source); a.apart[filepath.Join(root, name)] {
		return nil // it was told of
	}
	ops, err := a.planned(ctx, j)
	if err != nil || len(ops) == 0 {
		return err
	}
	a.job++
	for i := range ops {
		a.n++
		ops[i].Event, ops[i].Run, ops[i].Job, ops[i].N = intended, a.run, a.job, a.n
		if err := a.intents.add(ops[i]); err != nil {
			return err
		}
	}
	return a.counted(&ops[0])
}

// counted counts a picture that is intended, and whether the last run intended it.
func (a *applying) counted(img *line) error {
	a.images++
	last, ok := a.history.find(img.place())
	if !ok || last.at() < a.history.first {
		a.strange++
		return nil
	}
	before, err := a.rec.group(last.at())
	if err == nil && (len(before) == 0 || before[0].SHA256 != img.SHA256) {
		a.strange++
	}
	return err
}

// plan is what is to be done with a job, the picture first; none when an earlier run
// did it all.
func (a *applying) plan(ctx context.Context, j *Job) ([]line, error) {
	root, name := rootOf(j.Path, j.Source)
	img := line{
		Action: a.o.Action, Kind: kindImage, ID: j.ID, Root: root, Source: name, Size: j.Size,
		Keeper: j.Keeper, KeeperPath: j.KeeperPath, KeeperSize: j.KeeperSize, KeeperSum: j.KeeperSHA256, KeeperOf: j.KeeperIndex,
		Explained: j.Explained,
	}
	if !isName(j.Source) || !isName(name) {
		return nil, leave("its name leads out of the folder")
	}
	if a.o.Action != Delete && inside(absolute(a.o.To), j.Path) {
		return nil, leave("it lies in the folder that duplicates go to")
	}
	before, err := a.before(&img)
	if err != nil {
		return nil, err
	}
	j = withWhatCame(j, a.came[img.place()])
	if err := a.see(ctx, &img, j.SHA256, 0); err != nil {
		if before != nil && says(err, notThere) && a.wasDone(&before[0]) {
			return nil, nil
		}
		return nil, err
	}
	if err := checkKeeper(ctx, &img, !a.dry); err != nil {
		return nil, err
	}
	if a.o.Action == Delete {
		if err := a.keeps(img.KeeperPath); err != nil {
			return nil, err
		}
	}
	ops := []line{img}
	source := j.Source
	if j.LQ != nil {
		ops[0].Pair = "hq"
	}
	if ops, err = a.beside(ctx, ops, &ops[0], j.Sidecars); err != nil {
		return nil, err
	}
	lqSource := ""
	if c := j.LQ; c != nil {
		lqSource = c.Source
		lqRoot, lqName := rootOf(c.Path, c.Source)
		if !isName(c.Source) || !isName(lqName) {
			return nil, leave("its name leads out of the folder")
		}
		lq := line{Action: a.o.Action, Kind: kindLQ, Pair: "lq", ID: j.ID, Keeper: j.Keeper, Root: lqRoot, Source: lqName, Size: c.Size}
		if err := a.see(ctx, &lq, c.SHA256, 0); err != nil {
			return nil, ofIts("low-quality picture", c.Path, err)
		}
		ops = append(ops, lq)
		if ops, err = a.beside(ctx, ops, &lq, c.Sidecars); err != nil {
			return nil, err
		}
	}
	switch {
	case a.dry && a.o.Action != Move && a.seemsDone(ops, before):
		return nil, nil
	case a.dry || a.o.Action == Delete:
		return ops, nil
	}
	return a.name(ctx, ops, source, lqSource, before)
}

// keeps notes down the disk that a keeper is on.
func (a *applying) keeps(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return leavef(noKeeper, "%v", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		a.kept[uint64(s.Dev)] = filepath.Dir(file) //nolint:unconvert // it is narrower elsewhere
	}
	return nil
}

// ofIts says of an error that it is about a file that belongs to the picture.
func ofIts(what, file string, err error) error {
	var l *leftError
	if !errors.As(err, &l) {
		return err
	}
	switch l.text {
	case notDone, notWhole, notRead, nameTaken:
		return leavef(l.text, "%s: %s", file, l.detail)
	}
	return leavef("its "+what+" is not as the run saw it", "%s: %s", file, l.Error())
}

// see reads a file and puts down what it is.
func (a *applying) see(ctx context.Context, l *line, want sum, changed int64) error {
	root, err := a.folders.existing(l.Root)
	if err != nil {
		return err
	}
	var info fs.FileInfo
	got := want
	if a.dry {
		info, err = look(root, l.Source, l.Size)
	} else {
		info, got, err = read(ctx, root, l.Source, l.Size, want)
	}
	if err != nil {
		return err
	}
	l.SHA256, l.Time = got, info.ModTime().UnixNano()
	if changed != 0 && l.Time != changed {
		return leavef(notTheSame, "it was changed")
	}
	return nil
}

// beside adds the sidecars of a picture. One that is another picture's too stays with
// that: it is copied where its picture is moved, and not deleted.
func (a *applying) beside(ctx context.Context, ops []line, of *line, sidecars []pipeline.Sidecar) ([]line, error) {
	picture, dir := *of, path.Dir(of.Source)
	stem, _ := stemExt(path.Base(of.Source))
	for _, s := range sidecars {
		base := filepath.Base(s.Path)
		if filepath.Dir(s.Path) != filepath.Dir(picture.place()) || base != stem+s.Ext || s.Ext == "" {
			continue
		}
		l := line{Action: a.o.Action, Kind: kindSidecar, Pair: picture.Pair, ID: picture.ID, Keeper: picture.Keeper, Root: picture.Root, Source: path.Join(dir, base), Size: s.Size}
		shared, err := a.shared(&picture, stem)
		if err != nil {
			return nil, err
		}
		switch {
		case shared && a.o.Action == Delete:
			continue
		case shared && a.o.Action == Move:
			l.Action = Copy
		}
		if err := a.see(ctx, &l, sum{}, s.Time); err != nil {
			return nil, ofIts("sidecar", s.Path, err)
		}
		ops = append(ops, l)
	}
	return ops, nil
}

// shared tells whether another picture beside this one has its stem.
func (a *applying) shared(of *line, stem string) (bool, error) {
	root, err := a.folders.existing(of.Root)
	if err != nil {
		return false, err
	}
	if dir := path.Dir(of.Source); a.stems.root != root || a.stems.dir != dir {
		entries, err := root.ReadDir(dir)
		if err != nil {
			return false, leavef(notDone, "%v", err)
		}
		a.stems = siblings{root, dir, map[string]int{}}
		for _, e := range entries {
			if imageio.KnownExtension(e.Name()) {
				s, _ := stemExt(e.Name())
				a.stems.names[s]++
			}
		}
	}
	own := 0
	if _, err := root.Lstat(of.Source); err == nil && imageio.KnownExtension(of.Source) {
		own = 1
	}
	return a.stems.names[stem] > own, nil
}

// before is what the last run that began with this picture intended; none when it was
// restored since.
func (a *applying) before(img *line) ([]line, error) {
	newest, ok := a.history.find(img.place())
	if !ok {
		return nil, nil
	}
	ops, err := a.rec.group(newest.at())
	if err != nil || len(ops) == 0 || ops[0].place() != img.place() {
		return nil, err
	}
	return ops, nil
}

// wasDone tells whether a picture that is gone went where the record says.
func (a *applying) wasDone(img *line) bool {
	switch img.Action {
	case Delete:
		return true
	case Move:
		if a.to == nil {
			return false
		}
		_, err := look(a.to, img.Target, img.Size)
		return err == nil
	}
	return false
}
