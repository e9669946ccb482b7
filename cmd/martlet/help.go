package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newHelp is cobra's command but for two things: what it does not know is an error, and it
// hands to `errors` the code that follows.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND... | errors [CODE]]",
		Short:   "Help about a command, or about an error code",
		Example: "  martlet help up\n  martlet help pki issue\n  martlet help errors wrong-psk",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			topic, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			if topic.ValidArgsFunction != nil && topic.Name() == "errors" {
				return topic.ValidArgsFunction(topic, nil, "")
			}
			var names []string
			for _, sub := range topic.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err == nil && topic.Name() == "errors" && len(rest) < 2 {
				return topic.RunE(topic, rest)
			}
			if err != nil || len(rest) > 0 {
				return usage(cmd, fmt.Errorf("there is no help about %q", strings.Join(args, " ")))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}
