package moves

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// mostNumbers bounds the numbers that are tried for a name.
const mostNumbers = 10_000

// name gives the files their names in the folder: those that an earlier run gave them,
// or their own ones, or with a number, the same for all.
func (a *applying) name(ctx context.Context, ops []line, source, lqSource string, before []line) ([]line, error) {
	if before != nil && before[0].SHA256 == ops[0].SHA256 && before[0].Target != "" {
		stem, _ := stemExt(before[0].Target)
		lqStem := ""
		for _, b := range before {
			if b.Kind == kindLQ {
				lqStem, _ = stemExt(b.Target)
			}
		}
		if (lqSource == "") == (lqStem == "") {
			give(ops, stem, lqStem)
			free, there, err := a.free(ctx, ops, before)
			switch {
			case err != nil:
				return nil, err
			case there == len(ops) && a.o.Action != Move:
				return nil, nil
			case free:
				return ops, nil
			}
		}
	}
	stem, _ := stemExt(source)
	lqStem, _ := stemExt(lqSource)
	if lqSource != "" {
		stem, lqStem = "hq/"+stem, "lq/"+lqStem
	}
	for n := 1; n <= mostNumbers; n++ {
		number := ""
		if n > 1 {
			number = fmt.Sprintf("-%d", n)
		}
		give(ops, stem+number, lqStem+number)
		free, _, err := a.free(ctx, ops, nil)
		if err != nil {
			return nil, err
		}
		if !free || n > 1 && a.wanted(ops, number) {
			continue
		}
		if n > 1 {
			a.report.Numbered++
		}
		return ops, nil
	}
	return nil, leavef(notDone, "%d names like its own are taken", mostNumbers)
}

// wanted tells whether another file has such a name among the sources: it may be about
// to come here under that.
func (a *applying) wanted(ops []line, number string) bool {
	for i := range ops {
		stem, ext := stemExt(ops[i].Source)
		root := a.folders.open[ops[i].Root] // it was read there
		if _, err := root.Lstat(stem + number + ext); !absent(err) {
			return true
		}
	}
	return false
}

// give names the files by the stem of the picture, and of the low-quality one.
func give(ops []line, stem, lqStem string) {
	for i := range ops {
		s := stem
		if ops[i].Pair == "lq" {
			s = lqStem
		}
		_, ext := stemExt(ops[i].Source)
		ops[i].Target = s + ext
	}
}

// free tells whether the files can have their names, and how many are there already: an
// earlier run intended the same with the same bytes, and what has the name has these.
func (a *applying) free(ctx context.Context, ops, before []line) (free bool, there int, err error) {
	for i := range ops {
		op := &ops[i]
		_, err := a.to.Lstat(op.Target)
		switch {
		case absent(err):
			continue
		case err != nil:
			return false, 0, leavef(notDone, "%v", err) // a link leads out of the folder, say
		}
		same := false
		for _, b := range before {
			same = same || b.place() == op.place() && b.Target == op.Target && b.SHA256 == op.SHA256
		}
		if !same || !holds(ctx, a.to, op.Target, op.Size, op.SHA256) {
			return false, 0, ctx.Err()
		}
		there++
	}
	return true, there, nil
}

// inside tells whether a file lies in a folder, by whatever links.
func inside(folder, file string) bool {
	for _, pair := range [][2]string{{folder, file}, {real(folder), filepath.Join(real(filepath.Dir(file)), filepath.Base(file))}} {
		if rel, err := filepath.Rel(pair[0], pair[1]); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

func real(name string) string {
	if r, err := filepath.EvalSymlinks(name); err == nil {
		return r
	}
	return strings.TrimSuffix(name, "/")
}
