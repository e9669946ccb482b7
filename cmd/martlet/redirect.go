package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"martlet"
)

func newRedirect() *cobra.Command {
	var where socketFlags
	cmd := &cobra.Command{
		Use:   "redirect GATEWAY [NAME]",
		Short: "Send the peers of the running martlet to another gateway",
		Long: `Redirect tells the peers that came to a running martlet serve, by the connection NAME or
by any, to go to GATEWAY, a name or an address (RFC 5685). Those that understand it open a
tunnel there and then close the one here; all others stay.`,
		Example: "  sudo martlet redirect gw2.example.com\n  sudo martlet redirect 192.0.2.7 staff",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			told, err := martlet.NewControl(socket).Redirect(cmd.Context(), append(args, "")[1], args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d told to go to %s\n", told, args[0])
			return nil
		},
	}
	where.add(cmd)
	return cmd
}
