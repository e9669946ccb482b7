package martlet

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun"
	"martlet/tun/enclave"
)

// Enclave is a user and network namespace for one program, whose only way out is the tunnel of the
// Node that has it. It needs Linux, and where that lets users make user namespaces no privilege.
// Package martlet/tun/enclave tells what holds inside and what does not.
//
//	e, err := martlet.OpenEnclave(cfg, martlet.Program{Args: []string{"curl", "http://10.1.0.1"}, Stdout: os.Stdout})
//	defer e.Close()
//	node := &martlet.Node{Config: cfg, Enclave: e}
//	… Start, Connect …
//	if err := e.Start(); err != nil { … }
//	status, err := e.Wait()
//
// The executable is the helper inside too: main begins with HelpEnclave. Errors are *Error.
type Enclave struct {
	inside *enclave.Enclave

	mu  sync.Mutex
	set enclave.Network // what the device has
}

// Program is what runs in an Enclave.
type Program struct {
	// Args are the program, found as a shell finds it, and its arguments.
	Args []string
	// Env is its environment; nil is that of this process, which is what it is at OpenEnclave.
	Env []string
	// Stdin, Stdout and Stderr stay the caller's; nil is /dev/null. Network sockets are refused.
	Stdin, Stdout, Stderr *os.File
}

// HelpEnclave is to be the first thing that main calls in a program with Enclaves. In the process that
// is a helper inside of one it does the work of that and does not return. It looks at os.Args
// alone.
func HelpEnclave() { enclave.Help(os.Args) }

// OpenEnclave makes the namespaces, and in them the device that c names. The program is looked up, and
// starts with Start. Close the Node first, then the Enclave.
func OpenEnclave(c *config.Config, p Program) (*Enclave, error) {
	inside, err := enclave.Open(enclave.Options{
		Device: c.Node.Device, MTU: cmp.Or(c.Node.MTU, defaultMTU), Queues: FootprintOf(c).lanes(false),
		Args: p.Args, Env: p.Env, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr,
	})
	if err == nil {
		return &Enclave{inside: inside}, nil
	}
	if e, ok := errors.AsType[*enclave.Error](err); ok {
		return nil, &Error{Code: ike.CodeHost, What: "no enclave could be opened: could not " + e.Step, Why: whyOf(e), Hint: e.Hint}
	}
	return nil, notStarted(err)
}

func whyOf(e *enclave.Error) string {
	if e.Why != "" {
		return e.Why
	}
	return strings.ReplaceAll(e.Err.Error(), "\n", "; ")
}

func notStarted(err error) error {
	return &Error{
		Code: ike.CodeHost,
		What: "the program could not be started",
		Why:  err.Error(),
		Hint: "name a program that this user may run, by its path or as PATH finds it",
	}
}

// device is what the Node reads packets from.
func (e *Enclave) device(log *zap.Logger) tun.Device {
	for _, limit := range e.inside.Limits() {
		log.Warn(limit)
	}
	return e.inside.Device()
}

// apply gives the device the addresses of the tunnel, and the program the resolvers. While there is no
// tunnel they stay: what is sent is dropped, and connections live on where the next tunnel
// brings the same.
func (e *Enclave) apply(addresses []netip.Prefix, resolvers []netip.Addr) error {
	if len(addresses) == 0 {
		return nil
	}
	next := enclave.Network{Resolvers: resolvers}
	for _, p := range addresses {
		next.Addresses = append(next.Addresses, p.Addr())
	}
	next.Addresses = slices.Compact(next.Addresses) // they are sorted
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.Equal(next.Addresses, e.set.Addresses) && slices.Equal(next.Resolvers, e.set.Resolvers) {
		return nil
	}
	if err := e.inside.Set(next); err != nil {
		return e.failure("the enclave could not be set up", err)
	}
	e.set = next
	return nil
}

func (e *Enclave) failure(what string, err error) error {
	return &Error{
		Code: ike.CodeHost,
		What: what,
		Why:  strings.ReplaceAll(err.Error(), "\n", "; "),
		Hint: "start it again; if it happens again, report it",
	}
}

// Start starts the program, once, after the Node has connected.
func (e *Enclave) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.set.Addresses) == 0 {
		return &Error{
			Code: ike.CodeAddress,
			What: "the program was not started: it would have no address",
			Why:  "the gateway gave this end no virtual address, and no child's local selectors are single addresses",
			Hint: `set request = ["ipv4"] for the connection, or a child's local to one address`,
		}
	}
	if err := e.inside.Start(); err != nil {
		return notStarted(err)
	}
	return nil
}

// Wait waits until the program has ended: its exit status, or 128 and the number of the signal
// that ended it.
func (e *Enclave) Wait() (status int, err error) {
	status, err = e.inside.Wait()
	if err != nil {
		return status, e.failure("the program ended with its enclave", err)
	}
	return status, nil
}

// Signal sends a signal to the program, if it runs.
func (e *Enclave) Signal(s syscall.Signal) error { return e.inside.Signal(s) }

// Close ends the program, within 5 seconds by force, and takes namespaces and device away.
func (e *Enclave) Close() error { return e.inside.Close() }

// resolversInside are those that resolv.conf in an Enclave names: of the configuration, or of the
// gateways whose SAs stand. It wants leases.mu.
func (n *Node) resolversInside() []netip.Addr {
	out := askable(n.conf().DNS.Inside)
	if len(out) > 0 {
		return out
	}
	for _, sa := range slices.Sorted(maps.Keys(n.leases.of)) {
		for _, a := range n.leases.of[sa].DNS {
			if a = a.Unmap(); !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}
