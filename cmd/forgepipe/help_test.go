package main

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/stages/standard"
)

// widestHelp is what fits on terminals as they were, and still are when they are
// opened.
const widestHelp = 100

// everyCommand visits the commands that are ours, with their path: "memory info".
func everyCommand(visit func(path string, cmd *cobra.Command)) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "forgepipe"), " ")
		if path == "help" || path == "completion" { // cobra's
			return
		}
		visit(path, cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(commandTree())
}

// Every command says what it does, in the same form as the others, and its examples
// are commands that there are.
func TestHelp(t *testing.T) {
	everyCommand(func(path string, cmd *cobra.Command) {
		t.Run("forgepipe "+path, func(t *testing.T) {
			if first, _ := utf8.DecodeRuneInString(cmd.Short); !unicode.IsUpper(first) || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("the short text %q is not like the others: upper case, no full stop", cmd.Short)
			}
			if last := cmd.Long[strings.LastIndexByte(cmd.Long, '\n')+1:]; !strings.HasSuffix(last, ".") && !strings.HasPrefix(last, "  ") {
				t.Errorf("the long text ends in no sentence and no example: %q", cmd.Long)
			}
			examples := 0
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				if !strings.HasPrefix(line, "  ") {
					t.Errorf("the example %q is not indented", line)
				}
				words := strings.Fields(line)
				if len(words) == 0 || words[0] != "forgepipe" { // what is done with the result
					continue
				}
				examples++
				if end := slices.IndexFunc(words, operator.MatchString); end >= 0 {
					words = words[:end]
				}
				found, rest, err := commandTree().Find(words[1:])
				if err != nil || found.HasSubCommands() && len(rest) > 0 {
					t.Errorf("the example %q: no such command: %v", line, err)
					continue
				}
				if err := found.ParseFlags(rest); err != nil {
					t.Errorf("the example %q: %v", line, err)
				} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
					t.Errorf("the example %q: %v", line, err)
				}
			}
			if examples == 0 {
				t.Error("there is no example")
			}
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if first, _ := utf8.DecodeRuneInString(f.Usage); unicode.IsUpper(first) || strings.HasSuffix(f.Usage, ".") {
					t.Errorf("the text of --%s is not like the others: %q", f.Name, f.Usage)
				}
			})
		})
	})
}

var (
	namedFlag    = regexp.MustCompile(`(?:^|[ (])--([a-z][a-z-]*)`)
	namedCommand = regexp.MustCompile(`(?:^|[ (])forgepipe ((?:(?:memory|models) )?[a-z]+)\b`)
)

// What a help text names is there: flags of this command, unless it speaks of another,
// and commands.
func TestHelpNamesWhatThereIs(t *testing.T) {
	everyCommand(func(path string, cmd *cobra.Command) {
		texts := []string{cmd.Short, cmd.Long}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { texts = append(texts, f.Usage) })
		for _, text := range texts {
			of := map[string]*cobra.Command{}
			for _, m := range namedCommand.FindAllStringSubmatch(text, -1) {
				found, rest, err := commandTree().Find(strings.Fields(m[1]))
				switch {
				case slices.Contains([]string{"builds", "from", "in"}, m[1]): // a sentence about the program, or a folder of its name
					continue
				case err != nil || found == found.Root() || found.HasSubCommands() && len(rest) > 0:
					t.Errorf("forgepipe %s: the text names forgepipe %s, which there is not: %q", path, m[1], text)
					continue
				}
				of[m[1]] = found
			}
			for _, m := range namedFlag.FindAllStringSubmatch(text, -1) {
				has := cmd.Flags().Lookup(m[1]) != nil || cmd.InheritedFlags().Lookup(m[1]) != nil || m[1] == "help"
				for _, other := range slices.AppendSeq(cmd.Commands(), maps.Values(of)) {
					has = has || other.Flags().Lookup(m[1]) != nil
				}
				if !has {
					t.Errorf("forgepipe %s: the text names --%s, which there is not: %q", path, m[1], text)
				}
			}
		}
	})
}

// Help that was asked for is an answer: it goes to standard output, with exit code
// 0, and its text is no wider than a terminal.
func TestHelpIsAnAnswer(t *testing.T) {
	everyCommand(func(path string, cmd *cobra.Command) {
		var stdout, stderr bytes.Buffer
		code := execute(append(strings.Fields(path), "--help"), nil, &stdout, &stderr, standard.Registry(), "test")
		if code != exitDone || stderr.Len() > 0 || !strings.HasPrefix(stdout.String(), cmd.Long) {
			t.Errorf("forgepipe %s --help exits %d, with %q on the screen, and prints\n%s", path, code, stderr.String(), stdout.String())
		}
		text, _, _ := strings.Cut(stdout.String(), "\nFlags:\n")
		for line := range strings.Lines(text) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > widestHelp {
				t.Errorf("forgepipe %s --help has a line that is too wide: %q", path, line)
			}
		}
	})
}
