package ike

import (
	"net/netip"
	"slices"
	"strings"

	"martlet/ike/message"
)

// Bounds of what is taken from a CFG_REPLY.
const (
	maxLeaseAddresses = 8
	maxLeaseDNS       = 16
	maxLeaseSubnets   = 256
	maxLeaseDomains   = 64
	maxLeaseAnchors   = 64
)

// addressesBefore are the virtual addresses of the SA whose place this one is to take.
func (s *ikeSA) addressesBefore() []netip.Prefix {
	if old := s.replaces.newest(); old != nil {
		return old.lease.Addresses
	}
	return nil
}

// configRequest asks for what the connection wants, for the addresses of before if there
// are any; nil for nothing (RFC 7296 §3.15).
func configRequest(c *Connection, before []netip.Prefix) *message.Config {
	p := &message.Config{Kind: message.ConfigRequest}
	add := func(types ...message.AttributeType) {
		for _, t := range types {
			p.Attributes = append(p.Attributes, message.Attribute{Type: t})
		}
	}
	address := func(t message.AttributeType, v4 bool) {
		asked := len(p.Attributes)
		for _, x := range before {
			if x.Addr().Is4() == v4 {
				p.Attributes = append(p.Attributes, addressAttribute(x))
			}
		}
		if len(p.Attributes) == asked {
			add(t)
		}
	}
	if c.RequestIPv4 {
		address(message.InternalIP4Address, true)
		add(message.InternalIP4DNS, message.InternalIP4Subnet)
	}
	if c.RequestIPv6 {
		address(message.InternalIP6Address, false)
		add(message.InternalIP6DNS, message.InternalIP6Subnet)
	}
	if len(p.Attributes) == 0 {
		return nil
	}
	add(message.InternalDNSDomain)
	if len(c.Anchored) > 0 {
		add(message.InternalDNSSECTA) // RFC 8598 §3.1: behind a domain, and empty
	}
	return p
}

// addressAttribute is a virtual address as a request or a reply names it.
func addressAttribute(x netip.Prefix) message.Attribute {
	if x.Addr().Is4() {
		return message.NewAddrAttribute(message.InternalIP4Address, x.Addr())
	}
	return message.NewPrefixAttribute(message.InternalIP6Address, x)
}

// findConfig returns the configuration payload of a kind.
func findConfig(ps []message.Payload, kind message.ConfigType) *message.Config {
	for _, p := range ps {
		if c, ok := p.(*message.Config); ok && c.Kind == kind {
			return c
		}
	}
	return nil
}

// fromWindows tells whether a CFG_REQUEST has what only the client built into Windows asks for:
// INTERNAL_IP4_SERVER or INTERNAL_IP6_SERVER of Microsoft.
func fromWindows(c *message.Config) bool {
	return c != nil && slices.ContainsFunc(c.Attributes, func(a message.Attribute) bool { return a.Type == 23456 || a.Type == 23457 })
}

// wants tells for which families a CFG_REQUEST wants an address.
func wants(c *message.Config) (ipv4, ipv6 bool) {
	if c == nil {
		return false, false
	}
	for _, a := range c.Attributes {
		switch a.Type {
		case message.InternalIP4Address:
			ipv4 = true
		case message.InternalIP6Address:
			ipv6 = true
		}
	}
	return ipv4, ipv6
}

// named are the addresses that a CFG_REQUEST names, as a peer does that had them before.
func named(c *message.Config) []netip.Addr {
	if c == nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range c.Attributes {
		if a.Type != message.InternalIP4Address && a.Type != message.InternalIP6Address || len(out) == maxLeaseAddresses {
			continue
		}
		if x, err := a.Prefix(); err == nil && !x.Addr().IsUnspecified() {
			out = append(out, x.Addr())
		}
	}
	return out
}

// configReply tells the initiator its lease. Subnets and domains are for those who ask; a
// domain must not come unasked, nor without a resolver (RFC 8598 §3.2).
func configReply(l Lease, request *message.Config) *message.Config {
	asked := func(types ...message.AttributeType) bool {
		return slices.ContainsFunc(request.Attributes, func(a message.Attribute) bool { return slices.Contains(types, a.Type) })
	}
	if !asked(message.InternalIP4Subnet, message.InternalIP6Subnet) {
		l.Subnets = nil
	}
	if !asked(message.InternalDNSDomain) || len(l.DNS) == 0 {
		l.Domains = nil
	}
	if !asked(message.InternalDNSSECTA) {
		l.Anchors = nil
	}
	p := &message.Config{Kind: message.ConfigReply}
	add := func(a message.Attribute) { p.Attributes = append(p.Attributes, a) }
	for _, x := range l.Addresses {
		add(addressAttribute(x))
	}
	for _, x := range l.DNS {
		if x.Is4() {
			add(message.NewAddrAttribute(message.InternalIP4DNS, x))
		} else {
			add(message.NewAddrAttribute(message.InternalIP6DNS, x))
		}
	}
	for _, x := range l.Subnets {
		if x.Addr().Is4() {
			add(message.NewPrefixAttribute(message.InternalIP4Subnet, x))
		} else {
			add(message.NewPrefixAttribute(message.InternalIP6Subnet, x))
		}
	}
	for _, x := range l.Domains {
		add(message.NewDomainAttribute(x))
		for _, anchor := range l.Anchors {
			// RFC 8598 §4.2: they stand right behind their domain.
			if strings.EqualFold(anchor.Domain, x) {
				add(message.NewTrustAnchorAttribute(anchor.DS))
			}
		}
	}
	return p
}

// anchored tells whether trust anchors of a domain are taken from the gateway: it is one for which
// the file says so, or below one (RFC 8598 §6).
func (c *Connection) anchored(domain string) bool {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	return slices.ContainsFunc(c.Anchored, func(x string) bool {
		x = strings.ToLower(strings.TrimSuffix(x, "."))
		return domain == x || strings.HasSuffix(domain, "."+x)
	})
}

// readConfig takes a lease from a CFG_REPLY. Only what was asked for counts, and what
// cannot be read or is not known is left out.
func readConfig(c *Connection, p *message.Config) Lease {
	var l Lease
	if p == nil {
		return l
	}
	about := "" // the domain that the attribute before told
	for _, a := range p.Attributes {
		domain := about
		about = ""
		switch a.Type {
		case message.InternalIP4Address, message.InternalIP6Address:
			x, err := a.Prefix()
			asked := c.RequestIPv6
			if x.Addr().Is4() {
				asked = c.RequestIPv4
			}
			if err == nil && asked && !x.Addr().IsUnspecified() && len(l.Addresses) < maxLeaseAddresses && !slices.Contains(l.Addresses, x) {
				l.Addresses = append(l.Addresses, x)
			}
		case message.InternalIP4DNS, message.InternalIP6DNS:
			if x, err := a.Addr(); err == nil && !x.IsUnspecified() && len(l.DNS) < maxLeaseDNS && !slices.Contains(l.DNS, x) {
				l.DNS = append(l.DNS, x)
			}
		case message.InternalIP4Subnet, message.InternalIP6Subnet:
			if x, err := a.Prefix(); err == nil && len(l.Subnets) < maxLeaseSubnets && !slices.Contains(l.Subnets, x) {
				l.Subnets = append(l.Subnets, x)
			}
		case message.InternalDNSDomain:
			x, err := a.Domain()
			if err == nil && len(l.Domains) < maxLeaseDomains && !slices.Contains(l.Domains, x) {
				l.Domains = append(l.Domains, x)
			}
			if err == nil && slices.Contains(l.Domains, x) {
				about = x
			}
		case message.InternalDNSSECTA:
			// RFC 8598 §4.2: one that does not stand behind its domain, or behind another one of that,
			// is about nothing.
			about = domain
			if x, err := a.TrustAnchor(); err == nil && domain != "" && c.anchored(domain) && len(l.Anchors) < maxLeaseAnchors {
				l.Anchors = append(l.Anchors, TrustAnchor{domain, x})
			}
		}
	}
	return l
}
