package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

func newMemoryAdviseCommand(a *app) *cobra.Command {
	var set, cards []string
	cmd := &cobra.Command{
		Use:   "advise [PIPELINE.yaml]",
		Short: "Say what would help, and which figures say so",
		Long: `Say what would help on this machine as it is now, and with a pipeline for its
plan: limits, workers, phases. Each advice has the figures that it follows from,
and the line to write or the command to run. Nothing is changed, and nothing is
advised that no figure says.

Of a pipeline with networks on GPUs it also says what they are expected to take of
each card, which phase they are in, and how large a card would hold all of them at
once. With --simulate it does so for cards that are not here.`,
		Example: `  forgepipe memory advise
  forgepipe memory advise pipeline.yaml --set INPUT=photos
  forgepipe memory advise pipeline.yaml --simulate gpu:8GiB`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(set) > 0 && len(args) == 0:
				return usagef("", "--set is for a pipeline, and none is given")
			case len(cards) > 0 && len(args) == 0:
				return usagef("", "--simulate is for a pipeline, and none is given")
			case len(args) > 1:
				return usagef("see forgepipe memory advise --help", "memory advise wants one pipeline file, and got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return runAdvise(cmd.Context(), a, args, set, cards)
		},
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`")
	simulateFlag(cmd.Flags(), &cards)
	return cmd
}

func runAdvise(ctx context.Context, a *app, args, set, cards []string) error {
	p := pipeline.New("", pipeline.Options{}) // it has the limit that any pipeline has
	if len(args) == 1 {
		gpus := findGPUs()
		defer gpus.close()
		devices, err := gpus.or(cards, a.screen.Logger(warnings(false)))
		if err != nil {
			return err
		}
		if p, err = a.load(ctx, args[0], set, devices, a.screen.Logger(warnings(false))); err != nil {
			return err
		}
	}
	o, plan, err := outlook(ctx, p)
	if err != nil {
		return err
	}
	tips := []terminal.Tip{}
	for _, x := range memory.Advise(o) {
		tips = append(tips, terminal.Tip{What: x.What, Why: x.Why, Do: do(x)})
	}
	if tip, ok := jpegTip(); ok && (len(args) == 0 || resizes(plan)) {
		tips = append(tips, tip)
	}
	if a.result.json {
		a.result.set(func(e *envelope) {
			e.Advice = &tips
			e.Cards = cardsOf(o.Devices, plan != nil)
			if len(args) == 1 && plan != nil {
				e.Plan = planOf(plan)
			}
		})
		return nil
	}
	head := fmt.Sprintf("%s of %s free (%s); a run may use %s\n\n",
		memory.FormatBytes(o.Host.Available), memory.FormatBytes(o.Host.Total), o.Host.Source, memory.FormatBytes(o.Limit))
	_, err = fmt.Fprint(a.stdout, head+terminal.Printable(terminal.Cards(o.Devices, plan != nil))+terminal.Printable(terminal.Advice(tips)))
	return err
}

// outlook reads this machine, and what a pipeline needs of it. The plan is nil
// where a stage could never run.
func outlook(ctx context.Context, p *pipeline.Pipeline) (o memory.Outlook, plan *pipeline.Plan, err error) {
	if o.Host, err = (memory.Host{}).Memory(); err != nil {
		return o, nil, err
	}
	if s, err := (memory.Host{}).Swap(); err == nil {
		o.Swap = &s
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
			o.GoLimit = n
		}
	}
	limits := pipeline.New("", pipeline.Options{})
	limits.HostLimit = p.HostLimit
	bare, err := limits.Plan(pipeline.RunOptions{NoStore: true})
	if err != nil {
		return o, nil, err
	}
	o.Limit, o.Overhead = bare.HostLimit, bare.HostLimit-bare.HostBudget

	plan, err = p.Plan(pipeline.RunOptions{})
	var oversize *memory.OversizeError
	refused := errors.As(err, &oversize)
	if err != nil && !refused {
		return o, nil, err
	}
	if o.Devices, err = p.PlannedDevices(ctx, plan); err != nil {
		return o, nil, err
	}
	if refused {
		if oversize.Device == string(pipeline.Host) { // cards tell themselves
			o.Tasks = []memory.Task{{Name: oversize.Holder, Work: oversize.Need, Workers: 1}}
		}
		return o, nil, nil
	}
	for i, phase := range plan.Phases {
		for _, s := range phase {
			o.Tasks = append(o.Tasks, memory.Task{
				Name: "stage " + s.ID, Phase: i, Resident: s.Resident, Work: s.Work + s.Output, Workers: s.Workers, Batch: s.Batch,
			})
		}
	}
	return o, plan, nil
}

// do is what to write or to run.
func do(x memory.Advice) string {
	mebibytes := x.Bytes >> 20
	switch x.Means {
	case memory.SetLimit:
		return fmt.Sprintf("memory: {host: {limit: %dMiB}}", mebibytes)
	case memory.SetWorkers:
		return fmt.Sprintf("workers: %d    # beside the key of %s", x.Count, x.Name)
	case memory.SetBatch:
		return fmt.Sprintf("batch: %d    # beside the key of %s", x.Count, x.Name)
	case memory.RaiseGoLimit:
		return "unset GOMEMLIMIT"
	case memory.FindPressure:
		return "ps -eo rss,pid,args --sort=-rss | head    # who has the most"
	case memory.FindSwap:
		return "vmstat 1 5    # while si and so are not 0, pages move between memory and swap"
	case memory.RaiseCgroup:
		return fmt.Sprintf("echo %d > %s    # as root; from outside of a container docker update --memory %dm", x.Bytes, x.Name, mebibytes)
	case memory.LargerDevice:
		return largerCard(x)
	case memory.AddMemory:
		return fmt.Sprintf("a machine or a container with %s, or smaller tiles and batches", memory.FormatBytes(x.Bytes))
	}
	panic(fmt.Sprintf("BUG: advice by unknown means %q", x.Means))
}

// largerCard is where there is a card that is large enough, and what can be done
// without one.
func largerCard(x memory.Advice) string {
	without := "a smaller network, or smaller pictures"
	if x.Name != "" {
		without = "device: host    # beside the key of " + x.Name
	}
	if x.Bytes == 0 {
		return without
	}
	card := fmt.Sprintf("a card with %s    # --simulate gpu:%dGiB plans with one", memory.FormatBytes(x.Bytes), x.Bytes>>30)
	if x.Name != "" {
		card += "\n" + without
	}
	return card
}

// resizes tells whether a plan has a stage that is content with smaller pictures.
func resizes(p *pipeline.Plan) bool {
	return p != nil && slices.ContainsFunc(p.Phases, func(phase []pipeline.PlannedStage) bool {
		return slices.ContainsFunc(phase, func(s pipeline.PlannedStage) bool { return s.Stage == "resize" })
	})
}

// jpegTip is about the library that decodes to a smaller size.
func jpegTip() (tip terminal.Tip, ok bool) {
	_, _, err := imageio.JPEGLibrary()
	if err == nil {
		return tip, false
	}
	const pixels, rgba = 24_000_000, 4
	first, _, _ := strings.Cut(err.Error(), "\n")
	return terminal.Tip{
		What: "JPEG files are decoded whole, also where resize makes them much smaller",
		Why: fmt.Sprintf("one of 24 MP takes %s whole and %s at an eighth of its sides, to which only libturbojpeg can decode: %s",
			memory.FormatBytes(pixels*rgba), memory.FormatBytes(pixels*rgba/64), first),
		Do: "apt-get install libturbojpeg0",
	}, true
}
