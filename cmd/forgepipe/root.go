package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/pipeline"
)

// app is what all commands share.
type app struct {
	registry pipeline.Registry
	version  string
	stdin    io.Reader
	stdout   io.Writer // for JSON, and for answers that were asked for (help, version)
	screen   *terminal.Screen
	result   *result
	begun    bool // a command has the word: errors are no longer cobra's

	mu       sync.Mutex
	releases []*func() // what must not be left behind, however the process ends
}

// release has f called by done, or when the process is ended without waiting
// for the command.
func (a *app) release(f func()) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releases = append(a.releases, &f)
	return func() {
		a.mu.Lock()
		a.releases = slices.DeleteFunc(a.releases, func(r *func()) bool { return r == &f })
		a.mu.Unlock()
		f()
	}
}

// releaseAll is for the end of the process: the newest first.
func (a *app) releaseAll() {
	a.mu.Lock()
	all := slices.Clone(a.releases)
	a.mu.Unlock()
	for _, f := range slices.Backward(all) {
		(*f)()
	}
}

// execute runs the command line and returns the exit code.
func execute(args []string, stdin io.Reader, stdout, stderr io.Writer, registry pipeline.Registry, version string) int {
	a := &app{registry: registry, version: version, stdin: stdin, stdout: stdout, screen: terminal.NewScreen(stderr, os.Getenv)}
	a.result = newResult(stdout, wantsJSON(args))
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetErr(stderr)
	root.SetOut(stdout)
	if a.result.json {
		root.SetOut(stderr) // standard output is for the one document
	}
	cmd, err := root.ExecuteContextC(context.Background())
	var usage *usageError
	if err != nil && !a.begun && !errors.As(err, &usage) {
		err = &usageError{Err: err, Hint: "see " + cmd.CommandPath() + " --help"}
	}
	printError(a.screen, err)
	if err := a.result.finish(commandName(cmd), err); err != nil {
		a.screen.Printf("forgepipe: writing the result: %v", err)
		return exitFailed
	}
	return exitCode(err)
}

// commandName is a command as it is typed: "run", "memory info".
func commandName(cmd *cobra.Command) string {
	_, name, ok := strings.Cut(cmd.CommandPath(), " ")
	if !ok {
		return cmd.Name()
	}
	return name
}

// wantsJSON looks for --json itself, since the result is also due when the
// arguments cannot be parsed.
func wantsJSON(args []string) bool {
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return false // it stands in the command that is completed
	}
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

func newRootCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forgepipe",
		Short: "Build image data sets from one YAML file",
		Long: `forgepipe builds image data sets: it cuts, scores, filters and de-duplicates
images as a pipeline file says, inside a memory budget, and records what became
of every image and why. A run that was interrupted goes on where it stopped; a
run again computes only what is missing.

Exit codes: 0 done; 1 failed; 2 the pipeline or the arguments are wrong;
3 the environment lacks something; 4 done, with quarantined items;
130, 143 interrupted.`,
		Example: `  forgepipe doctor
  forgepipe init tiles
  forgepipe list
  forgepipe describe tile
  forgepipe lint pipeline.yaml
  forgepipe run pipeline.yaml --dry-run
  forgepipe run pipeline.yaml --set INPUT=photos --set OUT=tiles
  forgepipe verify tiles
  forgepipe report tiles
  forgepipe restore tiles
  forgepipe compare lq hq --out sheets
  forgepipe sweep out/pairs.parquet
  forgepipe memory info`,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,

		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetHelpCommand(newHelpCommand())
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongValue(err) })
	cmd.PersistentFlags().Bool("json", false, "print the result as one JSON document on standard output")
	cmd.AddCommand(
		newRunCommand(a), newLintCommand(a), newGraphCommand(a), newListCommand(a), newDescribeCommand(a), newSchemaCommand(a), newInitCommand(a),
		newReportCommand(a), newRestoreCommand(a), newVerifyCommand(a), newTestCommand(a), newCompareCommand(a), newSweepCommand(a),
		newModelsCommand(a), newMemoryCommand(a), newPauseCommand(a), newResumeCommand(a),
		newDoctorCommand(a), newVersionCommand(a), newManCommand(a), newCompletionCommand(a),
	)
	a.completeArguments(cmd)
	return cmd
}

// wrongValue says in our words that a flag cannot have a value.
func wrongValue(err error) error {
	wants := map[string]string{"int": "a whole number", "duration": "a duration such as 30s", "bool": "true or false"}
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) && wants[wrong.GetFlag().Value.Type()] != "" {
		return fmt.Errorf("--%s wants %s, not %q", wrong.GetFlag().Name, wants[wrong.GetFlag().Value.Type()], wrong.GetValue())
	}
	return err
}

// knownCommand refuses what is no command, with the likely one.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	name := strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "forgepipe ")
	hint := "see " + cmd.CommandPath() + " --help"
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		hint = "did you mean " + strings.Join(names, " or ") + "?"
	} else if !cmd.HasParent() && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) {
		hint = "did you mean forgepipe run " + name + "?"
	}
	return usagef(hint, "there is no command %q", name)
}
