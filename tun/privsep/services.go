// Package privsep is what a tunnel that is the whole host's needs the rights of root for, and nothing
// else. Direct does it in this process. On Linux a Server does it for a child that has no rights, and
// Client is the child's side, so that who takes the child over by a packet of the network has neither
// root nor the files of root:
//
//	parent, root                            child, of another user
//	reads the configuration, for itself     reads it by what the parent opens
//	opens device, control socket, key log   reads and writes what was opened
//	sets routes, packet filter, resolvers   says what they shall be
//	marks sockets, binds low ports          opens them, and speaks to the network
//	restores when the child is gone         ends when the parent is gone
//
// The child is restricted before it runs: it has the user's ids and no other group, no capability in
// any set and none to get, no_new_privs, and by Landlock it opens no file but some that all may read,
// writes none, and reaches neither abstract sockets nor, with signals, processes of others. It is not
// dumpable. The restrictions are set on the one thread of the parent that starts it, which ends
// with it: so they hold for all of the child, however it was built.
//
// Requests come over a pair of sockets (wire_linux.go). Each is taken for hostile: it counts only as
// far as it is about the device, the mark, the table, the ports and the files that the parent
// itself knows of.
package privsep

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/outside"
	"martlet/tun/route"
)

// Services are what needs the rights of root.
type Services interface {
	// Privileged tells whether the host can be set up.
	Privileged() bool
	// Recover undoes what a program left that was killed, but for a kill switch that is in force again.
	Recover() error
	// OpenDevice opens the TUN device.
	OpenDevice(mtu, queues int) (tun.Device, error)
	// Router, Firewall and Resolvers are those of the host. There is one of each.
	Router() route.Router
	Firewall() firewall.Firewall
	Resolvers() (dns.Host, error)
	// Control keeps a socket out of the tunnel, as the function of net.Dialer.
	Control(network, address string, c syscall.RawConn) error
	// Buffers and Bind are those of udpencap.Rights.
	Buffers(c syscall.RawConn, octets int) error
	Bind(c syscall.RawConn, local netip.AddrPort) error
	// ListenControl makes the control socket, in the place of one that a killed program left. A parent
	// makes it where the configuration wants it.
	ListenControl(path string) (net.Listener, error)
	// KeyLog opens the KeyTables for what is added to them.
	KeyLog() ([2]*os.File, error)
	// Secret reads a secret of the node's own; nothing where there is none. ReplaceSecret writes it.
	Secret(name string) ([]byte, error)
	ReplaceSecret(name string, b []byte) error
	// Process is the process to which signals for the program go.
	Process() int
}

// The secrets that a node has.
const (
	CrashSecret = "crash-secret"
	TicketKey   = "ticket-key"
)

// Settings are what the configuration says of the host.
type Settings struct {
	Device     string
	State      string // folder for what must be undone after a crash, and for secrets; empty: none
	Control    string // path of the control socket
	KeyLog     string // folder
	Way        outside.Way
	Table      int
	KillSwitch bool
	Ports      []uint16 // below 1024 that our own sockets may have
}

// blocking is the device whose kill switch stays in force.
func (s *Settings) blocking() string {
	if s.KillSwitch {
		return s.Device
	}
	return ""
}
