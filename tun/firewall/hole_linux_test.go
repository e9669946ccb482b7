package firewall

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
)

func TestKernelHasTheHole(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	r := holed(time.Unix(1, 0)) // a hole that is closed has no elements
	fw := New(nil)
	for _, r := range []Rules{r, closed(), r} { // the set comes and goes with the rules
		if err := fw.Set(r); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.String(), nft(t, "list", "ruleset")); diff != "" {
			t.Errorf("nft list ruleset (-want +got):\n%s", diff)
		}
	}
	// A restarted program takes over a table with a set, and one without.
	for _, r := range []Rules{closed(), closed(), r} {
		if err := fw.Leave(); err != nil {
			t.Fatal(err)
		}
		fw = New(nil)
		if err := fw.Set(r); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.String(), nft(t, "list", "ruleset")); diff != "" {
			t.Errorf("taken over (-want +got):\n%s", diff)
		}
	}
	if err := fw.Clear(); err != nil {
		t.Fatal(err)
	}
}

func TestHolePassesWhatAPortalNeeds(t *testing.T) {
	host, peer, _ := neighbours(t)
	host.IP("addr add 10.9.0.5/32 dev lo") // the tunnel's
	fw, open, shut := New(nil), holed(time.Now().Add(MaxHole/2)), closed()
	set(t, host, fw, open)
	for _, f := range []struct{ own, to string }{{hostAddr4, peerAddr4}, {"[" + hostAddr6 + "]", "[" + peerAddr6 + "]"}} {
		own, names := host.socket(f.own+":0", 0), peer.socket(f.to+":53", 0)
		if err := send(own, "question", f.to+":53"); err != nil || next(t, names) != "question" {
			t.Fatalf("no name is asked for: %v", err)
		}
		// What nobody has asked for comes before the answer, and not in.
		if err := errors.Join(send(names, "unasked", host.socket(f.own+":0", 0).LocalAddr().String()), send(names, "answer", own.LocalAddr().String())); err != nil {
			t.Fatal(err)
		}
		if got := next(t, own); got != "answer" {
			t.Errorf("got %q", got)
		}
		for _, port := range []string{":54", ":80", ":443", ":4500"} {
			if err := send(own, "x", f.to+port); !errors.Is(err, unix.EPERM) {
				t.Errorf("UDP to %s: %v", f.to+port, err)
			}
		}
		for _, port := range []uint16{53, 80, 443} {
			if host.dials(t, peer, netip.MustParseAddr(strings.Trim(f.to, "[]")), port) {
				t.Errorf("TCP to port 22 of %s goes through the hole", f.to)
			}
		}
	}
	inner := host.socket("10.9.0.5:0", 0)
	if err := send(inner, "inner", peerAddr4+":53"); !errors.Is(err, unix.EPERM) {
		t.Errorf("the tunnel's address speaks outside: %v", err)
	}
	set(t, host, fw, shut)
	if err := send(host.socket(hostAddr4+":0", 0), "late", peerAddr4+":53"); !errors.Is(err, unix.EPERM) {
		t.Errorf("a hole that was taken back: %v", err)
	}
}

// dials tells whether a connection to the port 22 of a listening neighbour comes about before a later
// one to the port. Packets keep their order on the way.
func (p *place) dials(t *testing.T, peer *place, address netip.Addr, port uint16) (early bool) {
	t.Helper()
	for _, listening := range []uint16{22, port} {
		var l net.Listener
		peer.Do(func() (err error) {
			l, err = net.Listen("tcp", netip.AddrPortFrom(address, listening).String())
			return err
		})
		defer l.Close()
	}
	p.Do(func() error {
		domain, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: 22, Addr: address.As16()})
		if address.Is4() {
			domain, to = unix.AF_INET, &unix.SockaddrInet4{Port: 22, Addr: address.As4()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EPERM) {
			return err
		}
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(address, port).String(), patience)
		if err != nil {
			return err
		}
		_, err = unix.Getpeername(fd)
		early = err == nil
		return conn.Close()
	})
	return early
}

// holer is set in the environment of a process that opens a hole and waits to be killed.
const holer = "MARTLET_TEST_HOLE"

func TestHoleOfAKilledProcessCloses(t *testing.T) {
	if os.Getenv(holer) != "" {
		if err := New(nil).Set(holed(time.Now().Add(2 * time.Second))); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("open\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or its parent ends
		return
	}
	host, peer, _ := neighbours(t)
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), holer+"=1")
	hold, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	says, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	host.Do(child.Start)
	line, err := bufio.NewReader(says).ReadString('\n')
	if err := errors.Join(err, child.Process.Kill()); err != nil || line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_ = child.Wait() // it was killed
	names := peer.socket(peerAddr4+":53", 0)
	own := host.socket(hostAddr4+":0", 0)
	if err := send(own, "x", peerAddr4+":54"); !errors.Is(err, unix.EPERM) {
		t.Fatalf("the kill switch went with its process: %v", err)
	}
	limit := time.After(patience)
	for again := time.Tick(10 * time.Millisecond); ; {
		err := send(own, "x", peerAddr4+":53")
		if errors.Is(err, unix.EPERM) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-again:
		case <-limit:
			t.Fatal("the hole stays open")
		}
	}
	// It is the hole that closed, and another Set opens it again: by a time that is not over.
	fw := New(nil)
	set(t, host, fw, holed(time.Now().Add(MaxHole/2)))
	drained := host.socket(hostAddr4+":0", 0)
	if err := send(drained, "again", peerAddr4+":53"); err != nil {
		t.Errorf("another hole: %v", err)
	}
	for next(t, names) != "again" {
	}
}

func TestKillSwitchLeavesLocalNetworks(t *testing.T) {
	host, peer, behind := neighbours(t)
	r := closed()
	r.Local = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
	set(t, host, New(nil), r)
	for _, f := range []struct{ own, to string }{{hostAddr4, peerAddr4}, {"[" + hostAddr6 + "]", "[" + peerAddr6 + "]"}} {
		own, other := host.socket(f.own+":9", 0), peer.socket(f.to+":9", 0)
		if err := send(own, "out", f.to+":9"); err != nil || next(t, other) != "out" {
			t.Errorf("to a local network: %v", err)
		}
		if err := send(other, "in", f.own+":9"); err != nil || next(t, own) != "in" {
			t.Errorf("from a local network: %v", err)
		}
	}
	if err := send(host.socket(behindGW4+":0", 0), "x", behindAddr4+":9"); !errors.Is(err, unix.EPERM) {
		t.Errorf("to another network: %v", err)
	}
	// Who is behind this host does not get through it, not even to a local network.
	arrives := peer.socket(peerAddr4+":10", 0)
	asked := host.socket(behindGW4+":7", r.Mark)
	through := behind.socket(behindAddr4+":0", 0)
	if err := errors.Join(send(through, "forwarded", peerAddr4+":10"), send(through, "done", behindGW4+":7")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, asked); got != "done" {
		t.Errorf("the host got %q", got)
	}
	if err := send(host.socket(hostAddr4+":0", 0), "own", peerAddr4+":10"); err != nil || next(t, arrives) != "own" {
		t.Errorf("what was forwarded arrives: %v", err)
	}
}
