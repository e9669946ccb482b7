package level2

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"martlet/test/simnet"
	"martlet/tun/netmon"
)

// bind is a host's sockets, with the address from which it would talk to a peer, and with
// news of its network.
type bind struct {
	*simnet.Host
	changes chan netmon.Change
	closing sync.Once
}

func newBind(h *simnet.Host) *bind {
	return &bind{Host: h, changes: make(chan netmon.Change, 16)}
}

// Source is the first address of a family.
func (b *bind) Source(remote netip.Addr) (netip.Addr, error) {
	for _, a := range b.Addresses() {
		if a.Is4() == remote.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s to %v: %w", b.Name, remote, syscall.ENETUNREACH)
}

// Network is what a node asks for.
func (b *bind) Network() netmon.Monitor { return b }

// Changes implements netmon.Monitor.
func (b *bind) Changes() <-chan netmon.Change { return b.changes }

// Close implements netmon.Monitor.
func (b *bind) Close() error {
	b.closing.Do(func() { close(b.changes) })
	return nil
}

// roam takes a node to another network: public, or behind a NAT.
func (e *end) roam(nat *simnet.NAT, addrs ...netip.Addr) {
	e.host.Behind(nat).Move(addrs...)
	e.bind.changes <- netmon.Change{}
}
