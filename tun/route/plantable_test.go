package route

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tableOf makes rows: "PREFIX via GATEWAY dev DEVICE", without what there is not.
func tableOf(list ...string) []row {
	var out []row
	for _, text := range list {
		words := strings.Fields(text)
		r := row{Prefix: netip.MustParsePrefix(words[0])}
		for i := 1; i+1 < len(words); i += 2 {
			switch words[i] {
			case "via":
				r.Gateway = netip.MustParseAddr(words[i+1])
			case "dev":
				r.Device = words[i+1]
			}
		}
		out = append(out, r)
	}
	return out
}

// laptop is a host of each system on a home network with both families.
func laptop(s system) surroundings {
	switch s {
	case macOS:
		return surroundings{
			System: s, V6: true,
			Table: tableOf("0.0.0.0/0 via 192.168.1.1 dev en0", "192.168.1.0/24 dev en0", "127.0.0.0/8 via 127.0.0.1 dev lo0",
				"::/0 via fe80::1%en0 dev en0", "2001:db8::/64 dev en0"),
			Switches: map[string]string{forwardBSD4: "0", forwardBSD6: "0"},
		}
	case microsoft:
		return surroundings{
			System: s, V6: true,
			Table: tableOf("0.0.0.0/0 via 192.168.1.1 dev Wi-Fi", "192.168.1.0/24 dev Wi-Fi",
				"::/0 via fe80::1 dev Wi-Fi", "2001:db8::/64 dev Wi-Fi"),
			Switches: map[string]string{"IPv4 Wi-Fi": "Disabled", "IPv6 Wi-Fi": "Disabled", "IPv4 Al's net": "Disabled", "IPv6 Al's net": "Enabled", "IPv4 martlet0": "Disabled", "IPv6 martlet0": "Disabled"},
		}
	default:
		return surroundings{
			System: s, V6: true,
			Table:    tableOf("0.0.0.0/0 via 192.168.1.1 dev em0", "192.168.1.0/24 dev em0", "::/0 via fe80::1%em0 dev em0", "2001:db8::/64 dev em0"),
			Switches: map[string]string{forwardBSD4: "0", forwardBSD6: "0", routerBSD6: "0"},
		}
	}
}

// done is what s is after the steps.
func (s surroundings) done(steps []step) surroundings {
	s.Table = slices.Clone(s.Table)
	addresses, switches := map[string][]netip.Prefix{}, map[string]string{}
	for k, v := range s.Addresses {
		addresses[k] = slices.Clone(v)
	}
	for k, v := range s.Switches {
		switches[k] = v
	}
	for _, step := range steps {
		switch {
		case step.setting.Key != "":
			switches[step.setting.Key] = step.setting.value(step.verb)
		case step.route.Prefix.IsValid() && step.removes():
			s.Table = slices.DeleteFunc(s.Table, step.route.same)
		case step.route.Prefix.IsValid():
			s.Table = append(s.Table, step.route)
		case step.address.IsValid() && step.removes():
			addresses[step.device] = slices.DeleteFunc(addresses[step.device], func(p netip.Prefix) bool { return p == step.address })
		case step.address.IsValid():
			addresses[step.device] = append(addresses[step.device], step.address)
		}
	}
	s.Addresses, s.Switches = addresses, switches
	return s
}

// besideFull is what a BSD does with networks that stay outside, and with a family that has no way.
const besideFull = `route -n add -inet 192.168.0.0/16 192.168.1.1
route -n add -inet 203.0.113.7/32 192.168.1.1
route -n add -inet6 ::/1 ::1 -reject
route -n add -inet6 8000::/1 ::1 -reject
`

func TestPlanTable(t *testing.T) {
	on := func(device string, c Config) Config {
		c.Device = device
		return c
	}
	// The peer at 203.0.113.7 gave an IPv4 address only, and the user keeps the printers and a
	// cloud outside.
	full := Config{
		Device: "martlet0", MTU: 1400, Addresses: prefixes("10.9.0.5/32"), Routes: prefixes("0.0.0.0/0"),
		Outside: prefixes("203.0.113.7/32", "192.168.1.0/24", "192.168.0.0/16"), Unreachable: prefixes("::/0"),
	}
	both := warrior()
	both.Outside = prefixes("2001:db8:77::/48", "0.0.0.0/0")
	moved := full
	moved.Addresses = prefixes("10.9.0.6/32")
	family := full
	family.Routes, family.Unreachable, family.Addresses = prefixes("0.0.0.0/0", "::/0"), nil, prefixes("10.9.0.5/32", "fd00:9::5/128")
	half := full
	half.Outside, half.Unreachable = nil, prefixes("128.0.0.0/1")

	for _, test := range []struct {
		name     string
		system   system
		from, to Config
		change   func(*surroundings) // between the two
		want     string
	}{
		{"full tunnel, IPv4 only", macOS, Config{}, on("utun4", full), nil, `
ifconfig utun4 mtu 1400
ifconfig utun4 inet 10.9.0.5/32 10.9.0.5 alias
ifconfig utun4 up
` + besideFull + `route -n add -inet 0.0.0.0/1 -interface utun4
route -n add -inet 128.0.0.0/1 -interface utun4
`},
		{"full tunnel, IPv4 only", freeBSD, Config{}, full, nil, `
ifconfig martlet0 mtu 1400
ifconfig martlet0 inet 10.9.0.5/32 alias
ifconfig martlet0 up
` + besideFull + `route -n add -inet 0.0.0.0/1 -interface martlet0
route -n add -inet 128.0.0.0/1 -interface martlet0
`},
		{"full tunnel, IPv4 only", openBSD, Config{}, on("tun0", full), nil, `
ifconfig tun0 mtu 1400
ifconfig tun0 inet 10.9.0.5/32 alias
ifconfig tun0 up
` + besideFull + `route -n add -inet 0.0.0.0/1 -iface 10.9.0.5
route -n add -inet 128.0.0.0/1 -iface 10.9.0.5
`},
		{"full tunnel, IPv4 only", microsoft, Config{}, full, nil, `
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv4 -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled -NlMtuBytes 1400 -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv6 -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled -NlMtuBytes 1400 -PolicyStore ActiveStore
New-NetIPAddress -InterfaceAlias 'martlet0' -IPAddress 10.9.0.5 -PrefixLength 32 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'Wi-Fi' -DestinationPrefix 192.168.0.0/16 -NextHop 192.168.1.1 -RouteMetric 0 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'Wi-Fi' -DestinationPrefix 203.0.113.7/32 -NextHop 192.168.1.1 -RouteMetric 0 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix ::/0 -NextHop :: -RouteMetric 0 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix 0.0.0.0/0 -NextHop 0.0.0.0 -RouteMetric 0 -PolicyStore ActiveStore
`},
		{"IPv6 through the tunnel, IPv4 stays outside", macOS, Config{}, on("utun4", both), nil, `
ifconfig utun4 mtu 1400
ifconfig utun4 inet 10.9.0.5/32 10.9.0.5 alias
ifconfig utun4 inet6 fd00:9::5/128 alias
ifconfig utun4 up
route -n add -inet6 2001:db8:77::/48 fe80::1%en0
route -n add -inet6 ::/1 -interface utun4
route -n add -inet6 8000::/1 -interface utun4
`},
		{"IPv6 through the tunnel, IPv4 stays outside", microsoft, Config{}, both, func(s *surroundings) { s.Table = append(s.Table, tableOf("2001:db8:77::/48 dev Wi-Fi")...) }, `
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv4 -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled -NlMtuBytes 1400 -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv6 -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled -NlMtuBytes 1400 -PolicyStore ActiveStore
New-NetIPAddress -InterfaceAlias 'martlet0' -IPAddress 10.9.0.5 -PrefixLength 32 -PolicyStore ActiveStore
New-NetIPAddress -InterfaceAlias 'martlet0' -IPAddress fd00:9::5 -PrefixLength 128 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix ::/0 -NextHop :: -RouteMetric 0 -PolicyStore ActiveStore
`},
		{"half of the default with a purpose of its own", freeBSD, Config{}, half, nil, `
ifconfig martlet0 mtu 1400
ifconfig martlet0 inet 10.9.0.5/32 alias
ifconfig martlet0 up
route -n add -inet 128.0.0.0/1 127.0.0.1 -reject
route -n add -inet 0.0.0.0/1 -interface martlet0
`},
		{"same again changes nothing", freeBSD, full, full, nil, `
ifconfig martlet0 mtu 1400
ifconfig martlet0 up
`},
		{"what somebody removed is put back", freeBSD, full, full, func(s *surroundings) {
			s.Table = slices.DeleteFunc(s.Table, func(r row) bool { return r.Reject || r.Prefix.Bits() == 1 && r.Prefix.Addr().Is4() })
		}, `
ifconfig martlet0 mtu 1400
ifconfig martlet0 up
route -n add -inet6 ::/1 ::1 -reject
route -n add -inet6 8000::/1 ::1 -reject
route -n add -inet 0.0.0.0/1 -interface martlet0
route -n add -inet 128.0.0.0/1 -interface martlet0
`},
		{"the host moves to another network", macOS, on("utun4", full), on("utun4", full), func(s *surroundings) {
			s.Table = slices.DeleteFunc(s.Table, func(r row) bool { return r.Device == "en0" && r.Prefix.Bits() < 32 })
			s.Table = append(s.Table, tableOf("0.0.0.0/0 via 172.20.10.1 dev en1", "172.20.10.0/28 dev en1")...)
		}, `
ifconfig utun4 mtu 1400
ifconfig utun4 up
route -n add -inet 192.168.0.0/16 172.20.10.1
route -n add -inet 192.168.1.0/24 172.20.10.1
route -n delete -inet 203.0.113.7/32 192.168.1.1
route -n add -inet 203.0.113.7/32 172.20.10.1
`},
		{"without a network nothing leads outside", freeBSD, full, full, func(s *surroundings) {
			s.Table = slices.DeleteFunc(s.Table, func(r row) bool { return r.Device == "em0" })
		}, `
ifconfig martlet0 mtu 1400
ifconfig martlet0 up
`},
		{"another virtual address takes the routes with it", freeBSD, full, moved, nil, `
route -n delete -inet 0.0.0.0/1 -interface martlet0
route -n delete -inet 128.0.0.0/1 -interface martlet0
ifconfig martlet0 inet 10.9.0.5 -alias
ifconfig martlet0 mtu 1400
ifconfig martlet0 inet 10.9.0.6/32 alias
ifconfig martlet0 up
route -n add -inet 0.0.0.0/1 -interface martlet0
route -n add -inet 128.0.0.0/1 -interface martlet0
`},
		{"the peer gives an IPv6 address after all", openBSD, on("tun0", full), on("tun0", family), nil, `
ifconfig tun0 mtu 1400
ifconfig tun0 inet6 fd00:9::5/128 alias
ifconfig tun0 up
route -n delete -inet6 ::/1 ::1 -reject
route -n add -inet6 ::/1 -iface fd00:9::5
route -n delete -inet6 8000::/1 ::1 -reject
route -n add -inet6 8000::/1 -iface fd00:9::5
`},
		{"a host without IPv6", freeBSD, Config{}, full, func(s *surroundings) { s.V6 = false }, `
ifconfig martlet0 mtu 1400
ifconfig martlet0 inet 10.9.0.5/32 alias
ifconfig martlet0 up
route -n add -inet 192.168.0.0/16 192.168.1.1
route -n add -inet 203.0.113.7/32 192.168.1.1
route -n add -inet 0.0.0.0/1 -interface martlet0
route -n add -inet 128.0.0.0/1 -interface martlet0
`},
		{"everything goes", macOS, on("utun4", full), Config{}, nil, `
route -n delete -inet 192.168.0.0/16 192.168.1.1
route -n delete -inet 203.0.113.7/32 192.168.1.1
route -n delete -inet6 ::/1 ::1 -reject
route -n delete -inet6 8000::/1 ::1 -reject
route -n delete -inet 0.0.0.0/1 -interface utun4
route -n delete -inet 128.0.0.0/1 -interface utun4
ifconfig utun4 inet 10.9.0.5 -alias
`},
		{"what outlived the interface goes", openBSD, on("tun0", full), Config{}, func(s *surroundings) {
			s.Table = slices.DeleteFunc(s.Table, func(r row) bool { return r.Device == "tun0" })
			s.Addresses = nil
		}, `
route -n delete -inet 192.168.0.0/16 192.168.1.1
route -n delete -inet 203.0.113.7/32 192.168.1.1
route -n delete -inet6 ::/1 ::1 -reject
route -n delete -inet6 8000::/1 ::1 -reject
`},
		{"what is another's by now stays", microsoft, full, Config{}, func(s *surroundings) {
			for i := range s.Table {
				if s.Table[i].Prefix.IsSingleIP() {
					s.Table[i].Gateway = netip.MustParseAddr("192.168.1.2")
				}
			}
			s.Addresses = nil
		}, `
Remove-NetRoute -InterfaceAlias 'Wi-Fi' -DestinationPrefix 192.168.0.0/16 -NextHop 192.168.1.1 -PolicyStore ActiveStore
Remove-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix ::/0 -NextHop :: -PolicyStore ActiveStore
Remove-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix 0.0.0.0/0 -NextHop 0.0.0.0 -PolicyStore ActiveStore
`},
		{"gateway", freeBSD, Config{}, gateway(), nil, `
sysctl net.inet.ip.forwarding=1
sysctl net.inet6.ip6.rfc6204w3=1
sysctl net.inet6.ip6.forwarding=1
ifconfig martlet0 inet 10.9.0.1/32 alias
ifconfig martlet0 inet6 fd00:9::1/128 alias
ifconfig martlet0 up
route -n add -inet 10.9.0.0/24 -interface martlet0
route -n add -inet6 fd00:9::/64 -interface martlet0
`},
		{"gateway goes", freeBSD, gateway(), Config{}, nil, `
route -n delete -inet 10.9.0.0/24 -interface martlet0
route -n delete -inet6 fd00:9::/64 -interface martlet0
ifconfig martlet0 inet 10.9.0.1 -alias
ifconfig martlet0 inet6 fd00:9::1 -alias
sysctl net.inet6.ip6.forwarding=0
sysctl net.inet6.ip6.rfc6204w3=0
sysctl net.inet.ip.forwarding=0
`},
		{"gateway", microsoft, Config{}, gateway(), nil, `
Set-NetIPInterface -InterfaceAlias 'Al''s net' -AddressFamily IPv4 -Forwarding Enabled -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'Wi-Fi' -AddressFamily IPv4 -Forwarding Enabled -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv4 -Forwarding Enabled -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'Wi-Fi' -AddressFamily IPv6 -Forwarding Enabled -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv6 -Forwarding Enabled -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv4 -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled -PolicyStore ActiveStore
Set-NetIPInterface -InterfaceAlias 'martlet0' -AddressFamily IPv6 -AutomaticMetric Disabled -InterfaceMetric 0 -DadTransmits 0 -RouterDiscovery Disabled -PolicyStore ActiveStore
New-NetIPAddress -InterfaceAlias 'martlet0' -IPAddress 10.9.0.1 -PrefixLength 32 -PolicyStore ActiveStore
New-NetIPAddress -InterfaceAlias 'martlet0' -IPAddress fd00:9::1 -PrefixLength 128 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix 10.9.0.0/24 -NextHop 0.0.0.0 -RouteMetric 0 -PolicyStore ActiveStore
New-NetRoute -InterfaceAlias 'martlet0' -DestinationPrefix fd00:9::/64 -NextHop :: -RouteMetric 0 -PolicyStore ActiveStore
`},
	} {
		t.Run(string(test.system)+" "+test.name, func(t *testing.T) {
			s := laptop(test.system)
			var have state
			if test.from.Device != "" {
				steps, after, err := planTable(have, normal(t, test.from), s)
				if err != nil {
					t.Fatal(err)
				}
				have, s = after, s.done(steps)
			}
			if test.change != nil {
				test.change(&s)
			}
			steps, _, err := planTable(have, normal(t, test.to), s)
			if err != nil {
				t.Fatal(err)
			}
			got := "\n"
			for _, step := range steps {
				got += step.String() + "\n"
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// After everything went, the host is as before, wherever it was left in between.
func TestPlanTableRestores(t *testing.T) {
	first, second := warrior(), gateway()
	first.Outside, first.Unreachable = prefixes("203.0.113.7/32", "192.168.0.0/16"), prefixes("10.0.0.0/8")
	second.Unreachable = prefixes("::/0")
	for _, s := range []system{macOS, freeBSD, openBSD, microsoft} {
		before := laptop(s)
		now, have := before, state{}
		for _, c := range []Config{first, second, first, {}} {
			steps, next, err := planTable(have, normal(t, c), now)
			if err != nil {
				t.Fatal(err)
			}
			now, have = now.done(steps), next
		}
		sorted := func(rows []row) []string {
			var out []string
			for _, r := range rows {
				out = append(out, step{system: freeBSD, route: r}.String())
			}
			slices.Sort(out)
			return out
		}
		if diff := cmp.Diff(sorted(before.Table), sorted(now.Table)); diff != "" {
			t.Errorf("%s: routes (-before +after):\n%s", s, diff)
		}
		if diff := cmp.Diff(before.Switches, now.Switches); diff != "" {
			t.Errorf("%s: switches (-before +after):\n%s", s, diff)
		}
		if len(now.Addresses["martlet0"]) != 0 || len(have.Rows) != 0 {
			t.Errorf("%s: left %v, %v", s, now.Addresses, have.Rows)
		}
	}
}

// OpenBSD names the interface by an address, and there must be one.
func TestPlanTableWithoutAddress(t *testing.T) {
	c := Config{Device: "tun0", Addresses: prefixes("10.9.0.5/32"), Routes: prefixes("10.20.0.0/16", "fd00:20::/48")}
	for s, want := range map[system]string{macOS: "", freeBSD: "", openBSD: "fd00:20::/48 cannot lead into tun0"} {
		_, _, err := planTable(state{}, normal(t, c), laptop(s))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", s, err, want)
		}
	}
}
