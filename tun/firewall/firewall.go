// Package firewall keeps packet filter rules of our own beside a tunnel: marks on the outer packets of
// a strict reverse path check, masquerading and isolation on a gateway, protection of the tunnel's
// addresses, and the kill switch of a client. It never touches the rules of others.
//
//	                  Linux             macOS             FreeBSD, OpenBSD   Windows
//	by                nftables          pf                pf                 WFP
//	ours are          a table           an anchor         an anchor          a sublayer
//	replaced          at once           at once           at once            one after another, never open
//	may only refuse   yes               not with a        not through a      yes
//	                                    kill switch       hole
//	own sockets by    mark              user and Peers    user and Peers     program file
//	hole closes by    the kernel        the caller        the caller         the caller
//	put back          yes               no                no                 no
//	after a reboot    gone              gone              gone               in force
//	RestoreMark       yes               -                 -                  -
//	IsolateClients    yes               with a kill       yes                yes
//	                                    switch
//	Masquerade        yes               yes               yes                refused
//	ClampMSS          forwarded         all of the        all of the         no
//	                                    tunnel            tunnel
//
// What the rules are is a pure function of Rules everywhere (rules.go, pf.go, wfp.go). Only Linux was
// seen to do it: its tests send real packets in network namespaces. The texts for pf and the filters for
// Windows were compared with what we think is right, and pfctl(8) was a fake; none was loaded by a kernel.
//
// On FreeBSD (from 14) and OpenBSD the main ruleset must call our anchor, which Set tells when it does
// not: anchor "martlet/*", and on FreeBSD nat-anchor "martlet/*" to masquerade, as the first lines
// of their kind. Apple's own ruleset calls what is below com.apple.
//
// These holes of the kill switch are known:
//
//   - everywhere, from the start of the host to that of the process; on Windows with filters that a
//     killed process left, to the start of the filtering engine. A Linux table that others have flushed
//     is away for some milliseconds before it is put back, and for good after five times in a
//     minute;
//   - everywhere, packets that are made and taken below the filter: by packet sockets and BPF, as DHCP
//     clients do, and by what runs on the hypervisor's side. Those of Hyper-V's machines and of WSL 2 do not
//     meet the filters of their host;
//   - macOS ignores pf for a while after an update of the system;
//   - macOS and BSD: other programs of our user, root, may send to Peers. Rules of pf.conf before our
//     anchor that let pass for good are only warned of, those in anchors before ours are not looked at, and
//     nobody notices who turns pf off or flushes it. Hosts behind this one reach the tunnel only
//     from Local networks;
//   - Windows: every process of our program's file is excepted, wherever it speaks to.
package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// TablePrefix begins the name of each table of ours, and of what takes its place elsewhere; the device
// follows.
const TablePrefix = "martlet-"

// Rules is what the table of one TUN interface shall do, or what takes its place elsewhere. The zero
// value of each field leaves that part out.
type Rules struct {
	// Device is the name of the TUN interface.
	Device string
	// Mark is the firewall mark on our own outer packets, as in route.Config. Only Linux has marks.
	Mark uint32
	// RestoreMark remembers Mark with the connection of each marked packet and puts
	// it on the replies, so that a strict reverse path check (rp_filter 1) looks
	// the peer up in main and not in the tunnel's table. ARP requests, which are
	// checked too, get it as well.
	RestoreMark bool
	// Ports are our own UDP ports, 500 and 4500 on a gateway. Packets from inside
	// the tunnel to them are dropped (CVE-2021-3773, port shadow); with RestoreMark
	// those from outside get Mark, of which no connection can know yet when a peer
	// calls.
	Ports []uint16
	// TCPPorts are the same for TCP.
	TCPPorts []uint16
	// OuterAddresses are the gateway's own outer addresses: packets from inside the
	// tunnel that come from or go to them are dropped. Not for tunnels between two
	// hosts whose selectors are just these addresses.
	OuterAddresses []netip.Addr
	// ProtectAddresses are the tunnel's own addresses on this host: packets to them
	// which arrive on another interface are dropped (CVE-2019-14899).
	ProtectAddresses []netip.Prefix
	// IsolateClients drops what would be forwarded from Device to Device. On macOS it takes a
	// KillSwitch.
	IsolateClients bool
	// Masquerade are inner sources that get the host's address when they leave by
	// another interface. They get ports at random and never one of Ports, so that no
	// client can take the place of an outer connection of ours, or guess that of
	// another client (CVE-2021-3773). Windows refuses it; macOS and BSD do it on the interfaces that
	// are there at the Set.
	Masquerade []netip.Prefix
	// KillSwitch drops all that this host sends, gets and forwards but what goes through Device,
	// what stays on the host, what sockets with Mark send and get, DHCP of a client, and what IPv6
	// needs to find neighbours. Packet sockets, by which DHCP clients find their first address, are not filtered
	// by any table. The table of a process that was killed keeps the host closed. Connections that
	// are there already end, on macOS and BSD by the loss of the states of all of them.
	KillSwitch bool
	// Local are networks to and from which packets of this host pass a kill switch: those that a
	// person allowed, never those that a network claims to be (CVE-2023-36672). All addresses are no
	// network.
	Local []netip.Prefix
	// HoleUntil is when the hole of a kill switch closes, at most MaxHole from now; zero: there is none.
	// Through it a person logs in to a captive portal: this host may ask for names (port 53) and fetch
	// pages (TCP 80 and 443) outside of the tunnel, not from the tunnel's addresses. The same time in
	// another Set keeps it open no longer. On Linux it closes by itself, whatever becomes of this
	// process; elsewhere the caller closes it, by a Set with zero or a time that is over.
	HoleUntil time.Time
	// Peers are the gateways, with the port that is sent to, and whom else our own sockets speak to:
	// resolvers that are asked for a gateway's name, servers of revocation lists. Packet filters of
	// macOS and BSD know no marks: there a kill switch lets pass what sockets of this process's user
	// send by UDP or TCP to one of these and get from there. Linux goes by Mark, Windows by the
	// program's file, and both ignore Peers.
	Peers []netip.AddrPort
	// ClampMSS is the MTU of the tunnel in octets: TCP connections that are
	// forwarded into or out of Device announce at most the segments that fit. Not on Windows, whose
	// filters change no packets: there path MTU discovery has to do.
	ClampMSS int
}

// Firewall owns the table of one device, and one of the same name for ARP. Its methods may be called by
// anybody. On Linux it puts them back when another program has removed or changed them, and warns once.
type Firewall interface {
	// Set replaces the table as a whole. After an error the former one is in force, but not put back
	// any more; where the error came later, on systems without transactions, the new one is, or both.
	Set(Rules) error
	// Clear takes the table away.
	Clear() error
	// Leave gives the table up as it is, to the next Set under its name or to Recover.
	Leave() error
}

func (r Rules) table() string { return TablePrefix + r.Device }

func (r Rules) check() error {
	if r.Device == "" || len(r.Device) > 15 || strings.ContainsAny(r.Device, " /\"\n") {
		return fmt.Errorf("firewall: device %q is not the name of an interface", r.Device)
	}
	if (r.RestoreMark || r.KillSwitch) && r.Mark == 0 {
		return fmt.Errorf("firewall: a mark to restore, or to let through, must not be 0")
	}
	if r.ClampMSS != 0 && (r.ClampMSS < 100 || r.ClampMSS > 65535) {
		return fmt.Errorf("firewall: mtu %d for the segment size, want 100 to 65535", r.ClampMSS)
	}
	for _, p := range slices.Concat(r.ProtectAddresses, r.Masquerade, r.Local) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("firewall: prefix %s is not valid", p)
		}
	}
	for _, p := range r.Local {
		if p.Bits() == 0 || p != p.Masked() {
			return fmt.Errorf("firewall: local network %s: want a network, not a host in it and not all addresses, of which a kill switch would be none", p)
		}
	}
	if left := time.Until(r.HoleUntil); left > MaxHole {
		return fmt.Errorf("firewall: a hole that closes in %s, want at most %s", left.Round(time.Second), MaxHole)
	}
	for _, a := range r.OuterAddresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("firewall: address %s is not valid", a)
		}
	}
	return nil
}
