package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"martlet"
	"martlet/config"
	"martlet/tun/privsep"
)

// join finds the parent of this process, if it has one.
func join() error {
	client, err := privsep.Join()
	if client == nil || err != nil {
		return err
	}
	end, cancel := context.WithCancel(context.Background())
	hangups := make(chan os.Signal, 1)
	p := &parentProcess{services: client, files: client, forget: client.Forget, end: end, hangups: hangups}
	p.call = func(do string, in, out any) ([]*os.File, error) { return client.Call(do, in, out) }
	p.user, p.limits = client.User()
	if err := client.More(&p.told); err != nil {
		cancel()
		return err
	}
	go func() {
		defer cancel()
		for s := range client.Signals() {
			if s != syscall.SIGHUP {
				cancel()
				continue
			}
			select {
			case hangups <- s:
			default: // the one before is still to come
			}
		}
	}()
	parent = p
	return nil
}

// filesOf reads what the configuration names: by the parent, or so that a child may ask for the same.
func filesOf() config.Files {
	if parent != nil {
		return parent.files
	}
	return &privsep.Files{}
}

// apart is whom a process without rights is to run as; nil where this one does all by itself: it is not root, packets
// end in it, or node.user wants it so.
func apart(c *config.Config) (*privsep.Identity, error) {
	if parent != nil || os.Geteuid() != 0 || !martlet.Direct(c, nil).Privileged() {
		return nil, nil //nolint:nilnil // nobody is no fault
	}
	if inProcess, _ := martlet.InProcess(c); inProcess {
		return nil, nil //nolint:nilnil // the same
	}
	user, err := privsep.Identify(c.Node.User)
	if err != nil {
		return nil, &martlet.Error{
			Code: "host", What: "it is not known whom to run as", Why: err.Error(),
			Hint: `set node.user to a user of this system, or to "root" to give up no right`,
		}
	}
	return user, nil
}

// separate runs this command line again in a process without rights, does for it what needs them, and
// ends as it does. When it dies the host is restored; a kill switch stays in force.
func separate(cmd *cobra.Command, c *config.Config, log *zap.Logger, user *privsep.Identity, w work) error {
	if c.Node.Control != "" {
		if err := martlet.Alone(cmd.Context(), c.Node.Control); err != nil {
			return err
		}
	}
	to, err := newNotifier()
	if err != nil {
		log.Error("systemd hears nothing of this service, and will take it for one that does not start", zap.Error(err))
	}
	files, ok := w.source.files.(*privsep.Files)
	if !ok {
		return errors.New("the files of the configuration were read by somebody else")
	}
	server := privsep.NewServer(martlet.Direct(c, log.Named("host")), files)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.answer(ctx, server, to)

	// The child hears of signals from here only: a terminal tells its whole group.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	more := told{File: w.source.file, Args: w.args}
	if to != nil {
		more.Notify, more.Watchdog = true, to.watchdog
	}
	child, err := w.spare.take(user)
	if err == nil {
		err = server.Serve(child, more)
	}
	if err != nil {
		return &martlet.Error{
			Code: "host", What: "the process that is to speak to the network could not be started as " + user.Name, Why: err.Error(),
			Hint: `let every user execute the program, or set node.user = "root"`,
		}
	}
	blocked := c.Node.KillSwitch

	ends := 0
	for {
		select {
		case s := <-signals:
			number, ok := s.(syscall.Signal)
			if number != syscall.SIGHUP {
				ends++
			}
			if ends > 1 || !ok || child.Signal(number) != nil {
				child.Kill() // it was asked twice, or hears nothing any more
			}
		case <-child.Done():
			status, clean, how, err := child.Finish()
			switch {
			case clean && status == exitDone && err == nil:
				return nil
			case clean && err == nil:
				return &programError{status: status} // it has told why
			case ends > 1 && err == nil:
				return context.Canceled
			}
			return died(how, blocked, err)
		}
	}
}

// died is the error of a child that ended in no order.
func died(how string, blocked bool, err error) error {
	e := &martlet.Error{
		Code: codeInternal, What: "the process that speaks to the network died: " + how,
		Why:  "routes and resolvers of this host are restored",
		Hint: "start it again; martlet bugreport collects what a report needs",
	}
	if err != nil {
		e.Why = "and not all of this host could be restored: " + err.Error()
	}
	if blocked {
		e.Why += "; the kill switch stays in force"
		e.Hint = "start it again, or open this host by `martlet down`"
	}
	return e
}

// answer answers what a command's child asks for.
func (w *work) answer(ctx context.Context, server *privsep.Server, to *notifier) {
	server.More[askReload] = func(json.RawMessage) (any, []*os.File, error) {
		// The child finds the faults for itself.
		if c, err := w.source.again(); err == nil {
			server.AllowPorts(martlet.HostSettings(c).Ports)
		}
		return nil, nil, nil
	}
	if w.log != "" {
		server.More[askDetach] = func(json.RawMessage) (any, []*os.File, error) {
			ours, err := detached(w.log)
			if err != nil {
				return nil, nil, err
			}
			if err := errors.Join(leave(ours), tellReady()); err != nil {
				return nil, nil, err
			}
			childs, err := detached(w.log)
			return nil, childs, err
		}
	}
	if w.command != "" {
		ask := commandPrompt(w.command, os.Stderr)
		server.More[askPassword] = handler(func(l martlet.Login) (any, []*os.File, error) {
			user, value, err := ask(ctx, l)
			e, ok := errors.AsType[*martlet.Error](err)
			if err != nil && !ok {
				return nil, nil, err
			}
			return password{user, value, e}, nil, nil
		})
	}
	if to != nil {
		server.More[askNotify] = handler(func(lines []string) (any, []*os.File, error) {
			if err := checkNotice(lines); err != nil {
				return nil, nil, err
			}
			return nil, nil, to.send(lines...)
		})
	}
}

// checkNotice refuses what a service does not tell of itself: systemd takes orders by the same way.
func checkNotice(lines []string) error {
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		switch name {
		case "READY", "STATUS", "RELOADING", "MONOTONIC_USEC", "WATCHDOG", "EXTEND_TIMEOUT_USEC", "STOPPING":
		default:
			return fmt.Errorf("systemd is not told %q", name)
		}
		if strings.ContainsAny(line, "\n\x00") || len(line) > 4096 {
			return errors.New("a line for systemd has another one in it, or is too long")
		}
	}
	return nil
}
