package main

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

type sweepFlags struct {
	step     string
	from, to float64
	steps    int
}

// sweepJSON is what sweep tells programs.
type sweepJSON struct {
	Pairs   string          `json:"pairs"`   // the file
	Items   int64           `json:"items"`   // of the run that were compared
	Entries int64           `json:"entries"` // of indexes, with which they were, too
	Steps   []sweptStepJSON `json:"steps"`
}

type sweptStepJSON struct {
	Step      string         `json:"step"`
	Measure   string         `json:"measure"`   // distance or similarity
	Threshold float64        `json:"threshold"` // that the pairs were found with
	Points    []groups.Point `json:"points"`
}

func newSweepCommand(a *app) *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep PAIRS",
		Short: "Tell how many duplicates other thresholds would find",
		Long: `Tell what the stage dedup would have rejected with other thresholds, from the file
that its field pairs wrote (.parquet or .jsonl). No picture is read and nothing is
changed: the decisions of the run are taken again for each threshold, and there is a
line for it with the number of duplicates, their share of all items, the groups, and
how many items the largest group has.

One step is varied at a time, while the others have the thresholds of the run;
without --step, each that has a threshold. Thresholds that are looser than those of
the run are refused, as pairs that only they find are not in the file: run the
pipeline with a loose threshold and with action: report, and sweep from there.

A sweep takes 24 bytes of memory for each pair and 5 for each item, and is refused
where that is more than half of what is free.`,
		Example: `  forgepipe sweep out/pairs.parquet
  forgepipe sweep out/pairs.parquet --step clip --from 0.9 --to 0.99 --steps 10
  forgepipe sweep out/pairs.jsonl --step pdq --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("see forgepipe sweep --help", "sweep wants one file of pairs")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runSweep(ctx, a, cmd.Flags(), args[0], f) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.step, "step", "", "vary the threshold of the step with this `NAME`")
	fl.Float64Var(&f.from, "from", 0, "the first `THRESHOLD` (default: the strictest for a distance, that of the run for a similarity)")
	fl.Float64Var(&f.to, "to", 0, "the last `THRESHOLD` (default: that of the run for a distance, the strictest for a similarity)")
	fl.IntVar(&f.steps, "steps", 0, "look at so many thresholds (default: 11, or in bits each of up to 40)")
	complete(cmd, "to", words("0.99"))
	return cmd
}

func runSweep(ctx context.Context, a *app, fl *pflag.FlagSet, file string, f sweepFlags) error {
	if fl.Changed("steps") && f.steps < 1 {
		return usagef("", "--steps wants 1 or more")
	}
	if !fl.Changed("from") {
		f.from = math.NaN()
	}
	if !fl.Changed("to") {
		f.to = math.NaN()
	}
	p, err := groups.ReadPairs(file)
	if err != nil {
		return usagef("the field pairs of the stage dedup writes them", "%w", err)
	}
	defer func() { _ = p.Close() }() // nothing was written
	sweeps, err := p.Header.Sweeps(f.step, f.from, f.to, f.steps)
	if err != nil {
		return sweepError(err)
	}
	out := &sweepJSON{Pairs: file, Items: p.Header.Items, Entries: p.Header.Entries, Steps: []sweptStepJSON{}}
	a.result.set(func(e *envelope) { e.Sweep = out })
	room := int64(0) // the default
	if m, err := (memory.Host{}).Memory(); err == nil {
		room = m.Available / 2
	}
	text := ""
	for _, s := range sweeps {
		points, err := p.Sweep(ctx, s.Step.Step, s.Thresholds, room)
		if err != nil {
			return sweepError(err)
		}
		a.result.set(func(*envelope) {
			out.Steps = append(out.Steps, sweptStepJSON{s.Step.Step, s.Step.Kind(), s.Step.Threshold, points})
		})
		if text != "" {
			text += "\n"
		}
		text += terminal.Sweep(p.Header, s.Step, points)
	}
	if a.result.json {
		return nil
	}
	_, err = io.WriteString(a.stdout, terminal.Printable(text))
	return err
}

// sweepError says of what was asked for wrongly that the arguments are wrong.
func sweepError(err error) error {
	if errors.As(err, new(*groups.OptionError)) {
		return &usageError{Err: err}
	}
	return err
}
