package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// upFlags is martlet up with its flags.
type upFlags struct {
	from     source
	doors    doorFlags
	password string // a file
	command  string // that tells the password
	log      string // of the background
	verbose  bool
	detached bool
	wait     time.Duration
}

func newUp() *cobra.Command {
	var u upFlags
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
		RunE: u.run,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return u.from.complete(args), cobra.ShellCompDirectiveNoFileComp
		},
	}
	u.from.add(cmd)
	profilesFlag(cmd, &u.from.profiles)
	u.doors.add(cmd)
	cmd.Flags().StringVar(&u.password, "password-file", "", "take the password of USER from `FILE` rather than ask for it")
	cmd.Flags().DurationVar(&u.wait, "wait", 0, "try for `DURATION`, such as 30s, and fail then")
	cmd.Flags().BoolVarP(&u.detached, "background", "d", false, "return when the tunnel stands; it stays")
	cmd.Flags().StringVar(&u.log, "log", "", "what is said in the background goes to `FILE`; default: up.log in node.state")
	cmd.Flags().StringVar(&u.command, "password-command", "", "ask `COMMAND`, of a keyring for example, for the password rather than the terminal")
	cmd.MarkFlagsMutuallyExclusive("password-file", "password-command")
	cmd.Flags().BoolVarP(&u.verbose, "verbose", "v", false, "log as log_level says, not warnings and errors alone")
	return cmd
}

func (u *upFlags) run(cmd *cobra.Command, args []string) error {
	if u.detached && !inBackground() && parent == nil {
		return background(cmd.Context())
	}
	spare := startSpare(u.doors.userspace)
	defer spare.drop()
	resume := deferCollection()
	defer resume()
	name, child := "", ""
	u.from.files = filesOf()
	args, err := u.from.pick(cmd, args)
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
	more := u.doors.settings()
	gateway, ok := parseTarget(name, u.from.file)
	switch {
	case ok:
		name, more = gateway.connection(), append(gateway.settings(u.password), more...)
	case u.password != "":
		return usage(cmd, errors.New("--password-file is for [USER@]HOST; a file has the key secret"))
	}
	c, err := u.from.load(cmd, more...)
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
	switch {
	case other != nil && !slices.Contains(other.Connections, name):
		if err := u.from.standApart(c, name, other); err != nil {
			return err
		}
	case other != nil:
		if flags := changed(cmd); flags != "" {
			return usage(cmd, fmt.Errorf("a martlet runs already, with %s: it cannot heed %s", c.Node.Control, flags))
		}
		if err := mayLeave(c); err != nil {
			return err
		}
		return upElsewhere(cmd, c, name, child, u.wait)
	}
	up := &bringUp{
		name: name, child: child, verbose: u.verbose, wait: u.wait, command: u.command,
		connected: func() { time.AfterFunc(time.Second, resume) }, // first of all the first packets pass
	}
	if u.detached {
		up.log = cmp.Or(u.log, filepath.Join(c.Node.State, "up.log"))
		up.stands = func() error { return detach(up.log) }
	}
	switch user, err := apart(c); {
	case err != nil:
		return err
	case user != nil:
		return separate(cmd, c, up.logger(cmd, c), user, work{source: &u.from, spare: spare, args: picked, log: up.log, command: u.command})
	}
	spare.drop()
	return up.run(cmd, c, reread(&u.from))
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
