package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	readPatience  = 2 * time.Second  // for a reading that was asked for
	askPatience   = 10 * time.Second // for the NVIDIA driver, where somebody wants to know
	leastInterval = 100 * time.Millisecond
)

type memoryFlags struct {
	set   []string
	state string
	every time.Duration
	count int
}

func newMemoryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "memory",
		Short: "Look at memory, clean it up, and say what would help",
		Long: `Look at the memory of this machine, or of a run that is running; clean up in a
run; and say what would help. A run is found by its pipeline, its output folder
or its state directory (--state), and must be this user's.`,
		Example: `  forgepipe memory info
  forgepipe memory watch pipeline.yaml
  forgepipe memory clear pipeline.yaml
  forgepipe memory advise pipeline.yaml`,
		SuggestionsMinimumDistance: 2,

		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMemoryInfoCommand(a), newMemoryWatchCommand(a), newMemoryClearCommand(a), newMemoryAdviseCommand(a))
	return cmd
}

// runFlags are the flags that find a run.
func (f *memoryFlags) runFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "give a variable of the pipeline a value, as the run got it: `NAME=VALUE`")
	cmd.Flags().StringVar(&f.state, "state", "", "`FOLDER` of the run store of a running run")
}

func newMemoryInfoCommand(a *app) *cobra.Command {
	var f memoryFlags
	cmd := &cobra.Command{
		Use:   "info [PIPELINE.yaml | FOLDER]",
		Short: "Say what memory there is and who has it",
		Long: `Say what memory the devices have, how much is used and free, what decides the
total, and what of it this process has; of a running run, also who has leased
how much since when. "-" is a figure that is not known (null in JSON).

Without a pipeline, folder or --state it is about this machine and this process.
The exit code is 1 when no run is running there.`,
		Example: `  forgepipe memory info
  forgepipe memory info --json
  forgepipe memory info pipeline.yaml --set OUT=out
  forgepipe memory info out`,
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.looking(cmd, args, f, func(ctx context.Context, w watched) error {
				r, err := w.look(ctx)
				if err != nil {
					return err
				}
				if a.result.json {
					a.result.set(func(e *envelope) { e.memoryReport = &r })
					return nil
				}
				_, err = fmt.Fprint(a.stdout, terminal.Memory(&r, time.Now()))
				return err
			})
		},
	}
	f.runFlags(cmd)
	return cmd
}

func newMemoryWatchCommand(a *app) *cobra.Command {
	var f memoryFlags
	cmd := &cobra.Command{
		Use:   "watch [PIPELINE.yaml | FOLDER]",
		Short: "Show again and again what memory there is and who has it",
		Long: `Show what memory info shows, again and again: on a terminal in place, elsewhere a
line for each time. It ends with the run, with exit code 0, or after --count
times, or with Ctrl-C (exit code 130).

With --json each time is a line of its own: the document that memory info --json
gives. Should the watch fail, the last line says why.`,
		Example: `  forgepipe memory watch pipeline.yaml
  forgepipe memory watch --every 5s
  forgepipe memory watch --count 3 --json`,
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.every < leastInterval:
				return usagef("for example --every 1s", "--every wants at least %v, not %v", leastInterval, f.every)
			case cmd.Flags().Changed("count") && f.count < 1:
				return usagef("for example --count 10", "--count wants a number of times, not %d", f.count)
			}
			a.begun = true
			return a.looking(cmd, args, f, func(ctx context.Context, w watched) error { return a.watch(ctx, w, f) })
		},
	}
	f.runFlags(cmd)
	cmd.Flags().DurationVar(&f.every, "every", time.Second, "`TIME` between two looks")
	cmd.Flags().IntVar(&f.count, "count", 0, "end after `N` times (default: when the run ends)")
	return cmd
}

func newMemoryClearCommand(a *app) *cobra.Command {
	var f memoryFlags
	cmd := &cobra.Command{
		Use:   "clear [PIPELINE.yaml | FOLDER]",
		Short: "Have a running run give back what memory it can spare",
		Long: `Have a running run give back what it can spare: pools of buffers, caches, the
garbage of Go, free memory of C libraries. What that freed is measured. The run
goes on; it may be slower for a moment.

Without a pipeline, folder or --state there is only this process to clean, which
has little. The exit code is 1 when no run is running there.`,
		Example: `  forgepipe memory clear pipeline.yaml
  forgepipe memory clear out --json`,
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.looking(cmd, args, f, func(ctx context.Context, w watched) error {
				done, err := w.clear(ctx)
				if err != nil {
					return err
				}
				if a.result.json {
					a.result.set(func(e *envelope) { e.Cleaned = &done })
					return nil
				}
				note := ""
				if _, own := w.(*thisProcess); own {
					note = "no run was named, so this process cleaned itself, which has little to free:\n\n"
				}
				_, err = fmt.Fprint(a.stdout, note+terminal.Cleaned(&done))
				return err
			})
		},
	}
	f.runFlags(cmd)
	return cmd
}

func oneRun(cmd *cobra.Command, args []string) error {
	switch state := cmd.Flag("state"); {
	case len(args) > 1:
		return usagef("see forgepipe "+commandName(cmd)+" --help", "%s wants one pipeline or folder, and got %d", commandName(cmd), len(args))
	case state.Changed && len(args) > 0:
		return usagef("", "%q and --state both say which run is meant: give one of them", args[0])
	case state.Changed && state.Value.String() == "":
		return usagef("", "--state wants a folder")
	case cmd.Flag("set").Changed && len(args) == 0:
		return usagef("", "--set is for a pipeline, and none is given")
	}
	return nil
}

// watched is whose memory is looked at.
type watched interface {
	look(ctx context.Context) (control.Report, error)
	clear(ctx context.Context) (control.Cleaned, error)
	close()
}

// looking finds whose memory is meant and does something with it. Signals end it.
func (a *app) looking(cmd *cobra.Command, args []string, f memoryFlags, do func(context.Context, watched) error) error {
	return a.interruptible(cmd, func(ctx context.Context) error {
		w, err := a.watched(ctx, args, f)
		if err != nil {
			return err
		}
		defer w.close()
		return do(ctx, w)
	})
}

// interruptible does something that a signal ends, and that leaves nothing to go
// on with.
func (a *app) interruptible(cmd *cobra.Command, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	sig := catch(cancel, func(string) {}, func(e *signalError) { a.end(commandName(cmd), e) })
	defer sig.close()
	err := do(ctx)
	if s := sig.signal(); s != 0 && err != nil {
		return lookedError{&signalError{s}}
	}
	return err
}

func (a *app) watched(ctx context.Context, args []string, f memoryFlags) (watched, error) {
	if len(args) == 0 && f.state == "" {
		return watchSelf(), nil
	}
	run, err := a.findRun(ctx, args, f)
	if err != nil {
		var none *noRunError
		if errors.As(err, &none) {
			none.Machine = true
		}
		return nil, err
	}
	return run, nil
}

// findRun finds the run of a pipeline, an output folder or --state.
func (a *app) findRun(ctx context.Context, args []string, f memoryFlags) (*theRun, error) {
	dir := f.state
	if dir == "" {
		var err error
		if dir, err = a.stateDir(ctx, args[0], f.set); err != nil {
			return nil, err
		}
	}
	return openRun(ctx, dir)
}

// stateDir is the state directory that a pipeline or an output folder has.
func (a *app) stateDir(ctx context.Context, place string, set []string) (string, error) {
	info, err := os.Stat(place)
	switch {
	case place == "-":
	case err == nil && info.IsDir():
		if dir := filepath.Join(place, ".forgepipe"); isDir(dir) {
			return dir, nil
		}
		return place, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", usagef("", "there is no pipeline file or output folder %s", place)
	}
	p, err := a.look(ctx, place, set, a.screen.Logger(warnings(false)))
	if err != nil {
		return "", err
	}
	dir := p.StateDir()
	if dir == "" {
		return "", usagef("give its run --state FOLDER, and this command too", "the pipeline %s writes nothing, so its run has no state directory in which it could be asked", place)
	}
	return dir, nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// theRun is a running run.
type theRun struct {
	dir    string
	client *control.Client
}

// openRun finds the run of a state directory, or else the one that makes its
// sample.
func openRun(ctx context.Context, dir string) (*theRun, error) {
	for _, d := range []string{dir, filepath.Join(dir, "sample", ".forgepipe")} {
		c, err := control.Open(d)
		if err == nil {
			if _, err = c.Memory(ctx); err == nil {
				return &theRun{dir, c}, nil
			}
			c.Close()
		}
		if !errors.Is(err, control.ErrNoRun) {
			return nil, fmt.Errorf("asking the run in %s: %w", dir, err)
		}
	}
	return nil, &noRunError{Err: control.ErrNoRun, Place: dir}
}

func (r *theRun) look(ctx context.Context) (control.Report, error) {
	report, err := r.client.Memory(ctx)
	return report, r.placed(err)
}

func (r *theRun) clear(ctx context.Context) (control.Cleaned, error) {
	done, err := r.client.Clear(ctx)
	return done, r.placed(err)
}

func (r *theRun) placed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, control.ErrNoRun):
		return &noRunError{Err: err, Place: r.dir}
	}
	return fmt.Errorf("asking the run in %s: %w", r.dir, err)
}

func (r *theRun) close() { r.client.Close() }

// thisProcess is this process, on this machine.
type thisProcess struct{ *ownMemory }

func watchSelf() watched {
	g := findGPUs()
	m := memory.NewManager(memory.Options{Devices: g.wait(askPatience), ProcessWide: true})
	return &thisProcess{&ownMemory{m, g}}
}

// look takes fresh readings. What a device does not tell in time is in its error.
func (p *thisProcess) look(ctx context.Context) (control.Report, error) {
	limited, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range p.manager.State() {
		all.Go(func() { _, _ = p.manager.Monitor().Refresh(limited, s.Device) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return control.Report{}, err
	}
	return p.Memory(), nil
}

func (p *thisProcess) clear(ctx context.Context) (control.Cleaned, error) {
	done := p.Clear(ctx)
	return done, ctx.Err()
}

func (p *thisProcess) close() {
	_ = p.manager.Close() // it only read
	p.gpus.close()
}

// watch looks again and again.
func (a *app) watch(ctx context.Context, w watched, f memoryFlags) error {
	screen := terminal.NewScreen(a.stdout, os.Getenv)
	var last *control.Report
	defer func() {
		a.result.set(func(e *envelope) { e.memoryReport = nil })
		if screen.Live() && last != nil && !a.result.json { // the last figures stay
			screen.Draw(nil)
			screen.Text(terminal.Memory(last, time.Now()))
		}
	}()
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for n := 1; ; n++ {
		r, err := w.look(ctx)
		if ended := last != nil && (errors.Is(err, control.ErrNoRun) || err == nil && r.Process.PID != last.Process.PID); ended {
			a.result.streamed()
			return nil
		}
		if err != nil {
			return err
		}
		last = &r
		if err := a.showMemory(screen, last); err != nil {
			return err
		}
		if n == f.count {
			a.result.streamed()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) showMemory(screen *terminal.Screen, r *control.Report) error {
	switch now := time.Now(); {
	case a.result.json:
		return a.result.stream("memory watch", func(e *envelope) { e.memoryReport = r })
	case screen.Live():
		screen.Draw(terminal.MemoryLines(r, now))
		return nil
	default:
		_, err := fmt.Fprintln(a.stdout, terminal.MemoryLine(r, now))
		return err
	}
}

// serve lets other processes ask a run for its memory, pause it and have it go on,
// as long as it runs. Without that it runs as well.
func (a *app) serve(r *servedRun, log *slog.Logger) (stop func()) {
	dir := r.run.Progress().StateDir
	if dir == "" || r.run.Forecast() != nil {
		return func() {}
	}
	s, err := control.Listen(dir, r, log)
	if err != nil {
		log.Warn("forgepipe memory, pause and resume cannot reach this run", "cause", err)
		return func() {}
	}
	return a.release(s.Close)
}

// servedRun is the run of this process, for others.
type servedRun struct {
	*ownMemory
	run *pipeline.Run
}

var _ control.Run = (*servedRun)(nil)

// Pause has the run begin nothing new.
func (s *servedRun) Pause() control.State {
	s.run.Pause()
	return s.state()
}

// Resume has it go on.
func (s *servedRun) Resume() control.State {
	s.run.Resume()
	return s.state()
}

func (s *servedRun) state() control.State {
	sum := s.run.Progress()
	state := control.State{State: sum.State}
	for _, st := range sum.Stages {
		state.Active += st.Active
	}
	return state
}
