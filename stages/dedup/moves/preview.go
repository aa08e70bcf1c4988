package moves

import (
	"context"
	"iter"
)

// Preview tells what Apply would do with the jobs, as far as that is known without reading the
// files: Images is how many pictures it would take, and Already, Left and Why are as those of
// Apply. It changes nothing. The error is a [CountError] where Apply would end with one, and the
// report is whole then; another one is of the record or of a folder, or what ctx or jobs end with.
func Preview(ctx context.Context, o Options, jobs iter.Seq2[Job, error]) (Report, error) {
	if err := o.check(); err != nil {
		return Report{}, err
	}
	a := newApplying(o)
	a.dry, a.history = true, &history{}
	defer a.folders.close()
	if file := o.recordFile(); hasFile(file) {
		rec, err := openRecord(a.o.FS, file, false)
		if err != nil {
			return a.report, err
		}
		defer func() { _ = rec.close() }() // it was only read
		a.rec, a.report.Record = rec, file
		if a.history, err = rec.history(); err != nil {
			return a.report, err
		}
	}
	if o.To != "" && isDir(o.To) {
		var err error
		if a.to, err = a.folders.existing(absolute(o.To)); err != nil {
			return a.report, err
		}
	}
	for j, err := range jobs {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return a.report, err
		}
		ops, err := a.planned(ctx, &j)
		if err != nil {
			return a.report, err
		}
		if len(ops) == 0 {
			continue
		}
		if err := a.counted(&ops[0]); err != nil {
			return a.report, err
		}
	}
	a.report.Images = a.images
	return a.report, a.checkCount()
}

// seemsDone tells whether an earlier run did the same with these files, as they look.
func (a *applying) seemsDone(ops, before []line) bool {
	if a.to == nil {
		return false
	}
	for i := range ops {
		there := false
		for j := range before {
			b := &before[j]
			if b.place() == ops[i].place() && (ops[i].SHA256 == sum{} || ops[i].SHA256 == b.SHA256) {
				_, err := look(a.to, b.Target, ops[i].Size)
				there = there || err == nil
			}
		}
		if !there {
			return false
		}
	}
	return true
}
