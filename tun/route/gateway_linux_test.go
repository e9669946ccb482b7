package route

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"martlet/tun"
	"martlet/tun/firewall"
)

// A gateway under a strict reverse path check: what clients send goes on with the
// gateway's address and a port that is not ours, answers come back to them,
// and they reach neither each other nor the gateway's own ports.
func TestGateway(t *testing.T) {
	host, peer := network(t)
	for _, name := range []string{"all", "default", "eth0"} {
		host.Do(func() error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("1"), 0)
		})
	}
	device := host.open()
	router, fw := New(t.TempDir(), nil), firewall.New(nil)
	rules := firewall.Rules{
		Device: "martlet0", Mark: DefaultMark, RestoreMark: true, Ports: []uint16{500, 4500},
		OuterAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")},
		IsolateClients: true, Masquerade: gateway().Routes, ClampMSS: 1400,
	}
	host.Do(func() error { return errors.Join(router.Set(gateway()), fw.Set(rules)) })

	server := peer.socket("198.51.100.1:4500", 0)
	own := host.socket("[::]:4500", DefaultMark)
	other := host.socket("[::]:7777", 0)
	client, neighbour := netip.MustParseAddrPort("10.9.0.2:4500"), netip.MustParseAddrPort("10.9.0.3:4500")
	send := func(from, to netip.AddrPort, text string) {
		t.Helper()
		if n, err := device.Queues()[0].Write([]tun.Frame{{Pieces: [][]byte{udpPacket(from, to, text)}}}); n != 1 || err != nil {
			t.Fatalf("write to the device: %d, %v", n, err)
		}
	}

	// The port of the client is that of IKE on purpose: it must not become the
	// gateway's (CVE-2021-3773).
	remote := netip.MustParseAddrPort("198.51.100.1:4500")
	send(client, remote, "from a client")
	server.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	n, from, err := server.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "from a client" {
		t.Fatalf("the server got %q, %v", buf[:n], err)
	}
	if from.Addr().Unmap() != netip.MustParseAddr("192.0.2.2") || from.Port() == 4500 || from.Port() == 500 {
		t.Errorf("the server sees %s", from)
	}
	if _, err := server.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	if err := expectFromHost(device, remote.Addr(), client.Addr()); err != nil {
		t.Errorf("the answer: %v", err)
	}

	// In order on one interface: what must not come would come first.
	send(client, netip.MustParseAddrPort("10.9.0.1:4500"), "to our port")
	send(client, netip.MustParseAddrPort("192.0.2.2:7777"), "to our outer address")
	send(client, netip.MustParseAddrPort("10.9.0.1:7777"), "allowed")
	if err := expect(other, "allowed"); err != nil {
		t.Errorf("a port of the gateway that is not ours: %v", err)
	}
	own.SetReadDeadline(time.Now())
	if n, err := own.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("our own port got %q, %v", buf[:n], err)
	}

	send(client, neighbour, "to a neighbour")
	if _, err := server.WriteToUDPAddrPort([]byte("second answer"), from); err != nil {
		t.Fatal(err)
	}
	frames := make([]tun.Frame, device.Queues()[0].Batch())
	for seen := false; !seen; {
		n, err := device.Queues()[0].Read(frames)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames[:n] {
			if bytes.Contains(f.Pieces[0], []byte("to a neighbour")) {
				t.Error("a client reaches its neighbour")
			}
			seen = seen || bytes.Contains(f.Pieces[0], []byte("second answer"))
		}
	}
	host.Do(func() error { return errors.Join(fw.Clear(), router.Close()) })
}

// A connection that chance would give one of our ports is not forwarded: here all
// those that a client's low port can be replaced by are ours.
func TestGatewayPortsAreNotGiven(t *testing.T) {
	host, peer := network(t)
	device := host.open()
	router, fw := New(t.TempDir(), nil), firewall.New(nil)
	rules := firewall.Rules{Device: "martlet0", Masquerade: gateway().Routes}
	for port := range uint16(512) {
		rules.Ports = append(rules.Ports, port)
	}
	host.Do(func() error { return errors.Join(router.Set(gateway()), fw.Set(rules)) })
	server := peer.socket("198.51.100.1:53", 0)
	for _, from := range []struct{ address, text string }{{"10.9.0.2:300", "from a low port"}, {"10.9.0.2:5300", "from a high port"}} {
		for range 5 {
			p := udpPacket(netip.MustParseAddrPort(from.address), netip.MustParseAddrPort("198.51.100.1:53"), from.text)
			if n, err := device.Queues()[0].Write([]tun.Frame{{Pieces: [][]byte{p}}}); n != 1 || err != nil {
				t.Fatalf("write to the device: %d, %v", n, err)
			}
		}
	}
	for range 5 {
		if err := expect(server, "from a high port"); err != nil {
			t.Error(err)
		}
	}
	host.Do(func() error { return errors.Join(fw.Clear(), router.Close()) })
}
