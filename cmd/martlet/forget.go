package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"martlet/config/store"
)

func newForget() *cobra.Command {
	var folder string
	var force bool
	cmd := &cobra.Command{
		Use:   "forget NAME",
		Short: "Remove a profile with its certificates and keys",
		Long: `Forget removes a profile with all its files. What was on the disk is not overwritten. One that is
up is kept, unless --force is given: then its tunnel stays until martlet down, and is lost for
good at the next reload.`,
		Example:           "  martlet down office && martlet forget office",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeProfile(&folder),
		RunE: func(cmd *cobra.Command, args []string) error {
			profiles, p, err := findProfile(folder, args[0])
			if err != nil {
				return err
			}
			l, c := describe(cmd.Context(), p)
			if l.Up && !force {
				return &store.Error{
					What: fmt.Sprintf("the profile %s is up", p.Name),
					Why:  fmt.Sprintf("the martlet with %s has %s up", c.Node.Control, strings.Join(upNow(cmd.Context(), c), ", ")),
					Hint: fmt.Sprintf("martlet down %s first, or --force", p.Name),
				}
			}
			if err := profiles.Remove(p.Name); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is forgotten\n", p.Name)
			return nil
		},
	}
	profilesFlag(cmd, &folder)
	cmd.Flags().BoolVar(&force, "force", false, "remove it though it is up")
	return cmd
}
