package moves

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// makeUp makes whole what runs have done by half that were killed, or could not make it so
// themselves, whatever this one is to do. What was moved of a picture that is in its place comes
// back; what belongs to one that is gone goes as well, as its job will not come again.
func (a *applying) makeUp(ctx context.Context) error {
	to := a.to
	defer func() { a.to = to }()
	for i := range a.history.open {
		o := &a.history.open[i]
		// That run may have had another folder.
		away := errors.New("the record does not say where that is")
		if filepath.IsAbs(o.begin.Folder) {
			a.to, away = a.folders.existing(o.begin.Folder)
		}
		if away != nil { // it may have been taken elsewhere with its record
			var err error
			if a.to, err = a.folders.existing(filepath.Dir(a.o.recordFile())); err != nil {
				return err
			}
		}
		did := a.report.Files + int64(len(a.came))
		err := a.groups(o.from, o.begin.Run, func(ops []line) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var err error
			switch {
			case ops[0].Kind != kindImage:
			case ops[0].Action == Delete:
				err = a.makeUpDeleted(ctx, o, ops)
			case ops[0].Action == Move:
				err = a.makeUpMoved(ctx, o, ops, nil, away == nil)
				if err == nil && away != nil {
					err = a.makeUpMoved(ctx, o, ops, away, true)
				}
			case away == nil:
				err = a.removeTemporary(ops, true)
			}
			if err == nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			return a.staysApart(ops, err)
		})
		if err == nil && did != a.report.Files+int64(len(a.came)) {
			err = a.settle()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeUpDeleted deletes what belongs to a picture that a run has deleted.
func (a *applying) makeUpDeleted(ctx context.Context, o *openRun, ops []line) error {
	img := &ops[0]
	s, ok := a.history.find(img.place())
	if !ok || !s.went() || s.at() < o.from || s.at() >= o.to {
		return nil
	}
	root, err := a.folders.existing(img.Root)
	if err != nil {
		if errors.As(err, new(*lostError)) {
			return nil // there is nothing left of it
		}
		return leavef(notDone, "%v", err)
	}
	if _, err := root.Lstat(img.Source); !absent(err) {
		return nil
	}
	if !slices.ContainsFunc(ops[1:], func(op line) bool { return !o.did(op.N) }) {
		return nil
	}
	// What is kept was looked at before the picture went, and time has passed since.
	if err := checkKeeper(ctx, img, true); err != nil {
		if errors.As(err, new(*leftError)) {
			return a.tellOfGone(ops, err)
		}
		return err
	}
	return a.rest(ctx, o, ops)
}

// tellOfGone puts down, once and for all, why what belongs to a picture that is gone stays.
func (a *applying) tellOfGone(ops []line, err error) error {
	gone := ops[0]
	gone.N = 0
	return a.settled([]line{gone}, err)
}

// makeUpMoved brings back what a run has moved of a picture that is in its place; away is
// why its folder cannot be looked into. Where it is not sure that the folder is the run's, only
// what lies in it counts.
func (a *applying) makeUpMoved(ctx context.Context, o *openRun, ops []line, away error, sure bool) error {
	img := &ops[0]
	if err := a.removeTemporary(ops, away == nil); err != nil {
		return err
	}
	root, err := a.folders.existing(img.Root)
	if err == nil {
		_, err = root.Lstat(img.Source)
	}
	if root != nil && absent(err) {
		if away == nil && (sure && o.did(img.N) || holds(ctx, a.to, img.Target, img.Size, img.SHA256)) {
			return a.rest(ctx, o, ops)
		}
		return nil
	}
	part := a.partAway(ops, away)
	if part == nil || o.did(img.N) {
		return nil
	}
	switch {
	case err == nil:
		_, _, err = read(ctx, root, img.Source, img.Size, img.SHA256)
	case away != nil, holds(ctx, a.to, img.Target, img.Size, img.SHA256):
		return nil // it may have gone with all that belongs to it
	}
	if says(err, notTheSame) || says(err, notThere) || says(err, isLink) {
		return nil // what is in its place is another picture
	}
	if err == nil {
		err = away
	}
	for i := range ops {
		if err == nil {
			err = plausible(ops, &ops[i])
		}
	}
	if err != nil {
		return leavef(notWhole, "%s is in %s: %v", part.place(), o.begin.Folder, err)
	}
	came, err := a.putBack(ctx, ops)
	if len(came) > 0 {
		a.came[img.place()] = append(a.came[img.place()], came...)
	}
	if err != nil && !fsys.IsFatal(err) {
		err = leavef(notWhole, "%v", err)
	}
	return err
}

// partAway is a file that belongs to a picture, is not in its place, and is in the folder, as far
// as that can be looked into; nil: there is none.
func (a *applying) partAway(ops []line, away error) *line {
	for i := range ops[1:] {
		op := &ops[1+i]
		if op.Action != Move {
			continue
		}
		root, err := a.folders.existing(op.Root)
		if err == nil {
			_, err = root.Lstat(op.Source)
		}
		if err == nil {
			continue
		}
		if away == nil {
			_, err = look(a.to, op.Target, op.Size)
		}
		if away != nil || !says(err, notThere) && !says(err, notTheSame) && !says(err, isLink) {
			return op
		}
	}
	return nil
}

// removeTemporary removes what was copied by half, into the folder or back. What does not let
// itself be removed is in nobody's way.
func (a *applying) removeTemporary(ops []line, folder bool) error {
	for i := range ops {
		op := &ops[i]
		var errs [2]error
		if folder && op.Target != "" {
			errs[0] = removeIfThere(a.to, temporary(op.Target))
		}
		if root, err := a.folders.existing(op.Root); err == nil && op.Action == Move {
			errs[1] = removeIfThere(root, temporary(op.Source))
		}
		if err := errors.Join(errs[:]...); fsys.IsFatal(err) {
			return fmt.Errorf("removing half a copy: %w", err)
		}
	}
	return nil
}

func removeIfThere(root fsys.Root, name string) error {
	if _, err := root.Lstat(name); err != nil {
		return nil
	}
	return root.Remove(name)
}

// rest does the rest with what belongs to a picture that is gone. Where another picture of its
// stem has come since, nothing is certain to belong to the one that is gone.
func (a *applying) rest(ctx context.Context, o *openRun, ops []line) error {
	a.stems = siblings{}
	other, err := a.sharedStem(&ops[0])
	if err != nil {
		return err
	}
	of, told := &ops[0], false
	for i := range ops[1:] {
		op := &ops[1+i]
		if op.Kind == kindLQ {
			of = op
		}
		if o.did(op.N) || other && (op.Kind == kindLQ || op.Pair == "lq") {
			continue
		}
		err := a.asBefore(ctx, op)
		if says(err, notThere) || errors.As(err, new(*lostError)) ||
			op.Action == Move && holds(ctx, a.to, op.Target, op.Size, op.SHA256) { // what lies in its place came since
			continue
		}
		if op.Kind == kindSidecar && op.Action != Copy {
			a.stems = siblings{}
			if shared, err := a.sharedStem(of); shared || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		another := says(err, notTheSame) || says(err, isLink)
		switch {
		case err != nil:
			err = ofIts("file", op.place(), err)
		case op.Action == Delete:
			err = a.removeFile(ctx, ops[1+i:2+i])
		default:
			err = a.bring(ctx, ops[1+i:2+i])
		}
		switch {
		case err == nil:
		case another, op.Action == Copy && says(err, nameTaken):
			if told {
				continue
			}
			told = true
			if err := a.tellOfGone(ops, err); err != nil {
				return err
			}
		case ctx.Err() != nil, fsys.IsFatal(err), errors.As(err, new(*leftError)):
			return err
		default:
			return leavef(notDone, "%v", err)
		}
	}
	return nil
}

// sharedStem tells whether another picture beside this one has its stem. Where its folder is
// gone, there is none.
func (a *applying) sharedStem(of *line) (bool, error) {
	stem, _ := stemExt(path.Base(of.Source))
	shared, err := a.shared(of, stem)
	if errors.As(err, new(*lostError)) {
		return false, nil
	}
	if err != nil && !errors.As(err, new(*leftError)) && !fsys.IsFatal(err) {
		err = leavef(notDone, "%v", err)
	}
	return shared, err
}

// withWhatCame is a job with the files that have come back to its picture since it was seen.
func withWhatCame(j *Job, came []line) *Job {
	whole := *j
	for i := range came {
		op := &came[i]
		switch {
		case op.Kind == kindLQ && j.LQ == nil:
			whole.LQ = &Companion{Source: op.Source, Path: op.place(), Size: op.Size, SHA256: op.SHA256}
		case op.Kind == kindSidecar && op.Pair != "lq":
			whole.Sidecars = withSidecar(whole.Sidecars, op)
		}
	}
	if whole.LQ == nil {
		return &whole
	}
	lq := *whole.LQ
	for i := range came {
		if came[i].Kind == kindSidecar && came[i].Pair == "lq" {
			lq.Sidecars = withSidecar(lq.Sidecars, &came[i])
		}
	}
	whole.LQ = &lq
	return &whole
}

func withSidecar(all []pipeline.Sidecar, op *line) []pipeline.Sidecar {
	file := op.place()
	others := slices.DeleteFunc(slices.Clone(all), func(s pipeline.Sidecar) bool { return s.Path == file })
	return append(others, pipeline.Sidecar{Ext: filepath.Ext(file), Path: file, Size: op.Size}) // its time may be another
}
