package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// filter is one of the Windows Filtering Platform. What meets all of its conditions is blocked or permitted;
// among filters of one layer the first decides. A permit is not the last word: other sublayers, as
// that of the Windows firewall, may still block. A block is.
type filter struct {
	name       string
	layer      layer
	block      bool
	conditions []condition
}

// layer is where packets or flows meet filters: FWPM_LAYER_ with this name and the family behind.
type layer struct {
	name   string
	family byte // 4 or 6
}

// The fields that conditions look at, but for two with a meaning of their own.
const (
	fieldProgram     = "ALE_APP_ID"
	fieldProtocol    = "IP_PROTOCOL"
	fieldRemotePort  = "IP_REMOTE_PORT"
	fieldLocal       = "IP_LOCAL_ADDRESS"
	fieldRemote      = "IP_REMOTE_ADDRESS"
	fieldInterface   = "IP_LOCAL_INTERFACE"   // LUID
	fieldArrival     = "IP_ARRIVAL_INTERFACE" // LUID
	fieldIndex       = "INTERFACE_INDEX"
	fieldSource      = "SOURCE_INTERFACE_INDEX"
	fieldDestination = "DESTINATION_INTERFACE_INDEX"
)

// The layers that we use. The first two decide about flows, once and again whenever filters change.
const (
	layerConnect = "ALE_AUTH_CONNECT"
	layerAccept  = "ALE_AUTH_RECV_ACCEPT"
	layerForward = "IPFORWARD"
	layerPacket  = "INBOUND_IPPACKET"
)

// condition compares FWPM_CONDITION_ of this name with a value: a uint8, uint16, uint32, uint64, string
// or netip.Prefix, as its field has it.
type condition struct {
	field string
	not   bool
	value any
}

const (
	fieldFlags     = "FLAGS"         // a flag must be set, or not
	fieldLocalPort = "IP_LOCAL_PORT" // and the type of an ICMP packet

	flagLoopback uint32 = 1
)

// windowsHost is what the filters must know of the host.
type windowsHost struct {
	program string // our own, as FwpmGetAppIdFromFileName0 calls it
	luid    uint64 // of the interface, 0 while there is none
	index   uint32
	hole    bool // is open
}

// wfp are the filters, the first one of each layer the most important one. After a crash they stay, and
// over a reboot: persistent filters hold until they are deleted.
//
// Our own sockets are told by the program's file, which names more than marks do: another process of
// the same file is excepted too.
func (r Rules) wfp(host windowsHost) []filter {
	var out []filter
	block := func(name, l string, family byte, conditions ...condition) {
		out = append(out, filter{name, layer{l, family}, true, conditions})
	}
	is := func(field string, value any) condition { return condition{field: field, value: value} }

	if host.luid != 0 {
		inside, outside := is(fieldIndex, host.index), condition{fieldIndex, true, host.index}
		for _, p := range r.ProtectAddresses {
			block("tunnel address from elsewhere", layerPacket, familyOf(p.Addr()), is(fieldLocal, single(p.Addr())), outside, condition{fieldFlags, true, flagLoopback})
		}
		for _, a := range r.OuterAddresses {
			block("outer address from inside", layerPacket, familyOf(a), inside, is(fieldRemote, single(a)))
			block("to an outer address from inside", layerPacket, familyOf(a), inside, is(fieldLocal, single(a)))
		}
		for _, family := range families {
			arrives := is(fieldArrival, host.luid)
			for _, p := range r.Ports {
				block("own port from inside", layerAccept, family, arrives, is(fieldProtocol, uint8(udp)), is(fieldLocalPort, p))
			}
			for _, p := range r.TCPPorts {
				block("own port from inside", layerAccept, family, arrives, is(fieldProtocol, uint8(tcp)), is(fieldLocalPort, p))
			}
			if r.IsolateClients {
				block("client to client", layerForward, family, is(fieldSource, host.index), is(fieldDestination, host.index))
			}
		}
	}
	if r.KillSwitch {
		for _, family := range families {
			out = append(out, r.wfpKillSwitch(host, family)...)
		}
	}
	return out
}

var families = []byte{4, 6}

// wfpKillSwitch blocks what Rules.killSwitch drops on Linux, of one family. The hole closes with the
// filters of the Set after it.
func (r Rules) wfpKillSwitch(host windowsHost, family byte) []filter {
	var out []filter
	permit := func(name string, layers []string, conditions ...condition) {
		for _, l := range layers {
			out = append(out, filter{name, layer{l, family}, false, conditions})
		}
	}
	is := func(field string, value any) condition { return condition{field: field, value: value} }
	connect, accepts := []string{layerConnect}, []string{layerAccept}
	both := []string{layerConnect, layerAccept}

	permit("own program", both, is(fieldProgram, host.program))
	permit("this host", both, is(fieldFlags, flagLoopback))
	if host.luid != 0 {
		permit("tunnel", both, is(fieldInterface, host.luid))
		permit("from the tunnel", []string{layerForward}, is(fieldSource, host.index))
		permit("to the tunnel", []string{layerForward}, is(fieldDestination, host.index))
	}
	dhcp := []condition{is(fieldProtocol, uint8(udp)), is(fieldLocalPort, uint16(68)), is(fieldRemotePort, uint16(67))}
	if family == 4 {
		permit("DHCP", both, dhcp...)
	} else {
		dhcp = []condition{is(fieldProtocol, uint8(udp)), is(fieldLocalPort, uint16(546)), is(fieldRemotePort, uint16(547))}
		permit("DHCP", connect, append(dhcp, is(fieldLocal, linkLocal))...)
		permit("DHCP", accepts, append(dhcp, is(fieldRemote, linkLocal))...)
		for _, t := range neighbourOut {
			permit("neighbours", connect, is(fieldProtocol, uint8(icmp6)), is(fieldLocalPort, uint16(t)))
		}
		for _, t := range neighbourIn {
			permit("neighbours", accepts, is(fieldProtocol, uint8(icmp6)), is(fieldLocalPort, uint16(t)))
		}
	}
	for _, p := range r.Local {
		if familyOf(p.Addr()) == family {
			permit("local network", both, is(fieldRemote, p))
		}
	}
	if host.hole {
		for _, p := range r.ProtectAddresses { // of what was inside the tunnel
			if familyOf(p.Addr()) == family {
				out = append(out, filter{"tunnel address outside", layer{layerConnect, family}, true, []condition{is(fieldLocal, single(p.Addr()))}})
			}
		}
		for _, p := range portal {
			permit("hole", connect, is(fieldProtocol, p.protocol), is(fieldRemotePort, p.port))
		}
	}
	for _, l := range []string{layerConnect, layerAccept, layerForward} {
		out = append(out, filter{"all else", layer{l, family}, true, nil})
	}
	return out
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return 4
	}
	return 6
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// checkWFP refuses what Windows does by other means.
func (r Rules) checkWFP() error {
	if len(r.Masquerade) > 0 {
		return fmt.Errorf("firewall: filters of Windows translate no addresses: have NetNat do it (New-NetNat), and take masquerading out of the configuration: %w", errors.ErrUnsupported)
	}
	return nil
}

func (l layer) String() string { return fmt.Sprintf("%s_V%d", l.name, l.family) }

func (c condition) String() string {
	word := "=="
	switch {
	case c.field == fieldFlags && c.not:
		word = "without"
	case c.field == fieldFlags:
		word = "with"
	case c.not:
		word = "!="
	}
	return fmt.Sprintf("%s %s %v", c.field, word, c.value)
}

// String is the filter on one line.
func (f filter) String() string {
	words := []string{"permit"}
	if f.block {
		words[0] = "block"
	}
	words = append(words, f.layer.String(), fmt.Sprintf("%q", f.name))
	for i, c := range f.conditions {
		if i > 0 {
			words = append(words, "and")
		}
		words = append(words, c.String())
	}
	return strings.Join(words, " ")
}
