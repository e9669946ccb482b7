//go:build unix

package dns

import (
	"net/netip"
	"strings"

	"go.uber.org/zap"

	"martlet/tun/platform"
)

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
	if _, err := platform.Run(c.Stdin, c.Args[0], c.Args[1:]...); err != nil {
		return &Error{strings.Join(c.Args, " "), err, "the command does the same by hand, as root"}
	}
	return nil
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
