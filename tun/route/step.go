package route

import (
	"fmt"
	"net/netip"
	"strings"
)

// String is the command that does the same by hand.
func (s step) String() string {
	if s.system == microsoft {
		return s.powerShell()
	}
	if s.route.Prefix.IsValid() {
		return s.routeCommand()
	}
	return strings.Join(s.command(), " ")
}

// command is what carries out a step of a BSD that is not about a route.
func (s step) command() []string {
	switch {
	case s.setting.Key != "":
		return []string{"sysctl", s.setting.Key + "=" + s.setting.value(s.verb)}
	case s.link.mtu != 0:
		return []string{"ifconfig", s.device, "mtu", fmt.Sprint(s.link.mtu)}
	case s.link.up:
		return []string{"ifconfig", s.device, "up"}
	}
	a := s.address.Addr()
	words := []string{"ifconfig", s.device, inet(a), s.address.String()}
	switch {
	case s.removes():
		return []string{"ifconfig", s.device, inet(a), a.String(), "-alias"}
	case s.system == macOS && a.Is4():
		// utun is point to point, and wants the address of the other end too.
		words = append(words, a.String())
	}
	return append(words, "alias")
}

func inet(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

// routeCommand is for people: the program does it through a routing socket.
func (s step) routeCommand() string {
	r, word := s.route, "add"
	if s.removes() {
		word = "delete"
	}
	out := fmt.Sprintf("route -n %s -%s %s", word, inet(r.Prefix.Addr()), r.Prefix)
	switch {
	case r.Reject:
		return out + " " + loopback(r.Prefix.Addr()).String() + " -reject"
	case r.Gateway.IsValid():
		return out + " " + r.Gateway.String()
	case s.local.IsValid():
		return out + " -iface " + s.local.String()
	case s.system == openBSD:
		return out
	}
	return out + " -interface " + r.Device
}

// loopback is the address of the host itself, of the same family as a.
func loopback(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// powerShell is for people: the program does it through the IP Helper API.
func (s step) powerShell() string {
	quote := func(name string) string { return "'" + strings.ReplaceAll(name, "'", "''") + "'" }
	switch {
	case s.setting.Key != "":
		value := s.setting.value(s.verb)
		v4, device := s.setting.interfaceSwitch()
		return fmt.Sprintf("Set-NetIPInterface -InterfaceAlias %s -AddressFamily %s -Forwarding %s -PolicyStore ActiveStore", quote(device), powerFamily(!v4), value)
	case s.link.up:
		mtu := ""
		if s.link.mtu != 0 {
			mtu = fmt.Sprintf(" -NlMtuBytes %d", s.link.mtu)
		}
		return fmt.Sprintf("Set-NetIPInterface -InterfaceAlias %s -AddressFamily %s -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled%s -PolicyStore ActiveStore", quote(s.device), powerFamily(s.link.v6), mtu)
	case s.address.IsValid() && s.removes():
		return fmt.Sprintf("Remove-NetIPAddress -InterfaceAlias %s -IPAddress %s", quote(s.device), s.address.Addr())
	case s.address.IsValid():
		return fmt.Sprintf("New-NetIPAddress -InterfaceAlias %s -IPAddress %s -PrefixLength %d -PolicyStore ActiveStore", quote(s.device), s.address.Addr(), s.address.Bits())
	}
	verb, metric := "New", " -RouteMetric 0"
	if s.removes() {
		verb, metric = "Remove", ""
	}
	return fmt.Sprintf("%s-NetRoute -InterfaceAlias %s -DestinationPrefix %s -NextHop %s%s -PolicyStore ActiveStore", verb, quote(s.route.Device), s.route.Prefix, s.route.nextHop(), metric)
}

func powerFamily(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// nextHop is the gateway, and on Windows the unspecified address where there is none.
func (r row) nextHop() netip.Addr {
	switch {
	case r.Gateway.IsValid():
		return r.Gateway.WithZone("")
	case r.Prefix.Addr().Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
