package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"martlet"
	"martlet/config"
)

func newUp() *cobra.Command {
	var file string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "up -c FILE [NAME [CHILD]]",
		Short: "Bring a connection up and keep it until a signal or martlet down",
		Long: `Up brings a connection up, prints each stage with its time, and stays until a signal or
martlet down; then it undoes what it set up on this host. A connection that is lost is brought
up again, for as long as it takes, unless the file has keep = "manual" for it: then up ends with
it, and one that was closed in order is no failure. A user name or password for EAP that the
file lacks is asked for on the terminal. NAME may be left out where the file has one
connection; CHILD names a child that the file keeps closed until it is asked for. It needs Linux
and root.

Where a martlet is running already with the control socket that the file names, up asks
that one to bring the connection up, and returns when it is.`,
		Example: "  sudo martlet up -c /etc/martlet/office.toml office",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadFlag(cmd, file)
			if err != nil {
				return err
			}
			name, child := "", ""
			if len(args) > 0 {
				name = args[0]
			}
			if len(args) > 1 {
				child = args[1]
			}
			if name, err = connectionName(c, name); err != nil {
				return err
			}
			if running(cmd.Context(), c.Node.Control) {
				return upElsewhere(cmd, c, name, child)
			}
			reread := func() (*config.Config, error) { return config.Load(file) }
			return up(cmd, c, reread, name, child, verbose)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return completeNames(file, args), cobra.ShellCompDirectiveNoFileComp
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log as log_level says, not warnings and errors alone")
	return cmd
}

// upElsewhere has the running martlet bring the connection up.
func upElsewhere(cmd *cobra.Command, c *config.Config, name, child string) error {
	control := martlet.NewControl(c.Node.Control)
	if err := control.Up(cmd.Context(), name, child); err != nil {
		return err
	}
	status, err := control.Status(cmd.Context())
	if err != nil {
		return err
	}
	printUp(cmd.ErrOrStderr(), *status, name, c.Connections[name].Request)
	fmt.Fprintf(cmd.ErrOrStderr(), "martlet: process %d keeps it up\n", status.PID)
	return nil
}

func up(cmd *cobra.Command, c *config.Config, reread func() (*config.Config, error), name, child string, verbose bool) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stderr := cmd.ErrOrStderr()
	level := levelOf(c.Node.LogLevel)
	if !verbose {
		// The progress below tells the rest.
		level = max(level, zapcore.WarnLevel)
	}
	logger := newLogger(stderr, level)
	if !verbose {
		logger = logger.WithOptions(without("down", "child failed"))
	}
	node := &martlet.Node{Config: c, Host: true, Load: reread, Logger: logger, Prompt: terminalPrompt(os.Stdin, stderr)}
	return runNode(ctx, node, cancel, func(ctx context.Context) error {
		f := &follower{w: stderr, name: name, request: c.Connections[name].Request, events: node.Watch(ctx), connected: make(chan error, 1)}
		go func() {
			err := node.Connect(ctx, name)
			if err == nil && child != "" {
				err = node.OpenChild(ctx, name, child)
			}
			f.connected <- err
		}()
		return f.follow(node.Status)
	})
}

// quiet is how long nothing happens before the follower says that it still waits: by
// then two messages were lost.
const quiet = 5 * time.Second

// follower prints what happens to a connection.
type follower struct {
	w         io.Writer
	name      string
	request   []string             // the families of which a virtual address is asked for
	events    <-chan martlet.Event // closed when we end
	connected chan error           // what came of connecting, once

	established bool
	down        *martlet.Event // once an established SA went down
	again       bool           // it is brought up again
}

// follow returns when connecting failed, when the connection went down for good, and when the
// events end; the error is that of the connection.
func (f *follower) follow(status func() martlet.Status) error {
	connected := f.connected
	silent := time.NewTimer(quiet)
	defer silent.Stop()
	for {
		select {
		case <-silent.C:
			if connected != nil {
				fmt.Fprintf(f.w, "  no answer for %v; asking again\n", quiet)
			}
			continue
		case err := <-connected:
			// What led to it was sent before.
			for n := len(f.events); n > 0; n-- {
				if ev, ok := <-f.events; ok {
					f.take(ev)
				}
			}
			if err != nil {
				return err
			}
			connected = nil
			if f.down == nil {
				printUp(f.w, status(), f.name, f.request)
			}
		case ev, ok := <-f.events:
			if !ok && connected != nil {
				return <-connected // it ends with the same context
			}
			if !ok {
				return nil
			}
			f.take(ev)
			silent.Reset(quiet)
			if f.again && ev.Kind == martlet.EventChildUp && ev.Connection == f.name {
				f.again = false
				printUp(f.w, status(), f.name, f.request)
			}
		}
		if connected == nil && f.down != nil && f.down.Kept {
			fmt.Fprintf(f.w, "martlet: %s is down: %s; connecting again\n", f.name, f.down.Text)
			f.down, f.established, f.again = nil, false, true
		}
		// While connecting, an SA that fails may be one of several tries.
		if connected == nil && f.down != nil {
			if f.down.Err != nil {
				return f.down.Err
			}
			fmt.Fprintf(f.w, "martlet: %s is down: %s\n", f.name, f.down.Text)
			return nil
		}
	}
}

// take prints an event that is news to who waits for the connection.
func (f *follower) take(ev martlet.Event) {
	if ev.Connection != f.name {
		return
	}
	switch ev.Kind {
	case martlet.EventStage:
		fmt.Fprintf(f.w, "  %-16s %s\n", ev.Stage, took(ev.Took))
	case martlet.EventEstablished:
		f.established = true
	case martlet.EventWarning, martlet.EventMoved, martlet.EventRekeyed, martlet.EventRekeyFailed: // stand in the log
	case martlet.EventRedirected:
		fmt.Fprintf(f.w, "  redirected to %s\n", ev.Text)
	case martlet.EventRetry:
		what := ev.Text
		if ev.Err != nil {
			what = ev.Err.What
		}
		fmt.Fprintf(f.w, "  %s; trying again in %s\n", what, took(ev.Took))
	case martlet.EventDown:
		if f.established && !ev.Replaced {
			f.down = &ev
		}
	case martlet.EventChildFailed:
		if ev.Err != nil {
			fmt.Fprintf(f.w, "  child %s failed: %s\n", ev.Child, ev.Err.What)
		}
	case martlet.EventChildUp:
		fmt.Fprintf(f.w, "  child %s: %s\n", ev.Child, ev.Text)
	case martlet.EventChildDown:
		fmt.Fprintf(f.w, "  child %s is down: %s\n", ev.Child, ev.Text)
	}
}

// printUp prints what was negotiated, and what of it is less than one may expect.
func printUp(w io.Writer, s martlet.Status, name string, request []string) {
	for _, sa := range s.SAs {
		if sa.Connection != name {
			continue
		}
		by := s.Device
		if len(sa.Addresses) > 0 {
			by = list(sa.Addresses) + " by " + by
		}
		fmt.Fprintf(w, "martlet: %s is up: %s, peer %s at %v, %s\n", name, by, sa.RemoteID, sa.RemoteAddr, sa.Suite)
		for _, family := range request {
			isIt := func(a netip.Prefix) bool { return a.Addr().Is4() == (family == "ipv4") }
			if !slices.ContainsFunc(sa.Addresses, isIt) {
				fmt.Fprintf(w, "  note: the peer gave no %s address; traffic of that family does not go through the tunnel\n", family)
			}
		}
		if len(sa.DNS) > 0 {
			fmt.Fprintf(w, "  note: the peer's resolvers are %s%s; this host's are left as they are\n", list(sa.DNS), domains(sa))
		}
	}
}

// connectionName checks a name before anything of the host is touched.
func connectionName(c *config.Config, name string) (string, error) {
	names := slices.Sorted(maps.Keys(c.Connections))
	if name == "" && len(names) == 1 {
		return names[0], nil
	}
	if c.Connections[name] != nil {
		return name, nil
	}
	e := &martlet.Error{
		Code: "no-connection",
		What: fmt.Sprintf("no connection is called %q", name),
		Why:  "the file has: " + strings.Join(names, ", "),
		Hint: "name one of these",
	}
	switch {
	case len(names) == 0:
		e.Why, e.Hint = "the file has no connection", "add a [connection.NAME] table"
	case name == "":
		e.What = "the file has several connections and none is named"
	}
	return "", e
}

// running tells whether a martlet answers on a control socket.
func running(ctx context.Context, socket string) bool {
	if socket == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := martlet.NewControl(socket).Status(ctx)
	return err == nil
}

// completeNames are the words that may follow args: connections, then children.
func completeNames(file string, args []string) []string {
	c, err := config.Load(file)
	if err != nil {
		return nil
	}
	switch len(args) {
	case 0:
		return slices.Sorted(maps.Keys(c.Connections))
	case 1:
		if conn := c.Connections[args[0]]; conn != nil {
			return slices.Sorted(maps.Keys(conn.Children))
		}
	}
	return nil
}

// took writes a duration with three digits at most.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
