package simnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"martlet/esp/udpencap"
	"martlet/tun"

	"github.com/google/go-cmp/cmp"
)

func listen(t *testing.T, h *Host, local netip.AddrPort, encap bool) udpencap.Socket {
	t.Helper()
	s, err := h.Listen(local, encap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestSockets sends each kind of datagram between two nodes in a bubble.
func TestSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewLive(1)
		a := n.Host("a", Link{Latency: 20 * time.Millisecond}, addrA)
		b := n.Host("b", Link{Latency: 20 * time.Millisecond}, addrB)
		client := listen(t, a, at(netip.IPv4Unspecified(), 0), true)
		server := listen(t, b, at(netip.IPv4Unspecified(), 4500), true)
		if client.LocalAddr().Port() == 0 || !client.Encap() {
			t.Fatalf("bound to %v", client.LocalAddr())
		}
		begin := time.Now()
		want := []udpencap.Packet{
			{Kind: udpencap.IKE, Data: []byte("ike")},
			{Kind: udpencap.ESP, Data: []byte("1234esp")},
			{Kind: udpencap.Keepalive, Data: []byte{0xff}},
		}
		for i := range want {
			want[i].Local, want[i].Remote = at(addrA, client.LocalAddr().Port()), at(addrB, 4500)
		}
		if sent, err := client.Write(want); sent != len(want) || err != nil {
			t.Fatalf("wrote %d, %v", sent, err)
		}
		var got []udpencap.Packet
		for len(got) < len(want) {
			buf := make([]udpencap.Packet, server.Readers()[0].Batch())
			m, err := server.Readers()[0].Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:m]...)
		}
		for i := range want {
			want[i].Local, want[i].Remote = want[i].Remote, want[i].Local
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(begin); took != 40*time.Millisecond {
			t.Errorf("took %v, want 40ms", took)
		}
	})
}

// TestPort500 checks that a socket without encapsulation never marks or reads a marker.
func TestPort500(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewLive(1)
		a, b := n.Host("a", Link{}, addrA), n.Host("b", Link{}, addrB)
		client := listen(t, a, at(addrA, 500), false)
		server := listen(t, b, at(addrB, 500), false)
		var sent []byte
		n.Trace(func(r Record) { sent = r.Datagram.Data })
		if _, err := client.Write([]udpencap.Packet{{Kind: udpencap.IKE, Data: []byte("\x00\x00\x00\x00x"), Remote: at(addrB, 500)}}); err != nil {
			t.Fatal(err)
		}
		buf := make([]udpencap.Packet, 1)
		if _, err := server.Readers()[0].Read(buf); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if string(sent) != "\x00\x00\x00\x00x" || string(buf[0].Data) != string(sent) || buf[0].Kind != udpencap.IKE {
			t.Errorf("sent %q, read %q as kind %d", sent, buf[0].Data, buf[0].Kind)
		}
	})
}

func TestSocketErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewLive(1).Host("a", Link{}, addrA)
		s := listen(t, h, at(addrA, 4500), true)
		if _, err := h.Listen(at(addrA, 4500), true); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		got := make(chan error)
		go func() {
			_, err := s.Readers()[0].Read(make([]udpencap.Packet, 1))
			got <- err
		}()
		synctest.Wait()
		s.Close()
		if err := <-got; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read of a closed socket: %v", err)
		}
		if _, err := s.Write([]udpencap.Packet{{}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write on a closed socket: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		listen(t, h, at(addrA, 4500), true) // the port is free again
	})
}

func TestTun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewTun("tun0", 1400)
		if d.Name() != "tun0" || d.MTU() != 1400 || d.SetMTU(1300) != nil || d.MTU() != 1300 {
			t.Errorf("%s with MTU %d", d.Name(), d.MTU())
		}
		for _, p := range []string{"one", "two"} {
			if !d.Inject([]byte(p)) {
				t.Fatal("no room")
			}
		}
		frames := make([]tun.Frame, d.Batch())
		n, err := d.Read(frames)
		if n != 2 || err != nil || string(frames[1].Pieces[0]) != "two" {
			t.Fatalf("read %d, %v", n, err)
		}
		if n, err := d.Write([]tun.Frame{{Pieces: [][]byte{[]byte("th"), []byte("ree")}}}); n != 1 || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
		if got := <-d.Packets(); string(got) != "three" {
			t.Errorf("got %q", got)
		}
		for n = 0; n < tunQueue; n++ {
			d.Write([]tun.Frame{{Pieces: [][]byte{nil}}})
		}
		if n, err := d.Write([]tun.Frame{{Pieces: [][]byte{nil}}}); n != 0 || err != nil {
			t.Errorf("a full device took %d, %v", n, err)
		}
		got := make(chan error)
		go func() {
			_, err := d.Read(frames)
			got <- err
		}()
		synctest.Wait()
		d.Close()
		d.Close()
		if err := <-got; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read of a closed device: %v", err)
		}
		if _, err := d.Write(frames[:1]); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Write to a closed device: %v", err)
		}
	})
}
