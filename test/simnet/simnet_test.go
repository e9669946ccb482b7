package simnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	addrA = netip.MustParseAddr("192.0.2.1")
	addrB = netip.MustParseAddr("198.51.100.1")
	six   = netip.MustParseAddr("2001:db8::1")
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// collect notes what a host receives, as "from text".
func collect(h *Host) *[]string {
	var got []string
	h.OnReceive(func(d Datagram) { got = append(got, fmt.Sprintf("%v %s", d.From, d.Data)) })
	return &got
}

func TestDelivery(t *testing.T) {
	n := New(1, start)
	a := n.Host("a", Link{Latency: 10 * time.Millisecond}, addrA)
	b := n.Host("b", Link{Latency: 5 * time.Millisecond}, addrB)
	got := collect(b)
	var when time.Time
	n.Trace(func(r Record) {
		if r.Fate == Delivered {
			when = r.At
		}
	})
	data := []byte("one")
	a.Send(Datagram{From: at(netip.IPv4Unspecified(), 500), To: at(addrB, 500), Data: data})
	data[0] = 'X' // the network keeps a copy
	n.RunUntil(start.Add(time.Second))
	if diff := cmp.Diff([]string{"192.0.2.1:500 one"}, *got); diff != "" {
		t.Error(diff)
	}
	if want := start.Add(15 * time.Millisecond); !when.Equal(want) {
		t.Errorf("delivered at %v, want %v", when, want)
	}
	if want := start.Add(time.Second); !n.Now().Equal(want) {
		t.Errorf("time is %v, want %v", n.Now(), want)
	}
}

func TestFates(t *testing.T) {
	tests := []struct {
		name string
		link Link
		to   netip.AddrPort
		size int
		want Fate
	}{
		{"delivered", Link{}, at(addrB, 1), 10, Delivered},
		{"lost", Link{Loss: 1}, at(addrB, 1), 10, Lost},
		{"dark", Link{Down: true}, at(addrB, 1), 10, Dark},
		{"fits", Link{MTU: 1280}, at(addrB, 1), 1252, Delivered},
		{"too big", Link{MTU: 1280}, at(addrB, 1), 1253, TooBig},
		{"nobody", Link{}, at(netip.MustParseAddr("203.0.113.9"), 1), 10, NoRoute},
		{"other family", Link{}, at(six, 1), 10, NoRoute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := New(1, start)
			a := n.Host("a", tt.link, addrA)
			collect(n.Host("b", Link{}, addrB))
			var last Fate
			n.Trace(func(r Record) { last = r.Fate })
			a.Send(Datagram{From: at(addrA, 1), To: tt.to, Data: make([]byte, tt.size)})
			for n.Step() {
			}
			if last != tt.want {
				t.Errorf("fate %v, want %v", last, tt.want)
			}
		})
	}
}

func TestSocketlessHost(t *testing.T) {
	n := New(1, start)
	a := n.Host("a", Link{}, addrA)
	n.Host("b", Link{}, addrB)
	var last Record
	n.Trace(func(r Record) { last = r })
	a.Send(Datagram{To: at(addrB, 7)})
	for n.Step() {
	}
	if last.Fate != NoSocket || last.Host != "b" {
		t.Errorf("%v at %s, want no socket at b", last.Fate, last.Host)
	}
}

// TestChance sends many datagrams over a bad link: the shares are about as asked, order
// is not kept, and the same seed gives the same run.
func TestChance(t *testing.T) {
	const sent = 4000
	run := func(seed uint64) []string {
		n := New(seed, start)
		a := n.Host("a", Link{Loss: 0.3, Dup: 0.2, Reorder: 0.5, ReorderBy: 50 * time.Millisecond}, addrA)
		got := collect(n.Host("b", Link{}, addrB))
		for i := range sent {
			n.After(time.Duration(i)*time.Millisecond, func() {
				a.Send(Datagram{To: at(addrB, 1), Data: fmt.Append(nil, i)})
			})
		}
		for n.Step() {
		}
		return *got
	}
	got := run(1)
	if want := sent * 0.7 * 1.2; float64(len(got)) < want*0.95 || float64(len(got)) > want*1.05 {
		t.Errorf("%d arrived, want about %.0f", len(got), want)
	}
	overtaken, last := 0, -1
	for _, g := range got {
		var i int
		var from string
		fmt.Sscan(g, &from, &i)
		if i < last {
			overtaken++
		}
		last = max(last, i)
	}
	if overtaken < len(got)/10 {
		t.Errorf("only %d of %d were overtaken", overtaken, len(got))
	}
	if diff := cmp.Diff(got, run(1)); diff != "" {
		t.Error("the same seed gave another run")
	}
	if cmp.Equal(got, run(2)) {
		t.Error("another seed gave the same run")
	}
}

func TestMove(t *testing.T) {
	n := New(1, start)
	a := n.Host("a", Link{}, addrA)
	b := n.Host("b", Link{Latency: time.Second}, addrB)
	got := collect(b)
	other := netip.MustParseAddr("203.0.113.7")
	a.Send(Datagram{To: at(addrB, 1), Data: []byte("late")})
	n.After(time.Millisecond, func() { b.Move(other) })
	n.After(time.Millisecond, func() { a.Send(Datagram{To: at(other, 1), Data: []byte("found")}) })
	for n.Step() {
	}
	if diff := cmp.Diff([]string{"192.0.2.1:0 found"}, *got); diff != "" {
		t.Error(diff)
	}
	if b.Addr() != other {
		t.Errorf("address %v, want %v", b.Addr(), other)
	}
}

func TestCapture(t *testing.T) {
	n := New(1, start)
	a := n.Host("a", Link{Loss: 1}, addrA, six)
	var file bytes.Buffer
	stop := n.Capture(&file)
	payload := []byte("seven l")
	a.Send(Datagram{From: at(addrA, 500), To: at(addrB, 4500), Data: payload, ECN: 1})
	n.RunUntil(start.Add(1234567 * time.Nanosecond))
	a.Send(Datagram{From: at(six, 500), To: at(netip.MustParseAddr("2001:db8::2"), 4500), Data: payload})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	a.Send(Datagram{From: at(addrA, 500), To: at(addrB, 4500), Data: payload})

	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i, first := range []gopacket.LayerType{layers.LayerTypeIPv4, layers.LayerTypeIPv6} {
		data, ci, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(data, first, gopacket.Default)
		udp, _ := p.TransportLayer().(*layers.UDP)
		if udp == nil || udp.SrcPort != 500 || udp.DstPort != 4500 || !bytes.Equal(udp.Payload, payload) {
			t.Fatalf("packet %d: %v", i, p)
		}
		want := start.Add(time.Duration(i) * 1234567 * time.Nanosecond)
		if !ci.Timestamp.Equal(want) {
			t.Errorf("packet %d: at %v, want %v", i, ci.Timestamp, want)
		}
		// A right checksum makes the sum over pseudo-header and datagram all ones.
		ip := p.NetworkLayer().NetworkFlow()
		s := sum(sum(uint32(udp.Length)+protocolUDP, ip.Src().Raw()), ip.Dst().Raw())
		if got := fold(sum(s, append(udp.Contents, udp.Payload...))); got != 0xffff {
			t.Errorf("packet %d: UDP checksum sums up to %#x", i, got)
		}
		if first == layers.LayerTypeIPv4 {
			if got := fold(sum(0, data[:20])); got != 0xffff {
				t.Errorf("IPv4 checksum sums up to %#x", got)
			}
			if data[1] != 1 || int(binary.BigEndian.Uint16(data[2:])) != len(data) {
				t.Errorf("IPv4 header %x", data[:20])
			}
		}
	}
	if _, _, err := r.ReadPacketData(); err == nil {
		t.Error("captured after stop")
	}
}
