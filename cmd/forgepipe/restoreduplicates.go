package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// duplicatesJSON is what restore tells programs of the files of duplicates.
type duplicatesJSON struct {
	Record string `json:"record"`
	// Files are the first that lie where the record says, and More how many others.
	Files []moves.Entry `json:"files,omitempty"`
	More  int64         `json:"more,omitempty"`
	Count *int64        `json:"count,omitempty"`
	Bytes *int64        `json:"bytes,omitempty"`

	DryRun   bool                    `json:"dry_run,omitempty"`
	Restored *restoredDuplicatesJSON `json:"restored,omitempty"`
}

type restoredDuplicatesJSON struct {
	*moves.RestoreReport
	// Files are the first that were asked for, with what became of them. More is how many
	// others there are.
	Files []moves.Restored `json:"files"`
	More  int64            `json:"more"`
}

// isRecord tells whether a place is a record of duplicates, or a folder that has one and
// is no output folder.
func isRecord(place string, f storeFlags) bool {
	state := filepath.Join(place, ".forgepipe")
	return f.state == "" && moves.HasRecord(place) && !hasStore(state) && !hasTrash(state) && !hasStore(place)
}

// checkDuplicates finds what the flags ask of a record that is not for one.
func (f *restoreFlags) checkDuplicates(cmd *cobra.Command, record bool) error {
	given := cmd.Flags().Changed
	switch {
	case record && given("prune"):
		return usagef("remove the files yourself", "--prune is for the trash of an output folder, and this is a record of duplicates")
	case !record && given("copies"):
		return usagef("give the folder that duplicates went to", "--copies is for the record of duplicates")
	case !record && given("folder"):
		return usagef("give the record", "--folder is for the record of duplicates")
	case given("folder") && f.folder == "":
		return usagef("for example --folder dups", "--folder wants a folder")
	case record && f.copies && !f.all && f.from == "" && cmd.Flags().NArg() < 2:
		return usagef("for example --all", "say which copies to remove: files, --all or --from TIME")
	}
	return nil
}

// duplicates are the files that a record tells of.
type duplicates struct {
	*app
	record string
	flags  restoreFlags
}

func (d *duplicates) options() moves.RestoreOptions {
	return moves.RestoreOptions{Run: d.flags.from, Folder: d.flags.folder, To: d.flags.to, Copies: d.flags.copies, DryRun: d.flags.dryRun}
}

func (d *duplicates) run(ctx context.Context, files []string) error {
	d.result.set(func(e *envelope) {
		e.Duplicates = &duplicatesJSON{Record: fullPath(moves.RecordFile(d.record)), DryRun: d.flags.dryRun}
	})
	if d.flags.all || d.flags.from != "" || len(files) > 0 {
		return d.restore(ctx, files)
	}
	return d.list(ctx)
}

// list shows what there is.
func (d *duplicates) list(ctx context.Context) error {
	out := bufio.NewWriter(d.stdout)
	var n, bytes int64
	var last *moves.Entry
	told := []moves.Entry{}
	err := moves.List(ctx, d.record, d.options(), func(f moves.Entry) error {
		n++
		bytes += f.Size
		switch {
		case !d.result.json:
			_, err := io.WriteString(out, aboutDuplicate(&f, last))
			last = &f
			return err
		case len(told) < mostFiles:
			told = append(told, f)
		}
		return nil
	})
	d.result.set(func(e *envelope) {
		e.Duplicates.Files, e.Duplicates.More, e.Duplicates.Count, e.Duplicates.Bytes = told, n-int64(len(told)), &n, &bytes
	})
	if err != nil || d.result.json {
		return errors.Join(d.refused(err), out.Flush())
	}
	if n == 0 {
		fmt.Fprintf(out, "no file of a duplicate is away (record %s)\n", terminal.Printable(moves.RecordFile(d.record)))
	} else {
		fmt.Fprintf(out, "\n%s of duplicates\n", filesOf(n, bytes))
	}
	return out.Flush()
}

// became are actions as what became of files.
var became = map[moves.Action]string{moves.Move: "moved", moves.Copy: "copied", moves.Hardlink: "linked", moves.Delete: "deleted, which cannot come back"}

// aboutDuplicate writes a file of a record: a headline for each run and action, then
// where the file was and is. It is called for one after another; before is the last one.
func aboutDuplicate(f, before *moves.Entry) string {
	text := ""
	if before == nil || before.Run != f.Run || before.Action != f.Action {
		if before != nil {
			text = "\n"
		}
		text += fmt.Sprintf("%s, %s:\n", oneLine(f.Run), became[f.Action])
	}
	about := memory.FormatBytes(f.Size)
	if f.Kind == "image" {
		about += ", a duplicate of " + f.Keeper
	}
	if f.Path != "" {
		about += ", now " + f.Path
	}
	return text + fmt.Sprintf("  %s (%s)\n", oneLine(f.Place), oneLine(about))
}

// oneLine makes text that somebody else has written one line that cannot steer the
// terminal.
func oneLine(text string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(terminal.Printable(text))
}

func (d *duplicates) restore(ctx context.Context, files []string) error {
	out := bufio.NewWriter(d.stdout)
	told := &restoredDuplicatesJSON{Files: []moves.Restored{}}
	word, gone := "restored", "removed"
	if d.flags.dryRun {
		word, gone = "would be restored", "would be removed"
	}
	o := d.options()
	o.Files, o.All = files, d.flags.all || len(files) == 0
	o.OnFile = func(r moves.Restored) {
		switch {
		case !d.result.json:
			_, _ = io.WriteString(out, aboutRestoredDuplicate(r, word, gone))
		case len(told.Files) < mostFiles:
			told.Files = append(told.Files, r)
		default:
			told.More++
		}
	}
	report, err := moves.Restore(ctx, d.record, o)
	if report == nil {
		return d.refused(err)
	}
	told.RestoreReport = report
	d.result.set(func(e *envelope) { e.Duplicates.Restored = told })
	if err := out.Flush(); err != nil {
		return err
	}
	if !d.result.json {
		fmt.Fprintln(d.stdout, restoredDuplicatesText(report, word, gone))
	}
	switch {
	case err != nil:
		return err
	case len(report.Unknown) > 0:
		return &absentError{
			Err:  fmt.Errorf("not in the record: %s", strings.Join(report.Unknown, ", ")),
			Hint: "forgepipe restore without files lists what there is",
		}
	case len(files) > 0 && report.Deleted > 0:
		return &absentError{Err: fmt.Errorf("%s deleted, and cannot come back", was(report.Deleted))}
	case report.Taken+report.Failed > 0:
		return duplicatesStayError{&stayedError{report.Taken, report.Failed}}
	}
	return nil
}

func was(n int64) string {
	if n == 1 {
		return "1 file was"
	}
	return fmt.Sprintf("%d files were", n)
}

// refused is the error of what was not done, since it was asked for wrongly.
func (d *duplicates) refused(err error) error {
	if option := new(pipeline.OptionError); errors.As(err, &option) {
		hint := ""
		if option.Option == "Folder" {
			hint = "give --folder FOLDER"
		}
		return &usageError{Err: err, Hint: hint}
	}
	return err
}

// aboutRestoredDuplicate is a line about a file.
func aboutRestoredDuplicate(r moves.Restored, word, gone string) string {
	what, where := word, r.To
	switch {
	case r.Fault != "":
		what = r.Fault
	case r.Deleted:
		where, what = r.Place, "was deleted, and cannot come back; what was kept is "+r.Keeper
	case r.Copy:
		where, what = r.Path, "is a copy, and stays; --copies removes those whose files are there"
		if r.Action == moves.Hardlink {
			what = "is a hard link, and stays; --copies removes those whose files are there"
		}
	case r.Removed:
		where, what = r.Path, gone
	case r.Same:
		what = "is there already, with the same bytes"
	}
	if where == "" {
		where = r.Place
	}
	return oneLine(where+": "+what) + "\n"
}

// restoredDuplicatesText says what was done.
func restoredDuplicatesText(r *moves.RestoreReport, word, gone string) string {
	text := fmt.Sprintf("%s %s", filesOf(r.Restored, r.Bytes), word)
	for _, part := range []struct {
		n    int64
		what string
	}{
		{r.Removed, "copies " + gone}, {r.Copies, "copies that stay"}, {r.Same, "there already"}, {r.Older, "of which another version came back"},
		{r.Taken, "whose place is taken"}, {r.Failed, "that could not be moved"}, {r.Deleted, "deleted, which cannot come back"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf("; %d %s", part.n, part.what)
		}
	}
	return text
}
