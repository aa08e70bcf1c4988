package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// newHelpCommand is in the place of cobra's, which exits 0 for a command that there is
// not.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say what a command does",
		Long: `Say what a command does and what flags it has, as COMMAND --help does. Without a
command, list the commands.`,
		Example: `  forgepipe help run
  forgepipe help memory watch`,
		ValidArgsFunction: subcommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if err := knownCommand(found, rest); err != nil {
				return err
			}
			found.InitDefaultHelpFlag() // it is listed too
			return found.Help()
		},
	}
}

// subcommands completes the commands that are below the ones typed.
func subcommands(cmd *cobra.Command, args []string, begun string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	found, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, sub := range found.Commands() {
		if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begun) {
			all = append(all, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
