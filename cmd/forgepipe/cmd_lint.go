package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

func newLintCommand(a *app) *cobra.Command {
	var set, cards []string
	cmd := &cobra.Command{
		Use:   "lint (PIPELINE.yaml | FOLDER)...",
		Short: "Check pipeline files",
		Long: `Check pipeline files without running them: names, fields, values, conditions,
what stages need of those before them, and where outputs go. Files of test cases
(NAME.test.yaml) are checked together with their pipeline. Of a folder, all files
*.yaml and *.yml are checked that lie in it and in the folders below, but for hidden
folders. "-" is standard input.

All files are checked, whatever is wrong with one of them. Each problem is one line,
file:line:col: message, on standard error; the exit code is then 2, or 3 where only
this machine lacks something, such as a library or a GPU. A variable that --set gives
must be in one of the files.`,
		Example: `  forgepipe lint pipeline.yaml
  forgepipe lint pipelines --set INPUT=photos --json
  forgepipe lint pipeline.yaml --simulate gpu:8GiB`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("see forgepipe lint --help", "lint wants pipeline files or folders")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return runLint(cmd.Context(), a, args, set, cards)
		},
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "give a variable of the pipelines a value: `NAME=VALUE`; may be repeated")
	simulateFlag(cmd.Flags(), &cards)
	return cmd
}

func runLint(ctx context.Context, a *app, places, set, cards []string) error {
	vars, err := parseSet(set)
	if err != nil {
		return err
	}
	gpus := findGPUs()
	defer gpus.close()
	log := a.screen.Logger(warnings(false))
	devices, err := gpus.or(cards, log)
	if err != nil {
		return err
	}
	l := lint{app: a, devices: devices, log: log, vars: vars, used: map[string]bool{}, problems: []pipeline.Problem{}}
	for _, place := range places {
		l.find(place)
	}
	for _, file := range l.files {
		l.check(ctx, file)
	}
	a.result.set(func(e *envelope) { e.Problems, e.Files = &l.problems, l.files })
	if err := l.unused(); err != nil {
		return err
	}
	if len(l.problems) > 0 {
		return &lintError{&pipeline.SpecError{Problems: l.problems}, l.summary()}
	}
	if len(l.files) > 1 {
		a.screen.Printf("%s", l.summary())
	}
	return nil
}

// lintError says that pipelines are wrong, when people have been told how.
type lintError struct {
	*pipeline.SpecError
	summary string // empty for a single file
}

func (e *lintError) Unwrap() error { return e.SpecError }

// lint is what is checked, and what was found.
type lint struct {
	app      *app
	devices  []memory.Device
	log      *slog.Logger
	vars     map[string]string // of --set
	used     map[string]bool   // those that a file has
	vague    bool              // a file is no YAML, and could have had others
	files    []string
	problems []pipeline.Problem

	ok, wrong, lacking, unread int // files
}

// find adds a file, or those of a folder.
func (l *lint) find(place string) {
	info, err := os.Stat(place)
	if place == "-" || err != nil || !info.IsDir() {
		l.add(place)
		return
	}
	found := false
	root := place + string(filepath.Separator) // so that a link to a folder is followed
	_ = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			found = true // perhaps
			l.tell(pipeline.Problem{File: filepath.Clean(file), Message: "the folder cannot be read: " + cause(err)})
		case d.IsDir() && file != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir(), !slices.Contains(pipelineEndings, strings.TrimPrefix(filepath.Ext(file), ".")):
		default:
			if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
				return nil // a link to a folder; a pipe that nobody may write to
			}
			found = true
			l.add(file)
		}
		return nil // what is wrong has been told
	})
	if !found {
		l.tell(pipeline.Problem{File: place, Message: "there is no pipeline file (*.yaml, *.yml) in this folder"})
	}
}

func (l *lint) add(file string) {
	if !slices.Contains(l.files, file) {
		l.files = append(l.files, file)
	}
}

func (l *lint) tell(p pipeline.Problem) {
	l.problems = append(l.problems, p)
	l.app.screen.Text(p.String() + "\n")
}

func (l *lint) check(ctx context.Context, file string) {
	name, data, err := l.app.read(file)
	if err != nil {
		l.unread++
		text := "the file cannot be read: " + cause(err)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			text = "there is no such file"
		}
		l.tell(pipeline.Problem{File: file, Message: text})
		return
	}
	vars := l.varsOf(name, data)
	if pipeline.IsCaseFile(file) {
		_, err = l.app.loadCases(ctx, file, vars, l.devices, l.log)
	} else {
		_, err = pipeline.Load(ctx, name, data, pipeline.Options{
			Registry: l.app.registry, Vars: pipeline.Vars{Set: vars, Env: os.LookupEnv}, Devices: l.devices, Logger: l.log,
		})
	}
	var spec *pipeline.SpecError
	switch {
	case errors.As(err, &spec) && spec.Lacking():
		l.lacking++
	case err != nil:
		l.wrong++
	default:
		l.ok++
		l.app.screen.Printf("%s: ok", file)
		return
	}
	if spec == nil {
		spec = &pipeline.SpecError{Problems: []pipeline.Problem{{File: name, Message: err.Error()}}}
	}
	for _, p := range spec.Problems {
		l.tell(p)
	}
}

// varsOf are the values of --set that a file gets: of several, each gets those that it
// has variables for.
func (l *lint) varsOf(name string, data []byte) map[string]string {
	if len(l.files) == 1 {
		return l.vars
	}
	all, err := pipeline.Variables(name, data)
	if err != nil {
		l.vague = true
		return l.vars // Load says what is wrong
	}
	vars := map[string]string{}
	for _, v := range all {
		if value, ok := l.vars[v.Name]; ok {
			vars[v.Name], l.used[v.Name] = value, true
		}
	}
	return vars
}

// unused refuses a --set that none of several files has a variable for.
func (l *lint) unused() error {
	if len(l.files) < 2 || l.vague || l.unread > 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(l.vars)) {
		if !l.used[name] {
			return usagef("", "--set gives %s, but none of the %d pipelines has ${%s}", name, len(l.files), name)
		}
	}
	return nil
}

func (l *lint) summary() string {
	if len(l.files) < 2 {
		return ""
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{l.ok, "ok"}, {l.wrong, "wrong"}, {l.lacking, "right, but this machine lacks something"}, {l.unread, "not read"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return fmt.Sprintf("%d files: %s", len(l.files), strings.Join(parts, ", "))
}

// cause is an error of the system without the file's name, which stands before it.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
