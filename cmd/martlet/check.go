package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var from source
	cmd := &cobra.Command{
		Use:   "check FILE|PROFILE",
		Short: "Check a configuration without starting anything",
		Long: `Check reads a configuration with all files that it names, and what the environment and --set say
in its place, and tells every fault and every weakness in it. It starts nothing and needs no
privilege other than to read. A word that is no file is the name of a profile. Without any it checks what the
environment says.`,
		Example: "  martlet check office.toml\n  martlet check office",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("one file at a time: %s is one too many", args[1])
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return profileNames(from.profiles), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := from.choose(args)
			if err != nil {
				return err
			}
			c, err := from.load(cmd)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good: %s, %s\n", cmp.Or(name, from.file, "the environment"), count(len(c.Connections), "connection"), count(len(c.Pools), "pool"))
			return nil
		},
	}
	profilesFlag(cmd, &from.profiles)
	from.addSet(cmd)
	return cmd
}
