package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"martlet/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "About the configuration file",
		Example: "  martlet config reference | less",
		Args:    cobra.NoArgs,
		RunE:    help,
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "reference",
		Short:   "Print every key with its type, its default and what it does",
		Example: "  martlet config reference | less",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), config.Reference())
			return err
		},
	})
	return cmd
}
