package netstack

import (
	"fmt"
	"os"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"martlet/tun"
)

const (
	batch = 64
	// spare is the room behind each frame of a Read, which who seals it in place may use.
	spare = 64
)

// slab is the memory of the frames that one Read lends: those of a few super-packets, so
// that they are still in the processor's cache when they are sealed. It is given back
// when there is nothing to read: a stack at rest keeps none.
type slab [128 << 10]byte

// Takes is true of single packets and of runs of TCP. Datagrams are not taken joined:
// the stack knows no such packets.
func (s *Stack) Takes(kind tun.GSO) bool {
	return kind == tun.GSONone || kind == tun.GSOTCPv4 || kind == tun.GSOTCPv6
}

// Batch is the number of frames that one Read returns at most.
func (s *Stack) Batch() int { return batch }

// Read waits for packets that leave the stack. Runs of one TCP connection are a
// super-packet. Behind each frame are 64 octets of capacity, which may be changed too.
func (s *Stack) Read(frames []tun.Frame) (int, error) { return s.read(frames, true) }

// TryRead takes packets that leave the stack, if there are any.
func (s *Stack) TryRead(frames []tun.Frame) (int, error) { return s.read(frames, false) }

func (s *Stack) read(frames []tun.Frame, wait bool) (int, error) {
	packets := s.leaving[:min(len(frames), batch)]
	if len(packets) == 0 {
		return 0, nil
	}
	n := s.link.queue.take(packets, len(slab{}), spare, false)
	if n == 0 {
		if s.lent != nil {
			s.slabs.Put(s.lent)
			s.lent = nil
		}
		if !wait {
			return 0, nil
		}
		if n = s.link.queue.take(packets, len(slab{}), spare, true); n == 0 {
			return 0, fmt.Errorf("netstack: read: %w", os.ErrClosed)
		}
	}
	if s.lent == nil {
		s.lent = s.slabs.Get().(*slab)
	}
	free := s.lent[:]
	for i, pkt := range packets[:n] {
		length := flatten(free, pkt)
		s.closedWindows.sent(free[:length])
		frames[i] = tun.Frame{Offload: offloadOf(pkt), Pieces: append(frames[i].Pieces[:0], free[:length:length+spare])}
		free = free[length+spare:]
		pkt.DecRef()
		packets[i] = nil
	}
	return n, nil
}

// flatten copies a packet, whose memory the stack keeps for retransmissions, to the
// start of b.
func flatten(b []byte, pkt *stack.PacketBuffer) (n int) {
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		piece := v.AsSlice()
		if skip >= len(piece) {
			skip -= len(piece)
			continue
		}
		n += copy(b[n:], piece[skip:])
		skip = 0
	}
	return n
}

// offloadOf says what the stack left to us. What it wrote as the checksum is the sum of
// the pseudo header, not inverted, as virtio wants it.
func offloadOf(pkt *stack.PacketBuffer) (o tun.Offload) {
	gso := &pkt.GSOOptions
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		return o
	}
	o.Partial = true
	o.Start, o.Offset = len(pkt.NetworkHeader().Slice()), int(gso.CsumOffset)
	if pkt.Data().Size() <= int(gso.MSS) {
		return o
	}
	o.GSO = tun.GSOTCPv4
	if gso.Type == stack.GSOTCPv6 {
		o.GSO = tun.GSOTCPv6
	}
	o.Header = o.Start + len(pkt.TransportHeader().Slice())
	o.Segment = int(gso.MSS)
	return o
}

// Write hands packets to the stack, a super-packet as one segment; single packets of one
// TCP flow in the same call are joined first, without which they cost twice as much. It
// drops those whose checksums are wrong. Of a partial one the transport checksum counts as
// verified.
func (s *Stack) Write(frames []tun.Frame) (int, error) {
	if s.closed.Load() {
		return 0, fmt.Errorf("netstack: write: %w", os.ErrClosed)
	}
	taken := 0
	for _, f := range frames {
		if s.enter(f) {
			taken++
		}
	}
	s.gro.Flush()
	return taken, nil
}

func (s *Stack) enter(f tun.Frame) bool {
	size := 0
	for _, piece := range f.Pieces {
		size += len(piece)
	}
	if size == 0 || size > tun.MaxMTU || !s.Takes(f.Offload.GSO) {
		return false
	}
	view := buffer.NewView(size)
	for _, piece := range f.Pieces {
		view.Write(piece)
	}
	b := view.AsSlice()
	if v := b[0] >> 4; v != 4 && v != 6 || !intact(b, f.Offload) {
		view.Release()
		return false
	}
	protocol, length := header.IPv4ProtocolNumber, 0
	if b[0]>>4 == 4 {
		length = int(header.IPv4(b).TotalLength())
	} else {
		protocol, length = header.IPv6ProtocolNumber, header.IPv6MinimumSize+int(header.IPv6(b).PayloadLength())
	}
	if ack := s.closedWindows.acknowledgement(b[:min(length, size)]); ack != nil {
		s.gro.Flush()
		s.link.DeliverNetworkPacket(protocol, ack)
		ack.DecRef()
	}
	if length < size {
		view.CapLength(length) // the coalescer would take the rest for payload
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: split(view)})
	pkt.NetworkProtocolNumber = protocol
	pkt.RXChecksumValidated = true
	s.gro.Enqueue(pkt)
	pkt.DecRef()
	return true
}

// split puts the start of a long packet, with its headers, into memory of its own. The
// stack copies the memory that headers lie in once more, however much is behind them.
func split(view *buffer.View) buffer.Buffer {
	const (
		start = 128 // a size of memory that the stack keeps
		long  = 4096
	)
	if view.Size() < long {
		return buffer.MakeWithView(view)
	}
	headers := buffer.NewViewWithData(view.AsSlice()[:start])
	view.TrimFront(start)
	b := buffer.MakeWithView(headers)
	b.Append(view)
	return b
}
