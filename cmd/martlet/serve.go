package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"martlet"
)

func newServe() *cobra.Command {
	var from source
	var userspace bool
	var monitor string
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Wait for peers: gateway, or the waiting end of site to site",
		Long: `Serve opens the configured ports and lets the peers of every connection come in,
until a signal or martlet down ends it; then it closes the tunnels at their peers and undoes
what it set up on this host. It needs root, and on Windows a console that runs as administrator
and wintun.dll beside this program.

With --userspace it needs none of these: peers get the network that this process itself can reach,
their TCP connections, UDP flows and pings go on as its own. Private networks and this
host's own addresses they reach only where [userspace] allows that. Ports above 1023 need no
privilege: map 500 and 4500 to them, and set ike_port and nat_port.`,
		Example: "  sudo martlet serve -c /etc/martlet/gateway.toml\n  martlet serve --userspace -c gateway.toml --set node.ike_port=5500",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spare := startSpare(userspace)
			defer spare.drop()
			from.files = filesOf()
			flags := doorFlags{userspace: userspace, monitor: monitor}
			c, err := from.load(cmd, flags.settings()...)
			if err != nil {
				return err
			}
			logger := newLogger(cmd.ErrOrStderr(), levelOf(c.Node.LogLevel))
			switch user, err := apart(c); {
			case err != nil:
				return err
			case user != nil:
				return separate(cmd, c, logger, user, work{source: &from, spare: spare})
			}
			spare.drop()
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			inProcess, why := inProcess(c)
			node := &martlet.Node{
				Config: c, Serve: true, Host: !inProcess, Forward: inProcess, Services: services(), Load: reread(&from), Logger: logger,
			}
			return runNode(ctx, node, cancel, func(ctx context.Context) error {
				fmt.Fprintf(cmd.ErrOrStderr(), "martlet: serving on %v\n", node.Addresses())
				if inProcess {
					fmt.Fprintf(cmd.ErrOrStderr(), "martlet: in userspace mode, since %s: peers reach what this process reaches\n", why)
					printDoors(cmd.ErrOrStderr(), node.Status().Doors)
				}
				<-ctx.Done()
				return nil
			})
		},
	}
	from.add(cmd)
	addUserspace(cmd, &userspace, "give peers the network that this process can reach, without any privilege")
	monitorFlag(cmd, &monitor)
	return cmd
}

// runNode starts a node with its control socket, does what is to be done meanwhile, and closes
// the node. cancel ends the context; an order over the socket calls it. An end that neither that
// nor a signal asked for leaves a kill switch in force.
func runNode(ctx context.Context, node *martlet.Node, cancel func(), meanwhile func(context.Context) error) (err error) {
	holdMemory(node.Config)
	keepLog(node)
	sayApart(node.Logger)
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer func() {
		end := node.Close
		if ctx.Err() == nil {
			end = node.Abandon
		}
		cancel()
		err = errors.Join(err, end())
	}()
	if node.Config.Node.Control != "" {
		// The socket outlives the context: `martlet down` waits until it is gone, and then
		// the host is as it was.
		if err := serveControl(ctx, node, cancel); err != nil {
			return err
		}
	}
	reloadOnHangup(ctx, node)
	defer superviseBy(ctx, node)()
	return meanwhile(ctx)
}

// serveControl serves the control socket. In userspace mode it is no fault if the default one
// cannot be had, unless another martlet has it: in a container nobody needs it.
func serveControl(ctx context.Context, node *martlet.Node, cancel func()) error {
	socket := node.Config.Node.Control
	err := node.ServeControl(context.WithoutCancel(ctx), cancel)
	e, ok := errors.AsType[*martlet.Error](err)
	if !ok || node.Host || socket != systemSocket() || running(ctx, socket) {
		return err
	}
	node.Logger.Info("no control socket, so that status, down and the like do not find this one; node.control may name another path", zap.String("why", e.Why))
	return nil
}
