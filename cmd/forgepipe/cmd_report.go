package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/pipeline"
)

type reportFlags struct {
	storeFlags
	kind      string
	stage     string
	list      bool
	decisions bool
}

// historyJSON is what report tells programs: without an image the run and the
// counts, with some their ends.
type historyJSON struct {
	StateDir string                 `json:"state_dir"`
	LastRun  *pipeline.RunRecord    `json:"last_run,omitempty"`
	Counts   *[]pipeline.EndCount   `json:"counts,omitempty"`
	Causes   *[]pipeline.CauseCount `json:"causes,omitempty"`
	Governed *[]pipeline.Governed   `json:"governed,omitempty"`
	Images   []imageJSON            `json:"images,omitempty"`
	Listed   *int64                 `json:"listed,omitempty"`
}

type imageJSON struct {
	Image string         `json:"image"` // as it was asked for
	Ends  []pipeline.End `json:"ends"`
	More  int64          `json:"more"` // ends that are not in Ends
}

// mostEnds bounds the ends in the one document; --list has no bound.
const mostEnds = 10_000

func newReportCommand(a *app) *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "report [PIPELINE.yaml | FOLDER] [IMAGE...]",
		Short: "Say what became of images, and why",
		Long: `Say what the last run did, what became of the images and why, what failed, and
what the governor of memory decided. With images it tells what was made of each
and how that ended. An IMAGE is its path in the input folder, its file, an item's
id (a.jpg@tile=512,0,0), a folder of images, by its path in the input folder or as
it is called here, a pattern such as 'a/*.jpg', or an output's file.

No result is changed, and a run may be running: what it has not looked at yet is as
the run before left it. The store is found from the pipeline, from the output
folder (the working directory when nothing is given), or with --state; then all
arguments are images.

With --list, all that ended are listed, a line each. --list --json prints a JSON
object on a line for each end (id, source, kind, stage, reason, values, cause,
path, bytes), and as the last line the document that other commands print, which
has a "command"; so does --decisions --json. Without --list, --json gives at most
10000 ends of each image, and the number of those left out.

The exit code is 0, 1 when an image is not known, and 2 when there is no run
store.`,
		Example: `  forgepipe report out/tiles
  forgepipe report out/tiles trip/a.jpg
  forgepipe report pipeline.yaml --set OUT=out photos/trip/a.jpg
  forgepipe report out/tiles --kind rejected --stage filter --list
  forgepipe report out/tiles --kind failed --list --json > failed.jsonl
  forgepipe report out/tiles --decisions`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return err
			}
			a.begun = true
			place, images := f.split(args)
			return a.interruptible(cmd, func(ctx context.Context) error { return runReport(ctx, a, place, images, f) })
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	fl.StringVar(&f.kind, "kind", "", "only ends of this `KIND`: written, rejected, failed, passed, consumed, unfinished")
	fl.StringVar(&f.stage, "stage", "", "only what ended in the stage with this `ID`")
	fl.BoolVar(&f.list, "list", false, "list everything that ended, a line each")
	fl.BoolVar(&f.decisions, "decisions", false, "list what the governor of memory decided in the last run, a line each")
	return cmd
}

// split separates the place of the store from what else was given.
func (f *storeFlags) split(args []string) (place string, rest []string) {
	switch {
	case f.state != "":
		return ".", args
	case len(args) == 0:
		return ".", nil
	}
	return args[0], args[1:]
}

func (f *reportFlags) check(args []string) error {
	known := slices.Contains(pipeline.EndKinds, pipeline.EndKind(f.kind))
	_, images := f.split(args)
	switch {
	case slices.Contains(images, ""):
		return usagef("without images the whole run is told", "an image has an empty name: is a variable of the shell not set?")
	case f.kind != "" && !known:
		return usagef("", "--kind %q is none of written, rejected, failed, passed, consumed, unfinished", f.kind)
	case f.decisions && (f.list || f.kind != "" || f.stage != "" || len(images) > 0):
		return usagef("", "--decisions lists what the governor decided, and not what became of images: give neither images, --list, --kind nor --stage with it")
	}
	return nil
}

func runReport(ctx context.Context, a *app, place string, images []string, f reportFlags) error {
	dir, err := a.findStore(ctx, place, f.storeFlags, hasStore)
	if err != nil {
		return err
	}
	h, err := pipeline.OpenHistory(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &noStoreError{dir}
	}
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	a.result.set(func(e *envelope) { e.History = &historyJSON{StateDir: fullPath(dir)} })
	r := &report{a, h, f}
	if err := r.knowsStage(ctx); err != nil {
		return err
	}
	switch {
	case f.decisions:
		return r.decisions(ctx)
	case f.list:
		return r.list(ctx, images)
	case len(images) > 0:
		return r.images(ctx, images)
	}
	return r.past(ctx)
}

// report answers from the history.
type report struct {
	*app
	history *pipeline.History
	flags   reportFlags
}

// knowsStage refuses a stage that the last run did not have. Of a run that is not
// through the stages are not all known, and nothing is refused.
func (r *report) knowsStage(ctx context.Context) error {
	id := r.flags.stage
	if id == "" {
		return nil
	}
	last, err := r.history.LastRun(ctx)
	if err != nil || last == nil || last.Summary == nil {
		return err
	}
	counts, err := r.history.Counts(ctx)
	if err != nil {
		return err
	}
	known := []string{"source"}
	for _, st := range last.Summary.Stages {
		known = append(known, st.ID)
	}
	for _, c := range counts { // what the last run did not come to is of the one before
		if c.Stage != "" && !slices.Contains(known, c.Stage) {
			known = append(known, c.Stage)
		}
	}
	if slices.Contains(known, id) {
		return nil
	}
	return usagef("there are "+strings.Join(known, ", "), "--stage %q is no stage of the last run", id)
}

// past tells the last run and what became of everything.
func (r *report) past(ctx context.Context) (err error) {
	var p terminal.Past
	if p.Run, err = r.history.LastRun(ctx); err != nil {
		return err
	}
	if p.Counts, err = r.history.Counts(ctx); err != nil {
		return err
	}
	if p.Causes, err = r.history.Causes(ctx); err != nil {
		return err
	}
	if p.Governed, err = r.history.Governed(ctx); err != nil {
		return err
	}
	f := r.flags
	p.Counts = slices.DeleteFunc(p.Counts, func(c pipeline.EndCount) bool {
		return f.kind != "" && f.kind != string(c.Kind) || f.stage != "" && f.stage != c.Stage
	})
	p.Causes = slices.DeleteFunc(p.Causes, func(c pipeline.CauseCount) bool {
		return f.kind != "" && f.kind != string(pipeline.EndFailed) || f.stage != "" && f.stage != c.Stage
	})
	if r.result.json {
		if p.Governed == nil {
			p.Governed = []pipeline.Governed{}
		}
		r.result.set(func(e *envelope) {
			e.History.LastRun, e.History.Counts, e.History.Causes, e.History.Governed = p.Run, &p.Counts, &p.Causes, &p.Governed
		})
		return nil
	}
	_, err = io.WriteString(r.stdout, terminal.Printable(terminal.History(&p)))
	return err
}

func (r *report) query(image string) pipeline.EndQuery {
	return pipeline.EndQuery{Image: image, Kind: pipeline.EndKind(r.flags.kind), Stage: r.flags.stage}
}

// unknown says which of the images are not known.
func unknown(images []string) error {
	if len(images) == 0 {
		return nil
	}
	return &absentError{
		Err:  fmt.Errorf("%w: %s", pipeline.ErrUnknownImage, strings.Join(images, ", ")),
		Hint: "give its path in the input folder, as report --list shows it, or that of the image it was made of; a folder is known by a file in it that has not changed since the run",
	}
}

// images tells what became of each.
func (r *report) images(ctx context.Context, images []string) error {
	var absent []string
	out := bufio.NewWriter(r.stdout)
	for _, image := range images {
		told := imageJSON{Image: image, Ends: []pipeline.End{}}
		shown := 0
		err := r.history.Ends(ctx, r.query(image), func(e pipeline.End) error {
			switch {
			case !r.result.json:
				shown++
				return line(out, e.String())
			case len(told.Ends) >= mostEnds:
				told.More++
			default:
				told.Ends = append(told.Ends, e)
			}
			return nil
		})
		switch {
		case errors.Is(err, pipeline.ErrUnknownImage):
			absent = append(absent, image)
			continue
		case err != nil:
			return errors.Join(err, out.Flush())
		case r.result.json:
			r.result.set(func(e *envelope) { e.History.Images = append(e.History.Images, told) })
		case shown == 0:
			if err := line(out, image+": nothing of it ended so"); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return unknown(absent)
}

// line writes one, whatever is in it.
func line(w io.Writer, text string) error {
	_, err := io.WriteString(w, terminal.Printable(strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    "))+"\n")
	return err
}

// list lists every end, of some images or of all.
func (r *report) list(ctx context.Context, images []string) error {
	out := bufio.NewWriter(r.stdout)
	var n int64
	var absent []string
	if len(images) == 0 {
		images = []string{""}
	}
	for _, image := range images {
		err := r.history.Ends(ctx, r.query(image), func(e pipeline.End) error {
			n++
			text, _, _ := strings.Cut(e.String(), "\n")
			return r.entry(out, e, text)
		})
		if errors.Is(err, pipeline.ErrUnknownImage) {
			absent = append(absent, image)
			continue
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	r.result.set(func(e *envelope) { e.History.Listed = &n })
	if err := out.Flush(); err != nil {
		return err
	}
	return unknown(absent)
}

// entry writes an entry of a list: a line for people, or for programs.
func (r *report) entry(out *bufio.Writer, entry any, text string) error {
	if !r.result.json {
		return line(out, text)
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(entry)
}

// decisions lists what the governor decided.
func (r *report) decisions(ctx context.Context) error {
	out := bufio.NewWriter(r.stdout)
	var n int64
	err := r.history.Decisions(ctx, func(d pipeline.GovernorDecision) error {
		n++
		return r.entry(out, d, d.Time.Local().Format("15:04:05.000")+"  "+d.Text)
	})
	r.result.set(func(e *envelope) { e.History.Listed = &n })
	return errors.Join(err, out.Flush())
}
