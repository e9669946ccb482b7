package netstack

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// bareSegment is a TCP packet over IPv4 between 10.9.0.1 and 10.9.0.2, ports 1 and 2.
func bareSegment(back bool, seq, ack uint32, window uint16, payload int) []byte {
	b := make([]byte, 40+payload)
	src, dst := tcpip.AddrFrom4([4]byte{10, 9, 0, 1}), tcpip.AddrFrom4([4]byte{10, 9, 0, 2})
	ports := [2]uint16{1, 2}
	if back {
		src, dst, ports = dst, src, [2]uint16{2, 1}
	}
	header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
	header.TCP(b[20:]).Encode(&header.TCPFields{
		SrcPort: ports[0], DstPort: ports[1], SeqNum: seq, AckNum: ack, DataOffset: 20, Flags: header.TCPFlagAck, WindowSize: window,
	})
	return b
}

// TestClosedWindow: while the stack has no room, what comes is preceded by its acknowledgement at the
// place in the sequence that the stack expects (RFC 9293 §3.10.7.4), and only then.
func TestClosedWindow(t *testing.T) {
	var w closedWindows
	if w.acknowledgement(bareSegment(true, 500, 7, 100, 10)) != nil {
		t.Error("something goes before a packet to a window that is open")
	}
	w.sent(bareSegment(false, 7, 400, 0, 0))
	for _, payload := range []int{0, 10} {
		pkt := w.acknowledgement(bareSegment(true, 500, 9, 100, payload))
		if pkt == nil {
			t.Fatalf("nothing goes before a packet with %d octets", payload)
		}
		got := pkt.ToView().AsSlice()
		tcp := header.TCP(got[20:])
		if len(got) != 40 || tcp.SequenceNumber() != 400 || tcp.AckNumber() != 9 || tcp.WindowSize() != 100 ||
			int(header.IPv4(got).TotalLength()) != 40 || !header.IPv4(got).IsChecksumValid() {
			t.Errorf("%x goes before a packet with %d octets", got, payload)
		}
		pkt.DecRef()
	}
	if w.acknowledgement(bareSegment(true, 400, 9, 100, 0)) != nil {
		t.Error("an acknowledgement in its place goes twice")
	}
	if w.acknowledgement(bareSegment(false, 500, 9, 100, 10)) != nil {
		t.Error("something goes before a packet of another connection")
	}
	w.sent(bareSegment(false, 7, 400, 1, 0))
	if w.acknowledgement(bareSegment(true, 500, 9, 100, 10)) != nil || w.n.Load() != 0 {
		t.Error("a window that was opened counts as closed")
	}
}
