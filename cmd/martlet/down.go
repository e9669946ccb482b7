package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

// socketFlags are how a command finds the running martlet.
type socketFlags struct{ file, socket string }

func (s *socketFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &s.file)
	cmd.Flags().StringVar(&s.socket, "control", "", "control `SOCKET`; default: what FILE names, or "+defaultSocket())
}

// path is the control socket: the one named, the one of the file, or the default.
func (s *socketFlags) path(cmd *cobra.Command) (string, error) {
	switch {
	case s.socket != "" && s.file != "":
		return "", usage(cmd, errors.New("--config and --control exclude each other"))
	case s.socket != "":
		return s.socket, nil
	case s.file == "":
		return defaultSocket(), nil
	}
	c, err := load(cmd, s.file)
	if err != nil {
		return "", err
	}
	return c.Node.Control, nil
}

// defaultSocket is what a file that says nothing names.
func defaultSocket() string {
	c, err := config.Parse("", nil, "", nil)
	if err != nil {
		panic(err) // an empty file has no faults
	}
	return c.Node.Control
}

func newDown() *cobra.Command {
	var where socketFlags
	cmd := &cobra.Command{
		Use:   "down [NAME]",
		Short: "Close a connection of the running martlet, or end it",
		Long: `Down closes a connection of a running martlet up or martlet serve at both ends. Without
NAME it closes all and ends the program, and returns when that has undone what it set
up on this host.`,
		Example: "  sudo martlet down\n  sudo martlet down office",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			control := martlet.NewControl(socket)
			if len(args) == 1 {
				return control.Down(cmd.Context(), args[0])
			}
			if err := control.Down(cmd.Context(), ""); err != nil {
				return err
			}
			return awaitEnd(cmd.Context(), control)
		},
	}
	where.add(cmd)
	return cmd
}

// awaitEnd waits until nobody answers on the control socket, which is when the host is as
// it was; one that is ending refuses.
func awaitEnd(ctx context.Context, control *martlet.Control) error {
	const patience = 10 * time.Second
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
