package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/stages/compare"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
)

type compareFlags struct {
	compare.Options
	format, layout, transition string
	region                     string
	lpips                      []string
	lpipsSize                  int
}

// comparisonJSON is what compare tells programs.
type comparisonJSON struct {
	Before string          `json:"before"`
	After  string          `json:"after"`
	Out    string          `json:"out,omitempty"`
	Report *compare.Report `json:"counts,omitempty"` // of two folders
	// Results are the first, and More how many others. Of those that are identical or
	// were only matched there are none.
	Results []compare.Result `json:"results"`
	More    int64            `json:"more,omitempty"`
}

// differError says that two folders do not hold the same names, or that files were left
// alone that should have been written.
type differError struct{ OnlyBefore, OnlyAfter, Kept int64 }

func (e *differError) Error() string {
	var why []string
	if e.OnlyBefore+e.OnlyAfter > 0 {
		why = append(why, fmt.Sprintf("images are only in one of the folders: %d in the first, %d in the second", e.OnlyBefore, e.OnlyAfter))
	}
	if e.Kept > 0 {
		why = append(why, fmt.Sprintf("sheets that were not drawn, since a file has their name already: %d", e.Kept))
	}
	return strings.Join(why, "; ")
}

func (e *differError) code() string {
	if e.OnlyBefore+e.OnlyAfter > 0 {
		return "differ"
	}
	return "taken"
}

func (e *differError) hint() string {
	if e.Kept > 0 {
		return giveOverwrite
	}
	return ""
}

// takenError says that a file is there that would have been written.
type takenError struct{ error }

func (e *takenError) Unwrap() error { return e.error }

const giveOverwrite = "give --overwrite to replace what is there, or another name with --out"

func newCompareCommand(a *app) *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare BEFORE AFTER",
		Short: "Compare two pictures or two folders, and draw what differs",
		Long: `Compare two pictures, or the pictures of two folders: the PSNR in dB, the mean and
the largest of the absolute differences in levels from 0 to 255. With --out, draw a
sheet (png) or an animation (gif, webp) of the two, or of each pair a file into a
folder. forgepipe describe compare tells what these show; in a pipeline, the stage
compare draws the same.

In folders, files belong together that have the same path without its extension.
Those that are only in one of the folders are listed, and of the others whether
their files are identical, their pictures equal (what looks the same, in other
files), or different. --list compares names only.

--lpips adds the perceptual distance LPIPS (v0.1) of whole pictures, 0 for none. Of
pictures at their own size it takes about 2 kB of memory a pixel, so that larger ones
than 2 megapixels want --lpips-size. forgepipe models fetch lpips-vgg vgg16 brings its
network.

Nothing is written over without --overwrite, and sheets of folders are never written
into these folders. A file that cannot be read is named, and the rest goes on.

The exit code is 0, however much pictures differ. Of folders it is 1 when an image is
only in one of them, or a file was left alone, and 4 when something could not be read;
of two pictures it is 1 when one could not be read, or --out is there already.`,
		Example: `  forgepipe compare lq/a.png hq/a.png
  forgepipe compare lq/a.png hq/a.png --out a.png
  forgepipe compare lq/a.png hq/a.png --out a.gif --transition wipe --max-side 480
  forgepipe compare lq hq --out sheets --layout side --region 256,256,96,96
  forgepipe compare lq hq --lpips lpips-vgg --lpips-size 512
  forgepipe compare DIV2K_train_LR_bicubic/X4 DIV2K_train_HR --suffix x4 --list`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("see forgepipe compare --help", "compare wants two pictures or two folders")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runCompare(ctx, a, cmd.Flags(), args[0], args[1], f) })
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.Out, "out", "o", "", "draw into this `FILE`, or of folders into this folder")
	fl.StringVar(&f.format, "format", "png", "of the files that are drawn of folders: "+strings.Join(sheet.Formats, ", ")+"; a single file's is its extension")
	fl.StringVar(&f.layout, "layout", "sheet", "what a png shows: "+strings.Join(sheet.Layouts, ", "))
	fl.Float64Var(&f.Sheet.Position, "position", 0.5, "where the line of split is, as a share of the width")
	fl.BoolVar(&f.Sheet.NoLabels, "no-labels", false, "write nothing above pictures")
	fl.StringVar(&f.Sheet.Filter, "filter", "nearest", "enlarge the smaller picture with this filter, as in the stage resize")
	fl.StringVar(&f.region, "region", "", "compare only `X,Y,WIDTH,HEIGHT`, in pixels of the larger picture")
	fl.IntVar(&f.Sheet.MaxSide, "max-side", 1024, "draw pictures with at most so many `PIXELS` a side")
	fl.StringVar(&f.transition, "transition", "fade", "how an animation goes on: "+strings.Join(sheet.Transitions, ", "))
	fl.Float64Var(&f.Sheet.Seconds, "seconds", 2, "how long an animation takes, there and back")
	fl.Float64Var(&f.Sheet.FPS, "fps", 30, "frames of an animation in a second")
	fl.Float64Var(&f.Sheet.Speed, "speed", 1, "play an animation so many times as fast")
	fl.StringSliceVar(&f.lpips, "lpips", nil, "measure the perceptual distance LPIPS with this `MODEL` too: lpips-vgg or lpips-alex of the store, a file, or two, of the network and of its linear layers")
	fl.IntVar(&f.lpipsSize, "lpips-size", 0, "squash pictures to so many `PIXELS` a side for it; without it, the smaller comes to the size of the larger")
	fl.BoolVar(&f.Overwrite, "overwrite", false, "replace files that are there")
	fl.BoolVar(&f.List, "list", false, "of folders, only say what is in one and not in the other, and open no picture")
	fl.StringVar(&f.Suffix, "suffix", "", "names of one folder end in `TEXT` before the extension, as 0001x4.png in x4")
	return cmd
}

// drawing are the flags about what is drawn, and for which formats.
var drawing = []struct {
	flag    string
	formats []string // nil: all
}{
	{"layout", []string{"png"}}, {"position", []string{"png"}}, {"no-labels", nil}, {"max-side", nil},
	{"transition", []string{"gif", "webp"}}, {"seconds", []string{"gif", "webp"}}, {"fps", []string{"gif", "webp"}}, {"speed", []string{"gif", "webp"}},
	{"overwrite", nil}, {"format", nil},
}

func (f *compareFlags) check(fl *pflag.FlagSet, folders bool) error {
	if fl.Changed("out") && f.Out == "" {
		return usagef("for example --out sheet.png", "--out wants a file, or of folders a folder")
	}
	if f.Out != "" && !folders {
		ext := strings.ToLower(strings.TrimPrefix(filepath.Ext(f.Out), "."))
		if !slices.Contains(sheet.Formats, ext) {
			return usagef("", "the extension of --out %s says nothing that can be drawn: use .%s", f.Out, strings.Join(sheet.Formats, ", ."))
		}
		f.format = ext
	}
	for _, d := range drawing {
		switch {
		case !fl.Changed(d.flag):
		case f.Out == "":
			return usagef("for example --out sheets", "--%s is about what is drawn, and without --out nothing is", d.flag)
		case d.formats != nil && !slices.Contains(d.formats, f.format):
			return usagef("", "--%s has no meaning for %s: it is for %s", d.flag, f.format, strings.Join(d.formats, " and "))
		}
	}
	switch {
	case fl.Changed("format") && !folders:
		return usagef("", "the format of one file is that of its extension: --format is for folders")
	case f.List && f.Out != "":
		return usagef("", "--list opens no picture, so that nothing can be drawn: give it without --out")
	case f.List && (fl.Changed("region") || fl.Changed("filter")):
		return usagef("", "--list opens no picture: --region and --filter have no meaning with it")
	case len(f.lpips) > 0 && (f.List || fl.Changed("region")):
		return usagef("", "--lpips measures whole pictures: give it without --list and --region")
	case fl.Changed("lpips-size") && len(f.lpips) == 0:
		return usagef("for example --lpips lpips-vgg", "--lpips-size is the size for --lpips, which is not given")
	case fl.Changed("lpips-size") && f.lpipsSize < lpips.Least:
		return usagef("", "--lpips-size must be at least %d", lpips.Least)
	case (f.List || f.Suffix != "") && !folders:
		return usagef("", "--list and --suffix are for folders")
	case f.layoutLacks(fl):
		return usagef("", "the layout %s has no line: --position is for sheet and split", f.layout)
	}
	f.Sheet.Format, f.Sheet.Layout, f.Sheet.Transition = sheet.Format(f.format), sheet.Layout(f.layout), sheet.Transition(f.transition)
	for _, zero := range []string{"max-side", "position", "seconds", "fps", "speed"} { // which would be the default
		if v, err := strconv.ParseFloat(fl.Lookup(zero).Value.String(), 64); err == nil && v == 0 {
			return usagef("", "--%s must not be 0", zero)
		}
	}
	if f.region != "" {
		r, err := sheet.ParseRegion(f.region)
		if err != nil {
			return &usageError{Err: err}
		}
		f.Sheet.Region = r
	}
	if f.Sheet.Format == sheet.WebP {
		if _, err := imageio.WebPLibrary(); err != nil {
			return &environmentError{Err: err, Hint: "see forgepipe doctor"}
		}
	}
	if err := f.Sheet.Check(); err != nil {
		return &usageError{Err: err}
	}
	return nil
}

func (f *compareFlags) layoutLacks(fl *pflag.FlagSet) bool {
	return fl.Changed("position") && f.layout != string(sheet.All) && f.layout != string(sheet.Split)
}

func runCompare(ctx context.Context, a *app, fl *pflag.FlagSet, before, after string, f compareFlags) error {
	for _, path := range []string{before, after} {
		if _, err := os.Stat(path); err != nil {
			return usagef("", "looking at what is to be compared: %w", err)
		}
	}
	folders := isDir(before) || isDir(after)
	if err := f.check(fl, folders); err != nil {
		return err
	}
	if len(f.lpips) > 0 {
		d, err := openLPIPS(ctx, f)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }() // everything has been measured
		f.LPIPS = d
	}
	out := &comparisonJSON{Before: before, After: after, Out: f.Out, Results: []compare.Result{}}
	a.result.set(func(e *envelope) { e.Comparison = out })
	var err error
	if folders {
		err = a.compareFolders(ctx, before, after, f, out)
	} else {
		err = a.compareFiles(ctx, before, after, f, out)
	}
	if wrong := (*compare.OptionError)(nil); errors.As(err, &wrong) {
		return &usageError{Err: err}
	}
	return err
}

// openLPIPS loads the network of --lpips.
func openLPIPS(ctx context.Context, f compareFlags) (*lpips.Distance, error) {
	files, err := lpips.Find(f.lpips...)
	if errors.Is(err, store.ErrMissing) {
		return nil, &environmentError{Err: fmt.Errorf("finding the network of --lpips: %w", err)}
	}
	if err != nil {
		return nil, usagef("", "finding the network of --lpips: %w", err)
	}
	if _, err := model.OpenRuntime(""); err != nil {
		return nil, &environmentError{Err: err, Hint: "see forgepipe doctor"}
	}
	d, err := lpips.Open(ctx, lpips.Options{Size: f.lpipsSize}, files...)
	if err != nil {
		return nil, usagef("", "opening the network of --lpips: %w", err)
	}
	return d, nil
}

func (a *app) compareFiles(ctx context.Context, before, after string, f compareFlags, out *comparisonJSON) error {
	r, err := compare.Files(ctx, before, after, f.Options)
	if errors.Is(err, compare.ErrExists) {
		return &takenError{err}
	}
	if err != nil {
		return err
	}
	a.result.set(func(*envelope) { out.Results = append(out.Results, r) })
	if !a.result.json {
		fmt.Fprintln(a.stdout, stateWords[r.State]+aboutDifference(r))
	}
	if r.Output != "" {
		a.screen.Printf("written to %s", r.Output)
	}
	return nil
}

// stateWords are how states are called in the list of files.
var stateWords = map[compare.State]string{
	compare.Identical: "identical files", compare.Equal: "equal pictures", compare.Different: "different",
}

func aboutDifference(r compare.Result) string {
	if r.Max == nil {
		return ""
	}
	text := ""
	if r.PSNR != nil {
		text = ", " + sheet.Difference{PSNR: *r.PSNR, Mean: *r.Mean, Max: *r.Max}.String()
	}
	if r.LPIPS != nil {
		text += fmt.Sprintf(", LPIPS %.4f", *r.LPIPS)
	}
	if r.Enlarged {
		text += ", the smaller one enlarged"
	}
	return text
}

func (a *app) compareFolders(ctx context.Context, before, after string, f compareFlags, out *comparisonJSON) error {
	p := &comparing{app: a, out: out, shown: time.Now()}
	f.OnResult = p.result
	report, err := compare.Folders(ctx, before, after, f.Options)
	a.screen.Draw(nil)
	if report == nil {
		return err
	}
	a.result.set(func(*envelope) { out.Report = report })
	if !a.result.json {
		fmt.Fprintln(a.stdout, aboutReport(report, f))
	}
	switch {
	case err != nil:
		return err
	case p.err != nil:
		return p.err
	case report.Failed > 0:
		return errQuarantined
	case report.OnlyBefore+report.OnlyAfter+report.Kept > 0:
		return &differError{report.OnlyBefore, report.OnlyAfter, report.Kept}
	}
	return nil
}

// comparing shows results as they come, and how far the work is.
type comparing struct {
	*app
	out    *comparisonJSON
	report int64
	shown  time.Time // when it was last shown how far the work is
	err    error     // of standard output
}

func (p *comparing) result(r compare.Result) {
	p.report++
	if r.State != compare.Identical && r.State != compare.Unseen {
		p.app.result.set(func(*envelope) {
			if len(p.out.Results) < mostFiles {
				p.out.Results = append(p.out.Results, r)
			} else {
				p.out.More++
			}
		})
		p.line(r)
	}
	every := 10 * time.Second // as in a run
	if p.screen.Live() {
		every = 200 * time.Millisecond
	}
	if now := time.Now(); now.Sub(p.shown) >= every {
		p.shown = now
		text := fmt.Sprintf("%d compared, now at %s", p.report, r.Name)
		if p.screen.Live() {
			p.screen.Draw([]string{text})
		} else {
			p.screen.Printf("%s", text)
		}
	}
}

// line prints a result. What is drawn in place must not be in its way.
func (p *comparing) line(r compare.Result) {
	if p.app.result.json || p.err != nil {
		return
	}
	if p.screen.Live() {
		p.screen.Draw(nil)
	}
	text := ""
	switch r.State {
	case compare.OnlyBefore:
		text = "only before  " + r.Before
	case compare.OnlyAfter:
		text = "only after   " + r.After
	case compare.Equal:
		text = "equal        " + r.Name
	case compare.Different:
		text = "different    " + r.Name + strings.Replace(aboutDifference(r), ", ", ": ", 1)
	case compare.Failed:
		text = "failed       " + r.Name + ": " + r.Fault
	}
	_, p.err = io.WriteString(p.stdout, terminal.Printable(text)+"\n")
}

// aboutReport is the last line.
func aboutReport(r *compare.Report, f compareFlags) string {
	text := fmt.Sprintf("%d pairs", r.Pairs)
	if !f.List {
		text += fmt.Sprintf(": %d identical, %d equal, %d different", r.Identical, r.Equal, r.Different)
	}
	text += fmt.Sprintf("; %d only before, %d only after", r.OnlyBefore, r.OnlyAfter)
	for _, part := range []struct {
		n    int64
		what string
	}{
		{r.Failed, "failed"}, {r.Drawn, "drawn into " + f.Out}, {r.Kept, "left alone, since a file was there"}, {r.Ignored, "ignored (no images)"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf("; %d %s", part.n, part.what)
		}
	}
	return text
}
