package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/pipeline"
)

// registryJSON is what a pipeline can be made of.
type registryJSON struct {
	Sources []namedJSON `json:"sources"`
	Stages  []namedJSON `json:"stages"`
}

type namedJSON struct {
	Name  string `json:"name"`
	Short string `json:"short"`
}

func newListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the stages and sources that there are",
		Long:    "List the stages and sources that there are, one a line with what it does.\nforgepipe describe tells all about one of them.",
		Example: "  forgepipe list\n  forgepipe list --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.begun = true
			return runList(a)
		},
	}
}

func runList(a *app) error {
	if a.result.json {
		list := registryJSON{Sources: named(a.registry.Sources()), Stages: named(a.registry.Stages())}
		a.result.set(func(e *envelope) { e.Registry = &list })
		return nil
	}
	_, err := io.WriteString(a.stdout, terminal.Stages(a.registry.Sources(), a.registry.Stages()))
	return err
}

func named(infos []pipeline.Info) []namedJSON {
	list := []namedJSON{}
	for _, in := range infos {
		list = append(list, namedJSON{in.Name, in.Short})
	}
	return list
}
