package simnet

import (
	"net/netip"
	"testing"
	"time"
)

// natWorld is a host behind a NAT and two outside, each with what came to it.
type natWorld struct {
	net           *Net
	nat           *NAT
	in, out, also *Host
	froms         map[string][]netip.AddrPort
}

var (
	external = netip.MustParseAddr("203.0.113.1")
	private  = netip.MustParseAddr("192.168.1.10")
	third    = netip.MustParseAddr("198.51.100.2")
)

func newNATWorld(c NATConfig) *natWorld {
	n := New(7, start)
	w := &natWorld{net: n, nat: n.NAT(external, c), froms: map[string][]netip.AddrPort{}}
	w.in = n.Host("in", Link{}, private).Behind(w.nat)
	w.out = n.Host("out", Link{}, addrB)
	w.also = n.Host("also", Link{}, third)
	for _, h := range []*Host{w.in, w.out, w.also} {
		h.OnReceive(func(d Datagram) { w.froms[h.Name] = append(w.froms[h.Name], d.From) })
	}
	return w
}

// send sends and returns the source that the receiver saw, or the zero value where
// nothing came.
func (w *natWorld) send(from *Host, fromPort uint16, to netip.AddrPort, at *Host) netip.AddrPort {
	before := len(w.froms[at.Name])
	from.Send(Datagram{From: netip.AddrPortFrom(netip.Addr{}, fromPort), To: to, Data: []byte("x")})
	for w.net.Step() {
	}
	if got := w.froms[at.Name]; len(got) > before {
		return got[before]
	}
	return netip.AddrPort{}
}

func TestNATMapping(t *testing.T) {
	tests := []struct {
		kind                 Behaviour
		otherPort, otherHost bool // whether these get the same external port
	}{
		{EndpointIndependent, true, true},
		{AddressDependent, true, false},
		{AddressAndPortDependent, false, false},
	}
	for _, tt := range tests {
		w := newNATWorld(NATConfig{Mapping: tt.kind})
		first := w.send(w.in, 4500, at(addrB, 4500), w.out)
		if first.Addr() != external || first.Port() == 4500 {
			t.Fatalf("kind %d: seen from %v", tt.kind, first)
		}
		if again := w.send(w.in, 4500, at(addrB, 4500), w.out); again != first {
			t.Errorf("kind %d: mapping changed from %v to %v", tt.kind, first, again)
		}
		if got := w.send(w.in, 4500, at(addrB, 500), w.out) == first; got != tt.otherPort {
			t.Errorf("kind %d: same mapping for another port: %v, want %v", tt.kind, got, tt.otherPort)
		}
		if got := w.send(w.in, 4500, at(third, 4500), w.also) == first; got != tt.otherHost {
			t.Errorf("kind %d: same mapping for another host: %v, want %v", tt.kind, got, tt.otherHost)
		}
		if w.send(w.in, 500, at(addrB, 4500), w.out) == first {
			t.Errorf("kind %d: another inside port got the same mapping", tt.kind)
		}
	}
}

func TestNATFiltering(t *testing.T) {
	tests := []struct {
		kind                         Behaviour
		answer, otherPort, otherHost bool // whether these come in
	}{
		{EndpointIndependent, true, true, true},
		{AddressDependent, true, true, false},
		{AddressAndPortDependent, true, false, false},
	}
	for _, tt := range tests {
		w := newNATWorld(NATConfig{Filtering: tt.kind})
		if w.send(w.out, 4500, at(external, 4500), w.in).IsValid() {
			t.Errorf("kind %d: came in without mapping", tt.kind)
		}
		hole := w.send(w.in, 4500, at(addrB, 4500), w.out)
		if got := w.send(w.out, 4500, hole, w.in); got.IsValid() != tt.answer || tt.answer && got != at(addrB, 4500) {
			t.Errorf("kind %d: answer came from %v", tt.kind, got)
		}
		if got := w.send(w.out, 500, hole, w.in).IsValid(); got != tt.otherPort {
			t.Errorf("kind %d: other port comes in: %v, want %v", tt.kind, got, tt.otherPort)
		}
		if got := w.send(w.also, 4500, hole, w.in).IsValid(); got != tt.otherHost {
			t.Errorf("kind %d: other host comes in: %v, want %v", tt.kind, got, tt.otherHost)
		}
	}
}

func TestNATTimeout(t *testing.T) {
	w := newNATWorld(NATConfig{Timeout: 30 * time.Second})
	hole := w.send(w.in, 4500, at(addrB, 4500), w.out)
	for range 3 {
		w.net.RunUntil(w.net.Now().Add(29 * time.Second))
		if got := w.send(w.in, 4500, at(addrB, 4500), w.out); got != hole {
			t.Fatalf("mapping in use went from %v to %v", hole, got)
		}
	}
	// What comes from outside does not keep it.
	w.net.RunUntil(w.net.Now().Add(20 * time.Second))
	if !w.send(w.out, 4500, hole, w.in).IsValid() || w.nat.Mappings() != 1 {
		t.Fatal("mapping went too early")
	}
	w.net.RunUntil(w.net.Now().Add(20 * time.Second))
	if w.send(w.out, 4500, hole, w.in).IsValid() || w.nat.Mappings() != 0 {
		t.Error("mapping outlived its time")
	}
	if w.send(w.in, 4500, at(addrB, 4500), w.out) == hole {
		t.Error("an expired mapping came back")
	}
}

func TestNATRebind(t *testing.T) {
	w := newNATWorld(NATConfig{})
	hole := w.send(w.in, 4500, at(addrB, 4500), w.out)
	w.nat.Rebind()
	if w.send(w.out, 4500, hole, w.in).IsValid() {
		t.Error("the old mapping still works")
	}
	if got := w.send(w.in, 4500, at(addrB, 4500), w.out); got == hole || got.Addr() != external {
		t.Errorf("after rebinding seen from %v, before from %v", got, hole)
	}
}

// TestNATInside: hosts of one private network talk without translation, and over the NAT's
// public address with it.
func TestNATInside(t *testing.T) {
	w := newNATWorld(NATConfig{})
	other := netip.MustParseAddr("192.168.1.11")
	next := w.net.Host("next", Link{}, other).Behind(w.nat)
	next.OnReceive(func(d Datagram) { w.froms["next"] = append(w.froms["next"], d.From) })
	if got := w.send(w.in, 1, at(other, 2), next); got != at(private, 1) {
		t.Errorf("neighbour sees %v", got)
	}
	hole := w.send(next, 4500, at(addrB, 4500), w.out)
	if got := w.send(w.in, 1, hole, next); got.Addr() != external {
		t.Errorf("hairpin comes from %v", got)
	}
}
