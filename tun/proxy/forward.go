package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Forward is one port that leads to another, as ssh's options -L and -R write it.
type Forward struct {
	Network    string // "tcp" or "udp"
	Bind       string // "": the default of its direction; "*": all; or a literal address
	Port       uint16 // to listen on
	Target     string // a name or a literal address
	TargetPort uint16
}

// ParseForward reads "[udp:|tcp:][bind:]port:host:port"; an IPv6 address stands in brackets.
func ParseForward(s string) (Forward, error) {
	f := Forward{Network: "tcp"}
	wrong := func(format string, args ...any) (Forward, error) {
		return Forward{}, fmt.Errorf("proxy: forward %q: %s", s, fmt.Sprintf(format, args...))
	}
	rest := s
	for _, network := range []string{"tcp", "udp"} {
		if after, ok := strings.CutPrefix(s, network+":"); ok {
			f.Network, rest = network, after
		}
	}
	parts, err := splitColons(rest)
	if err != nil {
		return wrong("%v", err)
	}
	switch len(parts) {
	case 3:
		parts = append([]string{""}, parts...)
	case 4:
		if parts[0] == "" { // ssh takes an empty bind for all, which surprises
			return wrong("nothing stands before the first colon; write * for all addresses")
		}
	default:
		return wrong("%d parts; expected [udp:][bind:]port:host:port, an IPv6 address in brackets", len(parts))
	}
	if f.Bind, err = bindHost(parts[0]); err != nil {
		return wrong("%v", err)
	}
	if f.Port, err = parsePort(parts[1]); err != nil {
		return wrong("the port to listen on: %v", err)
	}
	if f.TargetPort, err = parsePort(parts[3]); err != nil {
		return wrong("the port of the target: %v", err)
	}
	var d destination
	if addr, err := netip.ParseAddr(parts[2]); err == nil && addr.Zone() != "" {
		f.Target = addr.String() // -R may lead to a neighbour of the host
	} else if err := d.setHost(parts[2]); err != nil {
		return wrong("%q is no name and no address", parts[2])
	} else if f.Target = d.name; d.addr.IsValid() {
		f.Target = d.addr.String()
	}
	return f, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// splitColons splits at colons that are not in brackets, and takes the brackets away.
func splitColons(s string) ([]string, error) {
	var parts []string
	for {
		part, rest, more := strings.Cut(s, ":")
		if strings.HasPrefix(s, "[") {
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return nil, fmt.Errorf("a bracket is not closed")
			}
			part, rest = s[1:end], s[end+1:]
			if !strings.Contains(part, ":") {
				return nil, fmt.Errorf("%q in brackets is no IPv6 address", part)
			}
			if more = rest != ""; more && rest[0] != ':' {
				return nil, fmt.Errorf("a colon must follow %q", "["+part+"]")
			} else if more {
				rest = rest[1:]
			}
		}
		parts = append(parts, part)
		if !more {
			return parts, nil
		}
		s = rest
	}
}

// String is what ParseForward reads.
func (f Forward) String() string {
	port := strconv.Itoa(int(f.Port))
	s := port
	if f.Bind != "" {
		s = net.JoinHostPort(f.Bind, port)
	}
	s += ":" + f.To()
	if f.Network == "udp" {
		s = "udp:" + s
	}
	return s
}

// ListenAddress is what Listen and ListenPacket take, for a Local.
func (f Forward) ListenAddress() string {
	return net.JoinHostPort(f.Bind, strconv.Itoa(int(f.Port)))
}

// Inside is the address to listen on in the tunnel, for a Remote: of both families, if none is
// named.
func (f Forward) Inside() string {
	host := f.Bind
	if host == "" || host == "*" {
		host = "::"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(f.Port)))
}

// To is the address of the target.
func (f Forward) To() string { return net.JoinHostPort(f.Target, strconv.Itoa(int(f.TargetPort))) }
