package netstack

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// closedWindows are the connections whose peers the stack has told that it has no room. gVisor
// drops a segment that does not fit its window with all that is in it, where RFC 9293
// §3.10.7.4 wants the acknowledgement to be taken: two stacks that both wait for room would wait
// for ever. So what comes for such a connection is preceded by its acknowledgement alone.
type closedWindows struct {
	n  atomic.Int32 // of them, so that the others cost nothing
	mu sync.Mutex
	of map[connection]uint32 // the sequence number that the stack expects
}

// connection is a TCP connection as the stack's own packets have it.
type connection struct {
	local, remote [16]byte
	ports         uint32
}

// maxClosed bounds the table. Beyond it connections may have to wait for a time-out.
const maxClosed = 4096

// tcpOf is where the TCP header of a packet without extension headers begins; 0 for all others.
func tcpOf(b []byte) (l4 int, c connection) {
	switch {
	case len(b) >= header.IPv4MinimumSize && b[0]>>4 == 4 && b[9] == uint8(header.TCPProtocolNumber):
		l4 = int(b[0]&15) * 4
		copy(c.local[:], b[12:16])
		copy(c.remote[:], b[16:20])
	case len(b) >= header.IPv6MinimumSize && b[0]>>4 == 6 && b[6] == uint8(header.TCPProtocolNumber):
		l4 = header.IPv6MinimumSize
		copy(c.local[:], b[8:24])
		copy(c.remote[:], b[24:40])
	}
	if l4 == 0 || len(b) < l4+header.TCPMinimumSize {
		return 0, c
	}
	c.ports = binary.BigEndian.Uint32(b[l4:])
	return l4, c
}

// sent looks at what the stack sends.
func (w *closedWindows) sent(b []byte) {
	l4, c := tcpOf(b)
	if l4 == 0 {
		return
	}
	tcp := header.TCP(b[l4:])
	closed := tcp.WindowSize() == 0 && tcp.Flags()&(header.TCPFlagAck|header.TCPFlagRst|header.TCPFlagSyn) == header.TCPFlagAck
	if !closed && w.n.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if closed && (len(w.of) < maxClosed || w.of[c] != 0) {
		if w.of == nil {
			w.of = map[connection]uint32{}
		}
		w.of[c] = tcp.AckNumber()
	} else {
		delete(w.of, c)
	}
	w.n.Store(int32(len(w.of)))
}

// acknowledgement is what has to go before a packet that comes; nil is nothing.
func (w *closedWindows) acknowledgement(b []byte) *stack.PacketBuffer {
	if w.n.Load() == 0 {
		return nil
	}
	l4, c := tcpOf(b)
	if l4 == 0 {
		return nil
	}
	c.local, c.remote, c.ports = c.remote, c.local, c.ports<<16|c.ports>>16
	w.mu.Lock()
	expected, ok := w.of[c]
	w.mu.Unlock()
	end := l4 + int(header.TCP(b[l4:]).DataOffset())
	if !ok || end < l4+header.TCPMinimumSize || end > len(b) || header.TCP(b[l4:]).Flags()&header.TCPFlagAck == 0 {
		return nil
	}
	if end == len(b) && header.TCP(b[l4:]).SequenceNumber() == expected {
		return nil // which is taken as it is
	}
	ack := buffer.NewViewWithData(b[:end])
	tcp := header.TCP(ack.AsSlice()[l4:])
	tcp.SetSequenceNumber(expected)
	tcp.SetFlags(uint8(header.TCPFlagAck))
	protocol := header.IPv6ProtocolNumber
	if b[0]>>4 == 4 {
		ip := header.IPv4(ack.AsSlice())
		ip.SetTotalLength(uint16(end))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		protocol = header.IPv4ProtocolNumber
	} else {
		header.IPv6(ack.AsSlice()).SetPayloadLength(uint16(end - header.IPv6MinimumSize))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(ack)})
	pkt.NetworkProtocolNumber = protocol
	pkt.RXChecksumValidated = true
	return pkt
}
