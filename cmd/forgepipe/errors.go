package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// Exit codes. An interrupted command exits with 128 and the signal's number.
const (
	exitDone        = 0
	exitFailed      = 1
	exitWrong       = 2
	exitEnvironment = 3
	exitQuarantined = 4
	exitSignal      = 128
)

// usageError says that the arguments are wrong.
type usageError struct {
	Err  error
	Hint string
}

func (e *usageError) Error() string { return e.Err.Error() }
func (e *usageError) Unwrap() error { return e.Err }

func usagef(hint, format string, args ...any) error {
	return &usageError{Err: fmt.Errorf(format, args...), Hint: hint}
}

// noStoreError says that there is no run store to look at.
type noStoreError struct{ Place string }

func (e *noStoreError) Error() string { return "there is no run store in " + e.Place }

// environmentError says that the machine lacks something.
type environmentError struct {
	Err  error
	Hint string
}

func (e *environmentError) Error() string { return e.Err.Error() }
func (e *environmentError) Unwrap() error { return e.Err }

// signalError says that the command was interrupted.
type signalError struct{ Signal syscall.Signal }

func (e *signalError) Error() string { return "interrupted by " + signalName(e.Signal) }

// noRunError says that no run is there to be asked.
type noRunError struct {
	Err     error
	Place   string
	Machine bool // the command can also be about this machine
}

func (e *noRunError) Error() string { return fmt.Sprintf("%v in %s", e.Err, e.Place) }
func (e *noRunError) Unwrap() error { return e.Err }

// endingError says that a run ends and can no longer be paused.
type endingError struct{ Place string }

func (e *endingError) Error() string {
	return "the run in " + e.Place + " is ending, and cannot be paused any more"
}

// faultsError says that outputs are not as they were written.
type faultsError struct{ Missing, Changed int64 }

func (e *faultsError) Error() string {
	return fmt.Sprintf("%d missing and %d changed", e.Missing, e.Changed)
}

// absentError says that what was asked for is not there.
type absentError struct {
	Err  error
	Hint string
}

func (e *absentError) Error() string { return e.Err.Error() }
func (e *absentError) Unwrap() error { return e.Err }

// wrongModelsError says that networks are not as they were fetched or added.
type wrongModelsError struct{ Files int }

func (e *wrongModelsError) Error() string {
	return fmt.Sprintf("%d files of networks are missing or changed", e.Files)
}

// stayedError says that files stay in the trash.
type stayedError struct{ Taken, Failed int64 }

func (e *stayedError) Error() string {
	var why []string
	if e.Taken > 0 {
		why = append(why, fmt.Sprintf("%d whose place is taken", e.Taken))
	}
	if e.Failed > 0 {
		why = append(why, fmt.Sprintf("%d that could not be moved", e.Failed))
	}
	return "files stay in the trash: " + strings.Join(why, ", ")
}

// duplicatesStayError is a stayedError of files that are not in the trash.
type duplicatesStayError struct{ *stayedError }

func (e duplicatesStayError) Error() string {
	return strings.Replace(e.stayedError.Error(), "in the trash", "where they are", 1)
}

func (e duplicatesStayError) Unwrap() error { return e.stayedError }

// lookedError is a signalError of a command that has begun nothing that could go
// on.
type lookedError struct{ *signalError }

func (e lookedError) Unwrap() error { return e.signalError }

// errQuarantined ends a run that is done but for some items.
var errQuarantined = errors.New("some items are quarantined")

// failure is what an error means for who called the command.
type failure struct {
	exit int
	code string // for programs
	hint string
	ok   bool // what was asked for is done
}

// classify is the one place that maps errors to exit codes.
func classify(err error) failure {
	var (
		usage    *usageError
		spec     *pipeline.SpecError
		locked   *runstore.LockedError
		oversize *memory.OversizeError
		stage    *pipeline.StageError
		store    *noStoreError
		env      *environmentError
		sig      *signalError
		faults   *faultsError
		noRun    *noRunError
		absent   *absentError
		stayed   *stayedError
		differ   *differError
	)
	switch {
	case err == nil:
		return failure{exit: exitDone, ok: true}
	case errors.As(err, &sig):
		f := failure{exit: exitSignal + int(sig.Signal), code: "interrupted", hint: "run again to go on"}
		if errors.As(err, new(lookedError)) {
			f.hint = ""
		}
		return f
	case errors.Is(err, errQuarantined):
		return failure{exit: exitQuarantined, ok: true}
	case errors.As(err, &usage):
		return failure{exit: exitWrong, code: "arguments", hint: usage.Hint}
	case errors.As(err, &spec):
		if spec.Lacking() {
			return failure{exit: exitEnvironment, code: "environment", hint: "see forgepipe doctor"}
		}
		return failure{exit: exitWrong, code: "pipeline"}
	case errors.As(err, &locked):
		return failure{exit: exitWrong, code: "locked", hint: "wait for the other run to end, or stop it"}
	case errors.Is(err, moves.ErrLocked):
		return failure{exit: exitWrong, code: "locked", hint: "wait for it to end"}
	case errors.As(err, &store):
		return failure{exit: exitWrong, code: "no_store", hint: "give the pipeline, its output folder, or --state"}
	case errors.As(err, &oversize) && !errors.As(err, &stage):
		// What the plan refuses; in a run, a stage's error is around it.
		hint := "raise memory.host.limit, or give the stage less to do at a time"
		if oversize.Device != string(pipeline.Host) {
			hint = "take a device with more memory, a smaller network, or device: host"
		}
		return failure{exit: exitWrong, code: "too_large", hint: hint}
	case errors.As(err, &noRun):
		hint := "start it with forgepipe run"
		if noRun.Machine {
			hint += "; without a pipeline and --state the command is about this machine"
		}
		return failure{exit: exitFailed, code: "no_run", hint: hint}
	case errors.As(err, new(*endingError)):
		return failure{exit: exitFailed, code: "ending", hint: "run it again to go on"}
	case errors.Is(err, pipeline.ErrNoImages):
		return failure{exit: exitFailed, code: "failed", hint: "see whether the source names the right folder: what it passes over is counted as ignored, and --verbose names it"}
	case errors.Is(err, control.ErrSilent):
		return failure{exit: exitFailed, code: "silent", hint: "it may be stopped: kill -CONT lets it go on"}
	case errors.As(err, &env):
		return failure{exit: exitEnvironment, code: "environment", hint: env.Hint}
	case errors.As(err, &absent):
		return failure{exit: exitFailed, code: "not_found", hint: absent.Hint}
	case errors.As(err, &stayed):
		if stayed.Taken == 0 {
			return failure{exit: exitFailed, code: "failed"}
		}
		return failure{exit: exitFailed, code: "taken", hint: "move away what is there, or give --to FOLDER"}
	case errors.As(err, new(*takenError)):
		return failure{exit: exitFailed, code: "taken", hint: giveOverwrite}
	case errors.As(err, &differ):
		return failure{exit: exitFailed, code: differ.code(), hint: differ.hint()}
	case errors.As(err, new(*wrongModelsError)):
		return failure{exit: exitFailed, code: "changed"}
	case errors.As(err, &faults):
		return failure{exit: exitFailed, code: "changed", hint: "run the pipeline again: it makes them again, and moves changed ones to the trash"}
	}
	return failure{exit: exitFailed, code: "failed"}
}

func exitCode(err error) int { return classify(err).exit }

// printError tells people what went wrong. A pipeline's problems are written
// the way compilers write them, so that editors find the place.
func printError(screen *terminal.Screen, err error) {
	f := classify(err)
	if f.ok {
		return
	}
	var spec *pipeline.SpecError
	text := "forgepipe: " + err.Error()
	if errors.As(err, &spec) {
		text = spec.Error()
	}
	var told *lintError
	if errors.As(err, &told) {
		text = told.summary
	}
	if text != "" {
		screen.Text(strings.TrimRight(text, "\n") + "\n")
	}
	if f.hint != "" {
		screen.Printf("%s", f.hint)
	}
}
