package esp

import (
	"encoding/binary"
	"testing"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// groupedChild is a child of group 1, by default out of service unless it is the first.
func groupedChild(b *bench, id uint64, slot int) Child {
	c := b.child(id, "10.1.0.0/16", "10.2.0.0/16")
	c.Group, c.Slot = 1, slot
	return c
}

// flows is one packet of each of so many flows.
func flows(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = packet(addr("10.1.0.1"), addr("10.2.0.1"), protoUDP, udpHeader(uint16(4000+i), 5000, 20))
	}
	return out
}

// carriers counts packets by the child that they went out on.
func carriers(sent []udpencap.Packet) map[uint32]int {
	out := map[uint32]int{}
	for _, p := range sent {
		out[binary.BigEndian.Uint32(p.Data)-0x2000]++
	}
	return out
}

// TestGroupSpreadsFlows: over all that the peer is known to have, each flow on one.
func TestGroupSpreadsFlows(t *testing.T) {
	b := newBench(t)
	for id := range uint64(4) {
		b.install(groupedChild(b, id+1, int(id)))
	}
	if got := carriers(b.host(flows(64)...)); got[1] != 64 {
		t.Fatalf("before the peer is known to have others the first takes all: %v", got)
	}
	for id := range uint64(2) {
		if err := b.plane.Switch(id + 2); err != nil {
			t.Fatal(err)
		}
	}
	// The responder's side: the first packet shows that the peer has it.
	c := groupedChild(b, 4, 3)
	pkt, err := b.peerOf(c).Seal(nil, ip("10.2.0.1", "10.1.0.1", 20), protoIPv4)
	if err != nil {
		t.Fatal(err)
	}
	if got := carriers(b.host(flows(64)...)); len(got) != 3 || got[4] != 0 {
		t.Errorf("a child that the peer may not have carries something: %v", got)
	}
	if len(b.peer(pkt)) != 1 {
		t.Fatal("a packet on a member is not taken")
	}
	all := carriers(b.host(flows(400)...))
	for id := range uint32(4) {
		if all[id+1] < 50 {
			t.Errorf("spread over %v", all)
		}
	}
	for _, f := range flows(20) {
		if got := carriers(b.host(f, f, f, f)); len(got) != 1 {
			t.Errorf("packets of one flow went over %v", got)
		}
	}
	b.wantDrops(nil)
}

// TestGroupKeepsSlots: a successor has the flows of whom it replaces and no others.
func TestGroupKeepsSlots(t *testing.T) {
	b := newBench(t)
	for id := range uint64(3) {
		b.install(groupedChild(b, id+1, int(id)))
		if err := b.plane.Switch(id + 1); err != nil {
			t.Fatal(err)
		}
	}
	before := carriers(b.host(flows(300)...))
	b.install(groupedChild(b, 9, 1)) // in place of 2
	if got := carriers(b.host(flows(300)...)); got[9] != 0 || got[2] != before[2] {
		t.Errorf("before the switch: %v", got)
	}
	if err := b.plane.Switch(9); err != nil {
		t.Fatal(err)
	}
	after := func() {
		t.Helper()
		if got := carriers(b.host(flows(300)...)); got[9] != before[2] || got[2] != 0 || got[1] != before[1] || got[3] != before[3] {
			t.Errorf("%v, before %v", got, before)
		}
	}
	after()
	if err := b.plane.Retire(2); err != nil {
		t.Fatal(err)
	}
	after()
	if err := b.plane.Remove(2); err != nil {
		t.Fatal(err)
	}
	after()

	// One that goes leaves its flows to the others; the last leaves nothing behind.
	for _, id := range []uint64{1, 3} {
		if err := b.plane.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if got := carriers(b.host(flows(300)...)); got[9] != 300 {
		t.Errorf("the last one has %v", got)
	}
	if err := b.plane.Remove(9); err != nil {
		t.Fatal(err)
	}
	if got := b.host(flows(1)...); len(got) != 0 || len(b.plane.groups) != 0 {
		t.Errorf("%d packets and %d groups left", len(got), len(b.plane.groups))
	}
}

// TestGroupLeavesOthersAlone: children of no group, or of another, are as they were.
func TestGroupLeavesOthersAlone(t *testing.T) {
	b := newBench(t)
	b.install(groupedChild(b, 1, 0))
	b.install(groupedChild(b, 2, 1))
	web := b.child(3, "10.1.0.0/16", "10.2.0.0/16")
	web.Remote[0].Protocol = protoTCP
	b.install(web)
	other := b.child(4, "10.1.0.0/16", "10.3.0.0/16")
	other.Group = 4
	b.install(other)
	if err := b.plane.Switch(2); err != nil {
		t.Fatal(err)
	}
	tcp := packet(addr("10.1.0.1"), addr("10.2.0.1"), protoTCP, udpHeader(4000, 5000, 20))
	if got := carriers(b.host(tcp)); got[3] != 1 {
		t.Errorf("TCP went over %v", got)
	}
	if got := carriers(b.host(ip("10.1.0.1", "10.3.0.1", 20))); got[4] != 1 {
		t.Errorf("the other group: %v", got)
	}
}

func TestGroupAllocatesNothing(t *testing.T) {
	b := newBench(t)
	b.socket.wire = func(udpencap.Packet) error { return nil }
	for id := range uint64(4) {
		b.install(groupedChild(b, id+1, int(id)))
		if err := b.plane.Switch(id + 1); err != nil {
			t.Fatal(err)
		}
	}
	frames := make([]tun.Frame, 64)
	for i, pkt := range flows(64) {
		frames[i].Pieces = [][]byte{pkt}
	}
	if n := testing.AllocsPerRun(20, func() { b.out.batch(frames) }); n != 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

// TestFlowHash: fragments behind the first, and ICMP, have no ports to go by.
func TestFlowHash(t *testing.T) {
	f := flow("10.1.0.1", "10.2.0.1", protoUDP, 53)
	g := f
	g.DstPort = 54
	if f.hash() == g.hash() {
		t.Error("two ports are one flow")
	}
	f.Protocol, g.Protocol = protoICMP, protoICMP
	if f.hash() != g.hash() {
		t.Error("an echo and its answer's unreachable are two flows")
	}
}
