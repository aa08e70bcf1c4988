package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/pipelines"
)

type goalJSON struct {
	Goal  string `json:"goal"`
	Short string `json:"short"`
}

func newInitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init [GOAL [FILE]]",
		Short: "Write a commented pipeline to begin with",
		Long: `Write a pipeline for a goal, with comments that explain each line and what to
change. Without a goal, list the goals. FILE is GOAL.yaml unless given, and "-"
writes to standard output. A file that is there is never overwritten.`,
		Example: `  forgepipe init
  forgepipe init tiles
  forgepipe init dedup photos.yaml
  forgepipe init filter - | less`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return usagef("see forgepipe init --help", "init wants a goal and a file, and got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			a.begun = true
			switch len(args) {
			case 0:
				return listGoals(a)
			case 1:
				return runInit(a, args[0], args[0]+".yaml")
			}
			return runInit(a, args[0], args[1])
		},
	}
}

func listGoals(a *app) error {
	goals := pipelines.Goals()
	if a.result.json {
		all := make([]goalJSON, len(goals))
		for i, g := range goals {
			all[i] = goalJSON{g.Name, g.Short}
		}
		a.result.set(func(e *envelope) { e.Goals = all })
		return nil
	}
	for _, g := range goals {
		if _, err := fmt.Fprintf(a.stdout, "%-10s  %s\n", g.Name, g.Short); err != nil {
			return err
		}
	}
	a.screen.Text("\nforgepipe init GOAL writes such a pipeline\n")
	return nil
}

func runInit(a *app, name, file string) error {
	goals := pipelines.Goals()
	i := slices.IndexFunc(goals, func(g pipelines.Goal) bool { return g.Name == name })
	if i < 0 {
		names := make([]string, len(goals))
		for i, g := range goals {
			names[i] = g.Name
		}
		return usagef("the goals are "+strings.Join(names, ", "), "there is no goal %q", name)
	}
	goal := goals[i]
	if file == "-" {
		text := goal.Text(name + ".yaml")
		if a.result.json {
			a.result.set(func(e *envelope) { e.Text = text })
			return nil
		}
		_, err := io.WriteString(a.stdout, text)
		return err
	}
	if file == "" {
		return usagef("leave it out for "+name+".yaml, or give - for standard output", "init wants the name of a file, and got an empty one")
	}
	typed, ok := terminal.ShellWord(file)
	if !ok {
		return usagef("", "the file name %q cannot be typed, as it has characters that are not printable", file)
	}
	if err := create(file, goal.Text(typed), name); err != nil {
		return err
	}
	a.result.set(func(e *envelope) { e.Files = []string{file} })
	a.screen.Text(fmt.Sprintf("%s written. Next:\n\n  forgepipe lint %[2]s %[3]s\n  forgepipe run %[2]s %[3]s --dry-run\n", file, typed, goal.Flags))
	return nil
}

// create writes a file that must not be there yet.
func create(file, text, goal string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	switch info, look := os.Stat(file); {
	case errors.Is(err, fs.ErrExist) && look == nil && info.IsDir():
		return usagef("for example forgepipe init "+goal+" "+filepath.Join(file, goal+".yaml"), "%s is a folder", file)
	case errors.Is(err, fs.ErrExist):
		return usagef("give another one: forgepipe init "+goal+" FILE; or - for standard output", "the file %s is there already, and is not overwritten", file)
	case errors.Is(err, fs.ErrNotExist):
		return usagef("make the folder first: mkdir -p "+filepath.Dir(file), "writing %s: there is no folder %s", file, filepath.Dir(file))
	case err != nil:
		return fmt.Errorf("writing the pipeline: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(file) // half a pipeline is of no use
		return fmt.Errorf("writing the pipeline: %w", err)
	}
	return nil
}
