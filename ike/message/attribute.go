package message

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// Attribute is one configuration attribute; Value is as it is on the wire. In a
// request it is often empty: any value will do (RFC 7296 §3.15.1).
type Attribute struct {
	Type  AttributeType
	Value []byte
}

// NewAddrAttribute is an attribute that holds one address. An
// INTERNAL_IP6_ADDRESS gets the prefix length 128. The family of addr must be that of t.
func NewAddrAttribute(t AttributeType, addr netip.Addr) Attribute {
	if t == InternalIP6Address {
		return NewPrefixAttribute(t, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return Attribute{Type: t, Value: addr.AsSlice()}
}

// NewPrefixAttribute is an INTERNAL_IP4_SUBNET, which holds address and mask, or an
// INTERNAL_IP6_SUBNET or INTERNAL_IP6_ADDRESS, which hold address and prefix
// length. The family of p must be that of t.
func NewPrefixAttribute(t AttributeType, p netip.Prefix) Attribute {
	value := p.Addr().AsSlice()
	if t == InternalIP4Subnet {
		mask := ^uint32(0) << (32 - p.Bits()) // a shift by 32 gives 0
		return Attribute{Type: t, Value: binary.BigEndian.AppendUint32(value, mask)}
	}
	return Attribute{Type: t, Value: append(value, uint8(p.Bits()))}
}

// NewDomainAttribute is an INTERNAL_DNS_DOMAIN (RFC 8598 §4.1).
func NewDomainAttribute(name string) Attribute {
	return Attribute{Type: InternalDNSDomain, Value: []byte(name)}
}

// Addr is the address of an attribute that holds one: 4 octets, or 16, and for
// INTERNAL_IP6_ADDRESS 17 or 16 (some peers leave the prefix length away). Any other
// length, an empty value among them, and any other type are an error.
func (a Attribute) Addr() (netip.Addr, error) {
	switch a.Type {
	case InternalIP4Address, InternalIP4Netmask, InternalIP4DNS, InternalIP4NBNS, InternalIP4DHCP, MSInternalIP4Server:
		if v, ok := array4(a.Value); ok {
			return netip.AddrFrom4(v), nil
		}
		return netip.Addr{}, a.lengthError("4")
	case InternalIP6Address:
		p, err := a.Prefix()
		return p.Addr(), err
	case InternalIP6DNS, InternalIP6DHCP, MSInternalIP6Server:
		if v, ok := array16(a.Value); ok {
			return netip.AddrFrom16(v), nil
		}
		return netip.Addr{}, a.lengthError("16")
	}
	return netip.Addr{}, fmt.Errorf("message: %v holds no address", a.Type)
}

// Prefix is the prefix of INTERNAL_IP4_SUBNET (8 octets, the mask without holes),
// INTERNAL_IP6_SUBNET (17) or INTERNAL_IP6_ADDRESS (17, or 16 for a length of 128),
// and the address with 32 bits for INTERNAL_IP4_ADDRESS. A subnet comes masked, an
// address with its host bits. Any other length and any other type are an error.
func (a Attribute) Prefix() (netip.Prefix, error) {
	switch a.Type {
	case InternalIP4Address:
		addr, err := a.Addr()
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(addr, 32), nil
	case InternalIP4Subnet:
		if len(a.Value) != 8 {
			return netip.Prefix{}, a.lengthError("8")
		}
		addr, mask := netip.AddrFrom4([4]byte(a.Value[:4])), binary.BigEndian.Uint32(a.Value[4:])
		n := bits.LeadingZeros32(^mask)
		if mask != ^uint32(0)<<(32-n) {
			return netip.Prefix{}, fmt.Errorf("message: mask of %v is %08x, want ones and then zeros", a.Type, mask)
		}
		return netip.PrefixFrom(addr, n).Masked(), nil
	case InternalIP6Subnet, InternalIP6Address:
		if v, ok := array16(a.Value); ok && a.Type == InternalIP6Address {
			return netip.PrefixFrom(netip.AddrFrom16(v), 128), nil
		}
		if len(a.Value) != 17 {
			return netip.Prefix{}, a.lengthError("17")
		}
		n := int(a.Value[16])
		if n > 128 {
			return netip.Prefix{}, fmt.Errorf("message: prefix length of %v is %d, want 0 to 128", a.Type, n)
		}
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(a.Value[:16])), n)
		if a.Type == InternalIP6Subnet {
			p = p.Masked()
		}
		return p, nil
	}
	return netip.Prefix{}, fmt.Errorf("message: %v holds no prefix", a.Type)
}

// Domain is the name in an INTERNAL_DNS_DOMAIN: up to 253 letters, digits, hyphens,
// underscores and dots (RFC 8598 §4.1). Anything else is an error, so that the name
// can be shown and handed to a resolver.
func (a Attribute) Domain() (string, error) {
	if a.Type != InternalDNSDomain {
		return "", fmt.Errorf("message: %v holds no domain", a.Type)
	}
	if len(a.Value) == 0 || len(a.Value) > 253 {
		return "", a.lengthError("1 to 253")
	}
	if i := notInName(a.Value); i >= 0 {
		return "", fmt.Errorf("message: octet %d of %v is %#02x, want a letter, digit, hyphen, underscore or dot", i, a.Type, a.Value[i])
	}
	return string(a.Value), nil
}

// notInName is the index of the first octet that no host name has, or -1.
func notInName(name []byte) int {
	return slices.IndexFunc(name, func(c byte) bool {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			return false
		}
		return true
	})
}

func (a Attribute) lengthError(want string) error {
	return fmt.Errorf("message: %v has %d octets, want %s", a.Type, len(a.Value), want)
}

func array4(b []byte) (a [4]byte, ok bool) {
	return a, copy(a[:], b) == len(a) && len(b) == len(a)
}

func array16(b []byte) (a [16]byte, ok bool) {
	return a, copy(a[:], b) == len(a) && len(b) == len(a)
}
