package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

type runFlags struct {
	set        []string
	simulate   []string
	dryRun     bool
	sample     int
	fresh      bool
	state      string
	cache      string
	cacheLimit string
	quiet      bool
	verbose    bool
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run PIPELINE.yaml",
		Short: "Run a pipeline",
		Long: `Run a pipeline; "-" reads it from standard input. A run that was interrupted goes
on where it stopped. A run again, after an edit or with new files, computes only
what is missing and takes back what is no longer wanted (into .forgepipe/trash).

The first Ctrl-C finishes what is in flight and stops, the second stops at once.
From elsewhere, forgepipe pause and forgepipe resume have it stand still and go on.
kill -USR1 has it print a snapshot to standard error, also with --quiet: what each
stage is at, how full the queues are, who holds which memory, and what the governor
decided last. The run goes on.

How many pictures a network takes at once is decided while it runs, by what there
is room for (memory: {strategy: adaptive | fixed | halving} in the pipeline). Two
lines at the end say what each network did on each device, and what limited it.
--simulate runs as if there were other GPUs; forgepipe memory advise --simulate says
beforehand what networks would take of them.

Exit codes: 0 done; 1 failed; 2 the pipeline or the arguments are wrong; 3 the
machine lacks something, such as a library or a GPU; 4 done, with quarantined
items; 130 interrupted.`,
		Example: `  forgepipe run pipeline.yaml --dry-run
  forgepipe run pipeline.yaml --sample 200
  forgepipe run pipeline.yaml --set INPUT=photos --set OUT=tiles
  forgepipe run pipeline.yaml --simulate gpu:8GiB,speed=0.5
  forgepipe run pipeline.yaml --json --quiet > result.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("see forgepipe run --help", "run wants one pipeline file, and got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			o, err := f.options()
			if err != nil {
				return err
			}
			a.begun = true
			return runRun(cmd.Context(), a, args[0], f, o)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.set, "set", nil, "give a variable of the pipeline a value: `NAME=VALUE`; may be repeated")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the plan and what would be done, and do nothing")
	fl.IntVar(&f.sample, "sample", 0, "run `N` inputs chosen at random into a folder of the state directory, and extrapolate")
	fl.BoolVar(&f.fresh, "fresh", false, "start over: forget earlier runs, and move their files that nobody changed to the trash; with --cache none everything is computed again")
	fl.StringVar(&f.state, "state", "", "`FOLDER` of the run store (default: .forgepipe in the first output folder)")
	fl.StringVar(&f.cache, "cache", "", "`FOLDER` of results shared between pipelines, and of what runs have learned about networks and devices, or none (default: forgepipe in the user's cache folder)")
	fl.StringVar(&f.cacheLimit, "cache-limit", "2GiB", "`SIZE` that the shared results may take")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print problems only: no progress, no summary")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "print every event: what was rejected, ignored, retracted, and what the governor of memory decided")
	simulateFlag(fl, &f.simulate)
	cmd.MarkFlagsMutuallyExclusive("quiet", "verbose")
	return cmd
}

// check refuses arguments that contradict each other or say nothing.
func (f *runFlags) check(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("sample") && f.sample < 1:
		return usagef("for example --sample 200", "--sample wants a number of inputs, not %d", f.sample)
	case f.dryRun && f.sample > 0:
		return usagef("", "--dry-run and --sample exclude each other: a sample runs, a dry run does not")
	case f.dryRun && f.fresh:
		return usagef("", "--dry-run and --fresh exclude each other: a fresh run writes everything again")
	case f.sample > 0 && f.fresh:
		return usagef("", "--sample and --fresh exclude each other: a sample always starts anew, and leaves earlier runs alone")
	case cmd.Flags().Changed("cache") && f.cache == "":
		f.cache = "none"
	}
	return nil
}

// options are the flags as the engine has them.
func (f *runFlags) options() (pipeline.RunOptions, error) {
	limit, err := memory.ParseBytes(f.cacheLimit)
	if err != nil || limit <= 0 {
		return pipeline.RunOptions{}, usagef("for example --cache-limit 2GiB; --cache none switches the cache off", "--cache-limit %q is not a size", f.cacheLimit)
	}
	return pipeline.RunOptions{
		StateDir: f.state, CacheLimit: limit, Fresh: f.fresh, DryRun: f.dryRun, Sample: f.sample,
	}, nil
}

// cacheDir is where the results shared between pipelines are; empty when there
// is no place.
func (f *runFlags) cacheDir(log *slog.Logger) string {
	switch f.cache {
	case "none":
		return ""
	case "":
		dir, err := os.UserCacheDir()
		if err != nil {
			log.Info("results are not shared between pipelines, as there is no cache folder: give --cache", "cause", err)
			return ""
		}
		return filepath.Join(dir, "forgepipe")
	}
	return f.cache
}

// detail is which events are printed.
func (f *runFlags) detail() terminal.Detail {
	switch {
	case f.quiet:
		return terminal.Problems
	case f.verbose:
		return terminal.Everything
	}
	return terminal.Usual
}

// warnings is the least level that is logged.
func warnings(verbose bool) slog.Level {
	if verbose {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func runRun(ctx context.Context, a *app, file string, f runFlags, o pipeline.RunOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var live atomic.Pointer[servedRun]
	sig := catch(cancel, func(s string) { a.screen.Printf("%s", s) }, func(e *signalError) {
		if r := live.Load(); r != nil {
			a.result.set(func(env *envelope) { env.Summary = r.run.Progress() })
		}
		a.end("run", e)
	})
	defer sig.close()
	events := a.screen.Events(f.detail())
	defer events.Close()
	unasked := onUSR1(func() { a.snapshot(live.Load(), events.Last()) })
	defer unasked()

	log := a.screen.Logger(warnings(f.verbose))
	gpus := findGPUs()
	defer gpus.close()
	devices, err := gpus.or(f.simulate, log)
	if err != nil {
		return err
	}
	p, err := a.load(ctx, file, f.set, devices, log)
	if err != nil {
		return err
	}
	o.Version = versionOf(a.version)
	o.CacheDir = f.cacheDir(log)
	plan, err := p.Plan(o)
	if err != nil {
		return err
	}
	if f.sample > 0 && plan.StateDir == "" {
		return usagef("", "a sample is written into the state directory, and this pipeline has none: give --state FOLDER")
	}
	m := memory.NewManager(memory.Options{Devices: devices, ProcessWide: true, Log: log})
	defer func() {
		if err := m.Close(); err != nil {
			log.Warn("releasing memory", "cause", err)
		}
	}()
	m.SetHostLimit(plan.HostLimit)
	o.Memory = m
	a.result.set(func(env *envelope) {
		if f.dryRun {
			env.Plan = planOf(plan)
		}
	})
	if f.dryRun && !f.quiet {
		a.screen.Text(terminal.Plan(plan))
	}

	o.OnEvent = events.On
	o.Count = !f.quiet && a.screen.Live()
	run, err := p.Start(ctx, o)
	if err != nil {
		if s := sig.signal(); s != 0 {
			return &signalError{s}
		}
		return err
	}
	served := &servedRun{&ownMemory{m, gpus}, run}
	live.Store(served)
	sig.begun(run.Drain)
	unserve := a.serve(served, log)
	defer unserve() // also after a panic
	stop := func() {}
	if !f.quiet {
		stop = a.screen.Follow(run.Progress, run.Plan())
	}
	sum, err := run.Wait()
	unserve()
	unasked()
	stop()
	events.Close()
	return a.tell(ctx, told{flags: f, plan: plan, run: run, sum: sum, err: err, signal: sig, ignored: events.Ignored()})
}

// told is a run that has ended.
type told struct {
	flags   runFlags
	plan    *pipeline.Plan
	run     *pipeline.Run
	sum     *pipeline.Summary
	err     error
	signal  *interrupts
	ignored []terminal.Ignored
}

// tell says how a run ended: to programs, to people, and as the error that
// makes the exit code.
func (a *app) tell(ctx context.Context, t told) error {
	forecast := t.run.Forecast()
	sample := sampleOf(t.run, t.sum)
	var guess terminal.Estimate
	if forecast != nil {
		guess = a.estimate(ctx, t.plan.StateDir, forecast, t.sum)
	}
	a.result.set(func(e *envelope) {
		e.Summary, e.Sample = t.sum, sample
		if forecast != nil {
			e.Forecast = &forecastJSON{forecast, guess}
		}
	})
	switch {
	case t.flags.quiet || t.sum == nil:
	case forecast != nil:
		a.screen.Text(terminal.Forecast(forecast, t.sum, guess))
	default:
		a.screen.Text(terminal.Summary(t.sum, t.ignored, sample, hintsOf(t.sum)))
	}
	switch s := t.signal.signal(); {
	case s != 0 && (ctx.Err() != nil || t.sum != nil && t.sum.State == "interrupted"):
		return &signalError{s}
	case t.err != nil:
		return t.err
	case t.sum.Quarantined > 0 && forecast == nil:
		return errQuarantined
	}
	return nil
}

// hintsOf are those about a run of this process.
func hintsOf(sum *pipeline.Summary) []string {
	_, _, err := imageio.JPEGLibrary()
	return terminal.Hints(sum, terminal.Machine{Cores: runtime.GOMAXPROCS(0), NoJPEG: err})
}

// snapshot prints what a run is at; r is nil before it has begun.
func (a *app) snapshot(r *servedRun, last terminal.Last) {
	if r == nil {
		a.screen.Printf("snapshot: the run has not begun, the pipeline is being read and planned")
		return
	}
	report := r.Memory()
	a.screen.Text(terminal.Snapshot(time.Now(), r.run.Progress(), r.run.Plan(), &report, last))
}

// sampleOf extrapolates a sample run to all inputs.
func sampleOf(run *pipeline.Run, sum *pipeline.Summary) *terminal.SampleInfo {
	total, dir := run.SampleOf()
	if dir == "" || sum == nil {
		return nil
	}
	s := &terminal.SampleInfo{Inputs: total, Dir: dir}
	if sum.In > 0 {
		scale := float64(total) / float64(sum.In)
		s.Seconds, s.Bytes = sum.Seconds*scale, int64(float64(sum.Bytes)*scale)
	}
	return s
}

// end ends the process although the command has not: two signals came, and it
// does not stop.
func (a *app) end(command string, err *signalError) {
	done := make(chan struct{})
	go func() { // what keeps the command may keep this too
		defer close(done)
		printError(a.screen, err)
		_ = a.result.finish(command, err)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	a.releaseAll()
	os.Exit(exitCode(err))
}
