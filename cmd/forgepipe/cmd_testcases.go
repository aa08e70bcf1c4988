package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

type testFlags struct {
	set     []string
	run     string
	verbose bool
}

func newTestCommand(a *app) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run the test cases of pipelines",
		Long: `Run the test cases of pipelines. The cases of NAME.yaml stand in NAME.test.yaml
beside it: which inputs, and what is to become of them. A file of cases, its
pipeline, or a folder may be given; of a folder, all *.test.yaml below it are run.
All of these files may end in .yml too.

Each case runs its pipeline with its own inputs into a folder for temporary files,
which is removed afterwards: output folders, run stores and caches are not touched.
Relative paths in a file of cases are relative to that file.

Exit codes: 0 all cases are ok; 1 a case fails; 2 the files or the arguments are
wrong; 3 the machine lacks something; 130 interrupted.`,
		Example: `  forgepipe test pipelines/quickstart.test.yaml
  forgepipe test pipelines --run tile
  forgepipe test pipelines --json > result.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("see forgepipe test --help", "test wants files of cases, pipelines or folders")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runTest(ctx, a, args, f) })
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.set, "set", nil, "give a variable of the pipelines a value: `NAME=VALUE`; what a case sets comes first")
	fl.StringVar(&f.run, "run", "", "run only cases whose name matches the regular expression `REGEX`")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "print how every item ended, with its attributes")
	return cmd
}

func runTest(ctx context.Context, a *app, args []string, f testFlags) error {
	wanted, err := regexp.Compile(f.run)
	if err != nil {
		return usagef("", "--run %q is no regular expression: %w", f.run, err)
	}
	files, err := caseFiles(args)
	if err != nil {
		return err
	}
	vars, err := parseSet(f.set)
	if err != nil {
		return err
	}
	gpus := findGPUs()
	defer gpus.close()
	log := a.screen.Logger(warnings(false))
	devices, err := gpus.or(nil, log)
	if err != nil {
		return err
	}
	cases, err := a.loadAllCases(ctx, files, vars, devices, log)
	if err != nil {
		return err
	}
	cases = slices.DeleteFunc(cases, func(c *pipeline.Case) bool { return !wanted.MatchString(c.Name) })
	if len(cases) == 0 {
		return usagef("", "no case has a name that --run %q matches", f.run)
	}
	return a.runCases(ctx, cases, f.verbose, log)
}

// loadAllCases reads all files before any case runs, and tells of all problems.
func (a *app) loadAllCases(ctx context.Context, files []string, vars map[string]string, devices []memory.Device, log *slog.Logger) (all []*pipeline.Case, _ error) {
	var problems []pipeline.Problem
	for _, file := range files {
		cases, err := a.loadCases(ctx, file, vars, devices, log)
		var spec *pipeline.SpecError
		switch {
		case errors.As(err, &spec):
			problems = append(problems, spec.Problems...)
		case err != nil:
			return nil, err
		}
		all = append(all, cases...)
	}
	if len(problems) > 0 {
		return nil, &pipeline.SpecError{Problems: problems}
	}
	return all, nil
}

// loadCases reads a file of cases and checks them against their pipeline.
func (a *app) loadCases(ctx context.Context, file string, vars map[string]string, devices []memory.Device, log *slog.Logger) ([]*pipeline.Case, error) {
	cases, err := pipeline.LoadCases(ctx, file, pipeline.Options{
		Registry: a.registry, Vars: pipeline.Vars{Set: vars, Env: os.LookupEnv}, Devices: devices, Logger: log,
	})
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*pipeline.SpecError)) {
		err = usagef("", "%w", err)
	}
	return cases, err
}

func (a *app) runCases(ctx context.Context, cases []*pipeline.Case, verbose bool, log *slog.Logger) error {
	temp, err := os.MkdirTemp("", "forgepipe-cases-")
	if err != nil {
		return fmt.Errorf("making a folder for temporary files: %w", err)
	}
	remove := a.release(func() {
		if err := os.RemoveAll(temp); err != nil {
			log.Warn("temporary files are left", "cause", err)
		}
	})
	defer remove()
	results := []*pipeline.CaseResult{}
	a.result.set(func(e *envelope) { e.Cases = &results })
	failed := 0
	for i, c := range cases {
		dir := filepath.Join(temp, fmt.Sprint(i))
		r, err := c.Run(ctx, dir)
		if err != nil {
			return err
		}
		a.result.set(func(*envelope) { results = append(results, r) })
		if !r.OK {
			failed++
		}
		a.tellCase(r, verbose)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing what the case %q wrote: %w", c.Name, err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s failed", failed, terminal.Counted(int64(len(cases)), "case"))
	}
	a.screen.Printf("%s ok", terminal.Counted(int64(len(cases)), "case"))
	return nil
}

// tellCase says how a case ended, to people.
func (a *app) tellCase(r *pipeline.CaseResult, verbose bool) {
	word := "ok  "
	if !r.OK {
		word = "FAIL"
	}
	a.screen.Printf("%s  %s: %s (%.1f s)", word, r.File, r.Name, r.Seconds)
	indented := func(text string) {
		for line := range strings.SplitSeq(text, "\n") {
			a.screen.Printf("      %s", line)
		}
	}
	for _, f := range r.Failures {
		indented(f.String())
	}
	if verbose {
		for _, it := range r.Items {
			indented(it.String())
		}
	}
}

// caseFiles are the files of cases that the arguments mean, each once.
func caseFiles(args []string) (files []string, err error) {
	add := func(file string) {
		if file = filepath.Clean(file); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, arg := range args {
		info, err := os.Stat(arg)
		switch {
		case err != nil:
			return nil, usagef("", "looking for cases: %w", err)
		case info.IsDir():
			found, err := findCases(arg)
			if err != nil {
				return nil, err
			}
			for _, file := range found {
				add(file)
			}
			if len(found) == 0 {
				return nil, usagef("the cases of NAME.yaml stand in NAME.test.yaml beside it", "there are no files *.test.yaml in %s", arg)
			}
		case pipeline.IsCaseFile(arg):
			add(arg)
		default:
			names := pipeline.CaseFiles(arg)
			at := slices.IndexFunc(names, func(name string) bool {
				_, err := os.Stat(name)
				return !errors.Is(err, fs.ErrNotExist)
			})
			if at < 0 {
				return nil, usagef("", "there are no cases of %s: looked for %s", arg, strings.Join(names, " and "))
			}
			add(names[at])
		}
	}
	return files, nil
}

// findCases finds the files of cases below a folder. Hidden folders are passed over,
// as those of version control and of run stores.
func findCases(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && pipeline.IsCaseFile(name):
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for cases in %s: %w", dir, err)
	}
	return files, nil
}
