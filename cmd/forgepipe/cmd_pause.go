package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
)

func newPauseCommand(a *app) *cobra.Command {
	var f memoryFlags
	cmd := &cobra.Command{
		Use:   "pause [PIPELINE.yaml | FOLDER]",
		Short: "Have a running run stand still",
		Long: `Have a running run stand still until forgepipe resume: no batch and no input is
begun any more, and what is inside a stage ends. It says how many batches that
are; said again, it tells how many are left. The run keeps what it has of memory,
as memory info shows; memory clear has it give back what it can spare.

A run is found by its pipeline, its output folder or its state directory
(--state), and must be this user's. Nothing is lost: the first Ctrl-C ends also a
paused run in order, and one that is killed goes on when it is run again. The
exit code is 1 when no run is running there, or when it is ending.`,
		Example: `  forgepipe pause pipeline.yaml
  forgepipe pause out --json
  forgepipe resume out`,
		Args: theOneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.steer(cmd, args, f, func(ctx context.Context, run *theRun) (control.State, error) {
				s, err := run.client.Pause(ctx)
				if err == nil && s.State != "paused" {
					return s, &endingError{run.dir}
				}
				return s, run.placed(err)
			})
		},
	}
	f.runFlags(cmd)
	return cmd
}

func newResumeCommand(a *app) *cobra.Command {
	var f memoryFlags
	cmd := &cobra.Command{
		Use:   "resume [PIPELINE.yaml | FOLDER]",
		Short: "Have a paused run go on",
		Long: `Have a run go on that forgepipe pause has made stand still. It does nothing to a
run that is not paused. For a run that was interrupted or killed, it is forgepipe
run that goes on where it stopped.

A run is found by its pipeline, its output folder or its state directory
(--state), and must be this user's. The exit code is 1 when no run is running
there.`,
		Example: `  forgepipe resume pipeline.yaml
  forgepipe resume out --json`,
		Args: theOneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.steer(cmd, args, f, func(ctx context.Context, run *theRun) (control.State, error) {
				s, err := run.client.Resume(ctx)
				return s, run.placed(err)
			})
		},
	}
	f.runFlags(cmd)
	return cmd
}

// theOneRun is oneRun for what only a run can do.
func theOneRun(cmd *cobra.Command, args []string) error {
	if err := oneRun(cmd, args); err != nil {
		return err
	}
	if len(args) == 0 && !cmd.Flag("state").Changed {
		return usagef("for example forgepipe "+commandName(cmd)+" pipeline.yaml", "%s wants a run: its pipeline, its output folder, or --state", commandName(cmd))
	}
	return nil
}

// steer finds a run, has it do something, and tells how it is then.
func (a *app) steer(cmd *cobra.Command, args []string, f memoryFlags, do func(context.Context, *theRun) (control.State, error)) error {
	return a.interruptible(cmd, func(ctx context.Context) error {
		run, err := a.findRun(ctx, args, f)
		if err != nil {
			return err
		}
		defer run.close()
		s, err := do(ctx, run)
		if err != nil {
			return err
		}
		if a.result.json {
			a.result.set(func(e *envelope) { e.Run = &s })
			return nil
		}
		_, err = fmt.Fprint(a.stdout, terminal.State(s))
		return err
	})
}
