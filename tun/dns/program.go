//go:build unix

package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"go.uber.org/zap"
)

// programTime is how long a program may take to do what it is told.
const programTime = 20 * time.Second

// command is how a program is called, and what it reads.
type command struct {
	Args  []string
	Stdin string
}

// program is a manner in which another program is told what to do. The program's result is looked
// at: what conf returns must be empty, or begin with the servers that were set.
type program struct {
	add    func(Config) command
	remove command
	conf   func() conf
	log    *zap.Logger
}

func (p *program) set(c Config) error {
	if err := run(p.add(c)); err != nil {
		return err
	}
	now := p.conf()
	if now.only(netip.Addr.IsLoopback) { // which has been told
		return nil
	}
	for i, a := range now.Servers {
		if i >= len(c.Servers) || a != c.Servers[i] {
			p.log.Warn("names may leave the tunnel: other servers than its own are asked as well; see what else sets resolvers on this host",
				zap.Stringers("servers", now.Servers), zap.Stringers("wanted", c.Servers))
			break
		}
	}
	return nil
}

func (p *program) undo() error { return run(p.remove) }

func run(c command) error {
	ctx, cancel := context.WithTimeout(context.Background(), programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.WaitDelay = time.Second // a daemon that it starts may keep the output open
	out, err := cmd.CombinedOutput()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %s", programTime)
	}
	if said := bytes.TrimSpace(out[:min(len(out), 500)]); len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return &Error{strings.Join(c.Args, " "), err, "the command does the same by hand, as root"}
}

// openresolvAdd is exclusive, so that no others are asked. Before a local resolver the record can
// be private instead: its servers are asked for the names that it lists.
func openresolvAdd(c Config, record string, local bool) command {
	if local && !c.all() {
		return command{[]string{"resolvconf", "-p", "-a", record}, resolvConfText(c.Servers, c.below())}
	}
	return command{[]string{"resolvconf", "-x", "-a", record}, resolvConfText(c.Servers, c.Search)}
}

// openresolvRemove has -f, which is for a record that is not there.
func openresolvRemove(record string) command {
	return command{Args: []string{"resolvconf", "-f", "-d", record}}
}

// debianAdd has none of openresolv's options: Debian's resolvconf takes no option before -a, and
// has the order of records in a file.
func debianAdd(c Config, record string) command {
	return command{[]string{"resolvconf", "-a", record}, resolvConfText(c.Servers, c.Search)}
}

func debianRemove(record string) command {
	return command{Args: []string{"resolvconf", "-d", record}}
}

// resolvdAdd proposes servers to resolvd of OpenBSD, which knows no search domains.
func resolvdAdd(c Config) command {
	args := []string{"route", "nameserver", c.Device}
	for _, a := range c.Servers {
		args = append(args, a.String())
	}
	return command{Args: args}
}

func resolvdRemove(device string) command {
	return command{Args: []string{"route", "nameserver", device}}
}
