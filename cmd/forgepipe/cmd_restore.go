package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

type restoreFlags struct {
	storeFlags
	all    bool
	from   string
	to     string
	prune  string
	age    time.Duration // that prune says
	dryRun bool

	copies bool   // of duplicates
	folder string // likewise
}

// trashJSON is what restore tells programs.
type trashJSON struct {
	StateDir string `json:"state_dir"`
	// Files are the first that are in the trash, and More how many others.
	Files []pipeline.Trashed `json:"files,omitempty"`
	More  int64              `json:"more,omitempty"`
	Count *int64             `json:"count,omitempty"`
	Bytes *int64             `json:"bytes,omitempty"`

	DryRun   bool          `json:"dry_run,omitempty"`
	Restored *restoredJSON `json:"restored,omitempty"`
	Pruned   *prunedJSON   `json:"pruned,omitempty"`
}

type restoredJSON struct {
	*pipeline.RestoreReport
	// Files are the first that were asked for: those that came back, or would, and with
	// a fault, or the same, those that stay. More is how many others there are.
	Files []pipeline.Restored `json:"files"`
	More  int64               `json:"more"`
}

type prunedJSON struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// mostFiles bounds the files in the one document.
const mostFiles = 10_000

func newRestoreCommand(a *app) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [PIPELINE.yaml | FOLDER | moves.jsonl] [FILE...]",
		Short: "List what runs moved to the trash, or as duplicates, and get it back",
		Long: `List what runs have moved to the trash of the output folders, or move files back
to where they were. The store is found from the pipeline, from the output folder
(the working directory when nothing is given), or with --state; then all arguments
are files.

A FILE is where it was (out/trip/a.png, or trip/a.png in its output folder, then
of a pair both), a folder, a pattern such as 'trip/*.png', or where it lies in the
trash. The newest comes back, with a picture its sidecars. Nothing is ever written
over: a file in whose place something else is stays in the trash. Ctrl-C stops
between two files, and kill -9 loses none. With --to, and several output folders
that have a trash, the files of each go to a folder that has its name.

Where there is no run store, as in a second output folder, restore lists files and
moves none, since a run would not be noticed. If the run store is lost, and no run
is running, --state FOLDER/.forgepipe moves them.

Runs leave restored files alone, as they do not know them: they stay and are in no
manifest. If a run comes to make a file of that name with other bytes, the restored
one stays and the item fails. To have images kept by the pipeline, change what
rejected them (forgepipe report says what that was) and run again. To keep your own
version of a file that the pipeline makes, restore it with --to.

Of a folder that dedup has moved duplicates to, or of the record moves.jsonl in it,
restore lists the files of duplicates, or moves them back to where they were among
the sources, the newest first, and says so in the record. A FILE is where it was, or
where it lies. A file goes back only if it has the bytes that are in the record. Of
what was copied or linked, --copies removes the copy if the file itself is there;
what was deleted cannot come back. A record that is not yours can name any folder
of yours: restore with --to. If the record lies elsewhere, --folder says where the
files are. To restore the trash of an output folder that has a moves.jsonl too, give
the folder, and for the duplicates the record.

The exit code is 0, 1 when files stay where they are or are not there, and 2 when
there is nothing by that name or a run is running.`,
		Example: `  forgepipe restore out/tiles
  forgepipe restore out/tiles trip/a.png
  forgepipe restore out/tiles --all --dry-run
  forgepipe restore out/tiles --from 20260101-120000.000 --to rescued
  forgepipe restore out/tiles --prune 30d
  forgepipe restore duplicates --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			place, files := f.split(args)
			if err := f.check(cmd, files); err != nil {
				return err
			}
			record := isRecord(place, f.storeFlags)
			if err := f.checkDuplicates(cmd, record); err != nil {
				return err
			}
			a.begun = true
			return runRestore(cmd.Context(), a, place, record, files, f)
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	fl.BoolVar(&f.all, "all", false, "restore everything")
	fl.StringVar(&f.from, "from", "", "restore only what the run of this `TIME` moved, as the list shows it; without files, all of that")
	fl.StringVar(&f.to, "to", "", "restore into this `FOLDER`, with the tree below it")
	fl.StringVar(&f.prune, "prune", "", "remove for good what was moved longer ago than `AGE`, such as 30d or 12h")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and do nothing")
	fl.BoolVar(&f.copies, "copies", false, "of duplicates: remove copies and hard links whose files are there")
	fl.StringVar(&f.folder, "folder", "", "of duplicates: the `FOLDER` that the files went to, if the record is not in it")
	return cmd
}

func (f *restoreFlags) check(cmd *cobra.Command, files []string) error {
	restores := f.all || f.from != "" || len(files) > 0
	given := cmd.Flags().Changed
	switch {
	case given("prune") && (restores || given("to")):
		return usagef("", "--prune removes for good, and restores nothing: give neither files, --all, --from nor --to with it")
	case given("prune"):
		age, err := parseAge(f.prune)
		if err != nil {
			return err
		}
		f.age = age
		return nil
	case f.all && len(files) > 0:
		return usagef("", "--all restores everything, and files name some: give one of them")
	case given("to") && f.to == "":
		return usagef("for example --to rescued", "--to wants a folder")
	case given("from") && f.from == "":
		return usagef("forgepipe restore lists the times", "--from wants a time")
	case (given("to") || f.dryRun) && !restores:
		return usagef("for example --all", "say what to restore: files, --all or --from TIME")
	}
	return nil
}

// parseAge reads a duration, of which days are the most usual.
func parseAge(text string) (time.Duration, error) {
	const most = 36_500 // days
	wrong := usagef("for example --prune 30d, or 12h", "--prune %q is no age", text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || math.IsNaN(n) || n < 0 || n > most {
			return 0, wrong
		}
		return time.Duration(n * float64(24*time.Hour)), nil
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 {
		return 0, wrong
	}
	return age, nil
}

func runRestore(ctx context.Context, a *app, place string, record bool, files []string, f restoreFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sig := catch(cancel, func(s string) { a.screen.Printf("%s", s) }, func(e *signalError) { a.end("restore", e) })
	defer sig.close()

	if record {
		err := (&duplicates{a, place, f}).run(ctx, files)
		if s := sig.signal(); s != 0 && err != nil {
			return &signalError{s}
		}
		return err
	}
	dir, err := a.findStore(ctx, place, f.storeFlags, hasStore, hasTrash)
	if err == nil {
		a.result.set(func(e *envelope) { e.Trash = &trashJSON{StateDir: fullPath(dir), DryRun: f.dryRun} })
		t := &trash{a, dir, f}
		switch {
		case f.prune != "":
			err = t.prune(ctx)
		case f.all || f.from != "" || len(files) > 0:
			err = t.restore(ctx, files)
		default:
			err = t.list(ctx)
		}
	}
	if s := sig.signal(); s != 0 && err != nil {
		return &signalError{s}
	}
	return err
}

// hasTrash tells whether a state directory has a trash beside it: in an output folder
// both are the same.
func hasTrash(dir string) bool {
	return filepath.Base(fullPath(dir)) == ".forgepipe" && isDir(filepath.Join(dir, "trash"))
}

type trash struct {
	*app
	dir   string
	flags restoreFlags
}

// list shows what there is.
func (t *trash) list(ctx context.Context) error {
	out := bufio.NewWriter(t.stdout)
	var n, bytes int64
	var last *pipeline.Trashed
	told := []pipeline.Trashed{}
	err := pipeline.Trash(ctx, t.dir, func(f pipeline.Trashed) error {
		n++
		bytes += f.Size
		if t.result.json {
			if len(told) < mostFiles {
				told = append(told, f)
			}
			return nil
		}
		_, err := io.WriteString(out, terminal.Trash(&f, last))
		last = &f
		return err
	})
	t.result.set(func(e *envelope) {
		e.Trash.Files, e.Trash.More, e.Trash.Count, e.Trash.Bytes = told, n-int64(len(told)), &n, &bytes
	})
	if err != nil || t.result.json {
		return errors.Join(err, out.Flush())
	}
	if n == 0 {
		where := "run store " + t.dir
		if !hasStore(t.dir) {
			where = "there is no run store in " + t.dir
		}
		fmt.Fprintf(out, "the trash is empty (%s)\n", terminal.Printable(where))
	} else {
		fmt.Fprintf(out, "\n%s in the trash\n", filesOf(n, bytes))
	}
	return out.Flush()
}

// filesOf writes how many files and bytes there are.
func filesOf(n, bytes int64) string {
	return fmt.Sprintf("%s (%s)", terminal.Counted(n, "file"), memory.FormatBytes(bytes))
}

func (t *trash) restore(ctx context.Context, files []string) error {
	f := t.flags
	out := bufio.NewWriter(t.stdout)
	told := &restoredJSON{Files: []pipeline.Restored{}}
	word := "restored"
	if f.dryRun {
		word = "would be restored"
	}
	report, err := pipeline.Restore(ctx, t.dir, pipeline.RestoreOptions{
		Files: files, All: f.all || len(files) == 0, From: f.from, To: f.to, DryRun: f.dryRun, NoStore: f.state != "",
		OnFile: func(r pipeline.Restored) {
			switch {
			case !t.result.json:
				_, _ = io.WriteString(out, aboutRestored(r, word))
			case len(told.Files) < mostFiles:
				told.Files = append(told.Files, r)
			default:
				told.More++
			}
		},
	})
	if report == nil {
		return t.refused(err)
	}
	told.RestoreReport = report
	t.result.set(func(e *envelope) { e.Trash.Restored = told })
	if err := out.Flush(); err != nil {
		return err
	}
	if !t.result.json {
		fmt.Fprint(t.stdout, restoredText(report, f, word, hasStore(t.dir)))
	}
	switch {
	case err != nil:
		return err
	case len(report.Unknown) > 0:
		return &absentError{
			Err:  fmt.Errorf("not in the trash: %s", strings.Join(report.Unknown, ", ")),
			Hint: "forgepipe restore without files lists what there is",
		}
	case report.Taken+report.Failed > 0:
		return &stayedError{report.Taken, report.Failed}
	}
	return nil
}

// refused is the error of what was not done, since it was asked for wrongly.
func (t *trash) refused(err error) error {
	switch {
	case errors.As(err, new(*pipeline.OptionError)):
		return &usageError{Err: err}
	case errors.Is(err, pipeline.ErrNoStore):
		return &usageError{Err: err, Hint: "give the pipeline, or its first output folder; if there is no run store any more and no run is running: --state " + t.dir}
	}
	return err
}

// aboutRestored is a line about a file.
func aboutRestored(r pipeline.Restored, word string) string {
	what := word
	switch {
	case r.Fault != "":
		what = r.Fault
	case r.Same:
		what = "is there already, with the same bytes; the copy in the trash stays"
	case r.Wanted:
		what += ", but the pipeline makes a file here: the next run moves this one to the trash again and makes its own; give --to FOLDER to keep it"
	case r.Recorded:
		what += "; a run has it on record, so the next one keeps it if the pipeline wants it, and moves it to the trash again if not"
	}
	return terminal.Printable(fmt.Sprintf("%s: %s\n", r.To, what))
}

// restoredText says what was done, and what runs do with the files.
func restoredText(r *pipeline.RestoreReport, f restoreFlags, word string, store bool) string {
	text := fmt.Sprintf("%s %s", filesOf(r.Restored, r.Bytes), word)
	for _, part := range []struct {
		n    int64
		what string
	}{
		{r.Same, "there already"}, {r.Older, "of which another version came back"},
		{r.Taken, "whose place is taken"}, {r.Failed, "that could not be moved"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf("; %d %s", part.n, part.what)
		}
	}
	text += "\n"
	switch {
	case r.Restored == 0 || f.to != "":
	case !store:
		text += "Without a run store it is not known what runs do with these files.\n"
	case r.Restored > r.Wanted+r.Recorded:
		text += "Runs leave these files alone, and list them in no manifest. To have the pipeline keep such\n" +
			"images itself, change what rejected them (forgepipe report says what) and run again.\n"
	}
	return text
}

func (t *trash) prune(ctx context.Context) error {
	n, bytes, err := pipeline.Prune(ctx, t.dir, pipeline.PruneOptions{Age: t.flags.age, DryRun: t.flags.dryRun, NoStore: t.flags.state != ""})
	t.result.set(func(e *envelope) { e.Trash.Pruned = &prunedJSON{n, bytes} })
	if !t.result.json && (err == nil || n > 0) {
		word := "removed for good"
		if t.flags.dryRun {
			word = "would be removed for good"
		}
		fmt.Fprintf(t.stdout, "%s %s\n", filesOf(n, bytes), word)
	}
	return t.refused(err)
}
