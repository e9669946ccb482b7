package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"martlet"
	"martlet/config"
)

// through is how a command finds the tunnel that it uses: that of the running martlet, or one of
// its own in this process.
type through struct {
	socketFlags
	connection string
}

func (t *through) add(cmd *cobra.Command) {
	t.socketFlags.add(cmd)
	profilesFlag(cmd, &t.profiles)
	t.addSet(cmd)
	cmd.Flags().StringVar(&t.connection, "connection", "", "where no martlet is running, bring up the profile or connection `NAME` for this alone")
	if err := cmd.RegisterFlagCompletionFunc("connection", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return t.complete(nil), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // the flag was just made
	}
}

// do calls running if a martlet answers on the control socket, and otherwise own, with a tunnel in
// this process that lasts as long as the call.
func (t *through) do(cmd *cobra.Command, running func(*martlet.Control) error, own func(context.Context, *martlet.Node) error) error {
	if t.socket == "" {
		took, err := t.take(t.connection)
		if err != nil {
			return err
		}
		if took {
			t.connection = ""
		}
	}
	socket, err := t.path(cmd)
	if err != nil {
		return err
	}
	control := martlet.NewControl(socket)
	_, err = control.Status(cmd.Context())
	if err == nil {
		return running(control)
	}
	if t.from == nil {
		if t.socket != "" || t.file == "" && os.Getenv("MARTLET_CONFIG") == "" && t.connection == "" {
			return err
		}
		if _, err := t.load(cmd); err != nil {
			return err
		}
	}
	c, err := t.again()
	if err != nil {
		return err
	}
	name, err := connectionName(c, t.connection)
	if err != nil {
		return err
	}
	return t.own(cmd, c, name, own)
}

// own runs a node in this process with one connection and nothing else.
func (t *through) own(cmd *cobra.Command, c *config.Config, name string, use func(context.Context, *martlet.Node) error) (err error) {
	c.Node.Mode, c.Node.Control, c.Node.Monitor = config.ModeUserspace, "", ""
	c.Proxies, c.Forwards, c.DNS.Listen = nil, nil, ""
	stderr := cmd.ErrOrStderr()
	node := &martlet.Node{Config: c, Logger: newLogger(stderr, zapcore.WarnLevel), Prompt: terminalPrompt(os.Stdin, stderr)}
	holdMemory(c)
	if err := node.Start(cmd.Context()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	if err := node.Connect(cmd.Context(), name); err != nil {
		return err
	}
	return use(cmd.Context(), node)
}

func newNC() *cobra.Command {
	var by through
	cmd := &cobra.Command{
		Use:   "nc HOST:PORT | HOST PORT",
		Short: "Connect standard input and output to a port inside the tunnel",
		Long: `Nc connects to a TCP port inside the tunnel of the running martlet up --userspace, and carries
standard input there and what comes back to standard output, as ssh's ProxyCommand wants it.
Names are resolved inside the tunnel. Where no martlet is running it brings up the connection of
the configuration, in this process and for this alone.`,
		Example: "  ssh -o ProxyCommand='martlet nc %h %p' db.corp.example\n  martlet nc --connection office 10.1.0.1:25",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			address := args[0]
			if len(args) == 2 {
				address = net.JoinHostPort(args[0], args[1])
			}
			if _, _, err := net.SplitHostPort(address); err != nil {
				return usage(cmd, fmt.Errorf("%q is not a host and a port", address))
			}
			return by.do(cmd, func(c *martlet.Control) error {
				return c.Pipe(cmd.Context(), address, os.Stdin, os.Stdout)
			}, func(ctx context.Context, node *martlet.Node) error {
				return node.Pipe(ctx, address, os.Stdin, os.Stdout)
			})
		},
	}
	by.add(cmd)
	return cmd
}

func newPing() *cobra.Command {
	var by through
	var times int
	cmd := &cobra.Command{
		Use:   "ping HOST",
		Short: "Send ICMP echo requests through the tunnel",
		Long: `Ping asks a host inside the tunnel of the running martlet up --userspace for echoes, one a second,
and prints how long each took. It fails where none is answered. Where no martlet is running it
brings up the connection of the configuration, in this process and for this alone.`,
		Example: "  martlet ping 10.1.0.1\n  martlet ping -n 1 -c office.toml db.corp.example",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ping := func(once func(context.Context, string) (martlet.Pinged, error)) error {
				return pings(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), times, func() (martlet.Pinged, error) { return once(cmd.Context(), args[0]) })
			}
			return by.do(cmd, func(c *martlet.Control) error { return ping(c.Ping) },
				func(_ context.Context, node *martlet.Node) error { return ping(node.PingHost) })
		},
	}
	by.add(cmd)
	cmd.Flags().IntVarP(&times, "count", "n", 4, "how often; 0 is until a signal")
	return cmd
}

// pings asks again and again. The error is that of the last try, if all failed.
func pings(ctx context.Context, stdout, stderr io.Writer, times int, once func() (martlet.Pinged, error)) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	answered := false
	var last error
	for i := 1; ; i++ {
		p, err := once()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			last = err
			what := err.Error()
			if e, ok := errors.AsType[*martlet.Error](err); ok {
				what = e.What
			}
			fmt.Fprintf(stderr, "%d: %s\n", i, what)
		default:
			answered = true
			fmt.Fprintf(stdout, "%d: %v answered in %s\n", i, p.Address, took(p.RTT))
		}
		if i == times {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	if answered || ctx.Err() != nil {
		return nil
	}
	return last
}
