// Package enclave runs one program in namespaces of its own, whose only way out is a TUN device.
// Nobody needs to be root for that where the system lets users make user namespaces.
//
//	host                                  namespaces: user, network, mounts
//	+-----------------------------+       +------------------------------------------+
//	| we: sockets, IKE, ESP       |  TUN  | helper: sets up addresses, routes,       |
//	|     Device  <---------------+-------+-> device  resolv.conf; starts the program|
//	|     orders  <---------------+-------+-> orders                                 |
//	+-----------------------------+       | program: no capability, lo and the TUN   |
//	                                      +------------------------------------------+
//
// The helper is this executable again (see Help). It opens the TUN driver in its namespace and hands
// the descriptor to us, whose right over it is that we made the namespace.
//
// What the program cannot do: open a socket of the host's network, be given one (no descriptor
// but the three of its standard streams is open in it, and these may not be network sockets), enter
// the host's namespaces, or look into processes outside, since it has no capability and
// no_new_privs is set. It has the user's identity and files. When we die, the device is gone, the helper
// tells the program to end, and nothing else becomes reachable.
//
// What it is not: a sandbox against a program that wants to escape. Sockets in the file system
// stay reachable, so that the session bus, an X server, an SSH agent or Docker act for the program
// with the host's network; so do terminals (TIOCSTI) and files that others run. Sockets of
// families that have no network namespace (VSOCK, to the hypervisor of a virtual machine) stay. Run by
// root, the program is still root towards files, those of /proc/sys among them.
//
// Names: /etc/resolv.conf is a file of the enclave with the resolvers that Set gave. Folders through
// whose sockets names would be resolved outside (nscd, systemd-resolved, Avahi, the system bus)
// are empty inside, those that there are when the enclave opens. An /etc/resolv.conf that the
// host does not have cannot be replaced; names have no resolver then, see Limits.
package enclave

import (
	"fmt"
	"net/netip"
	"os"
	"time"
)

// helperArgument is the first argument by which this executable knows that it is the helper.
const helperArgument = "enclave-helper"

// patience is how long a program may take to end by itself when its enclave closes.
const patience = 5 * time.Second

// Options say what runs in an enclave, and on what device.
type Options struct {
	// Device is the name of the TUN interface; MTU is in octets.
	Device string
	MTU    int
	Queues int
	// Args are the program, as a shell would find it, and its arguments.
	Args []string
	// Env is the program's environment, nil for ours.
	Env []string
	// The program's standard streams; nil is /dev/null. They stay the caller's.
	Stdin, Stdout, Stderr *os.File
}

// Network is what the device inside shall have.
type Network struct {
	// Addresses of the device, host addresses each. A family without one has no route.
	Addresses []netip.Addr `json:"addresses"`
	// Resolvers are for resolv.conf, in order; that takes three.
	Resolvers []netip.Addr `json:"resolvers"`
}

// Error tells why there is no enclave, or why it is not as it should be.
type Error struct {
	Step string // what was to be done
	Why  string // what stands in the way, where that can be told; may be empty
	Hint string // what a person can do; may be empty
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("enclave: %s: %v", e.Step, e.Err) }

func (e *Error) Unwrap() error { return e.Err }
