package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// What SOCKS5 says in octets. RFC 1928 §3 to §6, RFC 1929 §2
const (
	socksVersion = 5

	methodNone     = 0x00
	methodPassword = 0x02
	methodRefused  = 0xff

	passwordVersion = 1
	passwordRight   = 0
	passwordWrong   = 1

	commandConnect   = 1
	commandBind      = 2
	commandAssociate = 3

	addressIPv4 = 1
	addressName = 3
	addressIPv6 = 4

	replySucceeded   = 0
	replyFailure     = 1
	replyNotAllowed  = 2
	replyNoNetwork   = 3
	replyNoHost      = 4
	replyRefused     = 5
	replyExpired     = 6
	replyNoCommand   = 7
	replyNoAddrType  = 8
	longestAddress   = 1 + 1 + 255 + 2 // kind, length, name, port
	longestIPAddress = 1 + 16 + 2
)

// destination is where a client wants to go: an address, or a name to be resolved inside the
// tunnel.
type destination struct {
	addr netip.Addr // without a zone, not IPv4 mapped to IPv6
	name string     // if addr is not valid
	port uint16
}

func (d destination) String() string {
	host := d.name
	if d.addr.IsValid() {
		host = d.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(d.port)))
}

// setHost takes a name or a literal address.
func (d *destination) setHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return fault(Forbidden, "an address with a zone does not lie in a tunnel")
		}
		d.addr, d.name = addr.Unmap(), ""
		return nil
	}
	if host == "" || len(host) > 254 || !isHostname(host) {
		return fault(Malformed, "not a host name: "+strconv.Quote(host))
	}
	d.addr, d.name = netip.Addr{}, host
	return nil
}

// isHostname refuses whatever is no letter, digit, hyphen, underscore or dot; names in other
// scripts come as punycode.
func isHostname(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// check refuses what is this host and no tunnel can lead to. RFC 6761 §6.3 has the names.
func (d destination) check() error {
	name := strings.ToLower(strings.TrimSuffix(d.name, "."))
	if d.addr.IsValid() && outside(d.addr) || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return fault(Forbidden, d.String()+" is not inside the tunnel")
	}
	return nil
}

// outside reports whether an address stands for this host.
func outside(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified()
}

// parseDestination reads kind, address and port; rest is what follows. RFC 1928 §5
func parseDestination(b []byte) (d destination, rest []byte, err error) {
	var (
		s    = cryptobyte.String(b)
		kind uint8
		host []byte
		name cryptobyte.String
	)
	if !s.ReadUint8(&kind) {
		return d, nil, io.ErrUnexpectedEOF
	}
	ok := false
	switch kind {
	case addressIPv4:
		ok = s.ReadBytes(&host, 4)
	case addressIPv6:
		ok = s.ReadBytes(&host, 16)
	case addressName:
		ok = s.ReadUint8LengthPrefixed(&name)
	default:
		return d, nil, errAddressType
	}
	if !ok || !s.ReadUint16(&d.port) {
		return d, nil, io.ErrUnexpectedEOF
	}
	if kind == addressName {
		err = d.setHost(string(name))
	} else {
		addr, _ := netip.AddrFromSlice(host)
		d.addr = addr.Unmap()
	}
	return d, s, err
}

var (
	errAddressType = fault(Unsupported, "socks: an unknown kind of address")
	errVersion     = fault(Malformed, "socks: not the version that was expected")
)

// appendAddress writes kind, address and port.
func appendAddress(b []byte, a netip.AddrPort) []byte {
	addr := a.Addr().Unmap().WithZone("")
	switch {
	case addr.Is6():
		b = append(b, addressIPv6)
	case addr.Is4():
		b = append(b, addressIPv4)
	default:
		b = append(b, addressIPv4, 0, 0, 0, 0)
	}
	b = append(b, addr.AsSlice()...)
	return append(b, byte(a.Port()>>8), byte(a.Port()))
}

// readMethods reads what stands behind the version in a client's greeting: how it can
// show who it is. RFC 1928 §3
func readMethods(r io.Reader) ([]byte, error) {
	var b [1 + 255]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return nil, err
	}
	methods := b[1 : 1+int(b[0])]
	_, err := io.ReadFull(r, methods)
	return methods, err
}

// readPassword reads a name and a password. RFC 1929 §2
func readPassword(r io.Reader) (name, password string, err error) {
	var b [256]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return "", "", err
	}
	if b[0] != passwordVersion {
		return "", "", errVersion
	}
	n := int(b[1])
	// The name, and the length of the password.
	if _, err := io.ReadFull(r, b[:n+1]); err != nil {
		return "", "", err
	}
	name, n = string(b[:n]), int(b[n])
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return "", "", err
	}
	return name, string(b[:n]), nil
}

// readRequest reads a command and its destination, and not an octet more. RFC 1928 §4
func readRequest(r io.Reader) (command byte, d destination, err error) {
	var b [3 + longestAddress]byte
	// The octet behind the kind of address is at least the first of the port.
	if _, err := io.ReadFull(r, b[:5]); err != nil {
		return 0, d, err
	}
	if b[0] != socksVersion {
		return 0, d, errVersion
	}
	size := 0
	switch b[3] {
	case addressIPv4:
		size = 1 + 4 + 2
	case addressIPv6:
		size = 1 + 16 + 2
	case addressName:
		size = 1 + 1 + int(b[4]) + 2
	default:
		return b[1], d, errAddressType
	}
	if _, err := io.ReadFull(r, b[5:3+size]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, d, err
	}
	d, _, err = parseDestination(b[3 : 3+size])
	return b[1], d, err
}

// socksReply is the answer to a request. RFC 1928 §6
func socksReply(code byte, bound netip.AddrPort) []byte {
	return appendAddress([]byte{socksVersion, code, 0}, bound)
}

// parseDatagram reads the header of a datagram from a client; payload is a part of b. RFC
// 1928 §7
func parseDatagram(b []byte) (fragment byte, d destination, payload []byte, err error) {
	if len(b) < 3 {
		return 0, d, nil, io.ErrUnexpectedEOF
	}
	d, payload, err = parseDestination(b[3:])
	return b[2], d, payload, err
}
