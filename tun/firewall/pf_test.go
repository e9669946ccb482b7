package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// roadWarrior is a client with a kill switch on a system without marks.
func roadWarrior() Rules {
	r := holed(time.Unix(1, 0))
	r.Device = "utun7"
	r.Peers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("[2001:db8::1]:53")}
	return r
}

func office() Rules {
	r := gateway()
	r.Device = "tun0"
	r.TCPPorts = []uint16{4500}
	return r
}

var seen = around{interfaces: []string{"em0", "em1"}, label: "martlet"}

func TestTextOfPF(t *testing.T) {
	for _, test := range []struct {
		name    string
		grammar grammar
		rules   Rules
		around  around
		want    string
	}{
		{"macOS", macOS, roadWarrior(), around{user: 0, hole: true, label: "martlet token 17"}, `scrub on utun7 inet proto tcp all max-mss 1360
scrub on utun7 inet6 proto tcp all max-mss 1340
block drop in quick on utun7 inet from 255.255.255.255 to any label "martlet token 17"
block drop in quick on ! utun7 inet from ! (self) to 10.9.0.5
pass in quick on utun7 all no state tag martlet_through
block drop out quick on utun7 all tagged martlet_through
pass in quick on lo0 all no state tag martlet_in
pass out quick on lo0 all no state tag martlet_out
pass out quick on utun7 all no state tag martlet_out
pass out quick all tagged martlet_through no state tag martlet_out
pass in quick inet proto { tcp, udp } from 192.0.2.1 port 4500 to any user 0 no state tag martlet_in
pass out quick inet proto { tcp, udp } from any to 192.0.2.1 port 4500 user 0 no state tag martlet_out
pass in quick inet6 proto { tcp, udp } from 2001:db8::1 port 53 to any user 0 no state tag martlet_in
pass out quick inet6 proto { tcp, udp } from any to 2001:db8::1 port 53 user 0 no state tag martlet_out
pass in quick inet proto udp from any port 67 to any port 68 no state tag martlet_in
pass out quick inet proto udp from { (self), 0.0.0.0 } port 68 to any port 67 no state tag martlet_out
pass in quick inet6 proto udp from fe80::/10 port 547 to any port 546 no state tag martlet_in
pass out quick inet6 proto udp from fe80::/10 port 546 to any port 547 no state tag martlet_out
pass in quick inet6 proto 58 all icmp6-type 134 no state tag martlet_in
pass in quick inet6 proto 58 all icmp6-type 135 no state tag martlet_in
pass in quick inet6 proto 58 all icmp6-type 136 no state tag martlet_in
pass in quick inet6 proto 58 all icmp6-type 130 no state tag martlet_in
pass out quick inet6 proto 58 all icmp6-type 133 no state tag martlet_out
pass out quick inet6 proto 58 all icmp6-type 135 no state tag martlet_out
pass out quick inet6 proto 58 all icmp6-type 136 no state tag martlet_out
pass out quick inet6 proto 58 all icmp6-type 143 no state tag martlet_out
pass out quick inet6 proto 58 all icmp6-type 131 no state tag martlet_out
pass out quick inet6 proto 58 all icmp6-type 132 no state tag martlet_out
pass in quick inet from 192.168.7.0/24 to any no state tag martlet_in
pass out quick inet from (self) to 192.168.7.0/24 no state tag martlet_out
pass in quick inet6 from fd00:7::/64 to any no state tag martlet_in
pass out quick inet6 from (self) to fd00:7::/64 no state tag martlet_out
block drop out quick on ! utun7 inet from 10.9.0.5 to ! (self)
pass out quick proto 17 from (self) to any port 53 keep state
pass out quick proto 6 from (self) to any port 53 keep state
pass out quick proto 6 from (self) to any port 80 keep state
pass out quick proto 6 from (self) to any port 443 keep state
block drop quick all
`},
		{"OpenBSD with a kill switch and nothing else", openBSD, Rules{Device: "tun0", KillSwitch: true, Mark: 1}, seen, `block drop in quick on tun0 inet from 255.255.255.255 to any label "martlet"
match in on tun0 all tag martlet_through
match in on lo0 all tag martlet_in
match out on lo0 all tag martlet_out
match out on tun0 all tag martlet_out
match out all tagged martlet_through tag martlet_out
match in inet proto udp from any port 67 to any port 68 tag martlet_in
match out inet proto udp from { (self), 0.0.0.0 } port 68 to any port 67 tag martlet_out
match in inet6 proto udp from fe80::/10 port 547 to any port 546 tag martlet_in
match out inet6 proto udp from fe80::/10 port 546 to any port 547 tag martlet_out
match in inet6 proto 58 all icmp6-type 134 tag martlet_in
match in inet6 proto 58 all icmp6-type 135 tag martlet_in
match in inet6 proto 58 all icmp6-type 136 tag martlet_in
match in inet6 proto 58 all icmp6-type 130 tag martlet_in
match out inet6 proto 58 all icmp6-type 133 tag martlet_out
match out inet6 proto 58 all icmp6-type 135 tag martlet_out
match out inet6 proto 58 all icmp6-type 136 tag martlet_out
match out inet6 proto 58 all icmp6-type 143 tag martlet_out
match out inet6 proto 58 all icmp6-type 131 tag martlet_out
match out inet6 proto 58 all icmp6-type 132 tag martlet_out
block drop in quick on ! tun0 all ! tagged martlet_in
block drop out quick all ! tagged martlet_out
`},
		{"FreeBSD gateway", freeBSD, office(), seen, `nat on em0 inet from 10.9.0.0/24 to any -> (em0)
nat on em1 inet from 10.9.0.0/24 to any -> (em1)
nat on em0 inet6 from fd00:9::/64 to any -> (em0)
nat on em1 inet6 from fd00:9::/64 to any -> (em1)
match on tun0 inet proto tcp all scrub (max-mss 1360)
match on tun0 inet6 proto tcp all scrub (max-mss 1340)
` + officeFilter},
		{"OpenBSD gateway", openBSD, office(), seen, `match out on em0 inet from 10.9.0.0/24 to any nat-to (em0)
match out on em1 inet from 10.9.0.0/24 to any nat-to (em1)
match out on em0 inet6 from fd00:9::/64 to any nat-to (em0)
match out on em1 inet6 from fd00:9::/64 to any nat-to (em1)
match on tun0 inet proto tcp all scrub (max-mss 1360)
match on tun0 inet6 proto tcp all scrub (max-mss 1340)
` + officeFilter},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.grammar.pf(test.rules, test.around)); diff != "" {
				t.Errorf("anchor (-want +got):\n%s", diff)
			}
		})
	}
}

const officeFilter = `block drop in quick on tun0 inet from 255.255.255.255 to any label "martlet"
block drop in quick on ! tun0 inet from ! (self) to 10.9.0.1
block drop in quick on ! tun0 inet6 from ! (self) to fd00:9::1
block drop in quick on tun0 inet from 192.0.2.1 to any
block drop in quick on tun0 inet from any to 192.0.2.1
block drop in quick on tun0 proto udp from any to (self) port 500
block drop in quick on tun0 proto udp from any to (self) port 4500
block drop in quick on tun0 proto tcp from any to (self) port 4500
match in on tun0 all tag martlet_through
block drop out quick on tun0 all tagged martlet_through
`

// An exception for our own sockets names an address, a port, protocols and the user, all at once
// (CVE-2023-36673), and nothing but the hole keeps a state that would outlive the rules.
func TestExceptionsOfPFAreNarrow(t *testing.T) {
	for _, g := range []grammar{macOS, freeBSD, openBSD} {
		for l := range strings.Lines(g.pf(roadWarrior(), around{user: 501})) {
			if strings.Contains(l, "192.0.2.1") && !strings.Contains(l, "proto { tcp, udp }") ||
				strings.Contains(l, "192.0.2.1") && !strings.Contains(l, "192.0.2.1 port 4500 ") ||
				strings.Contains(l, "192.0.2.1") && !strings.Contains(l, "user 501") {
				t.Errorf("too wide: %s", l)
			}
			if strings.HasPrefix(l, "pass") && !strings.Contains(l, "no state") {
				t.Errorf("keeps state: %s", l)
			}
		}
	}
}

func TestCheckPF(t *testing.T) {
	if err := roadWarrior().checkPF(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Rules){
		"no number":        func(r *Rules) { r.Device = "all" },
		"the grammar":      func(r *Rules) { r.Device = "tun0;pass" },
		"no port":          func(r *Rules) { r.Peers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")} },
		"every address":    func(r *Rules) { r.Peers = []netip.AddrPort{netip.MustParseAddrPort("[::]:4500")} },
		"nothing":          func(r *Rules) { r.Peers = []netip.AddrPort{{}} },
		"mapped":           func(r *Rules) { r.Peers = []netip.AddrPort{netip.MustParseAddrPort("[::ffff:192.0.2.1]:500")} },
		"an address there": func(r *Rules) { r.Peers = []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%em0]:500")} },
	} {
		r := roadWarrior()
		change(&r)
		if r.checkPF() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestMainRulesetCallsTheAnchor(t *testing.T) {
	const apple = "No ALTQ support in kernel\nscrub-anchor \"com.apple/*\" all fragment reassemble\nanchor \"com.apple/*\" all\n"
	killSwitch := Rules{Device: "tun0", KillSwitch: true}
	for _, test := range []struct {
		name       string
		grammar    grammar
		rules      Rules
		main, nat  string
		missing    []string
		goesBefore string
	}{
		{"Apple's own", macOS, killSwitch, apple, "", nil, ""},
		{"Apple's own, to clamp", macOS, roadWarrior(), apple, "", nil, ""},
		{"emptied", macOS, roadWarrior(), "", "", []string{`scrub-anchor "com.apple/*"`, `anchor "com.apple/*"`}, ""},
		{"translation", freeBSD, office(), "anchor \"martlet/*\" all\n", "nat-anchor \"martlet/*\" all\n", nil, ""},
		{"no translation", freeBSD, office(), "anchor \"martlet/*\" all\n", "", []string{`nat-anchor "martlet/*"`}, ""},
		{"translation is a filter rule", openBSD, office(), "anchor \"martlet/*\" all\n", "", nil, ""},
		{"one anchor", openBSD, killSwitch, "anchor \"martlet/tun0\" all\n", "", nil, ""},
		{"another's", openBSD, killSwitch, "anchor \"martlet/tun1\" all\nanchor \"ftp/*\" all\n", "", []string{`anchor "martlet/*"`}, ""},
		{"not for all packets", openBSD, killSwitch, "anchor \"martlet/*\" on em0 all\n", "", []string{`anchor "martlet/*"`}, ""},
		{
			"behind a quick rule", openBSD, killSwitch, "block drop all\npass in quick on em0 proto tcp from any to any port = 22\nanchor \"martlet/*\" all\n", "", nil,
			"pass in quick on em0 proto tcp from any to any port = 22",
		},
		{"before a quick rule", openBSD, killSwitch, "anchor \"martlet/*\" all\npass quick all\n", "", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.missing, test.grammar.missing(test.rules, test.main, test.nat)); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			if got := test.grammar.early(test.rules.Device, test.main); got != test.goesBefore {
				t.Errorf("before it %q, want %q", got, test.goesBefore)
			}
		})
	}
}

// What pfctl prints is read, whatever it is.
func FuzzPfctl(f *testing.F) {
	f.Add("anchor \"com.apple/*\" all\npass quick all\n")
	f.Add(macOS.pf(roadWarrior(), around{label: "martlet token 17"}))
	f.Add("Token : 5\nStatus: Enabled\n  martlet/tun0\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, g := range []grammar{macOS, freeBSD, openBSD} {
			if lines := g.missing(office(), text, text); len(lines) > 3 {
				t.Errorf("%q", lines)
			}
			_ = g.early("tun0", text)
			// A device becomes part of a command.
			if device := g.device(text); device != "" && g.anchor(device) != text {
				t.Errorf("%q is the device of %q", device, text)
			}
		}
		if label := labelOf(text); label != "" && labelOf(openBSD.pf(office(), around{label: label})) != label {
			t.Errorf("label %q is not found again", label)
		}
	})
}
