package udpencap

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// StreamNetwork opens TCP connections: the operating system's (TCP), or those of a simulated
// network. A Listener may be one too.
type StreamNetwork interface {
	// ListenStream waits for connections at a local address.
	ListenStream(local netip.AddrPort) (net.Listener, error)
	// DialStream opens a connection from an address of this host, from a port that the
	// system chooses.
	DialStream(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error)
}

// TCP is the operating system's StreamNetwork. The zero value is ready to use.
type TCP struct {
	// Control prepares each socket before it listens or connects, as that of net.Dialer does;
	// nil is none.
	Control func(network, address string, c syscall.RawConn) error
	// Rights is as that of UDP.
	Rights Rights
}

// aliveEvery is how often a stream on which nothing passes is probed by the system, so that
// middleboxes keep it in mind. It tells nothing about the peer's IKE (RFC 9329 §6.7).
const aliveEvery = 30 * time.Second

// ListenStream implements StreamNetwork.
func (t *TCP) ListenStream(local netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{Control: t.Control, KeepAlive: aliveEvery}
	lc.SetMultipathTCP(false) // a stream has two addresses, and no more come to it
	listen := lc.Listen
	if t.Rights != nil && reserved(local.Port()) {
		listen = t.listenByRight
	}
	l, err := listen(context.Background(), tcpOf(local.Addr()), local.String())
	if err != nil {
		return nil, fmt.Errorf("udpencap: %w", err)
	}
	return l, nil
}

// DialStream implements StreamNetwork.
func (t *TCP) DialStream(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: t.Control, KeepAlive: aliveEvery}
	if local.IsValid() && !local.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	conn, err := d.DialContext(ctx, tcpOf(remote.Addr()), remote.String())
	if err != nil {
		return nil, fmt.Errorf("udpencap: %w", err)
	}
	return conn, nil
}

// tcpOf is the network of an address's family; a wildcard takes that family only.
func tcpOf(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "tcp4"
	}
	return "tcp6"
}
