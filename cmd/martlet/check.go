package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"martlet/config"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Check a configuration file without starting anything",
		Long:    "Check reads a configuration with all files that it names and tells every fault\nand every weakness in it. It starts nothing and needs no privilege other than to read.",
		Example: "  martlet check /etc/martlet/office.toml",
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("the configuration is not named: martlet check FILE")
			case 1:
				return nil
			}
			return fmt.Errorf("one file at a time: %s is one too many", args[1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good: %s, %s\n", args[0], count(len(c.Connections), "connection"), count(len(c.Pools), "pool"))
			return nil
		},
	}
}

// load reads a configuration and prints its warnings.
func load(cmd *cobra.Command, path string) (*config.Config, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: warning: %s: %s\n", path, w.Line, w.Key, w.Text)
	}
	return c, nil
}
