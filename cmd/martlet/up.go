package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"martlet"
	"martlet/config"
)

func newUp() *cobra.Command {
	var from source
	var doors doorFlags
	var password, command, log string
	var verbose, detached bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "up PROFILE | up [USER@]HOST | up -c FILE [NAME [CHILD]]",
		Short: "Bring a connection up and keep it until a signal or martlet down",
		Long: `Up brings a connection up: that of a profile, which martlet import made; to the gateway HOST, which proves its name by a certificate that this
system trusts, where USER logs in by a password; or one that FILE describes. It prints each stage with its time, and stays until a signal or
martlet down; then it undoes what it set up on this host. A connection that is lost is brought
up again, for as long as it takes, unless the file has keep = "manual" for it: then up ends with
it, and one that was closed in order is no failure. A user name or password for EAP that the
file lacks is asked for on the terminal. A profile takes the place of -c FILE, and the only one there
is need not be named. NAME may be left out where the file has one connection; CHILD names a child that the file keeps closed until it is asked for. It needs
root, and on Windows a console that runs as administrator and wintun.dll beside this program.

With node.kill_switch in the file nothing of this host passes by the tunnel from the start of
up on, and after a crash or a failure either, until up is started again or martlet down
opens the host. Up then tries until a network that does not answer does.

With --userspace it needs none of these: the tunnel ends in this process, and programs use it by
the proxies and forwards that flags or the file open. Nothing else of this host is protected
then. These stay open while the tunnel is away; what is asked of them waits for it. Only a
network that does not answer is no reason to end: up tries until it does.

With --wait up tries for so long, and then fails as for a network that does not answer. With
--background it returns when the tunnel stands, and a process that stays keeps it up; martlet
status, down and the like find that one.

Each key of the file can be set by a flag (--set) or by a variable of the environment
(MARTLET_NODE_MTU for node.mtu), which come before it; see martlet config reference.

Where a martlet is running already with the control socket that the file names, up asks
that one to bring the connection up, and returns when it is. With --userspace a profile comes up beside
one that has other connections, with a control socket of its own, and martlet status PROFILE and down
PROFILE find it there; two tunnels of the host need another node.control, node.state, node.device,
node.mark and node.table each.`,
		Example: `  sudo martlet up office
  sudo martlet up alice@vpn.example.com
  sudo martlet up -c /etc/martlet/office.toml office
  sudo martlet up office --background --wait 30s && curl https://intranet.corp.example/
  martlet up -c office.toml --userspace --proxy 127.0.0.1:1080 -L 5432:db.corp.example:5432`,
		Args: cobra.MaximumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if detached && !inBackground() && parent == nil {
				return background(cmd.Context())
			}
			spare := startSpare(doors.userspace)
			defer spare.drop()
			resume := deferCollection()
			defer resume()
			name, child := "", ""
			from.files = filesOf()
			args, err := from.pick(cmd, args)
			if err != nil {
				return err
			}
			if len(args) > 2 {
				return usage(cmd, fmt.Errorf("a connection and a child at most are named: %s is one too many", args[2]))
			}
			picked := args
			if len(args) > 0 {
				name = args[0]
			}
			more := doors.settings()
			gateway, ok := parseTarget(name, from.file)
			switch {
			case ok:
				name, more = gateway.connection(), append(gateway.settings(password), more...)
			case password != "":
				return usage(cmd, errors.New("--password-file is for [USER@]HOST; a file has the key secret"))
			}
			c, err := from.load(cmd, more...)
			if err != nil {
				return err
			}
			if len(args) > 1 {
				child = args[1]
			}
			if name, err = connectionName(c, name); err != nil {
				return err
			}
			other := answering(cmd.Context(), c.Node.Control)
			if other != nil && !slices.Contains(other.Connections, name) {
				if err := from.standApart(c, name, other); err != nil {
					return err
				}
				other = nil
			}
			if other != nil {
				if flags := changed(cmd); flags != "" {
					return usage(cmd, fmt.Errorf("a martlet runs already, with %s: it cannot heed %s", c.Node.Control, flags))
				}
				if err := mayLeave(c); err != nil {
					return err
				}
				return upElsewhere(cmd, c, name, child, wait)
			}
			u := &bringUp{name: name, child: child, verbose: verbose, wait: wait, connected: func() { time.AfterFunc(time.Second, resume) }, command: command}
			if detached {
				u.log = cmp.Or(log, filepath.Join(c.Node.State, "up.log"))
				u.stands = func() error { return detach(u.log) }
			}
			switch user, err := apart(c); {
			case err != nil:
				return err
			case user != nil:
				return separate(cmd, c, u.logger(cmd, c), user, work{source: &from, spare: spare, args: picked, log: u.log, command: command})
			}
			spare.drop()
			return u.run(cmd, c, reread(&from))
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return from.complete(args), cobra.ShellCompDirectiveNoFileComp
		},
	}
	from.add(cmd)
	profilesFlag(cmd, &from.profiles)
	doors.add(cmd)
	cmd.Flags().StringVar(&password, "password-file", "", "take the password of USER from `FILE` rather than ask for it")
	cmd.Flags().DurationVar(&wait, "wait", 0, "try for `DURATION`, such as 30s, and fail then")
	cmd.Flags().BoolVarP(&detached, "background", "d", false, "return when the tunnel stands; it stays")
	cmd.Flags().StringVar(&log, "log", "", "what is said in the background goes to `FILE`; default: up.log in node.state")
	cmd.Flags().StringVar(&command, "password-command", "", "ask `COMMAND`, of a keyring for example, for the password rather than the terminal")
	cmd.MarkFlagsMutuallyExclusive("password-file", "password-command")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log as log_level says, not warnings and errors alone")
	return cmd
}

// upElsewhere has the running martlet bring the connection up.
func upElsewhere(cmd *cobra.Command, c *config.Config, name, child string, wait time.Duration) error {
	control := martlet.NewControl(c.Node.Control)
	ctx, cancel := within(cmd.Context(), wait, name)
	defer cancel()
	if err := control.Up(ctx, name, child); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	status, err := control.Status(cmd.Context())
	if err != nil {
		return err
	}
	printUp(cmd.ErrOrStderr(), *status, name, c.Connections[name].Request)
	fmt.Fprintf(cmd.ErrOrStderr(), "martlet: process %d keeps it up\n", status.PID)
	return nil
}

// deferCollection lets the heap grow to 16 MiB before it is searched for garbage for the first
// time, until resume is called. Buffers take it past the 4 MiB of the default in the midst of the
// handshake, where the search would cost more than the handshake does.
func deferCollection() (resume func()) {
	before := debug.SetGCPercent(400)
	return sync.OnceFunc(func() { debug.SetGCPercent(before) })
}

// within is ctx for so long, if wait is not 0; then its cause is an error for people.
func within(ctx context.Context, wait time.Duration, name string) (context.Context, context.CancelFunc) {
	if wait == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, wait, &martlet.Error{
		Code: "unreachable", What: fmt.Sprintf("%s is not up after %v", name, wait),
		Why: "no try of that time came to its end, or each failed; what they met stands above", Hint: "give it more time with --wait, or see whether the gateway answers at all",
	})
}

// bringUp is one connection that is to come up.
type bringUp struct {
	name, child string
	verbose     bool
	wait        time.Duration // 0: as long as one try takes
	log         string        // the file for what is said in the background
	command     string        // that tells the password; empty: the terminal is asked
	connected   func()        // called when it stands, or does not
	stands      func() error  // called when it stands for the first time; may be nil
}

// run runs a node with the connection.
func (u *bringUp) run(cmd *cobra.Command, c *config.Config, reread func() (*config.Config, error)) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stderr := cmd.ErrOrStderr()
	logger := u.logger(cmd, c)
	inProcess, why := inProcess(c)
	prompt := terminalPrompt(os.Stdin, stderr)
	if u.command != "" {
		prompt = passwordBy(u.command, stderr)
	}
	asks := make(chan bool)
	node := &martlet.Node{Config: c, Host: !inProcess, Services: services(), Load: reread, Logger: logger, Prompt: telling(prompt, asks)}
	return runNode(ctx, node, cancel, func(ctx context.Context) error {
		if inProcess {
			fmt.Fprintf(stderr, "martlet: in userspace mode, since %s: only what uses the ways below goes through the tunnel, nothing else of this host is protected\n", why)
			doors := node.Status().Doors
			if len(doors) == 0 {
				fmt.Fprintln(stderr, "  none is open: --proxy 127.0.0.1:1080 opens a proxy for programs; martlet nc and martlet ping need none")
			}
			printDoors(stderr, doors)
		}
		f := &follower{w: stderr, name: u.name, request: c.Connections[u.name].Request, events: node.Watch(ctx), asks: asks, connected: make(chan error, 1), stands: u.stands}
		go func() {
			err := u.connect(ctx, node, stderr, c.Connections[u.name].Keep, inProcess || c.Node.KillSwitch)
			u.connected()
			f.connected <- err
		}()
		return f.follow(node.Status)
	})
}

// logger shows what the progress does not tell.
func (u *bringUp) logger(cmd *cobra.Command, c *config.Config) *zap.Logger {
	level := levelOf(c.Node.LogLevel)
	if u.verbose {
		return newLogger(cmd.ErrOrStderr(), level)
	}
	return newLogger(cmd.ErrOrStderr(), max(level, zapcore.WarnLevel)).WithOptions(without("down", "child failed"))
}

// connect brings the connection up. If it is worth waiting for a network, that is done.
func (u *bringUp) connect(ctx context.Context, node *martlet.Node, stderr io.Writer, keep config.Keep, worth bool) error {
	all := ctx
	ctx, cancel := within(all, u.wait, u.name)
	defer cancel()
	err := node.Connect(ctx, u.name)
	if isOfNetwork(err) && all.Err() == nil {
		tellPortal(all, stderr, node)
	}
	if (worth || u.wait > 0) && isOfNetwork(err) && keep == config.KeepUp && ctx.Err() == nil {
		// Programs wait at the doors, or behind the kill switch.
		fmt.Fprintf(stderr, "martlet: %s is not up yet: %v\n", u.name, err)
		err = node.Keep(ctx, u.name)
	}
	if err == nil && u.child != "" {
		err = node.OpenChild(ctx, u.name, u.child)
	}
	return err
}

// isOfNetwork tells whether a peer gave no answer, which may change by itself.
func isOfNetwork(err error) bool {
	e, ok := errors.AsType[*martlet.Error](err)
	return ok && e.Code.Class() == martlet.ClassNetwork
}

// printDoors prints the ways into a tunnel that ends in this process.
func printDoors(w io.Writer, doors []martlet.DoorStatus) {
	for _, d := range doors {
		switch d.Kind {
		case "local":
			fmt.Fprintf(w, "  %s %s leads to %s inside\n", d.Network, d.Listen, d.To)
		case "remote":
			fmt.Fprintf(w, "  %s %s inside leads to %s\n", d.Network, d.Listen, d.To)
		default:
			fmt.Fprintf(w, "  %s on %s\n", d.Kind, d.Listen)
		}
	}
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
	asks      <-chan bool          // whether somebody is asked for a password from now on
	connected chan error           // what came of connecting, once
	stands    func() error         // called when it stands for the first time; may be nil

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
	asking := false
	for {
		select {
		case asking = <-f.asks:
			silent.Reset(quiet)
			continue
		case <-silent.C:
			if connected != nil && !asking { // else it is not the gateway that we wait for
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
			if f.stands != nil {
				if err := f.stands(); err != nil {
					return err
				}
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
	case martlet.EventWarning, martlet.EventMoved, martlet.EventRekeyed, martlet.EventRekeyFailed, martlet.EventReloading, martlet.EventReloaded: // stand in the log
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
		if s.InProcess {
			by = "this process"
		}
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
		if len(sa.DNS) > 0 && s.InProcess {
			fmt.Fprintf(w, "  names are resolved inside, by %s%s\n", list(sa.DNS), domains(sa))
		}
	}
	if s.Resolvers != nil {
		printResolvers(w, s.Resolvers)
	}
}

// printResolvers tells who is asked for names.
func printResolvers(w io.Writer, r *martlet.ResolversStatus) {
	switch {
	case r.Err != "":
		fmt.Fprintf(w, "  note: names are not asked of %s, as they should be: %s\n", list(r.Servers), r.Err)
	case len(r.Domains) > 0:
		fmt.Fprintf(w, "  names below %s are asked of %s\n", strings.Join(r.Domains, ", "), list(r.Servers))
	default:
		fmt.Fprintf(w, "  names are asked of %s\n", list(r.Servers))
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
