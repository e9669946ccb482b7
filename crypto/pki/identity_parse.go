package pki

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIdentityText is the longest text that ParseIdentity reads, in octets: enough for
// the hex of the largest identity that fits a payload.
const maxIdentityText = 2*65535 + 16

// ParseIdentity reads an identity or a matcher in strongSwan's grammar
// (docs.strongswan.org, config/identityParsing):
//
//	fqdn:moon.example.com     a type before it: ipv4 ipv4net ipv4range ipv6 ipv6net
//	keyid:#0a0b               ipv6range rfc822 email userfqdn fqdn dns asn1dn asn1gn
//	                          keyid; octets in hex after #
//	{11}:#0a0b                the type as a number
//	C=CH, O=strongSwan, CN=*  anything with '=': a distinguished name, its parts
//	/C=CH/O=strongSwan/CN=*   parted by ',' or, if it starts with '/', by '/'
//	@#0a0b  @@carol@x  @moon  key ID, e-mail address, host name
//	carol@example.com         anything else with '@': an e-mail address
//	192.0.2.1  2001:db8::1    addresses; 192.0.2.0/24 and 192.0.2.1-192.0.2.9 match them
//	%any  *  0.0.0.0  ::  ""  the zero Identity: anybody
//	moon.example.com          all else: a host name
//
// In a matcher a '*' at the start of a host name or an e-mail address stands for
// any text, and as the whole value of a part of a distinguished name for any value.
//
// In a distinguished name a backslash takes away the meaning of the next
// character, or stands with two hex digits for an octet (RFC 4514 §2.4). Where
// strongSwan silently takes a mistyped name or address as a key ID, this is an
// error that says how to write a key ID.
func ParseIdentity(s string) (Identity, error) {
	id, err := parseIdentity(s)
	if err != nil {
		return Identity{}, fmt.Errorf("pki: identity %s: %w", quote(s), err)
	}
	return id, nil
}

func parseIdentity(s string) (Identity, error) {
	if len(s) > maxIdentityText {
		return Identity{}, fmt.Errorf("%d octets long; at most %d are allowed", len(s), maxIdentityText)
	}
	if err := checkText(s); err != nil {
		return Identity{}, err
	}
	switch s {
	case "", "%any", "%any6", "*", "0.0.0.0", "::", "0::0":
		return Identity{}, nil
	}
	if kind, rest, ok := strings.Cut(s, ":"); ok {
		if t, known := typeOfPrefix(strings.ToLower(kind)); known {
			return parseTyped(t, rest)
		}
		if strings.HasPrefix(kind, "{") && strings.HasSuffix(kind, "}") {
			return parseNumbered(kind[1:len(kind)-1], rest)
		}
	}
	switch {
	case strings.Contains(s, "="):
		raw, err := parseDN(s)
		if err != nil {
			return Identity{}, fmt.Errorf("%w; the '=' makes it a distinguished name: write keyid:... or fqdn:... if it is none", err)
		}
		return DN(raw), nil
	case strings.HasPrefix(s, "@#"):
		return parseHex(IDKeyID, s[2:])
	case strings.HasPrefix(s, "@@"):
		return parseTyped(IDRFC822Addr, s[2:])
	case strings.HasPrefix(s, "@"):
		return parseTyped(IDFQDN, s[1:])
	case strings.Contains(s, "@"):
		return Identity{Type: IDRFC822Addr, Data: s}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return addrIdentity(a)
	}
	if id, ok := parseSpan(s); ok {
		return id, nil
	}
	if strings.Contains(s, ":") {
		return Identity{}, errors.New("neither an IPv6 address nor a known type before the ':'; write keyid:... if it is a key ID")
	}
	return Identity{Type: IDFQDN, Data: s}, nil
}

// checkText refuses what nobody means to write into an identity.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8; write octets in hex after '#', as in keyid:#0a0b")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("has control characters; write octets in hex after '#', as in keyid:#0a0b")
	}
	if s != strings.TrimSpace(s) {
		return errors.New("has a space before or after it; remove it")
	}
	return nil
}

// typeOfPrefix gives the type that a word before the first ':' names.
func typeOfPrefix(word string) (IDType, bool) {
	switch word {
	case "ipv4":
		return IDIPv4Addr, true
	case "ipv4net":
		return idIPv4Subnet, true
	case "ipv4range":
		return idIPv4Range, true
	case "ipv6":
		return IDIPv6Addr, true
	case "ipv6net":
		return idIPv6Subnet, true
	case "ipv6range":
		return idIPv6Range, true
	case "rfc822", "email", "userfqdn":
		return IDRFC822Addr, true
	case "fqdn", "dns":
		return IDFQDN, true
	case "asn1dn":
		return IDDERASN1DN, true
	case "asn1gn":
		return IDDERASN1GN, true
	case "keyid":
		return IDKeyID, true
	}
	return 0, false
}

// parseTyped reads the text after a known type.
func parseTyped(t IDType, s string) (Identity, error) {
	if strings.HasPrefix(s, "#") {
		return parseHex(t, s[1:])
	}
	if s == "" {
		return Identity{}, errors.New("nothing after the type")
	}
	var id Identity
	ok := true
	switch t {
	case IDIPv4Addr, IDIPv6Addr:
		a, err := netip.ParseAddr(s)
		if err != nil {
			return Identity{}, fmt.Errorf("%s is not an IP address", quote(s))
		}
		if id, err = addrIdentity(a); err != nil {
			return Identity{}, err
		}
	case idIPv4Subnet, idIPv6Subnet, idIPv4Range, idIPv6Range:
		if id, ok = parseSpan(s); !ok {
			return Identity{}, fmt.Errorf("%s is neither a subnet such as 192.0.2.0/24 nor a range such as 192.0.2.1-192.0.2.9", quote(s))
		}
	case IDDERASN1DN:
		raw, err := parseDN(s)
		if err != nil {
			return Identity{}, err
		}
		id = DN(raw)
	default:
		id = Identity{Type: t, Data: s}
	}
	if id.Type != t {
		return Identity{}, fmt.Errorf("%s is of another type than the word before it says", quote(s))
	}
	return id, nil
}

// parseNumbered reads {n}:text and {n}:#hex, for any type.
func parseNumbered(number, s string) (Identity, error) {
	n, err := strconv.ParseUint(number, 0, 8)
	if err != nil {
		return Identity{}, fmt.Errorf("%s is not a type number; 0 to 255 was expected", quote(number))
	}
	if strings.HasPrefix(s, "#") {
		raw, err := hex.DecodeString(s[1:])
		if err != nil {
			return Identity{}, errors.New("not hex after '#'; an even number of hex digits was expected")
		}
		return Identity{Type: IDType(n), Data: string(raw)}, nil
	}
	return Identity{Type: IDType(n), Data: s}, nil
}

// parseHex reads the octets of an identity; those of an address must be as many
// as the address has.
func parseHex(t IDType, s string) (Identity, error) {
	// strongSwan allows colons between the octets, as OpenSSL prints them.
	raw, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil {
		return Identity{}, errors.New("not hex after '#'; an even number of hex digits was expected")
	}
	if len(raw) == 0 {
		return Identity{}, errors.New("nothing after '#'")
	}
	want := 0
	switch t {
	case IDIPv4Addr:
		want = 4
	case IDIPv6Addr:
		want = 16
	case idIPv4Subnet, idIPv4Range:
		want = 8
	case idIPv6Subnet, idIPv6Range:
		want = 32
	}
	if want != 0 && len(raw) != want {
		return Identity{}, fmt.Errorf("%d octets; this type has %d", len(raw), want)
	}
	return Identity{Type: t, Data: string(raw)}, nil
}

func addrIdentity(a netip.Addr) (Identity, error) {
	if a.Zone() != "" {
		return Identity{}, fmt.Errorf("the zone %s means nothing to a peer; leave it out", quote(a.Zone()))
	}
	return Addr(a), nil
}

// parseSpan reads a subnet or a range of addresses.
func parseSpan(s string) (Identity, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		p = p.Masked()
		t := idIPv4Subnet
		mask := make([]byte, 4)
		if p.Addr().Is6() {
			t, mask = idIPv6Subnet, make([]byte, 16)
		}
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		return Identity{Type: t, Data: string(append(p.Addr().AsSlice(), mask...))}, true
	}
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return Identity{}, false
	}
	a, err1 := netip.ParseAddr(first)
	b, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || a.Zone()+b.Zone() != "" || a.Is4() != b.Is4() || b.Less(a) {
		return Identity{}, false
	}
	t := idIPv4Range
	if a.Is6() {
		t = idIPv6Range
	}
	return Identity{Type: t, Data: string(append(a.AsSlice(), b.AsSlice()...))}, true
}
