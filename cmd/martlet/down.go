package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

// socketFlags are how a command finds the running martlet.
type socketFlags struct {
	source
	socket string
}

func (s *socketFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &s.file)
	cmd.Flags().StringVar(&s.socket, "control", "", "control `SOCKET`; default: what the configuration names, or "+defaultSocket())
}

// path is the control socket: the one named, the one of the configuration, or the default.
func (s *socketFlags) path(cmd *cobra.Command) (string, error) {
	switch {
	case s.socket != "" && s.file != "":
		return "", usage(cmd, errors.New("--config and --control exclude each other"))
	case s.socket != "":
		return s.socket, nil
	case s.file == "" && os.Getenv("MARTLET_CONFIG") == "":
		return cmp.Or(os.Getenv("MARTLET_NODE_CONTROL"), defaultSocket()), nil
	}
	c, err := s.load(cmd)
	if err != nil {
		return "", err
	}
	return c.Node.Control, nil
}

func newDown() *cobra.Command {
	var where socketFlags
	cmd := &cobra.Command{
		Use:   "down [PROFILE] [NAME]",
		Short: "Close a connection of the running martlet, or end it",
		Long: `Down closes a connection of a running martlet up or martlet serve at both ends, or all of a
profile. Without NAME it closes all and ends the program, and returns when that has undone what it set
up on this host. Where none runs it undoes what one has left that was killed or failed, so
that a kill switch opens.`,
		Example: "  sudo martlet down\n  sudo martlet down office",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := where.pickNames(cmd, args)
			if err != nil {
				return err
			}
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			control := martlet.NewControl(socket)
			if len(args) > 0 {
				return closeEach(cmd.Context(), control, names)
			}
			if err := control.Down(cmd.Context(), ""); err != nil {
				return where.undo(cmd, err)
			}
			return awaitEnd(cmd.Context(), control)
		},
	}
	where.add(cmd)
	profilesFlag(cmd, &where.profiles)
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return where.complete(args), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// closeEach closes connections. A martlet up ends with its own, and all others with it.
func closeEach(ctx context.Context, control *martlet.Control, names []string) error {
	var failed []error
	for n, name := range names {
		err := control.Down(ctx, name)
		if err == nil {
			continue
		}
		if e, ok := errors.AsType[*martlet.Error](err); ok && e.Code == codeTerminated {
			return errors.Join(append(failed, awaitEnd(ctx, control))...)
		}
		if n > len(failed) { // one was closed
			if _, gone := control.Status(ctx); gone != nil {
				break // with it
			}
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// pickNames are the connections that args mean: NAME, or PROFILE NAME, or all of PROFILE.
func (s *socketFlags) pickNames(cmd *cobra.Command, args []string) ([]string, error) {
	took := false
	if len(args) > 0 && s.socket == "" {
		var err error
		if took, err = s.take(args[0]); err != nil {
			return nil, err
		}
	}
	switch {
	case !took && len(args) > 1:
		return nil, usage(cmd, fmt.Errorf("%s is no profile, so one connection at most is named", args[0]))
	case !took:
		return args, nil
	case len(args) > 1:
		return args[1:], nil
	}
	c, err := s.load(cmd)
	if err != nil {
		return nil, err
	}
	return sortedNames(c), nil
}

// takeOnly takes the profile that args name, if they do.
func (s *socketFlags) takeOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if s.socket != "" || s.named() {
		return usage(cmd, errors.New("a profile, a configuration and a control socket exclude each other"))
	}
	took, err := s.take(args[0])
	if !took && err == nil {
		err = s.unknown(args[0], "")
	}
	return err
}

// undo undoes what a martlet left that cannot be asked any more; unanswered says so.
func (s *socketFlags) undo(cmd *cobra.Command, unanswered error) error {
	if e, ok := errors.AsType[*martlet.Error](unanswered); ok && e.Code == codeTerminated {
		return unanswered // it is ending
	}
	state, err := s.state(cmd)
	if err != nil {
		return err
	}
	if found, err := martlet.Undo(state, nil); err != nil || !found {
		return unanswered //nolint:nilerr // whoever may not look learns that nobody answers
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "martlet: none runs here; what one left is undone, its kill switch too")
	return nil
}

// state is the folder where what must be undone is noted, found as path finds the socket.
func (s *socketFlags) state(cmd *cobra.Command) (string, error) {
	var c *config.Config
	var err error
	if s.socket != "" || s.file == "" && os.Getenv("MARTLET_CONFIG") == "" {
		c, err = config.Parse("", nil, "", nil)
	} else {
		c, err = s.load(cmd)
	}
	if err != nil {
		return "", err
	}
	return c.Node.State, nil
}

// awaitEnd waits until nobody answers on the control socket, which is when the host is as
// it was; one that is ending refuses.
func awaitEnd(ctx context.Context, control *martlet.Control) error {
	const patience = time.Minute // connections through proxies may go on for node.drain
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it was told to end and still runs after %v", patience))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := control.Status(ctx)
		e, ok := errors.AsType[*martlet.Error](err)
		if err != nil && ctx.Err() == nil && !(ok && e.Code == codeTerminated) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
