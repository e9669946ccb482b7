package interop

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"martlet/tun/netstack"
)

func (u *userspace) comeIn(t *testing.T) {
	u.a.connect(t, userA)
	u.b.connect(t, userB)
	if u.a.v4 == u.b.v4 || u.a.v6 == u.b.v6 {
		t.Errorf("both clients have %s and %s", u.a.v4, u.a.v6)
	}
	if sas := u.a.swan.sas(); !strings.Contains(sas, podAddr+"[4500]") {
		t.Errorf("strongSwan is not with port 4500:\n%s", sas)
	}
	s := u.status(t)
	if len(s.SAs) != 2 || !s.InProcess {
		t.Errorf("%d SAs, in process %v, want 2", len(s.SAs), s.InProcess)
	}
	for _, at := range s.Listening {
		if at.Port() < 1024 {
			t.Errorf("it listens on %v", at)
		}
	}
	if log := u.a.swan.log(); !strings.Contains(log, "to "+podAddr+"[500]") {
		t.Error("strongSwan did not begin at port 500")
	}
}

// reaches fetches a page, which is for an address of the pod.
func (u *userspace) reaches(t *testing.T, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		pod := podAddr + ":"
		if strings.Contains(addr, ":") {
			pod = "[" + podAddr6 + "]:"
		}
		u.a.ns.page(t, pod, curl("http://"+net.JoinHostPort(addr, "80")+"/")...)
	}
}

func (u *userspace) tcp(t *testing.T) {
	u.reaches(t, publicAddr4, publicAddr6)
	file := u.a.ns.write("big", strings.Repeat("\x00", whole))
	for _, addr := range []string{publicAddr4, publicAddr6} {
		url := "http://" + net.JoinHostPort(addr, "80") + "/big"
		if out, err := u.a.ns.try(curl("-o", "/dev/null", "-w", "%{size_download}", url)...); err != nil || out != fmt.Sprint(whole) {
			t.Errorf("download from %s: %v %s", addr, err, out)
		}
		if out, err := u.a.ns.try(curl("-T", file, url)...); err != nil || out != fmt.Sprintf("%d <nil>\n", whole) {
			t.Errorf("upload to %s: %v %s", addr, err, out)
		}
	}
	// A port that is closed out there is closed for the client, at once.
	if out, err := u.a.ns.try(curl("http://" + publicAddr4 + ":81/")...); err == nil || !strings.Contains(out, "curl: (7)") {
		t.Errorf("a closed port: %v\n%s", err, out)
	}
}

func (u *userspace) udp(t *testing.T) {
	ns := u.a.ns.as(t)
	for _, addr := range []string{publicAddr4, publicAddr6} {
		ns.echoes(net.JoinHostPort(addr, "7"))
	}
	u.digs(t, publicAddr4)
}

// digs asks a server for an address of each family, by UDP and TCP.
func (u *userspace) digs(t *testing.T, server string) {
	t.Helper()
	for _, more := range []string{"+notcp", "+tcp"} {
		for kind, want := range map[string]string{"A": publicAddr4, "AAAA": publicAddr6} {
			out, err := u.a.ns.try("dig", "@"+server, "+short", "+tries=3", "+time=10", more, worldName, kind)
			if err != nil || strings.TrimSpace(out) != want {
				t.Errorf("%s says that %s of %s is %q, want %s: %v", server, kind, worldName, out, want, err)
			}
		}
	}
}

// resolver: one leads into a private network and one to the pod's loopback, for who mapped them meant it.
func (u *userspace) resolver(t *testing.T) {
	u.digs(t, poolGateway4)
	u.digs(t, poolGateway6)
	// The rest of these addresses leads nowhere.
	if out, err := u.a.ns.try(curl("http://" + poolGateway4 + ":9000/")...); err == nil || !strings.Contains(out, "curl: (7)") {
		t.Errorf("another port of the pool's gateway: %v\n%s", err, out)
	}
}

func (u *userspace) noPing(t *testing.T) {
	if got := strings.Fields(u.pod.run("cat", "/proc/sys/net/ipv4/ping_group_range")); fmt.Sprint(got) != "[1 0]" {
		t.Fatalf("ping_group_range is %v", got)
	}
	ns := u.a.ns.as(t)
	// The gateway answers for itself.
	ns.ping(u.a.v4, poolGateway4)
	ns.ping(u.a.v6, poolGateway6)
	ns.silent(u.a.v4, publicAddr4)
	ns.silent(u.a.v6, publicAddr6)
	f := u.status(t).Forwarding
	if f.Echo.Dropped < 6 || f.Echo.Opened != 0 || !strings.Contains(f.NoEcho4, "denied") || !strings.Contains(f.NoEcho6, "denied") {
		t.Errorf("status has %+v, %q, %q, want 6 dropped because the host denies it", f.Echo, f.NoEcho4, f.NoEcho6)
	}
	if got := u.metric(t, `martlet_forward_dropped_total{transport="echo"}`); got != fmt.Sprint(f.Echo.Dropped) {
		t.Errorf("the metrics have %q echoes dropped, want %d", got, f.Echo.Dropped)
	}
	for _, family := range []string{"udp4", "udp6"} {
		if n := strings.Count(u.martlet.main.out.String(), "no "+family+" socket for ICMP echo"); n != 1 {
			t.Errorf("it says %d times that there are no echoes by %s, want once", n, family)
		}
	}
	if code, out := u.martlet.exec("/martlet", "status", "-c", gatewayFile); code != 0 || !strings.Contains(out, "no ping by IPv4: ") {
		t.Errorf("martlet status: %d\n%s", code, out)
	}
}

func (u *userspace) ping(t *testing.T) {
	u.pod.sysctl("net.ipv4.ping_group_range", fmt.Sprintf("%d %[1]d", nobody))
	ns := u.a.ns.as(t)
	ns.ping(u.a.v4, publicAddr4)
	ns.ping(u.a.v6, publicAddr6)
	if f := u.status(t).Forwarding; f.Echo.Opened < 2 || f.Echo.ToClients == 0 || f.NoEcho4 != "" || f.NoEcho6 != "" {
		t.Errorf("status has %+v, %q, %q", f.Echo, f.NoEcho4, f.NoEcho6)
	}
	before := u.refused(t, netstack.Own)
	ns.silent(u.a.v4, podAddr)
	if now := u.refused(t, netstack.Own); now <= before {
		t.Errorf("%d pings of the pod were refused", now-before)
	}
}

// refused is how often Martlet refused something for a reason.
func (u *userspace) refused(t *testing.T, why netstack.Reason) uint64 {
	t.Helper()
	return u.status(t).Forwarding.Refused[why]
}

// refuses fails the test unless the client hears at once that it may not go there, and it is counted.
func (u *userspace) refuses(t *testing.T, why netstack.Reason, at ...string) {
	t.Helper()
	for _, at := range at {
		before := u.refused(t, why)
		if out, err := u.a.ns.try(curl("http://" + at + "/")...); err == nil || !strings.Contains(out, "curl: (7)") {
			t.Errorf("%s: %v\n%s", at, err, out)
		}
		if now := u.refused(t, why); now <= before {
			t.Errorf("%s: %d are counted as %v, and were before", at, now, why)
		}
	}
}

func (u *userspace) private(t *testing.T) {
	u.refuses(t, netstack.Private, privateAddr4, "["+privateAddr6+"]", outerAddr)
	for _, addr := range []string{privateAddr4, privateAddr6} {
		before := u.refused(t, netstack.Private)
		until(t, "UDP to "+addr+" is refused", func() bool {
			u.throw(t, addr)
			return u.refused(t, netstack.Private) > before
		})
	}
	u.a.ns.as(t).silent(u.a.v4, privateAddr4)
}

func (u *userspace) allowed(t *testing.T) {
	u.reload(t, fmt.Sprintf("allow = [\"%s/32\", \"fd50::/16\", \"%s/128\"]\n", privateAddr4, podAddr6))
	u.reaches(t, privateAddr4, privateAddr6)
	ns := u.a.ns.as(t)
	ns.echoes(net.JoinHostPort(privateAddr4, "7"))
	ns.echoes(net.JoinHostPort(privateAddr6, "7"))
	ns.ping(u.a.v4, privateAddr4)
	ns.ping(u.a.v6, privateAddr6)
	u.refuses(t, netstack.Private, outerAddr, "["+outerAddr6+"]")
	u.a.ns.page(t, "["+podAddr6+"]:", curl("http://["+podAddr6+"]:9000/")...)
	u.refuses(t, netstack.Own, podAddr+":9000")
}

// listening fails the test unless a page of the pod's own is there, for those who are in the pod.
func (u *userspace) listening(t *testing.T, at string) {
	t.Helper()
	u.pod.page(t, "", curl("http://"+at+"/")...)
}

func (u *userspace) own(t *testing.T) {
	for _, at := range []string{podAddr + ":9000", "[" + podAddr6 + "]:9000"} {
		u.listening(t, at)
		u.refuses(t, netstack.Own, at)
	}
}

// loopback: a client that has no such address of its own can well send packets to it. Nobody answers them, and they
// are not forwarded.
func (u *userspace) loopback(t *testing.T) {
	u.listening(t, "127.0.0.1:9000")
	u.listening(t, "[::1]:9000")
	u.a.ns.ip("addr del 127.0.0.1/8 dev lo")
	for _, at := range []string{"127.0.0.1:9000", "127.0.0.53:53"} {
		if out, err := u.a.ns.try("curl", "-q", "-sS", "--max-time", "3", "http://"+at+"/"); err == nil || !strings.Contains(out, "curl: (28)") {
			t.Errorf("%s: %v\n%s", at, err, out)
		}
	}
	u.a.ns.ip("addr add 127.0.0.1/8 dev lo")
	// The tunnel itself takes no such packet.
	before := u.hidden.Load()
	for _, to := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		const drop = "esp-bad-inner"
		drops := u.status(t).Drops[drop]
		until(t, "a datagram to "+to+" is dropped", func() bool {
			u.throw(t, to)
			return u.status(t).Drops[drop] > drops
		})
	}
	if now := u.hidden.Load(); now != before {
		t.Errorf("%d datagrams came to the pod's loopback", now-before)
	}
	for _, at := range []string{"127.0.0.1:7", "[::1]:7"} {
		u.pod.as(t).echoes(at)
	}
	if now := u.hidden.Load(); now < before+2 {
		t.Errorf("%d datagrams were counted on the pod's loopback, want 2", now-before)
	}
}

func (u *userspace) metadata(t *testing.T) {
	u.refuses(t, netstack.Metadata, "169.254.169.254", "[fd00:ec2::254]")
	u.refuses(t, netstack.LinkLocal, "169.254.1.1")
	before := u.refused(t, netstack.LinkLocal)
	until(t, "a datagram to fe80::1 is refused", func() bool {
		u.throw(t, "fe80::1")
		return u.refused(t, netstack.LinkLocal) > before
	})
}

func (u *userspace) neighbour(t *testing.T) {
	for _, at := range []string{net.JoinHostPort(u.b.v4, "80"), net.JoinHostPort(u.b.v6, "80")} {
		u.b.ns.serveHTTP(at, u.pages())
		u.b.ns.page(t, "", curl("http://"+at+"/")...)
		u.refuses(t, netstack.Pool, at)
	}
	u.a.ns.as(t).silent(u.a.v4, u.b.v4)
}

// throw puts a UDP datagram into the client's tunnel as it is, whatever the client's kernel thinks of it.
func (u *userspace) throw(t *testing.T, to string) {
	t.Helper()
	source, dest := netip.MustParseAddr(u.a.v4), netip.MustParseAddr(to)
	if dest.Is6() {
		source = netip.MustParseAddr(u.a.v6)
	}
	udp := &layers.UDP{SrcPort: 40000, DstPort: 7}
	var ip gopacket.SerializableLayer
	protocol := uint16(unix.ETH_P_IP)
	if dest.Is4() {
		four := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: source.AsSlice(), DstIP: dest.AsSlice()}
		ip = four
		_ = udp.SetNetworkLayerForChecksum(four) // of a layer of IP there is one
	} else {
		six := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: source.AsSlice(), DstIP: dest.AsSlice()}
		ip, protocol = six, unix.ETH_P_IPV6
		_ = udp.SetNetworkLayerForChecksum(six) // likewise
	}
	packet := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(packet, options, ip, udp, gopacket.Payload("hello")); err != nil {
		t.Fatal(err)
	}
	if err := u.a.ns.inside(func() error {
		device, err := net.InterfaceByName("ipsec0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nothing is kept in it
		return unix.Sendto(fd, packet.Bytes(), 0, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: device.Index})
	}); err != nil {
		t.Fatal(err)
	}
}

func (u *userspace) shown(t *testing.T) {
	f := u.status(t).Forwarding
	if f.TCP.Opened < 6 || f.TCP.FromClients < 2*whole || f.TCP.ToClients < 2*whole || f.UDP.Opened < 4 || f.UDP.ToClients == 0 || f.TCP.Failed == 0 {
		t.Errorf("status has %+v", f)
	}
	for _, why := range []netstack.Reason{netstack.Private, netstack.Own, netstack.Metadata, netstack.LinkLocal, netstack.Pool} {
		if got := u.metric(t, fmt.Sprintf("martlet_forward_refused_total{reason=%q}", why)); got != fmt.Sprint(f.Refused[why]) {
			t.Errorf("the metrics have %q refused for %v, want %d", got, why, f.Refused[why])
		}
	}
	code, out := u.martlet.exec("/martlet", "status", "-c", gatewayFile)
	if code != 0 || !strings.Contains(out, "forwarding for peers: ") || !strings.Contains(out, fmt.Sprintf("refused, metadata: %d\n", f.Refused[netstack.Metadata])) {
		t.Errorf("martlet status: %d\n%s", code, out)
	}
}

// hold has a client wait for a page, and returns its curl when the server has the request.
func (u *userspace) hold(t *testing.T, c *client) *process {
	t.Helper()
	p := c.ns.spawn("curl", nil, curl("-N", "http://"+publicAddr4+"/hold")...)
	within(t, "the request is there", u.holds.came)
	return p
}

func (u *userspace) leaves(t *testing.T) {
	p := u.hold(t, u.b)
	if open := u.status(t).Forwarding.TCP.Open; open == 0 {
		t.Error("no connection is open")
	}
	if out, err := u.b.swan.ctl("--terminate", "--ike", "c"); err != nil {
		t.Fatalf("swanctl --terminate: %v\n%s", err, out)
	}
	within(t, "the server sees the end", u.holds.gone)
	until(t, "no connection is open", func() bool {
		f := u.status(t).Forwarding
		return f.TCP.Open == 0 && f.TCP.Waiting == 0
	})
	p.stop(syscall.SIGTERM)
	u.reaches(t, publicAddr4) // of the other client nothing has ended
}

func (u *userspace) terminate(t *testing.T) {
	u.hold(t, u.a)
	if err := u.martlet.main.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	within(t, "the server sees the end", u.holds.gone)
	if status := u.martlet.main.wait(); status != 0 {
		t.Errorf("martlet ended with %d", status)
	}
	until(t, "strongSwan has no SA left", func() bool { return strings.TrimSpace(u.a.swan.sas()) == "" })
	if log := u.a.swan.log(); !strings.Contains(log, "received DELETE for IKE_SA c[") {
		t.Error("strongSwan's log has no DELETE")
	}
	out := u.martlet.main.out.String()
	for _, bad := range []string{"panic", "goroutine "} {
		if strings.Contains(out, bad) {
			t.Errorf("martlet said %q", bad)
		}
	}
}
