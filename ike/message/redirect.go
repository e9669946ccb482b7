package message

import (
	"bytes"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

// Kinds of gateway identities (RFC 5685 §10).
const (
	gatewayIPv4 = 1
	gatewayIPv6 = 2
	gatewayFQDN = 3
)

// GatewayID names a gateway in REDIRECT and REDIRECTED_FROM: either Addr or Name is set
// (RFC 5685 §10). Name has letters, digits, hyphens, underscores and dots only, up to 253,
// so that it can be shown and handed to a resolver.
type GatewayID struct {
	Addr netip.Addr
	Name string
}

// ParseGatewayID reads an address or a host name as people write it.
func ParseGatewayID(s string) (g GatewayID, ok bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return GatewayID{Addr: addr.Unmap().WithZone("")}, addr.Zone() == ""
	}
	return GatewayID{Name: s}, len(s) > 0 && len(s) <= 253 && notInName([]byte(s)) < 0
}

// String is the address or the name.
func (g GatewayID) String() string {
	if g.Addr.IsValid() {
		return g.Addr.String()
	}
	return g.Name
}

// Append appends the identity with its type and length.
func (g GatewayID) Append(b []byte) []byte {
	switch addr := g.Addr.Unmap(); {
	case addr.Is4():
		return append(append(b, gatewayIPv4, 4), addr.AsSlice()...)
	case addr.Is6():
		return append(append(b, gatewayIPv6, 16), addr.AsSlice()...)
	}
	return append(append(b, gatewayFQDN, uint8(len(g.Name))), g.Name...)
}

// ParseRedirect reads the data of a REDIRECT notify, and of a REDIRECTED_FROM, which has no
// nonce: the gateway, and what follows it, a copy, which in IKE_SA_INIT has to be the
// initiator's nonce (RFC 5685 §10.2).
func ParseRedirect(data []byte) (g GatewayID, nonce []byte, ok bool) {
	s := cryptobyte.String(data)
	var kind uint8
	var id cryptobyte.String
	if !s.ReadUint8(&kind) || !s.ReadUint8LengthPrefixed(&id) {
		return g, nil, false
	}
	switch kind {
	case gatewayIPv4:
		v, fits := array4(id)
		g.Addr, ok = netip.AddrFrom4(v), fits
	case gatewayIPv6:
		v, fits := array16(id)
		g.Addr, ok = netip.AddrFrom16(v), fits && !netip.AddrFrom16(v).Is4In6()
	case gatewayFQDN:
		g.Name = string(id)
		ok = len(id) > 0 && len(id) <= 253 && notInName(id) < 0
	}
	if !ok {
		return GatewayID{}, nil, false
	}
	return g, bytes.Clone(s), true
}
