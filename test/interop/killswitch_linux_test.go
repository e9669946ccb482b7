package interop

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A host beside the gateway, the router's address at home, what is behind the warrior, and the
// gateway's name.
const (
	elsewhere, homeRouter     = "203.0.113.90", "192.0.2.1"
	homeAddr6, homeRouter6    = "2001:db8::10", "2001:db8::1"
	behindAddr, behindGateway = "10.5.0.2", "10.5.0.1"
	gatewayName               = "gate.test"
)

// canaryText is in each packet of canaries that has room for it.
const canaryText = "KILLSWITCHCANARY"

// canaries are packets that a host sends all the while and of which none may be seen.
type canaries struct {
	rounds atomic.Int64
	stop   chan struct{}
	ended  chan struct{}
}

// canaryTargets are where plain datagrams go: past the tunnel, to the gateway itself and to the
// ports of IKE there, to the router's DNS, to neighbours, and inside.
func canaryTargets() []string {
	out := []string{inB4 + ":9", "255.255.255.255:9", "224.0.0.251:5353", "[ff02::fb%eth1]:5353"}
	for _, host := range []string{elsewhere, officeAddr, homeRouter, "[" + homeRouter6 + "]", "[2001:db8:5::5]"} {
		for _, port := range []string{"53", "67", "443", "500", "4500"} {
			out = append(out, host+":"+port)
		}
	}
	return out
}

// sing sends canaries from a namespace until silence.
func sing(ns *namespace, targets []string) *canaries {
	ns.t.Helper()
	c := &canaries{stop: make(chan struct{}), ended: make(chan struct{})}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with what it entered
		err := enter(ns.name)
		ready <- err
		if err != nil {
			return
		}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				close(c.ended)
				return
			case <-tick.C:
			}
			for _, to := range targets {
				canary(to)
			}
			c.rounds.Add(1)
		}
	}()
	if err := <-ready; err != nil {
		ns.t.Fatal(err)
	}
	return c
}

// canary sends one by UDP, one by TCP and one by ICMP, where somebody could take it, and what looks
// like the first packet of QUIC to its port. That all fail is what they are for.
func canary(to string) {
	at, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return // the interface is gone for a moment
	}
	if conn, err := net.DialUDP("udp", nil, at); err == nil {
		_, _ = conn.Write([]byte(canaryText))
		if at.Port == 443 {
			_, _ = conn.Write(append([]byte{0xc3, 0, 0, 0, 1, 8}, canaryText...)) // RFC 9000 §17.2.2
		}
		_ = conn.Close()
	}
	family, addr := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: at.Port, Addr: [16]byte(at.IP.To16())})
	echo, protocol := byte(128), syscall.IPPROTO_ICMPV6
	if four := at.IP.To4(); four != nil {
		family, addr = syscall.AF_INET, &syscall.SockaddrInet4{Port: at.Port, Addr: [4]byte(four)}
		echo, protocol = 8, syscall.IPPROTO_ICMP
	}
	if at.Zone != "" || at.IP.IsMulticast() {
		return
	}
	const flags = syscall.SOCK_NONBLOCK | syscall.SOCK_CLOEXEC
	if fd, err := syscall.Socket(family, syscall.SOCK_STREAM|flags, 0); err == nil {
		_ = syscall.Connect(fd, addr)
		_ = syscall.Close(fd)
	}
	if at.Port != 53 {
		return // one for each host
	}
	if fd, err := syscall.Socket(family, syscall.SOCK_RAW|flags, protocol); err == nil {
		// Its checksum is wrong, for which nobody on the way cares.
		_ = syscall.Sendto(fd, append([]byte{echo, 0, 0, 0, 0, 1, 0, 1}, canaryText...), 0, addr)
		_ = syscall.Close(fd)
	}
}

// heard waits until so many rounds more were sent.
func (c *canaries) heard(t *testing.T, what string) {
	t.Helper()
	const rounds = 50
	from := c.rounds.Load()
	until(t, "canaries sing "+what, func() bool { return c.rounds.Load() >= from+rounds })
}

// silence returns when the last was sent.
func (c *canaries) silence() {
	close(c.stop)
	<-c.ended
}

// closedHost is a road warrior with a kill switch, with somebody behind it, and with a resolver at
// the router that knows the gateway's name.
type closedHost struct {
	*roads
	behind *namespace
	names  *nameServer
	node   *node
	mac    string
}

func newClosedHost(t *testing.T) *closedHost {
	t.Helper()
	h := &closedHost{roads: newRoads(t), behind: newNamespace(t, "b")}
	h.enter(homeAddr)
	join(h.warrior, "eth9 "+behindGateway+"/24", h.behind, "eth0 "+behindAddr+"/24")
	h.behind.ip("route add default via " + behindGateway)
	h.warrior.forward()
	h.warrior.ip("addr add " + homeAddr6 + "/64 dev eth1 nodad")
	h.router.ip("addr add " + homeRouter6 + "/64 dev road1 nodad")
	h.warrior.ip("route add default via " + homeRouter6)
	h.gateway.ip("addr add " + elsewhere + "/24 dev eth0")
	h.router.ip("route add 10.5.0.0/24 via " + homeAddr)
	h.mac = strings.TrimSpace(h.warrior.run("cat", "/sys/class/net/eth1/address"))

	h.warrior.resolvers("nameserver " + homeRouter + "\n")
	h.names = &nameServer{zone: map[string][]netip.Addr{gatewayName: {netip.MustParseAddr(officeAddr)}}}
	h.names.serve(h.router, "0.0.0.0")
	h.node = h.closedNode(secret)
	return h
}

func (h *closedHost) closedNode(secret string) *node {
	return h.officeNode("kill_switch = true\n", gatewayName, "liveness = \"2s\"", secret, "0.0.0.0/0")
}

// watch is a tap on the warrior's link for all that it sends and that is not martlet's own, or
// what a link needs.
func (h *closedHost) watch() *wiretap {
	// For a name that begins with "gate", as the gateway's does (RFC 1035 §4.1).
	question := "(udp port 53 and dst host " + homeRouter + " and udp[20:4] = 0x04676174)"
	own := fmt.Sprintf("((%s or %s) and not (udp[8:4] = 0x%x))", outside, question, canaryText[:4])
	return tap(h.router, "road1", fmt.Sprintf("(not ether src %s) or %s", h.mac, own))
}

// closed fails the test if something of the warrior gets an answer from outside.
func (h *closedHost) closed() {
	h.warrior.t.Helper()
	h.warrior.silent(homeAddr, homeRouter)
	if out, err := h.warrior.try("ping", "-n", "-c", "1", "-W", "1", homeRouter6); err == nil {
		h.warrior.t.Errorf("the router is reached by IPv6:\n%s", out)
	}
	// Nor does who sits on the link reach the warrior.
	h.router.silent(homeRouter, homeAddr)
	if out, err := h.warrior.try("ping", "-n", "-c", "1", "-W", "5", "-I", "lo", "127.0.0.1"); err != nil {
		h.warrior.t.Errorf("the host does not reach itself: %s", out)
	}
}

// open fails the test if not all is as it was without a kill switch.
func (h *closedHost) open() {
	h.warrior.t.Helper()
	h.node.undone()
	h.warrior.ping(homeAddr, elsewhere)
	h.warrior.ping(homeAddr6, homeRouter6)
	h.router.ping(homeRouter, homeAddr)
	h.behind.ping(behindAddr, elsewhere)
}

func (h *closedHost) isClosed() bool {
	out, err := h.warrior.try("nft", "list", "table", "inet", "martlet-martlet0")
	return err == nil && strings.Contains(out, "hook output")
}

// TestKillSwitch: nothing of a host leaves it in the open, from before the first message of IKE to
// the end that was asked for, whoever is killed meanwhile.
func TestKillSwitch(t *testing.T) {
	start(t)
	h := newClosedHost(t)
	h.warrior.ping(homeAddr, elsewhere)
	seen := h.watch()
	sing(h.warrior, canaryTargets()[:1]).silence() // the kernel has no way there, or one in the open
	h.warrior.ping(homeAddr, homeRouter)
	if len(seen.seen()) == 0 {
		t.Fatal("the tap does not see what is open")
	}

	g := h.gatewayNode("", "0.0.0.0/0")
	g.serve()
	// One that fails leaves the host closed.
	wrong := h.closedNode("another secret of sixteen and more")
	wrong.up("office")
	if status := wrong.proc.wait(); status != 4 {
		t.Fatalf("with a wrong secret it ended with %d", status)
	}
	if !h.isClosed() || !strings.Contains(wrong.proc.out.String(), "the kill switch stays in force") {
		t.Fatalf("the host is open after a failure, or nobody is told:\n%s", tail(wrong.proc.out.String(), 10))
	}

	leaks := h.watch()
	own, forwarded := sing(h.warrior, canaryTargets()), sing(h.behind, []string{elsewhere + ":9", homeRouter + ":53", officeAddr + ":4500"})
	sung := func(when string) {
		t.Helper()
		own.heard(t, when)
		forwarded.heard(t, when)
	}
	sung("after a failure")
	h.closed()

	m := h.closedNode(secret)
	h.node = m
	m.up("office")
	v4, _ := virtual(m.awaitUp(1))
	h.warrior.ping(v4, inB4)
	sung("beside the tunnel")
	// TunnelVision, and a local network that claims another's addresses.
	h.warrior.ip("route add " + elsewhere + "/32 via " + homeRouter)
	h.warrior.ip("addr add 203.0.113.77/27 dev eth1")
	sung("beside routes of others")
	h.closed()

	g.proc.stop(syscall.SIGKILL)
	sung("when the gateway is dead")
	m.proc.says("office is down")
	sung("when that is known")
	h.closed()
	g.serve()
	until(t, "the tunnel is up again", func() bool {
		s := m.status()
		return s != nil && len(s.SAs) == 1 && len(s.SAs[0].Children) == 1
	})
	v4, _ = virtual(m.status())
	h.warrior.ping(v4, inB4)
	sung("beside the second tunnel")

	m.proc.stop(syscall.SIGKILL)
	sung("when martlet is dead")
	h.closed()
	m.up("office")
	v4, _ = virtual(m.awaitUp(1))
	h.warrior.ping(v4, inB4)
	sung("beside the third tunnel")

	own.silence()
	forwarded.silence()
	leaks.clean(t)
	h.warrior.ip("addr del 203.0.113.77/27 dev eth1")
	m.end()
	h.open()

	// And the way out after a crash.
	m.up("office")
	m.awaitUp(1)
	m.proc.stop(syscall.SIGKILL)
	if !h.isClosed() {
		t.Error("the host is open after a kill")
	}
	if out, err := m.martlet("down", "-c", m.config); err != nil || !strings.Contains(out, "kill switch") {
		t.Errorf("martlet down after a kill: %v\n%s", err, out)
	}
	h.open()
	if out, err := m.martlet("down", "-c", m.config); err == nil {
		t.Errorf("martlet down with nobody there and nothing left says %q", out)
	}
	g.end()
}

// TestKillSwitchWithStrongSwan: the same with strongSwan as the gateway, which is killed, and with
// the tunnel for a network alone: the rest is closed all the same.
func TestKillSwitchWithStrongSwan(t *testing.T) {
	start(t)
	h := newClosedHost(t)
	g := h.swanGateway("")
	m := h.officeNode("kill_switch = true\n", gatewayName, "", secret, netB4)
	h.node = m
	// Before there is a tunnel the table stands; whoever is quicker than that is no canary.
	leaks := h.watch()
	m.up("office")
	until(t, "the host is closed", h.isClosed)
	own := sing(h.warrior, canaryTargets())
	v4, _ := virtual(m.awaitUp(1))
	h.warrior.ping(v4, inB4)
	own.heard(t, "beside the tunnel")
	h.closed()
	stream(t, h.warrior, v4, h.gateway, inB4)
	if out, err := m.martlet("rekey", "-c", m.config, "office"); err != nil {
		t.Errorf("rekey: %v\n%s", err, out)
	}
	h.warrior.ip("link set eth1 down")
	h.warrior.ip("link set eth1 up")
	h.warrior.ip("route replace default via " + homeRouter)
	own.heard(t, "after the link came back")
	h.warrior.ping(v4, inB4)
	g.proc.stop(syscall.SIGKILL)
	own.heard(t, "when the gateway is dead")
	m.proc.stop(syscall.SIGKILL)
	own.heard(t, "when both are")
	h.closed()
	own.silence()
	leaks.clean(t)
	h.warrior.ip("addr replace " + homeAddr6 + "/64 dev eth1 nodad") // it goes with the link
	if out, err := m.martlet("down", "-c", m.config); err != nil {
		t.Errorf("martlet down after a kill: %v\n%s", err, out)
	}
	h.open()
}
