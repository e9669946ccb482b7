// Package firewall keeps a packet filter table of our own beside a tunnel: marks
// on the outer packets of a strict reverse path check, masquerading and isolation
// on a gateway, and protection of the tunnel's addresses. It never touches the
// tables of others, and can therefore only refuse what they let through, not let
// through what they refuse.
//
// What the table contains is a pure function of Rules (rules.go); on Linux it is
// handed to nftables in one transaction, so that at no moment there is half a
// table or none.
package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// TablePrefix begins the name of each table of ours; the device follows.
const TablePrefix = "martlet-"

// Rules is what the table of one TUN interface shall do. The zero value of each
// field leaves that part out.
type Rules struct {
	// Device is the name of the TUN interface.
	Device string
	// Mark is the firewall mark on our own outer packets, as in route.Config.
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
	// IsolateClients drops what would be forwarded from Device to Device.
	IsolateClients bool
	// Masquerade are inner sources that get the host's address when they leave by
	// another interface. They get ports at random and never one of Ports, so that no
	// client can take the place of an outer connection of ours, or guess that of
	// another client (CVE-2021-3773).
	Masquerade []netip.Prefix
	// ClampMSS is the MTU of the tunnel in octets: TCP connections that are
	// forwarded into or out of Device announce at most the segments that fit.
	ClampMSS int
}

// Firewall owns the table of one device, and one of the same name for ARP. Its methods may be called by anybody.
type Firewall interface {
	// Set replaces the table as a whole. After an error the former one is in force.
	Set(Rules) error
	// Clear takes the table away.
	Clear() error
}

func (r Rules) table() string { return TablePrefix + r.Device }

func (r Rules) check() error {
	if r.Device == "" || len(r.Device) > 15 || strings.ContainsAny(r.Device, " /\"\n") {
		return fmt.Errorf("firewall: device %q is not the name of an interface", r.Device)
	}
	if r.RestoreMark && r.Mark == 0 {
		return fmt.Errorf("firewall: a mark to restore must not be 0")
	}
	if r.ClampMSS != 0 && (r.ClampMSS < 100 || r.ClampMSS > 65535) {
		return fmt.Errorf("firewall: mtu %d for the segment size, want 100 to 65535", r.ClampMSS)
	}
	for _, p := range slices.Concat(r.ProtectAddresses, r.Masquerade) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("firewall: prefix %s is not valid", p)
		}
	}
	for _, a := range r.OuterAddresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("firewall: address %s is not valid", a)
		}
	}
	return nil
}
