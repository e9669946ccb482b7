package ike

import (
	"net/netip"
	"slices"

	"martlet/ike/message"
)

// narrow is what offered and policy have in common, in the order of the offer
// (RFC 7296 §2.9). Selectors that another one of the result contains are left out.
func narrow(offered, policy []message.Selector) []message.Selector {
	var out []message.Selector
	for _, o := range offered {
		for _, p := range policy {
			both, ok := o.Intersect(p)
			if !ok || slices.ContainsFunc(out, func(s message.Selector) bool { return s.Contains(both) }) {
				continue
			}
			out = slices.DeleteFunc(out, both.Contains)
			out = append(out, both)
			if len(out) == maxSelectors {
				return out
			}
		}
	}
	return out
}

// within tells whether each of narrowed is part of one of offered, and there is at
// least one.
func within(narrowed, offered []message.Selector) bool {
	if len(narrowed) == 0 {
		return false
	}
	for _, n := range narrowed {
		if !slices.ContainsFunc(offered, func(o message.Selector) bool { return o.Contains(n) }) {
			return false
		}
	}
	return true
}

// additional tells whether another child of the connection would take some of what a peer
// asks for and the answer leaves out.
func (s *ikeSA) additional(r *childRequest, a *childAnswer) bool {
	for _, cfg := range s.conn.Children {
		if cfg.Name == a.cfg.Name || slices.Contains(s.barred, cfg.Name) {
			continue
		}
		remote, local := narrow(r.tsi, s.remoteSelectors(cfg)), narrow(r.tsr, s.localSelectors(cfg))
		if len(remote) > 0 && len(local) > 0 && !(within(remote, a.remote) && within(local, a.local)) {
			return true
		}
	}
	return false
}

// hostSelector is all traffic of one address.
func hostSelector(a netip.Addr) message.Selector {
	a = a.Unmap().WithZone("")
	return message.SelectorOf(netip.PrefixFrom(a, a.BitLen()))
}

// leaseSelectors is all traffic of the virtual addresses.
func leaseSelectors(l Lease) []message.Selector {
	var out []message.Selector
	for _, p := range l.Addresses {
		out = append(out, hostSelector(p.Addr()))
	}
	return out
}

// everything is all traffic of the families.
func everything(ipv4, ipv6 bool) []message.Selector {
	var out []message.Selector
	if ipv4 {
		out = append(out, message.SelectorOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0)))
	}
	if ipv6 {
		out = append(out, message.SelectorOf(netip.PrefixFrom(netip.IPv6Unspecified(), 0)))
	}
	return out
}

// localSelectors is our side of a child. A dynamic side is the virtual address where
// we have one, all addresses where we are about to ask for one, and else the outer
// address.
func (s *ikeSA) localSelectors(c *ChildConfig) []message.Selector {
	if !c.LocalDynamic {
		return c.Local
	}
	var own []message.Selector
	switch {
	case !s.opener:
		own = []message.Selector{hostSelector(s.path.Local.Addr())}
	case len(s.lease.Addresses) > 0:
		own = leaseSelectors(s.lease)
	case s.conn.RequestIPv4 || s.conn.RequestIPv6:
		own = everything(s.conn.RequestIPv4, s.conn.RequestIPv6)
	default:
		own = []message.Selector{hostSelector(s.path.Local.Addr())}
	}
	return slices.Concat(own, c.Local)
}

// remoteSelectors is the peer's side of a child.
func (s *ikeSA) remoteSelectors(c *ChildConfig) []message.Selector {
	if !c.RemoteDynamic {
		return c.Remote
	}
	peer := []message.Selector{hostSelector(s.path.Remote.Addr())}
	if !s.opener && len(s.lease.Addresses) > 0 {
		peer = leaseSelectors(s.lease)
	}
	return slices.Concat(peer, c.Remote)
}
