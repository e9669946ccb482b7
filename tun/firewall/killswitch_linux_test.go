package firewall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
)

// The addresses of a host with a kill switch, of its neighbour, and of one behind it that sends
// through it.
const (
	hostAddr4, peerAddr4   = "192.0.2.2", "192.0.2.1"
	hostAddr6, peerAddr6   = "2001:db8::2", "2001:db8::1"
	behindAddr4, behindGW4 = "10.5.0.2", "10.5.0.1"
)

// patience is far beyond what anything takes.
const patience = 30 * time.Second

// place is a host of its own.
type place struct {
	*netns.Namespace
	t *testing.T
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{netns.New(t), t}
}

// join links two places by a pair of interfaces.
func (p *place) join(own string, other *place, theirs string) {
	p.t.Helper()
	p.Cable(own, other.Namespace, theirs)
	p.IP("link set " + own + " up")
	other.IP("link set " + theirs + " up")
}

// socket opens a UDP socket on an address inside; a mark of 0 is none.
func (p *place) socket(at string, mark uint32) *net.UDPConn {
	p.t.Helper()
	var conn net.PacketConn
	p.Do(func() (err error) {
		lc := net.ListenConfig{Control: marking(mark)}
		conn, err = lc.ListenPacket(context.Background(), "udp", at)
		return err
	})
	p.t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

func marking(mark uint32) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		})
		return errors.Join(err, failed)
	}
}

// send sends a datagram and returns the error of it.
func send(from *net.UDPConn, text, to string) error {
	_, err := from.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to))
	return err
}

// next is the next datagram that a socket gets.
func next(t *testing.T, conn *net.UDPConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatalf("nothing arrives: %v", err)
	}
	return string(b[:n])
}

// neighbours are the host, its neighbour, and who sends through the host.
func neighbours(t *testing.T) (host, peer, behind *place) {
	t.Helper()
	host, peer, behind = newPlace(t), newPlace(t), newPlace(t)
	host.join("eth0", peer, "eth0")
	host.join("eth1", behind, "eth0")
	for _, a := range []struct {
		at      *place
		address string
	}{
		{host, hostAddr4 + "/24 dev eth0"},
		{host, hostAddr6 + "/64 dev eth0 nodad"},
		{host, behindGW4 + "/24 dev eth1"},
		{peer, peerAddr4 + "/24 dev eth0"},
		{peer, peerAddr6 + "/64 dev eth0 nodad"},
		{behind, behindAddr4 + "/24 dev eth0"},
	} {
		a.at.IP("addr add " + a.address)
	}
	behind.IP("route add default via " + behindGW4)
	peer.IP("route add default via " + hostAddr4)
	host.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	return host, peer, behind
}

func set(t *testing.T, p *place, fw Firewall, r Rules) {
	t.Helper()
	p.Do(func() error { return fw.Set(r) })
}

func TestKernelHasTheKillSwitch(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw := New(nil)
	if err := fw.Set(closed()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(closedTable, nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("nft list ruleset (-want +got):\n%s", diff)
	}
	// What is left lying is another's to take over, in one transaction, or to remove.
	if err := fw.Leave(); err != nil {
		t.Fatal(err)
	}
	if left := sockets(t); len(left) != 0 {
		t.Errorf("left open: %v", left)
	}
	if diff := cmp.Diff(closedTable, nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("after Leave (-want +got):\n%s", diff)
	}
	second := New(nil)
	if err := second.Set(closed()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(second.Leave(), fw.Clear()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(closedTable, nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("who left the table has removed it (-want +got):\n%s", diff)
	}
	if found, err := Recover("", nil); err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
	if got := nft(t, "list", "ruleset"); got != "" {
		t.Errorf("after Recover:\n%s", got)
	}
}

// Packets keep their order on the way: what comes before one that arrives, and was not there
// itself, was dropped.
func TestKillSwitchLetsNothingOutButWhatIsMarked(t *testing.T) {
	host, peer, behind := neighbours(t)
	r := closed()
	for _, family := range []struct{ own, to string }{{hostAddr4, peerAddr4}, {"[" + hostAddr6 + "]", "[" + peerAddr6 + "]"}} {
		arrives := peer.socket(family.to+":4500", 0)
		open, marked := host.socket(family.own+":0", 0), host.socket(family.own+":0", r.Mark)
		to := family.to + ":4500"
		if err := send(open, "before", to); err != nil || next(t, arrives) != "before" {
			t.Fatalf("the network does not work: %v", err)
		}
		fw := New(nil)
		set(t, host, fw, r)
		// The address and the port of the gateway excuse nobody, nor does an old connection.
		if err := send(open, "unmarked", to); !errors.Is(err, unix.EPERM) {
			t.Errorf("an unmarked packet to %s: %v", to, err)
		}
		if err := send(marked, "marked", to); err != nil {
			t.Errorf("a marked packet to %s: %v", to, err)
		}
		if got := next(t, arrives); got != "marked" {
			t.Errorf("%s got %q", to, got)
		}
		host.Do(fw.Clear)
		if err := send(open, "after", to); err != nil || next(t, arrives) != "after" {
			t.Errorf("after Clear: %v", err)
		}
	}

	arrives := peer.socket(peerAddr4+":9", 0)
	through, marked := behind.socket(behindAddr4+":0", 0), host.socket(hostAddr4+":0", r.Mark)
	if err := send(through, "before", peerAddr4+":9"); err != nil || next(t, arrives) != "before" {
		t.Fatalf("the host does not forward: %v", err)
	}
	fw := New(nil)
	set(t, host, fw, r)
	// What the host itself gets tells that it has dealt with what came before.
	asked := host.socket(behindGW4+":7", r.Mark)
	if err := errors.Join(send(through, "forwarded", peerAddr4+":9"), send(through, "done", behindGW4+":7")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, asked); got != "done" {
		t.Errorf("the host got %q", got)
	}
	if err := send(marked, "marked", peerAddr4+":9"); err != nil {
		t.Fatal(err)
	}
	if got := next(t, arrives); got != "marked" {
		t.Errorf("through the host went %q", got)
	}
}

func TestKillSwitchLetsNothingInButToMarkedSockets(t *testing.T) {
	host, peer, _ := neighbours(t)
	r := closed()
	set(t, host, New(nil), r)
	for _, family := range []struct{ own, peer string }{{hostAddr4, peerAddr4}, {"[" + hostAddr6 + "]", "[" + peerAddr6 + "]"}} {
		open, marked := host.socket(family.own+":80", 0), host.socket(family.own+":4500", r.Mark)
		stranger := peer.socket(family.peer+":0", 0)
		// Nothing was sent to it before: gateways move, and connection tracking forgets.
		if err := errors.Join(send(stranger, "unmarked", family.own+":80"), send(stranger, "marked", family.own+":4500")); err != nil {
			t.Fatal(err)
		}
		if got := next(t, marked); got != "marked" {
			t.Errorf("the marked socket got %q", got)
		}
		if err := open.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if n, err := open.Read(make([]byte, 64)); err == nil {
			t.Errorf("the unmarked socket got %d octets", n)
		}
		// What the way says about our own packets arrives as well: nobody listens at port 1.
		var refused *net.UDPConn
		host.Do(func() error {
			d := net.Dialer{Control: marking(r.Mark)}
			conn, err := d.DialContext(context.Background(), "udp", family.peer+":1")
			if err == nil {
				refused = conn.(*net.UDPConn)
			}
			return err
		})
		defer refused.Close()
		if err := refused.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := refused.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := refused.Read(make([]byte, 64)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("no ICMP for %s: %v", family.peer, err)
		}
	}
}

func TestKillSwitchLeavesTheHostItsAddressAndItself(t *testing.T) {
	host, peer, _ := neighbours(t)
	set(t, host, New(nil), closed())
	// DHCP both ways, and a packet of the same ports the other way round.
	client, server := host.socket(hostAddr4+":68", 0), peer.socket(peerAddr4+":67", 0)
	if err := send(client, "renew", peerAddr4+":67"); err != nil || next(t, server) != "renew" {
		t.Errorf("DHCP goes not out: %v", err)
	}
	if err := send(server, "ack", hostAddr4+":68"); err != nil || next(t, client) != "ack" {
		t.Errorf("DHCP comes not in: %v", err)
	}
	if err := send(host.socket(hostAddr4+":67", 0), "serve", peerAddr4+":68"); !errors.Is(err, unix.EPERM) {
		t.Errorf("a DHCP server speaks outside: %v", err)
	}
	a, b := host.socket("127.0.0.1:0", 0), host.socket("127.0.0.1:0", 0)
	if err := send(a, "inside", b.LocalAddr().String()); err != nil || next(t, b) != "inside" {
		t.Errorf("this host cannot talk with itself: %v", err)
	}
	own, other := host.socket(hostAddr4+":0", 0), host.socket(hostAddr4+":0", 0)
	if err := send(own, "own", other.LocalAddr().String()); err != nil || next(t, other) != "own" {
		t.Errorf("this host cannot talk with its own address: %v", err)
	}
	// Link-local addresses are the kernel's own; DHCPv6 is spoken from them.
	const local6, peer6 = "fe80::1", "fe80::2"
	host.IP("addr add " + local6 + "/64 dev eth0 nodad")
	peer.IP("addr add " + peer6 + "/64 dev eth0 nodad")
	client6, server6 := host.socket("["+local6+"%eth0]:546", 0), peer.socket("["+peer6+"%eth0]:547", 0)
	if err := sendOn(client6, "solicit", peer6, 547); err != nil || next(t, server6) != "solicit" {
		t.Errorf("DHCPv6 goes not out: %v", err)
	}
	if err := sendOn(server6, "reply", local6, 546); err != nil || next(t, client6) != "reply" {
		t.Errorf("DHCPv6 comes not in: %v", err)
	}
}

// sendOn sends to a link-local address on eth0. The zone was looked up when the socket was opened.
func sendOn(from *net.UDPConn, text, to string, port int) error {
	zone := from.LocalAddr().(*net.UDPAddr).Zone
	_, err := from.WriteToUDP([]byte(text), &net.UDPAddr{IP: net.ParseIP(to), Port: port, Zone: zone})
	return err
}

// Whatever replaces the table, a restarted program too, does so at once: a packet that is tried
// all the while never gets out.
func TestKillSwitchIsReplacedWithoutAGap(t *testing.T) {
	host, peer, _ := neighbours(t)
	arrives := peer.socket(peerAddr4+":9", 0)
	r := closed()
	fw := New(nil)
	set(t, host, fw, r)
	open := host.socket(hostAddr4+":0", 0)
	var ended atomic.Bool
	tries := make(chan int, 1)
	go func() {
		n := 0
		for ; !ended.Load(); n++ {
			_ = send(open, "leak", peerAddr4+":9") // it is the peer who tells
		}
		tries <- n
	}()
	for i := range 100 {
		changed := r
		changed.ClampMSS = 1200 + i
		if i%2 == 0 {
			host.Do(fw.Leave)
			fw = New(nil) // as a restarted program
		}
		set(t, host, fw, changed)
	}
	ended.Store(true)
	if n := <-tries; n < 100 {
		t.Errorf("only %d packets were tried: the test shows little", n)
	}
	host.Do(fw.Clear)
	if err := send(open, "after", peerAddr4+":9"); err != nil {
		t.Fatal(err)
	}
	if got := next(t, arrives); got != "after" {
		t.Errorf("%q got out", got)
	}
}

// Everything that a table can have, a closed one has beside it.
func TestKernelHasAGatewaysTableWithKillSwitch(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	r := gateway()
	r.KillSwitch = true
	if err := New(nil).Set(r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.String(), nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("nft list ruleset (-want +got):\n%s", diff)
	}
}
