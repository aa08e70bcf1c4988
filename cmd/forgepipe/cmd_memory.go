package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// place says which run a command is about: that of a pipeline, or of a state
// directory; neither is this machine.
type place struct {
	set   []string
	state string
}

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&p.set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`; may be repeated")
	cmd.Flags().StringVar(&p.state, "state", "", "`FOLDER` of the run store of a running run")
}

// noRunError says that nothing answers where a run was looked for.
type noRunError struct {
	Dir string
	Err error
}

func (e *noRunError) Error() string { return fmt.Sprintf("looking for a run in %s: %v", e.Dir, e.Err) }
func (e *noRunError) Unwrap() error { return e.Err }

func newMemoryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "memory",
		Short: "Show, watch, clean up and advise on memory",
		Long: `Show what memory this machine or a running run has and who holds it, watch it,
clean it up, and say what would help. A run is named by its pipeline or by the
folder of its run store (--state); it must be running, and yours.`,
		Example: "  forgepipe memory info\n  forgepipe memory watch pipeline.yaml\n  forgepipe memory advise pipeline.yaml",
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMemoryInfoCommand(a), newMemoryWatchCommand(a), newMemoryClearCommand(a), newMemoryAdviseCommand(a))
	return cmd
}

// subcommand makes one of memory's commands.
func subcommand(a *app, cmd *cobra.Command, run func(ctx context.Context, args []string) error) *cobra.Command {
	cmd.Args = cobra.MaximumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.begun = true
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		sig := catch(cancel, func(s string) { a.screen.Printf("%s", s) }, func(e *signalError) { a.end(cmd.Name(), e) })
		defer sig.close()
		err := run(ctx, args)
		if s := sig.signal(); s != 0 {
			return &signalError{s}
		}
		return err
	}
	return cmd
}

func newMemoryInfoCommand(a *app) *cobra.Command {
	var p place
	cmd := subcommand(a, &cobra.Command{
		Use:   "info [PIPELINE.yaml]",
		Short: "Say what memory there is, and who holds it",
		Long: `Say how much memory every device has, what is used, free and reserved, what this
process or a running run has of it, who holds leases since when, and what Go has.
For the host, total is the lesser of the machine's memory and the control group's
limit. A figure that is not known is a dash, in JSON null. Without an NVIDIA driver
it says so; that is no error.`,
		Example: "  forgepipe memory info\n  forgepipe memory info --json\n  forgepipe memory info --state out/.forgepipe",
	}, func(ctx context.Context, args []string) error {
		r, err := a.report(ctx, args, p)
		if err != nil {
			return err
		}
		return a.tellMemory(r)
	})
	p.flags(cmd)
	return cmd
}

// report is the memory of the run that is named, or of this machine.
func (a *app) report(ctx context.Context, args []string, p place) (*control.Report, error) {
	c, err := a.running(ctx, args, p)
	if err != nil {
		return nil, err
	}
	if c != nil {
		defer c.Close()
		return c.memory(ctx)
	}
	m := openMachine(a.screen.Logger(warnings(false)), false)
	defer m.close()
	m.refresh(ctx)
	r := m.Memory()
	return &r, nil
}

func (a *app) tellMemory(r *control.Report) error {
	a.result.set(func(e *envelope) { e.Devices, e.Process, e.NVIDIA = r.Devices, &r.Process, &r.NVIDIA })
	if a.result.json {
		return nil
	}
	_, err := fmt.Fprint(a.stdout, terminal.Memory(r, time.Now()))
	return err
}

// runClient is the door to a running run.
type runClient struct {
	*control.Client
	dir string
}

// running opens the door to the run that is named; nil when none is.
func (a *app) running(ctx context.Context, args []string, p place) (*runClient, error) {
	dir := p.state
	switch {
	case len(args) == 1 && dir != "":
		return nil, usagef("", "give a pipeline or --state, not both")
	case len(args) == 1:
		pipe, err := a.load(ctx, args[0], p.set, a.screen.Logger(warnings(false)))
		if err != nil {
			return nil, err
		}
		if dir = pipe.StateDir(); dir == "" {
			return nil, usagef("", "%s has no run store: without one a run cannot be reached", args[0])
		}
	case len(p.set) > 0:
		return nil, usagef("", "--set is for a pipeline, and none is given")
	case dir == "":
		return nil, nil
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	c, err := control.Open(dir)
	if err != nil {
		return nil, &noRunError{dir, err}
	}
	return &runClient{c, dir}, nil
}

func (c *runClient) memory(ctx context.Context) (*control.Report, error) {
	r, err := c.Memory(ctx)
	if err != nil {
		return nil, &noRunError{c.dir, err}
	}
	return &r, nil
}

func newMemoryWatchCommand(a *app) *cobra.Command {
	var p place
	every, count := time.Second, 0
	cmd := subcommand(a, &cobra.Command{
		Use:   "watch [PIPELINE.yaml]",
		Short: "Show memory again and again",
		Long: `Show memory again and again: on a terminal in place, elsewhere as a line each
time, and with --json as one JSON document a line, each like that of memory info.
It ends with the run that it watches, after --count times, or with Ctrl-C.`,
		Example: "  forgepipe memory watch\n  forgepipe memory watch pipeline.yaml --every 500ms\n  forgepipe memory watch --json --count 60",
	}, func(ctx context.Context, args []string) error {
		if every < 10*time.Millisecond {
			return usagef("for example --every 500ms", "--every %v is too short: at least 10ms", every)
		}
		if count < 0 {
			return usagef("leave it out to watch until Ctrl-C", "--count %d is no number of times", count)
		}
		return a.watchMemory(ctx, args, p, every, count)
	})
	p.flags(cmd)
	cmd.Flags().DurationVar(&every, "every", every, "`TIME` between two looks")
	cmd.Flags().IntVar(&count, "count", 0, "end after `N` looks (default: never)")
	return cmd
}

func (a *app) watchMemory(ctx context.Context, args []string, p place, every time.Duration, count int) error {
	c, err := a.running(ctx, args, p)
	if err != nil {
		return err
	}
	var look func() (*control.Report, error)
	if c != nil {
		defer c.Close()
		look = func() (*control.Report, error) { return c.memory(ctx) }
	} else {
		m := openMachine(a.screen.Logger(warnings(false)), false)
		defer m.close()
		look = func() (*control.Report, error) {
			m.refresh(ctx)
			r := m.Memory()
			return &r, nil
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; n++ {
		r, err := look()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case n > 1 && errors.Is(err, control.ErrNoRun):
			a.screen.Printf("the run has ended")
			return a.watched()
		case err != nil:
			return err
		}
		if err := a.showMemory(r); err != nil {
			return err
		}
		if n == count {
			return a.watched()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watched ends a watch: with --json everything has been said already.
func (a *app) watched() error {
	a.result.mu.Lock()
	defer a.result.mu.Unlock()
	a.result.done = true
	return nil
}

func (a *app) showMemory(r *control.Report) error {
	now := time.Now()
	switch {
	case a.result.json:
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(envelope{Command: "watch", OK: true, Devices: r.Devices, Process: &r.Process, NVIDIA: &r.NVIDIA})
	case a.screen.Live():
		a.screen.Draw(terminal.MemoryLines(r, now))
		return nil
	}
	_, err := fmt.Fprintln(a.stdout, terminal.MemoryLine(r, now))
	return err
}

func newMemoryClearCommand(a *app) *cobra.Command {
	var p place
	cmd := subcommand(a, &cobra.Command{
		Use:   "clear [PIPELINE.yaml]",
		Short: "Clean up a running run's memory, and say what that freed",
		Long: `Have a running run give back what it keeps for convenience: pooled buffers,
garbage, free pages of Go and of C libraries. What is in use stays. It says what
was freed, as measured. Without a run it cleans this command's own process, which
has next to nothing.`,
		Example: "  forgepipe memory clear pipeline.yaml\n  forgepipe memory clear --state out/.forgepipe --json",
	}, func(ctx context.Context, args []string) error {
		c, err := a.running(ctx, args, p)
		if err != nil {
			return err
		}
		var done control.Cleaned
		if c != nil {
			defer c.Close()
			if done, err = c.Clear(ctx); err != nil {
				return &noRunError{c.dir, err}
			}
		} else {
			m := openMachine(a.screen.Logger(warnings(false)), true)
			defer m.close()
			done = m.Clear(ctx)
			a.screen.Printf("no run was named: this command's own process was cleaned up")
		}
		a.result.set(func(e *envelope) { e.Cleaned = &done })
		if a.result.json {
			return nil
		}
		_, err = fmt.Fprint(a.stdout, terminal.Cleaned(&done))
		return err
	})
	p.flags(cmd)
	return cmd
}

func newMemoryAdviseCommand(a *app) *cobra.Command {
	var p place
	cmd := subcommand(a, &cobra.Command{
		Use:   "advise [PIPELINE.yaml]",
		Short: "Say what would help, from this machine's figures and a pipeline's plan",
		Long: `Say what would help: a higher or lower limit, fewer workers, one phase instead of
several, a larger control group. Every advice quotes the figures that it follows
from and says what to write; without such figures there is none.`,
		Example: "  forgepipe memory advise\n  forgepipe memory advise pipeline.yaml --set INPUT=photos",
	}, func(ctx context.Context, args []string) error { return a.advise(ctx, args, p) })
	cmd.Flags().StringArrayVar(&p.set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`; may be repeated")
	return cmd
}

func (a *app) advise(ctx context.Context, args []string, p place) error {
	host, err := memory.Host{}.Memory()
	if err != nil {
		return err
	}
	o := memory.Outlook{Host: host}
	if s, err := (memory.Host{}).Swap(); err == nil {
		o.Swap = &s
	}
	if limit, err := memory.ParseBytes(os.Getenv("GOMEMLIMIT")); err == nil {
		o.GoLimit = limit
	}
	if len(args) == 1 {
		pipe, err := a.load(ctx, args[0], p.set, a.screen.Logger(warnings(false)))
		if err != nil {
			return err
		}
		plan, err := pipe.Plan(pipeline.RunOptions{})
		var over *memory.OversizeError
		switch {
		case err == nil:
			o.Limit, o.Overhead, o.Tasks = plan.HostLimit, plan.HostLimit-plan.HostBudget, tasksOf(plan)
		case errors.As(err, &over):
			// The plan is refused: what it says is the advice.
			return err
		default:
			return err
		}
		a.result.set(func(e *envelope) { e.Plan = planOf(plan) })
	} else if len(p.set) > 0 {
		return usagef("", "--set is for a pipeline, and none is given")
	}
	tips := []terminal.Tip{}
	for _, x := range memory.Advise(o) {
		tips = append(tips, terminal.Tip{What: x.What, Why: x.Why, Do: means(x)})
	}
	a.result.set(func(e *envelope) { e.Advice = &tips })
	if a.result.json {
		return nil
	}
	_, err = fmt.Fprint(a.stdout, terminal.Advice(tips))
	return err
}

func tasksOf(p *pipeline.Plan) (tasks []memory.Task) {
	for i, phase := range p.Phases {
		for _, s := range phase {
			tasks = append(tasks, memory.Task{
				Name: s.ID, Phase: i, Resident: s.Resident, Work: s.Work + s.Output, Workers: s.Workers, Batch: s.Batch,
			})
		}
	}
	return tasks
}

// means is how an advice is followed: a line of the pipeline, or a command.
func means(x memory.Advice) string {
	mib := fmt.Sprintf("%dMiB", x.Bytes>>20)
	switch x.Means {
	case memory.SetLimit:
		return "memory: {host: {limit: " + mib + "}}"
	case memory.SetWorkers:
		return fmt.Sprintf("workers: %d   (beside the stage %s)", x.Count, x.Name)
	case memory.SetBatch:
		return fmt.Sprintf("batch: %d   (beside the stage %s)", x.Count, x.Name)
	case memory.RaiseCgroup:
		return fmt.Sprintf("echo %d > %s   (as root; a container: docker update --memory %dm)", x.Bytes, x.Name, x.Bytes>>20)
	case memory.RaiseGoLimit:
		return "GOMEMLIMIT=" + mib + " forgepipe run ..., or unset GOMEMLIMIT"
	case memory.FindPressure:
		return "ps -eo pid,rss,args --sort=-rss | head"
	case memory.FindSwap:
		return "grep VmSwap /proc/[0-9]*/status | sort -k2 -nr | head"
	case memory.AddMemory:
		return "a machine or a container with " + memory.FormatBytes(x.Bytes)
	}
	panic("BUG: advice without means: " + string(x.Means))
}
