package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/pipeline"
)

func newDescribeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe STAGE...",
		Short: "Tell all about stages and sources",
		Long: `Tell all about stages and sources: what they do, with examples; their fields with
what they take, defaults and ranges; which attributes and vectors they make and
need; and whether their results are cached. forgepipe list names them all.`,
		Example: "  forgepipe describe tile\n  forgepipe describe images write --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("see forgepipe list", "describe wants names of stages or sources")
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var all []string
			for _, in := range append(a.registry.Sources(), a.registry.Stages()...) {
				all = append(all, cobra.CompletionWithDesc(in.Name, in.Short))
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			a.begun = true
			return runDescribe(a, args)
		},
	}
}

func runDescribe(a *app, names []string) error {
	var all []pipeline.Description
	for _, name := range names {
		found, err := a.registry.Find(name)
		if err != nil {
			return &usageError{Err: err, Hint: "see forgepipe list"}
		}
		for _, in := range found {
			all = append(all, in.Describe())
		}
	}
	if a.result.json {
		a.result.set(func(e *envelope) { e.Describe = all })
		return nil
	}
	pages := make([]string, len(all))
	for i, d := range all {
		pages[i] = terminal.Stage(d)
	}
	_, err := io.WriteString(a.stdout, strings.Join(pages, "\n\n"))
	return err
}
