package dns

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// The two links of a host: its network, and the tunnel. Each has resolvers behind it that know all
// names of more than one label, and give them an address which tells whom they were asked from.
const (
	networkLink = "eth0"
	tunnelLink  = "martlet0"
	outside     = "192.0.2.80"
	inside      = "10.1.0.80"
)

func networkUp(t *testing.T) {
	newLink(t, networkLink, addrs("192.0.2.53", "192.0.2.54"), outside, "192.0.2.7/24")
}

func tunnelUp(t *testing.T) {
	newLink(t, tunnelLink, everything().Servers, inside, "10.1.0.7/24", "fd00:1::7/64")
}

// newLink makes a TUN device at whose other end are servers. It is there until the process ends.
func newLink(t *testing.T, name string, servers []netip.Addr, answer string, own ...string) {
	t.Helper()
	tun := &netlink.Tuntap{
		LinkAttrs:  netlink.LinkAttrs{Name: name},
		Mode:       netlink.TUNTAP_MODE_TUN,
		Flags:      netlink.TUNTAP_NO_PI,
		NonPersist: true,
		Queues:     1,
	}
	if err := netlink.LinkAdd(tun); err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		addr, err := netlink.ParseAddr(a)
		if err == nil {
			err = netlink.AddrAdd(tun, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(tun); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := tun.Fds[0].Read(b)
			if err != nil {
				return // the process ends
			}
			if reply := answered(b[:n], servers, netip.MustParseAddr(answer)); reply != nil {
				_, _ = tun.Fds[0].Write(reply) // as good as lost, and asked for again
			}
		}
	}()
}

// answered makes the packet that answers a packet with a query to one of the servers; nil to others.
func answered(packet []byte, servers []netip.Addr, address netip.Addr) []byte {
	first := gopacket.Decoder(layers.LayerTypeIPv4)
	if packet[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(packet, first, gopacket.Default)
	udp, ok := p.TransportLayer().(*layers.UDP)
	if !ok || udp.DstPort != 53 {
		return nil
	}
	server, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	answer := answerTo(udp.Payload, address)
	if answer == nil || !slices.Contains(servers, server) {
		return nil
	}
	udp.SrcPort, udp.DstPort = udp.DstPort, udp.SrcPort
	var network gopacket.SerializableLayer
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
		network = ip
	case *layers.IPv6:
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
		network = ip
	}
	buf := gopacket.NewSerializeBuffer()
	if udp.SetNetworkLayerForChecksum(p.NetworkLayer()) != nil ||
		gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, network, udp, gopacket.Payload(answer)) != nil {
		return nil
	}
	return buf.Bytes()
}

// answerTo answers a query; nil to what is none.
func answerTo(query []byte, address netip.Addr) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	switch {
	case strings.Count(q.Name.String(), ".") < 2:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: address.As4()}}}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// address is what a program on this host that asks for a name is told; "" when there is none.
func address(name string) string {
	out, err := exec.Command("getent", "ahostsv4", name).Output()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out), " ")
	return first
}

// wantAddresses compares what a program is told for names.
func wantAddresses(t *testing.T, when string, want map[string]string) {
	t.Helper()
	for name, a := range want {
		if got := address(name); got != a {
			t.Errorf("%s: %s is %q, want %s", when, name, got, a)
		}
	}
}
