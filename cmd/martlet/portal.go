package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"martlet"
)

func newPortal() *cobra.Command {
	var where socketFlags
	var hole time.Duration
	cmd := &cobra.Command{
		Use:   "portal",
		Short: "Find out whether this network wants a login first, and let it through",
		Long: `Portal tells whether the network at hand holds everything back until a person has logged in at a
page of its own, as those of hotels and trains do. It asks two pages of others for that, past the
tunnel of the running martlet, if there is one.

With --hole that one's kill switch lets this host ask for names and fetch pages (port 53, and TCP 80
and 443) past the tunnel for a while, so that a browser can log in. It closes by itself, at the latest
when the tunnel stands.`,
		Example: "  martlet portal\n  sudo martlet portal --hole 5m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			s, err := askPortal(cmd.Context(), socket, hole)
			if err != nil {
				return err
			}
			switch s.State {
			case "open":
				fmt.Fprintln(cmd.OutOrStdout(), "the network is open")
			case "portal":
				fmt.Fprintln(cmd.OutOrStdout(), "the network wants a login at "+page(s))
			default:
				fmt.Fprintln(cmd.OutOrStdout(), "nobody answered: whether the network wants a login is not known")
			}
			if !s.HoleUntil.IsZero() {
				fmt.Fprintf(cmd.OutOrStdout(), "the kill switch lets names and pages through until %s\n", s.HoleUntil.Local().Format(time.TimeOnly))
			}
			return nil
		},
	}
	where.add(cmd)
	cmd.Flags().DurationVar(&hole, "hole", 0, "open the kill switch for a login for `DURATION`, such as 5m")
	return cmd
}

// askPortal asks the running martlet; where none runs, and nothing is to be opened, it asks by itself.
func askPortal(ctx context.Context, socket string, hole time.Duration) (*martlet.PortalStatus, error) {
	if hole > 0 || running(ctx, socket) {
		return martlet.NewControl(socket).Portal(ctx, hole)
	}
	s := (&martlet.Node{}).CheckPortal(ctx)
	return &s, nil
}

// page is where to log in.
func page(s *martlet.PortalStatus) string {
	if s.URL == "" {
		return "any page without TLS, http://neverssl.com for example"
	}
	return s.URL
}

// tellPortal tells whoever waits for a tunnel that the network may want a login first. Behind a kill
// switch nobody else is asked about that unless a person wants it.
func tellPortal(ctx context.Context, w io.Writer, node *martlet.Node) {
	switch {
	case node.Config.Node.KillSwitch:
		fmt.Fprintln(w, "  if this network wants a login first, martlet portal --hole 5m lets a browser through")
	case node.Config.Node.NoPortalCheck:
	default:
		if s := node.CheckPortal(ctx); s.State == "portal" {
			fmt.Fprintf(w, "  this network wants a login first, at %s\n", page(&s))
		}
	}
}
