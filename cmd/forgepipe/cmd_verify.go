package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/pipeline"
)

// storeFlags are the flags that find a run store.
type storeFlags struct {
	set   []string
	state string
}

func (f *storeFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`")
	fl.StringVar(&f.state, "state", "", "`FOLDER` of the run store, where it is not beside the outputs")
}

func newVerifyCommand(a *app) *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "verify [PIPELINE.yaml | FOLDER]",
		Short: "Compare outputs with what was written",
		Long: `Read every file that runs have written and compare it with the hash in the run
store. Nothing is changed. The store is found from the pipeline, from the output
folder (the working directory when nothing is given), or with --state.

The exit code is 0 when all is right, 1 when files are missing or changed, and 2
when there is no run store.`,
		Example: `  forgepipe verify out/tiles
  forgepipe verify pipeline.yaml --set OUT=out/tiles`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			place, _ := f.split(args)
			return a.interruptible(cmd, func(ctx context.Context) error { return runVerify(ctx, a, place, f) })
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func runVerify(ctx context.Context, a *app, place string, f storeFlags) error {
	dir, err := a.findStore(ctx, place, f, hasStore)
	if err != nil {
		return err
	}
	rep, err := pipeline.Verify(ctx, dir, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return &noStoreError{dir}
	}
	if err != nil {
		return err
	}
	a.result.set(func(e *envelope) { e.Verified = rep })
	for _, fault := range rep.Faults {
		a.screen.Printf("%s", fault)
	}
	if more := rep.Missing + rep.Changed - int64(len(rep.Faults)); more > 0 {
		a.screen.Printf("and %d more", more)
	}
	a.screen.Printf("%d files: %d right, %d missing, %d changed (run store %s)", rep.Files, rep.Right, rep.Missing, rep.Changed, dir)
	if rep.Missing+rep.Changed > 0 {
		return &faultsError{rep.Missing, rep.Changed}
	}
	return nil
}

// findStore is the state directory that is meant: the first that has what is wanted
// most, otherwise the first that has the next best.
func (a *app) findStore(ctx context.Context, place string, f storeFlags, wanted ...func(dir string) bool) (string, error) {
	dirs, err := a.stateDirs(ctx, place, f)
	if err != nil {
		return "", err
	}
	for _, has := range wanted {
		if i := slices.IndexFunc(dirs, has); i >= 0 {
			return dirs[i], nil
		}
	}
	return "", &noStoreError{dirs[len(dirs)-1]}
}

// stateDirs are the state directories that may be meant, the most likely first.
func (a *app) stateDirs(ctx context.Context, place string, f storeFlags) ([]string, error) {
	if f.state != "" {
		return []string{f.state}, nil
	}
	info, err := os.Stat(place)
	if err == nil && info.IsDir() {
		return []string{filepath.Join(place, ".forgepipe"), place}, nil
	}
	if errors.Is(err, fs.ErrNotExist) && place != "-" {
		hint := ""
		if isDir(".forgepipe") {
			hint = "the place of the run store comes first: put . before it for the output folder that you are in"
		}
		return nil, usagef(hint, "there is no pipeline file or output folder %s", place)
	}
	p, err := a.look(ctx, place, f.set, a.screen.Logger(warnings(false)))
	ending := strings.TrimPrefix(filepath.Ext(place), ".")
	switch {
	case errors.As(err, new(*pipeline.SpecError)) && place != "-" && !slices.Contains(pipelineEndings, ending): // an image, most likely
		return nil, usagef("the place of the run store comes first: the output folder, or the pipeline", "%s is no pipeline file", place)
	case err != nil:
		return nil, err
	}
	dir := p.StateDir()
	if dir == "" {
		return nil, usagef("", "the pipeline %s writes nothing, so it has no run store", place)
	}
	return []string{dir}, nil
}

func hasStore(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "run.db"))
	return err == nil
}

// fullPath is a path as programs are told it: one that holds wherever they are.
func fullPath(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
