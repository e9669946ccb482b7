package message_test

import (
	"encoding/hex"
	"net/netip"
	"testing"

	. "martlet/ike/message"
)

func TestAttributeAddr(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::5")
	for typ, addr := range map[AttributeType]netip.Addr{
		InternalIP4Address: v4, InternalIP4Netmask: v4, InternalIP4DNS: v4, InternalIP4NBNS: v4,
		InternalIP4DHCP: v4, MSInternalIP4Server: v4,
		InternalIP6Address: v6, InternalIP6DNS: v6, InternalIP6DHCP: v6, MSInternalIP6Server: v6,
	} {
		a := NewAddrAttribute(typ, addr)
		if got, err := a.Addr(); err != nil || got != addr {
			t.Errorf("%v: %v, %v; want %v", typ, got, err, addr)
		}
	}
	if p, err := NewAddrAttribute(InternalIP6Address, v6).Prefix(); err != nil || p.Bits() != 128 {
		t.Errorf("INTERNAL_IP6_ADDRESS of one address: %v, %v", p, err)
	}
	if _, err := (Attribute{Type: ApplicationVersion, Value: make([]byte, 4)}).Addr(); err == nil {
		t.Error("APPLICATION_VERSION is taken for an address")
	}
}

func TestAttributePrefix(t *testing.T) {
	for _, c := range []struct {
		typ      AttributeType
		in, want string
	}{
		{InternalIP4Subnet, "10.1.0.0/16", "10.1.0.0/16"},
		{InternalIP4Subnet, "10.1.2.3/16", "10.1.0.0/16"},
		{InternalIP4Subnet, "0.0.0.0/0", "0.0.0.0/0"},
		{InternalIP4Subnet, "10.1.2.3/32", "10.1.2.3/32"},
		{InternalIP6Subnet, "fd00:1::5/64", "fd00:1::/64"},
		{InternalIP6Subnet, "::/0", "::/0"},
		{InternalIP6Address, "fd00:1::5/64", "fd00:1::5/64"},
	} {
		got, err := NewPrefixAttribute(c.typ, netip.MustParsePrefix(c.in)).Prefix()
		if err != nil || got != netip.MustParsePrefix(c.want) {
			t.Errorf("%v %s: %v, %v; want %s", c.typ, c.in, got, err, c.want)
		}
	}
	if got, err := NewAddrAttribute(InternalIP4Address, netip.MustParseAddr("10.0.0.9")).Prefix(); err != nil || got != netip.MustParsePrefix("10.0.0.9/32") {
		t.Errorf("INTERNAL_IP4_ADDRESS: %v, %v", got, err)
	}
	for name, a := range map[string]Attribute{
		"mask with a hole":  {InternalIP4Subnet, []byte{10, 0, 0, 0, 255, 0, 255, 0}},
		"mask upside down":  {InternalIP4Subnet, []byte{10, 0, 0, 0, 0, 0, 0, 255}},
		"prefix length 129": {InternalIP6Subnet, append(make([]byte, 16), 129)},
		"subnet of 16":      {InternalIP6Subnet, make([]byte, 16)},
		"DNS":               {InternalIP4DNS, make([]byte, 4)},
	} {
		if p, err := a.Prefix(); err == nil {
			t.Errorf("%s: %v, want an error", name, p)
		}
	}
}

// RFC 8598 §4.2: key tag, algorithm and digest type, as RFC 4034 §5.1 has them, and the digest. The
// anchor is that of the root zone from 2017.
func TestAttributeTrustAnchor(t *testing.T) {
	digest, err := hex.DecodeString("e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d")
	if err != nil {
		t.Fatal(err)
	}
	root := DS{KeyTag: 20326, Algorithm: 8, DigestType: 2, Digest: digest}
	a := NewTrustAnchorAttribute(root)
	if a.Type != 26 || string(a.Value[:4]) != "\x4f\x66\x08\x02" || string(a.Value[4:]) != string(digest) {
		t.Errorf("%d %x", a.Type, a.Value)
	}
	if got, err := a.TrustAnchor(); err != nil || got.String() != "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D" {
		t.Errorf("%v, %v", got, err)
	}
	for n := range a.Value { // every truncation, to nothing
		if got, err := (Attribute{Type: InternalDNSSECTA, Value: a.Value[:n]}).TrustAnchor(); err == nil {
			t.Errorf("%d octets are %v", n, got)
		}
	}
	for name, value := range map[string]string{
		"an octet too many":   string(a.Value) + "x",
		"SHA-256 as SHA-384":  "\x4f\x66\x08\x04" + string(digest),
		"a digest of 65 more": "\x4f\x66\x08\x09" + string(make([]byte, 65)),
	} {
		if got, err := (Attribute{Type: InternalDNSSECTA, Value: []byte(value)}).TrustAnchor(); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, err := (Attribute{Type: InternalDNSSECTA, Value: []byte("\x4f\x66\x08\x09abc")}).TrustAnchor(); err != nil || got.DigestType != 9 {
		t.Errorf("a digest type that nobody knows: %v, %v", got, err)
	}
	if _, err := (Attribute{Type: InternalDNSDomain, Value: a.Value}).TrustAnchor(); err == nil {
		t.Error("INTERNAL_DNS_DOMAIN is taken for a trust anchor")
	}
}

func TestAttributeDomain(t *testing.T) {
	if got, err := NewDomainAttribute("corp.example-1._x").Domain(); err != nil || got != "corp.example-1._x" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (Attribute{Type: InternalIP4DNS, Value: []byte("a.example")}).Domain(); err == nil {
		t.Error("INTERNAL_IP4_DNS is taken for a domain")
	}
}
