package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"martlet"
)

func newReload() *cobra.Command {
	var where socketFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running martlet read its file again",
		Long: `Reload has the running martlet read its file again. With any fault in it nothing changes.
Connections that did not change keep their tunnels, those that did are replaced without a gap
where the peer can do that, and those that are gone are closed. Users, secrets, certificates
and revocation lists count from the next login on. Device, ports and RADIUS servers need
a new start. The signal HUP does the same.`,
		Example: "  sudo martlet reload",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			return martlet.NewControl(socket).Reload(cmd.Context())
		},
	}
	where.add(cmd)
	return cmd
}

// reloadOnHangup reads the file again at each SIGHUP, until the context ends.
func reloadOnHangup(ctx context.Context, node *martlet.Node) {
	var hangups <-chan os.Signal
	stop := func() {}
	if parent != nil {
		hangups = parent.hangups
	} else {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGHUP)
		hangups, stop = signals, func() { signal.Stop(signals) }
	}
	go func() {
		defer stop()
		for {
			select {
			case <-hangups:
				if err := node.ReloadFile(); err != nil {
					node.Logger.Error("not reloaded", zap.Error(err))
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}
