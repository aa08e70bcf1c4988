package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sourcegraph/conc/pool"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
	"github.com/forgepipe/forgepipe/stages/internal/files"
)

// A State says what became of a comparison.
type State string

// The states.
const (
	Identical  State = "identical"   // the files have the same bytes
	Equal      State = "equal"       // the files differ, and their pictures have the same size and look the same
	Different  State = "different"   // the pictures differ
	OnlyBefore State = "only_before" // there is no counterpart after
	OnlyAfter  State = "only_after"  // there is no counterpart before
	Failed     State = "failed"      // it could not be compared, or not be drawn
	Unseen     State = "matched"     // there are two, which were not looked at (Options.List)
)

// A Result is what a comparison of two files found, or of one without a counterpart.
// Names are percent-encoded where they have characters that cannot be shown, as the
// IDs of items are.
type Result struct {
	Name  string `json:"name"`  // what the two have in common
	State State  `json:"state"` // what became of it
	// Before and After are the files, relative to their folders.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// PSNR is in dB, Mean and Max are the mean and the largest absolute difference in
	// levels from 0 to 255: see sheet.Difference. They are nil where nothing was
	// measured, and PSNR also where there is no difference.
	PSNR     *float64 `json:"psnr,omitempty"`
	Mean     *float64 `json:"mean,omitempty"`
	Max      *float64 `json:"max,omitempty"`
	Enlarged bool     `json:"enlarged,omitempty"` // the sizes differ
	LPIPS    *float64 `json:"lpips,omitempty"`    // the distance that Options.LPIPS measured
	// Output is the file that was drawn, relative to Options.Out. Kept says that a file
	// was there already, and was left alone.
	Output string `json:"output,omitempty"`
	Kept   bool   `json:"kept,omitempty"`
	Fault  string `json:"fault,omitempty"` // why it failed
}

// Options say how files are compared.
type Options struct {
	Sheet sheet.Options // how they are shown; Region and Filter also count for what is measured
	// LPIPS measures that distance too, of whole pictures that are not the same; nil: it
	// is not measured. The caller closes it.
	LPIPS *lpips.Distance
	// Out is where sheets are written: for Folders a folder, which is made where it is
	// missing, for Files a file. Nothing is drawn where it is empty.
	Out       string
	Overwrite bool // replace files that are there

	// Those of Folders:

	// List says that only names are compared, and no picture is opened.
	List bool
	// Suffix is an ending that the names of one folder have before the extension, as
	// x4 in 0001x4.png. It is left out of account wherever it is.
	Suffix string
	// OnResult is called for each result, in the order of names, by one goroutine. It
	// must not block for long: the work waits.
	OnResult func(Result)

	Workers int             // that compare at once; 0: one for each core
	Memory  int64           // bytes for files and pictures; 0: 60% of the machine's or the container's
	Limits  pipeline.Limits // of files
}

// A Report counts results.
type Report struct {
	Pairs int64 `json:"pairs"` // of files that belong together, those that failed included
	// Results by their State: Identical, Equal, Different, OnlyBefore, OnlyAfter, Failed.
	Identical  int64 `json:"identical"`
	Equal      int64 `json:"equal"`
	Different  int64 `json:"different"`
	OnlyBefore int64 `json:"only_before"`
	OnlyAfter  int64 `json:"only_after"`
	Failed     int64 `json:"failed"`
	Drawn      int64 `json:"drawn"`   // files that were written
	Kept       int64 `json:"kept"`    // files that were there already, and were left alone
	Ignored    int64 `json:"ignored"` // files that are no images, hidden ones, links to folders
}

func (r *Report) add(x Result) {
	if x.State == Unseen || x.Before != "" && x.After != "" {
		r.Pairs++
	}
	switch x.State {
	case Identical:
		r.Identical++
	case Equal:
		r.Equal++
	case Different:
		r.Different++
	case OnlyBefore:
		r.OnlyBefore++
	case OnlyAfter:
		r.OnlyAfter++
	case Failed:
		r.Failed++
	}
	switch {
	case x.Kept:
		r.Kept++
	case x.Output != "":
		r.Drawn++
	}
}

// An OptionError says that what is to be compared, or where to write, is wrong: Err.
type OptionError struct{ Err error }

func (e *OptionError) Error() string { return e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

func wrong(format string, args ...any) error { return &OptionError{fmt.Errorf(format, args...)} }

// comparer is what the comparisons of a call share.
type comparer struct {
	Options
	ledger *memory.Ledger
	root   fsys.Root // of Out; nil: nothing is drawn
}

// Folders compares the images of two folders, those below included. Files belong
// together that have the same path without its extension; of several of one stem, those
// with the same extension. With Out, a sheet of each pair is written there, with the
// tree kept. A file that cannot be read is a result, and the rest goes on.
//
// The error is an *OptionError where there is nothing to compare or Out has no good
// place; otherwise it is for what makes the rest pointless, such as a full disk, and
// comes with the report of what was done until then.
func Folders(ctx context.Context, before, after string, o Options) (*Report, error) {
	c, err := newComparer(o)
	if err != nil {
		return nil, err
	}
	if err := folders(before, after); err != nil {
		return nil, err
	}
	if o.Out != "" {
		for _, in := range []string{before, after} {
			if inside(in, o.Out) || inside(o.Out, in) {
				return nil, wrong("%s and %s lie in each other: write the sheets to another folder", o.Out, in)
			}
		}
		done, err := c.openOut(o.Out)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	r := &Report{}
	err = c.all(ctx, before, after, r)
	return r, err
}

func newComparer(o Options) (*comparer, error) {
	if err := o.Sheet.Check(); err != nil {
		return nil, err
	}
	if o.LPIPS != nil && !o.Sheet.Region.Empty() {
		return nil, wrong("LPIPS is measured of whole pictures: give no region with it")
	}
	o.Sheet = o.Sheet.WithDefaults()
	if o.Workers < 1 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		m, err := memory.Host{}.Memory()
		if err != nil {
			return nil, err
		}
		o.Memory = m.Total * 60 / 100
	}
	o.Limits = o.Limits.WithDefaults()
	return &comparer{Options: o, ledger: memory.NewLedger("host", o.Memory)}, nil
}

// folders refuses what are no two folders.
func folders(before, after string) error {
	infos := [2]os.FileInfo{}
	for i, dir := range []string{before, after} {
		info, err := os.Stat(dir)
		if err != nil {
			return wrong("looking at what is to be compared: %w", err)
		}
		if !info.IsDir() {
			return wrong("%s is no folder, and the other one is", dir)
		}
		infos[i] = info
	}
	if os.SameFile(infos[0], infos[1]) {
		return wrong("%s and %s are the same folder", before, after)
	}
	return nil
}

// inside reports whether a path leads into a folder, or is it.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(real(dir), real(path))
	return err == nil && filepath.IsLocal(rel)
}

// real is a path without links, as far as it exists.
func real(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if r, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(r, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// errPanic ends everything where a comparison has panicked.
var errPanic = errors.New("a comparison panicked")

// all compares everything. Results come in the order of the walk, whoever is ready
// first, since each has its place in a line of those that are awaited.
func (c *comparer) all(ctx context.Context, before, after string, r *Report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	line := make(chan chan Result, 4*c.Workers)
	work := pool.New().WithMaxGoroutines(c.Workers + 1) // and the walk
	w := &walk{before: &files.Tree{Root: before}, after: &files.Tree{Root: after}, suffix: c.Suffix}
	w.visit = func(m match) error {
		place := make(chan Result, 1)
		select {
		case line <- place:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if res, done := c.unseen(m); done {
			place <- res
			return nil
		}
		work.Go(func() {
			cause := errPanic // which Wait passes on
			defer func() {
				if cause != nil {
					cancel(cause)
				}
				close(place)
			}()
			var res Result
			res, cause = c.pair(ctx, w.before.Path(m.before), w.after.Path(m.after), m)
			place <- res
		})
		return nil
	}
	work.Go(func() {
		defer close(line)
		if err := w.folder(ctx, "", true, true); err != nil {
			cancel(err)
		}
	})
	for place := range line {
		res := <-place
		if ctx.Err() != nil {
			continue // what an interruption left of it is no result
		}
		r.add(res)
		if c.OnResult != nil {
			c.OnResult(res)
		}
	}
	work.Wait()
	r.Ignored = w.ignored
	return context.Cause(ctx)
}

// unseen is the result of what needs no look at pictures.
func (c *comparer) unseen(m match) (Result, bool) {
	res := Result{Name: pipeline.EscapeID(m.name), Before: pipeline.EscapeID(m.before), After: pipeline.EscapeID(m.after)}
	switch {
	case m.fault != nil:
		res.State, res.Fault = Failed, m.fault.Error()
	case m.after == "":
		res.State = OnlyBefore
	case m.before == "":
		res.State = OnlyAfter
	case c.List:
		res.State = Unseen
	default:
		return res, false
	}
	return res, true
}

// pair compares two files. The error is for what ends everything.
func (c *comparer) pair(ctx context.Context, before, after string, m match) (Result, error) {
	res := Result{Name: pipeline.EscapeID(m.name), Before: pipeline.EscapeID(m.before), After: pipeline.EscapeID(m.after)}
	output := m.name + "." + string(c.Sheet.Format)
	err := c.look(ctx, before, after, &res, output)
	if errors.As(err, new(*writeError)) && fsys.IsFatal(err) {
		return res, err
	}
	if err != nil {
		res.State, res.Fault = Failed, err.Error()
	}
	return res, nil
}

// A writeError is one of the output.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// look compares two files, and draws them.
func (c *comparer) look(ctx context.Context, before, after string, res *Result, output string) error {
	a, b, done, err := c.open(ctx, before, after)
	if err != nil {
		return err
	}
	defer done()
	same := bytes.Equal(a.data, b.data)
	if same {
		res.State = Identical
		if c.root == nil {
			return nil
		}
	}
	names := distinct(before, after)
	var pictures [2]sheet.Picture
	for i, f := range []*file{a, b} {
		img, err := imageio.Decode(f.data, f.header, c.Limits)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, plainLimit(err))
		}
		pictures[i] = sheet.Picture{Name: names[i], Image: img, ICC: imageio.ICCProfile(f.data)}
		if !same { // otherwise the other one has them too
			f.data = nil
		}
	}
	if c.LPIPS != nil && !same {
		v, err := c.LPIPS.Of(ctx, pictures[0].Image, pictures[1].Image)
		if err != nil {
			return err
		}
		res.LPIPS = &v
		pictures[1].Figures = []string{fmt.Sprintf("%s %.4f", c.LPIPS.Name(), v)}
	}
	var d sheet.Difference
	var encode func(w io.Writer) (err error)
	if c.root != nil {
		encode = func(w io.Writer) (err error) {
			d, err = sheet.Encode(ctx, w, pictures[0], pictures[1], c.Sheet)
			return err
		}
		if _, err := c.root.Lstat(output); err == nil && !c.Overwrite {
			res.Kept, encode = true, nil
		}
		res.Output = pipeline.EscapeID(output)
	}
	if encode == nil {
		d, err = sheet.Compare(ctx, pictures[0].Image, pictures[1].Image, c.Sheet)
	} else {
		err = c.write(output, encode)
	}
	if err != nil {
		res.Output = ""
		return err
	}
	res.Mean, res.Max, res.Enlarged = &d.Mean, &d.Max, d.Enlarged
	if !math.IsInf(d.PSNR, 0) {
		res.PSNR = &d.PSNR
	}
	switch {
	case same:
	case d.Equal():
		res.State = Equal
	default:
		res.State = Different
	}
	return nil
}

// distinct are two files as they are named above their pictures: by what their paths do
// not have in common at the beginning.
func distinct(before, after string) [2]string {
	a, b := strings.Split(before, "/"), strings.Split(after, "/")
	for len(a) > 1 && len(b) > 1 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	return [2]string{strings.Join(a, "/"), strings.Join(b, "/")}
}
