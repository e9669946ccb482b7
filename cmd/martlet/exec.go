package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"martlet"
	"martlet/config"
)

// The exit statuses by which env, nohup and the like tell of a program that did not run.
const (
	exitNotRunnable = 126
	exitNotFound    = 127
)

func newExec() *cobra.Command {
	var from source
	var verbose bool
	cmd := &cobra.Command{
		Use:   "exec [PROFILE | -c FILE] [NAME] -- PROGRAM [ARGUMENT...]",
		Short: "Run one program whose only way out is the tunnel, without root",
		Long: `Exec brings a connection up and runs a program in a network namespace of its own, whose only
way out is the tunnel: no setting of the program, no route of this host and no fault of martlet
leads around it. While the tunnel is away, what the program sends is lost, and the tunnel is
brought up again. Everything else on this host stays as it is.

It needs Linux and no root, where the system lets users make user namespaces; where it does
not, the error says what forbids it. The program runs as you and with your files, without any
privilege: sudo, and ping that is setuid, do not work inside (ping without that does). Names are
resolved by the gateway's resolvers alone: /etc/resolv.conf is the tunnel's, and the sockets of
nscd, systemd-resolved, Avahi and the system bus are out of sight.

Other sockets in the file system stay reachable, and who answers there uses this host's network:
the session bus, an X server, Docker, an SSH agent. A browser that runs already outside would
open its windows there. What the program leaves running when it ends is without network. Run
by root, the program has no capability, but is root towards files.

Interrupts from the terminal are the program's; SIGTERM and SIGHUP are handed to it. When it has
ended, the connection is closed at the gateway. Nothing is printed but warnings; proxies, forwards
and the control socket of the file are not opened. The exit status is the program's, 128 and the
number of the signal that ended it, 126 where it may not be run, and 127 where it is not found;
where the program did not start otherwise, martlet's own.`,
		Example: `  martlet exec office -- curl http://intranet.corp.example/
  martlet exec -c office.toml office -- bash
  ssh -o ProxyCommand='martlet exec -c office.toml -- nc %h %p' db.corp.example`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash < 0:
				return errors.New("the program comes behind --")
			case dash > 2:
				return fmt.Errorf("a profile and a connection at most are named before --, not %q", args[:dash])
			case dash == len(args):
				return errors.New("no program behind --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dash, name := cmd.ArgsLenAtDash(), ""
			if _, err := exec.LookPath(args[dash]); err != nil {
				return notRunnable(err)
			}
			names, err := from.pick(cmd, args[:dash])
			if err != nil {
				return err
			}
			if len(names) > 1 {
				return usage(cmd, fmt.Errorf("one connection at most is named before --, not %q", names))
			}
			if len(names) == 1 {
				name = names[0]
			}
			c, err := from.load(cmd)
			if err != nil {
				return err
			}
			if name, err = connectionName(c, name); err != nil {
				return err
			}
			return execute(cmd, c, name, args[dash:], verbose)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			// Cobra puts -- behind what is typed so far: whether the program comes next is not known.
			if dash := cmd.ArgsLenAtDash(); dash >= 0 && dash < len(args) {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return from.complete(args), cobra.ShellCompDirectiveDefault
		},
	}
	from.add(cmd)
	profilesFlag(cmd, &from.profiles)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log as log_level says, not warnings and errors alone")
	return cmd
}

// execute runs a program with a connection for it alone.
func execute(cmd *cobra.Command, c *config.Config, name string, program []string, verbose bool) (err error) {
	signals := catch()
	defer signal.Stop(signals)
	c.Node.Control, c.Node.Monitor = "", ""
	c.Proxies, c.Forwards, c.DNS.Listen = nil, nil, ""
	holdMemory(c)
	level := levelOf(c.Node.LogLevel)
	if !verbose {
		level = max(level, zapcore.WarnLevel)
	}
	logger := newLogger(cmd.ErrOrStderr(), level)

	// What held secrets is no more in the environment, see config.NewSource.
	enclave, err := martlet.OpenEnclave(c, martlet.Program{Args: program, Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	prompt := prompter{ask: terminalPrompt(os.Stdin, cmd.ErrOrStderr())}
	node := &martlet.Node{Config: c, Enclave: enclave, Logger: logger, Prompt: prompt.prompt}
	defer func() {
		closing := errors.Join(node.Close(), enclave.Close())
		if _, ran := errors.AsType[*programError](err); closing != nil && (err == nil || ran) {
			logger.Warn("the end was not in order: " + closing.Error())
		} else {
			err = errors.Join(err, closing)
		}
	}()
	if err := node.Start(cmd.Context()); err != nil {
		return err
	}
	if err := node.Connect(cmd.Context(), name); err != nil {
		return err
	}
	// From here on the program decides what a signal means.
	prompt.over.Store(true)
	if err := enclave.Start(); err != nil {
		return err
	}
	return attend(enclave, signals)
}

// attend hands signals to the program until it has ended.
func attend(enclave *martlet.Enclave, signals <-chan os.Signal) error {
	type end struct {
		status int
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := enclave.Wait()
		ended <- end{status, err}
	}()
	for {
		select {
		case s := <-signals:
			// The terminal sends interrupts to the program too.
			if s, ok := s.(syscall.Signal); ok && (s == syscall.SIGTERM || s == syscall.SIGHUP) {
				if err := enclave.Signal(s); err != nil {
					return err
				}
			}
		case e := <-ended:
			if e.err != nil || e.status == 0 {
				return e.err
			}
			return &programError{status: e.status}
		}
	}
}

// catch takes the signals that would end us before the program. One that is ignored since before
// (by nohup) stays so, for the program too.
func catch() chan os.Signal {
	signals := make(chan os.Signal, 8)
	all := []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP}
	for _, s := range slices.DeleteFunc(all, signal.Ignored) {
		signal.Notify(signals, s)
	}
	return signals
}

// prompter asks on the terminal until that is the program's.
type prompter struct {
	ask  func(context.Context, martlet.Login) (string, []byte, error) // nil: there is none
	over atomic.Bool
}

func (p *prompter) prompt(ctx context.Context, l martlet.Login) (string, []byte, error) {
	switch {
	case p.ask == nil:
		return "", nil, errors.New("there is no terminal to ask on")
	case p.over.Load():
		return "", nil, errors.New("the terminal is the program's by now; put the password into the configuration")
	}
	return p.ask(ctx, l)
}

// programError is the end of a program with a status that is not 0, of which it has told
// itself, or why it was not run.
type programError struct {
	status int
	err    error // nil: it ran
}

func notRunnable(err error) error {
	// The name is in what exec says.
	err = fmt.Errorf("the program cannot be run: %w", err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &programError{exitNotFound, err}
	}
	return &programError{exitNotRunnable, err}
}

func (e *programError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return fmt.Sprintf("the program ended with status %d", e.status)
}

func (e *programError) report(w io.Writer) int {
	if e.err != nil {
		fmt.Fprintf(w, "martlet: %v\n", e.err)
		hint(w, "", "name one that PATH finds, or its path", codeProgram)
	}
	return e.status
}
