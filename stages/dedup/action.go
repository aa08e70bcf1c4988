package dedup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// action is what happens to the source files of duplicates.
type action struct {
	moves.Options // Action is empty for nothing
}

const actionReport = "report"

func actionFields() []pipeline.Field {
	return []pipeline.Field{
		{
			Name: "action", Type: pipeline.FieldEnum, Flush: true, Default: actionReport,
			Enum: []string{actionReport, string(moves.Move), string(moves.Copy), string(moves.Hardlink), string(moves.Delete)},
			Doc:  "What happens to the source files of duplicates when all is decided: report is nothing; move, copy and hardlink put them into the folder to, with their sidecars and low-quality companions; delete removes them.",
		},
		{
			Name: "to", Type: pipeline.FieldPath, Flush: true, Examples: []string{"./duplicates"},
			Doc: "The folder that source files are moved, copied or linked to. It must not lie in the input folder.",
		},
		{
			Name: "record", Type: pipeline.FieldPath, Flush: true, Examples: []string{"./duplicates/moves.jsonl"},
			Doc: "The file in which everything that happens to source files is written down before it does, for forgepipe restore. By default " + moves.RecordName + " in the folder to; delete needs one.",
		},
		{
			Name: "delete_count", Type: pipeline.FieldInt, Flush: true, Unit: "pictures", Min: -1, Max: 1 << 32,
			Doc: "How many pictures action: delete removes: with any other number nothing is deleted. -1 is any number.",
		},
	}
}

func newAction(c pipeline.Config, e pipeline.Env) (a action, err error) {
	word := c.String("action")
	for _, f := range []struct {
		name    string
		actions []moves.Action
	}{
		{"to", []moves.Action{moves.Move, moves.Copy, moves.Hardlink}},
		{"record", []moves.Action{moves.Move, moves.Copy, moves.Hardlink, moves.Delete}},
		{"delete_count", []moves.Action{moves.Delete}},
	} {
		belongs := slices.Contains(f.actions, moves.Action(word))
		optional := f.name == "record" && word != string(moves.Delete)
		switch {
		case c.IsSet(f.name) && !belongs:
			return a, c.Errorf(f.name, 0, "it is for another action than %s: leave it out, or say which", word)
		case belongs && !c.IsSet(f.name) && !optional:
			all := actionFields()
			doc := all[slices.IndexFunc(all, func(o pipeline.Field) bool { return o.Name == f.name })].Doc
			return a, c.Errorf("action", 0, "%s needs %s: %s", word, f.name, doc)
		}
	}
	if word == actionReport {
		return a, nil
	}
	if e.Derived {
		return a, c.Errorf("action", 0, "a stage before this one cuts images into parts, and %s is for whole source files: put dedup before it", word)
	}
	a.Action = moves.Action(word)
	if a.takesAway() && c.String("sidecars") == sidecarsMerge {
		return a, c.Errorf("action", 0, "%s takes away the sidecars that sidecars: merge has the kept images take over, and the next run would not find them: say sidecars: keep, or action: copy", word)
	}
	a.To, a.FS = filepath.Clean(c.String("to")), e.FS
	if a.Action == moves.Delete {
		a.To, a.DeleteCount = "", c.Int("delete_count")
	}
	a.Record = filepath.Clean(cmp.Or(c.String("record"), filepath.Join(a.To, moves.RecordName)))
	return a, nil
}

// folder is where files go to, or what happens to them is written down.
func (a action) folder() string { return cmp.Or(a.To, filepath.Dir(a.Record)) }

func (a action) writes() (trees []pipeline.OutputTree) {
	if a.Action == "" {
		return nil
	}
	folder, name := filepath.Split(a.Record)
	trees = append(trees, pipeline.OutputTree{Root: filepath.Clean(folder), Template: name, File: true, Apart: true})
	if a.To != "" {
		trees = append(trees, pipeline.OutputTree{Root: a.To, Template: ".", File: true, Apart: true})
	}
	return trees
}

// keeperFiles are the files of keepers that have duplicates.
type keeperFiles map[uint32]keeperFile

type keeperFile struct {
	path  string // empty: not known
	size  int64  // below 0: not known
	sum   [32]byte
	index string // folder of the index that it is from
}

// keepers prepares for the keepers of duplicates, whose files are looked at before
// anything happens to those of their duplicates. Where those of an index were, that knows.
// It is nil where nothing does.
func (a action) keepers(ctx context.Context, t *table, v *verdicts, indexes []*opened) (keeperFiles, error) {
	if a.Action == "" {
		return nil, nil
	}
	files, ofIndexes := keeperFiles{}, false
	for i, k := range v.keeper {
		if int(k) != i {
			files[k] = keeperFile{}
			ofIndexes = ofIndexes || int(k) >= t.items
		}
	}
	if !ofIndexes {
		return files, nil
	}
	n := uint32(t.items)
	for _, x := range indexes { // in the order in which they were entered
		for e, err := range x.All(ctx, nil) {
			if err != nil {
				return nil, err
			}
			if _, ok := files[n]; ok {
				files[n] = fileOf(e, x.folder)
			}
			n++
		}
	}
	return files, nil
}

// fileOf is where the picture of an entry was. The file of a part of one, as a tile is, is
// not what was compared: it is looked for, and its bytes are not known.
func fileOf(e index.Entry, folder string) keeperFile {
	f := keeperFile{size: -1, index: folder}
	base, _, part := strings.Cut(e.ID, "@")
	name, err := pipeline.UnescapeID(base)
	if err != nil || e.Root == "" {
		return f
	}
	f.path = filepath.Join(e.Root, name)
	if !part {
		f.sum = e.SHA256
	}
	return f
}

func (f keeperFiles) note(it *pipeline.Item, i uint32) {
	if _, ok := f[i]; ok {
		src := it.Source()
		f[i] = keeperFile{path: src.Path, size: src.Size, sum: src.SHA256}
	}
}

// doAction does with the source files what is asked for, when all has been decided and
// told.
func (s *Stage) doAction(ctx context.Context, held pipeline.HeldItems, t *table, v *verdicts, files keeperFiles) error {
	if !s.acts() {
		return s.foretell(ctx, held, t, v, files)
	}
	o := s.act.Options
	o.Stop = s.env.Draining
	report, err := moves.Apply(ctx, o, s.jobs(held, t, v, files))
	switch {
	case err == nil:
	case errors.Is(err, moves.ErrStopped):
		s.said += "; " + done(o.Action, report)
		s.said += fmt.Sprintf(", and %s not come to before the run was interrupted: run again to go on", were(report.Undone))
		return nil
	case s.env.Draining() && report.Files+report.Undone == 0:
		s.said += fmt.Sprintf("; nothing was %s before the run was interrupted: run again to go on", verb(o.Action))
		return err
	default:
		return err
	}
	if report.Images+report.Files+report.Already+report.Left > 0 {
		s.said += "; " + done(o.Action, report)
	}
	refused, first := int64(0), ""
	for _, w := range report.Why {
		if w.Refused {
			refused += w.Count
			first = cmp.Or(first, w.First[0])
		}
	}
	switch {
	case refused == 0:
	case report.Files+report.Already == 0 && refused == report.Left:
		// All else of the run is as it should be, and goes on: it ends with this.
		s.undone = fmt.Errorf("no duplicate could be %s: %s left alone, the first %s; run again when that can be done", verb(o.Action), were(refused), first)
	default:
		s.env.Log.Warn(fmt.Sprintf("%d of the duplicates could not be %s", refused, verb(o.Action)), "first", first)
	}
	return nil
}

// foretell says in a dry run what would be done with the source files.
func (s *Stage) foretell(ctx context.Context, held pipeline.HeldItems, t *table, v *verdicts, files keeperFiles) error {
	a := s.act.Action
	if a == "" || s.open || s.aside(s.act.folder()) {
		return nil
	}
	r, err := moves.Preview(ctx, s.act.Options, s.jobs(held, t, v, files))
	var wrong *moves.CountError
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	images := "images"
	if r.Images == 1 {
		images = "image"
	}
	s.said += fmt.Sprintf("; action: %s would %s %d source %s", a, map[moves.Action]string{moves.Move: "move", moves.Copy: "copy", moves.Hardlink: "link", moves.Delete: "delete"}[a], r.Images, images)
	if r.Already > 0 {
		s.said += fmt.Sprintf(", %d had been already", r.Already)
	}
	if r.Left > 0 {
		s.said += fmt.Sprintf(", and leave %d alone (%s)", r.Left, whyLeft(r))
	}
	if wrong != nil {
		s.said += fmt.Sprintf(": delete_count is %d, so that nothing would be deleted", wrong.Said)
	}
	return nil
}

// jobs are the files of what was rejected.
func (s *Stage) jobs(held pipeline.HeldItems, t *table, v *verdicts, files keeperFiles) iter.Seq2[moves.Job, error] {
	measures := s.measures()
	return func(yield func(moves.Job, error) bool) {
		var i uint32
		for it, err := range held {
			if err != nil {
				yield(moves.Job{}, err)
				return
			}
			at := i
			i++
			k := v.keeper[at]
			if k == at && t.class(at) != gone {
				continue
			}
			j, ok := moves.JobOf(it)
			if !ok {
				continue
			}
			if k != at {
				f := files[k]
				j.Keeper, j.KeeperPath, j.KeeperSize, j.KeeperSHA256, j.KeeperIndex = t.id(int(k)), f.path, f.size, f.sum, f.index
			}
			j.Explained = s.member(it, at, t, v).Explain(measures)
			if !yield(j, nil) {
				return
			}
		}
	}
}

// verb is what was done with files.
func verb(a moves.Action) string {
	return map[moves.Action]string{moves.Move: "moved", moves.Copy: "copied", moves.Hardlink: "linked", moves.Delete: "deleted"}[a]
}

// done says what was done with source files.
func done(a moves.Action, r moves.Report) string {
	files := "files"
	if r.Files == 1 {
		files = "file"
	}
	text := fmt.Sprintf("of source images %s %s (%d %s)", were(r.Images), verb(a), r.Files, files)
	if r.Already > 0 {
		text += fmt.Sprintf(", %d had been already", r.Already)
	}
	if r.Numbered > 0 {
		text += fmt.Sprintf(", %d with a number behind the name, as that was taken", r.Numbered)
	}
	if r.Left > 0 {
		text += fmt.Sprintf(", %s left alone (%s)", were(r.Left), whyLeft(r))
	}
	text += ", all of it in " + r.Record
	if a == moves.Move && r.Files > 0 {
		text += " (forgepipe restore " + r.Record + " brings it back)"
	}
	return text
}

// whyLeft are the reasons for which source files are left alone, each with the first of them.
func whyLeft(r moves.Report) string {
	var why []string
	for _, w := range r.Why {
		such := ", such as "
		if w.Count == 1 {
			such = ", "
		}
		why = append(why, fmt.Sprintf("%s: %d%s%s", w.Text, w.Count, such, w.First[0]))
	}
	return strings.Join(why, "; ")
}
