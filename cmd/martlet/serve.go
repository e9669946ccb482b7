package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

func newServe() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Wait for peers: gateway, or the waiting end of site to site",
		Long: `Serve opens the configured ports and lets the peers of every connection come in,
until a signal or martlet down ends it; then it closes the tunnels at their peers and undoes
what it set up on this host. It needs Linux and root.`,
		Example: "  sudo martlet serve -c /etc/martlet/gateway.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadFlag(cmd, file)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			node := &martlet.Node{
				Config: c, Serve: true, Host: true, Load: func() (*config.Config, error) { return config.Load(file) },
				Logger: newLogger(cmd.ErrOrStderr(), levelOf(c.Node.LogLevel)),
			}
			return runNode(ctx, node, cancel, func(ctx context.Context) error {
				fmt.Fprintf(cmd.ErrOrStderr(), "martlet: serving on %v\n", node.Addresses())
				<-ctx.Done()
				return nil
			})
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// runNode starts a node with its control socket, does what is to be done meanwhile, and closes
// the node. cancel ends the context; an order over the socket calls it.
func runNode(ctx context.Context, node *martlet.Node, cancel func(), meanwhile func(context.Context) error) (err error) {
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, node.Close())
	}()
	if node.Config.Node.Control != "" {
		// The socket outlives the context: `martlet down` waits until it is gone, and then
		// the host is as it was.
		if err := node.ServeControl(context.WithoutCancel(ctx), cancel); err != nil {
			return err
		}
	}
	reloadOnHangup(ctx, node)
	return meanwhile(ctx)
}

// configFlag adds -c.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration `FILE`")
	if err := cmd.MarkFlagFilename("config", "toml"); err != nil {
		panic(err) // the flag was just made
	}
}

// loadFlag loads the configuration that -c names.
func loadFlag(cmd *cobra.Command, file string) (*config.Config, error) {
	if file == "" {
		return nil, usage(cmd, errors.New("the configuration is not named: -c FILE"))
	}
	return load(cmd, file)
}
