// Package outside keeps sockets of this program out of its own tunnel: the packets that carry the
// tunnel, and the questions that must be answered before it stands. Each system has a way of its
// own:
//
//	Linux    a mark on the packets (SO_MARK), which rules of the host heed
//	FreeBSD  a cookie on the socket (SO_USER_COOKIE), which ipfw heeds
//	OpenBSD  another routing table (SO_RTABLE)
//	macOS    the interface that leads out (IP_BOUND_IF)
//	Windows  the same (IP_UNICAST_IF)
//
// Only the way of Linux was ever run, and what chooses the options of all. The others were
// compiled and vetted, no more.
package outside

import (
	"fmt"
	"strings"
	"syscall"
)

// Way is how sockets stay outside. Each system takes what it knows of it; of the zero value
// sockets are as always, but on macOS and Windows.
type Way struct {
	Mark   uint32 // of Linux and FreeBSD; 0 for none
	Table  uint8  // the number of the routing table, of OpenBSD; 0 for none
	Tunnel string // the name of the tunnel's interface, which macOS and Windows do not take
}

// Control is a Control function of net.Dialer and net.ListenConfig.
//
// On macOS and Windows the socket is bound to the interface that leads out now, of the family
// that network ends in: when another one does (netmon tells), open a new socket, or call it
// again for the one that is there. Sockets to and on loopback addresses are not bound. Without
// such an interface it fails (syscall.ENETUNREACH), also for what the host could reach without a
// default route: in doubt the packets of the tunnel would go into the tunnel. A socket for both families is bound for IPv6 alone on Windows.
//
// It fails too where the system does not let this process set the option.
func (w Way) Control(network, address string, c syscall.RawConn) error {
	o, err := w.option(strings.HasSuffix(network, "4"), address)
	if err != nil || o == (option{}) {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = o.set(fd) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("outside: keep a socket out of the tunnel: %w", failed)
	}
	return nil
}
