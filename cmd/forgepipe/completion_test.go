package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A command that takes arguments says how a shell completes them, and each flag what its
// values are, but for those that may be anything.
func TestCompletionKnowsEveryCommand(t *testing.T) {
	free := map[string]bool{"count": true, "every": true, "run": true, "output": true} // a number, a duration, a regular expression, a name in a file
	oneModel(t)
	everyCommand(func(path string, cmd *cobra.Command) {
		t.Run("forgepipe "+path, func(t *testing.T) {
			if strings.Contains(cmd.Use, " ") {
				words, then := cmd.ValidArgsFunction(cmd, nil, "")
				if len(words) == 0 && then == cobra.ShellCompDirectiveNoFileComp {
					t.Errorf("%s: nothing is completed", cmd.Use)
				}
			}
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				_, known := cmd.GetFlagCompletionFunc(f.Name)
				if f.NoOptDefVal == "" && !known && !free[f.Name] {
					t.Errorf("--%s: its values are not completed", f.Name)
				}
			})
		})
	})
}
