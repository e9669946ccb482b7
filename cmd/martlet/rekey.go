package main

import (
	"github.com/spf13/cobra"

	"martlet"
)

func newRekey() *cobra.Command {
	var where socketFlags
	cmd := &cobra.Command{
		Use:   "rekey NAME [CHILD]",
		Short: "Give a connection of the running martlet fresh keys",
		Long: `Rekey replaces the IKE SA of a connection, or with CHILD that child SA, by one with fresh
keys, and tells whether the peer agreed. No packet is lost. That happens by itself in time;
doing it early shows whether it will work: a first child has no key exchange of its own,
so that two sides that want different ones (PFS) find out an hour later, when it ends.`,
		Example: "  sudo martlet rekey office\n  sudo martlet rekey office net",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			return martlet.NewControl(socket).Rekey(cmd.Context(), args[0], append(args, "")[1])
		},
	}
	where.add(cmd)
	return cmd
}
