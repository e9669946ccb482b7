package simnet

import (
	"net/netip"
	"time"
)

// Behaviour says of what the other side's address a NAT's mapping or filter takes
// notice (RFC 4787 §4.1 and §5).
type Behaviour uint8

const (
	EndpointIndependent     Behaviour = iota // of nothing
	AddressDependent                         // of the address
	AddressAndPortDependent                  // of address and port
)

// part keeps of a remote endpoint what the behaviour takes notice of.
func (b Behaviour) part(remote netip.AddrPort) netip.AddrPort {
	switch b {
	case AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	case AddressAndPortDependent:
		return remote
	default:
		return netip.AddrPort{}
	}
}

// NATConfig is how a NAT behaves. The zero value is the friendliest: everything
// independent of the endpoint, and mappings that last for ever.
type NATConfig struct {
	Mapping   Behaviour
	Filtering Behaviour
	// Timeout is how long a mapping lives without a datagram from inside; 0 is for ever.
	Timeout time.Duration
}

// NAT translates the addresses of the hosts Behind it to its one external address, with
// ports chosen at random: it preserves none.
type NAT struct {
	net      *Net
	config   NATConfig
	external netip.Addr
	byInside map[insideKey]*mapping
	byPort   map[uint16]*mapping
}

type insideKey struct{ inside, remote netip.AddrPort }

type mapping struct {
	key  insideKey
	port uint16
	used time.Time
	seen map[netip.AddrPort]bool // remotes, by what Filtering takes notice of
}

// NAT adds a NAT with its public address.
func (n *Net) NAT(external netip.Addr, c NATConfig) *NAT {
	n.mu.Lock()
	defer n.mu.Unlock()
	nat := &NAT{net: n, config: c, external: external}
	nat.reset()
	n.nats = append(n.nats, nat)
	return nat
}

// Rebind forgets all mappings, as a NAT that was restarted. What comes from inside next
// gets other ports.
func (t *NAT) Rebind() {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	t.reset()
}

// Mappings tells how many mappings are alive.
func (t *NAT) Mappings() int {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	live := 0
	for _, m := range t.byPort {
		if !t.expired(m) {
			live++
		}
	}
	return live
}

func (t *NAT) reset() {
	t.byInside = map[insideKey]*mapping{}
	t.byPort = map[uint16]*mapping{}
}

func (t *NAT) expired(m *mapping) bool {
	return t.config.Timeout > 0 && t.net.clock().Sub(m.used) >= t.config.Timeout
}

func (t *NAT) drop(m *mapping) {
	delete(t.byInside, m.key)
	delete(t.byPort, m.port)
}

// outbound translates the source. Only traffic from inside keeps a mapping alive
// (RFC 4787 §4.3).
func (t *NAT) outbound(d Datagram) Datagram {
	key := insideKey{d.From, t.config.Mapping.part(d.To)}
	m := t.byInside[key]
	if m != nil && t.expired(m) {
		t.drop(m)
		m = nil
	}
	if m == nil {
		m = &mapping{key: key, port: t.freePort(), seen: map[netip.AddrPort]bool{}}
		t.byInside[key], t.byPort[m.port] = m, m
	}
	m.used = t.net.clock()
	m.seen[t.config.Filtering.part(d.To)] = true
	d.From = netip.AddrPortFrom(t.external, m.port)
	return d
}

// inbound translates the destination of what may come in.
func (t *NAT) inbound(d Datagram) (Datagram, bool) {
	m := t.byPort[d.To.Port()]
	if m == nil || t.expired(m) || !m.seen[t.config.Filtering.part(d.From)] {
		return d, false
	}
	d.To = m.key.inside
	return d, true
}

func (t *NAT) freePort() uint16 {
	for {
		port := uint16(1024 + t.net.rng.IntN(65536-1024))
		if port != 4500 && t.byPort[port] == nil {
			return port
		}
	}
}
