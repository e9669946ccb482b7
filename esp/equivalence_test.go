package esp

import (
	"math/rand/v2"
	"slices"
	"testing"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// superDevice takes super-packets of all kinds, and keeps what the host's kernel makes of them.
type superDevice struct {
	*channelDevice
	packets [][]byte
	joined  int // packets that came in super-packets
}

func (d *superDevice) Takes(tun.GSO) bool { return true }

func (d *superDevice) Queues() []tun.Queue { return []tun.Queue{d} }

func (d *superDevice) Write(frames []tun.Frame) (int, error) {
	for _, f := range frames {
		list := expand(f)
		if d.packets = append(d.packets, list...); len(list) > 1 {
			d.joined += len(list)
		}
	}
	return len(frames), nil
}

// newFast is a bench whose device is host, with a child for random traffic.
func newFast(t testing.TB, algorithm int) (*bench, *superDevice, Child) {
	b := newBench(t)
	host := &superDevice{channelDevice: b.dev}
	b.plane.dev = host
	b.plane.queues = []*queue{{Queue: host}}
	b.out = newOutboundLoop(b.plane, b.plane.queues[0])
	b.in = newInboundLoop(b.plane, b.socket, b.socket, b.plane.queues[0])
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	a := algorithms[algorithm%len(algorithms)]
	c.In, c.Out = newKeys(t, 0x1001, a.encr, a.integ, true), newKeys(t, 0x2001, a.encr, a.integ, true)
	c.Local = append(c.Local, selector("2001:db8:1::/48"))
	c.Remote = append(c.Remote, selector("2001:db8:2::/48"))
	c.KeepMSS = true // the reference knows nothing of it
	b.install(c)
	return b, host, c
}

// mirrored is the child as the peer has it.
func mirrored(c Child) Child {
	c.In, c.Out = c.Out, c.In
	c.Local, c.Remote = c.Remote, c.Local
	return c
}

// slabs puts datagrams together as a receiver gets them: runs of one length, the last of which
// may be shorter.
func slabs(r *rand.Rand, list [][]byte) []udpencap.Packet {
	var out []udpencap.Packet
	for len(list) > 0 {
		n, most := 1, 1+r.IntN(64)
		for n < len(list) && n < most && len(list[n]) == len(list[0]) {
			n++
		}
		if n < len(list) && n < most && len(list[n]) < len(list[0]) {
			n++
		}
		p := udpencap.Packet{Kind: udpencap.ESP, Data: slices.Concat(list[:n]...)}
		if n > 1 {
			p.Segment = len(list[0])
		}
		out = append(out, p)
		list = list[n:]
	}
	return out
}

// disturbed is the order in which n datagrams arrive: some are lost, doubled, or late.
func disturbed(r *rand.Rand, n int) []int {
	var order []int
	for i := range n {
		switch r.IntN(60) {
		case 0:
			continue
		case 1:
			order = append(order, i)
		case 2:
			if at := len(order) - r.IntN(min(len(order)+1, 30)); at < len(order) {
				order = slices.Insert(order, at, i)
				continue
			}
		}
		order = append(order, i)
	}
	return order
}

func choose(list [][]byte, order []int) [][]byte {
	out := make([][]byte, len(order))
	for i, at := range order {
		out[i] = list[at]
	}
	return out
}

// TestFastPathIsTheReference: what goes through the fast path, super-packets cut and joined, and what
// goes through the plain one, a packet at a time, is the same in the end; over a network that loses,
// doubles and delays.
func TestFastPathIsTheReference(t *testing.T) {
	seeds := uint64(120)
	if testing.Short() {
		seeds = 30
	}
	joined, all := 0, 0
	for seed := range seeds {
		near, _, c := newFast(t, int(seed))
		far, host, back := newFast(t, int(seed))
		if err := far.plane.Remove(back.ID); err != nil {
			t.Fatal(err)
		}
		far.install(mirrored(c))
		seal, err := NewOutbound(c.Out)
		if err != nil {
			t.Fatal(err)
		}
		open, err := NewInbound(c.Out, 0)
		if err != nil {
			t.Fatal(err)
		}
		tr, r := newTraffic(seed, false), rand.New(rand.NewPCG(seed, 9))
		var fast, plain [][]byte
		for range 1 + r.IntN(6) {
			frames := make([]tun.Frame, 1+r.IntN(12))
			for i := range frames {
				frames[i] = tr.frame()
				for _, pkt := range referenceSegment(frames[i]) {
					sealed, err := seal.Seal(nil, pkt, protocolOf(pkt))
					if err != nil {
						t.Fatal(err)
					}
					plain = append(plain, sealed)
				}
			}
			near.sent = nil
			near.out.batch(frames)
			near.out.flush()
			for i := range near.sent {
				fast = append(fast, near.sent[i].Data)
			}
		}
		if len(fast) != len(plain) {
			t.Fatalf("seed %d: %d packets sealed, want %d", seed, len(fast), len(plain))
		}
		order := disturbed(r, len(fast))
		arrived := slabs(r, choose(fast, order))
		for len(arrived) > 0 {
			n := 1 + r.IntN(len(arrived))
			far.in.batch(arrived[:n])
			if arrived = arrived[n:]; r.IntN(2) == 0 {
				far.in.flush()
			}
		}
		far.in.flush()
		var want [][]byte
		for _, pkt := range choose(plain, order) {
			if inner, err := open.Open(slices.Clone(pkt)); err == nil {
				want = append(want, inner)
			}
		}
		samePackets(t, canonical(host.packets, true), canonical(want, true))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		joined += host.joined
		all += len(want)
	}
	if joined < all/4 {
		t.Errorf("%d of %d packets were joined: the test shows little", joined, all)
	}
}
