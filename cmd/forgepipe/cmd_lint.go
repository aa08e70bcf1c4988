package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

func newLintCommand(a *app) *cobra.Command {
	var set, cards []string
	cmd := &cobra.Command{
		Use:   "lint PIPELINE.yaml...",
		Short: "Check pipeline files",
		Long: `Check pipeline files without running them: names, fields, values, conditions,
what stages need of those before them, and where outputs go. Files of test cases
(NAME.test.yaml) are checked together with their pipeline. Each problem is one
line, file:line:col: message, on standard error; the exit code is then 2, or 3
where only this machine lacks something, such as a library or a GPU.`,
		Example: `  forgepipe lint pipeline.yaml
  forgepipe lint pipelines/*.yaml --json
  forgepipe lint pipeline.yaml --simulate gpu:8GiB`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("see forgepipe lint --help", "lint wants pipeline files")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return runLint(cmd.Context(), a, args, set, cards)
		},
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`")
	simulateFlag(cmd.Flags(), &cards)
	return cmd
}

func runLint(ctx context.Context, a *app, files, set, cards []string) error {
	gpus := findGPUs()
	defer gpus.close()
	log := a.screen.Logger(warnings(false))
	devices, err := gpus.or(cards, log)
	if err != nil {
		return err
	}
	all := []pipeline.Problem{}
	for _, file := range files {
		err := a.lint(ctx, file, set, devices, log)
		var spec *pipeline.SpecError
		switch {
		case errors.As(err, &spec):
			all = append(all, spec.Problems...)
		case err != nil:
			return err
		default:
			a.screen.Printf("%s: ok", file)
		}
	}
	a.result.set(func(e *envelope) { e.Problems = &all })
	if len(all) > 0 {
		return &pipeline.SpecError{Problems: slices.Clip(all)}
	}
	return nil
}

// lint checks a pipeline file, or a file of cases with its pipeline.
func (a *app) lint(ctx context.Context, file string, set []string, devices []memory.Device, log *slog.Logger) (err error) {
	if strings.HasSuffix(file, caseSuffix) {
		_, err = a.loadCases(ctx, file, set, devices, log)
	} else {
		_, err = a.load(ctx, file, set, devices, log)
	}
	return err
}
