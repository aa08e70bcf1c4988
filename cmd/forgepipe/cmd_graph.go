package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/pipeline"
)

// graphFormats are the languages that graph writes, the default first.
var graphFormats = []string{"mermaid", "dot"}

type graphFlags struct {
	set      []string
	simulate []string
	format   string
}

func newGraphCommand(a *app) *cobra.Command {
	var f graphFlags
	cmd := &cobra.Command{
		Use:   "graph PIPELINE.yaml",
		Short: "Draw a pipeline with its plan",
		Long: `Draw a pipeline on standard output, as a Mermaid flowchart or for Graphviz; "-"
reads it from standard input. The figures are those of forgepipe run --dry-run: the
phases, and for each stage where it computes, its workers and batch, the bytes that
it keeps and those of one call, and the attributes that it makes.

Where this machine lacks something that the pipeline needs, the chain is drawn
without these figures, and the exit code is 3. --simulate plans with GPUs that are
not here. --json prints the chain, and the plan where there is one.`,
		Example: `  forgepipe graph pipeline.yaml > pipeline.mmd
  forgepipe graph pipeline.yaml --format dot | dot -Tsvg > pipeline.svg
  forgepipe graph pipeline.yaml --simulate gpu:8GiB`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("see forgepipe graph --help", "graph wants one pipeline file, and got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return runGraph(cmd.Context(), a, args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", graphFormats[0], "`LANGUAGE` to draw in: "+strings.Join(graphFormats, " or "))
	fl.StringArrayVar(&f.set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`; may be repeated")
	simulateFlag(fl, &f.simulate)
	return cmd
}

func runGraph(ctx context.Context, a *app, file string, f graphFlags) error {
	draw := (*pipeline.Graph).Mermaid
	switch f.format {
	case "mermaid":
	case "dot":
		draw = (*pipeline.Graph).DOT
	default:
		return usagef("", "--format %q is no language of graph: it is %s", f.format, strings.Join(graphFormats, " or "))
	}
	gpus := findGPUs()
	defer gpus.close()
	log := a.screen.Logger(warnings(false))
	devices, err := gpus.or(f.simulate, log)
	if err != nil {
		return err
	}
	name, data, o, err := a.prepare(file, f.set, pipeline.Options{Devices: devices, Logger: log})
	if err != nil {
		return err
	}
	g, err := pipeline.LoadGraph(ctx, name, data, o)
	if g == nil {
		return err
	}
	if a.result.json {
		a.result.set(func(e *envelope) {
			e.Graph = g
			if g.Plan != nil {
				e.Plan = planOf(g.Plan)
			}
		})
		return err
	}
	if _, err := io.WriteString(a.stdout, draw(g)); err != nil {
		return err
	}
	if err != nil {
		a.screen.Printf("the chain is drawn without the plan's figures, since:")
	}
	return err
}
