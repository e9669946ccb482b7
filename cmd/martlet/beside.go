package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"martlet"
	"martlet/config"
)

// beside is the control socket of a profile that is up while a martlet of another configuration
// answers on the socket that both name, as most do that name none.
func beside(socket, profile string) string {
	ext := filepath.Ext(socket)
	return strings.TrimSuffix(socket, ext) + "-" + profile + ext
}

// settle has c name the control socket beside the one that it names, if the profile is up with that.
func (s *source) settle(ctx context.Context, c *config.Config) {
	if s.profile == "" {
		return
	}
	if own := beside(c.Node.Control, s.profile); running(ctx, own) {
		s.control, c.Node.Control = own, own
	}
}

// standApart has a profile that comes up in userspace do so with a control socket beside that of
// other, a martlet with other connections. Tunnels of the host would have one device, and a
// file has no name to tell its martlet by.
func (s *source) standApart(c *config.Config, name string, other *martlet.Status) error {
	inProcess, _ := martlet.InProcess(c)
	if inProcess && s.profile != "" {
		s.control = beside(c.Node.Control, s.profile)
		c.Node.Control = s.control
		return nil
	}
	e := &martlet.Error{
		Code: "host",
		What: fmt.Sprintf("%s cannot come up beside the martlet that runs, which has %s", name, strings.Join(other.Connections, ", ")),
		Why:  fmt.Sprintf("process %d answers on the control socket %s, which both name", other.PID, c.Node.Control),
		Hint: "end that one by `martlet down`, or give this one another node.control",
	}
	if !inProcess {
		e.Why += "; device, mark and table are for one tunnel of this host alone"
		e.Hint += ", node.state, node.device, node.mark and node.table; with --userspace and a proxy a profile needs none of these"
	}
	return e
}

// running tells whether a martlet answers on a control socket.
func running(ctx context.Context, socket string) bool { return answering(ctx, socket) != nil }

// answering is the status of the martlet that answers on a control socket; nil where none does.
func answering(ctx context.Context, socket string) *martlet.Status {
	if _, err := os.Lstat(socket); err != nil {
		return nil // an answer would take longer
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := martlet.NewControl(socket).Status(ctx)
	if err != nil {
		return nil
	}
	return s
}
